use margay_net::Family;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::KUBERNETES_PREFIX;
use crate::kinds::Protocol;
use crate::{Metadata, Object, Problem, Spec};

/// The label that names the service of an EndpointSlice.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A `discovery.k8s.io/v1` EndpointSlice as its author writes it: without `spec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSliceDocument {
    pub api_version: String,
    pub kind: String,
    #[serde(default)]
    pub metadata: Metadata,
    pub address_type: AddressType,
    #[serde(default)]
    pub endpoints: Vec<ServiceEndpoint>,
    /// May be null.
    #[serde(default)]
    pub ports: Option<Vec<EndpointPort>>,
}

/// An EndpointSlice as it is stored: its fields are in `spec`, as those of every other kind.
pub type EndpointSlice = Object<EndpointSliceSpec>;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSliceSpec {
    pub address_type: AddressType,
    pub endpoints: Vec<ServiceEndpoint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum AddressType {
    #[default]
    IPv4,
    IPv6,
    FQDN,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEndpoint {
    pub addresses: Vec<String>,
    pub conditions: EndpointConditions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hints: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecated_topology: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// Absent means ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointPort {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

impl EndpointSliceSpec {
    /// The family of the endpoints; None for names.
    pub fn family(&self) -> Option<Family> {
        match self.address_type {
            AddressType::IPv4 => Some(Family::V4),
            AddressType::IPv6 => Some(Family::V6),
            AddressType::FQDN => None,
        }
    }
}

impl ServiceEndpoint {
    pub fn is_ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }
}

impl From<EndpointSliceDocument> for EndpointSlice {
    fn from(document: EndpointSliceDocument) -> EndpointSlice {
        let spec = EndpointSliceSpec {
            address_type: document.address_type,
            endpoints: document.endpoints,
            ports: document.ports.unwrap_or_default(),
        };
        let mut slice = Object::named(String::new(), spec);
        slice.metadata = document.metadata;
        slice
    }
}

impl From<EndpointSlice> for EndpointSliceDocument {
    fn from(slice: EndpointSlice) -> EndpointSliceDocument {
        EndpointSliceDocument {
            api_version: slice.api_version,
            kind: slice.kind,
            metadata: slice.metadata,
            address_type: slice.spec.address_type,
            endpoints: slice.spec.endpoints,
            ports: Some(slice.spec.ports),
        }
    }
}

impl Spec for EndpointSliceSpec {
    const API_VERSION: &'static str = "discovery.k8s.io/v1";
    const KIND: &'static str = "EndpointSlice";
    const PLURAL: &'static str = "endpointslices";
    const NAMESPACED: bool = true;
    const PREFIX: &'static str = KUBERNETES_PREFIX;

    fn validate(&self, metadata: &Metadata) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !metadata.labels.contains_key(SERVICE_NAME_LABEL) {
            let reason = format!("'{SERVICE_NAME_LABEL}' is needed: the name of the service");
            problems.push(Problem::new("metadata.labels", reason));
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            for address in &endpoint.addresses {
                let family = address.parse().ok().map(Family::of);
                if self.family().is_some() && family != self.family() {
                    let reason = format!("'{address}' is not of address type {:?}", self.address_type);
                    problems.push(Problem::new(format!("endpoints[{index}].addresses"), reason));
                }
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_documents;

    const SLICE: &str = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-1\n  namespace: shop\n  \
        labels: {kubernetes.io/service-name: web}\naddressType: IPv4\nendpoints:\n- addresses: [10.65.0.1]\n  \
        conditions: {ready: false}\n  nodeName: n1\n- addresses: [10.65.0.2]\nports: [{port: 80, protocol: TCP}]\n";

    #[test]
    fn a_slice_is_read_as_kubernetes_writes_it_and_comes_back_so() {
        let document: EndpointSliceDocument = parse_documents(SLICE).expect("YAML")[0].strict().expect("a slice");
        let slice = EndpointSlice::from(document.clone());
        assert!(slice.problems().is_empty(), "{:?}", slice.problems());
        assert_eq!(slice.key(), "/margay/kubernetes/endpointslices/shop/web-1");
        let ready: Vec<bool> = slice.spec.endpoints.iter().map(ServiceEndpoint::is_ready).collect();
        assert_eq!(ready, [false, true]);
        assert_eq!(EndpointSliceDocument::from(slice), document);
    }

    #[test]
    fn a_slice_names_its_service_and_holds_addresses_of_one_type() {
        let endpoint = ServiceEndpoint { addresses: vec!["fd00::1".to_owned()], ..ServiceEndpoint::default() };
        let slice: EndpointSlice =
            Object::named("a", EndpointSliceSpec { endpoints: vec![endpoint], ..EndpointSliceSpec::default() });
        let fields: Vec<String> = slice.problems().into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["metadata.labels", "endpoints[0].addresses"]);
    }
}
