use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::BgpPeers;

/// `GET /v1/status`: one node at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    pub node: String,
    pub version: String,
    pub uptime_seconds: u64,
    pub rss_bytes: u64,
    /// Whether ADD can be served.
    pub ready: bool,
    /// What the daemon waits for.
    pub waiting: Vec<Wait>,
    pub datastore: DatastoreStatus,
    pub kernel: KernelStatus,
    pub bgp: BgpPeers,
    pub ipam: IpamStatus,
    pub endpoints: EndpointsStatus,
    pub policy: PolicyStatus,
    pub warnings: Vec<String>,
}

/// One thing that is waited for: what, why and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    pub what: String,
    pub reason: String,
    pub since_seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DatastoreStatus {
    /// Without a password.
    pub url: String,
    pub in_sync: bool,
    /// Empty where the datastore answers.
    pub error: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KernelStatus {
    pub in_sync: bool,
    /// Repairs since start, by kind.
    pub drift: BTreeMap<String, u64>,
    /// Routes of ours by kind.
    pub routes: BTreeMap<String, u64>,
    pub last_error: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IpamStatus {
    /// This node's blocks, each as `CIDR used/size`.
    pub blocks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EndpointsStatus {
    pub local: u64,
    pub cluster: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PolicyStatus {
    pub policies: u64,
    pub profiles: u64,
    /// Elements in the kernel's tables.
    pub elements: u64,
    /// Microseconds that the last change took to reach the kernel.
    pub last_change_micros: u64,
}
