//! The Kubernetes kinds that can be applied without Kubernetes, and what Calico's controllers make of them.

mod endpoint_slice;
mod namespace;
mod network_policy;
mod service;
mod service_account;

pub use endpoint_slice::{
    AddressType, EndpointConditions, EndpointPort, EndpointSlice, EndpointSliceDocument, EndpointSliceSpec,
    SERVICE_NAME_LABEL, ServiceEndpoint,
};
pub use namespace::{Namespace, NamespaceSpec, namespace_profile};
pub use network_policy::{
    IpBlock, LabelSelector, LabelSelectorRequirement, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule,
    NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec, network_policy,
};
pub use service::{Service, ServicePort, ServiceSpec, ServiceType, TrafficPolicy, load_balancer_addresses};
pub use service_account::{ServiceAccount, ServiceAccountSpec, service_account_profile};

/// Where Kubernetes objects are kept that Calico has no place for in its datastore.
pub const KUBERNETES_PREFIX: &str = "/margay/kubernetes/";
