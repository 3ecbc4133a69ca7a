//! Who owns which part of the pools, for the speaker's guard: from block affinities, workload endpoints and nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use margay_api::kinds::{BgpConfigurationSpec, IpPool, Node};
use margay_bgp_core::{Owner, Ownership};
use margay_net::{Asn, Cidr, PrefixMap};

use crate::bgp_config;

/// What decides.
pub(crate) struct Sources<'a, E> {
    pub(crate) pools: &'a BTreeMap<String, IpPool>,
    pub(crate) nodes: &'a BTreeMap<String, Node>,
    pub(crate) config: &'a BgpConfigurationSpec,
    /// The node that each block is affine to.
    pub(crate) blocks: &'a PrefixMap<Arc<str>>,
    /// The node of each endpoint, with the endpoint's addresses.
    pub(crate) endpoints: E,
}

/// Computes the table. An address that is used by another node than the one that its block is affine to is that node's:
/// a borrowed one. A block of a node that has no resource is nobody's. A node's own address, outside of the pools, is the
/// node's.
pub(crate) fn table<'a>(sources: Sources<'a, impl Iterator<Item = (&'a str, &'a [IpAddr])>>) -> Ownership {
    let owners = owners(sources.nodes, sources.config);
    let mut owned: BTreeMap<Cidr, Arc<Owner>> = BTreeMap::new();
    for (block, node) in sources.blocks.iter() {
        if let Some(owner) = owners.get(&**node) {
            owned.insert(block, owner.clone());
        }
    }
    for (node, addresses) in sources.endpoints {
        for &address in addresses {
            let at_home = sources.blocks.lookup(address).is_some_and(|(_, home)| **home == *node);
            if let Some(owner) = owners.get(node).filter(|_| !at_home) {
                owned.insert(Cidr::host(address), owner.clone());
            }
        }
    }
    let pools: BTreeSet<Cidr> = sources.pools.values().map(|pool| pool.spec.cidr).collect();
    for owner in owners.values() {
        let outside = |address: &&IpAddr| !pools.iter().any(|pool| pool.contains(**address));
        for &address in owner.addresses.iter().filter(outside) {
            owned.entry(Cidr::host(address)).or_insert_with(|| owner.clone());
        }
    }
    Ownership { pools, owned }
}

fn owners<'a>(nodes: &'a BTreeMap<String, Node>, config: &BgpConfigurationSpec) -> BTreeMap<&'a str, Arc<Owner>> {
    let mut nodes_of: BTreeMap<Asn, usize> = BTreeMap::new();
    for node in nodes.values() {
        *nodes_of.entry(bgp_config::node_asn(node, config)).or_default() += 1;
    }
    let owner = |node: &Node| {
        let asn = bgp_config::node_asn(node, config);
        Owner {
            node: node.name().to_owned(),
            addresses: bgp_config::addresses(node).collect::<BTreeSet<IpAddr>>(),
            router_id: Some(bgp_config::router_id(node)),
            asn: (nodes_of.get(&asn) == Some(&1)).then_some(asn),
        }
    };
    nodes.values().map(|node| (node.name(), Arc::new(owner(node)))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use margay_api::Object;
    use margay_api::kinds::{IpPoolSpec, NodeBgp, NodeSpec};

    fn nodes(all: &[(&str, u32, &str)]) -> BTreeMap<String, Node> {
        let node = |&(name, asn, address): &(&str, u32, &str)| {
            let bgp =
                NodeBgp { as_number: Some(Asn(asn)), ipv4_address: Some(address.to_owned()), ..NodeBgp::default() };
            (name.to_owned(), Object::named(name, NodeSpec { bgp: Some(bgp), ..NodeSpec::default() }))
        };
        all.iter().map(node).collect()
    }

    fn computed(nodes: &BTreeMap<String, Node>, blocks: &[(&str, &str)], endpoints: &[(&str, &str)]) -> Ownership {
        let spec = IpPoolSpec { cidr: "10.65.0.0/16".parse().unwrap(), ..IpPoolSpec::default() };
        let pools = BTreeMap::from([("pods".to_owned(), Object::named("pods", spec))]);
        let mut affine = PrefixMap::new();
        for (cidr, node) in blocks {
            affine.insert(cidr.parse().unwrap(), Arc::from(*node));
        }
        let addresses: Vec<(&str, [IpAddr; 1])> =
            endpoints.iter().map(|(node, address)| (*node, [address.parse().unwrap()])).collect();
        table(Sources {
            pools: &pools,
            nodes,
            config: &BgpConfigurationSpec::default(),
            blocks: &affine,
            endpoints: addresses.iter().map(|(node, addresses)| (*node, &addresses[..])),
        })
    }

    fn owner<'a>(table: &'a Ownership, prefix: &str) -> Option<&'a str> {
        table.owned.get(&prefix.parse().unwrap()).map(|owner| owner.node.as_str())
    }

    #[test]
    fn a_block_belongs_to_the_node_that_it_is_affine_to() {
        let nodes = nodes(&[("a", 64601, "10.0.0.1/24"), ("b", 64602, "10.0.0.2/24")]);
        let table = computed(&nodes, &[("10.65.0.0/26", "a"), ("10.65.0.64/26", "gone")], &[("a", "10.65.0.5")]);
        assert_eq!(owner(&table, "10.65.0.0/26"), Some("a"));
        assert_eq!(owner(&table, "10.65.0.64/26"), None);
        assert_eq!(owner(&table, "10.65.0.5/32"), None, "an address of the node's own block needs no entry");
        let owner = &table.owned[&"10.65.0.0/26".parse().unwrap()];
        assert_eq!(owner.addresses, BTreeSet::from(["10.0.0.1".parse().unwrap()]));
        assert_eq!((owner.asn, owner.router_id), (Some(Asn(64601)), "10.0.0.1".parse().ok()));
        assert_eq!(table.pools, BTreeSet::from(["10.65.0.0/16".parse().unwrap()]));
    }

    #[test]
    fn a_nodes_own_address_is_the_nodes_unless_it_lies_in_a_pool() {
        let nodes = nodes(&[("a", 64512, "10.0.0.1/24"), ("b", 64512, "10.65.0.1/24")]);
        let table = computed(&nodes, &[("10.65.0.0/26", "a")], &[]);
        assert_eq!(owner(&table, "10.0.0.1/32"), Some("a"));
        assert_eq!(owner(&table, "10.65.0.1/32"), None, "the allocator decides there");
        assert_eq!(table.owned.len(), 2);
    }

    #[test]
    fn a_borrowed_address_belongs_to_the_node_that_uses_it() {
        let nodes = nodes(&[("a", 64512, "10.0.0.1/24"), ("b", 64512, "10.0.0.2/24")]);
        let table = computed(&nodes, &[("10.65.0.0/26", "a")], &[("b", "10.65.0.7"), ("b", "10.65.9.9")]);
        assert_eq!(owner(&table, "10.65.0.7/32"), Some("b"));
        assert_eq!(owner(&table, "10.65.9.9/32"), Some("b"), "outside of any block, too");
        assert_eq!(table.owned[&"10.65.0.7/32".parse().unwrap()].asn, None, "the AS number is of both");
    }
}
