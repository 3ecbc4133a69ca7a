use std::net::{IpAddr, SocketAddr};

use margay_net::Asn;
use serde::{Deserialize, Serialize};

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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverse_peering: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_workload_selector: String,
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

impl BgpPeerSpec {
    /// The address and, where given, the port of `peer_ip`; None where it is neither.
    pub fn peer_address(&self) -> Option<(IpAddr, Option<u16>)> {
        if let Ok(addr) = self.peer_ip.parse() {
            return Some((addr, None));
        }
        let socket: SocketAddr = self.peer_ip.parse().ok()?;
        Some((socket.ip(), Some(socket.port())))
    }
}

impl Spec for BgpPeerSpec {
    const KIND: &'static str = "BGPPeer";
    const PLURAL: &'static str = "bgppeers";
    const NAMESPACED: bool = false;

    fn validate(&self, _metadata: &Metadata) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse = |field: &str, reason: String| problems.push(Problem::new(format!("spec.{field}"), reason));
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
        for (field, text) in [("maxRestartTime", &self.max_restart_time), ("keepaliveTime", &self.keepalive_time)] {
            if let Some(text) = text
                && parse_duration(text).is_none()
            {
                refuse(field, format!("'{text}' is not a duration such as 90s or 2m"));
            }
        }
        problems
    }
}

/// Reads a Go duration made of hours, minutes, seconds and milliseconds, such as `1m30s`.
pub(crate) fn parse_duration(text: &str) -> Option<std::time::Duration> {
    let mut total = std::time::Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let millis = match &rest[digits..unit_end] {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        total += std::time::Duration::from_millis(number.checked_mul(millis)?);
        rest = &rest[unit_end..];
    }
    Some(total)
}

impl BgpPeerSpec {
    /// How long the peer's routes are kept over its restart, if set.
    pub fn max_restart_time(&self) -> Option<std::time::Duration> {
        self.max_restart_time.as_deref().and_then(parse_duration)
    }

    /// The interval between KEEPALIVEs, if set.
    pub fn keepalive_time(&self) -> Option<std::time::Duration> {
        self.keepalive_time.as_deref().and_then(parse_duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_peer_is_an_address_with_or_without_a_port() {
        let peer = |text: &str| BgpPeerSpec { peer_ip: text.to_owned(), ..BgpPeerSpec::default() }.peer_address();
        assert_eq!(peer("10.0.0.1"), Some(("10.0.0.1".parse().expect("address"), None)));
        assert_eq!(peer("10.0.0.1:1179"), Some(("10.0.0.1".parse().expect("address"), Some(1179))));
        assert_eq!(peer("[fd00::1]:1179"), Some(("fd00::1".parse().expect("address"), Some(1179))));
        assert_eq!(peer("fd00::1"), Some(("fd00::1".parse().expect("address"), None)));
        assert_eq!(peer("tor-a1"), None);
    }

    #[test]
    fn durations_are_read_as_go_prints_them() {
        assert_eq!(parse_duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        for bad in ["", "90", "s", "1x", "-1s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
