//! A reconciler on a kernel and a speaker of maps and lists.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use margay_net::{BestRoute, Cidr, FibBatch, FibChange, FromFelix, Instant, LocalRouteChange, Mac, NextHop};

use super::super::*;

pub(super) const POD: u32 = 10;
pub(super) const POD_NAME: &str = "cali0123456789a";
pub(super) const UPLINKS: [u32; 2] = [2, 3];

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

pub(super) fn endpoint(addresses: &[&str]) -> LocalEndpoint {
    LocalEndpoint { addresses: addresses.iter().map(|addr| ip(addr)).collect(), mac: Some(Mac([2, 0, 0, 0, 0, 1])) }
}

pub(super) fn link(index: u32, name: &str, up: bool, running: bool) -> Input {
    Input::Link(LinkInfo { index, name: name.into(), up, running, loopback: name == "lo" })
}

pub(super) fn address(interface: u32, addr: &str, connected: &str) -> Input {
    Input::Address(InterfaceAddress { interface, addr: ip(addr), connected: cidr(connected), usable: true })
}

pub(super) fn fib(serial: u64, routes: &[(&str, &[&str])], complete: bool) -> Input {
    let set = |(prefix, hops): &(&str, &[&str])| {
        let next_hops: BTreeSet<_> = hops.iter().map(|hop| NextHop::via(ip(hop))).collect();
        if next_hops.is_empty() {
            return FibChange::Withdraw(cidr(prefix));
        }
        FibChange::Set(BestRoute { prefix: cidr(prefix), next_hops: next_hops.into(), stale: false, discard: false })
    };
    Input::Fib(FibBatch { serial, changes: routes.iter().map(set).collect(), complete })
}

#[derive(Debug)]
pub(super) struct Bench {
    pub(super) reconciler: RouteReconciler,
    pub(super) routes: BTreeMap<(Cidr, u32), KernelRoute>,
    pub(super) neighbours: BTreeMap<(u32, IpAddr), Mac>,
    /// The services that are guarded.
    pub(super) guarded: BTreeSet<Cidr>,
    /// The guard can't be changed for now.
    pub(super) guard_fails: bool,
    /// The addresses that the reconciler put.
    pub(super) addresses: BTreeSet<(u32, IpAddr)>,
    /// Everything that was done and told, in order, in words.
    pub(super) log: Vec<String>,
    /// Prefixes that the kernel refuses.
    pub(super) refused: BTreeSet<Cidr>,
    pub(super) now: Instant,
}

impl Bench {
    /// A host with two uplinks and a pod's link, in sync and dumped.
    pub(super) fn new() -> Bench {
        let mut bench = Bench::before_sync(Vec::new());
        bench.feed([Input::InSync]);
        bench.log.clear();
        bench
    }

    pub(super) fn before_sync(kernel: Vec<KernelRoute>) -> Bench {
        let node_addresses = [ip("192.0.2.1"), ip("2001:db8::1"), ip("198.51.100.1")].into();
        let config = RoutesConfig { node_addresses, ..RoutesConfig::default() };
        let mut bench = Bench {
            reconciler: RouteReconciler::new(config),
            routes: kernel.into_iter().map(|route| ((route.prefix, route.metric), route)).collect(),
            neighbours: BTreeMap::new(),
            guarded: BTreeSet::new(),
            guard_fails: false,
            addresses: BTreeSet::new(),
            log: Vec::new(),
            refused: BTreeSet::new(),
            now: Instant::ZERO,
        };
        bench.feed([
            link(1, "lo", true, true),
            link(UPLINKS[0], "up0", true, true),
            link(UPLINKS[1], "up1", true, true),
            link(POD, POD_NAME, true, false),
            address(1, "127.0.0.1", "127.0.0.0/8"),
            address(UPLINKS[0], "192.0.2.1", "192.0.2.0/28"),
            address(UPLINKS[1], "192.0.2.17", "192.0.2.16/28"),
            address(UPLINKS[0], "2001:db8::1", "2001:db8::/64"),
        ]);
        let dump = bench.dump(false);
        bench.feed([dump]);
        bench
    }

    pub(super) fn dump(&self, blame: bool) -> Input {
        let neighbours = self.neighbours.iter();
        let neighbours = neighbours.map(|((interface, addr), mac)| KernelNeighbour {
            interface: *interface,
            addr: *addr,
            mac: *mac,
        });
        Input::Dump {
            routes: self.routes.values().filter(|route| route.is_ours()).cloned().collect(),
            neighbours: neighbours.collect(),
            blame,
        }
    }

    /// Hands the inputs in and does what comes out.
    pub(super) fn feed(&mut self, inputs: impl IntoIterator<Item = Input>) {
        for input in inputs {
            self.reconciler.handle_input(input, self.now);
        }
        self.run();
    }

    /// Lets the time go to the next retry.
    pub(super) fn retry(&mut self) -> Duration {
        let at = self.reconciler.poll_timeout().unwrap();
        let pause = at.since(self.now);
        self.now = at;
        self.reconciler.handle_timeout(at);
        self.run();
        pause
    }

    pub(super) fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Does something by hand: the kernel is changed, then tells.
    pub(super) fn by_hand(&mut self, route: KernelRoute, gone: bool) {
        let key = (route.prefix, route.metric);
        if gone {
            self.routes.remove(&key)
        } else {
            self.routes.insert(key, route.clone())
        };
        self.feed([Input::Route { route, gone, by_hand: true }]);
    }

    pub(super) fn hops(&self, prefix: &str) -> Vec<(u32, String)> {
        match self.routes.get(&(cidr(prefix), METRIC)).map(|route| &route.target) {
            Some(Target::Via(hops)) => {
                let gateway = |hop: &Hop| hop.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
                hops.iter().map(|hop| (hop.interface, gateway(hop))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The services are guarded, as was asked last.
    pub(super) fn guard(&mut self) -> Input {
        let services: Vec<_> = self.guarded.iter().map(Cidr::to_string).collect();
        self.log.push(format!("guard {}", services.join(" ")));
        Input::ServicesGuarded(self.guarded.clone())
    }

    /// Hands the first input in, and one more before each answer of the kernel's.
    pub(super) fn feed_in_turns(&mut self, first: Input, mut more: impl Iterator<Item = Input>) {
        self.reconciler.handle_input(first, self.now);
        self.run_with(&mut more);
    }

    fn run(&mut self) {
        self.run_with(&mut std::iter::empty());
    }

    fn run_with(&mut self, more: &mut dyn Iterator<Item = Input>) {
        while let Some(output) = self.reconciler.poll_output() {
            let answer = match output {
                Output::Speaker(message) => {
                    self.tell(message);
                    continue;
                }
                Output::Kernel(ops) => {
                    if let Some(input) = more.next() {
                        self.reconciler.handle_input(input, self.now);
                    }
                    Input::Outcome(ops.into_iter().map(|op| self.operate(op)).collect())
                }
                Output::Inspect { interface } => {
                    let routes = self.routes.values().filter(|route| route.uses(interface));
                    Input::Inspected { interface, routes: routes.cloned().collect() }
                }
                Output::GuardServices(services) => {
                    self.guarded = services;
                    if self.guard_fails {
                        continue;
                    }
                    self.guard()
                }
                Output::Resync => self.dump(false),
                Output::ListOthersRoutes => {
                    self.log.push("list host routes".into());
                    let routes = self.routes.values().filter(|route| !route.is_ours());
                    Input::OthersRoutes(routes.cloned().collect())
                }
            };
            self.reconciler.handle_input(answer, self.now);
        }
    }

    fn operate(&mut self, op: KernelOp) -> Result<(), Refusal> {
        if let KernelOp::AddAddress { addr, .. } = &op
            && self.refused.contains(&Cidr::host(*addr))
        {
            return Err(Refusal { reason: "refused".into(), exists: false });
        }
        let refuse = |exists| Err(Refusal { reason: "refused".into(), exists });
        if let KernelOp::Add(route) | KernelOp::Replace(route) = &op
            && self.refused.contains(&route.prefix)
        {
            return refuse(false);
        }
        self.log.push(op.to_string());
        match op {
            KernelOp::Add(route) => {
                if self.routes.contains_key(&(route.prefix, route.metric)) {
                    return refuse(true);
                }
                self.routes.insert((route.prefix, route.metric), route);
            }
            KernelOp::Replace(route) => _ = self.routes.insert((route.prefix, route.metric), route),
            KernelOp::Delete(route) => _ = self.routes.remove(&(route.prefix, route.metric)),
            KernelOp::SetNeighbour(entry) => _ = self.neighbours.insert((entry.interface, entry.addr), entry.mac),
            KernelOp::DeleteNeighbour(entry) => _ = self.neighbours.remove(&(entry.interface, entry.addr)),
            KernelOp::AddAddress { interface, addr } => _ = self.addresses.insert((interface, addr)),
            KernelOp::DeleteAddress { interface, addr } => _ = self.addresses.remove(&(interface, addr)),
        }
        Ok(())
    }

    fn tell(&mut self, message: FromFelix) {
        match message {
            FromFelix::Local(changes) => self.log.extend(changes.into_iter().map(|change| match change {
                LocalRouteChange::Announce(route) => format!("announce {} {:?}", route.prefix, route.source),
                LocalRouteChange::Withdraw(prefix) => format!("withdraw {prefix}"),
            })),
            FromFelix::Link(state) => {
                let running = if state.running { "running" } else { "not running" };
                self.log.push(format!("link {} {running} {}", state.interface, state.addresses.len()));
            }
            FromFelix::Applied { serial } => self.log.push(format!("applied {serial}")),
            FromFelix::NextHop { address, resolved } => {
                let way = resolved.map_or("no way".to_owned(), |resolved| {
                    let hop = |hop: &NextHop| format!("{} {}", hop.addr, hop.interface.as_deref().unwrap_or("-"));
                    let hops: Vec<_> = resolved.next_hops.iter().map(hop).collect();
                    format!("{} metric {}", hops.join(", "), resolved.metric)
                });
                self.log.push(format!("{address}: {way}"));
            }
        }
    }
}
