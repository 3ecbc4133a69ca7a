use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use margay_api::kinds::{Node, NodeSpec};
use margay_api::{RESOURCE_PREFIX, Stored, resource_key};
use margay_datastore::{Listing, WatchStream};
use tokio::task::JoinHandle;

use super::*;
use crate::cluster::{Cluster, Watched};

const SOON: Duration = Duration::from_secs(20);
const QUICK: Pace = Pace { spread: Duration::from_millis(80), look: Duration::from_millis(50) };

fn key(reason: &str) -> ConditionKey {
    ConditionKey { plural: "bgppeers", name: "tor".to_owned(), reason: reason.to_owned() }
}

fn found(reasons: &[&str]) -> Option<Arc<Findings>> {
    let finding =
        |reason: &&str| (key(reason), Finding { kind: "ResolvedRefs", message: format!("{reason}; create it") });
    Some(Arc::new(reasons.iter().map(finding).collect()))
}

/// A datastore that counts the creates and refuses the first writes.
#[derive(Debug)]
struct Counted {
    store: Arc<dyn Datastore>,
    creates: AtomicUsize,
    refuse: AtomicUsize,
}

impl Counted {
    fn refuses(&self) -> Result<(), StoreError> {
        let left = self.refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let away = || StoreError::Unavailable { what: "away".to_owned(), advice: "wait".to_owned() };
        if left.is_ok() { Err(away()) } else { Ok(()) }
    }
}

#[async_trait]
impl Datastore for Counted {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.store.get(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.store.list(prefix).await
    }
    async fn create(&self, key: &str, value: &[u8]) -> Result<Revision, StoreError> {
        self.creates.fetch_add(1, Ordering::SeqCst);
        self.refuses()?;
        self.store.create(key, value).await
    }
    async fn update(&self, key: &str, value: &[u8], expected: Revision) -> Result<Revision, StoreError> {
        self.refuses()?;
        self.store.update(key, value, expected).await
    }
    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(), StoreError> {
        self.refuses()?;
        self.store.delete(key, expected).await
    }
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        self.store.watch(prefix, from).await
    }
}

type ClusterChange = Box<dyn FnOnce(&mut Cluster) + Send>;

/// A store, what the nodes know of the cluster, and the nodes' reporters.
struct World {
    store: Arc<Counted>,
    actor: mpsc::Sender<Message>,
    cluster: mpsc::Sender<ClusterChange>,
    _directory: tempfile::TempDir,
}

/// A node's daemon.
struct Daemon {
    findings: watch::Sender<Option<Arc<Findings>>>,
    running: JoinHandle<()>,
}

impl World {
    fn new(nodes: &[&str]) -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}/store.db", directory.path().display());
        let store = margay_datastore::open(&url).expect("a store");
        let store = Arc::new(Counted { store, creates: AtomicUsize::new(0), refuse: AtomicUsize::new(0) });
        let (actor, mut messages) = mpsc::channel(16);
        let (cluster, mut changes) = mpsc::channel::<ClusterChange>(16);
        let mut known = Cluster::new("n1");
        for node in nodes {
            let value = Stored::new(Node::named(*node, NodeSpec::default())).encode();
            let key = resource_key::<NodeSpec>(None, node);
            known.put(Watched::Nodes, &KeyValue { key, value, revision: Revision::new(1) });
        }
        // The object is there, though not readable.
        let object = format!("{RESOURCE_PREFIX}bgppeers/tor");
        known.put(Watched::Peers, &KeyValue { key: object, value: b"{".into(), revision: Revision::new(1) });
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(message) = messages.recv() => if let Message::Ask(ask) = message { ask(&known) },
                    Some(change) = changes.recv() => change(&mut known),
                    else => return,
                }
            }
        });
        World { store, actor, cluster, _directory: directory }
    }

    fn start(&self, node: &str, pace: Pace, first: Option<Arc<Findings>>) -> Daemon {
        let (findings, receiver) = watch::channel(first);
        let (store, actor) = (self.store.clone(), self.actor.clone());
        let reporter = Reporter { node: node.into(), store, findings: receiver, actor, pace };
        Daemon { findings, running: tokio::spawn(reporter.run()) }
    }

    async fn change(&self, change: impl FnOnce(&mut Cluster) + Send + 'static) {
        self.cluster.send(Box::new(change)).await.unwrap_or_else(|_| panic!("the cluster is there"));
    }

    /// Who says what, as `reason by node`.
    async fn said(&self) -> Vec<String> {
        let listed = self.store.list(CONDITION_PREFIX).await.expect("a list").items;
        let shown = listed.iter().map(|item| {
            let condition: Condition = serde_json::from_slice(&item.value).expect("a condition");
            assert_eq!(ConditionKey::parse(&item.key).expect("a key").reason, condition.reason);
            assert!(condition.status == "False" && condition.message.ends_with("; create it"), "{condition:?}");
            humantime::parse_rfc3339(&condition.last_transition_time).expect("a time");
            format!("{} by {}", condition.reason, condition.node)
        });
        shown.collect()
    }

    async fn until(&self, expected: &[&str]) {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let said = self.said().await;
            if said == expected {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{said:?} instead of {expected:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn what_two_nodes_find_is_said_by_one_and_then_by_the_other_until_none_finds_it() {
    let world = World::new(&["n1", "n2"]);
    let first = world.start("n1", QUICK, found(&["SecretUnavailable"]));
    world.until(&["SecretUnavailable by n1"]).await;
    let second = world.start("n2", QUICK, found(&["FilterNotFound", "SecretUnavailable"]));
    world.until(&["FilterNotFound by n2", "SecretUnavailable by n1"]).await;
    first.findings.send_replace(found(&[]));
    world.until(&["FilterNotFound by n2", "SecretUnavailable by n2"]).await;
    second.findings.send_replace(found(&["FilterNotFound"]));
    world.until(&["FilterNotFound by n2"]).await;
    second.findings.send_replace(found(&[]));
    world.until(&[]).await;
}

#[tokio::test]
async fn a_daemon_that_starts_takes_back_what_it_said_before_once_it_knows_better() {
    let world = World::new(&["n1", "n2"]);
    let other = world.start("n2", QUICK, found(&["FilterNotFound"]));
    let daemon = world.start("n1", QUICK, found(&["SecretUnavailable"]));
    world.until(&["FilterNotFound by n2", "SecretUnavailable by n1"]).await;
    daemon.running.abort();
    let again = world.start("n1", QUICK, None);
    // Another write shows that its node is at work meanwhile.
    other.findings.send_replace(found(&["AddressInUse"]));
    world.until(&["AddressInUse by n2", "SecretUnavailable by n1"]).await;
    again.findings.send_replace(found(&[]));
    world.until(&["AddressInUse by n2"]).await;
}

#[tokio::test]
async fn what_a_node_said_that_is_gone_is_taken_over_or_taken_back() {
    let world = World::new(&["n1", "n2"]);
    let lost = world.start("n1", QUICK, found(&["FilterNotFound", "SecretUnavailable"]));
    world.until(&["FilterNotFound by n1", "SecretUnavailable by n1"]).await;
    lost.running.abort();
    let _left = world.start("n2", QUICK, found(&["SecretUnavailable"]));
    world
        .change(|cluster| cluster.delete(Watched::Nodes, &resource_key::<NodeSpec>(None, "n1"), Revision::new(2)))
        .await;
    world.until(&["SecretUnavailable by n2"]).await;
}

#[tokio::test]
async fn what_is_said_of_an_object_that_is_gone_goes_with_it_although_its_node_is_silent() {
    let world = World::new(&["n1", "n2"]);
    let silent = world.start("n1", QUICK, found(&["FilterNotFound"]));
    world.until(&["FilterNotFound by n1"]).await;
    silent.running.abort();
    let _left = world.start("n2", QUICK, found(&[]));
    let object = format!("{RESOURCE_PREFIX}bgppeers/tor");
    world.change(move |cluster| cluster.delete(Watched::Peers, &object, Revision::new(2))).await;
    world.until(&[]).await;
}

#[tokio::test]
async fn a_datastore_that_is_away_for_a_while_is_told_later() {
    let world = World::new(&["n1"]);
    world.store.refuse.store(2, Ordering::SeqCst);
    let daemon = world.start("n1", QUICK, found(&["FilterNotFound"]));
    world.until(&["FilterNotFound by n1"]).await;
    world.store.refuse.store(2, Ordering::SeqCst);
    daemon.findings.send_replace(found(&[]));
    world.until(&[]).await;
    assert_eq!(world.store.creates.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_nodes_that_find_the_same_at_once_leave_the_writing_to_a_few() {
    let names: Vec<String> = (0..60).map(|node| format!("n{node}")).collect();
    let world = World::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let pace = Pace { spread: Duration::from_secs(3), ..Pace::NODE };
    let daemons: Vec<Daemon> = names.iter().map(|node| world.start(node, pace, found(&[]))).collect();
    for daemon in &daemons {
        daemon.findings.send_replace(found(&["SecretUnavailable"]));
    }
    let deadline = tokio::time::Instant::now() + SOON;
    while world.said().await.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "nobody said it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // All who would have written by themselves have had their time.
    tokio::time::sleep(pace.spread).await;
    let creates = world.store.creates.load(Ordering::SeqCst);
    assert!(creates <= names.len() / 3, "{creates} of {} nodes wrote", names.len());
}
