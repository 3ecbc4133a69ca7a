use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_net::{Cidr, glob_matches};

/// What felix has to do for BGP beside programming its routes, as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostRoutes {
    /// Announced as [`margay_net::LocalRouteSource::Service`], each once the kernel drops what it would forward there: see
    /// [`Output::GuardServices`](super::Output::GuardServices).
    pub services: BTreeSet<Cidr>,
    /// Best routes within are not programmed, as Calico's kernel filter rejects the ranges of services.
    pub not_programmed: BTreeSet<Cidr>,
    /// Host routes to peers, each by its gateway, once that is on a connected prefix. They win over BGP's.
    pub reachable_by: BTreeMap<IpAddr, IpAddr>,
    /// The interfaces of local workloads that may peer with this node, each with the addresses that the node must answer on
    /// there. The node's own addresses answer in any case.
    pub workload_peers: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Globs (`*`, `?`) of interfaces whose addresses are not announced. Connected prefixes are announced of no interface, so
    /// that it matters for the node's addresses on a loopback alone.
    pub ignored_interfaces: BTreeSet<String>,
}

impl HostRoutes {
    /// Tells whether a best route for the prefix is programmed.
    pub(super) fn is_programmed(&self, prefix: Cidr) -> bool {
        !self.not_programmed.iter().any(|range| range.covers(prefix))
    }

    /// Tells whether an interface's addresses are not announced.
    pub(super) fn ignores(&self, interface: &str) -> bool {
        self.ignored_interfaces.iter().any(|glob| glob_matches(glob, interface))
    }

    /// The addresses that the node must have on an interface.
    pub(super) fn addresses_on(&self, interface: &str) -> impl Iterator<Item = IpAddr> {
        self.workload_peers.get(interface).into_iter().flatten().copied()
    }

    /// The prefix of the host route to a peer that is reached by a gateway, and the gateway.
    pub(super) fn gateway_of(&self, prefix: Cidr) -> Option<IpAddr> {
        self.reachable_by.get(&prefix.addr()).copied().filter(|_| prefix.is_host())
    }
}
