//! What the CNI plugin asks: attachments of pods to the network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use margay_api::kinds::{WorkloadEndpoint, WorkloadEndpointPort, WorkloadEndpointSpec, workload_endpoint_name};
use margay_api::{Object, Spec, Stored, kubernetes, resource_key};
use margay_datastore::{Datastore, KeyValue, Revision, StoreError};
use margay_ipam_client::{AssignRequest, Assignment, IpamClient, IpamError};
use margay_local_api::{
    AddRequest, AddResponse, ApiError, Attachment, CheckRequest, DelRequest, GcRequest, GcResponse, Pod,
};
use margay_net::{Cidr, Family};
use tokio::sync::{mpsc, oneshot, watch};

use crate::actor::{Message, Shared};
use crate::cluster::Cluster;

/// Where pods send what is not their own: answered by nobody, a permanent neighbour in the pod (Calico's address).
const IPV4_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The link-local address that the kernel makes from the host side's MAC ee:ee:ee:ee:ee:ee (RFC 4291 appendix A).
const IPV6_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// Names the network of the attachment that an endpoint belongs to.
const NETWORK_ANNOTATION: &str = "cni.margay/network";

/// The longest that ADD waits for the kernel.
const KERNEL_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves the plugin.
#[derive(Debug, Clone)]
pub(crate) struct Cni {
    pub(crate) node: Arc<str>,
    pub(crate) store: Arc<dyn Datastore>,
    pub(crate) ipam: IpamClient,
    pub(crate) actor: mpsc::Sender<Message>,
    pub(crate) shared: watch::Receiver<Arc<Shared>>,
}

impl Cni {
    pub(crate) async fn add(&self, request: AddRequest) -> Result<AddResponse, ApiError> {
        let shared = self.ready()?;
        let families: Vec<Family> = [(Family::V4, request.ipv4), (Family::V6, request.ipv6)]
            .into_iter()
            .filter_map(|(family, wanted)| wanted.then_some(family))
            .collect();
        if families.is_empty() {
            let details = "set ipam.assign_ipv4 or ipam.assign_ipv6 in the network configuration";
            return Err(ApiError::new(ApiError::BAD_REQUEST, "no address family is asked for", details));
        }
        let mut endpoint = self.endpoint(&request)?;
        let handle = handle_of(&request.attachment);
        let assign = AssignRequest {
            handle: handle.clone(),
            attributes: self.attributes(&request.attachment, &request.pod),
            families,
            pools: BTreeMap::from([(Family::V4, request.ipv4_pools.clone()), (Family::V6, request.ipv6_pools.clone())]),
        };
        let assigned = self.ipam.assign(assign, &shared.pools, &shared.node_labels).await.map_err(ipam_error)?;
        endpoint.spec.ip_networks = assigned.iter().map(|assignment| Cidr::host(assignment.address)).collect();
        let has = |family: Family| assigned.iter().any(|assignment| Family::of(assignment.address) == family);
        endpoint.spec.ipv4_gateway = has(Family::V4).then_some(IpAddr::V4(IPV4_GATEWAY));
        endpoint.spec.ipv6_gateway = has(Family::V6).then_some(IpAddr::V6(IPV6_GATEWAY));
        match self.attach(&shared, endpoint).await {
            Ok(endpoint) => Ok(response(&endpoint, &assigned)),
            Err(error) => {
                self.undo(&request, &handle).await;
                Err(error)
            }
        }
    }

    /// Writes the endpoint and has the kernel programmed for it.
    async fn attach(&self, shared: &Shared, endpoint: WorkloadEndpoint) -> Result<WorkloadEndpoint, ApiError> {
        self.ensure_profile(shared, endpoint.namespace().unwrap_or_default()).await?;
        let revision = self.write(&endpoint).await?;
        let (done, told) = oneshot::channel();
        let message =
            Message::PutEndpoint { key: endpoint.key(), revision, endpoint: Box::new(endpoint.clone()), done };
        self.tell(message).await?;
        kernel_has_it(told).await?;
        Ok(endpoint)
    }

    /// A namespace that nobody has told of is as Kubernetes makes one: labelled with its name, open.
    async fn ensure_profile(&self, shared: &Shared, namespace: &str) -> Result<(), ApiError> {
        if shared.profiles.contains(&format!("kns.{namespace}")) {
            return Ok(());
        }
        let namespace = kubernetes::Namespace::named(namespace, kubernetes::NamespaceSpec::default());
        let profile = kubernetes::namespace_profile(&namespace);
        let value = Stored::new(profile.clone()).encode();
        match self.store.create(&profile.key(), &value).await {
            Ok(revision) => self.tell(Message::PutProfile(KeyValue { key: profile.key(), value, revision })).await,
            // It is on its way to the cache.
            Err(StoreError::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(store_error(&error)),
        }
    }

    async fn write(&self, endpoint: &WorkloadEndpoint) -> Result<Revision, ApiError> {
        let key = endpoint.key();
        loop {
            let present = self.store.get(&key).await.map_err(|error| store_error(&error))?;
            let written = match &present {
                None => self.store.create(&key, &Stored::new(endpoint.clone()).encode()).await,
                Some(present) => {
                    // A pod of the same name came before: this is a new attachment, and the old one's DEL finds
                    // another container here.
                    let value = match Stored::<WorkloadEndpointSpec>::decode(&key, &present.value) {
                        Ok(stored) => stored.with(endpoint.clone()).encode(),
                        Err(_) => Stored::new(endpoint.clone()).encode(),
                    };
                    self.store.update(&key, &value, present.revision).await
                }
            };
            match written {
                Ok(revision) => return Ok(revision),
                Err(StoreError::Conflict { .. } | StoreError::NotFound { .. } | StoreError::AlreadyExists { .. }) => {}
                Err(error) => return Err(store_error(&error)),
            }
        }
    }

    async fn undo(&self, request: &AddRequest, handle: &str) {
        let del = DelRequest { attachment: request.attachment.clone(), pod: request.pod.clone() };
        if let Err(error) = self.del(del).await {
            tracing::warn!(handle, %error, "could not undo a failed ADD; its DEL or GC frees the rest");
        }
    }

    pub(crate) async fn del(&self, request: DelRequest) -> Result<(), ApiError> {
        let attachment = &request.attachment;
        if let Some(key) = self.key_of(attachment, &request.pod).await? {
            self.delete_if_owned(&key, &attachment.container_id).await?;
        }
        let freed = self.ipam.release_by_handle(&handle_of(attachment)).await.map_err(ipam_error)?;
        tracing::info!(container = attachment.container_id, addresses = ?freed, "attachment is gone");
        Ok(())
    }

    /// The endpoint's key: by pod, or where the pod's name is another's by now, by container.
    async fn key_of(&self, attachment: &Attachment, pod: &Pod) -> Result<Option<String>, ApiError> {
        if !pod.name.is_empty() {
            let name = workload_endpoint_name(&self.node, "k8s", &pod.name, &attachment.interface);
            return Ok(Some(resource_key::<WorkloadEndpointSpec>(Some(&pod.namespace), &name)));
        }
        let wanted = attachment.clone();
        self.ask(move |cluster| {
            let mut local = cluster.local_endpoints.iter();
            let found = local.find(|(_, (_, endpoint))| {
                endpoint.spec.container_id == wanted.container_id && endpoint.spec.endpoint == wanted.interface
            });
            found.map(|(key, _)| key.clone())
        })
        .await
    }

    /// Deletes an endpoint unless it is another container's.
    async fn delete_if_owned(&self, key: &str, container_id: &str) -> Result<(), ApiError> {
        loop {
            let Some(present) = self.store.get(key).await.map_err(|error| store_error(&error))? else {
                return self.drop_endpoint(key, container_id).await;
            };
            let owner = Stored::<WorkloadEndpointSpec>::decode(key, &present.value).map(|s| s.object.spec.container_id);
            if owner.is_ok_and(|owner| owner != container_id) {
                return Ok(());
            }
            match self.store.delete(key, Some(present.revision)).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => return self.drop_endpoint(key, container_id).await,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(store_error(&error)),
            }
        }
    }

    /// Takes the endpoint out of the kernel, so that its address can be used again.
    async fn drop_endpoint(&self, key: &str, container_id: &str) -> Result<(), ApiError> {
        let (wanted, container) = (key.to_owned(), container_id.to_owned());
        let known = self
            .ask(move |cluster| {
                cluster
                    .local_endpoints
                    .get(&wanted)
                    .is_some_and(|(_, endpoint)| endpoint.spec.container_id == container)
            })
            .await?;
        if !known {
            return Ok(());
        }
        let (done, told) = oneshot::channel();
        self.tell(Message::DropEndpoint { key: key.to_owned(), done }).await?;
        kernel_has_it(told).await
    }

    pub(crate) async fn check(&self, request: CheckRequest) -> Result<(), ApiError> {
        self.ready()?;
        let failed = |details: String| {
            let message = format!("container {} is not as ADD left it", request.attachment.container_id);
            ApiError::new(ApiError::CHECK_FAILED, message, details)
        };
        let Some(key) = self.key_of(&request.attachment, &request.pod).await? else {
            return Err(failed("its endpoint is not known".to_owned()));
        };
        let wanted = key.clone();
        let found = self.ask(move |cluster| cluster.local_endpoints.get(&wanted).cloned()).await?;
        let Some((_, endpoint)) = found else { return Err(failed(format!("{key} is not there"))) };
        if endpoint.spec.container_id != request.attachment.container_id {
            return Err(failed(format!("{key} belongs to container {}", endpoint.spec.container_id)));
        }
        let addresses: BTreeSet<IpAddr> = endpoint.spec.ip_networks.iter().map(|network| network.addr()).collect();
        if addresses != request.addresses.iter().copied().collect() {
            return Err(failed(format!("{key} has {addresses:?}, ADD gave {:?}", request.addresses)));
        }
        if endpoint.spec.interface_name != request.host_interface {
            return Err(failed(format!("{key} has interface {}", endpoint.spec.interface_name)));
        }
        let handle = handle_of(&request.attachment);
        let held = self.ipam.held_by_this_node().await.map_err(ipam_error)?;
        for address in addresses {
            if !held.iter().any(|held| held.address == address && held.handle == handle) {
                return Err(failed(format!("{address} is not assigned to {handle}")));
            }
        }
        Ok(())
    }

    pub(crate) async fn gc(&self, request: GcRequest) -> Result<GcResponse, ApiError> {
        self.ready()?;
        let mut response = GcResponse::default();
        let valid: BTreeSet<(String, String)> =
            request.valid.iter().map(|valid| (valid.container_id.clone(), valid.interface.clone())).collect();
        let network = request.network.clone();
        let stale = {
            let valid = valid.clone();
            let network = network.clone();
            self.ask(move |cluster| stale_endpoints(cluster, &network, &valid)).await?
        };
        for (key, endpoint) in stale {
            let shown = format!("{} of container {}", endpoint.spec.pod, endpoint.spec.container_id);
            match self.delete_if_owned(&key, &endpoint.spec.container_id).await {
                Ok(()) => response.freed.push(shown),
                Err(error) => response.errors.push(format!("{shown}: {error}")),
            }
        }
        let prefix = format!("{network}.");
        let kept: BTreeSet<String> = request.valid.iter().map(handle_of).collect();
        let held = self.ipam.held_by_this_node().await.map_err(ipam_error)?;
        let handles: BTreeSet<String> = held
            .into_iter()
            .map(|held| held.handle)
            .filter(|handle| handle.starts_with(&prefix) && !kept.contains(handle))
            .collect();
        for handle in handles {
            match self.ipam.release_by_handle(&handle).await {
                Ok(addresses) => response.freed.push(format!("{handle}: {addresses:?}")),
                Err(error) => response.errors.push(format!("{handle}: {error}")),
            }
        }
        Ok(response)
    }

    /// Tells whether ADD can be served: in sync, and a pool that this node may use.
    pub(crate) fn status(&self) -> Result<(), ApiError> {
        let shared = self.ready().map_err(|error| ApiError { code: ApiError::NOT_AVAILABLE, ..error })?;
        if shared.pools.is_empty() {
            let details = "apply an IPPool with `margayctl apply -f`";
            return Err(ApiError::new(ApiError::NOT_AVAILABLE, "there is no IPPool to assign addresses from", details));
        }
        Ok(())
    }

    fn ready(&self) -> Result<Arc<Shared>, ApiError> {
        let shared = self.shared.borrow().clone();
        if let Some((reason, _)) = &shared.datastore_error {
            return Err(ApiError::new(ApiError::TRY_AGAIN, "the datastore is away", reason.clone()));
        }
        if !shared.in_sync {
            let details =
                shared.waits.first().map(|wait| format!("{}: {}", wait.what, wait.reason)).unwrap_or_default();
            return Err(ApiError::new(ApiError::TRY_AGAIN, "margayd has not read the datastore yet", details));
        }
        Ok(shared)
    }

    async fn tell(&self, message: Message) -> Result<(), ApiError> {
        self.actor.send(message).await.map_err(|_| stopping())
    }

    async fn ask<T: Send + 'static>(&self, ask: impl FnOnce(&Cluster) -> T + Send + 'static) -> Result<T, ApiError> {
        let (answer, answered) = oneshot::channel();
        let question = Message::Ask(Box::new(move |cluster| {
            // An asker that is gone needs no answer.
            let _ = answer.send(ask(cluster));
        }));
        self.tell(question).await?;
        answered.await.map_err(|_| stopping())
    }

    fn attributes(&self, attachment: &Attachment, pod: &Pod) -> BTreeMap<String, String> {
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        BTreeMap::from([
            ("containerID".to_owned(), attachment.container_id.clone()),
            ("interface".to_owned(), attachment.interface.clone()),
            ("namespace".to_owned(), pod.namespace.clone()),
            ("node".to_owned(), self.node.to_string()),
            ("pod".to_owned(), pod.name.clone()),
            ("timestamp".to_owned(), now),
        ])
    }

    /// The endpoint of a request, without addresses.
    fn endpoint(&self, request: &AddRequest) -> Result<WorkloadEndpoint, ApiError> {
        let AddRequest { attachment, pod, .. } = request;
        let bad = |details: String| ApiError::new(ApiError::BAD_REQUEST, "the request cannot be understood", details);
        let mut ports = Vec::new();
        for port in &pod.ports {
            let protocol = port.protocol.parse().map_err(bad)?;
            let name = port.name.clone();
            ports.push(WorkloadEndpointPort { name, protocol, port: port.port, host_port: None, host_ip: None });
        }
        let mut profiles = vec![format!("kns.{}", pod.namespace)];
        if !pod.service_account.is_empty() {
            profiles.push(format!("ksa.{}.{}", pod.namespace, pod.service_account));
        }
        let spec = WorkloadEndpointSpec {
            orchestrator: "k8s".to_owned(),
            node: self.node.to_string(),
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
        let name = workload_endpoint_name(&self.node, "k8s", &pod.name, &attachment.interface);
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
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
        endpoint.metadata.creation_timestamp = Some(now.to_string());
        match endpoint.problems().first() {
            None if !pod.namespace.is_empty() && !pod.namespace.contains(['/', '.']) => Ok(endpoint),
            None => Err(bad(format!("'{}' is not a namespace", pod.namespace))),
            Some(problem) => Err(bad(format!("{} {problem}", WorkloadEndpointSpec::KIND))),
        }
    }
}

/// Endpoints of a network on this node whose attachment is not among the valid ones.
fn stale_endpoints(
    cluster: &Cluster,
    network: &str,
    valid: &BTreeSet<(String, String)>,
) -> Vec<(String, WorkloadEndpoint)> {
    let of_network = |endpoint: &WorkloadEndpoint| {
        endpoint.metadata.annotations.get(NETWORK_ANNOTATION).is_some_and(|named| named == network)
    };
    let local = cluster.local_endpoints.iter().map(|(key, (_, endpoint))| (key, endpoint));
    local
        .filter(|(_, endpoint)| of_network(endpoint))
        .filter(|(_, endpoint)| !valid.contains(&(endpoint.spec.container_id.clone(), endpoint.spec.endpoint.clone())))
        .map(|(key, endpoint)| (key.clone(), endpoint.clone()))
        .collect()
}

/// Calico's handle of an attachment, `NETWORK.CONTAINER`; further interfaces of a container have handles of their own.
fn handle_of(attachment: &Attachment) -> String {
    let Attachment { network, container_id, interface } = attachment;
    match interface.as_str() {
        "eth0" => format!("{network}.{container_id}"),
        other => format!("{network}.{container_id}.{other}"),
    }
}

fn response(endpoint: &WorkloadEndpoint, assigned: &[Assignment]) -> AddResponse {
    AddResponse {
        addresses: assigned.iter().map(|assignment| assignment.address).collect(),
        ipv4_gateway: endpoint.spec.ipv4_gateway,
        ipv6_gateway: endpoint.spec.ipv6_gateway,
    }
}

async fn kernel_has_it(told: oneshot::Receiver<Result<(), String>>) -> Result<(), ApiError> {
    match tokio::time::timeout(KERNEL_TIMEOUT, told).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(reason))) => Err(ApiError::new(ApiError::INTERNAL, "the kernel could not be programmed", reason)),
        Ok(Err(_)) => Err(stopping()),
        Err(_) => {
            let details = format!("nothing after {KERNEL_TIMEOUT:?}; see `margayctl status`");
            Err(ApiError::new(ApiError::TRY_AGAIN, "the kernel is not programmed yet", details))
        }
    }
}

fn stopping() -> ApiError {
    ApiError::new(ApiError::TRY_AGAIN, "margayd is stopping", "")
}

fn store_error(error: &StoreError) -> ApiError {
    let code = if error.is_retryable() { ApiError::TRY_AGAIN } else { ApiError::INTERNAL };
    ApiError::new(code, "the datastore could not be written or read", error.to_string())
}

fn ipam_error(error: IpamError) -> ApiError {
    let code = match &error {
        error if error.is_retryable() => ApiError::TRY_AGAIN,
        IpamError::Exhausted { .. } | IpamError::NoPool { .. } => ApiError::EXHAUSTED,
        _ => ApiError::INTERNAL,
    };
    ApiError::new(code, "no address could be assigned or freed", error.to_string())
}
