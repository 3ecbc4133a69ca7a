//! Keeps this node's resource in the datastore as this machine is.

use std::sync::Arc;
use std::time::Duration;

use margay_api::kinds::{Node, NodeSpec};
use margay_api::{Object, Stored, resource_key};
use margay_datastore::{Datastore, Revision, StoreError};
use margay_ipam_client::IpamClient;
use margay_net::Family;
use margay_netlink::rtnl::Rtnl;
use tokio::sync::{mpsc, watch};

use crate::actor::Message;
use crate::register::{self, HostAddress, Method};
use crate::shared::Shared;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Registers the node at start and again whenever its resource is changed or deleted by others, and ends what an
/// earlier run left half done in IPAM.
pub(crate) struct Registrar {
    pub(crate) node: Arc<str>,
    pub(crate) store: Arc<dyn Datastore>,
    pub(crate) ipam: IpamClient,
    pub(crate) method: Box<dyn Fn(Family) -> Method + Send + Sync>,
    pub(crate) actor: mpsc::Sender<Message>,
    pub(crate) shared: watch::Receiver<Arc<Shared>>,
}

impl Registrar {
    /// Runs until the daemon ends.
    pub(crate) async fn run(mut self) {
        let (mut pause, mut repaired, mut told) = (FIRST_PAUSE, false, None);
        loop {
            let registered = self.register_once().await;
            let reason = registered.as_ref().err().cloned();
            // Said once, not with every attempt.
            if told.as_ref() != Some(&reason) {
                if let Some(reason) = &reason {
                    tracing::warn!(reason, "this node is not registered yet; trying again");
                }
                if self.actor.send(Message::Registration(reason.clone())).await.is_err() {
                    return;
                }
                told = Some(reason);
            }
            if registered.is_ok() && !repaired {
                match self.ipam.repair_affinities().await {
                    Ok(()) => repaired = true,
                    Err(error) => tracing::info!(%error, "cannot look at this node's blocks yet"),
                }
            }
            // Not more often than this, however often others write.
            tokio::time::sleep(pause).await;
            match registered {
                Ok(revision) if repaired => {
                    pause = FIRST_PAUSE;
                    if self.wait_for_another_than(revision).await.is_err() {
                        return;
                    }
                }
                _ => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    /// Waits until the watch shows the resource in another state than the one of `revision`.
    async fn wait_for_another_than(&mut self, revision: Revision) -> Result<(), watch::error::RecvError> {
        let changed = |shared: &Arc<Shared>| shared.in_sync && shared.node_revision != Some(revision);
        self.shared.wait_for(changed).await.map(drop)
    }

    /// Reads the resource and writes what of it is not right; returns the revision at which it is.
    async fn register_once(&self) -> Result<Revision, String> {
        let key = resource_key::<NodeSpec>(None, &self.node);
        let host = host_addresses()?;
        loop {
            let present = self.store.get(&key).await.map_err(|error| error.to_string())?;
            let stored = match &present {
                Some(present) => Stored::<NodeSpec>::decode(&key, &present.value).map_err(|error| error.to_string())?,
                None => Stored::new(self.new_node()),
            };
            let registered = register::register(&stored.object, &host, &self.method)?;
            let value = stored.with(registered.clone()).encode();
            let written = match &present {
                Some(present) if registered == stored.object => return Ok(present.revision),
                Some(present) => self.store.update(&key, &value, present.revision).await,
                None => self.store.create(&key, &value).await,
            };
            match written {
                Ok(revision) => {
                    tracing::info!(bgp = ?registered.spec.bgp, "registered this node");
                    return Ok(revision);
                }
                Err(StoreError::Conflict { .. } | StoreError::AlreadyExists { .. } | StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn new_node(&self) -> Node {
        let mut node = Object::named(&*self.node, NodeSpec::default());
        node.metadata.uid = Some(uuid::Uuid::new_v4().to_string());
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
        node.metadata.creation_timestamp = Some(now.to_string());
        node
    }
}

fn host_addresses() -> Result<Vec<HostAddress>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot read this machine's addresses: {error}");
    let mut rtnl = Rtnl::open().map_err(|error| failed(&error))?;
    let links = rtnl.links().map_err(|error| failed(&error))?;
    let addresses = rtnl.addresses().map_err(|error| failed(&error))?;
    let found = addresses.into_iter().filter_map(|address| {
        let link = links.iter().find(|link| link.index == address.interface)?;
        Some(HostAddress { interface: link.name.clone(), address: address.addr, prefix_len: address.prefix_len })
    });
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use margay_net::Cidr;

    /// A registrar with an address that needs no interface, as the operator's resource has it.
    fn registrar(store: &Arc<dyn Datastore>) -> (Registrar, mpsc::Receiver<Message>, watch::Sender<Arc<Shared>>) {
        let (actor, messages) = mpsc::channel(16);
        let (sender, shared) = watch::channel(Arc::new(Shared::default()));
        let ipam = IpamClient::new(store.clone(), "n1");
        let method = Box::new(|family| match family {
            Family::V4 => Method::Autodetect,
            Family::V6 => Method::Nothing,
        });
        (Registrar { node: "n1".into(), store: store.clone(), ipam, method, actor, shared }, messages, sender)
    }

    async fn written(store: &Arc<dyn Datastore>, address: &str) -> Revision {
        let key = resource_key::<NodeSpec>(None, "n1");
        let bgp = margay_api::kinds::NodeBgp { ipv4_address: Some(address.to_owned()), ..Default::default() };
        let node = Node::named("n1", NodeSpec { bgp: Some(bgp), ..NodeSpec::default() });
        let value = Stored::new(node).encode();
        match store.get(&key).await.expect("a store") {
            Some(present) => store.update(&key, &value, present.revision).await.expect("written"),
            None => store.create(&key, &value).await.expect("written"),
        }
    }

    async fn calico_address(store: &Arc<dyn Datastore>) -> Option<String> {
        let key = resource_key::<NodeSpec>(None, "n1");
        let present = store.get(&key).await.expect("a store")?;
        let node = Stored::<NodeSpec>::decode(&key, &present.value).expect("a node").object;
        node.spec.addresses.first().map(|address| address.address.clone())
    }

    #[tokio::test]
    async fn a_resource_that_others_replaced_is_registered_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}/store.db", directory.path().display());
        let store = margay_datastore::open(&url).expect("a store");
        written(&store, "10.9.9.1/32").await;
        let (registrar, mut messages, shared) = registrar(&store);
        let running = tokio::spawn(registrar.run());
        assert!(matches!(messages.recv().await, Some(Message::Registration(None))));
        assert_eq!(calico_address(&store).await.as_deref(), Some("10.9.9.1"));

        let revision = written(&store, "10.9.9.2/32").await;
        let seen = Shared { in_sync: true, node_revision: Some(revision), ..Shared::default() };
        shared.send_replace(Arc::new(seen));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while calico_address(&store).await.as_deref() != Some("10.9.9.2") {
            assert!(tokio::time::Instant::now() < deadline, "not registered again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        running.abort();
    }

    #[tokio::test]
    async fn what_keeps_a_node_from_being_registered_is_told_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}/store.db", directory.path().display());
        let store = margay_datastore::open(&url).expect("a store");
        let (mut registrar, mut messages, _shared) = registrar(&store);
        let nowhere: Cidr = "203.0.113.7/32".parse().expect("a prefix");
        registrar.method = Box::new(move |_| Method::Within(nowhere));
        let running = tokio::spawn(registrar.run());
        match messages.recv().await {
            Some(Message::Registration(Some(reason))) => assert!(reason.contains("203.0.113.7/32"), "{reason}"),
            _ => panic!("not told"),
        }
        tokio::time::sleep(FIRST_PAUSE * 2).await;
        assert!(messages.try_recv().is_err());
        running.abort();
    }
}
