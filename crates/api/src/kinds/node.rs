use std::net::IpAddr;

use margay_net::{Asn, Family, Mac};
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
    #[serde(rename = "ipv4VXLANTunnelAddr", skip_serializing_if = "String::is_empty")]
    pub ipv4_vxlan_tunnel_addr: String,
    #[serde(rename = "vxlanTunnelMACAddr", skip_serializing_if = "String::is_empty")]
    pub vxlan_tunnel_mac_addr: String,
    #[serde(rename = "ipv6VXLANTunnelAddr", skip_serializing_if = "String::is_empty")]
    pub ipv6_vxlan_tunnel_addr: String,
    #[serde(rename = "vxlanTunnelMACAddrV6", skip_serializing_if = "String::is_empty")]
    pub vxlan_tunnel_mac_addr_v6: String,
    /// The node's names with those who schedule pods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub orch_refs: Vec<OrchRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard: Option<NodeWireguard>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<NodeInterface>,

    /// Margay's own: whether the node is taken out of service: everything it announces gets GRACEFUL_SHUTDOWN (RFC 8326)
    /// and is withdrawn after BGPConfiguration's `drainTime`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OrchRef {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    pub orchestrator: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeWireguard {
    #[serde(rename = "interfaceIPv4Address", skip_serializing_if = "String::is_empty")]
    pub interface_ipv4_address: String,
    #[serde(rename = "interfaceIPv6Address", skip_serializing_if = "String::is_empty")]
    pub interface_ipv6_address: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeInterface {
    pub name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
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
    #[serde(rename = "ipv4IPIPTunnelAddr", skip_serializing_if = "String::is_empty")]
    pub ipv4_ipip_tunnel_addr: String,
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

impl NodeSpec {
    /// Addresses that are not what their fields say.
    fn check_addresses(&self) -> Vec<Problem> {
        let wireguard = self.wireguard.clone().unwrap_or_default();
        let ipip = self.bgp.as_ref().map(|bgp| bgp.ipv4_ipip_tunnel_addr.clone()).unwrap_or_default();
        let tunnels = [
            ("bgp.ipv4IPIPTunnelAddr", Family::V4, &ipip),
            ("ipv4VXLANTunnelAddr", Family::V4, &self.ipv4_vxlan_tunnel_addr),
            ("ipv6VXLANTunnelAddr", Family::V6, &self.ipv6_vxlan_tunnel_addr),
            ("wireguard.interfaceIPv4Address", Family::V4, &wireguard.interface_ipv4_address),
            ("wireguard.interfaceIPv6Address", Family::V6, &wireguard.interface_ipv6_address),
        ];
        let is_of = |text: &str, family| text.parse().is_ok_and(|address: IpAddr| Family::of(address) == family);
        let mut problems: Vec<Problem> = tunnels
            .into_iter()
            .filter(|(_, family, text)| !text.is_empty() && !is_of(text, *family))
            .map(|(field, family, text)| {
                Problem::new(format!("spec.{field}"), format!("'{text}' is not an {family} address"))
            })
            .collect();
        for (field, text) in [
            ("vxlanTunnelMACAddr", &self.vxlan_tunnel_mac_addr),
            ("vxlanTunnelMACAddrV6", &self.vxlan_tunnel_mac_addr_v6),
        ] {
            if !text.is_empty() && text.parse::<Mac>().is_err() {
                problems.push(Problem::new(format!("spec.{field}"), format!("'{text}' is not a MAC address")));
            }
        }
        for (index, address) in self.addresses.iter().enumerate() {
            let at = format!("spec.addresses[{index}]");
            if address_of(&address.address).is_none() {
                problems
                    .push(Problem::new(format!("{at}.address"), format!("'{}' is not an address", address.address)));
            }
            if let Some(kind) = &address.kind
                && !["CalicoNodeIP", "InternalIP", "ExternalIP"].contains(&kind.as_str())
            {
                let reason = format!("'{kind}' is not one of CalicoNodeIP, InternalIP, ExternalIP");
                problems.push(Problem::new(format!("{at}.type"), reason));
            }
        }
        problems
    }
}

impl Spec for NodeSpec {
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";
    const NAMESPACED: bool = false;
    const OWN_FIELDS: &'static [&'static str] = &["drain"];

    fn validate(&self, _metadata: &Metadata) -> Vec<Problem> {
        let mut problems = self.check_addresses();
        let Some(bgp) = &self.bgp else {
            return problems;
        };
        if bgp.as_number == Some(Asn(0)) {
            problems.push(Problem::new("spec.bgp.asNumber", "0 is reserved (RFC 7607)"));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Stored, parse_documents};

    fn read(spec: &str) -> Result<Node, String> {
        let text = format!("apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: n1}}\nspec: {{{spec}}}\n");
        parse_documents(&text).expect("YAML")[0].object::<NodeSpec>().map_err(|error| error.to_string())
    }

    #[test]
    fn each_rule_of_a_field_is_checked() {
        for (spec, part) in [
            ("bgp: {asNumber: \"1.10\", ipv4Address: 10.0.0.1/24, ipv6Address: \"fd00::1\"}", ""),
            ("bgp: {asNumber: 0}", "RFC 7607"),
            ("bgp: {ipv4Address: \"fd00::1\"}", "spec.bgp.ipv4Address"),
            ("bgp: {ipv4Address: 10.0.0.1/33}", "spec.bgp.ipv4Address"),
            ("bgp: {routeReflectorClusterID: 1.0.0.1, ipv4IPIPTunnelAddr: 10.65.0.1}", ""),
            ("bgp: {routeReflectorClusterID: one}", "routeReflectorClusterID"),
            ("bgp: {ipv4IPIPTunnelAddr: x}", "ipv4IPIPTunnelAddr"),
            ("ipv4VXLANTunnelAddr: 10.65.0.2, vxlanTunnelMACAddr: \"66:00:00:00:00:01\"", ""),
            ("ipv6VXLANTunnelAddr: 10.65.0.2", "'10.65.0.2' is not an ipv6 address"),
            ("vxlanTunnelMACAddrV6: x", "MAC address"),
            ("wireguard: {interfaceIPv4Address: 10.65.0.3}, orchRefs: [{nodeName: n1, orchestrator: k8s}]", ""),
            ("addresses: [{address: 10.0.0.1/24, type: CalicoNodeIP}, {address: 10.0.0.1, type: InternalIP}]", ""),
            ("addresses: [{address: here}]", "addresses[0].address"),
            ("addresses: [{address: 10.0.0.1, type: Mine}]", "'Mine' is not one of"),
            ("interfaces: [{name: eth0, addresses: [10.0.0.1]}], drain: true", ""),
        ] {
            let found = read(spec).err().unwrap_or_default();
            assert!(if part.is_empty() { found.is_empty() } else { found.contains(part) }, "{spec}: {found}");
        }
    }

    #[test]
    fn drain_is_stored_as_an_annotation() {
        let node = read("drain: true").expect("a node");
        let json: serde_json::Value = serde_json::from_slice(&Stored::new(node.clone()).encode()).expect("JSON");
        assert_eq!(json["metadata"]["annotations"]["margay.io/spec"], r#"{"drain":true}"#);
        assert!(json["spec"].get("drain").is_none());
        let back = Stored::<NodeSpec>::decode("key", json.to_string().as_bytes()).expect("a node");
        assert_eq!(back.object, node);
    }
}
