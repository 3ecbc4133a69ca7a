use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use crate::io::BfdState;
use margay_net::{Asn, Cidr, Family, LocalRouteSource, NextHop};
use serde::Serialize;

use crate::config::PeerName;

/// The states of RFC 4271 section 8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum FsmState {
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm,
    Established,
}

impl fmt::Display for FsmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Routes of one peer in one family.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PrefixCounts {
    pub received: usize,
    pub rejected: usize,
    /// The rejected ones by reason; those that there are none of are left out.
    pub rejected_by: BTreeMap<RejectReason, usize>,
    /// Of the received ones, those kept over the peer's restart.
    pub stale: usize,
    pub advertised: usize,
}

/// A peer as an operator sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeerView {
    pub name: PeerName,
    pub description: Option<String>,
    pub remote: IpAddr,
    pub asn: Asn,
    pub local_asn: Asn,
    pub ibgp: bool,
    pub admin_up: bool,
    pub state: FsmState,
    /// When the state was entered.
    pub since: SystemTime,
    /// Why it isn't established, or why it last wasn't.
    pub last_error: Option<String>,
    pub local_address: Option<SocketAddr>,
    pub remote_address: Option<SocketAddr>,
    pub router_id: Option<Ipv4Addr>,
    /// Negotiated, in seconds.
    pub hold_time: Option<u64>,
    pub keepalive: Option<u64>,
    /// Negotiated families.
    pub families: BTreeSet<Family>,
    /// Whether the peer announced graceful restart.
    pub graceful_restart: bool,
    /// Whether paths of the peer are kept while it restarts.
    pub restarting: bool,
    pub end_of_rib: BTreeSet<Family>,
    pub counts: BTreeMap<Family, PrefixCounts>,
    pub messages_received: u64,
    pub messages_sent: u64,
    pub updates_received: u64,
    /// How often the session became established.
    pub established_count: u64,
    /// Bytes handed out since the connection's queue was last empty.
    pub unsent_bytes: usize,
    /// When `last_error` happened.
    pub last_error_at: Option<SystemTime>,
    /// What the peer's OPEN announced, in words.
    pub capabilities: Vec<String>,
    /// Everything that the session or its routes wait for.
    pub waits: Vec<WaitView>,
    /// Where BFD is configured.
    pub bfd: Option<BfdView>,
    /// Whether the peer was made from a listen range.
    pub dynamic: bool,
    /// Whether its routes carry GRACEFUL_SHUTDOWN, or are withdrawn.
    pub draining: bool,
    /// Families in which the peer sends several paths of a prefix (RFC 7911), and in which it is sent several.
    pub add_path_receive: BTreeSet<Family>,
    pub add_path_send: BTreeSet<Family>,
    /// What the peer's operator said when it last shut the session down or reset it (RFC 9003); absent once the session
    /// is up again.
    pub shutdown_message: Option<String>,
    /// UPDATEs with an attribute that got RFC 7606's treatment.
    pub malformed_updates: u64,
    /// How often the peer asked for our routes again (RFC 2918).
    pub refreshes_received: u64,
    /// How often we asked for the peer's.
    pub refreshes_sent: u64,
}

/// Something that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitView {
    /// In words: for what, and who can end it.
    pub what: String,
    /// Until when at most; absent: until it happens.
    pub until: Option<SystemTime>,
}

/// A drain of the whole node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DrainView {
    pub began: SystemTime,
    /// When all routes are withdrawn; None once they are.
    pub withdraws: Option<SystemTime>,
}

/// BFD of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BfdView {
    /// Absent as long as nothing was told of it.
    pub state: Option<BfdState>,
    /// When the state was told.
    pub since: Option<SystemTime>,
    pub reason: Option<String>,
}

/// Why a prefix is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct WhyView {
    /// Absent where the table has no such prefix.
    pub route: Option<RouteView>,
    /// The longest prefix in the table that covers what was asked for, where that itself isn't there.
    pub covered_by: Option<Cidr>,
    /// For each established peer of the family, by name.
    pub advertisements: Vec<AdvertisementView>,
    /// What holds the table itself up, such as the deferral of route selection.
    pub waits: Vec<WaitView>,
}

/// Whether a prefix is announced to a peer, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdvertisementView {
    pub peer: PeerName,
    /// As the peer is told it, where it is.
    pub advertised: Option<AttributesView>,
    pub reason: AdvertisementReason,
    /// `reason` in words.
    pub words: String,
}

/// Why a prefix is or isn't announced to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdvertisementReason {
    /// Export policy accepts it: by the rule with this index, or by default.
    Advertised {
        rule: Option<usize>,
    },
    /// It is decided on and will be sent when the peer takes more.
    Queued,
    NoUsablePath,
    /// The best path came from this peer.
    LearnedFromPeer,
    /// An internal path is told to an internal peer only by a route reflector (RFC 4456).
    NotReflected,
    /// By a well-known community: `no-export`, `no-export-subconfed`, `no-advertise`, `no-peer` or `blackhole`. Every
    /// external peer counts as a bilateral one for `no-peer` (RFC 3765); `blackhole` keeps a route from external peers
    /// where it is honoured (RFC 7999 section 3.2).
    Community {
        community: String,
    },
    /// By the rule with this index, or by default.
    Policy {
        rule: Option<usize>,
    },
    /// No export policy is configured for an external peer (RFC 8212).
    NoPolicy,
    /// There is no own address to announce as next hop.
    NoNextHop,
    /// The attributes don't fit into a message.
    TooLong,
    /// The session does not carry the family.
    FamilyNotNegotiated,
    /// Route selection is deferred after a restart.
    Deferred,
    /// The route isn't in the kernel yet.
    NotInstalled,
    /// The node is drained and has withdrawn its routes.
    Drained,
}

impl fmt::Display for AdvertisementReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdvertisementReason::Advertised { rule: Some(rule) } => write!(f, "advertised: export policy accepts it by rule {rule}"),
            AdvertisementReason::Advertised { rule: None } => f.write_str("advertised: export policy accepts it by default"),
            AdvertisementReason::Queued => f.write_str("queued until the peer takes more"),
            AdvertisementReason::NoUsablePath => f.write_str("there is no usable path"),
            AdvertisementReason::LearnedFromPeer => f.write_str("the best path came from this peer"),
            AdvertisementReason::NotReflected => {
                f.write_str("an internal path is told to an internal peer only if one of both is a route reflector client (RFC 4456)")
            }
            AdvertisementReason::Community { community } => write!(f, "the route carries {community}"),
            AdvertisementReason::Policy { rule: Some(rule) } => write!(f, "export policy rejects it by rule {rule}"),
            AdvertisementReason::Policy { rule: None } => f.write_str("export policy rejects it by default"),
            AdvertisementReason::NoPolicy => f.write_str("no policy configured (RFC 8212)"),
            AdvertisementReason::NoNextHop => f.write_str("there is no own address of the family to announce as next hop"),
            AdvertisementReason::TooLong => f.write_str("its attributes don't fit into a message"),
            AdvertisementReason::FamilyNotNegotiated => f.write_str("the session does not carry the family"),
            AdvertisementReason::Deferred => f.write_str("route selection is deferred after a restart"),
            AdvertisementReason::NotInstalled => f.write_str("it isn't in the kernel yet"),
            AdvertisementReason::Drained => f.write_str("the node is drained and has withdrawn its routes"),
        }
    }
}

/// Why a path is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum RejectReason {
    /// The own AS number is in the AS_PATH more often than allowed.
    AsPathLoop,
    /// ORIGINATOR_ID is the own router id (RFC 4456 section 8).
    OriginatorLoop,
    /// CLUSTER_LIST has the own cluster id.
    ClusterLoop,
    /// NEXT_HOP is an address of this node.
    NextHopIsSelf,
    /// NEXT_HOP can't be one: unspecified, loopback, multicast.
    NextHopInvalid,
    /// NEXT_HOP is on no link and the kernel has no route to it, by routes other than BGP's; the path waits for one.
    NextHopUnreachable,
    /// Import policy rejects it, by a rule or by default.
    Policy,
    /// No import policy is configured for an external peer (RFC 8212).
    NoPolicy,
    /// AS_PATH of an external peer doesn't begin with its AS number (RFC 4271 section 6.3).
    FirstAs,
    /// AS_PATH has an AS_SET or AS_CONFED_SET (RFC 9774).
    AsSet,
    /// It is, or lies in, a block or borrowed address of another node, or it is or covers another node's own address; see
    /// [`crate::OwnershipCheck`].
    NotOwner,
    /// It lies in a pool, and no block or borrowed address is so.
    NotAllocated,
    /// It covers a pool, and the peer is none that may announce that.
    CoversPool,
    /// A node of the cluster sent an ORIGINATOR_ID, as if it were a reflector.
    ForgedOriginator,
    /// The AS that originated it isn't the owner's.
    WrongOriginAs,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RejectReason::AsPathLoop => "own AS in AS_PATH",
            RejectReason::OriginatorLoop => "ORIGINATOR_ID is our router id",
            RejectReason::ClusterLoop => "own cluster in CLUSTER_LIST",
            RejectReason::NextHopIsSelf => "next hop is an address of this node",
            RejectReason::NextHopInvalid => "next hop is not usable",
            RejectReason::NextHopUnreachable => "next hop is not reachable",
            RejectReason::Policy => "import policy",
            RejectReason::NoPolicy => "no import policy configured (RFC 8212)",
            RejectReason::FirstAs => "AS_PATH doesn't begin with the peer's AS",
            RejectReason::AsSet => "AS_SET in AS_PATH (RFC 9774)",
            RejectReason::NotOwner => "belongs to another node",
            RejectReason::NotAllocated => "in a pool, but neither a block nor a borrowed address",
            RejectReason::CoversPool => "covers a pool",
            RejectReason::ForgedOriginator => "ORIGINATOR_ID from a node",
            RejectReason::WrongOriginAs => "originated by another AS than the owner's",
        })
    }
}

/// The step of the decision process (RFC 4271 section 9.1.2.2) at which a path lost against the best one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum LossReason {
    /// The best path is this node's own route.
    NotLocal,
    LocalPref,
    AsPathLength,
    Origin,
    Med,
    /// The best path is eBGP, this one iBGP.
    IbgpAgainstEbgp,
    /// The way to its next hop is longer (step e).
    IgpMetric,
    /// It came later than the best one, which is external as it is (RFC 5004).
    Newer,
    RouterId,
    ClusterListLength,
    PeerAddress,
    /// The same peer's path with a lower identifier is the best one (RFC 7911).
    PathId,
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LossReason::NotLocal => "a local route exists",
            LossReason::LocalPref => "lower local preference",
            LossReason::AsPathLength => "longer AS path",
            LossReason::Origin => "worse origin",
            LossReason::Med => "higher MED",
            LossReason::IbgpAgainstEbgp => "iBGP against eBGP",
            LossReason::IgpMetric => "farther next hop",
            LossReason::Newer => "newer than the best path (RFC 5004)",
            LossReason::RouterId => "higher router id",
            LossReason::ClusterListLength => "longer cluster list",
            LossReason::PeerAddress => "higher peer address",
            LossReason::PathId => "higher path identifier",
        })
    }
}

/// Where a path comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathSource {
    Local(LocalRouteSource),
    Peer(PeerName),
}

/// A path's attributes, readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttributesView {
    /// `igp`, `egp` or `incomplete`.
    pub origin: String,
    /// As in `65001 65002 {65003 65004}`.
    pub as_path: String,
    pub next_hop: Option<IpAddr>,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    /// As in `65001:100`.
    pub communities: Vec<String>,
    pub originator_id: Option<Ipv4Addr>,
    pub cluster_list: Vec<Ipv4Addr>,
}

/// A path of a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathView {
    pub source: PathSource,
    /// Which of several paths of one peer it is (RFC 7911); absent where the session has one for each prefix.
    pub path_id: Option<u32>,
    pub attributes: AttributesView,
    pub best: bool,
    /// Whether its next hop is one of the route's.
    pub multipath: bool,
    pub stale: bool,
    pub lost: Option<LossReason>,
    pub rejected: Option<RejectReason>,
    /// `lost` or `rejected` in words, with the values compared, or the node that owns what is announced.
    pub reason: Option<String>,
}

/// A prefix and its paths, the best one first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteView {
    pub prefix: Cidr,
    /// What felix is told; empty for a local route and for one that discards.
    pub next_hops: BTreeSet<NextHop>,
    /// Whether felix is told to discard what goes there (RFC 7999).
    pub discard: bool,
    pub paths: Vec<PathView>,
}

/// The routing tables of RFC 4271 section 3.2.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Rib {
    /// All prefixes, each with all its paths, the best one first, and why each other one lost.
    #[default]
    Local,
    /// What came from a peer (Adj-RIB-In), before import policy, with what is not used and why; empty for an unknown one.
    In(PeerName),
    /// What a peer is told (Adj-RIB-Out), with the attributes that it is told; empty for one that isn't established.
    Out(PeerName),
}

/// The routes of all peers, counted part by part: see [`crate::Speaker::count_in`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteCounts(pub(crate) BTreeMap<(usize, Family), PrefixCounts>);

/// Which routes are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteFilter {
    pub rib: Rib,
    pub family: Option<Family>,
    /// This prefix and those within it.
    pub within: Option<Cidr>,
    /// Only prefixes with a path of this peer.
    pub peer: Option<PeerName>,
    /// Only prefixes with a path that is rejected; with `peer`, one of that peer.
    pub rejected: bool,
    /// Most prefixes to return, in order; absent: all.
    pub limit: Option<usize>,
}

/// Counts since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// UPDATE messages encoded.
    pub messages_encoded: u64,
    /// UPDATE messages handed out: one encoded message counts once for each member it goes to.
    pub messages_sent: u64,
    pub updates_received: u64,
    pub prefixes_announced_received: u64,
    pub prefixes_withdrawn_received: u64,
    pub malformed_updates: u64,
    pub notifications_sent: u64,
    pub notifications_received: u64,
    /// Requests for a family's routes (RFC 2918).
    pub refreshes_received: u64,
    pub refreshes_sent: u64,
    pub fib_batches: u64,
    /// Prefixes in the table, local ones included.
    pub prefixes: u64,
    pub paths: u64,
    /// Distinct attribute sets held.
    pub attribute_sets: u64,
    pub update_groups: u64,
    /// Prefixes that were looked at on walks through the tables, decided, or told of later than when they changed.
    pub work: u64,
}
