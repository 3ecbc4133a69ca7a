use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use margay_net::{Asn, Family};
use serde::{Deserialize, Serialize};

use super::bgp_session::{AddPathSettings, BfdSettings, MaxPrefixes, session_times};
use super::duration::{check_duration, parse_duration};
use crate::{Metadata, Object, Problem, Spec, selector};

/// A BGP neighbour of one, some or all nodes.
pub type BgpPeer = Object<BgpPeerSpec>;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPeerSpec {
    /// The one node that has this peer; exclusive with `node_selector`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The nodes that have this peer; neither this nor `node` means all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_selector: String,
    /// `address`, `v4:port` or `[v6]:port`; exclusive with `peer_selector`.
    #[serde(rename = "peerIP", skip_serializing_if = "String::is_empty")]
    pub peer_ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,
    #[serde(rename = "localASNumber", skip_serializing_if = "Option::is_none")]
    pub local_as_number: Option<Asn>,
    /// The nodes to peer with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer_selector: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop_mode: Option<NextHopMode>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_original_next_hop: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_address: Option<SourceAddress>,
    /// A duration such as `120s`, as Go prints them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restart_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<String>,
    #[serde(rename = "numAllowedLocalASNumbers", skip_serializing_if = "Option::is_none")]
    pub num_allowed_local_as_numbers: Option<u8>,
    #[serde(rename = "ttlSecurity", skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<u8>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reachable_by: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// Whether a node that `peer_selector` picks peers back; [`ReversePeering::Auto`] where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverse_peering: Option<ReversePeering>,
    /// The workloads of this node to peer with: they connect, and this node waits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_workload_selector: String,

    /// Margay's own: a text for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Margay's own: whether there is a session; [`AdminState::Up`] where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_state: Option<AdminState>,
    /// Margay's own: whether everything is announced with GRACEFUL_SHUTDOWN (RFC 8326) in this session.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub graceful_shutdown: bool,
    /// Margay's own: the address families of the session; that of the peer's address where empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<Family>,
    /// Margay's own: the offered hold time, `0s` for never or 3 s to 65535 s; `90s` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_time: Option<String>,
    /// Margay's own: the longest wait between attempts to connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_retry: Option<String>,
    /// Margay's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bfd: Option<BfdSettings>,
    /// Margay's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_prefixes: Option<MaxPrefixes>,
    /// Margay's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_path: Option<AddPathSettings>,
}

/// Whether a peering from one node to another makes the one back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReversePeering {
    Auto,
    Manual,
}

/// Whether there is a session with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdminState {
    Up,
    /// There is none, and the peer's connections are refused.
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NextHopMode {
    Auto,
    #[serde(rename = "Self")]
    SelfAddress,
    Keep,
}

/// The local address of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceAddress {
    /// The node's BGP address.
    UseNodeIP,
    /// Whatever the kernel's route to the peer says.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Password {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretKeyRef {
    pub name: String,
    pub key: String,
}

impl Password {
    /// What is wrong with the reference, in words.
    pub(crate) fn problem(&self) -> Option<String> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('/');
        match &self.secret_key_ref {
            Some(reference) if plain(&reference.name) && plain(&reference.key) => None,
            Some(reference) => {
                Some(format!("'{}' and '{}' must name a secret and its key", reference.name, reference.key))
            }
            None => Some("is needed: the name of a secret and its key".to_owned()),
        }
    }
}

impl BgpPeerSpec {
    /// The address and, where given, the port of `peer_ip`; None where it is neither.
    pub fn peer_address(&self) -> Option<(IpAddr, Option<u16>)> {
        if let Ok(addr) = self.peer_ip.parse() {
            return Some((addr, None));
        }
        let socket: SocketAddr = self.peer_ip.parse().ok()?;
        (socket.port() != 0).then(|| (socket.ip(), Some(socket.port())))
    }

    /// Whether the peering is one of every node.
    pub fn is_global(&self) -> bool {
        self.node.is_empty() && self.node_selector.is_empty()
    }

    pub fn reverse_peering(&self) -> ReversePeering {
        self.reverse_peering.unwrap_or(ReversePeering::Auto)
    }

    /// How long the peer's routes are kept over its restart, if set.
    pub fn max_restart_time(&self) -> Option<Duration> {
        self.max_restart_time.as_deref().and_then(parse_duration)
    }

    /// The interval between KEEPALIVEs, if set.
    pub fn keepalive_time(&self) -> Option<Duration> {
        self.keepalive_time.as_deref().and_then(parse_duration)
    }

    /// The offered hold time, if set.
    pub fn hold_time(&self) -> Option<Duration> {
        self.hold_time.as_deref().and_then(parse_duration)
    }

    /// The longest wait between attempts to connect, if set.
    pub fn connect_retry(&self) -> Option<Duration> {
        self.connect_retry.as_deref().and_then(parse_duration)
    }
}

impl Spec for BgpPeerSpec {
    const KIND: &'static str = "BGPPeer";
    const PLURAL: &'static str = "bgppeers";
    const NAMESPACED: bool = false;
    const OWN_FIELDS: &'static [&'static str] = &[
        "description",
        "adminState",
        "gracefulShutdown",
        "families",
        "holdTime",
        "connectRetry",
        "bfd",
        "maxPrefixes",
        "addPath",
    ];

    fn validate(&self, _metadata: &Metadata) -> Vec<Problem> {
        let mut problems = session_times("spec", self.hold_time.as_deref(), self.connect_retry.as_deref());
        problems.extend(self.bfd.iter().flat_map(|bfd| bfd.problems("spec.bfd")));
        problems.extend(self.max_prefixes.iter().flat_map(|limits| limits.problems("spec.maxPrefixes")));
        problems.extend(self.add_path.iter().flat_map(|paths| paths.problems("spec.addPath")));
        let mut refuse = |field: &str, reason: String| problems.push(Problem::new(format!("spec.{field}"), reason));
        self.check_who(&mut refuse);
        self.check_session(&mut refuse);
        problems
    }
}

type Refuse<'a> = dyn FnMut(&str, String) + 'a;

impl BgpPeerSpec {
    /// Which nodes, and which peers.
    fn check_who(&self, refuse: &mut Refuse<'_>) {
        if !self.node.is_empty() && !self.node_selector.is_empty() {
            refuse("nodeSelector", "is exclusive with 'node'".to_owned());
        }
        for (field, text) in [
            ("nodeSelector", &self.node_selector),
            ("peerSelector", &self.peer_selector),
            ("localWorkloadSelector", &self.local_workload_selector),
        ] {
            if let Err(error) = selector::check(text) {
                refuse(field, error.to_string());
            }
        }
        if self.peer_ip.is_empty() && self.peer_selector.is_empty() && self.local_workload_selector.is_empty() {
            refuse("peerIP", "one of peerIP, peerSelector and localWorkloadSelector is needed".to_owned());
        }
        if !self.peer_ip.is_empty() {
            if self.peer_address().is_none() {
                refuse("peerIP", format!("'{}' is not an address, ADDRESS:PORT or [ADDRESS]:PORT", self.peer_ip));
            }
            if !self.peer_selector.is_empty() {
                refuse("peerSelector", "is exclusive with 'peerIP'".to_owned());
            }
            if self.as_number.is_none() {
                refuse("asNumber", "is needed with 'peerIP'".to_owned());
            }
        }
        if !self.peer_selector.is_empty() && self.as_number.is_some() {
            refuse("asNumber", "must be absent with 'peerSelector': the nodes' own numbers count".to_owned());
        }
        if !self.local_workload_selector.is_empty() {
            for (field, text) in [("peerIP", &self.peer_ip), ("peerSelector", &self.peer_selector)] {
                if !text.is_empty() {
                    refuse(field, "is exclusive with 'localWorkloadSelector'".to_owned());
                }
            }
            if self.as_number.is_none() {
                refuse("asNumber", "is needed with 'localWorkloadSelector'".to_owned());
            }
        }
        for (field, asn) in [("asNumber", self.as_number), ("localASNumber", self.local_as_number)] {
            if asn == Some(Asn(0)) {
                refuse(field, "0 is reserved (RFC 7607)".to_owned());
            }
        }
        if !self.reachable_by.is_empty() {
            let gateway: Option<IpAddr> = self.reachable_by.parse().ok();
            match (gateway, self.peer_address()) {
                (None, _) => refuse("reachableBy", format!("'{}' is not an address", self.reachable_by)),
                (Some(_), None) => refuse("reachableBy", "needs 'peerIP'".to_owned()),
                (Some(gateway), Some((peer, _))) if Family::of(gateway) != Family::of(peer) => {
                    refuse("reachableBy", format!("{gateway} and the peer {peer} are not of one family"));
                }
                (Some(_), Some(_)) => {}
            }
        }
    }

    /// What the session is like.
    fn check_session(&self, refuse: &mut Refuse<'_>) {
        if self.keep_original_next_hop && self.next_hop_mode.is_some() {
            refuse("keepOriginalNextHop", "is exclusive with 'nextHopMode', which replaces it".to_owned());
        }
        if let Some(reason) = self.password.as_ref().and_then(Password::problem) {
            refuse("password.secretKeyRef", reason);
        }
        let keepalive = (Duration::from_secs(1), Duration::from_secs(21_845));
        for (field, text, (least, most)) in [
            ("maxRestartTime", &self.max_restart_time, (Duration::ZERO, Duration::from_secs(4095))),
            ("keepaliveTime", &self.keepalive_time, keepalive),
        ] {
            if let Some(text) = text
                && let Err(reason) = check_duration(text, least, most)
            {
                refuse(field, reason);
            }
        }
        if let (Some(keepalive), Some(hold)) = (self.keepalive_time(), self.hold_time())
            && !hold.is_zero()
            && keepalive >= hold
        {
            refuse("keepaliveTime", "must be shorter than holdTime, best a third of it".to_owned());
        }
        if let Some(index) = self.filters.iter().position(String::is_empty) {
            refuse(&format!("filters[{index}]"), "names no BGPFilter".to_owned());
        }
        for (index, family) in self.families.iter().enumerate() {
            if self.families[..index].contains(family) {
                refuse(&format!("families[{index}]"), format!("{family} is there twice"));
            }
        }
        if self.description.len() > 255 || self.description.chars().any(char::is_control) {
            refuse("description", "must be one line of at most 255 bytes".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_documents;

    #[test]
    fn a_peer_is_an_address_with_or_without_a_port() {
        let peer = |text: &str| BgpPeerSpec { peer_ip: text.to_owned(), ..BgpPeerSpec::default() }.peer_address();
        assert_eq!(peer("10.0.0.1"), Some(("10.0.0.1".parse().expect("address"), None)));
        assert_eq!(peer("10.0.0.1:1179"), Some(("10.0.0.1".parse().expect("address"), Some(1179))));
        assert_eq!(peer("[fd00::1]:1179"), Some(("fd00::1".parse().expect("address"), Some(1179))));
        assert_eq!(peer("fd00::1"), Some(("fd00::1".parse().expect("address"), None)));
        assert_eq!(peer("tor-a1"), None);
        assert_eq!(peer("10.0.0.1:0"), None);
    }

    #[test]
    fn each_rule_of_a_field_is_checked() {
        let long = format!("a == '{}'", "x".repeat(1024));
        let selector = format!("peerIP: 10.0.0.1, asNumber: 1, nodeSelector: \"{long}\"");
        let description = format!("peerIP: 10.0.0.1, asNumber: 1, description: {}", "x".repeat(256));
        for (spec, part) in [
            ("peerIP: 10.0.0.1, asNumber: 65001", ""),
            ("asNumber: 65001", "one of peerIP, peerSelector"),
            ("peerIP: 10.0.0.1", "asNumber: is needed"),
            ("peerIP: tor, asNumber: 1", "'tor' is not an address"),
            ("peerIP: 10.0.0.1, asNumber: 0", "RFC 7607"),
            ("peerIP: 10.0.0.1, asNumber: 1, node: n1, nodeSelector: all()", "exclusive with 'node'"),
            ("peerIP: 10.0.0.1, asNumber: 1, peerSelector: all()", "exclusive with 'peerIP'"),
            ("peerSelector: has(rr)", ""),
            ("peerSelector: has(rr), asNumber: 1", "must be absent"),
            ("peerSelector: has(", "spec.peerSelector"),
            ("localWorkloadSelector: vm == 'a', asNumber: 65001", ""),
            ("localWorkloadSelector: vm == 'a'", "is needed with 'localWorkloadSelector'"),
            (
                "localWorkloadSelector: vm == 'a', asNumber: 1, peerIP: 10.0.0.1",
                "exclusive with 'localWorkloadSelector'",
            ),
            ("peerIP: 10.0.0.1, asNumber: 1, nextHopMode: Self", ""),
            ("peerIP: 10.0.0.1, asNumber: 1, nextHopMode: Mine", "line 4"),
            (
                "peerIP: 10.0.0.1, asNumber: 1, nextHopMode: Keep, keepOriginalNextHop: true",
                "exclusive with 'nextHopMode'",
            ),
            ("peerIP: 10.0.0.1, asNumber: 1, password: {secretKeyRef: {name: a}}", "line 4"),
            ("peerIP: 10.0.0.1, asNumber: 1, password: {secretKeyRef: {name: a, key: ../b}}", "secretKeyRef"),
            ("peerIP: 10.0.0.1, asNumber: 1, sourceAddress: None, maxRestartTime: 60s, keepaliveTime: 20s", ""),
            ("peerIP: 10.0.0.1, asNumber: 1, maxRestartTime: 2h", "not within 0s to 4095s"),
            ("peerIP: 10.0.0.1, asNumber: 1, keepaliveTime: 100ms", "not within 1s"),
            ("peerIP: 10.0.0.1, asNumber: 1, numAllowedLocalASNumbers: 2, ttlSecurity: 2, localASNumber: 65002", ""),
            ("peerIP: 10.0.0.1, asNumber: 1, ttlSecurity: 256", "line 4"),
            ("peerIP: 10.9.0.1, asNumber: 1, reachableBy: 10.0.0.254", ""),
            ("peerIP: 10.9.0.1, asNumber: 1, reachableBy: \"fd00::1\"", "not of one family"),
            ("peerSelector: all(), reachableBy: 10.0.0.254", "needs 'peerIP'"),
            ("peerIP: 10.0.0.1, asNumber: 1, filters: [a, \"\"]", "filters[1]"),
            ("peerIP: 10.0.0.1, asNumber: 1, reversePeering: Manual", ""),
            ("peerIP: 10.0.0.1, asNumber: 1, reversePeering: Never", "line 4"),
            (&selector, "1024"),
            ("peerIP: 10.0.0.1, asNumber: 1, holdTime: 9s, keepaliveTime: 3s, connectRetry: 5s, adminState: Down", ""),
            ("peerIP: 10.0.0.1, asNumber: 1, holdTime: 1s", "RFC 4271"),
            ("peerIP: 10.0.0.1, asNumber: 1, holdTime: 9s, keepaliveTime: 9s", "shorter than holdTime"),
            ("peerIP: 10.0.0.1, asNumber: 1, bfd: {minTx: 100ms, multiplier: 3}, gracefulShutdown: true", ""),
            ("peerIP: 10.0.0.1, asNumber: 1, maxPrefixes: {limit: 100, action: Restart, restartAfter: 1m}", ""),
            ("peerIP: 10.0.0.1, asNumber: 1, maxPrefixes: {warningPercent: 0, ipv4: 3}", "maxPrefixes.warningPercent"),
            ("peerIP: 10.0.0.1, asNumber: 1, addPath: {receive: true, send: Best, sendLimit: 4}", ""),
            ("peerIP: 10.0.0.1, asNumber: 1, families: [ipv4, ipv6]", ""),
            ("peerIP: 10.0.0.1, asNumber: 1, families: [ipv4, ipv4]", "families[1]: ipv4 is there twice"),
            (&description, "at most 255"),
        ] {
            let text =
                format!("apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{name: tor}}\nspec: {{{spec}}}\n");
            let read = parse_documents(&text).expect("YAML")[0].object::<BgpPeerSpec>();
            let found = read.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(if part.is_empty() { found.is_empty() } else { found.contains(part) }, "{spec}: {found}");
        }
    }
}
