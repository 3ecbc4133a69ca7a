//! What follows from a change of links and addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use margay_net::{Cidr, Family, Instant};

use super::RouteReconciler;
use super::host::source;
use super::io::{InterfaceAddress, LinkInfo, Output, Target};

impl RouteReconciler {
    pub(super) fn link(&mut self, link: LinkInfo, now: Instant) {
        let old = self.host.set_link(link.clone());
        if old.as_ref() == Some(&link) {
            return;
        }
        if let Some(old) = old {
            let with_bgp = !self.is_pod(&link.name);
            let is_used = !self.kernel.using(link.index, with_bgp).is_empty() || self.recursion.uses(link.index);
            if old.up != link.up && is_used {
                // IPv4 routes go silently when an interface is set down. Looking costs the kernel a walk over all routes.
                self.queue.push_back(Output::Inspect { interface: link.index });
            }
            if old.up && !link.up {
                for addr in self.kernel.drop_neighbours(link.index) {
                    self.mark(Cidr::host(addr));
                }
            }
            if old.name != link.name {
                self.link_changed(&old.name, now);
            }
        }
        self.link_changed(&link.name, now);
    }

    pub(super) fn link_gone(&mut self, index: u32, now: Instant) {
        let Some(link) = self.host.remove_link(index) else { return };
        self.recursion.inspected(index, &[]);
        for addr in self.kernel.drop_neighbours(index) {
            self.mark(Cidr::host(addr));
        }
        for (prefix, metric) in self.kernel.using(index, !self.is_pod(&link.name)) {
            let hops = match self.kernel.route(prefix, metric).map(|route| &route.target) {
                Some(Target::Via(hops)) => hops.len(),
                _ => 0,
            };
            if hops == 1 {
                self.kernel.remove(prefix, metric);
            } else {
                self.queue.push_back(Output::Resync);
            }
            self.mark(prefix);
        }
        self.link_changed(&link.name, now);
    }

    /// Looks again at everything that a link's name stands in.
    pub(super) fn link_changed(&mut self, name: &str, now: Instant) {
        self.recursion.review();
        if self.is_pod(name) {
            self.peering_links.extend(self.host.link(name).map(|link| link.index));
            let addresses = self.local.endpoint(name).map(|endpoint| endpoint.addresses.clone()).unwrap_or_default();
            addresses.into_iter().for_each(|addr| self.mark(Cidr::host(addr)));
        } else {
            self.changed_links.insert(name.to_owned());
            self.resolve();
            self.update_sources();
            self.mark_peer_routes();
            self.review = true;
        }
        self.retry(now, true);
    }

    pub(super) fn address(&mut self, address: &InterfaceAddress, now: Instant) {
        if self.host.set_address(address) {
            self.addresses_changed(address.interface, None, now);
        }
    }

    pub(super) fn addresses_changed(&mut self, interface: u32, lost: Option<IpAddr>, now: Instant) {
        if self.recursion.uses(interface) || self.has_peer_routes_on(interface) {
            // IPv4 routes go silently with the address that they need.
            self.queue.push_back(Output::Inspect { interface });
        }
        if let Some(link) = self.host.link_by_index(interface) {
            let link = link.clone();
            if self.is_pod(&link.name) {
                self.pod_addresses_changed(&link, lost);
            } else {
                self.link_changed(&link.name, now);
            }
        }
    }

    pub(super) fn resolve(&mut self) {
        let mut dirty = BTreeSet::new();
        self.fib.resolve(&self.host, &mut dirty);
        dirty.into_iter().for_each(|prefix| self.mark(prefix));
    }

    pub(super) fn update_sources(&mut self) {
        for family in Family::ALL {
            let new = source(&self.host, &self.config.node_addresses, family);
            let old = match new {
                Some(addr) => self.sources.insert(family, addr),
                None => self.sources.remove(&family),
            };
            if old != new {
                let of_family: Vec<_> = self.fib.prefixes().filter(|prefix| prefix.family() == family).collect();
                of_family.into_iter().for_each(|prefix| self.mark(prefix));
            }
        }
    }
}
