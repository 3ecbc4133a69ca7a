//! What the kernel tells of its routes and neighbours: events, dumps and looks at one interface.

use std::collections::BTreeSet;

use margay_net::{Cidr, Instant, NextHop};

use super::io::{KernelNeighbour, KernelRoute, Object, Output, Target};
use super::{BGP, METRIC, RouteReconciler};

impl RouteReconciler {
    pub(super) fn route_event(&mut self, route: &KernelRoute, gone: bool, by_hand: bool, now: Instant) {
        if self.recursion.note(route, gone) {
            self.queue.push_back(Output::ListOthersRoutes);
        }
        let prefix = route.prefix;
        let known = self.kernel.route(prefix, route.metric).is_some();
        if !route.is_ours() && !known {
            // A stranger's route that goes may have been in the way.
            if gone && self.failures.reason(prefix).is_some() {
                self.retry(now, true);
            }
            return;
        }
        let was_right = self.diff(prefix).is_empty();
        let news = if gone { self.kernel.note_gone(route) } else { self.kernel.set(route.clone()) };
        if news {
            self.blame(prefix, Object::of(route.protocol), was_right && by_hand);
            self.mark(prefix);
        }
    }

    pub(super) fn dump(&mut self, routes: Vec<KernelRoute>, neighbours: Vec<KernelNeighbour>, blame: bool) {
        if !self.recursion.is_idle() {
            // Whatever made everything else be listed has made these doubtful, too.
            self.queue.push_back(Output::ListOthersRoutes);
        }
        let first = !self.dumped;
        let mut changed = BTreeSet::new();
        let listed: BTreeSet<_> = routes.iter().map(|route| (route.prefix, route.metric)).collect();
        let lost: Vec<_> = self
            .kernel
            .routes()
            // Of a stranger's route in our place is only known what was told.
            .filter(|route| route.is_ours() && !listed.contains(&(route.prefix, route.metric)))
            .map(|route| (route.prefix, route.metric))
            .collect();
        for (prefix, metric) in lost {
            self.kernel.remove(prefix, metric);
            changed.insert(prefix);
        }
        for route in routes {
            let prefix = route.prefix;
            if first && route.protocol == BGP && route.metric == METRIC {
                self.keep(&route);
            }
            if self.kernel.set(route) {
                changed.insert(prefix);
            }
        }
        let on_pods: BTreeSet<_> = neighbours
            .into_iter()
            .filter(|entry| self.host.link_by_index(entry.interface).is_some_and(|link| self.is_pod(&link.name)))
            .collect();
        let known: BTreeSet<_> =
            self.kernel.neighbour_addresses().flat_map(|addr| self.kernel.neighbours_of(addr)).collect();
        for entry in known.difference(&on_pods) {
            self.kernel.set_neighbour(entry.interface, entry.addr, None);
            changed.insert(Cidr::host(entry.addr));
        }
        for entry in on_pods.difference(&known) {
            self.kernel.set_neighbour(entry.interface, entry.addr, Some(entry.mac));
            changed.insert(Cidr::host(entry.addr));
        }
        self.dumped = true;
        if first {
            self.mark_all();
        }
        for prefix in changed {
            let object = self.kernel.route(prefix, METRIC).and_then(|route| Object::of(route.protocol));
            self.blame(prefix, object, blame && !first);
            self.mark(prefix);
        }
    }

    /// Treats a BGP route that was there at the start as the speaker's.
    pub(super) fn keep(&mut self, route: &KernelRoute) {
        let hops = match &route.target {
            Target::Via(hops) => hops,
            Target::Blackhole => return self.fib.keep(route.prefix, None, &self.host),
            Target::Other(_) => return,
        };
        let next_hops: Option<BTreeSet<NextHop>> = hops
            .iter()
            .map(|hop| {
                let link = self.host.link_by_index(hop.interface)?;
                Some(NextHop { addr: hop.gateway?, interface: Some(link.name.clone()) })
            })
            .collect();
        if let Some(next_hops) = next_hops {
            self.fib.keep(route.prefix, Some(next_hops), &self.host);
        }
    }

    pub(super) fn inspected(&mut self, interface: u32, routes: Vec<KernelRoute>) {
        self.recursion.inspected(interface, &routes);
        let routes: Vec<_> = routes.into_iter().filter(KernelRoute::is_ours).collect();
        let with_bgp = self.host.link_by_index(interface).is_none_or(|link| !self.is_pod(&link.name));
        let listed: BTreeSet<_> = routes.iter().map(|route| (route.prefix, route.metric)).collect();
        for (prefix, metric) in self.kernel.using(interface, with_bgp) {
            let ours = self.kernel.route(prefix, metric).is_some_and(KernelRoute::is_ours);
            if ours && !listed.contains(&(prefix, metric)) {
                self.kernel.remove(prefix, metric);
                self.mark(prefix);
            }
        }
        for route in routes {
            let prefix = route.prefix;
            if self.kernel.set(route) {
                self.mark(prefix);
            }
        }
    }

    pub(super) fn blame(&mut self, prefix: Cidr, object: Option<Object>, by_hand: bool) {
        if !by_hand || !self.in_sync || !self.dumped || self.diff(prefix).is_empty() {
            return;
        }
        let desired = self.desired(prefix).and_then(|route| Object::of(route.protocol));
        let counted = match object {
            Some(Object::Neighbour) => object,
            other => desired.or(other),
        };
        if let Some(object) = counted {
            *self.drift.entry(object).or_default() += 1;
        }
    }
}
