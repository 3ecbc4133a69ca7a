use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_net::{Cidr, Family, LinkState, NextHop};

use super::io::{Hop, InterfaceAddress, LinkInfo};

/// The host's links and addresses, and what can be reached through them.
#[derive(Debug, Default)]
pub(super) struct Host {
    links: BTreeMap<u32, LinkInfo>,
    names: BTreeMap<String, u32>,
    addresses: BTreeMap<u32, BTreeMap<(IpAddr, Cidr), bool>>,
}

impl Host {
    /// Takes a link in and returns the one that had its index.
    pub(super) fn set_link(&mut self, link: LinkInfo) -> Option<LinkInfo> {
        let old = self.links.insert(link.index, link.clone());
        if let Some(old) = &old
            && self.names.get(&old.name) == Some(&old.index)
        {
            self.names.remove(&old.name);
        }
        self.names.insert(link.name, link.index);
        old
    }

    pub(super) fn remove_link(&mut self, index: u32) -> Option<LinkInfo> {
        self.addresses.remove(&index);
        let link = self.links.remove(&index)?;
        if self.names.get(&link.name) == Some(&index) {
            self.names.remove(&link.name);
        }
        Some(link)
    }

    /// Takes an address in and returns whether that changed anything.
    pub(super) fn set_address(&mut self, address: &InterfaceAddress) -> bool {
        let of_link = self.addresses.entry(address.interface).or_default();
        of_link.insert((address.addr, address.connected), address.usable) != Some(address.usable)
    }

    pub(super) fn remove_address(&mut self, interface: u32, addr: IpAddr, connected: Cidr) -> bool {
        self.addresses.get_mut(&interface).is_some_and(|of_link| of_link.remove(&(addr, connected)).is_some())
    }

    pub(super) fn link(&self, name: &str) -> Option<&LinkInfo> {
        self.links.get(self.names.get(name)?)
    }

    pub(super) fn link_by_index(&self, index: u32) -> Option<&LinkInfo> {
        self.links.get(&index)
    }

    /// Tells whether the host can send from the address.
    pub(super) fn has_usable(&self, addr: IpAddr) -> bool {
        self.addresses.values().flatten().any(|((found, _), usable)| *usable && *found == addr)
    }

    /// Tells whether an interface has the address.
    pub(super) fn has_on(&self, interface: u32, addr: IpAddr) -> bool {
        self.addresses.get(&interface).into_iter().flatten().any(|((found, _), _)| *found == addr)
    }

    /// An interface's addresses that are alone in their prefix, without link-local ones.
    pub(super) fn single_addresses(&self, interface: u32) -> impl Iterator<Item = IpAddr> {
        let of_link = self.addresses.get(&interface).into_iter().flatten();
        let single = of_link.filter(|((addr, connected), _)| connected.is_host() && !is_link_local(*addr));
        single.map(|((addr, _), _)| *addr)
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &LinkInfo> {
        self.links.values()
    }

    /// Tells whether the address is on a loopback that is not left out.
    pub(super) fn has_on_loopback(&self, addr: IpAddr, is_left_out: impl Fn(&str) -> bool) -> bool {
        self.links.values().filter(|link| link.loopback && link.up && !is_left_out(&link.name)).any(|link| {
            let of_link = self.addresses.get(&link.index);
            of_link.is_some_and(|of_link| of_link.iter().any(|((found, _), usable)| *usable && *found == addr))
        })
    }

    /// What the speaker is told of an interface; one that isn't there is not running and has no addresses.
    pub(super) fn state(&self, name: &str) -> LinkState {
        let link = self.link(name);
        let addresses = link.and_then(|link| self.addresses.get(&link.index)).into_iter().flatten();
        LinkState {
            interface: name.to_owned(),
            running: link.is_some_and(|link| link.running),
            addresses: addresses.filter(|(_, usable)| **usable).map(|(address, _)| *address).collect(),
        }
    }

    /// Finds how the next hops are reached; those that can't be reached are left out.
    pub(super) fn resolve(&self, next_hops: &BTreeSet<NextHop>) -> BTreeSet<Hop> {
        next_hops.iter().filter_map(|next_hop| self.resolve_one(next_hop)).collect()
    }

    /// Finds the running link with the longest prefix that has the gateway.
    pub(super) fn hop_to(&self, gateway: IpAddr) -> Option<Hop> {
        self.resolve_one(&NextHop::via(gateway))
    }

    fn resolve_one(&self, next_hop: &NextHop) -> Option<Hop> {
        let addr = next_hop.addr;
        if self.addresses.values().flatten().any(|((own, _), _)| *own == addr) {
            return None;
        }
        let hop = |interface, onlink| Some(Hop { gateway: Some(addr), interface, onlink, weight: 1 });
        if let Some(name) = &next_hop.interface {
            let link = self.link(name).filter(|link| link.running)?;
            let connected = self.addresses.get(&link.index).into_iter().flatten();
            let on_link = is_link_local(addr) || connected.into_iter().any(|((_, prefix), _)| prefix.contains(addr));
            return hop(link.index, !on_link);
        }
        if is_link_local(addr) {
            return None;
        }
        let running = self.links.values().filter(|link| link.running);
        let connected = running.flat_map(|link| {
            let of_link = self.addresses.get(&link.index).into_iter().flatten();
            of_link.map(|((_, prefix), _)| (prefix.len(), std::cmp::Reverse(link.index), *prefix))
        });
        let (_, std::cmp::Reverse(index), _) = connected.filter(|(_, _, prefix)| prefix.contains(addr)).max()?;
        hop(index, false)
    }
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(_) => false,
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}

/// The first of the node's addresses of a family that the host can send from.
pub(super) fn source(host: &Host, node_addresses: &BTreeSet<IpAddr>, family: Family) -> Option<IpAddr> {
    node_addresses.iter().copied().find(|addr| Family::of(*addr) == family && host.has_usable(*addr))
}
