//! DEL: endpoint, kernel, address; what is gone already is no error.

use std::net::IpAddr;

use margay_api::Stored;
use margay_api::kinds::WorkloadEndpointSpec;
use margay_datastore::StoreError;
use margay_local_api::{ApiError, Attachment, DelRequest, Pod};
use tokio::sync::oneshot;

use super::errors::{ipam_error, kernel_has_it, store_error};
use super::{Cni, endpoint};
use crate::actor::Message;

impl Cni {
    pub(crate) async fn del(&self, request: DelRequest) -> Result<(), ApiError> {
        let DelRequest { attachment, pod } = &request;
        let _alone = self.lock(attachment, pod).await;
        // Before, nobody could tell that the kernel has forgotten the address.
        self.synced()?;
        let freed = self.free(attachment, pod).await?;
        if freed.is_empty() {
            tracing::debug!(container = attachment.container_id, "nothing is left of the attachment");
        } else {
            let pod = format!("{}/{}", pod.namespace, pod.name);
            tracing::info!(pod, container = attachment.container_id, addresses = ?freed, "pod is detached");
        }
        Ok(())
    }

    /// Frees what the attachment has; an address only after the kernel has forgotten it. The caller holds its lock.
    pub(super) async fn free(&self, attachment: &Attachment, pod: &Pod) -> Result<Vec<IpAddr>, ApiError> {
        let (container_id, interface) = (attachment.container_id.clone(), attachment.interface.clone());
        // A runtime whose records are lost does not name the pod.
        let mut keys = self.ask(move |cluster| cluster.keys_of(&container_id, &interface)).await?;
        if !pod.name.is_empty() {
            keys.insert(endpoint::key(&self.node, attachment, pod));
        }
        for key in keys {
            self.delete_if_owned(&key, &attachment.container_id).await?;
        }
        let freed = self.ipam.release_by_handle(&endpoint::handle(attachment)).await.map_err(ipam_error)?;
        self.notes.remove(attachment);
        if !freed.is_empty() {
            self.exhausted.forget();
        }
        Ok(freed)
    }

    /// Deletes an endpoint from the datastore and from the kernel unless it is another container's.
    pub(super) async fn delete_if_owned(&self, key: &str, container_id: &str) -> Result<(), ApiError> {
        let deleted = loop {
            let Some(present) = self.store.get(key).await.map_err(|error| store_error(&error))? else { break None };
            let owner = Stored::<WorkloadEndpointSpec>::decode(key, &present.value).map(|s| s.object.spec.container_id);
            if owner.is_ok_and(|owner| owner != container_id) {
                return Ok(());
            }
            match self.store.delete(key, Some(present.revision)).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => break Some(present.revision),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(store_error(&error)),
            }
        };
        let (done, told) = oneshot::channel();
        let (key, container_id) = (key.to_owned(), container_id.to_owned());
        self.tell(Message::DropEndpoint { key, container_id, deleted, done }).await?;
        kernel_has_it(told).await
    }
}
