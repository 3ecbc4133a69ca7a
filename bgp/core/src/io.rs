use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
pub use margay_net::ResolvedNextHop;
use margay_net::{Cidr, Family, FibBatch, FromFelix};
use serde::{Deserialize, Serialize};

use crate::config::{BfdConfig, PeerName, Secret, SpeakerConfig};
use crate::ownership::Ownership;
use crate::view::FsmState;

/// A TCP connection. The speaker gives even numbers to those it asks for, the caller odd ones to those it accepted;
/// a number is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// How the speaker stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopKind {
    /// Connections are closed without NOTIFICATION, so that peers with graceful restart keep the routes.
    Restart,
    /// Cease / Administrative Shutdown with a text for the peer's operator (RFC 9003): peers drop the routes.
    Administrative(Option<String>),
}

/// What the speaker is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// The whole configuration; applied by difference. An invalid one is refused with [`EventKind::ConfigRefused`].
    Configure(SpeakerConfig),
    Felix(FromFelix),
    /// The listener accepted a connection.
    Accepted {
        connection: ConnectionId,
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// A connection asked for by [`Output::Connect`] is there.
    Connected {
        connection: ConnectionId,
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// A connection asked for by [`Output::Connect`] can't be had.
    ConnectFailed {
        connection: ConnectionId,
        reason: String,
    },
    /// Bytes of the stream, in order, cut anywhere.
    Received {
        connection: ConnectionId,
        bytes: Bytes,
    },
    /// The stream ended, by the peer or an error. Not given for one that the speaker closed by [`Output::Close`].
    Closed {
        connection: ConnectionId,
        reason: String,
    },
    /// Bytes of the stream have arrived and wait for their turn: the hold timer starts anew, since it judges the peer and
    /// not how busy this node is.
    Heard {
        connection: ConnectionId,
    },
    /// All bytes that were handed out for the connection are in the kernel.
    SendQueueDrained {
        connection: ConnectionId,
    },
    /// An operator resets a session, or ends a hold: Cease / Administrative Reset, as Hard Reset (RFC 8538) where that is
    /// agreed, so that its routes go.
    Reset {
        peer: PeerName,
        reason: Option<String>,
    },
    /// An operator asks for routes again, or has ours sent again (RFC 2918), without a new session.
    Refresh {
        peer: PeerName,
        direction: RefreshDirection,
    },
    /// The state of a BFD session that was asked for by [`Output::Bfd`].
    Bfd {
        peer: PeerName,
        state: BfdState,
        /// In words: the diagnostic and, where it failed by timeout, how late this machine itself was.
        reason: String,
    },
    /// The whole table of owners; applied by difference.
    Ownership(Arc<Ownership>),
    /// How a next hop asked for by [`Output::TrackNextHops`] is reached; `None`: it isn't.
    NextHop {
        address: IpAddr,
        resolved: Option<ResolvedNextHop>,
    },
    Stop(StopKind),
}

/// Which half of a session is refreshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefreshDirection {
    /// The peer sends its routes again.
    In,
    /// Our routes are sent again.
    Out,
}

/// The state of a BFD session (RFC 5880 section 4.1), with what decides on graceful restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BfdState {
    AdminDown,
    Down {
        /// Whether the peer's BFD outlives its control plane (the C bit), so that its forwarding failed and not a daemon.
        control_plane_independent: bool,
    },
    Init,
    Up,
}

impl fmt::Display for BfdState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BfdState::AdminDown => "AdminDown",
            BfdState::Down { .. } => "Down",
            BfdState::Init => "Init",
            BfdState::Up => "Up",
        })
    }
}

/// A BFD session that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BfdSession {
    pub remote: IpAddr,
    /// The session's own address, where it is known.
    pub local: Option<IpAddr>,
    /// The interface of a single-hop session, where it is known.
    pub interface: Option<String>,
    /// RFC 5883, by UDP port 4784.
    pub multihop: bool,
    pub config: BfdConfig,
}

/// What the caller must do, in this order.
#[derive(Debug, Clone)]
pub enum Output {
    /// Open a connection and answer `Connected` or `ConnectFailed`.
    Connect {
        connection: ConnectionId,
        peer: PeerName,
        remote: SocketAddr,
        source: Option<IpAddr>,
        /// The interface of a link-local `remote`.
        interface: Option<String>,
        /// TTL or hop limit to send with; the system's default where absent.
        ttl: Option<u8>,
        /// The least TTL to accept (IP_MINTTL, IPV6_MINHOPCOUNT).
        min_ttl: Option<u8>,
        password: Option<Secret>,
    },
    /// Append the bytes to the stream: whole messages, one or several. Whenever the caller's queue of a connection becomes empty it answers
    /// `SendQueueDrained`.
    Send {
        connection: ConnectionId,
        bytes: Bytes,
    },
    /// Send what is queued (within a second or so), then close. Also given for a connection not yet made.
    Close {
        connection: ConnectionId,
    },
    /// Changes of best routes for felix, which answers `Applied` with the batch's serial number: a peer's route that is passed
    /// on with our own address as next hop waits for that.
    Fib(FibBatch),
    /// The whole set of peers that the listener must accept, with what their sockets need.
    Listen {
        port: u16,
        /// Local addresses to listen on; empty: all.
        addresses: BTreeSet<IpAddr>,
        peers: Vec<ListenPeer>,
    },
    /// The whole set of BFD sessions wanted.
    Bfd(BTreeMap<PeerName, BfdSession>),
    /// The whole set of next hops that are not connected and whose ways are to be told by [`Input::NextHop`].
    TrackNextHops(BTreeSet<IpAddr>),
    Event(Event),
    /// Nothing but to ask again, once others had their turn: a part of the work on the tables is done that nobody has to
    /// be told of.
    Working,
}

/// A peer that may connect to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenPeer {
    /// One address, or a range of dynamic neighbours.
    pub remote: Cidr,
    pub password: Option<Secret>,
    /// TTL or hop limit to send with; the system's default where absent.
    pub ttl: Option<u8>,
    pub min_ttl: Option<u8>,
}

/// Something that an operator may want to read in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The peer it concerns; absent where it concerns the speaker or a stranger.
    pub peer: Option<PeerName>,
    pub kind: EventKind,
}

/// The kinds of [`Event`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventKind {
    #[error("{from} -> {to}: {reason}")]
    StateChanged { from: FsmState, to: FsmState, reason: String },
    /// In words, with code and subcode.
    #[error("sent NOTIFICATION: {0}")]
    NotificationSent(String),
    #[error("received NOTIFICATION: {0}")]
    NotificationReceived(String),
    /// An UPDATE with an attribute that got RFC 7606's treatment; at most 20 a minute of each peer.
    #[error("malformed UPDATE: {0}")]
    MalformedUpdate(String),
    /// A connection from a remote address that is no peer's, or that the session can't take; at most 20 a minute.
    #[error("connection from {remote} refused: {reason}")]
    ConnectionRefused { remote: SocketAddr, reason: String },
    /// The peer is away and its paths are kept (RFC 4724 section 4.2).
    #[error("peer restarts: {paths} paths kept as stale")]
    GracefulRestartBegan { paths: usize },
    /// No stale path of the peer is left; `flushed` of them were not announced again.
    #[error("peer's graceful restart ended: {reason}, {flushed} stale paths removed")]
    GracefulRestartEnded { reason: String, flushed: usize },
    #[error("End-of-RIB for {0}")]
    EndOfRib(Family),
    /// Our own start is over: the table is whole.
    #[error("route selection starts: {reason}")]
    SelectionStarted { reason: String },
    #[error("configuration refused: {0}")]
    ConfigRefused(String),
    /// We asked for the family's routes again (RFC 2918).
    #[error("asked the peer for its {0} routes again")]
    RefreshRequested(Family),
    /// An operator's refresh that can't be, and why.
    #[error("refresh not possible: {0}")]
    RefreshImpossible(String),
    /// The peer asked for ours again, or an operator had them sent.
    #[error("{family} routes are sent again: {reason}")]
    RefreshAnswered { family: Family, reason: String },
    /// The peer began to send its routes again (BoRR, RFC 7313).
    #[error("the peer sends its {0} routes again")]
    RefreshBegan(Family),
    /// What did not come again is removed.
    #[error("the peer's {family} routes are refreshed: {reason}, {removed} paths removed")]
    RefreshEnded { family: Family, reason: String, removed: usize },
    /// Once for each session, when the configured part of the limit is reached.
    #[error("{count} {family} prefixes received, the limit is {limit}")]
    PrefixWarning { family: Family, count: u32, limit: u32 },
    #[error("{count} {family} prefixes received, more than the limit of {limit}: {action}")]
    PrefixLimitExceeded { family: Family, count: u32, limit: u32, action: String },
    /// There is no session until the hold ends.
    #[error("held: {0}")]
    Held(String),
    #[error("hold ended: {0}")]
    HoldEnded(String),
    #[error("BFD {to}: {reason}")]
    BfdChanged { to: BfdState, reason: String },
    /// The node, or this session, goes out of service or comes back.
    #[error("drain: {0}")]
    Drain(String),
}
