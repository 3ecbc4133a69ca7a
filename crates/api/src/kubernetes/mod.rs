//! The Kubernetes kinds that can be applied without Kubernetes, and what Calico's controllers make of them.

mod namespace;
mod network_policy;
mod service_account;

pub use namespace::{Namespace, NamespaceSpec, namespace_profile};
pub use network_policy::{
    IpBlock, LabelSelector, LabelSelectorRequirement, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule,
    NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec, network_policy,
};
pub use service_account::{ServiceAccount, ServiceAccountSpec, service_account_profile};
