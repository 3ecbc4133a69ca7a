//! The `projectcalico.org/v3` kinds that Margay uses, with Calico's fields, defaults and rules.

mod bgp_configuration;
mod bgp_peer;
mod ip_pool;
mod network_policy;
mod node;
mod profile;
mod workload_endpoint;

pub use bgp_configuration::{BgpConfiguration, BgpConfigurationSpec, ServiceCidr};
pub use bgp_peer::{BgpPeer, BgpPeerSpec, NextHopMode, Password, SecretKeyRef, SourceAddress};
pub use ip_pool::{IpPool, IpPoolSpec};
pub use network_policy::{Action, EntityRule, NetworkPolicy, NetworkPolicySpec, PolicyType, Port, Protocol, Rule};
pub use node::{Node, NodeAddress, NodeBgp, NodeSpec};
pub use profile::{Profile, ProfileSpec};
pub use workload_endpoint::{WorkloadEndpoint, WorkloadEndpointPort, WorkloadEndpointSpec, workload_endpoint_name};
