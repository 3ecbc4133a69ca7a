use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use margay_net::{Cidr, Family, Instant, LinkState, LocalRouteSource, NextHop, ResolvedNextHop};

use super::announce::Announcements;
use super::failures::Failures;
use super::fib::Fib;
use super::host::{Host, source};
use super::io::{
    Counts, Input, InterfaceAddress, KernelNeighbour, KernelOp, KernelRoute, LinkInfo, Object, Output, Refusal, Target,
};
use super::kernel::Kernel;
use super::local::Local;
use super::recursion::Recursion;
use super::{BGP, METRIC, POD_INTERFACE_PREFIX};

/// What a [`RouteReconciler`] is made with.
#[derive(Debug, Clone)]
pub struct RoutesConfig {
    /// How the host interfaces of pods begin.
    pub pod_interface_prefix: String,
    /// See [`Input::NodeAddresses`].
    pub node_addresses: BTreeSet<IpAddr>,
}

impl Default for RoutesConfig {
    fn default() -> Self {
        RoutesConfig { pod_interface_prefix: POD_INTERFACE_PREFIX.into(), node_addresses: BTreeSet::new() }
    }
}

/// Keeps what the kernel's routes should be and what they are, and says what to change.
///
/// - What came in: [`handle_input`](Self::handle_input), [`handle_timeout`](Self::handle_timeout).
/// - What must go out: [`poll_output`](Self::poll_output) until it returns `None`, then wait for an input or
///   [`poll_timeout`](Self::poll_timeout).
/// - What can be asked: [`is_settled`](Self::is_settled), [`endpoint_state`](Self::endpoint_state),
///   [`failures`](Self::failures), [`counts`](Self::counts), [`drift`](Self::drift).
///
/// Nothing is changed before [`Input::InSync`] and the first [`Input::Dump`]. BGP routes that are in the kernel by then
/// are treated as if the speaker wanted them, until its table is complete.
#[derive(Debug)]
pub struct RouteReconciler {
    pub(super) config: RoutesConfig,
    pub(super) host: Host,
    pub(super) local: Local,
    pub(super) fib: Fib,
    pub(super) kernel: Kernel,
    pub(super) failures: Failures,
    pub(super) announcements: Announcements,
    pub(super) recursion: Recursion,
    in_sync: bool,
    dumped: bool,
    /// The source of what the host sends over BGP routes, by family.
    sources: BTreeMap<Family, IpAddr>,
    /// Prefixes of pods and blocks to compare; then those that have something to be removed.
    pub(super) local_dirty: BTreeSet<Cidr>,
    pub(super) doomed: BTreeSet<Cidr>,
    pub(super) fib_dirty: BTreeSet<Cidr>,
    /// What is announced has to be looked at.
    pub(super) review: bool,
    pub(super) in_flight: Option<Vec<KernelOp>>,
    pub(super) queue: VecDeque<Output>,
    pub(super) changed_links: BTreeSet<String>,
    pub(super) told_links: BTreeMap<String, LinkState>,
    pub(super) unapplied: Option<u64>,
    drift: Counts,
}

impl RouteReconciler {
    /// Starts with a kernel that nothing is known of.
    pub fn new(config: RoutesConfig) -> RouteReconciler {
        RouteReconciler {
            config,
            host: Host::default(),
            local: Local::default(),
            fib: Fib::default(),
            kernel: Kernel::default(),
            failures: Failures::default(),
            announcements: Announcements::default(),
            recursion: Recursion::default(),
            in_sync: false,
            dumped: false,
            sources: BTreeMap::new(),
            local_dirty: BTreeSet::new(),
            doomed: BTreeSet::new(),
            fib_dirty: BTreeSet::new(),
            review: false,
            in_flight: None,
            queue: VecDeque::new(),
            changed_links: BTreeSet::new(),
            told_links: BTreeMap::new(),
            unapplied: None,
            drift: Counts::new(),
        }
    }

    /// Takes in what happened; outputs come from [`poll_output`](Self::poll_output).
    pub fn handle_input(&mut self, input: Input, now: Instant) {
        match input {
            Input::InSync => {
                self.in_sync = true;
                self.mark_all();
            }
            Input::Endpoint { interface, endpoint } => {
                for addr in self.local.set_endpoint(&interface, endpoint) {
                    if self.recursion.is_asked(addr) {
                        self.recursion.review();
                    }
                    self.mark(Cidr::host(addr));
                }
            }
            Input::OwnBlocks(blocks) => {
                for block in self.local.set_blocks(blocks) {
                    self.mark(block);
                }
                self.recursion.review();
                self.review = true;
            }
            Input::BorrowedAddresses(addresses) => {
                self.local.borrowed = addresses;
                self.review = true;
            }
            Input::NodeAddresses(addresses) => {
                self.config.node_addresses = addresses;
                self.review = true;
                self.update_sources();
            }
            Input::Fib(batch) => {
                self.unapplied = Some(batch.serial);
                let mut dirty = BTreeSet::new();
                let completes = batch.complete && !self.fib.complete;
                self.fib.apply(batch, &self.host, &mut dirty);
                dirty.into_iter().for_each(|prefix| self.mark(prefix));
                if completes {
                    let others = self.kernel.routes().filter(|route| route.protocol == BGP && route.metric != METRIC);
                    let others: Vec<_> = others.map(|route| route.prefix).collect();
                    others.into_iter().for_each(|prefix| self.mark(prefix));
                }
            }
            Input::TrackNextHops(addresses) => {
                if self.recursion.ask(&addresses) {
                    self.queue.push_back(Output::ListHostRoutes);
                }
            }
            Input::HostRoutes(routes) => self.recursion.list(routes),
            Input::Link(link) => self.link(link, now),
            Input::LinkGone { index } => self.link_gone(index, now),
            Input::Address(address) => self.address(&address, now),
            Input::AddressGone { interface, addr, connected } => {
                if self.host.remove_address(interface, addr, connected) {
                    // IPv4 routes that have it as their source go silently.
                    if self.config.node_addresses.contains(&addr) {
                        self.queue.push_back(Output::Resync);
                    }
                    self.addresses_changed(interface, now);
                }
            }
            Input::Route { route, gone, by_hand } => self.route_event(&route, gone, by_hand, now),
            Input::Neighbour { interface, addr, mac, by_hand } => {
                let pod = self.host.link_by_index(interface).is_some_and(|link| self.is_pod(&link.name));
                let prefix = Cidr::host(addr);
                if !pod {
                    return;
                }
                let was_right = self.diff(prefix).is_empty();
                if self.kernel.set_neighbour(interface, addr, mac) {
                    self.blame(prefix, Some(Object::Neighbour), was_right && by_hand);
                    self.mark(prefix);
                }
            }
            Input::Dump { routes, neighbours, blame } => self.dump(routes, neighbours, blame),
            Input::Inspected { interface, routes } => self.inspected(interface, routes),
            Input::Outcome(results) => self.outcome(results, now),
        }
    }

    /// To be called when [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.retry(now, false);
    }

    /// When something is tried again that the kernel refused.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.failures.next_retry()
    }

    /// Tells whether everything that came in was carried out, or refused by the kernel.
    pub fn is_settled(&self) -> bool {
        self.is_ready()
            && self.queue.is_empty()
            && self.local_dirty.is_empty()
            && self.doomed.is_empty()
            && self.fib_dirty.is_empty()
            && !self.review
    }

    /// What the kernel refused and still lacks, in words.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        self.failures.reasons()
    }

    /// Tells whether the kernel has all routes and neighbours of an endpoint: `Ok(false)` if it is being done, or an error
    /// that says what stands against it. An interface without endpoint has them all.
    pub fn endpoint_state(&self, interface: &str) -> Result<bool, String> {
        let Some(endpoint) = self.local.endpoint(interface) else { return Ok(true) };
        let link = self.host.link(interface).ok_or_else(|| format!("interface {interface} isn't there"))?;
        if !link.up {
            return Err(format!("interface {interface} is down"));
        }
        let mut done = true;
        for &addr in &endpoint.addresses {
            let prefix = Cidr::host(addr);
            if let Some(owner) = self.owner(addr)
                && owner != interface
            {
                return Err(format!("address {addr} of interface {interface} is also that of {owner}"));
            }
            if !self.diff(prefix).is_empty() {
                if let Some(reason) = self.failures.reason(prefix) {
                    return Err(reason.to_owned());
                }
                done = false;
            }
        }
        Ok(done && self.is_ready())
    }

    /// What the kernel holds.
    pub fn counts(&self) -> Counts {
        self.kernel.counts()
    }

    /// How often something of ours was changed by others and put right.
    pub fn drift(&self) -> &Counts {
        &self.drift
    }

    /// What the speaker was told to announce.
    pub fn announced(&self) -> &BTreeMap<Cidr, LocalRouteSource> {
        self.announcements.told()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.in_sync && self.dumped && self.in_flight.is_none()
    }

    pub(super) fn is_pod(&self, name: &str) -> bool {
        name.starts_with(&self.config.pod_interface_prefix)
    }

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
        let target = self.fib.target(prefix)?;
        Some(KernelRoute::bgp(prefix, target, self.sources.get(&prefix.family()).copied()))
    }

    /// The node's own way to an address, other than BGP's: to a pod, or nowhere within a block, with the prefix's length.
    pub(super) fn own_way(&self, addr: IpAddr) -> Option<(u8, Option<ResolvedNextHop>)> {
        let host = Cidr::host(addr);
        if let Some(owner) = self.owner(addr) {
            let is_up = self.host.link(owner).is_some_and(|link| link.up);
            let next_hops = [NextHop { addr, interface: Some(owner.to_owned()) }].into();
            return Some((host.len(), is_up.then_some(ResolvedNextHop { next_hops, metric: METRIC })));
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

    /// Has a prefix compared.
    pub(super) fn mark(&mut self, prefix: Cidr) {
        let ours = self.kernel.route(prefix, METRIC);
        if self.local.has(prefix) || ours.is_some_and(|route| route.protocol != BGP) {
            self.review = true;
            self.local_dirty.insert(prefix);
        } else {
            self.fib_dirty.insert(prefix);
        }
    }

    fn mark_all(&mut self) {
        let mut all: BTreeSet<Cidr> = self.kernel.prefixes().collect();
        all.extend(self.kernel.neighbour_addresses().map(Cidr::host));
        all.extend(self.local.addresses().map(Cidr::host));
        all.extend(self.local.blocks());
        all.extend(self.fib.prefixes());
        all.into_iter().for_each(|prefix| self.mark(prefix));
        self.review = true;
    }

    fn retry(&mut self, now: Instant, all: bool) {
        for prefix in self.failures.take_due(now, all) {
            self.mark(prefix);
        }
    }

    fn link(&mut self, link: LinkInfo, now: Instant) {
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

    fn link_gone(&mut self, index: u32, now: Instant) {
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
    fn link_changed(&mut self, name: &str, now: Instant) {
        self.recursion.review();
        if self.is_pod(name) {
            let addresses = self.local.endpoint(name).map(|endpoint| endpoint.addresses.clone()).unwrap_or_default();
            addresses.into_iter().for_each(|addr| self.mark(Cidr::host(addr)));
        } else {
            self.changed_links.insert(name.to_owned());
            self.resolve();
            self.update_sources();
            self.review = true;
        }
        self.retry(now, true);
    }

    fn address(&mut self, address: &InterfaceAddress, now: Instant) {
        if self.host.set_address(address) {
            self.addresses_changed(address.interface, now);
        }
    }

    fn addresses_changed(&mut self, interface: u32, now: Instant) {
        if self.recursion.uses(interface) {
            // IPv4 routes go silently with the address that they need.
            self.queue.push_back(Output::Inspect { interface });
        }
        if let Some(link) = self.host.link_by_index(interface) {
            let name = link.name.clone();
            if !self.is_pod(&name) {
                self.link_changed(&name, now);
            }
        }
    }

    fn resolve(&mut self) {
        let mut dirty = BTreeSet::new();
        self.fib.resolve(&self.host, &mut dirty);
        dirty.into_iter().for_each(|prefix| self.mark(prefix));
    }

    fn update_sources(&mut self) {
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

    fn route_event(&mut self, route: &KernelRoute, gone: bool, by_hand: bool, now: Instant) {
        if self.recursion.note(route, gone) {
            self.queue.push_back(Output::ListHostRoutes);
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

    fn dump(&mut self, routes: Vec<KernelRoute>, neighbours: Vec<KernelNeighbour>, blame: bool) {
        if !self.recursion.is_idle() {
            // Whatever made everything else be listed has made these doubtful, too.
            self.queue.push_back(Output::ListHostRoutes);
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
    fn keep(&mut self, route: &KernelRoute) {
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

    fn inspected(&mut self, interface: u32, routes: Vec<KernelRoute>) {
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

    fn outcome(&mut self, results: Vec<Result<(), Refusal>>, now: Instant) {
        for (op, result) in self.in_flight.take().unwrap_or_default().into_iter().zip(results) {
            let prefix = match &op {
                KernelOp::Add(route) | KernelOp::Replace(route) | KernelOp::Delete(route) => route.prefix,
                KernelOp::SetNeighbour(entry) | KernelOp::DeleteNeighbour(entry) => Cidr::host(entry.addr),
            };
            match result {
                Ok(()) => {
                    match op {
                        KernelOp::Add(route) | KernelOp::Replace(route) => _ = self.kernel.set(route),
                        KernelOp::Delete(route) => _ = self.kernel.remove(route.prefix, route.metric),
                        KernelOp::SetNeighbour(entry) => {
                            self.kernel.set_neighbour(entry.interface, entry.addr, Some(entry.mac));
                        }
                        KernelOp::DeleteNeighbour(entry) => {
                            self.kernel.set_neighbour(entry.interface, entry.addr, None);
                        }
                    }
                    if self.diff(prefix).is_empty() {
                        self.failures.clear(prefix);
                    }
                }
                Err(refusal) => {
                    let first = self.failures.note(prefix, format!("{op}: {}", refusal.reason), now);
                    if refusal.exists && first {
                        self.queue.push_back(Output::Resync);
                    }
                }
            }
        }
    }

    fn blame(&mut self, prefix: Cidr, object: Option<Object>, by_hand: bool) {
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
