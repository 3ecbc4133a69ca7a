use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_net::{Cidr, Mac};

use super::BGP;
use super::io::{Counts, Hop, KernelNeighbour, KernelRoute, Object, Target};

/// What the kernel holds, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    routes: BTreeMap<(Cidr, u32), KernelRoute>,
    neighbours: BTreeMap<(IpAddr, u32), Mac>,
    /// The prefixes of routes other than BGP's by interface: pod interfaces come and go beside a large BGP table.
    local: BTreeMap<u32, BTreeSet<(Cidr, u32)>>,
}

impl Kernel {
    pub(super) fn route(&self, prefix: Cidr, metric: u32) -> Option<&KernelRoute> {
        self.routes.get(&(prefix, metric))
    }

    /// All routes of a prefix.
    pub(super) fn routes_of(&self, prefix: Cidr) -> impl Iterator<Item = &KernelRoute> {
        self.routes.range((prefix, 0)..=(prefix, u32::MAX)).map(|(_, route)| route)
    }

    pub(super) fn prefixes(&self) -> impl Iterator<Item = Cidr> {
        self.routes.keys().map(|(prefix, _)| *prefix)
    }

    pub(super) fn routes(&self) -> impl Iterator<Item = &KernelRoute> {
        self.routes.values()
    }

    /// Notes a route and returns whether that is news.
    pub(super) fn set(&mut self, route: KernelRoute) -> bool {
        let key = (route.prefix, route.metric);
        if self.routes.get(&key) == Some(&route) {
            return false;
        }
        self.remove(key.0, key.1);
        if route.protocol != BGP
            && let Target::Via(hops) = &route.target
        {
            for hop in hops {
                self.local.entry(hop.interface).or_default().insert(key);
            }
        }
        self.routes.insert(key, route);
        true
    }

    pub(super) fn remove(&mut self, prefix: Cidr, metric: u32) -> Option<KernelRoute> {
        let route = self.routes.remove(&(prefix, metric))?;
        if route.protocol != BGP
            && let Target::Via(hops) = &route.target
        {
            for hop in hops {
                if let Some(keys) = self.local.get_mut(&hop.interface) {
                    keys.remove(&(prefix, metric));
                    if keys.is_empty() {
                        self.local.remove(&hop.interface);
                    }
                }
            }
        }
        Some(route)
    }

    /// Notes that a route went, or (IPv6) that some of its next hops went; returns whether that is news.
    pub(super) fn note_gone(&mut self, gone: &KernelRoute) -> bool {
        let Some(route) = self.routes.get(&(gone.prefix, gone.metric)) else { return false };
        if route.protocol != gone.protocol {
            return false;
        }
        let left: BTreeSet<Hop> = match (&route.target, &gone.target) {
            (Target::Via(hops), Target::Via(without)) => hops.difference(without).cloned().collect(),
            _ => BTreeSet::new(),
        };
        let is_part = matches!((&route.target, &gone.target), (Target::Via(hops), Target::Via(without))
            if !left.is_empty() && without.is_subset(hops) && !without.is_empty());
        if is_part {
            let rest = KernelRoute { target: Target::Via(left), ..route.clone() };
            return self.set(rest);
        }
        self.remove(gone.prefix, gone.metric).is_some()
    }

    /// The routes that go through an interface; of BGP's only if asked, since there may be very many.
    pub(super) fn using(&self, interface: u32, with_bgp: bool) -> BTreeSet<(Cidr, u32)> {
        let mut keys = self.local.get(&interface).cloned().unwrap_or_default();
        if with_bgp {
            let bgp = self.routes.iter().filter(|(_, route)| route.protocol == BGP && route.uses(interface));
            keys.extend(bgp.map(|(key, _)| *key));
        }
        keys
    }

    pub(super) fn neighbours_of(&self, addr: IpAddr) -> impl Iterator<Item = KernelNeighbour> {
        self.neighbours.range((addr, 0)..=(addr, u32::MAX)).map(|((addr, interface), mac)| KernelNeighbour {
            interface: *interface,
            addr: *addr,
            mac: *mac,
        })
    }

    pub(super) fn neighbour_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.neighbours.keys().map(|(addr, _)| *addr)
    }

    /// Notes a neighbour entry, or (`None`) that there is none, and returns whether that is news.
    pub(super) fn set_neighbour(&mut self, interface: u32, addr: IpAddr, mac: Option<Mac>) -> bool {
        match mac {
            Some(mac) => self.neighbours.insert((addr, interface), mac) != Some(mac),
            None => self.neighbours.remove(&(addr, interface)).is_some(),
        }
    }

    /// Notes that an interface lost all its neighbours and returns their addresses.
    pub(super) fn drop_neighbours(&mut self, interface: u32) -> Vec<IpAddr> {
        let gone: Vec<_> = self.neighbours.keys().filter(|(_, of)| *of == interface).map(|(addr, _)| *addr).collect();
        for addr in &gone {
            self.neighbours.remove(&(*addr, interface));
        }
        gone
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for object in self.routes.values().filter_map(|route| Object::of(route.protocol)) {
            *counts.entry(object).or_default() += 1;
        }
        if !self.neighbours.is_empty() {
            counts.insert(Object::Neighbour, self.neighbours.len() as u64);
        }
        counts
    }
}
