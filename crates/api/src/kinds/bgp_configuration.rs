use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use margay_net::{Asn, Cidr, Family};
use serde::{Deserialize, Deserializer, Serialize};

use super::bgp_session::MeshSettings;
use super::duration::{check_duration, parse_duration};
use super::{CommunityValue, Password};
use crate::{Metadata, Object, Problem, Spec};

/// The cluster's BGP settings: the object named `default`. One named `node.NODENAME` has those of a node, of which
/// `listenPort`, `logSeverityScreen`, `prefixAdvertisements` and `communities` count.
pub type BgpConfiguration = Object<BgpConfigurationSpec>;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpConfigurationSpec {
    /// `Trace`, `Debug`, `Info`, `Warning`, `Error` or `Fatal` in any case; `Info` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<String>,
    /// Whether every node peers with every other; on where absent, as in Calico.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_to_node_mesh_enabled: Option<bool>,
    /// The AS number of nodes that have none of their own; 64512 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,
    #[serde(rename = "serviceClusterIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_cluster_ips: Vec<ServiceCidr>,
    #[serde(rename = "serviceExternalIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_external_ips: Vec<ServiceCidr>,
    #[serde(rename = "serviceLoadBalancerIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_load_balancer_ips: Vec<ServiceCidr>,
    /// Whether load balancer addresses are announced as the range that holds them, or each by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_load_balancer_aggregation: Option<Toggle>,
    /// Names for communities; each must be used by `prefix_advertisements`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<NamedCommunity>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefix_advertisements: Vec<PrefixAdvertisement>,
    /// TCP port, 179 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// The TCP-MD5 key of mesh sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_password: Option<Password>,
    /// How long routes of mesh peers are kept over their restart; `120s` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_max_restart_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_mode: Option<BindMode>,
    /// Globs of interfaces whose connected prefixes are never announced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored_interfaces: Vec<String>,
    /// The node's address that local workloads peer with.
    #[serde(rename = "localWorkloadPeeringIPV4", skip_serializing_if = "String::is_empty")]
    pub local_workload_peering_ipv4: String,
    #[serde(rename = "localWorkloadPeeringIPV6", skip_serializing_if = "String::is_empty")]
    pub local_workload_peering_ipv6: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_cluster_routes: Option<ProgramClusterRoutes>,
    /// The kernel metric of a normal IPv4 route; 1024 where absent.
    #[serde(rename = "ipv4NormalRoutePriority", skip_serializing_if = "Option::is_none")]
    pub ipv4_normal_route_priority: Option<u32>,
    #[serde(rename = "ipv6NormalRoutePriority", skip_serializing_if = "Option::is_none")]
    pub ipv6_normal_route_priority: Option<u32>,

    /// Margay's own: BFD, timers and paths of mesh sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh: Option<MeshSettings>,
    /// Margay's own: how many next hops a route may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_paths: Option<MaximumPaths>,
    /// Margay's own: switches of the decision process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_path: Option<BestPathSettings>,
    /// Margay's own: whether routes inside IP pools are taken from their owners alone; on where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ownership_guard: Option<Toggle>,
    /// Margay's own: whether external peers without filters exchange nothing (RFC 8212); off where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ebgp_requires_policy: Option<Toggle>,
    /// Margay's own: how long a drained node goes on announcing with GRACEFUL_SHUTDOWN (RFC 8326) before it withdraws;
    /// `60s` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_time: Option<String>,
}

/// A switch in Calico's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Toggle {
    Enabled,
    Disabled,
}

/// A range of service addresses; one without `cidr` is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceCidr {
    #[serde(deserialize_with = "cidr_or_nothing", skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
}

fn cidr_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cidr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(serde::de::Error::custom) }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamedCommunity {
    pub name: String,
    /// `aa:nn` or `aa:nn:mm`.
    pub value: String,
}

/// Communities for what is announced of a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixAdvertisement {
    #[serde(deserialize_with = "cidr_or_nothing", skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
    /// Values, or names out of `communities`.
    pub communities: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindMode {
    /// Listen on every address.
    None,
    /// Listen on the node's BGP addresses alone.
    NodeIP,
}

/// Which routes of the cluster the BGP side programs, beside felix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramClusterRoutes {
    Enabled,
    Disabled,
    EnabledIPIPOnly,
    EnabledNoEncapOnly,
}

/// Most next hops of a route by the kind of session that its best path came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MaximumPaths {
    /// 16 where absent; 1 turns ECMP off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ebgp: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ibgp: Option<u8>,
}

/// Switches of the decision process (RFC 4271 section 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BestPathSettings {
    /// LOCAL_PREF of paths without one; 100 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_local_pref: Option<u32>,
    /// Whether MED is compared between paths of different neighbouring AS numbers, too.
    #[serde(rename = "alwaysCompareMED", skip_serializing_if = "std::ops::Not::not")]
    pub always_compare_med: bool,
    /// Whether a path without MED counts as the worst.
    #[serde(rename = "missingMEDAsWorst", skip_serializing_if = "std::ops::Not::not")]
    pub missing_med_as_worst: bool,
    #[serde(rename = "ignoreASPathLength", skip_serializing_if = "std::ops::Not::not")]
    pub ignore_as_path_length: bool,
    /// Whether router ids decide between external paths that are equal otherwise; on where absent. Off: the one that
    /// came first stays (RFC 5004).
    #[serde(rename = "compareRouterID", skip_serializing_if = "Option::is_none")]
    pub compare_router_id: Option<bool>,
}

impl BgpConfigurationSpec {
    /// The AS number that Calico gives nodes without one.
    pub const DEFAULT_AS_NUMBER: Asn = Asn(64512);
    /// The kernel metric of Calico's routes.
    pub const DEFAULT_ROUTE_PRIORITY: u32 = 1024;

    pub fn as_number(&self) -> Asn {
        self.as_number.unwrap_or(Self::DEFAULT_AS_NUMBER)
    }

    pub fn mesh_enabled(&self) -> bool {
        self.node_to_node_mesh_enabled.unwrap_or(true)
    }

    pub fn listen_port(&self) -> u16 {
        self.listen_port.unwrap_or(179)
    }

    /// The kernel metric that a normal route has.
    pub fn normal_route_priority(&self, family: Family) -> u32 {
        let priority = match family {
            Family::V4 => self.ipv4_normal_route_priority,
            Family::V6 => self.ipv6_normal_route_priority,
        };
        priority.unwrap_or(Self::DEFAULT_ROUTE_PRIORITY)
    }

    /// How long routes of mesh peers are kept over their restart, if set.
    pub fn node_mesh_max_restart_time(&self) -> Option<Duration> {
        self.node_mesh_max_restart_time.as_deref().and_then(parse_duration)
    }

    /// The address that local workloads peer with, if set.
    pub fn local_workload_peering_ip(&self, family: Family) -> Option<IpAddr> {
        let text = match family {
            Family::V4 => &self.local_workload_peering_ipv4,
            Family::V6 => &self.local_workload_peering_ipv6,
        };
        text.parse().ok().filter(|address| Family::of(*address) == family)
    }

    /// How long a drained node goes on announcing.
    pub fn drain_time(&self) -> Duration {
        self.drain_time.as_deref().and_then(parse_duration).unwrap_or(Duration::from_secs(60))
    }

    /// The value of a community that is given by value or by name; None where there is no such name.
    pub fn community(&self, value_or_name: &str) -> Option<CommunityValue> {
        let named = self.communities.iter().find(|named| named.name == value_or_name);
        named.map_or(value_or_name, |named| &named.value).parse().ok()
    }

    fn check_communities(&self, problems: &mut Vec<Problem>) {
        let mut refuse = |field: String, reason: String| problems.push(Problem::new(format!("spec.{field}"), reason));
        for (field, len) in
            [("communities", self.communities.len()), ("prefixAdvertisements", self.prefix_advertisements.len())]
        {
            if len > 500 {
                refuse(field.to_owned(), format!("has {len} entries; at most 500 are allowed"));
            }
        }
        let used: BTreeSet<&str> = self
            .prefix_advertisements
            .iter()
            .flat_map(|advertisement| advertisement.communities.iter().map(String::as_str))
            .collect();
        let mut names = BTreeSet::new();
        for (index, community) in self.communities.iter().enumerate() {
            let at = format!("communities[{index}]");
            if community.name.is_empty() {
                refuse(format!("{at}.name"), "is needed".to_owned());
            } else if community.name.parse::<CommunityValue>().is_ok() {
                refuse(format!("{at}.name"), format!("'{}' is a value, not a name", community.name));
            } else if !names.insert(&community.name) {
                refuse(format!("{at}.name"), format!("'{}' is there twice", community.name));
            } else if !used.contains(community.name.as_str()) {
                let reason = format!("'{}' is used by no prefixAdvertisements: use it, or take it out", community.name);
                refuse(format!("{at}.name"), reason);
            }
            if let Err(reason) = community.value.parse::<CommunityValue>() {
                refuse(format!("{at}.value"), reason);
            }
        }
        for (index, advertisement) in self.prefix_advertisements.iter().enumerate() {
            let at = format!("prefixAdvertisements[{index}]");
            if advertisement.cidr.is_none() {
                refuse(format!("{at}.cidr"), "is needed".to_owned());
            }
            if advertisement.communities.len() > 50 {
                let len = advertisement.communities.len();
                refuse(format!("{at}.communities"), format!("has {len} entries; at most 50 are allowed"));
            }
            for (position, community) in advertisement.communities.iter().enumerate() {
                let is_value = community.parse::<CommunityValue>();
                if let Err(reason) = is_value
                    && !names.contains(community)
                {
                    refuse(
                        format!("{at}.communities[{position}]"),
                        format!("{reason}, or a name out of spec.communities"),
                    );
                }
            }
        }
    }

    /// The fields that are set though only the object `default` may have them.
    fn cluster_only_fields(&self) -> Vec<String> {
        let node = BgpConfigurationSpec {
            listen_port: self.listen_port,
            log_severity_screen: self.log_severity_screen.clone(),
            communities: self.communities.clone(),
            prefix_advertisements: self.prefix_advertisements.clone(),
            ..BgpConfigurationSpec::default()
        };
        let keys = |spec: &BgpConfigurationSpec| -> BTreeSet<String> {
            let json = serde_json::to_value(spec).unwrap_or_default();
            json.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
        };
        keys(self).difference(&keys(&node)).cloned().collect()
    }
}

impl Spec for BgpConfigurationSpec {
    const KIND: &'static str = "BGPConfiguration";
    const PLURAL: &'static str = "bgpconfigurations";
    const NAMESPACED: bool = false;
    const OWN_FIELDS: &'static [&'static str] =
        &["nodeMesh", "maximumPaths", "bestPath", "ownershipGuard", "ebgpRequiresPolicy", "drainTime"];

    fn validate(&self, metadata: &Metadata) -> Vec<Problem> {
        let mut problems = Vec::new();
        if metadata.name != "default" && !metadata.name.starts_with("node.") {
            problems.push(Problem::new("metadata.name", "must be 'default' or 'node.NODENAME'"));
        }
        self.check_communities(&mut problems);
        problems.extend(self.node_mesh.iter().flat_map(|mesh| mesh.problems("spec.nodeMesh")));
        let mut refuse = |field: &str, reason: String| problems.push(Problem::new(format!("spec.{field}"), reason));
        if metadata.name.starts_with("node.") {
            for field in self.cluster_only_fields() {
                refuse(&field, "counts in the object named 'default' only; put it there".to_owned());
            }
        }
        if let Some(level) = &self.log_severity_screen
            && !LOG_LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level))
        {
            refuse("logSeverityScreen", format!("'{level}' is not one of {}", LOG_LEVELS.join(", ")));
        }
        if self.as_number == Some(Asn(0)) {
            refuse("asNumber", "0 is reserved (RFC 7607)".to_owned());
        }
        if self.listen_port == Some(0) {
            refuse("listenPort", "must be 1 to 65535".to_owned());
        }
        if !self.mesh_enabled() {
            for (field, is_set) in [
                ("nodeMeshPassword", self.node_mesh_password.is_some()),
                ("nodeMeshMaxRestartTime", self.node_mesh_max_restart_time.is_some()),
            ] {
                if is_set {
                    refuse(field, "cannot be set while nodeToNodeMeshEnabled is false".to_owned());
                }
            }
        }
        if let Some(reason) = self.node_mesh_password.as_ref().and_then(Password::problem) {
            refuse("nodeMeshPassword.secretKeyRef", reason);
        }
        for (field, text, most) in [
            ("nodeMeshMaxRestartTime", &self.node_mesh_max_restart_time, 4095),
            ("drainTime", &self.drain_time, 86_400),
        ] {
            if let Some(text) = text
                && let Err(reason) = check_duration(text, Duration::ZERO, Duration::from_secs(most))
            {
                refuse(field, reason);
            }
        }
        for (index, glob) in self.ignored_interfaces.iter().enumerate() {
            if !is_interface_glob(glob) {
                let reason = format!("'{glob}' is not an interface's name, in which * stands for any characters");
                refuse(&format!("ignoredInterfaces[{index}]"), reason);
            }
        }
        for (field, text, family) in [
            ("localWorkloadPeeringIPV4", &self.local_workload_peering_ipv4, Family::V4),
            ("localWorkloadPeeringIPV6", &self.local_workload_peering_ipv6, Family::V6),
        ] {
            if !text.is_empty() && self.local_workload_peering_ip(family).is_none() {
                refuse(field, format!("'{text}' is not an {family} address"));
            }
        }
        for (field, priority) in [
            ("ipv4NormalRoutePriority", self.ipv4_normal_route_priority),
            ("ipv6NormalRoutePriority", self.ipv6_normal_route_priority),
        ] {
            if priority.is_some_and(|priority| !is_route_priority(priority)) {
                refuse(field, "must be 1 to 2147483646".to_owned());
            }
        }
        let paths = self.maximum_paths.unwrap_or_default();
        for (field, limit) in [("maximumPaths.ebgp", paths.ebgp), ("maximumPaths.ibgp", paths.ibgp)] {
            if limit == Some(0) {
                refuse(field, "must be 1 to 255; 1 turns ECMP off".to_owned());
            }
        }
        problems
    }
}

const LOG_LEVELS: [&str; 6] = ["Trace", "Debug", "Info", "Warning", "Error", "Fatal"];

/// Whether a number is a kernel metric that Calico's routes may have, so that 2^31-1 less it is a LOCAL_PREF above 0.
pub(crate) fn is_route_priority(priority: u32) -> bool {
    (1..=2_147_483_646).contains(&priority)
}

/// Whether a text is a glob over names of interfaces (IFNAMSIZ: 15 characters).
pub(crate) fn is_interface_glob(glob: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "*?._-:@".contains(c);
    (1..=15).contains(&glob.len()) && glob.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_documents;

    /// What is wrong with an object whose specification is this YAML flow text.
    fn said(name: &str, spec: &str) -> String {
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
        );
        match parse_documents(&text).expect("YAML")[0].object::<BgpConfigurationSpec>() {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_rule_of_a_field_is_checked() {
        let thousand = "x".repeat(16);
        for (spec, part) in [
            ("logSeverityScreen: debug", ""),
            ("logSeverityScreen: loud", "'loud' is not one of Trace"),
            ("asNumber: 0", "RFC 7607"),
            ("asNumber: \"1.10\"", ""),
            ("listenPort: 0", "1 to 65535"),
            ("listenPort: 70000", "line 4"),
            ("nodeToNodeMeshEnabled: false, nodeMeshMaxRestartTime: 60s", "nodeMeshMaxRestartTime"),
            ("nodeToNodeMeshEnabled: false, nodeMeshPassword: {secretKeyRef: {name: a, key: b}}", "nodeMeshPassword"),
            ("nodeMeshPassword: {secretKeyRef: {name: a, key: b}}, nodeMeshMaxRestartTime: 2m", ""),
            ("nodeMeshPassword: {}", "secretKeyRef"),
            ("nodeMeshMaxRestartTime: soon", "'soon' is not a duration"),
            ("bindMode: NodeIP", ""),
            ("bindMode: Some", "line 4"),
            ("ignoredInterfaces: [eth1, \"br-*\"]", ""),
            (&format!("ignoredInterfaces: [{thousand}]"), "ignoredInterfaces[0]"),
            ("localWorkloadPeeringIPV4: 169.254.1.1, localWorkloadPeeringIPV6: \"fd00::1\"", ""),
            ("localWorkloadPeeringIPV6: 10.0.0.1", "'10.0.0.1' is not an ipv6 address"),
            ("programClusterRoutes: EnabledNoEncapOnly", ""),
            ("ipv4NormalRoutePriority: 0", "2147483646"),
            ("ipv6NormalRoutePriority: 2147483647", "2147483646"),
            ("serviceClusterIPs: [{cidr: 10.96.0.0/12}, {cidr: \"\"}, {}]", ""),
            ("serviceLoadBalancerAggregation: Never", "line 4"),
            ("serviceExternalIPs: [{cidr: 10.0.0.1/8}]", "did you mean 10.0.0.0/8"),
            ("maximumPaths: {ebgp: 0}", "maximumPaths.ebgp"),
            ("nodeMesh: {bfd: {minTx: 1ms}}", "spec.nodeMesh.bfd.minTx"),
            ("bestPath: {alwaysCompareMED: true}, ownershipGuard: Disabled, ebgpRequiresPolicy: Enabled", ""),
            ("drainTime: 2d", "'2d' is not a duration"),
        ] {
            let found = said("default", spec);
            assert!(if part.is_empty() { found.is_empty() } else { found.contains(part) }, "{spec}: {found}");
        }
    }

    #[test]
    fn communities_must_be_valid_resolve_and_be_used() {
        let used = "prefixAdvertisements: [{cidr: 10.65.0.0/16, communities: [pods, \"65001:9\"]}]";
        for (spec, part) in [
            (format!("communities: [{{name: pods, value: \"65001:100\"}}], {used}"), ""),
            (format!("communities: [{{name: pods, value: \"65001:1:2\"}}], {used}"), ""),
            (format!("communities: [{{name: pods, value: \"70000:1\"}}], {used}"), "communities[0].value"),
            (used.to_owned(), "prefixAdvertisements[0].communities[0]"),
            ("communities: [{name: pods, value: \"65001:1\"}]".to_owned(), "used by no prefixAdvertisements"),
            ("prefixAdvertisements: [{communities: [\"1:1\"]}]".to_owned(), "cidr"),
        ] {
            let found = said("default", &spec);
            assert!(if part.is_empty() { found.is_empty() } else { found.contains(part) }, "{spec}: {found}");
        }
        let many = vec!["\"1:1\""; 51].join(",");
        let found = said("default", &format!("prefixAdvertisements: [{{cidr: 10.0.0.0/8, communities: [{many}]}}]"));
        assert!(found.contains("at most 50"), "{found}");
        let many = vec!["{cidr: 10.0.0.0/8, communities: []}"; 501].join(",");
        let found = said("default", &format!("prefixAdvertisements: [{many}]"));
        assert!(found.contains("at most 500"), "{found}");
    }

    #[test]
    fn a_nodes_object_has_the_few_fields_that_count_there() {
        let good = "listenPort: 1790, logSeverityScreen: Debug, \
                    prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [\"1:1\"]}]";
        assert_eq!(said("node.n1", good), "");
        let found = said("node.n1", "asNumber: 65001");
        assert!(found.contains("spec.asNumber: counts in the object named 'default' only"), "{found}");
        assert!(said("other", "asNumber: 65001").contains("'default' or 'node.NODENAME'"));
    }

    #[test]
    fn a_community_is_given_by_value_or_by_name() {
        let named = NamedCommunity { name: "pods".to_owned(), value: "1:2:3".to_owned() };
        let spec = BgpConfigurationSpec { communities: vec![named], ..BgpConfigurationSpec::default() };
        assert_eq!(spec.community("pods"), Some(CommunityValue::Large([1, 2, 3])));
        assert_eq!(spec.community("65001:1"), Some(CommunityValue::Standard(65001 << 16 | 1)));
        assert_eq!(spec.community("nodes"), None);
    }
}
