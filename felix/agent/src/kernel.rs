//! Carries out what felix/core decides, and translates what the kernel tells.

use std::collections::BTreeSet;
use std::net::IpAddr;

use margay_felix_core::routes::{
    BGP, BLACKHOLE, Hop, Input, InterfaceAddress, KernelNeighbour, KernelOp, KernelRoute, LinkInfo, Refusal, Target,
    WORKLOAD,
};
use margay_net::Cidr;
use margay_netlink::rtnl::{
    Address, Event, Link, Neighbour, Route, RouteChange, RouteFilter, RouteHop, RouteKind, Rtnl,
};
use margay_netlink::{KernelError, NetlinkError};

/// `RT_TABLE_MAIN`.
const MAIN_TABLE: u32 = 254;
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;

/// The agent's requests to the kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// For routes and neighbours; the monitor leaves out what it causes.
    routes: Rtnl,
    /// For links; what it causes is told.
    links: Rtnl,
    known_links: BTreeSet<u32>,
    known_addresses: BTreeSet<(u32, IpAddr, Cidr)>,
    /// Of the own protocols the ones that are looked at.
    protocols: &'static [u8],
}

impl Kernel {
    /// `routes_only`: routes of pods and blocks, and neighbours, are another agent's.
    pub(crate) fn open(routes_only: bool) -> Result<Kernel, NetlinkError> {
        Ok(Kernel {
            routes: Rtnl::open()?,
            links: Rtnl::open()?,
            known_links: BTreeSet::new(),
            known_addresses: BTreeSet::new(),
            protocols: if routes_only { &[BGP] } else { &[WORKLOAD, BLACKHOLE, BGP] },
        })
    }

    /// The port that the monitor has to leave out.
    pub(crate) fn port(&self) -> u32 {
        self.routes.port()
    }

    /// Does the operations, and says of each how it ended. An error: nobody knows, so list everything.
    pub(crate) fn operate(&mut self, ops: &[KernelOp]) -> Result<Vec<Result<(), Refusal>>, NetlinkError> {
        let mut results = vec![Ok(()); ops.len()];
        let (indexes, changes): (Vec<usize>, Vec<RouteChange>) = ops
            .iter()
            .enumerate()
            .filter_map(|(index, op)| {
                Some((
                    index,
                    match op {
                        KernelOp::Add(route) => RouteChange::Add(to_route(route)),
                        KernelOp::Replace(route) => RouteChange::Replace(to_route(route)),
                        KernelOp::Delete(route) => RouteChange::Delete(to_route(route)),
                        KernelOp::SetNeighbour(_) | KernelOp::DeleteNeighbour(_) => return None,
                    },
                ))
            })
            .unzip();
        for (number, error) in self.routes.change_routes(&changes)? {
            let is_gone = matches!(changes[number], RouteChange::Delete(_)) && is_absent(error.errno);
            if !is_gone {
                results[indexes[number]] = Err(refusal(&error));
            }
        }
        for (op, result) in ops.iter().zip(&mut results) {
            let done = match op {
                KernelOp::SetNeighbour(entry) => {
                    self.routes.set_neighbour(&Neighbour::permanent(entry.interface, entry.addr, entry.mac))
                }
                KernelOp::DeleteNeighbour(entry) => match self.routes.delete_neighbour(entry.interface, entry.addr) {
                    Err(error) if error.errno().is_some_and(is_absent) => Ok(()),
                    other => other,
                },
                _ => continue,
            };
            match done {
                Ok(()) => {}
                Err(NetlinkError::Kernel { error, .. }) => *result = Err(refusal(&error)),
                Err(error) => return Err(error),
            }
        }
        Ok(results)
    }

    /// Lists everything, as inputs: links and addresses first.
    pub(crate) fn list(&mut self, blame: bool) -> Result<Vec<Input>, NetlinkError> {
        let links = self.routes.links()?;
        let addresses = self.routes.addresses()?;
        let dump = self.dump(blame)?;
        let mut inputs = Vec::new();
        let indexes: BTreeSet<u32> = links.iter().map(|link| link.index).collect();
        inputs.extend(self.known_links.difference(&indexes).map(|index| Input::LinkGone { index: *index }));
        inputs.extend(links.iter().map(|link| Input::Link(link_info(link))));
        self.known_links = indexes;
        let keys: BTreeSet<_> = addresses.iter().map(address_key).collect();
        let gone = self.known_addresses.difference(&keys);
        inputs.extend(gone.map(|&(interface, addr, connected)| Input::AddressGone { interface, addr, connected }));
        inputs.extend(addresses.iter().map(|address| Input::Address(interface_address(address))));
        self.known_addresses = keys;
        inputs.push(dump);
        Ok(inputs)
    }

    /// Lists the routes and neighbours alone.
    pub(crate) fn dump(&mut self, blame: bool) -> Result<Input, NetlinkError> {
        let mut routes = Vec::new();
        for protocol in self.protocols {
            let filter = RouteFilter { protocol: Some(*protocol), interface: None };
            routes.extend(self.routes.routes(&filter)?.into_iter().filter_map(from_route));
        }
        let all = if self.sees(WORKLOAD) { self.routes.neighbours()? } else { Vec::new() };
        let neighbours = all.into_iter().filter(Neighbour::is_permanent);
        let neighbours = neighbours.filter_map(|found| {
            Some(KernelNeighbour { interface: found.interface, addr: found.addr, mac: found.mac? })
        });
        Ok(Input::Dump { routes, neighbours: neighbours.collect(), blame })
    }

    pub(crate) fn inspect(&mut self, interface: u32) -> Result<Input, NetlinkError> {
        let filter = RouteFilter { protocol: None, interface: Some(interface) };
        let routes = self.routes.routes(&filter)?.into_iter().filter_map(from_route);
        let seen = routes.filter(|route| !route.is_ours() || self.sees(route.protocol));
        Ok(Input::Inspected { interface, routes: seen.collect() })
    }

    /// Lists the routes of others than this node's agent.
    pub(crate) fn host_routes(&mut self) -> Result<Input, NetlinkError> {
        let all = self.routes.routes(&RouteFilter { protocol: None, interface: None })?;
        let routes = all.into_iter().filter_map(from_route).filter(|route| !route.is_ours());
        Ok(Input::HostRoutes(routes.collect()))
    }

    fn sees(&self, protocol: u8) -> bool {
        self.protocols.contains(&protocol)
    }

    /// The route, unless it is another agent's of the same make.
    fn seen(&self, route: Route) -> Option<KernelRoute> {
        from_route(route).filter(|route| !route.is_ours() || self.sees(route.protocol))
    }

    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        self.links.link(name)
    }

    pub(crate) fn set_up(&mut self, index: u32) -> Result<(), NetlinkError> {
        self.links.set_up(index)
    }

    /// What an event means; `None` for what doesn't matter.
    pub(crate) fn translate(&mut self, event: Event) -> Option<Input> {
        Some(match event {
            Event::Link(link) => {
                self.known_links.insert(link.index);
                Input::Link(link_info(&link))
            }
            Event::LinkGone(link) => {
                self.known_links.remove(&link.index);
                self.known_addresses.retain(|(interface, ..)| *interface != link.index);
                Input::LinkGone { index: link.index }
            }
            Event::Address(address) => {
                self.known_addresses.insert(address_key(&address));
                Input::Address(interface_address(&address))
            }
            Event::AddressGone(address) => {
                let key = address_key(&address);
                self.known_addresses.remove(&key);
                let (interface, addr, connected) = key;
                Input::AddressGone { interface, addr, connected }
            }
            Event::Neighbour { .. } | Event::NeighbourGone { .. } if !self.sees(WORKLOAD) => return None,
            Event::Neighbour { neighbour, port } => Input::Neighbour {
                interface: neighbour.interface,
                addr: neighbour.addr,
                mac: neighbour.mac.filter(|_| neighbour.is_permanent()),
                by_hand: port != 0,
            },
            Event::NeighbourGone { neighbour, port } => {
                Input::Neighbour { interface: neighbour.interface, addr: neighbour.addr, mac: None, by_hand: port != 0 }
            }
            Event::Route { route, port } => Input::Route { route: self.seen(route)?, gone: false, by_hand: port != 0 },
            Event::RouteGone { route, port } => {
                Input::Route { route: self.seen(route)?, gone: true, by_hand: port != 0 }
            }
        })
    }
}

fn refusal(error: &KernelError) -> Refusal {
    Refusal { reason: error.to_string(), exists: error.errno == EEXIST }
}

fn is_absent(errno: i32) -> bool {
    matches!(errno, ENOENT | ESRCH | ENODEV)
}

fn link_info(link: &Link) -> LinkInfo {
    LinkInfo {
        index: link.index,
        name: link.name.clone(),
        up: link.is_up(),
        running: link.is_running(),
        loopback: link.is_loopback(),
    }
}

fn address_key(address: &Address) -> (u32, IpAddr, Cidr) {
    (address.interface, address.addr, address.connected())
}

fn interface_address(address: &Address) -> InterfaceAddress {
    let (interface, addr, connected) = address_key(address);
    InterfaceAddress { interface, addr, connected, usable: address.is_usable() }
}

fn to_route(route: &KernelRoute) -> Route {
    let hops = match &route.target {
        Target::Via(hops) => hops
            .iter()
            .map(|hop| RouteHop {
                gateway: hop.gateway,
                interface: hop.interface,
                onlink: hop.onlink,
                weight: hop.weight,
            })
            .collect(),
        Target::Blackhole | Target::Other(_) => Vec::new(),
    };
    let unicast = Route::unicast(route.prefix, route.protocol, hops);
    let plain = match route.target {
        Target::Via(_) => unicast,
        Target::Blackhole => Route::blackhole(route.prefix, route.protocol),
        Target::Other(kind) => Route { kind: RouteKind::Other(kind), ..unicast },
    };
    Route { priority: route.metric, prefsrc: route.prefsrc, ..plain }
}

/// `None` for routes of other tables.
fn from_route(route: Route) -> Option<KernelRoute> {
    if route.table != MAIN_TABLE {
        return None;
    }
    let hop =
        |hop: RouteHop| Hop { gateway: hop.gateway, interface: hop.interface, onlink: hop.onlink, weight: hop.weight };
    let target = match route.kind {
        RouteKind::Unicast => Target::Via(route.next_hops.into_iter().map(hop).collect()),
        RouteKind::Blackhole => Target::Blackhole,
        RouteKind::Other(kind) => Target::Other(kind),
    };
    Some(KernelRoute {
        prefix: route.prefix,
        metric: route.priority,
        protocol: route.protocol,
        target,
        prefsrc: route.prefsrc,
    })
}
