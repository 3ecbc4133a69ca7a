//! What the CNI plugin asks: attachments of pods to the network.

mod add;
mod check;
mod del;
mod endpoint;
mod errors;
mod gc;
mod locks;
mod notes;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use margay_datastore::Datastore;
use margay_ipam_client::IpamClient;
use margay_local_api::{ApiError, Attachment, Pod};
use tokio::sync::{mpsc, oneshot, watch};

use crate::actor::Message;
use crate::cluster::Cluster;
use crate::shared::{Shared, Waiting};
use crate::status::unanswered;

use errors::stopping;
use locks::{Held, Locks};
pub(crate) use notes::Notes;
use status::Exhausted;
pub(crate) use status::StatusQuery;

/// Serves the plugin.
#[derive(Debug, Clone)]
pub(crate) struct Cni {
    node: Arc<str>,
    store: Arc<dyn Datastore>,
    ipam: IpamClient,
    actor: mpsc::Sender<Message>,
    shared: watch::Receiver<Arc<Shared>>,
    locks: Locks,
    exhausted: Exhausted,
    notes: Notes,
}

impl Cni {
    pub(crate) fn new(
        node: Arc<str>,
        store: Arc<dyn Datastore>,
        ipam: IpamClient,
        actor: mpsc::Sender<Message>,
        shared: watch::Receiver<Arc<Shared>>,
        notes: Notes,
    ) -> Cni {
        Cni { node, store, ipam, actor, shared, locks: Locks::default(), exhausted: Exhausted::default(), notes }
    }

    /// The state to work with, or why ADD can't be served at present.
    fn ready(&self) -> Result<Arc<Shared>, ApiError> {
        let shared = self.synced()?;
        if let Some((reason, _)) = &shared.datastore_error {
            return Err(ApiError::new(ApiError::TRY_AGAIN, "the datastore is away", reason.clone()));
        }
        // Its labels say which pools it may use.
        if shared.node_revision.is_none() {
            let wait = shared.waits.iter().find(|wait| wait.what == Waiting::REGISTRATION);
            let reason = wait.map(|wait| wait.reason.clone()).unwrap_or_default();
            return Err(ApiError::new(ApiError::TRY_AGAIN, "this node is not registered yet", reason));
        }
        Ok(shared)
    }

    /// The state once everything was read: before, nobody knows what is in the kernel.
    fn synced(&self) -> Result<Arc<Shared>, ApiError> {
        let shared = self.shared.borrow().clone();
        if shared.in_sync {
            return Ok(shared);
        }
        let details = shared.waits.first().map(|wait| format!("{}: {}", wait.what, wait.reason)).unwrap_or_default();
        Err(ApiError::new(ApiError::TRY_AGAIN, "margayd has not read the datastore yet", details))
    }

    /// Waits until nobody else works on the pod's endpoint or on what the attachment holds.
    async fn lock(&self, attachment: &Attachment, pod: &Pod) -> Held {
        let key = endpoint::key(&self.node, attachment, pod);
        self.locks.lock([key, endpoint::handle(attachment)]).await
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
        answered.await.map_err(|_| unanswered())
    }
}
