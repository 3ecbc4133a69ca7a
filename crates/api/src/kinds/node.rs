use std::net::IpAddr;

use margay_net::{Asn, Family};
use serde::{Deserialize, Serialize};

use crate::{Metadata, Object, Problem, Spec};

/// A node of the cluster and its place in BGP.
pub type Node = Object<NodeSpec>;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<NodeBgp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,

    /// Margay's own: whether the node is taken out of service: everything it announces gets GRACEFUL_SHUTDOWN (RFC 8326)
    /// and is withdrawn after BGPConfiguration's `drainTime`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeBgp {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,
    /// The node's address and the length of its subnet, as in `10.0.0.1/24`.
    #[serde(rename = "ipv4Address", skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<String>,
    #[serde(rename = "ipv6Address", skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
    /// Makes the node a route reflector; in the form of an IPv4 address.
    #[serde(rename = "routeReflectorClusterID", skip_serializing_if = "Option::is_none")]
    pub route_reflector_cluster_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    pub address: String,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

impl NodeSpec {
    /// The node's BGP address in a family, without the length of its subnet.
    pub fn bgp_address(&self, family: Family) -> Option<IpAddr> {
        let bgp = self.bgp.as_ref()?;
        let text = match family {
            Family::V4 => bgp.ipv4_address.as_deref(),
            Family::V6 => bgp.ipv6_address.as_deref(),
        }?;
        address_of(text).filter(|addr| Family::of(*addr) == family)
    }
}

fn address_of(text: &str) -> Option<IpAddr> {
    match text.split_once('/') {
        None => text.parse().ok(),
        Some((addr, len)) => {
            let addr: IpAddr = addr.parse().ok()?;
            let len: u8 = len.parse().ok()?;
            (len <= Family::of(addr).bits()).then_some(addr)
        }
    }
}

impl Spec for NodeSpec {
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";
    const NAMESPACED: bool = false;

    fn validate(&self, _metadata: &Metadata) -> Vec<Problem> {
        let mut problems = Vec::new();
        let Some(bgp) = &self.bgp else {
            return problems;
        };
        for (family, field, text) in
            [(Family::V4, "ipv4Address", &bgp.ipv4_address), (Family::V6, "ipv6Address", &bgp.ipv6_address)]
        {
            if let Some(text) = text
                && self.bgp_address(family).is_none()
            {
                let reason = format!("'{text}' is not an {family} address with an optional prefix length");
                problems.push(Problem::new(format!("spec.bgp.{field}"), reason));
            }
        }
        if let Some(id) = &bgp.route_reflector_cluster_id
            && id.parse::<std::net::Ipv4Addr>().is_err()
        {
            let reason = format!("'{id}' does not have the form of an IPv4 address");
            problems.push(Problem::new("spec.bgp.routeReflectorClusterID", reason));
        }
        problems
    }
}
