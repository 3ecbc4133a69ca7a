//! What the kernel should have.

use std::net::IpAddr;

use margay_net::{Cidr, NextHop, ResolvedNextHop};

use super::io::{KernelNeighbour, KernelRoute, Target};
use super::{METRIC, RouteReconciler};

impl RouteReconciler {
    /// The interface whose pod has the address. If several claim it, the first by name whose link is up.
    pub(super) fn owner(&self, addr: IpAddr) -> Option<&str> {
        let is_up = |name: &&str| self.host.link(name).is_some_and(|link| link.up);
        self.local.owners(addr).find(is_up).or_else(|| self.local.owners(addr).next())
    }

    /// What the kernel should have for a prefix.
    pub(super) fn desired(&self, prefix: Cidr) -> Option<KernelRoute> {
        if prefix.is_host()
            && let Some(owner) = self.owner(prefix.addr())
        {
            let link = self.host.link(owner).filter(|link| link.up)?;
            return Some(KernelRoute::workload(prefix, link.index));
        }
        if self.local.blocks().contains(&prefix) && !prefix.is_host() {
            return Some(KernelRoute::blackhole(prefix));
        }
        if let Some(gateway) = self.for_bgp.gateway_of(prefix) {
            return self.peer_route(prefix, gateway);
        }
        let target = self.fib.target(prefix).filter(|_| self.for_bgp.is_programmed(prefix))?;
        Some(KernelRoute::bgp(prefix, target, self.sources.get(&prefix.family()).copied()))
    }

    /// The node's own way to an address, other than BGP's: to a pod, to a peer by its gateway, or nowhere within a block, with
    /// the prefix's length.
    pub(super) fn own_way(&self, addr: IpAddr) -> Option<(u8, Option<ResolvedNextHop>)> {
        let host = Cidr::host(addr);
        if let Some(owner) = self.owner(addr) {
            let is_up = self.host.link(owner).is_some_and(|link| link.up);
            let next_hops = [NextHop { addr, interface: Some(owner.to_owned()) }].into();
            return Some((host.len(), is_up.then_some(ResolvedNextHop { next_hops, metric: METRIC })));
        }
        if let Some(Target::Via(hops)) =
            self.for_bgp.gateway_of(host).and_then(|gateway| self.peer_route(host, gateway)).map(|route| route.target)
        {
            let next_hops = hops.into_iter().filter_map(|hop| {
                Some(NextHop {
                    addr: hop.gateway?,
                    interface: Some(self.host.link_by_index(hop.interface)?.name.clone()),
                })
            });
            return Some((host.len(), Some(ResolvedNextHop { next_hops: next_hops.collect(), metric: METRIC })));
        }
        let block = self.local.blocks().iter().find(|block| block.contains(addr))?;
        Some((block.len(), None))
    }

    pub(super) fn desired_neighbour(&self, prefix: Cidr) -> Option<KernelNeighbour> {
        let addr = Some(prefix.addr()).filter(|_| prefix.is_host())?;
        let owner = self.owner(addr)?;
        let mac = self.local.endpoint(owner)?.mac?;
        let link = self.host.link(owner).filter(|link| link.up)?;
        Some(KernelNeighbour { interface: link.index, addr, mac })
    }
}
