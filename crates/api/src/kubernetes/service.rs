use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::KUBERNETES_PREFIX;
use crate::kinds::{Port, Protocol};
use crate::{Labels, Metadata, Object, Problem, Spec};

/// A `v1` Service. What decides over its announcement is typed; the load balancer's addresses are in `status`.
pub type Service = Object<ServiceSpec>;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP` where absent.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ServiceType>,
    /// `None` for a headless service.
    #[serde(rename = "clusterIP", skip_serializing_if = "String::is_empty")]
    pub cluster_ip: String,
    #[serde(rename = "clusterIPs", skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs", skip_serializing_if = "Vec::is_empty")]
    pub external_ips: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<TrafficPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_traffic_policy: Option<TrafficPolicy>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub selector: Labels,
    #[serde(rename = "loadBalancerIP", skip_serializing_if = "String::is_empty")]
    pub load_balancer_ip: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub load_balancer_class: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub load_balancer_source_ranges: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocate_load_balancer_node_ports: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_families: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip_family_policy: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session_affinity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_affinity_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_not_ready_addresses: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<u16>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub external_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub traffic_distribution: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    ClusterIP,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// Where traffic may go: to any endpoint, or to those of the node that it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrafficPolicy {
    Cluster,
    Local,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    pub port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<Port>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub app_protocol: String,
}

impl ServiceSpec {
    pub fn kind(&self) -> ServiceType {
        self.kind.unwrap_or(ServiceType::ClusterIP)
    }

    /// Whether traffic from outside goes to local endpoints alone.
    pub fn is_local(&self) -> bool {
        self.external_traffic_policy == Some(TrafficPolicy::Local)
    }

    /// The cluster addresses; none of a headless service.
    pub fn cluster_addresses(&self) -> Vec<IpAddr> {
        let first = std::iter::once(&self.cluster_ip);
        let mut addresses: Vec<IpAddr> = first.chain(&self.cluster_ips).filter_map(|text| text.parse().ok()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}

/// The addresses that a load balancer gave a service, from its `status`.
pub fn load_balancer_addresses(service: &Service) -> Vec<IpAddr> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Status {
        load_balancer: LoadBalancer,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct LoadBalancer {
        ingress: Vec<BTreeMap<String, Value>>,
    }
    let status: Status = service.status.clone().and_then(|json| serde_json::from_value(json).ok()).unwrap_or_default();
    let ingress = status.load_balancer.ingress.iter();
    ingress.filter_map(|entry| entry.get("ip")?.as_str()?.parse().ok()).collect()
}

impl Spec for ServiceSpec {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "Service";
    const PLURAL: &'static str = "services";
    const NAMESPACED: bool = true;
    const PREFIX: &'static str = KUBERNETES_PREFIX;
    const STATUS_IS_AUTHORED: bool = true;

    fn validate(&self, _metadata: &Metadata) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut check = |field: String, text: &str| {
            if text.parse::<IpAddr>().is_err() {
                problems.push(Problem::new(format!("spec.{field}"), format!("'{text}' is not an address")));
            }
        };
        if !["", "None"].contains(&self.cluster_ip.as_str()) {
            check("clusterIP".to_owned(), &self.cluster_ip);
        }
        for (field, texts) in [("clusterIPs", &self.cluster_ips), ("externalIPs", &self.external_ips)] {
            for (index, text) in texts.iter().enumerate() {
                if text != "None" || field != "clusterIPs" {
                    check(format!("{field}[{index}]"), text);
                }
            }
        }
        if !self.load_balancer_ip.is_empty() {
            check("loadBalancerIP".to_owned(), &self.load_balancer_ip);
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_documents;

    #[test]
    fn a_service_has_its_addresses_in_three_places() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {type: LoadBalancer, \
                    clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, \"fd00::7\"], externalIPs: [192.0.2.1], \
                    externalTrafficPolicy: Local, ports: [{port: 80, targetPort: http}]}\n\
                    status: {loadBalancer: {ingress: [{ip: 198.51.100.1, ipMode: VIP}, {hostname: x}]}}\n";
        let service = parse_documents(text).expect("YAML")[0].object::<ServiceSpec>().expect("a service");
        assert_eq!(service.spec.cluster_addresses().len(), 2);
        assert_eq!(load_balancer_addresses(&service), ["198.51.100.1".parse::<IpAddr>().expect("an address")]);
        assert!(service.spec.is_local());
        assert_eq!(service.key(), "/margay/kubernetes/services/shop/web");
    }

    #[test]
    fn a_headless_service_has_no_address_and_a_wrong_one_is_refused() {
        let spec = ServiceSpec { cluster_ip: "None".to_owned(), ..ServiceSpec::default() };
        assert!(spec.validate(&Metadata::default()).is_empty() && spec.cluster_addresses().is_empty());
        let spec = ServiceSpec { external_ips: vec!["here".to_owned()], ..spec };
        assert_eq!(spec.validate(&Metadata::default())[0].field, "spec.externalIPs[0]");
    }
}
