//! The cables of a topology: veth pairs, addresses and the sysctls of routers.

use std::net::IpAddr;

use anyhow::Result;
use margay_net::Family;

use crate::{Netns, NodeSpec, SpineSpec, Topology, TorSpec};

/// A veth pair between two namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cable {
    pub left: (String, String),
    pub right: (String, String),
}

/// The name of a node's interface towards a ToR of its rack.
pub fn uplink(tor: &TorSpec) -> String {
    format!("uplink{}", tor.index)
}

/// The name of a ToR's interface towards a node of its rack.
pub fn downlink(node: &NodeSpec) -> String {
    format!("node{}", node.index)
}

/// All cables: spine to ToR, ToR to node. An end is (namespace, interface); an interface is named after its far end.
pub fn cables(topology: &Topology) -> Vec<Cable> {
    let mut cables = Vec::new();
    for tor in topology.tors() {
        for spine in topology.spines() {
            cables.push(Cable {
                left: (spine.name.clone(), tor.name.clone()),
                right: (tor.name.clone(), spine.name.clone()),
            });
        }
        for node in topology.nodes_of(tor.rack) {
            cables.push(Cable { left: (tor.name.clone(), downlink(&node)), right: (node.name.clone(), uplink(&tor)) });
        }
    }
    cables
}

/// Makes the namespaces of routers and nodes, and connects them.
pub fn build(topology: &Topology, hub: &Netns) -> Result<()> {
    for tor in topology.tors() {
        router_namespace(&tor.name)?;
    }
    for spine in topology.spines() {
        router_namespace(&spine.name)?;
    }
    for node in topology.nodes() {
        // What a node needs beyond an address family it has is the daemon's to set.
        let netns = Netns::create(&node.name)?;
        netns.sysctl("net.ipv6.conf.all.keep_addr_on_down", "1")?;
    }
    let lines: Vec<String> = cables(topology)
        .into_iter()
        .map(|Cable { left, right }| {
            format!("link add name {} netns {} type veth peer name {} netns {}", left.1, left.0, right.1, right.0)
        })
        .collect();
    hub.ip_batch(&lines)?;
    for spine in topology.spines() {
        Netns::open(&spine.name)?.ip_batch(&spine_lines(topology, &spine))?;
    }
    for tor in topology.tors() {
        Netns::open(&tor.name)?.ip_batch(&tor_lines(topology, &tor))?;
    }
    for node in topology.nodes() {
        Netns::open(&node.name)?.ip_batch(&node_lines(topology, &node))?;
    }
    Ok(())
}

fn router_namespace(name: &str) -> Result<()> {
    let netns = Netns::create(name)?;
    for (key, value) in [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        // Hash over ports as well, so that flows between two pods spread over the links, as hardware does.
        ("net.ipv4.fib_multipath_hash_policy", "1"),
        ("net.ipv6.fib_multipath_hash_policy", "1"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
        // A link that goes down must not be used, nor lose its addresses.
        ("net.ipv4.conf.all.ignore_routes_with_linkdown", "1"),
        ("net.ipv4.conf.default.ignore_routes_with_linkdown", "1"),
        ("net.ipv6.conf.all.ignore_routes_with_linkdown", "1"),
        ("net.ipv6.conf.default.ignore_routes_with_linkdown", "1"),
        ("net.ipv6.conf.all.keep_addr_on_down", "1"),
        ("net.ipv6.conf.default.accept_dad", "0"),
        ("net.ipv6.conf.all.accept_dad", "0"),
    ] {
        netns.sysctl(key, value)?;
    }
    Ok(())
}

/// The `ip` commands that turn a link on at one of its ends: a router's or node's name, and the interface.
///
/// An IPv6 route to the far end of an unnumbered link is a command of its own: the kernel makes none when the link comes
/// up, and drops it when the link goes down.
pub fn link_up(topology: &Topology, place: &str, interface: &str) -> Vec<String> {
    let mut lines = vec![format!("link set {interface} up")];
    if topology.families.has(Family::V6)
        && let Some((_, far)) = unnumbered(topology, place, interface, Family::V6)
    {
        lines.push(format!("route replace {far}/128 dev {interface} metric 1"));
    }
    lines
}

/// The addresses of a link between a ToR and a node, seen from one of them: own, far end's.
fn unnumbered(topology: &Topology, place: &str, interface: &str, family: Family) -> Option<(IpAddr, IpAddr)> {
    for tor in topology.tors() {
        for node in topology.nodes_of(tor.rack) {
            let (of_tor, of_node) = (tor.address(family), node.address(family));
            if place == tor.name && interface == downlink(&node) {
                return Some((of_tor, of_node));
            }
            if place == node.name && interface == uplink(&tor) {
                return Some((of_node, of_tor));
            }
        }
    }
    None
}

fn address_line(own: IpAddr, rest: &str, interface: &str) -> String {
    let nodad = if own.is_ipv6() { " nodad" } else { "" };
    format!("addr add {own}{rest} dev {interface}{nodad}")
}

fn spine_lines(topology: &Topology, spine: &SpineSpec) -> Vec<String> {
    let mut lines = Vec::new();
    for tor in topology.tors() {
        for &family in topology.families.each() {
            let (address, _) = tor.link_to(spine, family);
            lines.push(address_line(address, &format!("/{}", family.bits() - 1), &tor.name));
        }
        lines.extend(link_up(topology, &spine.name, &tor.name));
    }
    lines
}

fn tor_lines(topology: &Topology, tor: &TorSpec) -> Vec<String> {
    let mut lines = Vec::new();
    for spine in topology.spines() {
        for &family in topology.families.each() {
            let (_, address) = tor.link_to(&spine, family);
            lines.push(address_line(address, &format!("/{}", family.bits() - 1), &spine.name));
        }
        lines.extend(link_up(topology, &tor.name, &spine.name));
    }
    for node in topology.nodes_of(tor.rack) {
        lines.extend(unnumbered_lines(topology, &tor.name, &downlink(&node)));
    }
    lines
}

fn node_lines(topology: &Topology, node: &NodeSpec) -> Vec<String> {
    let mut lines = Vec::new();
    for &family in topology.families.each() {
        lines.push(address_line(node.address(family), &format!("/{}", family.bits()), "lo"));
    }
    for tor in topology.tors_of(node.rack) {
        lines.extend(unnumbered_lines(topology, &node.name, &uplink(&tor)));
    }
    lines
}

fn unnumbered_lines(topology: &Topology, place: &str, interface: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for &family in topology.families.each() {
        if let Some((own, far)) = unnumbered(topology, place, interface, family) {
            lines.push(address_line(own, &format!(" peer {far}/{}", family.bits()), interface));
        }
    }
    lines.extend(link_up(topology, place, interface));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tor_is_connected_to_every_spine_and_to_every_node_of_its_rack() {
        let cables = cables(&Topology::default());
        assert_eq!(cables.len(), 2 * 4 + 4 * 2);
        let has = |left: (&str, &str), right: (&str, &str)| {
            cables.iter().any(|c| {
                (c.left.0.as_str(), c.left.1.as_str()) == left && (c.right.0.as_str(), c.right.1.as_str()) == right
            })
        };
        assert!(has(("spine2", "tor-b1"), ("tor-b1", "spine2")));
        assert!(has(("tor-b2", "node1"), ("node-b1", "uplink2")));
        assert!(!has(("tor-b2", "node1"), ("node-a1", "uplink2")));
    }
}
