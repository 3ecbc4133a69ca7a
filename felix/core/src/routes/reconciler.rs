use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use margay_net::{Cidr, Family, Instant, LinkState, LocalRouteSource};

use super::announce::Announcements;
use super::failures::Failures;
use super::fib::Fib;
use super::host::Host;
use super::host_routes::HostRoutes;
use super::io::{Counts, Input, KernelOp, Object, Output};
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
///   [`failures`](Self::failures), [`waiting`](Self::waiting), [`counts`](Self::counts), [`drift`](Self::drift).
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
    pub(super) failures: Failures<Cidr>,
    pub(super) announcements: Announcements,
    pub(super) recursion: Recursion,
    pub(super) for_bgp: HostRoutes,
    /// It was told what BGP needs. What is there from a run before, or from another agent, is not touched until then.
    pub(super) for_bgp_told: bool,
    /// The services that the kernel guards, and those that it was last asked to.
    pub(super) guarded: BTreeSet<Cidr>,
    pub(super) guard_asked: BTreeSet<Cidr>,
    /// Pods' links whose addresses are to be compared.
    pub(super) peering_links: BTreeSet<u32>,
    pub(super) address_failures: Failures<(u32, IpAddr)>,
    pub(super) in_sync: bool,
    pub(super) dumped: bool,
    /// The source of what the host sends over BGP routes, by family.
    pub(super) sources: BTreeMap<Family, IpAddr>,
    /// Prefixes of pods and blocks to compare; then those that have something to be removed.
    pub(super) local_dirty: BTreeSet<Cidr>,
    pub(super) doomed: BTreeSet<Cidr>,
    /// Prefixes of BGP to compare that were marked before `applying` was taken up; what is marked meanwhile is in
    /// `fib_dirty`, so that a batch is over however many follow it.
    pub(super) fib_now: BTreeSet<Cidr>,
    pub(super) fib_dirty: BTreeSet<Cidr>,
    /// What is announced has to be looked at.
    pub(super) review: bool,
    pub(super) in_flight: Option<Vec<KernelOp>>,
    pub(super) queue: VecDeque<Output>,
    pub(super) changed_links: BTreeSet<String>,
    pub(super) told_links: BTreeMap<String, LinkState>,
    /// The last batch of which all is in `fib_now`, and the last one of which some is in `fib_dirty`, by serial number.
    pub(super) applying: Option<u64>,
    pub(super) unapplied: Option<u64>,
    pub(super) drift: Counts,
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
            for_bgp: HostRoutes::default(),
            for_bgp_told: false,
            guarded: BTreeSet::new(),
            guard_asked: BTreeSet::new(),
            peering_links: BTreeSet::new(),
            address_failures: Failures::default(),
            in_sync: false,
            dumped: false,
            sources: BTreeMap::new(),
            local_dirty: BTreeSet::new(),
            doomed: BTreeSet::new(),
            fib_now: BTreeSet::new(),
            fib_dirty: BTreeSet::new(),
            review: false,
            in_flight: None,
            queue: VecDeque::new(),
            changed_links: BTreeSet::new(),
            told_links: BTreeMap::new(),
            applying: None,
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
            Input::HostRoutes(routes) => self.set_for_bgp(routes),
            Input::ServicesGuarded(guarded) => self.set_guarded(guarded),
            Input::TrackNextHops(addresses) => {
                if self.recursion.ask(&addresses) {
                    self.queue.push_back(Output::ListOthersRoutes);
                }
            }
            Input::OthersRoutes(routes) => self.recursion.list(routes),
            Input::Link(link) => self.link(link, now),
            Input::LinkGone { index } => self.link_gone(index, now),
            Input::Address(address) => self.address(&address, now),
            Input::AddressGone { interface, addr, connected } => {
                if self.host.remove_address(interface, addr, connected) {
                    // IPv4 routes that have it as their source go silently.
                    if self.config.node_addresses.contains(&addr) {
                        self.queue.push_back(Output::Resync);
                    }
                    self.addresses_changed(interface, Some(addr), now);
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
        self.failures.next_retry().into_iter().chain(self.address_failures.next_retry()).min()
    }

    /// Tells whether everything that came in was carried out, or refused by the kernel.
    pub fn is_settled(&self) -> bool {
        self.is_ready()
            && self.queue.is_empty()
            && self.local_dirty.is_empty()
            && self.doomed.is_empty()
            && self.fib_now.is_empty()
            && self.fib_dirty.is_empty()
            && !self.review
            && self.peering_links.is_empty()
            && self.guarded == self.for_bgp.services
    }

    /// What the kernel refused and still lacks, in words.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        self.failures.reasons().chain(self.address_failures.reasons())
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
        let mut counts = self.kernel.counts();
        let addresses = self.peering_addresses();
        if addresses > 0 {
            counts.insert(Object::Address, addresses);
        }
        counts
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
        self.is_started() && self.in_flight.is_none()
    }

    pub(super) fn is_started(&self) -> bool {
        self.in_sync && self.dumped
    }

    pub(super) fn is_pod(&self, name: &str) -> bool {
        name.starts_with(&self.config.pod_interface_prefix)
    }

    /// Has a prefix compared.
    pub(super) fn mark(&mut self, prefix: Cidr) {
        let ours = self.kernel.route(prefix, METRIC);
        let is_own = self.local.has(prefix) || self.for_bgp.gateway_of(prefix).is_some();
        if is_own || ours.is_some_and(|route| route.protocol != BGP) {
            self.review = true;
            self.local_dirty.insert(prefix);
        } else {
            self.fib_dirty.insert(prefix);
        }
    }

    pub(super) fn mark_all(&mut self) {
        let mut all: BTreeSet<Cidr> = self.kernel.prefixes().collect();
        all.extend(self.kernel.neighbour_addresses().map(Cidr::host));
        all.extend(self.local.addresses().map(Cidr::host));
        all.extend(self.local.blocks());
        all.extend(self.fib.prefixes());
        all.extend(self.for_bgp.reachable_by.keys().copied().map(Cidr::host));
        self.peering_links.extend(self.host.links().map(|link| link.index));
        all.into_iter().for_each(|prefix| self.mark(prefix));
        self.review = true;
    }

    pub(super) fn retry(&mut self, now: Instant, all: bool) {
        for prefix in self.failures.take_due(now, all) {
            self.mark(prefix);
        }
        for (interface, _) in self.address_failures.take_due(now, all) {
            self.peering_links.insert(interface);
        }
    }
}
