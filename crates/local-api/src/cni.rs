use std::collections::BTreeMap;
use std::net::IpAddr;

use margay_net::Mac;
use serde::{Deserialize, Serialize};

/// What the CNI calls an attachment: state is kept by all three.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    /// The name of the network configuration.
    pub network: String,
    pub container_id: String,
    /// The interface inside the container.
    pub interface: String,
}

/// The pod that an attachment belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub service_account: String,
    #[serde(default)]
    pub ports: Vec<Port>,
}

/// A port that a pod names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    #[serde(default)]
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`; TCP where absent.
    #[serde(default = "tcp")]
    pub protocol: String,
    #[serde(alias = "containerPort")]
    pub port: u16,
}

fn tcp() -> String {
    "TCP".to_owned()
}

/// `POST /v1/cni/add`: the link is made, its host end down; give it addresses, policy and routes.
///
/// The answer comes when policy and routes are in the kernel and the host end is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddRequest {
    pub attachment: Attachment,
    pub pod: Pod,
    /// The host's end of the link.
    pub host_interface: String,
    /// The address of the pod's end.
    pub mac: Mac,
    pub ipv4: bool,
    pub ipv6: bool,
    /// Names or CIDRs of the only pools to assign from; any where empty.
    #[serde(default)]
    pub ipv4_pools: Vec<String>,
    #[serde(default)]
    pub ipv6_pools: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddResponse {
    /// The pod's addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The next hop of the pod's default route, by family.
    pub ipv4_gateway: Option<IpAddr>,
    pub ipv6_gateway: Option<IpAddr>,
}

/// `POST /v1/cni/del`: forget the attachment and free its addresses. Succeeds where there is nothing left to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelRequest {
    pub attachment: Attachment,
    #[serde(default)]
    pub pod: Pod,
}

/// `POST /v1/cni/check`: is the attachment as ADD left it, as far as the host knows?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRequest {
    pub attachment: Attachment,
    pub pod: Pod,
    pub host_interface: String,
    /// The addresses that the result of ADD named.
    pub addresses: Vec<IpAddr>,
}

/// `POST /v1/cni/gc`: free everything of `network` on this node but the attachments named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcRequest {
    pub network: String,
    pub valid: Vec<Attachment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GcResponse {
    /// What was freed: container, interface and addresses.
    pub freed: Vec<String>,
    /// What could not be freed, and why.
    pub errors: Vec<String>,
}

/// `GET /v1/cni/status`: answers 200 where ADD can be served, else an error with code 50 and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CniStatus {}
