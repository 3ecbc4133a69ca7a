//! The API that `margayd` serves on its unix socket, and a blocking client of it.
//!
//! HTTP/1.1 with JSON bodies under `/v1/`, so that `curl --unix-socket` works as well. Only root may connect. An error
//! answers with a status of 400 and above and an [`ApiError`] as its body.

mod bfd;
mod bgp;
mod client;
mod cni;
mod policy;
mod status;

pub use bfd::{
    BFD_SOCKET, BFD_VERSION, BfdDiagnostic, BfdLateness, BfdMessage, BfdProcessStatus, BfdRefusal, BfdRequest,
    BfdSessionConfig, BfdSessionState, BfdSessionStatus, bfd_status,
};
pub use bgp::{
    BgpAdvertisement, BgpDirection, BgpDone, BgpDrainRequest, BgpEvent, BgpEvents, BgpFamily, BgpNeighbor, BgpPathView,
    BgpPeerView, BgpPeers, BgpRefreshRequest, BgpResetRequest, BgpRouteView, BgpRoutes, BgpWait, BgpWhy,
};
pub use client::{Client, ClientError, with_query};
pub use cni::{
    AddRequest, AddResponse, Attachment, CheckRequest, CniStatus, DelRequest, GcRequest, GcResponse, Pod, Port,
};
pub use policy::{ExplainRequest, ExplainResponse};
pub use status::{DatastoreStatus, EndpointsStatus, IpamStatus, KernelStatus, PolicyStatus, Status, Wait};

use serde::{Deserialize, Serialize};

/// Where the daemon's socket is, unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/margay/margayd.sock";

/// The paths of the API.
pub mod path {
    pub const STATUS: &str = "/v1/status";
    pub const CNI_ADD: &str = "/v1/cni/add";
    pub const CNI_DEL: &str = "/v1/cni/del";
    pub const CNI_CHECK: &str = "/v1/cni/check";
    pub const CNI_GC: &str = "/v1/cni/gc";
    pub const CNI_STATUS: &str = "/v1/cni/status";
    pub const BGP_PEERS: &str = "/v1/bgp/peers";
    pub const BGP_ROUTES: &str = "/v1/bgp/routes";
    pub const BGP_NEIGHBOR: &str = "/v1/bgp/neighbor";
    pub const BGP_WHY: &str = "/v1/bgp/why";
    pub const BGP_EVENTS: &str = "/v1/bgp/events";
    pub const BGP_REFRESH: &str = "/v1/bgp/refresh";
    pub const BGP_RESET: &str = "/v1/bgp/reset";
    pub const BGP_DRAIN: &str = "/v1/bgp/drain";
    pub const BGP_UNDRAIN: &str = "/v1/bgp/undrain";
    /// Prometheus's metrics, as text.
    pub const METRICS: &str = "/metrics";
    pub const POLICY_EXPLAIN: &str = "/v1/policy/explain";
}

/// What went wrong, for people and for the CNI plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}{}", if details.is_empty() { String::new() } else { format!(": {details}") })]
pub struct ApiError {
    /// The CNI specification's error code where one fits (11: try again later; 50: cannot serve ADD); else 999.
    pub code: u32,
    /// What failed, in one line.
    pub message: String,
    /// Why, and what to do.
    #[serde(default)]
    pub details: String,
}

impl ApiError {
    /// "Try again later" in the CNI specification.
    pub const TRY_AGAIN: u32 = 11;
    /// "The plugin is not available" (no ADD can be served) in the CNI specification.
    pub const NOT_AVAILABLE: u32 = 50;
    /// An unknown container or one that is not as it should be.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A request that cannot be understood.
    pub const BAD_REQUEST: u32 = 7;
    /// No more addresses in any pool that the request may use.
    pub const EXHAUSTED: u32 = 100;
    /// An attachment is not as CHECK expects it.
    pub const CHECK_FAILED: u32 = 101;
    /// Everything else.
    pub const INTERNAL: u32 = 999;
    /// What was asked about is not there: a peer, a prefix.
    pub const NOT_FOUND: u32 = 102;

    pub fn new(code: u32, message: impl Into<String>, details: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into(), details: details.into() }
    }
}
