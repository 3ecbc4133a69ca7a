//! Resources in, speaker configuration out: what Calico's confd does with text templates, as one pure function.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use margay_api::kinds::{
    BgpConfigurationSpec, BgpPeer, BgpPeerSpec, IpPool, NextHopMode, Node, SecretKeyRef, SourceAddress,
};
use margay_api::selector::Selector;
use margay_bgp_core::{
    ExportPolicy, GracefulRestartConfig, NextHopMode as SpeakerNextHopMode, PeerConfig, PeerName, PrefixMatch,
    RouteMatch, RouteOrigin, Rule, RuleAction, RuleSet, Secret, SetOperation, SpeakerConfig,
};
use margay_net::{Asn, Cidr, Family, LocalRouteSource};

/// The LOCAL_PREF of this node's own routes on internal sessions: Calico's 2^31-1 less the normal route priority.
const LOCAL_PREF: u32 = 2_147_483_647 - 1024;

/// Everything that decides over this node's sessions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BgpResources<'a> {
    pub(crate) node: &'a Node,
    /// All nodes of the cluster, this one included.
    pub(crate) nodes: &'a [Node],
    pub(crate) peers: &'a [BgpPeer],
    /// The object named `default`, or Calico's defaults.
    pub(crate) config: &'a BgpConfigurationSpec,
    pub(crate) pools: &'a [IpPool],
}

/// The configuration, and what of the resources could not be followed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BgpPlan {
    pub(crate) config: SpeakerConfig,
    /// In words: which object, what is wrong, what to do.
    pub(crate) problems: Vec<String>,
}

/// Computes this node's speaker configuration. `secret` reads the password that a reference names.
pub(crate) fn plan(resources: BgpResources<'_>, secret: &dyn Fn(&SecretKeyRef) -> Result<String, String>) -> BgpPlan {
    let own_asn = node_asn(resources.node, resources.config);
    let mut config = SpeakerConfig::new(own_asn, router_id(resources.node));
    config.listen_port = resources.config.listen_port();
    config.cluster_id = cluster_id(resources.node);
    let mut planner = Planner { resources, secret, own_asn, peers: BTreeMap::new(), problems: Vec::new() };
    planner.explicit_peers();
    if resources.config.mesh_enabled() && cluster_id(resources.node).is_none() {
        planner.mesh();
    }
    config.graceful_restart = Some(GracefulRestartConfig::default());
    config.peers = planner.peers.into_values().collect();
    BgpPlan { config, problems: planner.problems }
}

struct Planner<'a> {
    resources: BgpResources<'a>,
    secret: &'a dyn Fn(&SecretKeyRef) -> Result<String, String>,
    own_asn: Asn,
    /// By address and port: the first that claims a session has it.
    peers: BTreeMap<(IpAddr, u16), (PeerName, PeerConfig)>,
    problems: Vec<String>,
}

impl Planner<'_> {
    /// Global peers first, then those that name or select this node, as Calico orders them.
    fn explicit_peers(&mut self) {
        let is_global = |peer: &BgpPeer| peer.spec.node.is_empty() && peer.spec.node_selector.is_empty();
        for peer in self.resources.peers.iter().filter(|peer| is_global(peer)) {
            self.explicit_peer(peer);
        }
        for peer in self.resources.peers.iter().filter(|peer| !is_global(peer)) {
            match selects(&peer.spec, self.resources.node) {
                Ok(true) => self.explicit_peer(peer),
                Ok(false) => {}
                Err(error) => self.problems.push(format!("BGPPeer {}: {error}", peer.name())),
            }
        }
    }

    fn explicit_peer(&mut self, peer: &BgpPeer) {
        let spec = &peer.spec;
        if let Some((address, port)) = spec.peer_address() {
            let Some(asn) = spec.as_number else {
                self.problems.push(format!("BGPPeer {}: asNumber is missing", peer.name()));
                return;
            };
            if self.own_addresses().any(|own| own == address) {
                return;
            }
            let node = self.resources.nodes.iter().find(|node| addresses(node).any(|own| own == address));
            let port = port.unwrap_or_else(|| node.map_or(179, |_| self.resources.config.listen_port()));
            self.add(peer.name().to_owned(), Remote { address, port, asn, node }, spec);
        } else if !spec.peer_selector.is_empty() {
            let selector: Selector = match spec.peer_selector.parse() {
                Ok(selector) => selector,
                Err(error) => {
                    self.problems.push(format!("BGPPeer {}: {error}", peer.name()));
                    return;
                }
            };
            for node in self.resources.nodes {
                if node.name() != self.resources.node.name() && selector.matches_labels(&node.metadata.labels) {
                    self.add_node(&format!("{}-{}", peer.name(), node.name()), node, spec);
                }
            }
        } else {
            self.problems.push(format!(
                "BGPPeer {}: localWorkloadSelector is not supported; use peerIP or peerSelector",
                peer.name()
            ));
        }
    }

    fn mesh(&mut self) {
        let spec = BgpPeerSpec::default();
        for node in self.resources.nodes {
            if node.name() != self.resources.node.name() && cluster_id(node).is_none() {
                self.add_node(&format!("mesh-{}", node.name()), node, &spec);
            }
        }
    }

    /// Peers with another node in each family in which both have an address.
    fn add_node(&mut self, name: &str, node: &Node, spec: &BgpPeerSpec) {
        let asn = node_asn(node, self.resources.config);
        for family in Family::ALL {
            let (Some(address), Some(_)) =
                (node.spec.bgp_address(family), self.resources.node.spec.bgp_address(family))
            else {
                continue;
            };
            let name = if family == Family::V4 { name.to_owned() } else { format!("{name}-v6") };
            let remote = Remote { address, port: self.resources.config.listen_port(), asn, node: Some(node) };
            self.add(name, remote, spec);
        }
    }

    fn add(&mut self, name: String, remote: Remote<'_>, spec: &BgpPeerSpec) {
        let key = (remote.address, remote.port);
        if self.peers.contains_key(&key) {
            return;
        }
        let own = self.resources.node.spec.bgp_address(Family::of(remote.address));
        let mut peer = PeerConfig::new(remote.address, remote.asn);
        peer.remote_port = remote.port;
        peer.local_asn = spec.local_as_number;
        peer.source = match spec.source_address {
            Some(SourceAddress::None) => None,
            Some(SourceAddress::UseNodeIP) | None => own,
        };
        // Two nodes would connect to each other at once: Calico makes the one wait whose peer's address is the
        // greater as text.
        peer.passive = remote.node.is_some() && own.is_some_and(|own| remote.address.to_string() > own.to_string());
        peer.ttl_security = spec.ttl_security.filter(|hops| *hops > 0);
        peer.multihop = peer.ttl_security.is_none_or(|hops| hops > 1);
        peer.allow_own_as = spec.num_allowed_local_as_numbers.unwrap_or(0);
        peer.restart_time = spec.max_restart_time();
        if let Some(keepalive) = spec.keepalive_time() {
            peer.keepalive = Some(keepalive);
            peer.hold_time = (keepalive * 3).max(Duration::from_secs(3));
        }
        peer.next_hop = match spec.next_hop_mode {
            Some(NextHopMode::SelfAddress) => SpeakerNextHopMode::SelfAddress,
            Some(NextHopMode::Keep) => SpeakerNextHopMode::Keep,
            Some(NextHopMode::Auto) | None => SpeakerNextHopMode::Auto,
        };
        let ibgp = peer.is_ibgp(self.own_asn);
        let reflects = ibgp && cluster_id(self.resources.node).is_some();
        peer.route_reflector_client = reflects && remote.node.and_then(cluster_id) != cluster_id(self.resources.node);
        peer.export = export_policy(self.resources.pools, ibgp, Family::of(remote.address));
        if let Some(reference) = spec.password.as_ref().and_then(|password| password.secret_key_ref.as_ref()) {
            match (self.secret)(reference) {
                Ok(password) => peer.password = Some(Secret::new(password)),
                Err(error) => {
                    // Without its password the session would not come up, or would come up unprotected.
                    self.problems.push(format!("BGPPeer {name}: {error}; the session is left out until it is there"));
                    return;
                }
            }
        }
        self.peers.insert(key, (PeerName::new(name), peer));
    }

    fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        addresses(self.resources.node)
    }
}

struct Remote<'a> {
    address: IpAddr,
    port: u16,
    asn: Asn,
    /// The cluster's node with that address.
    node: Option<&'a Node>,
}

/// What is announced: this node's blocks and pods within exported pools, and its own address; to internal peers
/// also what external ones announced of the pools. Nothing else leaves the node.
fn export_policy(pools: &[IpPool], ibgp: bool, family: Family) -> ExportPolicy {
    let of_family = |exported: bool| -> Vec<PrefixMatch> {
        let pools = pools.iter().filter(|pool| pool.spec.cidr.family() == family);
        let pools = pools.filter(|pool| pool.spec.disable_bgp_export != exported);
        pools.map(|pool| PrefixMatch::within(pool.spec.cidr)).collect()
    };
    let own = if ibgp { vec![SetOperation::LocalPref(LOCAL_PREF)] } else { Vec::new() };
    let mut rules = Vec::new();
    let mut rule = |prefixes: Vec<PrefixMatch>, origins: Vec<RouteOrigin>, action, set: &[SetOperation]| {
        if !prefixes.is_empty() {
            let matches = RouteMatch { prefixes, origins, ..RouteMatch::default() };
            rules.push(Rule { matches, action, set: set.to_vec() });
        }
    };
    rule(of_family(false), Vec::new(), RuleAction::Reject, &[]);
    let local = [LocalRouteSource::Block, LocalRouteSource::Workload].map(RouteOrigin::Local).to_vec();
    rule(of_family(true), local, RuleAction::Accept, &own);
    if ibgp {
        rule(of_family(true), vec![RouteOrigin::Ebgp, RouteOrigin::Ibgp], RuleAction::Accept, &[]);
    }
    let everything = vec![PrefixMatch::within(Cidr::any(family))];
    rule(everything, vec![RouteOrigin::Local(LocalRouteSource::Loopback)], RuleAction::Accept, &own);
    ExportPolicy(RuleSet { rules, accept_by_default: false })
}

fn selects(spec: &BgpPeerSpec, node: &Node) -> Result<bool, String> {
    if !spec.node.is_empty() {
        return Ok(spec.node == node.name());
    }
    let selector: Selector = spec.node_selector.parse().map_err(|error| format!("{error}"))?;
    Ok(selector.matches_labels(&node.metadata.labels))
}

fn node_asn(node: &Node, config: &BgpConfigurationSpec) -> Asn {
    node.spec.bgp.as_ref().and_then(|bgp| bgp.as_number).unwrap_or(config.as_number())
}

fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    Family::ALL.into_iter().filter_map(|family| node.spec.bgp_address(family))
}

fn cluster_id(node: &Node) -> Option<Ipv4Addr> {
    node.spec.bgp.as_ref()?.route_reflector_cluster_id.as_ref()?.parse().ok()
}

/// The node's IPv4 address, or for an IPv6-only node a number made from its name.
fn router_id(node: &Node) -> Ipv4Addr {
    match node.spec.bgp_address(Family::V4) {
        Some(IpAddr::V4(address)) => address,
        _ => {
            let hash = node
                .name()
                .bytes()
                .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
            Ipv4Addr::from_bits(hash.max(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use margay_api::Object;
    use margay_api::kinds::{IpPoolSpec, NodeBgp, NodeSpec, Password};

    fn node(name: &str, asn: u32, v4: &str, labels: &[(&str, &str)]) -> Node {
        let bgp = NodeBgp { as_number: Some(Asn(asn)), ipv4_address: Some(v4.to_owned()), ..NodeBgp::default() };
        let mut node = Object::named(name, NodeSpec { bgp: Some(bgp), ..NodeSpec::default() });
        node.metadata.labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        node
    }

    fn peer(name: &str, change: impl Fn(&mut BgpPeerSpec)) -> BgpPeer {
        let mut spec = BgpPeerSpec::default();
        change(&mut spec);
        Object::named(name, spec)
    }

    fn tor(name: &str, ip: &str, selector: &str) -> BgpPeer {
        peer(name, |spec| {
            spec.peer_ip = ip.to_owned();
            spec.as_number = Some(Asn(65001));
            spec.node_selector = selector.to_owned();
            spec.source_address = Some(SourceAddress::None);
        })
    }

    fn pool() -> IpPool {
        Object::named("pods", IpPoolSpec { cidr: "10.65.0.0/16".parse().expect("prefix"), ..IpPoolSpec::default() })
    }

    fn planned(nodes: &[Node], peers: &[BgpPeer], mesh: bool) -> BgpPlan {
        let config = BgpConfigurationSpec { node_to_node_mesh_enabled: Some(mesh), ..BgpConfigurationSpec::default() };
        let resources = BgpResources { node: &nodes[0], nodes, peers, config: &config, pools: &[pool()] };
        plan(resources, &|reference| Err(format!("secret {}/{} is not there", reference.name, reference.key)))
    }

    fn names(plan: &BgpPlan) -> Vec<&str> {
        plan.config.peers.keys().map(PeerName::as_str).collect()
    }

    #[test]
    fn a_peer_is_had_by_the_nodes_that_its_selector_picks() {
        let nodes = [node("a1", 64601, "10.100.1.1/32", &[("rack", "a")])];
        let peers = [tor("tor-a1", "10.101.1.1", "rack == 'a'"), tor("tor-b1", "10.101.2.1", "rack == 'b'")];
        let plan = planned(&nodes, &peers, false);
        assert_eq!(names(&plan), ["tor-a1"]);
        assert_eq!(plan.config.asn, Asn(64601));
        assert_eq!(plan.config.router_id, Ipv4Addr::new(10, 100, 1, 1));
        let peer = &plan.config.peers["tor-a1"];
        assert_eq!((peer.source, peer.passive, peer.asn), (None, false, Asn(65001)));
    }

    #[test]
    fn one_side_of_a_mesh_session_waits_by_calicos_comparison_of_text() {
        let nodes = [node("n1", 64512, "10.0.0.9/24", &[]), node("n2", 64512, "10.0.0.10/24", &[])];
        let forward = planned(&nodes, &[], true);
        let backward = planned(&[nodes[1].clone(), nodes[0].clone()], &[], true);
        assert_eq!(names(&forward), ["mesh-n2"]);
        // "10.0.0.10" comes before "10.0.0.9" as text.
        assert!(!forward.config.peers["mesh-n2"].passive);
        assert!(backward.config.peers["mesh-n1"].passive);
        assert_eq!(forward.config.peers["mesh-n2"].source, "10.0.0.9".parse().ok());
    }

    #[test]
    fn route_reflectors_are_outside_the_mesh_and_have_clients() {
        let mut reflector = node("rr", 64512, "10.0.0.1/24", &[("rr", "yes")]);
        reflector.spec.bgp.as_mut().expect("bgp").route_reflector_cluster_id = Some("1.0.0.1".to_owned());
        let nodes = [reflector.clone(), node("n1", 64512, "10.0.0.2/24", &[])];
        let to_all = peer("clients", |spec| {
            spec.node_selector = "has(rr)".to_owned();
            spec.peer_selector = "!has(rr)".to_owned();
        });
        let plan = planned(&nodes, &[to_all], true);
        assert_eq!(names(&plan), ["clients-n1"]);
        assert!(plan.config.peers["clients-n1"].route_reflector_client);
        assert_eq!(plan.config.cluster_id, Some(Ipv4Addr::new(1, 0, 0, 1)));
        let client = planned(&[nodes[1].clone(), reflector], &[], true);
        assert!(names(&client).is_empty());
    }

    #[test]
    fn a_peer_without_its_password_is_left_out_and_said_so() {
        let nodes = [node("a1", 64601, "10.100.1.1/32", &[])];
        let mut guarded = tor("tor", "10.101.1.1", "");
        let secret_key_ref = Some(SecretKeyRef { name: "bgp".to_owned(), key: "tor".to_owned() });
        guarded.spec.password = Some(Password { secret_key_ref });
        let plan = planned(&nodes, &[guarded], false);
        assert!(plan.config.peers.is_empty());
        assert!(plan.problems[0].contains("secret bgp/tor is not there"), "{:?}", plan.problems);
    }

    #[test]
    fn external_peers_see_only_what_is_this_nodes_own() {
        let rules = export_policy(&[pool()], false, Family::V4).0;
        assert!(!rules.accept_by_default);
        let origins: Vec<&RouteOrigin> = rules.rules.iter().flat_map(|rule| &rule.matches.origins).collect();
        assert!(origins.iter().all(|origin| matches!(origin, RouteOrigin::Local(_))), "{origins:?}");
        let internal = export_policy(&[pool()], true, Family::V4).0;
        assert!(internal.rules.iter().any(|rule| rule.matches.origins.contains(&RouteOrigin::Ebgp)));
        assert!(internal.rules[0].set.contains(&SetOperation::LocalPref(2_147_482_623)));
    }
}
