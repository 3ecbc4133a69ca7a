//! From a request to the endpoint that is stored for it, and the names by which it is found again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;

use margay_api::kinds::{WorkloadEndpoint, WorkloadEndpointPort, WorkloadEndpointSpec, workload_endpoint_name};
use margay_api::{Object, Spec, resource_key};
use margay_ipam_client::{Assignment, Held};
use margay_local_api::{AddRequest, AddResponse, ApiError, Attachment, Pod};
use margay_net::{Cidr, Family};

use super::errors::bad_request;

/// Where pods send what is not their own: answered by nobody, a permanent neighbour in the pod (Calico's address).
const IPV4_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The link-local address that the kernel makes from the host side's MAC ee:ee:ee:ee:ee:ee (RFC 4291 appendix A).
const IPV6_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// Names the network of the attachment that an endpoint belongs to.
const NETWORK_ANNOTATION: &str = "cni.margay/network";

/// Calico's handle of an attachment, `NETWORK.CONTAINER`; further interfaces of a container have handles of their own.
pub(super) fn handle(attachment: &Attachment) -> String {
    let Attachment { network, container_id, interface } = attachment;
    match interface.as_str() {
        "eth0" => format!("{network}.{container_id}"),
        other => format!("{network}.{container_id}.{other}"),
    }
}

/// The key of a pod's endpoint.
pub(super) fn key(node: &str, attachment: &Attachment, pod: &Pod) -> String {
    let name = workload_endpoint_name(node, "k8s", &pod.name, &attachment.interface);
    resource_key::<WorkloadEndpointSpec>(Some(&pod.namespace), &name)
}

/// The attachment that an endpoint was made for; None for another's, as Calico's.
pub(super) fn attachment_of(endpoint: &WorkloadEndpoint) -> Option<Attachment> {
    Some(Attachment {
        network: endpoint.metadata.annotations.get(NETWORK_ANNOTATION)?.clone(),
        container_id: endpoint.spec.container_id.clone(),
        interface: endpoint.spec.endpoint.clone(),
    })
}

/// What IPAM keeps of the holder.
pub(super) fn attributes(node: &str, attachment: &Attachment, pod: &Pod) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("containerID".to_owned(), attachment.container_id.clone()),
        ("interface".to_owned(), attachment.interface.clone()),
        ("namespace".to_owned(), pod.namespace.clone()),
        ("node".to_owned(), node.to_owned()),
        ("pod".to_owned(), pod.name.clone()),
        ("timestamp".to_owned(), timestamp()),
    ])
}

/// Tells whether an address is held by an attachment to a network. A network's name may begin like another's, so the
/// handle alone does not tell.
pub(super) fn is_of_network(held: &Held, network: &str) -> bool {
    match (held.attributes.get("containerID"), held.attributes.get("interface")) {
        (Some(container_id), Some(interface)) => {
            let (container_id, interface) = (container_id.clone(), interface.clone());
            held.handle == handle(&Attachment { network: network.to_owned(), container_id, interface })
        }
        // As Calico writes it.
        _ => {
            let rest = held.handle.strip_prefix(network).and_then(|rest| rest.strip_prefix('.'));
            rest.is_some_and(|container_id| !container_id.contains('.'))
        }
    }
}

/// The endpoint of a request, without addresses.
pub(super) fn of_request(node: &str, request: &AddRequest) -> Result<WorkloadEndpoint, ApiError> {
    let AddRequest { attachment, pod, .. } = request;
    let mut ports = Vec::new();
    for port in &pod.ports {
        let protocol = port.protocol.parse().map_err(|error: String| bad_request(error))?;
        let name = port.name.clone();
        ports.push(WorkloadEndpointPort { name, protocol, port: port.port, host_port: None, host_ip: None });
    }
    let mut profiles = vec![format!("kns.{}", pod.namespace)];
    if !pod.service_account.is_empty() {
        profiles.push(format!("ksa.{}.{}", pod.namespace, pod.service_account));
    }
    let spec = WorkloadEndpointSpec {
        orchestrator: "k8s".to_owned(),
        node: node.to_owned(),
        container_id: attachment.container_id.clone(),
        pod: pod.name.clone(),
        endpoint: attachment.interface.clone(),
        service_account_name: pod.service_account.clone(),
        profiles,
        interface_name: request.host_interface.clone(),
        mac: Some(request.mac),
        ports,
        ..WorkloadEndpointSpec::default()
    };
    let name = workload_endpoint_name(node, "k8s", &pod.name, &attachment.interface);
    let mut endpoint: WorkloadEndpoint = Object::namespaced(&pod.namespace, name, spec);
    endpoint.metadata.labels = pod.labels.clone();
    let own = [
        ("projectcalico.org/namespace", pod.namespace.as_str()),
        ("projectcalico.org/orchestrator", "k8s"),
        ("projectcalico.org/serviceaccount", pod.service_account.as_str()),
    ];
    for (key, value) in own.into_iter().filter(|(_, value)| !value.is_empty()) {
        endpoint.metadata.labels.insert(key.to_owned(), value.to_owned());
    }
    endpoint.metadata.annotations.insert(NETWORK_ANNOTATION.to_owned(), attachment.network.clone());
    endpoint.metadata.uid = Some(uuid::Uuid::new_v4().to_string());
    endpoint.metadata.creation_timestamp = Some(timestamp());
    match endpoint.problems().first() {
        None if !pod.namespace.is_empty() && !pod.namespace.contains(['/', '.']) => Ok(endpoint),
        None => Err(bad_request(format!("'{}' is not a namespace", pod.namespace))),
        Some(problem) => Err(bad_request(format!("{} {problem}", WorkloadEndpointSpec::KIND))),
    }
}

/// Gives an endpoint its addresses, and the gateway of each family that it has one of.
pub(super) fn set_addresses(endpoint: &mut WorkloadEndpoint, assigned: &[Assignment]) {
    endpoint.spec.ip_networks = assigned.iter().map(|assignment| Cidr::host(assignment.address)).collect();
    let has = |family: Family| assigned.iter().any(|assignment| Family::of(assignment.address) == family);
    endpoint.spec.ipv4_gateway = has(Family::V4).then_some(IpAddr::V4(IPV4_GATEWAY));
    endpoint.spec.ipv6_gateway = has(Family::V6).then_some(IpAddr::V6(IPV6_GATEWAY));
}

pub(super) fn response(endpoint: &WorkloadEndpoint) -> AddResponse {
    AddResponse {
        addresses: endpoint.spec.ip_networks.iter().map(|network| network.addr()).collect(),
        ipv4_gateway: endpoint.spec.ipv4_gateway,
        ipv6_gateway: endpoint.spec.ipv6_gateway,
    }
}

fn timestamp() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(handle: &str, attributes: &[(&str, &str)]) -> Held {
        Held {
            address: "10.65.0.1".parse().expect("an address"),
            block: "10.65.0.0/26".parse().expect("a prefix"),
            owner: None,
            handle: handle.to_owned(),
            attributes: attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn a_network_does_not_own_what_one_whose_name_begins_alike_holds() {
        let ours = [("containerID", "c1"), ("interface", "eth0")];
        assert!(is_of_network(&held("pods.c1", &ours), "pods"));
        assert!(!is_of_network(&held("pods.blue.c1", &ours), "pods"));
        assert!(is_of_network(&held("pods.blue.c1", &ours), "pods.blue"));
        assert!(is_of_network(&held("pods.c1.net1", &[("containerID", "c1"), ("interface", "net1")]), "pods"));
        // Calico's, which does not say more.
        assert!(is_of_network(&held("pods.c1", &[]), "pods"));
        assert!(!is_of_network(&held("pods.blue.c1", &[]), "pods") && !is_of_network(&held("podsc1", &[]), "pods"));
    }

    #[test]
    fn handles_are_calicos_and_differ_by_interface() {
        let attachment = |interface: &str| Attachment {
            network: "k8s-pod-network".to_owned(),
            container_id: "c1".to_owned(),
            interface: interface.to_owned(),
        };
        assert_eq!(handle(&attachment("eth0")), "k8s-pod-network.c1");
        assert_eq!(handle(&attachment("net1")), "k8s-pod-network.c1.net1");
    }
}
