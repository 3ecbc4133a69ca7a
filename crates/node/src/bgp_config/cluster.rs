//! What nodes are to BGP.

use std::net::{IpAddr, Ipv4Addr};

use margay_api::kinds::{BgpConfigurationSpec, Node};
use margay_net::{Asn, Family};

use super::BgpResources;

/// A node's AS number: its own or the cluster's.
pub(crate) fn node_asn(node: &Node, config: &BgpConfigurationSpec) -> Asn {
    node.spec.bgp.as_ref().and_then(|bgp| bgp.as_number).unwrap_or(config.as_number())
}

/// A node's addresses.
pub(crate) fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    Family::ALL.into_iter().filter_map(|family| node.spec.bgp_address(family))
}

/// The cluster of a node that is a route reflector.
pub(super) fn cluster_id(node: &Node) -> Option<Ipv4Addr> {
    node.spec.bgp.as_ref()?.route_reflector_cluster_id.as_ref()?.parse().ok()
}

/// The node's IPv4 address, or for an IPv6-only node a number made from its name.
pub(crate) fn router_id(node: &Node) -> Ipv4Addr {
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

/// The port that a node listens on: its own object's, the cluster's, or BGP's.
pub(super) fn listen_port(resources: &BgpResources<'_>, node: &str) -> u16 {
    let port = |name: &str| resources.configurations.get(name).and_then(|object| object.spec.listen_port);
    port(&format!("node.{node}")).or_else(|| port("default")).unwrap_or(179)
}
