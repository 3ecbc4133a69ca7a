//! What BGP asks of the host: guarded services, ways to peers, addresses for workloads that peer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use margay_net::{Cidr, Instant};

use super::PEER;
use super::host_routes::HostRoutes;
use super::io::{InterfaceAddress, KernelOp, KernelRoute, LinkInfo, Object, Output};
use super::reconciler::RouteReconciler;

impl RouteReconciler {
    /// Puts the whole in place, and has compared what differs from the one before.
    pub(super) fn set_for_bgp(&mut self, new: HostRoutes) {
        let old = std::mem::replace(&mut self.for_bgp, new);
        let new = &self.for_bgp;
        let mut changed = BTreeSet::new();
        if !std::mem::replace(&mut self.for_bgp_told, true) {
            changed.extend(self.kernel.routes().filter(|route| route.protocol == PEER).map(|route| route.prefix));
            self.peering_links.extend(self.host.links().map(|link| link.index));
        }
        let peers: BTreeSet<_> = old.reachable_by.keys().chain(new.reachable_by.keys()).copied().collect();
        let moved = peers.into_iter().filter(|peer| old.reachable_by.get(peer) != new.reachable_by.get(peer));
        changed.extend(moved.map(Cidr::host));
        if old.not_programmed != new.not_programmed {
            changed
                .extend(self.fib.prefixes().filter(|prefix| old.is_programmed(*prefix) != new.is_programmed(*prefix)));
        }
        let interfaces: BTreeSet<_> = old.workload_peers.keys().chain(new.workload_peers.keys()).collect();
        let links: Vec<_> = interfaces.into_iter().filter_map(|name| Some(self.host.link(name)?.index)).collect();
        self.peering_links.extend(links);
        changed.into_iter().for_each(|prefix| self.mark(prefix));
        self.recursion.review();
        self.review = true;
    }

    /// The host route to a peer by its gateway; `None` while no link that runs has a prefix with the gateway.
    pub(super) fn peer_route(&self, prefix: Cidr, gateway: IpAddr) -> Option<KernelRoute> {
        Some(KernelRoute::peer(prefix, self.host.hop_to(gateway)?))
    }

    /// What is asked for and can't be done before something else comes, in words.
    pub fn waiting(&self) -> impl Iterator<Item = String> {
        let gateways = self.for_bgp.reachable_by.iter().filter(|(_, gateway)| self.host.hop_to(**gateway).is_none());
        gateways.map(|(peer, gateway)| {
            format!("the route to peer {peer} waits for its gateway {gateway}, which is on no link that runs")
        })
    }

    /// Has all host routes to peers compared.
    pub(super) fn mark_peer_routes(&mut self) {
        let prefixes: Vec<_> = self.for_bgp.reachable_by.keys().copied().map(Cidr::host).collect();
        prefixes.into_iter().for_each(|prefix| self.mark(prefix));
    }

    /// Asks for another guard where the one that was asked for is not of the services.
    pub(super) fn next_guard(&mut self) -> Option<Output> {
        if self.guard_asked == self.for_bgp.services {
            return None;
        }
        self.guard_asked.clone_from(&self.for_bgp.services);
        Some(Output::GuardServices(self.guard_asked.clone()))
    }

    pub(super) fn set_guarded(&mut self, guarded: BTreeSet<Cidr>) {
        self.guarded = guarded;
        self.review = true;
    }

    /// What the pods' links lack or have too much of addresses; nothing before it was told what BGP needs.
    pub(super) fn address_ops(&mut self) -> Vec<KernelOp> {
        let links = std::mem::take(&mut self.peering_links);
        let mut ops = Vec::new();
        for index in links.into_iter().filter(|_| self.for_bgp_told) {
            let Some(link) = self.host.link_by_index(index).filter(|link| self.is_pod(&link.name)) else { continue };
            let wanted: BTreeSet<IpAddr> = self.for_bgp.addresses_on(&link.name).collect();
            // The links of pods are the node's own, so that an address of one that nobody asks for was put there for a
            // workload that peers no longer. Others than single addresses are left alone, and so are link-local ones.
            let held: BTreeSet<IpAddr> = self.host.single_addresses(index).collect();
            ops.extend(held.difference(&wanted).map(|addr| KernelOp::DeleteAddress { interface: index, addr: *addr }));
            if link.up {
                let missing = wanted.into_iter().filter(|addr| !self.host.has_on(index, *addr));
                ops.extend(missing.map(|addr| KernelOp::AddAddress { interface: index, addr }));
            }
        }
        ops
    }

    /// Notes how an address operation ended.
    pub(super) fn address_done(&mut self, op: &KernelOp, refusal: Option<String>, now: Instant) {
        let (&interface, &addr, present) = match op {
            KernelOp::AddAddress { interface, addr } => (interface, addr, true),
            KernelOp::DeleteAddress { interface, addr } => (interface, addr, false),
            _ => return,
        };
        match refusal {
            Some(reason) => _ = self.address_failures.note((interface, addr), format!("{op}: {reason}"), now),
            None => {
                self.address_failures.clear((interface, addr));
                let connected = Cidr::host(addr);
                if present {
                    self.host.set_address(&InterfaceAddress { interface, addr, connected, usable: true });
                } else {
                    self.host.remove_address(interface, addr, connected);
                }
            }
        }
    }

    /// Has a pod's link looked at whose addresses changed. `lost`: one that went; if the link is up, the kernel did not take
    /// it by itself.
    pub(super) fn pod_addresses_changed(&mut self, link: &LinkInfo, lost: Option<IpAddr>) {
        self.peering_links.insert(link.index);
        let is_wanted = |lost| self.for_bgp.addresses_on(&link.name).any(|addr| addr == lost);
        if link.up && self.is_started() && lost.is_some_and(is_wanted) {
            *self.drift.entry(Object::Address).or_default() += 1;
        }
    }

    /// The addresses that workloads peer with and that their links have.
    pub(super) fn peering_addresses(&self) -> u64 {
        let all = self.for_bgp.workload_peers.iter().flat_map(|(name, addresses)| {
            let link = self.host.link(name);
            addresses.iter().filter(move |addr| link.is_some_and(|link| self.host.has_on(link.index, **addr)))
        });
        all.count() as u64
    }

    /// Tells whether host routes to peers go through an interface.
    pub(super) fn has_peer_routes_on(&self, interface: u32) -> bool {
        let mut prefixes = self.for_bgp.reachable_by.keys().copied().map(Cidr::host);
        prefixes.any(|prefix| self.kernel.routes_of(prefix).any(|route| route.uses(interface)))
    }
}
