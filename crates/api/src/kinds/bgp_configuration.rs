use margay_net::{Asn, Cidr};
use serde::{Deserialize, Serialize};

use crate::{Metadata, Object, Problem, Spec};

/// The cluster's BGP settings; the object named `default` counts.
pub type BgpConfiguration = Object<BgpConfigurationSpec>;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpConfigurationSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_severity_screen: Option<String>,
    /// Whether every node peers with every other; on where absent, as in Calico.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_to_node_mesh_enabled: Option<bool>,
    /// The AS number of nodes that have none of their own; 64512 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,
    /// TCP port, 179 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    #[serde(rename = "serviceClusterIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_cluster_ips: Vec<ServiceCidr>,
    #[serde(rename = "serviceExternalIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_external_ips: Vec<ServiceCidr>,
    #[serde(rename = "serviceLoadBalancerIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_load_balancer_ips: Vec<ServiceCidr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCidr {
    pub cidr: Cidr,
}

impl BgpConfigurationSpec {
    /// The AS number that Calico gives nodes without one.
    pub const DEFAULT_AS_NUMBER: Asn = Asn(64512);

    pub fn as_number(&self) -> Asn {
        self.as_number.unwrap_or(Self::DEFAULT_AS_NUMBER)
    }

    pub fn mesh_enabled(&self) -> bool {
        self.node_to_node_mesh_enabled.unwrap_or(true)
    }

    pub fn listen_port(&self) -> u16 {
        self.listen_port.unwrap_or(179)
    }
}

impl Spec for BgpConfigurationSpec {
    const KIND: &'static str = "BGPConfiguration";
    const PLURAL: &'static str = "bgpconfigurations";
    const NAMESPACED: bool = false;

    fn validate(&self, metadata: &Metadata) -> Vec<Problem> {
        let mut problems = Vec::new();
        if metadata.name != "default" && !metadata.name.starts_with("node.") {
            problems.push(Problem::new("metadata.name", "must be 'default' or 'node.NODENAME'"));
        }
        if self.listen_port == Some(0) {
            problems.push(Problem::new("spec.listenPort", "must be 1 to 65535"));
        }
        problems
    }
}
