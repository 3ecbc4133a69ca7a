//! The one task that knows the cluster: it takes what the datastore tells, and tells felix and the speaker.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use margay_api::Labels;
use margay_api::kinds::{BgpPeer, IpPool, Node, SecretKeyRef, WorkloadEndpoint};
use margay_bgp_core::SpeakerConfig;
use margay_bgp_speaker::SpeakerHandle;
use margay_datastore::{PrefixEvent, Revision};
use margay_felix_agent::{FelixHandle, LocalEndpoint, ToFelix};
use margay_local_api::Wait;
use margay_net::{Cidr, Family};
use tokio::sync::{mpsc, oneshot, watch};

use crate::bgp_config::{self, BgpResources};
use crate::cluster::{Cluster, Watched};

/// What the actor is told.
pub(crate) enum Message {
    Store(Watched, PrefixEvent),
    /// An endpoint of this node was written; `done` is told when the kernel has it.
    PutEndpoint {
        key: String,
        revision: Revision,
        endpoint: Box<WorkloadEndpoint>,
        done: Done,
    },
    /// An endpoint of this node was deleted.
    DropEndpoint {
        key: String,
        done: Done,
    },
    /// A profile was written, and the next endpoint needs it.
    PutProfile(margay_datastore::KeyValue),
    /// A question about the cluster.
    Ask(Box<dyn FnOnce(&Cluster) + Send>),
}

/// Told when everything before is in the kernel, or what failed.
pub(crate) type Done = oneshot::Sender<Result<(), String>>;

/// What the API's handlers read without asking the actor.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared {
    /// Everything that is watched has been read once.
    pub(crate) in_sync: bool,
    pub(crate) pools: Vec<IpPool>,
    pub(crate) node_labels: Labels,
    pub(crate) own_blocks: BTreeSet<Cidr>,
    pub(crate) profiles: BTreeSet<String>,
    pub(crate) local_asn: Option<margay_net::Asn>,
    pub(crate) router_id: Option<String>,
    pub(crate) policies: usize,
    pub(crate) local_endpoints: usize,
    pub(crate) endpoints: usize,
    pub(crate) datastore_error: Option<(String, SystemTime)>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) warnings: Vec<String>,
}

pub(crate) struct Actor {
    pub(crate) cluster: Cluster,
    pub(crate) felix: FelixHandle,
    pub(crate) speaker: SpeakerHandle,
    pub(crate) shared: watch::Sender<Arc<Shared>>,
    pub(crate) secrets: PathBuf,
    waiting_for: BTreeSet<Watched>,
    started: Instant,
    datastore_error: Option<(String, SystemTime)>,
    applied: Option<SpeakerConfig>,
    problems: Vec<String>,
    interfaces: BTreeMap<String, String>,
    announced_blocks: BTreeSet<Cidr>,
    borrowed: BTreeSet<Cidr>,
    node_addresses: Vec<std::net::IpAddr>,
}

/// How many messages are taken before felix and the speaker are told.
const BURST: usize = 256;

impl Actor {
    pub(crate) fn new(
        node: &str,
        felix: FelixHandle,
        speaker: SpeakerHandle,
        shared: watch::Sender<Arc<Shared>>,
        secrets: PathBuf,
    ) -> Actor {
        Actor {
            cluster: Cluster::new(node),
            felix,
            speaker,
            shared,
            secrets,
            waiting_for: Watched::ALL.into_iter().collect(),
            started: Instant::now(),
            datastore_error: None,
            applied: None,
            problems: Vec::new(),
            interfaces: BTreeMap::new(),
            announced_blocks: BTreeSet::new(),
            borrowed: BTreeSet::new(),
            node_addresses: Vec::new(),
        }
    }

    /// Runs until nobody is left to tell it anything.
    pub(crate) async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        while let Some(message) = messages.recv().await {
            let mut done = Vec::new();
            self.take(message, &mut done);
            for _ in 1..BURST {
                match messages.try_recv() {
                    Ok(message) => self.take(message, &mut done),
                    Err(_) => break,
                }
            }
            if self.waiting_for.is_empty() {
                self.flush().await;
            }
            for (interface, reply) in done {
                self.felix.send(ToFelix::EndpointBarrier { interface, reply }).await;
            }
            self.publish();
        }
    }

    fn take(&mut self, message: Message, done: &mut Vec<(String, Done)>) {
        match message {
            Message::Store(watched, event) => self.take_store_event(watched, event),
            Message::PutEndpoint { key, revision, endpoint, done: told } => {
                done.push((endpoint.spec.interface_name.clone(), told));
                self.cluster.put_endpoint(&key, revision, *endpoint);
            }
            Message::DropEndpoint { key, done: told } => {
                let known = self.cluster.local_endpoints.get(&key);
                done.push((known.map(|(_, known)| known.spec.interface_name.clone()).unwrap_or_default(), told));
                self.cluster.delete_endpoint(&key);
            }
            Message::PutProfile(stored) => self.cluster.put(Watched::Profiles, &stored),
            Message::Ask(ask) => ask(&self.cluster),
        }
    }

    fn take_store_event(&mut self, watched: Watched, event: PrefixEvent) {
        match event {
            PrefixEvent::Snapshot(items) => {
                items.iter().for_each(|stored| self.cluster.put(watched, stored));
                self.waiting_for.remove(&watched);
            }
            PrefixEvent::InSync => {}
            PrefixEvent::Put(stored) => self.cluster.put(watched, &stored),
            PrefixEvent::Delete { key, revision } => self.cluster.delete(watched, &key, Some(revision)),
            PrefixEvent::Unavailable { reason, since } => {
                if self.datastore_error.is_none() {
                    tracing::warn!(reason, "the datastore is away; traffic goes on, new pods wait");
                    self.datastore_error = Some((reason, since));
                }
            }
            PrefixEvent::Available => {
                if self.datastore_error.take().is_some() {
                    tracing::info!("the datastore is back");
                }
            }
        }
    }

    /// Tells felix and the speaker what changed: policy before endpoints, blocks before what is in them.
    async fn flush(&mut self) {
        let dirty = std::mem::take(&mut self.cluster.dirty);
        let changes = self.cluster.policy.changes();
        if !changes.is_empty() {
            self.felix.send(ToFelix::Policy(changes)).await;
        }
        if dirty.node {
            let node = self.cluster.node();
            let addresses: Vec<_> =
                Family::ALL.iter().filter_map(|family| node.and_then(|node| node.spec.bgp_address(*family))).collect();
            if addresses != self.node_addresses {
                self.node_addresses.clone_from(&addresses);
                self.felix.send(ToFelix::NodeAddresses(addresses)).await;
            }
        }
        if dirty.blocks || !dirty.endpoints.is_empty() {
            self.flush_blocks().await;
        }
        for key in &dirty.endpoints {
            self.flush_endpoint(key).await;
        }
        if !self.shared.borrow().in_sync {
            tracing::info!(waited = ?self.started.elapsed(), "in sync with the datastore");
            self.felix.send(ToFelix::InSync).await;
        }
        if dirty.bgp {
            self.flush_bgp().await;
        }
    }

    /// Own blocks, and the addresses of local endpoints that lie outside of them.
    async fn flush_blocks(&mut self) {
        let blocks = self.cluster.own_blocks.clone();
        if blocks != self.announced_blocks {
            self.announced_blocks.clone_from(&blocks);
            self.felix.send(ToFelix::OwnBlocks(blocks.clone())).await;
        }
        let addresses = self.cluster.local_endpoints.values().flat_map(|(_, endpoint)| &endpoint.spec.ip_networks);
        let borrowed: BTreeSet<Cidr> =
            addresses.copied().filter(|address| !blocks.iter().any(|block| block.covers(*address))).collect();
        if borrowed != self.borrowed {
            self.borrowed.clone_from(&borrowed);
            self.felix.send(ToFelix::BorrowedAddresses(borrowed)).await;
        }
    }

    async fn flush_endpoint(&mut self, key: &str) {
        let present = self.cluster.local_endpoints.get(key).map(|(_, endpoint)| {
            let addresses = endpoint.spec.ip_networks.iter().map(|network| network.addr()).collect();
            (endpoint.spec.interface_name.clone(), LocalEndpoint { addresses, mac: endpoint.spec.mac })
        });
        let before = match &present {
            Some((interface, _)) => self.interfaces.insert(key.to_owned(), interface.clone()),
            None => self.interfaces.remove(key),
        };
        if let Some(before) = before
            && present.as_ref().is_none_or(|(interface, _)| *interface != before)
        {
            self.felix.send(ToFelix::Endpoint { interface: before, endpoint: None }).await;
        }
        if let Some((interface, endpoint)) = present {
            self.felix.send(ToFelix::Endpoint { interface, endpoint: Some(endpoint) }).await;
        }
    }

    async fn flush_bgp(&mut self) {
        let Some(node) = self.cluster.node() else { return };
        let nodes: Vec<Node> = self.cluster.nodes.values().cloned().collect();
        let peers: Vec<BgpPeer> = self.cluster.peers.values().cloned().collect();
        let pools: Vec<IpPool> = self.cluster.pools.values().cloned().collect();
        let config = self.cluster.bgp_configuration();
        let secrets = self.secrets.clone();
        let secret = move |reference: &SecretKeyRef| read_secret(&secrets, reference);
        let resources = BgpResources { node, nodes: &nodes, peers: &peers, config: &config, pools: &pools };
        let plan = bgp_config::plan(resources, &secret);
        self.problems = plan.problems;
        if self.applied.as_ref() == Some(&plan.config) {
            return;
        }
        match self.speaker.configure(plan.config.clone()).await {
            Ok(()) => self.applied = Some(plan.config),
            Err(error) => self.problems.push(format!("BGP: {error}; the last good configuration stays")),
        }
    }

    fn publish(&self) {
        let cluster = &self.cluster;
        let mut warnings = self.problems.clone();
        warnings.extend(cluster.invalid.iter().map(|(key, reason)| format!("{key}: {reason}")));
        let seconds = self.started.elapsed().as_secs();
        let mut waits: Vec<Wait> = Vec::new();
        if let Some((reason, since)) = &self.datastore_error {
            let since_seconds = since.elapsed().unwrap_or_default().as_secs();
            waits.push(Wait { what: "the datastore".to_owned(), reason: reason.clone(), since_seconds });
        } else if !self.waiting_for.is_empty() {
            let reason = format!("not yet read: {:?}", self.waiting_for);
            waits.push(Wait { what: "the first read of the datastore".to_owned(), reason, since_seconds: seconds });
        }
        if cluster.node().is_none() {
            let reason = "BGP starts once this node's resource has an address".to_owned();
            waits.push(Wait { what: "registration of this node".to_owned(), reason, since_seconds: seconds });
        }
        let shared = Shared {
            in_sync: self.waiting_for.is_empty(),
            pools: cluster.pools.values().cloned().collect(),
            node_labels: cluster.node().map(|node| node.metadata.labels.clone()).unwrap_or_default(),
            own_blocks: cluster.own_blocks.clone(),
            profiles: cluster.profiles.clone(),
            local_asn: self.applied.as_ref().map(|config| config.asn),
            router_id: self.applied.as_ref().map(|config| config.router_id.to_string()),
            policies: cluster.policies.len(),
            local_endpoints: cluster.local_endpoints.len(),
            endpoints: cluster.endpoints.len(),
            datastore_error: self.datastore_error.clone(),
            waits,
            warnings,
        };
        self.shared.send_replace(Arc::new(shared));
    }
}

/// Reads a password from `DIRECTORY/NAME/KEY`, without the line's end.
fn read_secret(directory: &std::path::Path, reference: &SecretKeyRef) -> Result<String, String> {
    let plain = |part: &str| !part.is_empty() && part != ".." && part != "." && !part.contains('/');
    if !plain(&reference.name) || !plain(&reference.key) {
        return Err(format!("'{}/{}' does not name a secret", reference.name, reference.key));
    }
    let path = directory.join(&reference.name).join(&reference.key);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    match password.len() {
        0 => Err(format!("{} is empty", path.display())),
        // The kernel's limit, TCP_MD5SIG_MAXKEYLEN.
        1..=80 => Ok(password.to_owned()),
        len => Err(format!("the password in {} has {len} bytes; TCP-MD5 takes at most 80", path.display())),
    }
}
