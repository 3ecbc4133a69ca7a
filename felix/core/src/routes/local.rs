use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_net::Cidr;

use super::io::LocalEndpoint;

/// The pods and blocks of this node.
#[derive(Debug, Default)]
pub(super) struct Local {
    endpoints: BTreeMap<String, LocalEndpoint>,
    /// The interfaces that claim an address: one, unless the datastore holds a conflict.
    owners: BTreeMap<IpAddr, BTreeSet<String>>,
    blocks: BTreeSet<Cidr>,
    pub(super) borrowed: BTreeSet<Cidr>,
}

impl Local {
    /// Puts an endpoint in or (`None`) out, and returns the addresses that this touches.
    pub(super) fn set_endpoint(&mut self, interface: &str, endpoint: Option<LocalEndpoint>) -> BTreeSet<IpAddr> {
        let old = match &endpoint {
            Some(endpoint) => self.endpoints.insert(interface.to_owned(), endpoint.clone()),
            None => self.endpoints.remove(interface),
        };
        let old = old.map(|endpoint| endpoint.addresses).unwrap_or_default();
        let new = endpoint.map(|endpoint| endpoint.addresses).unwrap_or_default();
        for addr in old.difference(&new) {
            if let Some(owners) = self.owners.get_mut(addr) {
                owners.remove(interface);
                if owners.is_empty() {
                    self.owners.remove(addr);
                }
            }
        }
        for addr in new.difference(&old) {
            self.owners.entry(*addr).or_default().insert(interface.to_owned());
        }
        old.union(&new).copied().collect()
    }

    /// Puts the set of blocks in place and returns those that came or went.
    pub(super) fn set_blocks(&mut self, blocks: BTreeSet<Cidr>) -> BTreeSet<Cidr> {
        let changed = self.blocks.symmetric_difference(&blocks).copied().collect();
        self.blocks = blocks;
        changed
    }

    pub(super) fn endpoint(&self, interface: &str) -> Option<&LocalEndpoint> {
        self.endpoints.get(interface)
    }

    /// The interfaces whose pods claim the address, by name.
    pub(super) fn owners(&self, addr: IpAddr) -> impl Iterator<Item = &str> {
        self.owners.get(&addr).into_iter().flatten().map(String::as_str)
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.owners.keys().copied()
    }

    pub(super) fn blocks(&self) -> &BTreeSet<Cidr> {
        &self.blocks
    }

    /// Tells whether the prefix is a pod's address or an own block: then it isn't BGP's.
    pub(super) fn has(&self, prefix: Cidr) -> bool {
        self.blocks.contains(&prefix) || (prefix.is_host() && self.owners.contains_key(&prefix.addr()))
    }
}
