//! The `projectcalico.org/v3` kinds that Margay uses, with Calico's fields, defaults and rules.

mod bgp_configuration;
mod bgp_filter;
mod bgp_peer;
mod bgp_session;
mod calico_node_status;
mod communities;
mod duration;
mod ip_pool;
mod network_policy;
mod node;
mod profile;
mod workload_endpoint;

pub use bgp_configuration::{
    BestPathSettings, BgpConfiguration, BgpConfigurationSpec, BindMode, MaximumPaths, NamedCommunity,
    PrefixAdvertisement, ProgramClusterRoutes, ServiceCidr, Toggle,
};
pub use bgp_filter::{
    AddCommunity, BgpFilter, BgpFilterRule, BgpFilterSpec, CommunityMatch, FilterAction, FilterOperation, FilterSource,
    MatchOperator, PeerType, PrefixLength, PrependAsPath, SetPriority,
};
pub use bgp_peer::{
    AdminState, BgpPeer, BgpPeerSpec, NextHopMode, Password, ReversePeering, SecretKeyRef, SourceAddress,
};
pub use bgp_session::{AddPathSend, AddPathSettings, BfdSettings, MaxPrefixes, MaxPrefixesAction, MeshSettings};
pub use calico_node_status::{
    AgentReport, BgpReport, CalicoNodeStatus, CalicoNodeStatusSpec, LearnedFrom, NodeStatusClass, NodeStatusReport,
    PeerReport, RouteReport, RoutesReport, SpeakerReport,
};
pub use communities::CommunityValue;
pub use duration::parse_duration;
pub use ip_pool::{IpPool, IpPoolSpec};
pub use network_policy::{Action, EntityRule, NetworkPolicy, NetworkPolicySpec, PolicyType, Port, Protocol, Rule};
pub use node::{Node, NodeAddress, NodeBgp, NodeInterface, NodeSpec, NodeWireguard, OrchRef};
pub use profile::{Profile, ProfileSpec};
pub use workload_endpoint::{WorkloadEndpoint, WorkloadEndpointPort, WorkloadEndpointSpec, workload_endpoint_name};
