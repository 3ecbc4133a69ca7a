//! The one task that knows the cluster: it takes what the datastore tells, and tells felix and the speaker.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use margay_api::Labels;
use margay_api::kinds::{IpPool, SecretKeyRef, WorkloadEndpoint};
use margay_bgp_core::{Drain, Ownership, SpeakerConfig};
use margay_bgp_speaker::SpeakerHandle;
use margay_datastore::{KeyValue, PrefixEvent, Revision};
use margay_felix_agent::{FelixHandle, HostRoutes, ToFelix};
use tokio::sync::{mpsc, oneshot, watch};

use crate::bgp_config::{self, BgpPlan, BgpResources, PlanProblem};
use crate::changes::Told;
use crate::cluster::{Cluster, Watched};
use crate::drain_record::DrainRecord;
use crate::object_status::{self, Findings};
use crate::options;
use crate::ownership;
use crate::secret;
use crate::shared::{Shared, Waiting};

/// What the actor is told.
pub(crate) enum Message {
    Store(Watched, PrefixEvent),
    /// An endpoint of this node was written at a revision; `done` is told when the kernel has it.
    PutEndpoint {
        key: String,
        revision: Revision,
        endpoint: Box<WorkloadEndpoint>,
        done: Done,
    },
    /// A container's endpoint was deleted (the value of this revision, None where there was none); `done` is told when
    /// the kernel has forgotten it.
    DropEndpoint {
        key: String,
        container_id: String,
        deleted: Option<Revision>,
        done: Done,
    },
    /// A profile is there, and the next endpoint needs it.
    PutProfile(KeyValue),
    /// Why this node is not registered; None where it is.
    Registration(Option<String>),
    /// Drains the node whatever its resource says, or (None) no longer; `done` is told when the speaker knows.
    Drain {
        drain: Option<Drain>,
        done: Done,
    },
    /// A question about the cluster.
    Ask(Box<dyn FnOnce(&Cluster) + Send>),
}

/// Told when everything before is in the kernel, or what failed.
pub(crate) type Done = oneshot::Sender<Result<(), String>>;

pub(crate) struct Actor {
    cluster: Cluster,
    felix: FelixHandle,
    speaker: SpeakerHandle,
    shared: watch::Sender<Arc<Shared>>,
    secrets: PathBuf,
    waiting_for: BTreeSet<Watched>,
    started: (Instant, SystemTime),
    /// The watches that can't be followed, each with the reason and since when.
    away: BTreeMap<Watched, (String, SystemTime)>,
    unregistered: Option<(String, SystemTime)>,
    told: Told,
    applied: Option<Arc<SpeakerConfig>>,
    applied_at: Option<SystemTime>,
    /// The last plan that the speaker took.
    plan: Option<BgpPlan>,
    secret_stamps: secret::Stamps,
    owners: Option<Arc<Ownership>>,
    /// What felix was told that BGP asks of the host.
    host_routes: Option<HostRoutes>,
    /// Asked for by the local API.
    drain: Option<Drain>,
    drain_record: DrainRecord,
    drain_asked: Vec<Done>,
    problems: Vec<String>,
    /// Those of the last plan; None before the first.
    plan_problems: Option<Vec<PlanProblem>>,
    findings: watch::Sender<Option<Arc<Findings>>>,
    policy_problems: Vec<String>,
    pools: Arc<Vec<IpPool>>,
    node_labels: Arc<Labels>,
}

/// How many messages are taken before felix and the speaker are told.
const BURST: usize = 256;

/// How often the files of passwords are looked at: nobody tells of their changes.
const SECRETS: Duration = Duration::from_secs(2);

impl Actor {
    pub(crate) fn new(
        node: &str,
        felix: FelixHandle,
        speaker: SpeakerHandle,
        shared: watch::Sender<Arc<Shared>>,
        findings: watch::Sender<Option<Arc<Findings>>>,
        secrets: PathBuf,
        drain_record: DrainRecord,
    ) -> Actor {
        Actor {
            cluster: Cluster::new(node),
            felix,
            speaker,
            shared,
            secrets,
            waiting_for: Watched::ALL.into_iter().collect(),
            started: (Instant::now(), SystemTime::now()),
            away: BTreeMap::new(),
            unregistered: None,
            told: Told::default(),
            applied: None,
            applied_at: None,
            plan: None,
            secret_stamps: secret::Stamps::default(),
            owners: None,
            host_routes: None,
            drain: None,
            drain_record,
            drain_asked: Vec::new(),
            problems: Vec::new(),
            plan_problems: None,
            findings,
            policy_problems: Vec::new(),
            pools: Arc::default(),
            node_labels: Arc::default(),
        }
    }

    /// Runs until nobody is left to tell it anything.
    pub(crate) async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut looks = tokio::time::interval(SECRETS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut done = Vec::new();
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.take(message, &mut done),
                    None => return,
                },
                _ = looks.tick() => {
                    let changed = self.secret_stamps.changed(&self.secrets, &self.cluster.secrets());
                    self.cluster.dirty.bgp |= changed;
                    if !changed {
                        continue;
                    }
                }
            }
            for _ in 1..BURST {
                match messages.try_recv() {
                    Ok(message) => self.take(message, &mut done),
                    Err(_) => break,
                }
            }
            if self.waiting_for.is_empty() {
                self.flush().await;
            }
            let drained = self.drained();
            for told in self.drain_asked.drain(..) {
                // An asker that is gone needs no answer.
                let _ = told.send(drained.clone());
            }
            for (interface, reply) in done {
                self.felix.send(ToFelix::EndpointBarrier { interface, reply }).await;
            }
            self.publish();
        }
    }

    /// Takes a message in; who waits for the kernel is put on the list with the interface that it is about.
    fn take(&mut self, message: Message, done: &mut Vec<(String, Done)>) {
        match message {
            Message::Store(watched, event) => self.take_store_event(watched, event),
            Message::PutEndpoint { key, revision, endpoint, done: told } => {
                done.push((endpoint.spec.interface_name.clone(), told));
                self.cluster.put_local(&key, revision, *endpoint);
            }
            Message::DropEndpoint { key, container_id, deleted, done: told } => {
                match self.cluster.drop_local(&key, &container_id, deleted) {
                    Some(interface) => done.push((interface, told)),
                    // The kernel has nothing of it. An asker that is gone needs no answer.
                    None => drop(told.send(Ok(()))),
                }
            }
            Message::PutProfile(stored) => {
                let known = stored.key.rsplit('/').next().is_some_and(|name| self.cluster.profiles.contains(name));
                // What the watch told is as new at least.
                if !known {
                    self.cluster.put(Watched::Profiles, &stored);
                }
            }
            Message::Registration(reason) => {
                let since = self.unregistered.as_ref().map_or_else(SystemTime::now, |(_, since)| *since);
                self.unregistered = reason.map(|reason| (reason, since));
            }
            Message::Drain { drain, done: told } => {
                self.drain = drain;
                self.drain_asked.push(told);
                self.cluster.dirty.bgp = true;
            }
            // A question that panics is its asker's trouble: it only reads.
            Message::Ask(ask) => drop(std::panic::catch_unwind(AssertUnwindSafe(|| ask(&self.cluster)))),
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
            PrefixEvent::Delete { key, revision } => self.cluster.delete(watched, &key, revision),
            PrefixEvent::Unavailable { reason, since } => {
                if self.away.is_empty() {
                    tracing::warn!(reason, "the datastore is away; traffic goes on, new pods wait");
                }
                self.away.insert(watched, (reason, since));
            }
            PrefixEvent::Available => {
                if self.away.remove(&watched).is_some() && self.away.is_empty() {
                    tracing::info!("the datastore is back");
                }
            }
        }
    }

    /// Tells felix and the speaker what changed.
    async fn flush(&mut self) {
        let dirty = std::mem::take(&mut self.cluster.dirty);
        let plan = if dirty.bgp { self.plan_bgp() } else { None };
        if let Some(plan) = &plan
            && self.host_routes.as_ref() != Some(&plan.routes)
        {
            // Before felix is in sync, so that a restart leaves ways to peers as they are.
            self.host_routes = Some(plan.routes.clone());
            self.felix.send(ToFelix::HostRoutes(plan.routes.clone())).await;
        }
        for change in self.told.changes(&mut self.cluster, &dirty) {
            if matches!(change, ToFelix::InSync) {
                tracing::info!(waited = ?self.started.0.elapsed(), "in sync with the datastore");
            }
            self.felix.send(change).await;
        }
        if dirty.node {
            self.node_labels =
                Arc::new(self.cluster.node().map(|node| node.metadata.labels.clone()).unwrap_or_default());
        }
        if dirty.policies {
            self.policy_problems = self.cluster.policy.problems().iter().map(ToString::to_string).collect();
        }
        if dirty.owners {
            self.flush_owners().await;
        }
        if dirty.bgp {
            self.pools = Arc::new(self.cluster.pools.values().cloned().collect());
        }
        if let Some(plan) = plan {
            self.follow(plan).await;
        }
    }

    /// Tells the speaker who owns what, before the sessions over which it matters begin.
    async fn flush_owners(&mut self) {
        let cluster = &self.cluster;
        let config = cluster.configurations.get("default").map(|object| object.spec.clone()).unwrap_or_default();
        let owners = ownership::table(ownership::Sources {
            pools: &cluster.pools,
            nodes: &cluster.nodes,
            config: &config,
            blocks: &cluster.blocks,
            endpoints: cluster.endpoints.values().map(|place| (&*place.node, &*place.addresses)),
        });
        if self.owners.as_deref() == Some(&owners) {
            return;
        }
        let owners = Arc::new(owners);
        self.owners = Some(owners.clone());
        if self.speaker.ownership(owners).await.is_err() {
            tracing::debug!("the speaker is gone");
        }
    }

    /// What the resources ask of this node; `None` until registration has put its addresses (back) in: the last good
    /// configuration stays.
    fn plan_bgp(&mut self) -> Option<BgpPlan> {
        // Before the files are read, so that what is written to them meanwhile is noticed.
        self.secret_stamps.changed(&self.secrets, &self.cluster.secrets());
        let node = self.cluster.node().filter(|_| !self.cluster.node_addresses().is_empty())?;
        let cluster = &self.cluster;
        let secrets = self.secrets.clone();
        let secret = move |reference: &SecretKeyRef| secret::read(&secrets, reference);
        let workloads: Vec<&WorkloadEndpoint> =
            cluster.local_endpoints.values().map(|(_, endpoint)| endpoint).collect();
        let resources = BgpResources {
            node,
            nodes: &cluster.nodes,
            peers: &cluster.peers,
            filters: &cluster.filters,
            configurations: &cluster.configurations,
            pools: &cluster.pools,
            workloads: &workloads,
            services: &cluster.services,
            slices: &cluster.slices,
        };
        Some(bgp_config::plan(resources, &secret, self.plan.as_ref()))
    }

    async fn follow(&mut self, mut plan: BgpPlan) {
        self.problems = plan.problems.iter().map(ToString::to_string).collect();
        self.plan_problems = Some(plan.problems.clone());
        if self.plan.as_ref().map(|last| &last.log_severity) != Some(&plan.log_severity) {
            options::set_log_severity(plan.log_severity.as_deref());
        }
        plan.config.drain = self.drain.or(self.drain_record.follow(plan.config.drain, SystemTime::now()));
        if self.applied.as_deref() == Some(&plan.config) {
            self.plan = Some(plan);
            return;
        }
        match self.speaker.configure(plan.config.clone()).await {
            Ok(()) => {
                self.applied = Some(plan.config.clone().into());
                self.plan = Some(plan);
                self.applied_at = Some(SystemTime::now());
            }
            Err(error) => self.problems.push(format!("BGP: {error}; the last good configuration stays")),
        }
    }

    /// Whether the speaker knows of the drain that was asked for last, or why not.
    fn drained(&self) -> Result<(), String> {
        match &self.applied {
            // What the resource says may still drain the node.
            Some(applied) if self.drain.is_none() || applied.drain == self.drain => Ok(()),
            Some(_) => Err(format!("the speaker did not take it: {}", self.problems.join("; "))),
            None => Err("BGP has no configuration yet; the drain is part of its first one".to_owned()),
        }
    }

    fn waits(&self) -> Vec<Waiting> {
        let mut waits: Vec<Waiting> = Vec::new();
        if let Some((reason, since)) = self.away.values().next() {
            waits.push(Waiting { what: Waiting::DATASTORE, reason: reason.clone(), since: *since });
        } else if !self.waiting_for.is_empty() {
            let reason = format!("not yet read: {:?}", self.waiting_for);
            waits.push(Waiting { what: Waiting::FIRST_READ, reason, since: self.started.1 });
        }
        if let Some((reason, since)) = &self.unregistered {
            waits.push(Waiting { what: Waiting::REGISTRATION, reason: reason.clone(), since: *since });
        } else if self.waiting_for.is_empty() && self.cluster.node_addresses().is_empty() {
            let reason = "BGP starts once this node's resource has an address".to_owned();
            waits.push(Waiting { what: Waiting::REGISTRATION, reason, since: self.started.1 });
        }
        waits
    }

    fn publish(&self) {
        let cluster = &self.cluster;
        let mut warnings = self.problems.clone();
        warnings.extend(cluster.invalid.iter().map(|(key, reason)| format!("{key}: {reason}")));
        warnings.extend(self.policy_problems.iter().cloned());
        let shared = Shared {
            in_sync: self.waiting_for.is_empty(),
            pools: self.pools.clone(),
            node_labels: self.node_labels.clone(),
            node_revision: cluster.node_revision,
            own_blocks: cluster.own_blocks.clone(),
            profiles: cluster.profiles.clone(),
            bgp: self.applied.clone(),
            bgp_since: self.applied_at,
            drain: self.drain,
            policies: cluster.policies.len(),
            local_endpoints: cluster.local_endpoints.len(),
            endpoints: cluster.endpoints.len(),
            datastore_error: self.away.values().next().cloned(),
            waits: self.waits(),
            warnings,
        };
        self.shared.send_replace(Arc::new(shared));
        if let Some(problems) = &self.plan_problems {
            let found = object_status::findings(problems, &cluster.invalid);
            self.findings.send_if_modified(|known| {
                let changed = known.as_deref() != Some(&found);
                if changed {
                    *known = Some(Arc::new(found));
                }
                changed
            });
        }
    }
}
