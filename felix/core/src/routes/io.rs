use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use margay_net::{Cidr, FibBatch, FromFelix, Mac};
use serde::Serialize;

use super::host_routes::HostRoutes;
use super::{BGP, BLACKHOLE, METRIC, PEER, WORKLOAD};

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

    pub(super) fn peer(prefix: Cidr, hop: Hop) -> KernelRoute {
        KernelRoute { prefix, metric: METRIC, protocol: PEER, target: Target::Via([hop].into()), prefsrc: None }
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
    /// A host route to a BGP peer.
    Peer,
    /// An address of the node on a pod's interface, for a workload that peers.
    Address,
}

impl Object {
    /// One word for counters.
    pub fn key(self) -> &'static str {
        match self {
            Object::Workload => "workload",
            Object::Blackhole => "blackhole",
            Object::Bgp => "bgp",
            Object::Neighbour => "neighbour",
            Object::Peer => "peer",
            Object::Address => "address",
        }
    }

    pub(super) fn of(protocol: u8) -> Option<Object> {
        match protocol {
            WORKLOAD => Some(Object::Workload),
            BLACKHOLE => Some(Object::Blackhole),
            BGP => Some(Object::Bgp),
            PEER => Some(Object::Peer),
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
            Object::Peer => "route to peer",
            Object::Address => "address",
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
    /// What BGP needs beside its routes; takes the place of the whole before.
    HostRoutes(HostRoutes),
    /// The kernel drops what it would forward to these; answers [`Output::GuardServices`] once it is so, and again whenever it
    /// is so for another set.
    ServicesGuarded(BTreeSet<Cidr>),
    /// The whole set of next hops whose ways the speaker asks for.
    TrackNextHops(BTreeSet<IpAddr>),
    /// All routes of the main table with other protocols than the node's own; answers [`Output::ListOthersRoutes`].
    OthersRoutes(Vec<KernelRoute>),
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
    /// All routes of the main table with one of the node's own protocols, and all permanent neighbours. `blame`: what differs
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
    /// Gives a pod's interface an address of the node's, alone in its prefix, usable at once, and if possible never chosen as
    /// the source of what the host sends; that it is there is no failure.
    AddAddress {
        interface: u32,
        addr: IpAddr,
    },
    /// Removes it; that it isn't there is no failure.
    DeleteAddress {
        interface: u32,
        addr: IpAddr,
    },
}

impl fmt::Display for KernelOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelOp::Add(route) => write!(f, "add {route}"),
            KernelOp::Replace(route) => write!(f, "replace {route}"),
            KernelOp::Delete(route) => write!(f, "delete {route}"),
            KernelOp::SetNeighbour(entry) => write!(f, "set neighbour {}", entry.addr),
            KernelOp::DeleteNeighbour(entry) => write!(f, "delete neighbour {}", entry.addr),
            KernelOp::AddAddress { addr, .. } => write!(f, "add address {addr}"),
            KernelOp::DeleteAddress { addr, .. } => write!(f, "delete address {addr}"),
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
    /// Drop what would be forwarded to these prefixes and leave this node again: nothing on it serves the address, so that the
    /// packet would come back. Answer with [`Input::ServicesGuarded`], at once or later; nothing is announced before.
    ///
    /// It can't be a blackhole route: the host's own connections to a service are routed before kube-proxy (iptables or
    /// nftables) puts an endpoint in the service's place, and a blackhole refuses them (`EINVAL`) there. Calico has no such
    /// route in the kernel either, and drops as here (`serviceLoopPrevention: Drop`).
    GuardServices(BTreeSet<Cidr>),
    /// List the routes through the interface: the kernel removes some silently. Answer with [`Input::Inspected`].
    Inspect { interface: u32 },
    /// List everything, without blame. Answer with [`Input::Dump`].
    Resync,
    /// List the routes of others. Answer with [`Input::OthersRoutes`].
    ListOthersRoutes,
}
