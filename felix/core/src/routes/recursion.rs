//! The ways to next hops that are on no link: the speaker asks, the host's own routes answer.
//!
//! Routes that came by BGP take no part, so that no next hop is reached through itself. The host's routes are listed once
//! somebody asks, and followed by the kernel's events from there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_net::{Cidr, Family, FromFelix, NextHop, ResolvedNextHop};

use super::host::Host;
use super::io::{Hop, KernelRoute, Target};

/// What is asked, what was answered, and the routes to answer from.
#[derive(Debug, Default)]
pub(super) struct Recursion {
    /// Each with the last answer; absent where there was none.
    asked: BTreeMap<IpAddr, Option<Option<ResolvedNextHop>>>,
    /// The main table's routes of other protocols than ours. IPv6 may have several of one prefix and metric.
    routes: BTreeMap<(Cidr, u32), Vec<KernelRoute>>,
    /// `routes` was listed and followed since.
    listed: bool,
    /// An answer may be another one.
    dirty: bool,
}

impl Recursion {
    /// Takes the whole set of addresses to answer for, and returns whether the host's routes have to be listed first.
    pub(super) fn ask(&mut self, addresses: &BTreeSet<IpAddr>) -> bool {
        self.asked.retain(|address, _| addresses.contains(address));
        for &address in addresses {
            self.asked.entry(address).or_default();
        }
        if self.asked.is_empty() {
            self.routes.clear();
            self.listed = false;
        }
        self.dirty = true;
        !self.asked.is_empty() && !self.listed
    }

    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }

    pub(super) fn is_asked(&self, address: IpAddr) -> bool {
        self.asked.contains_key(&address)
    }

    /// Has all answers looked at again.
    pub(super) fn review(&mut self) {
        self.dirty = true;
    }

    /// Takes the whole list of the host's routes.
    pub(super) fn list(&mut self, routes: Vec<KernelRoute>) {
        self.routes.clear();
        self.listed = !self.asked.is_empty();
        self.dirty = true;
        if self.listed {
            for route in routes.into_iter().filter(|route| !route.is_ours()) {
                self.routes.entry((route.prefix, route.metric)).or_default().push(route);
            }
        }
    }

    /// Notes a route that came or went, and returns whether all have to be listed, since the event does not say what is
    /// left.
    pub(super) fn note(&mut self, route: &KernelRoute, gone: bool) -> bool {
        if !self.listed || route.is_ours() {
            return false;
        }
        let key = (route.prefix, route.metric);
        let known = self.routes.entry(key).or_default();
        let is_clear = if gone {
            let before = known.len();
            known.retain(|other| other.protocol != route.protocol || other.target != route.target);
            known.len() < before || known.is_empty()
        } else if known.contains(route) {
            return false;
        } else {
            // An IPv4 route takes the place of the one with its prefix and metric; an IPv6 one may stand beside it.
            let is_clear = known.is_empty() || route.prefix.family() == Family::V4;
            known.clear();
            known.push(route.clone());
            is_clear
        };
        if known.is_empty() {
            self.routes.remove(&key);
        }
        self.dirty |= self.asked.keys().any(|&address| route.prefix.contains(address));
        !is_clear
    }

    /// Tells whether some route of the host goes through an interface.
    pub(super) fn uses(&self, interface: u32) -> bool {
        self.routes.values().flatten().any(|route| route.uses(interface))
    }

    /// Takes the routes that are left through an interface.
    pub(super) fn inspected(&mut self, interface: u32, left: &[KernelRoute]) {
        for routes in self.routes.values_mut() {
            routes.retain(|route| !route.uses(interface) || left.contains(route));
        }
        self.routes.retain(|_, routes| !routes.is_empty());
        self.dirty = true;
    }

    /// Returns the next answer that is another one than the last; `own` finds the node's own way to an address, with the
    /// length of its prefix.
    pub(super) fn next_answer(
        &mut self,
        host: &Host,
        own: impl Fn(IpAddr) -> Option<(u8, Option<ResolvedNextHop>)>,
    ) -> Option<FromFelix> {
        if !self.dirty || !self.listed {
            return None;
        }
        for (&address, told) in &mut self.asked {
            let resolved = resolve(&self.routes, host, address, own(address));
            if told.as_ref() != Some(&resolved) {
                *told = Some(resolved.clone());
                return Some(FromFelix::NextHop { address, resolved });
            }
        }
        self.dirty = false;
        None
    }
}

/// Finds the way to an address as the kernel does: the longest prefix with a way, and of those the least metric.
fn resolve(
    routes: &BTreeMap<(Cidr, u32), Vec<KernelRoute>>,
    host: &Host,
    address: IpAddr,
    own: Option<(u8, Option<ResolvedNextHop>)>,
) -> Option<ResolvedNextHop> {
    for len in (0..=Family::of(address).bits()).rev() {
        if let Some((own_len, way)) = &own
            && *own_len == len
        {
            return way.clone();
        }
        let Ok(prefix) = Cidr::truncated(address, len) else { continue };
        for (&(_, metric), of_prefix) in routes.range((prefix, 0)..=(prefix, u32::MAX)) {
            for route in of_prefix {
                match &route.target {
                    Target::Via(hops) => {
                        let next_hops: BTreeSet<NextHop> =
                            hops.iter().filter_map(|hop| next_hop(host, hop, address)).collect();
                        if !next_hops.is_empty() {
                            return Some(ResolvedNextHop { next_hops, metric });
                        }
                    }
                    // The host drops what goes there.
                    Target::Blackhole | Target::Other(_) => return None,
                }
            }
        }
    }
    None
}

/// Returns where a hop leads to; nothing where its link does not run or is the loopback.
fn next_hop(host: &Host, hop: &Hop, address: IpAddr) -> Option<NextHop> {
    let link = host.link_by_index(hop.interface).filter(|link| link.running && !link.loopback)?;
    Some(NextHop { addr: hop.gateway.unwrap_or(address), interface: Some(link.name.clone()) })
}
