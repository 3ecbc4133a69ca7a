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
}

/// `GET /v1/bgp/routes`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BgpRoutes {
    pub routes: Vec<BgpRouteView>,
}

/// A prefix and all its paths, the best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpRouteView {
    pub prefix: String,
    pub paths: Vec<BgpPathView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}
