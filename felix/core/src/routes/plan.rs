use std::collections::BTreeMap;

use margay_net::{Cidr, FromFelix, LocalRouteSource};

use super::io::{KernelOp, KernelRoute, Object, Output, Target};
use super::reconciler::RouteReconciler;
use super::{BGP, METRIC, PEER};

/// Operations at once: some milliseconds, in which nothing else of the agent happens.
const BATCH: usize = 1000;

/// What a prefix lacks and what it has too much.
#[derive(Debug, Default)]
pub(super) struct Diff {
    pub(super) install: Vec<KernelOp>,
    pub(super) remove: Vec<KernelOp>,
}

impl Diff {
    pub(super) fn is_empty(&self) -> bool {
        self.install.is_empty() && self.remove.is_empty()
    }
}

impl RouteReconciler {
    /// The next thing to be done; `None`: wait.
    ///
    /// Pods and blocks go before BGP routes, in this order: withdrawals, the guard of services, blackholes, routes of pods,
    /// announcements, removals. So nothing is announced that the kernel doesn't have, and nothing goes that is announced.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.queue.pop_front() {
            return Some(output);
        }
        if let Some(state) = self.next_link() {
            return Some(Output::Speaker(state));
        }
        if !self.recursion.is_idle()
            && let Some(answer) = self.next_answer()
        {
            return Some(Output::Speaker(answer));
        }
        if !self.is_ready() {
            return None;
        }
        if self.review || !self.local_dirty.is_empty() || !self.doomed.is_empty() {
            let wanted = self.wanted();
            let withdrawn = self.announcements.withdraw(&wanted);
            if !withdrawn.is_empty() {
                return Some(Output::Speaker(FromFelix::Local(withdrawn)));
            }
            if let Some(output) = self.next_guard() {
                return Some(output);
            }
            if let Some(output) = self.install_local() {
                return Some(output);
            }
            let ready = wanted.into_iter().filter(|(prefix, source)| self.is_announceable(*prefix, *source)).collect();
            let announced = self.announcements.announce(&ready);
            self.review = false;
            if !announced.is_empty() {
                return Some(Output::Speaker(FromFelix::Local(announced)));
            }
            if let Some(output) = self.remove_local() {
                return Some(output);
            }
        }
        if !self.peering_links.is_empty() {
            let ops = self.address_ops();
            if let Some(output) = self.send(ops) {
                return Some(output);
            }
        }
        self.go_on_with_bgp()
    }

    /// Does what is to be done of BGP's routes, and acknowledges each round of it.
    fn go_on_with_bgp(&mut self) -> Option<Output> {
        for _ in 0..2 {
            if let Some(output) = self.change_bgp() {
                return Some(output);
            }
            if let Some(serial) = self.applying.take() {
                return Some(Output::Speaker(FromFelix::Applied { serial }));
            }
            self.fib_now = std::mem::take(&mut self.fib_dirty);
            self.applying = self.unapplied.take();
        }
        None
    }

    /// Compares what the kernel should have for a prefix with what it has.
    pub(super) fn diff(&self, prefix: Cidr) -> Diff {
        let mut diff = Diff::default();
        let desired = self.desired(prefix);
        let mut taken = false;
        for route in self.kernel.routes_of(prefix) {
            if route.metric != METRIC {
                // Before the speaker's table is complete a BGP route of another metric may be an earlier version's; so may one
                // to a peer before it is told what BGP needs.
                let known = match route.protocol {
                    BGP => self.fib.complete,
                    PEER => self.for_bgp_told,
                    _ => true,
                };
                if route.is_ours() && known {
                    diff.remove.push(KernelOp::Delete(route.clone()));
                }
                continue;
            }
            taken = true;
            match &desired {
                Some(desired) if desired == route => {}
                Some(desired) => diff.install.push(KernelOp::Replace(desired.clone())),
                None if self.may_delete(route) => diff.remove.push(KernelOp::Delete(route.clone())),
                None => {}
            }
        }
        if let Some(desired) = desired
            && !taken
        {
            diff.install.push(KernelOp::Add(desired));
        }
        if prefix.is_host() {
            let desired = self.desired_neighbour(prefix);
            let mut found = false;
            for entry in self.kernel.neighbours_of(prefix.addr()) {
                match desired {
                    Some(desired) if desired.interface == entry.interface => found = desired == entry,
                    _ => diff.remove.push(KernelOp::DeleteNeighbour(entry)),
                }
            }
            if let Some(desired) = desired
                && !found
            {
                diff.install.push(KernelOp::SetNeighbour(desired));
            }
        }
        diff
    }

    /// A stranger's route stays. So does, until the speaker's table is complete, one of BGP's that was found at the start
    /// and that no next hops can express, and one to a peer until it is told what BGP needs.
    fn may_delete(&self, route: &KernelRoute) -> bool {
        let known = self.fib.complete || self.fib.has(route.prefix) || matches!(route.target, Target::Via(_));
        let told = self.for_bgp_told || route.protocol != PEER;
        route.is_ours() && told && (known || route.protocol != BGP)
    }

    fn next_answer(&mut self) -> Option<FromFelix> {
        let mut recursion = std::mem::take(&mut self.recursion);
        let answer = recursion.next_answer(&self.host, |addr| self.own_way(addr));
        self.recursion = recursion;
        answer
    }

    fn next_link(&mut self) -> Option<FromFelix> {
        while let Some(name) = self.changed_links.pop_first() {
            let state = self.host.state(&name);
            if self.told_links.get(&name) == Some(&state) {
                continue;
            }
            if self.host.link(&name).is_some() {
                self.told_links.insert(name, state.clone());
            } else if self.told_links.remove(&name).is_none() {
                continue;
            }
            return Some(FromFelix::Link(state));
        }
        None
    }

    fn install_local(&mut self) -> Option<Output> {
        let mut ops = Vec::new();
        while ops.len() < BATCH
            && let Some(prefix) = self.local_dirty.pop_first()
        {
            let diff = self.diff(prefix);
            if !diff.remove.is_empty() {
                self.doomed.insert(prefix);
            }
            if diff.is_empty() {
                self.failures.clear(prefix);
            }
            ops.extend(diff.install);
        }
        // Stable: a pod's route stays before its neighbour.
        ops.sort_by_key(|op| match op {
            KernelOp::Add(route) | KernelOp::Replace(route) => Object::of(route.protocol) != Some(Object::Blackhole),
            _ => true,
        });
        self.send(ops)
    }

    fn remove_local(&mut self) -> Option<Output> {
        let mut ops = Vec::new();
        while ops.len() < BATCH
            && let Some(prefix) = self.doomed.pop_first()
        {
            ops.extend(self.diff(prefix).remove);
        }
        self.send(ops)
    }

    fn change_bgp(&mut self) -> Option<Output> {
        let mut ops = Vec::new();
        while ops.len() < BATCH
            && let Some(prefix) = self.fib_now.pop_first()
        {
            let diff = self.diff(prefix);
            if diff.is_empty() {
                self.failures.clear(prefix);
            }
            ops.extend(diff.install);
            ops.extend(diff.remove);
        }
        self.send(ops)
    }

    fn send(&mut self, ops: Vec<KernelOp>) -> Option<Output> {
        if ops.is_empty() {
            return None;
        }
        self.in_flight = Some(ops.clone());
        Some(Output::Kernel(ops))
    }

    /// What this node should announce.
    fn wanted(&self) -> BTreeMap<Cidr, LocalRouteSource> {
        let services = self.for_bgp.services.iter();
        let mut wanted: BTreeMap<_, _> = services.map(|prefix| (*prefix, LocalRouteSource::Service)).collect();
        for &addr in &self.config.node_addresses {
            if self.host.has_on_loopback(addr, |name| self.for_bgp.ignores(name)) {
                wanted.insert(Cidr::host(addr), LocalRouteSource::Loopback);
            }
        }
        let has_pod =
            |prefix: Cidr| prefix.is_host() && self.owner(prefix.addr()).is_some() && self.desired(prefix).is_some();
        let borrowed = self.local.borrowed.iter().filter(|prefix| has_pod(**prefix));
        wanted.extend(borrowed.map(|prefix| (*prefix, LocalRouteSource::Workload)));
        // A block of one address has no blackhole: it is announced with its pod's route.
        let blocks = self.local.blocks().iter().filter(|block| !block.is_host() || has_pod(**block));
        wanted.extend(blocks.map(|block| (*block, LocalRouteSource::Block)));
        wanted
    }

    /// Tells whether the kernel holds what announcing the prefix promises.
    fn is_announceable(&self, prefix: Cidr, source: LocalRouteSource) -> bool {
        match source {
            LocalRouteSource::Loopback => true,
            LocalRouteSource::Service => self.guarded.contains(&prefix),
            _ => self.desired(prefix).is_some_and(|desired| self.kernel.route(prefix, METRIC) == Some(&desired)),
        }
    }
}
