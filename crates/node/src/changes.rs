//! From what changed in the caches to what felix is told, as values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_felix_agent::{LocalEndpoint, ToFelix};
use margay_net::Cidr;

use crate::cluster::{Cluster, Dirty};

/// What felix was told so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The interface of each local endpoint, by key.
    interfaces: BTreeMap<String, String>,
    blocks: BTreeSet<Cidr>,
    borrowed: BTreeSet<Cidr>,
    node_addresses: Vec<IpAddr>,
    in_sync: bool,
}

impl Told {
    /// What felix must hear: policy before the endpoints that need it, blocks before what lies in them, and at the first
    /// time, when all of that was sent, that it is in sync.
    pub(crate) fn changes(&mut self, cluster: &mut Cluster, dirty: &Dirty) -> Vec<ToFelix> {
        let mut out = Vec::new();
        let policy = cluster.policy.changes();
        if !policy.is_empty() {
            out.push(ToFelix::Policy(policy));
        }
        if dirty.node {
            self.node_addresses(cluster, &mut out);
        }
        if dirty.blocks || !dirty.endpoints.is_empty() {
            self.blocks(cluster, &mut out);
        }
        for key in &dirty.endpoints {
            self.endpoint(cluster, key, &mut out);
        }
        if !self.in_sync {
            self.in_sync = true;
            out.push(ToFelix::InSync);
        }
        out
    }

    /// A resource that is gone, or lost its addresses, is put right by registration soon: until then the last ones stay,
    /// for without them routes would lose their source and the node's own address would be withdrawn.
    fn node_addresses(&mut self, cluster: &Cluster, out: &mut Vec<ToFelix>) {
        let addresses = cluster.node_addresses();
        if !addresses.is_empty() && addresses != self.node_addresses {
            self.node_addresses.clone_from(&addresses);
            out.push(ToFelix::NodeAddresses(addresses));
        }
    }

    /// Own blocks, and the addresses of local endpoints that lie outside of them.
    fn blocks(&mut self, cluster: &Cluster, out: &mut Vec<ToFelix>) {
        let blocks = &*cluster.own_blocks;
        if *blocks != self.blocks {
            self.blocks.clone_from(blocks);
            out.push(ToFelix::OwnBlocks(blocks.clone()));
        }
        let addresses = cluster.local_endpoints.values().flat_map(|(_, endpoint)| &endpoint.spec.ip_networks);
        let is_borrowed = |address: &Cidr| !blocks.iter().any(|block| block.covers(*address));
        let borrowed: BTreeSet<Cidr> = addresses.copied().filter(is_borrowed).collect();
        if borrowed != self.borrowed {
            self.borrowed.clone_from(&borrowed);
            out.push(ToFelix::BorrowedAddresses(borrowed));
        }
    }

    fn endpoint(&mut self, cluster: &Cluster, key: &str, out: &mut Vec<ToFelix>) {
        let present = cluster.local_endpoints.get(key).map(|(_, endpoint)| {
            let addresses = endpoint.spec.ip_networks.iter().map(|network| network.addr()).collect();
            (endpoint.spec.interface_name.clone(), LocalEndpoint { addresses, mac: endpoint.spec.mac })
        });
        let before = match &present {
            Some((interface, _)) => self.interfaces.insert(key.to_owned(), interface.clone()),
            None => self.interfaces.remove(key),
        };
        if let Some(before) = before
            && present.as_ref().is_none_or(|(interface, _)| *interface != before)
        {
            out.push(ToFelix::Endpoint { interface: before, endpoint: None });
        }
        if let Some((interface, endpoint)) = present {
            out.push(ToFelix::Endpoint { interface, endpoint: Some(endpoint) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Watched;
    use margay_api::kinds::{Node, NodeBgp, NodeSpec, WorkloadEndpoint, WorkloadEndpointSpec};
    use margay_api::{Object, Stored};
    use margay_datastore::{KeyValue, Revision};
    use margay_ipam_core::{AffinityState, BlockAffinity, keys};

    /// The order of messages, by the name of each.
    fn told(told: &mut Told, cluster: &mut Cluster) -> Vec<String> {
        let dirty = std::mem::take(&mut cluster.dirty);
        let changes = told.changes(cluster, &dirty);
        changes
            .iter()
            .map(|change| match change {
                ToFelix::Policy(_) => "policy".to_owned(),
                ToFelix::NodeAddresses(addresses) => format!("addresses {addresses:?}"),
                ToFelix::OwnBlocks(blocks) => format!("blocks {blocks:?}"),
                ToFelix::BorrowedAddresses(borrowed) => format!("borrowed {borrowed:?}"),
                ToFelix::Endpoint { interface, endpoint } => format!("{interface} {}", endpoint.is_some()),
                ToFelix::InSync => "in sync".to_owned(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    fn endpoint(container_id: &str, interface: &str, address: &str) -> WorkloadEndpoint {
        let spec = WorkloadEndpointSpec {
            node: "n1".to_owned(),
            container_id: container_id.to_owned(),
            interface_name: interface.to_owned(),
            ip_networks: vec![address.parse().expect("a prefix")],
            ..WorkloadEndpointSpec::default()
        };
        Object::namespaced("shop", "n1-k8s-web-eth0", spec)
    }

    fn node(address: Option<&str>) -> Vec<u8> {
        let bgp = NodeBgp { ipv4_address: address.map(str::to_owned), ..NodeBgp::default() };
        Stored::new(Node::named("n1", NodeSpec { bgp: Some(bgp), ..NodeSpec::default() })).encode()
    }

    fn put(cluster: &mut Cluster, watched: Watched, key: &str, value: Vec<u8>) {
        cluster.put(watched, &KeyValue { key: key.to_owned(), value, revision: Revision::new(1) });
        assert!(cluster.invalid.is_empty(), "{:?}", cluster.invalid);
    }

    const NODE: &str = "/calico/resources/v3/projectcalico.org/nodes/n1";

    #[test]
    fn everything_known_is_told_before_in_sync_and_blocks_before_endpoints() {
        let (mut sent, mut cluster) = (Told::default(), Cluster::new("n1"));
        put(&mut cluster, Watched::Nodes, NODE, node(Some("10.0.0.1/32")));
        cluster.put_local("/x", Revision::new(1), endpoint("c1", "cali1", "10.65.0.1/32"));
        let block: Cidr = "10.65.0.0/26".parse().expect("a prefix");
        let affinity = BlockAffinity::in_state(AffinityState::Confirmed).encode();
        put(&mut cluster, Watched::Affinities, &keys::affinity("n1", block), affinity);
        let all = told(&mut sent, &mut cluster);
        let position = |start: &str| all.iter().position(|line| line.starts_with(start)).expect(start);
        assert!(position("addresses") < position("in sync"), "{all:?}");
        assert!(position("blocks") < position("cali1 true"), "{all:?}");
        assert_eq!(all.last().map(String::as_str), Some("in sync"));
        assert!(position("policy") == 0 && !all.iter().any(|line| line.starts_with("borrowed")), "{all:?}");
        assert!(told(&mut sent, &mut cluster).is_empty());
    }

    #[test]
    fn a_node_resource_without_addresses_takes_none_away() {
        let (mut sent, mut cluster) = (Told::default(), Cluster::new("n1"));
        put(&mut cluster, Watched::Nodes, NODE, node(None));
        assert!(!told(&mut sent, &mut cluster).iter().any(|line| line.starts_with("addresses")));
        put(&mut cluster, Watched::Nodes, NODE, node(Some("10.0.0.1/32")));
        assert_eq!(told(&mut sent, &mut cluster), ["addresses [10.0.0.1]"]);
        put(&mut cluster, Watched::Nodes, NODE, node(None));
        cluster.delete(Watched::Nodes, NODE, Revision::new(9));
        assert!(told(&mut sent, &mut cluster).is_empty());
    }

    #[test]
    fn an_address_outside_of_own_blocks_is_borrowed() {
        let (mut sent, mut cluster) = (Told::default(), Cluster::new("n1"));
        cluster.put_local("/x", Revision::new(1), endpoint("c1", "cali1", "10.65.9.9/32"));
        assert!(
            told(&mut sent, &mut cluster).iter().any(|line| line.starts_with("borrowed") && line.contains("10.65.9.9"))
        );
    }

    #[test]
    fn a_name_that_is_used_again_in_one_step_is_told_once_as_it_is_at_the_end() {
        let (mut sent, mut cluster) = (Told::default(), Cluster::new("n1"));
        cluster.put_local("/x", Revision::new(1), endpoint("c1", "cali1", "10.65.0.1/32"));
        told(&mut sent, &mut cluster);
        cluster.drop_local("/x", "c1", Some(Revision::new(1)));
        cluster.put_local("/x", Revision::new(3), endpoint("c2", "cali1", "10.65.0.2/32"));
        let again = told(&mut sent, &mut cluster);
        assert_eq!(again.iter().filter(|line| line.starts_with("cali1")).collect::<Vec<_>>(), ["cali1 true"]);
        cluster.drop_local("/x", "c2", Some(Revision::new(3)));
        let gone = told(&mut sent, &mut cluster);
        assert!(gone.contains(&"cali1 false".to_owned()), "{gone:?}");
    }
}
