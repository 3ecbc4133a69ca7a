use std::collections::BTreeMap;

use margay_net::Asn;
use serde::{Deserialize, Serialize};

/// `GET /v1/bgp/peers`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BgpPeers {
    pub local_asn: Option<Asn>,
    pub router_id: Option<String>,
    /// Why nothing can connect to this speaker, if so.
    pub listener: String,
    pub peers: Vec<BgpPeerView>,
    /// How the node is drained, and by whom; empty where it isn't.
    #[serde(default)]
    pub drain: String,
}

/// A peer, as far as people ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpPeerView {
    pub name: String,
    pub address: String,
    pub asn: Asn,
    /// The state of RFC 4271's machine: Idle, Connect, Active, OpenSent, OpenConfirm, Established.
    pub state: String,
    /// Seconds in this state.
    pub since_seconds: u64,
    /// Why the session is not up, or what it waits for; empty where it is up.
    pub reason: String,
    pub received: u64,
    pub accepted: u64,
    pub advertised: u64,
    pub graceful_restart: String,
    pub last_error: String,
    #[serde(default)]
    pub rejected: u64,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub ibgp: bool,
    /// Made from a listen range.
    #[serde(default)]
    pub dynamic: bool,
    /// Its routes carry GRACEFUL_SHUTDOWN, or are withdrawn.
    #[serde(default)]
    pub draining: bool,
    /// `up`, `down`, ...; empty where BFD is not configured.
    #[serde(default)]
    pub bfd: String,
    #[serde(default)]
    pub bfd_reason: String,
    /// Seconds since `last_error` happened, where that is known.
    #[serde(default)]
    pub last_error_seconds: Option<u64>,
    /// What the peer's OPEN announced, in words.
    #[serde(default)]
    pub capabilities: Vec<String>,
    #[serde(default)]
    pub waits: Vec<BgpWait>,
}

/// Something that a session, its routes or the table wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpWait {
    pub what: String,
    /// Seconds until it is over at the latest; absent where it lasts until it happens.
    pub until_seconds: Option<u64>,
}

/// `GET /v1/bgp/neighbor?peer=NAME`: everything about one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpNeighbor {
    #[serde(flatten)]
    pub peer: BgpPeerView,
    pub local_asn: Asn,
    pub admin_up: bool,
    pub local_address: Option<String>,
    pub remote_address: Option<String>,
    /// The peer's BGP identifier.
    pub router_id: Option<String>,
    /// Negotiated.
    pub hold_time_seconds: Option<u64>,
    pub keepalive_seconds: Option<u64>,
    /// What is configured, by setting, where it is not the default.
    pub settings: BTreeMap<String, String>,
    /// By negotiated or configured family.
    pub families: BTreeMap<String, BgpFamily>,
    /// Paths are kept while the peer restarts.
    pub restarting: bool,
    pub messages_received: u64,
    pub messages_sent: u64,
    pub updates_received: u64,
    /// How often the session became established.
    pub established_count: u64,
    /// Bytes handed out since the connection's queue was last empty.
    pub unsent_bytes: u64,
    /// RFC 3339.
    pub last_error_at: Option<String>,
    pub last_notification_sent: Option<BgpEvent>,
    pub last_notification_received: Option<BgpEvent>,
    pub bfd_since_seconds: Option<u64>,
    /// What the peer's operator said with the last shutdown or reset (RFC 9003); empty: nothing.
    #[serde(default)]
    pub shutdown_message: String,
    /// How often the peer asked for our routes again, and we for the peer's.
    #[serde(default)]
    pub refreshes_received: u64,
    #[serde(default)]
    pub refreshes_sent: u64,
}

/// A peer's routes in one family.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BgpFamily {
    pub negotiated: bool,
    pub end_of_rib: bool,
    pub received: u64,
    pub accepted: u64,
    pub rejected: u64,
    /// How many by which reason, in words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rejected_by: BTreeMap<String, u64>,
    pub stale: u64,
    pub advertised: u64,
    /// Several paths of a prefix (RFC 7911): `in`, `out`, `both`; empty: neither.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub add_path: String,
    /// As in `1000, at 75% a warning, then restart after 30s`; empty: none.
    pub limit: String,
}

/// `GET /v1/bgp/routes`, with the queries `prefix`, `within`, `received`, `advertised`, `rejected`, `family`, `limit`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BgpRoutes {
    pub routes: Vec<BgpRouteView>,
}

/// A prefix and all its paths, the best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpRouteView {
    pub prefix: String,
    pub paths: Vec<BgpPathView>,
    /// What the kernel is to be told, each as `ADDRESS` or `ADDRESS%INTERFACE`; none for a prefix of this node.
    #[serde(default)]
    pub next_hops: Vec<String>,
}

/// One path of a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BgpPathView {
    /// The peer's name, or what makes the prefix this node's own.
    pub from: String,
    pub next_hop: String,
    pub as_path: String,
    pub origin: String,
    pub local_pref: Option<u32>,
    pub med: Option<u32>,
    pub best: bool,
    /// Used beside the best.
    pub multipath: bool,
    pub stale: bool,
    /// At which rule the path lost; empty for the best.
    pub reason: String,
    /// It takes no part in the selection; `reason` says why.
    #[serde(default)]
    pub rejected: bool,
    #[serde(default)]
    pub communities: Vec<String>,
    #[serde(default)]
    pub originator_id: Option<String>,
    #[serde(default)]
    pub cluster_list: Vec<String>,
}

/// `GET /v1/bgp/why?prefix=PREFIX`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BgpWhy {
    pub prefix: String,
    /// Absent where the table has no such prefix.
    pub route: Option<BgpRouteView>,
    /// The longest prefix in the table that covers what was asked for, where that itself isn't there.
    pub covered_by: Option<String>,
    /// For each established peer of the family, by name.
    pub advertisements: Vec<BgpAdvertisement>,
    pub waits: Vec<BgpWait>,
}

/// Whether a prefix is announced to a peer, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpAdvertisement {
    pub peer: String,
    pub advertised: bool,
    /// In words.
    pub reason: String,
    /// As the peer is told it, where it is.
    pub path: Option<BgpPathView>,
}

/// `GET /v1/bgp/events`, with the query `peer`; with `follow=true` a line of JSON for each, the recent ones first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BgpEvents {
    pub events: Vec<BgpEvent>,
}

/// Something that happened to a session or to the speaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpEvent {
    /// RFC 3339, UTC.
    pub time: String,
    /// Absent where it concerns the speaker or a stranger.
    pub peer: Option<String>,
    /// One word, as in `state_changed`.
    pub kind: String,
    pub message: String,
}

/// `POST /v1/bgp/refresh`: routes are sent again (RFC 2918), without a new session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpRefreshRequest {
    pub peer: String,
    /// `in`: the peer sends its routes again; `out`: ours are sent again; absent: both.
    #[serde(default)]
    pub direction: Option<BgpDirection>,
}

/// Which half of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BgpDirection {
    In,
    Out,
}

/// `POST /v1/bgp/reset`: Cease / Administrative Reset, with a text for the peer's operator (RFC 9003).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpResetRequest {
    pub peer: String,
    #[serde(default)]
    pub reason: Option<String>,
}

/// `POST /v1/bgp/drain`: all routes get GRACEFUL_SHUTDOWN (RFC 8326), and are withdrawn later. It lasts until
/// `POST /v1/bgp/undrain` or a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpDrainRequest {
    /// Until the withdrawal; 60 where absent.
    #[serde(default)]
    pub withdraw_after_seconds: Option<u64>,
}

/// What was done, in words; the answer of every `POST /v1/bgp/...`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpDone {
    pub done: String,
}
