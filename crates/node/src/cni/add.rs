//! ADD: address, endpoint, kernel; or nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use margay_api::kinds::{WorkloadEndpoint, WorkloadEndpointSpec};
use margay_api::{Stored, kubernetes};
use margay_datastore::{KeyValue, Revision, StoreError};
use margay_ipam_client::{AssignRequest, IpamError};
use margay_local_api::{AddRequest, AddResponse, ApiError};
use margay_net::Family;
use tokio::sync::oneshot;

use super::errors::{ipam_error, kernel_has_it, store_error};
use super::{Cni, endpoint};
use crate::actor::Message;
use crate::shared::Shared;

/// Where the time of an ADD went.
#[derive(Debug, Default)]
struct Timings {
    address: Duration,
    endpoint: Duration,
    kernel: Duration,
}

impl Cni {
    /// Gives the attachment addresses, writes its endpoint and has the kernel programmed; what a failure leaves is freed
    /// here, or where that fails too by the runtime's DEL or GC.
    pub(crate) async fn add(&self, request: AddRequest) -> Result<AddResponse, ApiError> {
        let started = Instant::now();
        let _alone = self.lock(&request.attachment, &request.pod).await;
        let shared = self.ready()?;
        let families: Vec<Family> = [(Family::V4, request.ipv4), (Family::V6, request.ipv6)]
            .into_iter()
            .filter_map(|(family, wanted)| wanted.then_some(family))
            .collect();
        if families.is_empty() {
            let details = "set ipam.assign_ipv4 or ipam.assign_ipv6 in the network configuration";
            return Err(ApiError::new(ApiError::BAD_REQUEST, "no address family is asked for", details));
        }
        let endpoint = endpoint::of_request(&self.node, &request)?;
        let mut timings = Timings::default();
        match self.attach(&shared, &request, families, endpoint, &mut timings).await {
            Ok(endpoint) => {
                let response = endpoint::response(&endpoint);
                tracing::info!(
                    pod = format!("{}/{}", request.pod.namespace, request.pod.name),
                    container = request.attachment.container_id,
                    addresses = ?response.addresses,
                    ms = format!("{:.1}", started.elapsed().as_secs_f64() * 1e3),
                    "pod is attached"
                );
                tracing::debug!(?timings, "times of the attachment");
                Ok(response)
            }
            Err(error) => {
                tracing::info!(
                    pod = format!("{}/{}", request.pod.namespace, request.pod.name),
                    container = request.attachment.container_id,
                    %error,
                    "pod could not be attached"
                );
                // A write that failed may have been done all the same.
                if let Err(error) = self.free(&request.attachment, &request.pod).await {
                    tracing::info!(%error, "could not undo the attachment; DEL or GC frees the rest");
                }
                Err(error)
            }
        }
    }

    async fn attach(
        &self,
        shared: &Shared,
        request: &AddRequest,
        families: Vec<Family>,
        mut endpoint: WorkloadEndpoint,
        timings: &mut Timings,
    ) -> Result<WorkloadEndpoint, ApiError> {
        let begin = Instant::now();
        let assign = AssignRequest {
            handle: endpoint::handle(&request.attachment),
            attributes: endpoint::attributes(&self.node, &request.attachment, &request.pod),
            families,
            pools: BTreeMap::from([(Family::V4, request.ipv4_pools.clone()), (Family::V6, request.ipv6_pools.clone())]),
        };
        self.notes.write(&request.attachment)?;
        let assigned = self.ipam.assign(assign, &shared.pools, &shared.node_labels).await;
        match &assigned {
            Err(IpamError::Exhausted { family, .. }) => self.exhausted.note(*family),
            Ok(_) => self.exhausted.forget(),
            Err(_) => {}
        }
        endpoint::set_addresses(&mut endpoint, &assigned.map_err(ipam_error)?);
        timings.address = begin.elapsed();

        let begin = Instant::now();
        self.ensure_profile(shared, endpoint.namespace().unwrap_or_default()).await?;
        let revision = self.write(&endpoint).await?;
        timings.endpoint = begin.elapsed();

        let begin = Instant::now();
        let (done, told) = oneshot::channel();
        let message =
            Message::PutEndpoint { key: endpoint.key(), revision, endpoint: Box::new(endpoint.clone()), done };
        self.tell(message).await?;
        kernel_has_it(told).await?;
        timings.kernel = begin.elapsed();
        Ok(endpoint)
    }

    /// A namespace that nobody has told of is as Kubernetes makes one: labelled with its name, open.
    async fn ensure_profile(&self, shared: &Shared, namespace: &str) -> Result<(), ApiError> {
        if shared.profiles.contains(&format!("kns.{namespace}")) {
            return Ok(());
        }
        let namespace = kubernetes::Namespace::named(namespace, kubernetes::NamespaceSpec::default());
        let profile = kubernetes::namespace_profile(&namespace);
        let (key, value) = (profile.key(), Stored::new(profile).encode());
        let stored = match self.store.create(&key, &value).await {
            Ok(revision) => Some(KeyValue { key, value, revision }),
            // It is on its way to the cache; the pod's policy must not wait for it.
            Err(StoreError::AlreadyExists { .. }) => self.store.get(&key).await.map_err(|error| store_error(&error))?,
            Err(error) => return Err(store_error(&error)),
        };
        match stored {
            Some(stored) => self.tell(Message::PutProfile(stored)).await,
            None => Ok(()),
        }
    }

    /// Writes the endpoint, over the one of an earlier pod of that name if there is one: the old container's DEL then
    /// finds another here.
    async fn write(&self, endpoint: &WorkloadEndpoint) -> Result<Revision, ApiError> {
        let key = endpoint.key();
        let fresh = Stored::new(endpoint.clone()).encode();
        loop {
            // Most names are new: one write and no read.
            match self.store.create(&key, &fresh).await {
                Err(StoreError::AlreadyExists { .. }) => {}
                written => return written.map_err(|error| store_error(&error)),
            }
            let Some(present) = self.store.get(&key).await.map_err(|error| store_error(&error))? else { continue };
            let value = match Stored::<WorkloadEndpointSpec>::decode(&key, &present.value) {
                Ok(stored) => stored.with(endpoint.clone()).encode(),
                Err(_) => fresh.clone(),
            };
            match self.store.update(&key, &value, present.revision).await {
                Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => {}
                written => return written.map_err(|error| store_error(&error)),
            }
        }
    }
}
