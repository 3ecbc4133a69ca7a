use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use margay_net::{Cidr, FibBatch, FromFelix, Mac};
use serde::Serialize;

use super::{BGP, BLACKHOLE, METRIC, WORKLOAD};

/// A pod's end on this node, by its host interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalEndpoint {
    pub addresses: BTreeSet<IpAddr>,
    /// The link-layer address of the pod's end, where it is known.
    pub mac: Option<Mac>,
}

/// A link of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    pub index: u32,
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// Up and with carrier.
    pub running: bool,
    pub loopback: bool,
}

/// An address of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceAddress {
    pub interface: u32,
    pub addr: IpAddr,
    /// The prefix that is reached through the interface because of it.
    pub connected: Cidr,
    /// Duplicate address detection has passed, so that packets can be sent from it.
    pub usable: bool,
}

/// One next hop of a kernel route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// Without one the prefix is on the link.
    pub gateway: Option<IpAddr>,
    pub interface: u32,
    /// The gateway is reached through the interface though no connected prefix says so.
    pub onlink: bool,
    /// The share of flows; 1 in everything that is desired.
    pub weight: u16,
}

/// What a kernel route does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Blackhole,
    Via(BTreeSet<Hop>),
    /// Something that is never desired (`RTN_*`).
    Other(u8),
}

/// A route of the main table. Prefix and metric name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRoute {
    pub prefix: Cidr,
    pub metric: u32,
    pub protocol: u8,
    pub target: Target,
    pub prefsrc: Option<IpAddr>,
}

impl KernelRoute {
    pub(super) fn workload(prefix: Cidr, interface: u32) -> KernelRoute {
        let hop = Hop { gateway: None, interface, onlink: false, weight: 1 };
        KernelRoute { prefix, metric: METRIC, protocol: WORKLOAD, target: Target::Via([hop].into()), prefsrc: None }
    }

    pub(super) fn blackhole(prefix: Cidr) -> KernelRoute {
        KernelRoute { prefix, metric: METRIC, protocol: BLACKHOLE, target: Target::Blackhole, prefsrc: None }
    }

    /// A route that discards has no source.
    pub(super) fn bgp(prefix: Cidr, target: Target, source: Option<IpAddr>) -> KernelRoute {
        let prefsrc = source.filter(|_| matches!(target, Target::Via(_)));
        KernelRoute { prefix, metric: METRIC, protocol: BGP, target, prefsrc }
    }

    /// Tells whether some next hop is through the interface.
    pub fn uses(&self, interface: u32) -> bool {
        matches!(&self.target, Target::Via(hops) if hops.iter().any(|hop| hop.interface == interface))
    }

    /// Tells whether the protocol is one of this node's own.
    pub fn is_ours(&self) -> bool {
        Object::of(self.protocol).is_some()
    }
}

impl fmt::Display for KernelRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Object::of(self.protocol) {
            Some(object) => write!(f, "{object} {}", self.prefix),
            None => write!(f, "route {} of protocol {}", self.prefix, self.protocol),
        }
    }
}

/// A permanent neighbour entry on a pod's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelNeighbour {
    pub interface: u32,
    pub addr: IpAddr,
    pub mac: Mac,
}

/// What the kernel holds for this node, to count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Object {
    /// A route to a local pod.
    Workload,
    /// An own block.
    Blackhole,
    /// A route that came by BGP.
    Bgp,
    /// A permanent neighbour entry of a pod.
    Neighbour,
}

impl Object {
    /// One word for counters.
    pub fn key(self) -> &'static str {
        match self {
            Object::Workload => "workload",
            Object::Blackhole => "blackhole",
            Object::Bgp => "bgp",
            Object::Neighbour => "neighbour",
        }
    }

    pub(super) fn of(protocol: u8) -> Option<Object> {
        match protocol {
            WORKLOAD => Some(Object::Workload),
            BLACKHOLE => Some(Object::Blackhole),
            BGP => Some(Object::Bgp),
            _ => None,
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Object::Workload => "workload route",
            Object::Blackhole => "blackhole",
            Object::Bgp => "BGP route",
            Object::Neighbour => "neighbour",
        })
    }
}

/// Numbers by object.
pub type Counts = BTreeMap<Object, u64>;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The datastore's state is known: kernel changes may begin.
    InSync,
    /// A pod's end on this node came, changed or (`None`) went.
    Endpoint {
        interface: String,
        endpoint: Option<LocalEndpoint>,
    },
    /// The whole set of blocks that are affine to this node.
    OwnBlocks(BTreeSet<Cidr>),
    /// The whole set of addresses of local pods that lie outside of the own blocks: announced one by one, with their
    /// pod's route.
    BorrowedAddresses(BTreeSet<Cidr>),
    /// The node's own addresses: the source of what the host sends over BGP routes, and announced where they are on the
    /// loopback.
    NodeAddresses(BTreeSet<IpAddr>),
    /// Best routes from the speaker.
    Fib(FibBatch),
    /// The whole set of next hops whose ways the speaker asks for.
    TrackNextHops(BTreeSet<IpAddr>),
    /// All routes of the main table with other protocols than the three; answers [`Output::ListHostRoutes`].
    HostRoutes(Vec<KernelRoute>),
    /// A link came or changed.
    Link(LinkInfo),
    LinkGone {
        index: u32,
    },
    Address(InterfaceAddress),
    AddressGone {
        interface: u32,
        addr: IpAddr,
        connected: Cidr,
    },
    /// The kernel told of a route of the main table. `by_hand`: some process did it, not the kernel by itself.
    Route {
        route: KernelRoute,
        gone: bool,
        by_hand: bool,
    },
    /// The kernel told of a permanent neighbour entry; `mac: None` if it is gone or not permanent.
    Neighbour {
        interface: u32,
        addr: IpAddr,
        mac: Option<Mac>,
        by_hand: bool,
    },
    /// All routes of the main table with one of the three protocols, and all permanent neighbours. `blame`: what differs
    /// from what was known counts as drift.
    Dump {
        routes: Vec<KernelRoute>,
        neighbours: Vec<KernelNeighbour>,
        blame: bool,
    },
    /// The routes of the main table that go through one interface; answers [`Output::Inspect`].
    Inspected {
        interface: u32,
        routes: Vec<KernelRoute>,
    },
    /// How each operation of the last [`Output::Kernel`] ended, in its order.
    Outcome(Vec<Result<(), Refusal>>),
}

/// Why the kernel refused an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In words.
    pub reason: String,
    /// Something is there that was not known (`EEXIST`).
    pub exists: bool,
}

/// One change of the kernel's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelOp {
    /// Adds a route; must fail if prefix and metric are taken.
    Add(KernelRoute),
    /// Puts it in place of whatever has its prefix and metric.
    Replace(KernelRoute),
    /// Removes it; that it isn't there is no failure.
    Delete(KernelRoute),
    SetNeighbour(KernelNeighbour),
    /// Removes it; that it isn't there is no failure.
    DeleteNeighbour(KernelNeighbour),
}

impl fmt::Display for KernelOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelOp::Add(route) => write!(f, "add {route}"),
            KernelOp::Replace(route) => write!(f, "replace {route}"),
            KernelOp::Delete(route) => write!(f, "delete {route}"),
            KernelOp::SetNeighbour(entry) => write!(f, "set neighbour {}", entry.addr),
            KernelOp::DeleteNeighbour(entry) => write!(f, "delete neighbour {}", entry.addr),
        }
    }
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Tell the speaker. The next output is to be asked for when this is in its queue.
    Speaker(FromFelix),
    /// Change the kernel, and answer with [`Input::Outcome`] before anything else.
    Kernel(Vec<KernelOp>),
    /// List the routes through the interface: the kernel removes some silently. Answer with [`Input::Inspected`].
    Inspect { interface: u32 },
    /// List everything, without blame. Answer with [`Input::Dump`].
    Resync,
    /// List the routes of others. Answer with [`Input::HostRoutes`].
    ListHostRoutes,
}
