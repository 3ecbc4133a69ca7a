//! The contract between the speaker and felix (the one owner of the kernel's FIB).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Cidr;

/// Where a packet goes next: an address, the interface it is reached through, or both.
///
/// The interface is a name, since indexes are the kernel's and change when a link is made anew. A link-local
/// address needs one; for any other felix finds it among the connected prefixes when it is absent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NextHop {
    pub addr: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

impl NextHop {
    pub fn via(addr: IpAddr) -> NextHop {
        NextHop { addr, interface: None }
    }
}

/// The route that the speaker chose for a prefix: one next hop, or several of equal cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BestRoute {
    pub prefix: Cidr,
    /// Shared among the many routes that have the same.
    pub next_hops: Arc<BTreeSet<NextHop>>,
    /// Kept over a peer's restart (RFC 4724 section 4.2): still used, not fresh.
    pub stale: bool,
    /// Packets to the prefix are discarded (RFC 7999); there are no next hops.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discard: bool,
}

/// One change of the table that felix programs for the speaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FibChange {
    Set(BestRoute),
    Withdraw(Cidr),
}

/// Changes of best routes, in order. `serial` grows by one per batch; felix names it when the kernel has it all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FibBatch {
    pub serial: u64,
    pub changes: Vec<FibChange>,
    /// Set on the batch after which the table is whole for the first time since start (every awaited peer sent
    /// End-of-RIB or the deferral time passed): felix then removes BGP routes that the table does not have.
    pub complete: bool,
}

/// Why a prefix is this node's to announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalRouteSource {
    /// An affine IPAM block; its blackhole is in the kernel.
    Block,
    /// A pod's own address, outside the blocks of this node (a borrowed one).
    Workload,
    /// The node's own address on its loopback.
    Loopback,
    /// A connected prefix.
    Connected,
    /// Configured.
    Static,
    /// A service's address or range.
    Service,
}

/// A prefix to announce, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LocalRoute {
    pub prefix: Cidr,
    pub source: LocalRouteSource,
}

/// One change of the set of prefixes to announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalRouteChange {
    Announce(LocalRoute),
    Withdraw(Cidr),
}

/// The state of an interface, as far as sessions and next hops care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    pub interface: String,
    /// Administratively up and with carrier.
    pub running: bool,
    /// The node's own addresses on it, each with the prefix that is connected through it.
    pub addresses: Vec<(IpAddr, Cidr)>,
}

/// How an address that is not connected is reached, as the kernel routes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedNextHop {
    /// Where packets to the address go: each with its interface.
    pub next_hops: BTreeSet<NextHop>,
    /// The metric of the route, the interior cost of the decision process (RFC 4271 section 9.1.2.2 step e).
    pub metric: u32,
}

/// What felix tells the speaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromFelix {
    /// Prefixes to announce changed; sent only once the kernel holds what the announcement promises.
    Local(Vec<LocalRouteChange>),
    /// An interface appeared, changed or (`running: false`, no addresses) went away.
    Link(LinkState),
    /// The kernel holds every change up to and including this batch.
    Applied { serial: u64 },
    /// How a next hop that the speaker asked for is reached, through routes that are not BGP's; `None`: it isn't.
    NextHop { address: IpAddr, resolved: Option<ResolvedNextHop> },
}
