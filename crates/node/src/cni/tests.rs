use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use margay_api::kinds::{IpPool, IpPoolSpec, WorkloadEndpointSpec};
use margay_api::{Object, RESOURCE_PREFIX, Spec};
use margay_datastore::{Datastore, KeyValue, Listing, PrefixEvent, Revision, StoreError, WatchStream};
use margay_ipam_client::IpamClient;
use margay_local_api::{AddRequest, AddResponse, ApiError, Attachment, DelRequest, GcRequest, Pod};
use margay_net::Mac;
use tokio::sync::{mpsc, watch};

use super::{Cni, StatusQuery};
use crate::actor::Message;
use crate::cluster::{Cluster, Watched};
use crate::shared::Shared;

/// A store that can be away, or lose the answers to writes below a prefix and perhaps go away with the first of them.
#[derive(Debug)]
struct Flaky {
    inner: Arc<dyn Datastore>,
    away: AtomicBool,
    loses: Mutex<Option<Loss>>,
}

#[derive(Debug)]
struct Loss {
    prefix: String,
    goes_away: bool,
}

impl Flaky {
    fn gone() -> StoreError {
        StoreError::Unavailable { what: "the answer was lost".into(), advice: "none".into() }
    }

    fn reach(&self) -> Result<&dyn Datastore, StoreError> {
        if self.away.load(Ordering::SeqCst) { Err(Flaky::gone()) } else { Ok(&*self.inner) }
    }

    fn answer<T>(&self, key: &str, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        let loses = self.loses.lock().expect("no panic");
        let Some(loss) = loses.as_ref().filter(|loss| key.starts_with(&loss.prefix)) else { return answer };
        self.away.fetch_or(loss.goes_away, Ordering::SeqCst);
        Err(Flaky::gone())
    }
}

#[async_trait]
impl Datastore for Flaky {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.reach()?.get(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.reach()?.list(prefix).await
    }
    async fn create(&self, key: &str, value: &[u8]) -> Result<Revision, StoreError> {
        let written = self.reach()?.create(key, value).await;
        self.answer(key, written)
    }
    async fn update(&self, key: &str, value: &[u8], expected: Revision) -> Result<Revision, StoreError> {
        let written = self.reach()?.update(key, value, expected).await;
        self.answer(key, written)
    }
    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(), StoreError> {
        let written = self.reach()?.delete(key, expected).await;
        self.answer(key, written)
    }
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        self.reach()?.watch(prefix, from).await
    }
}

/// The plugin's side of a daemon whose kernel takes everything, with a pool of eight addresses.
struct Bench {
    cni: Cni,
    store: Arc<Flaky>,
    shared: watch::Sender<Arc<Shared>>,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}/store.db", directory.path().display());
        let inner = margay_datastore::open(&url).expect("a store");
        let store = Arc::new(Flaky { inner, away: AtomicBool::new(false), loses: Mutex::default() });
        let cidr = "10.65.0.0/29".parse().expect("a prefix");
        let pool: IpPool = Object::named("pods", IpPoolSpec { cidr, block_size: Some(30), ..IpPoolSpec::default() });
        let ready = Shared {
            in_sync: true,
            pools: Arc::new(vec![pool]),
            node_revision: Some(Revision::new(1)),
            ..Shared::default()
        };
        let (shared, seen) = watch::channel(Arc::new(ready));
        let (actor, messages) = mpsc::channel(16);
        tokio::spawn(take_all(messages));
        let mut events = margay_datastore::watch_prefix(store.clone(), endpoints());
        let watched = actor.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if watched.send(Message::Store(Watched::Endpoints, event)).await.is_err() {
                    break;
                }
            }
        });
        let ipam = IpamClient::new(store.clone(), "n1");
        let cni = Cni::new(
            "n1".into(),
            store.clone(),
            ipam,
            actor,
            seen,
            super::Notes::new(directory.path().join("attachments")),
        );
        Bench { cni, store, shared, _directory: directory }
    }

    async fn add(&self, container_id: &str, pod: &str) -> Result<AddResponse, ApiError> {
        self.cni.add(request(container_id, pod)).await
    }

    async fn del(&self, container_id: &str, pod: &str) -> Result<(), ApiError> {
        let AddRequest { attachment, pod, .. } = request(container_id, pod);
        self.cni.del(DelRequest { attachment, pod }).await
    }

    /// The addresses that are assigned, and the containers that have an endpoint.
    async fn left(&self) -> (Vec<IpAddr>, Vec<String>) {
        let held = self.cni.ipam.held().await.expect("a store");
        let listed = self.store.inner.list(&endpoints()).await.expect("a store").items;
        let containers = listed.iter().map(|stored| {
            let stored = margay_api::Stored::<WorkloadEndpointSpec>::decode(&stored.key, &stored.value);
            stored.expect("an endpoint").object.spec.container_id
        });
        (held.into_iter().map(|held| held.address).collect(), containers.collect())
    }

    fn lose_endpoint_answers(&self, goes_away: bool) {
        *self.store.loses.lock().expect("no panic") = Some(Loss { prefix: endpoints(), goes_away });
    }

    fn heal(&self) {
        *self.store.loses.lock().expect("no panic") = None;
        self.store.away.store(false, Ordering::SeqCst);
    }
}

fn endpoints() -> String {
    format!("{RESOURCE_PREFIX}{}/", WorkloadEndpointSpec::PLURAL)
}

async fn take_all(mut messages: mpsc::Receiver<Message>) {
    let mut cluster = Cluster::new("n1");
    while let Some(message) = messages.recv().await {
        match message {
            Message::PutEndpoint { key, revision, endpoint, done } => {
                cluster.put_local(&key, revision, *endpoint);
                let _ = done.send(Ok(()));
            }
            Message::DropEndpoint { key, container_id, deleted, done } => {
                cluster.drop_local(&key, &container_id, deleted);
                let _ = done.send(Ok(()));
            }
            Message::PutProfile(stored) => cluster.put(Watched::Profiles, &stored),
            Message::Ask(ask) => ask(&cluster),
            Message::Store(watched, PrefixEvent::Snapshot(items)) => {
                items.iter().for_each(|stored| cluster.put(watched, stored));
            }
            Message::Store(watched, PrefixEvent::Put(stored)) => cluster.put(watched, &stored),
            Message::Store(watched, PrefixEvent::Delete { key, revision }) => cluster.delete(watched, &key, revision),
            Message::Store(..) | Message::Registration(_) | Message::Drain { .. } => {}
        }
    }
}

fn attachment(container_id: &str) -> Attachment {
    Attachment { network: "pods".into(), container_id: container_id.into(), interface: "eth0".into() }
}

fn request(container_id: &str, pod: &str) -> AddRequest {
    AddRequest {
        attachment: attachment(container_id),
        pod: Pod { namespace: "shop".into(), name: pod.into(), ..Pod::default() },
        host_interface: format!("cali{pod}"),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        ipv4: true,
        ipv6: false,
        ipv4_pools: Vec::new(),
        ipv6_pools: Vec::new(),
    }
}

#[tokio::test]
async fn a_lost_answer_to_the_endpoints_write_leaves_nothing_behind() {
    let bench = Bench::new();
    bench.lose_endpoint_answers(false);
    let error = bench.add("c1", "web").await.expect_err("the answer is lost");
    assert_eq!(error.code, ApiError::TRY_AGAIN);
    // The undo's answers were lost as well. The runtime comes with DEL.
    bench.heal();
    bench.del("c1", "web").await.expect("DEL");
    assert_eq!(bench.left().await, (vec![], vec![]));
    bench.add("c1", "web").await.expect("the second try");
}

#[tokio::test]
async fn what_an_add_leaves_when_the_store_goes_away_is_freed_by_gc() {
    let bench = Bench::new();
    bench.add("c1", "web").await.expect("ADD");
    bench.lose_endpoint_answers(true);
    bench.add("c2", "db").await.expect_err("the answer is lost, and the undo finds no store");
    assert_eq!(bench.del("c2", "db").await.expect_err("away").code, ApiError::TRY_AGAIN);
    bench.heal();
    // The watch tells of the endpoint whose write was not acknowledged.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while bench.cni.ask(|cluster| cluster.local_endpoints.len()).await != Ok(2) {
        assert!(tokio::time::Instant::now() < deadline, "the watch is silent");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let request = GcRequest { network: "pods".into(), valid: vec![attachment("c1")] };
    let response = bench.cni.gc(request).await.expect("GC");
    assert!(response.errors.is_empty() && response.freed.len() == 1, "{response:?}");
    let (addresses, containers) = bench.left().await;
    assert_eq!((addresses.len(), containers), (1, vec!["c1".to_owned()]));
}

#[tokio::test]
async fn a_del_that_does_not_name_the_pod_frees_its_endpoint_too() {
    let bench = Bench::new();
    bench.add("c1", "web").await.expect("ADD");
    let pod = Pod { namespace: "default".into(), name: "c1".into(), ..Pod::default() };
    bench.cni.del(DelRequest { attachment: attachment("c1"), pod }).await.expect("DEL");
    assert_eq!(bench.left().await, (vec![], vec![]));
}

#[tokio::test]
async fn an_old_containers_del_leaves_the_new_pod_of_its_name_alone() {
    let bench = Bench::new();
    let old = bench.add("old", "web").await.expect("ADD").addresses;
    let new = bench.add("new", "web").await.expect("ADD").addresses;
    assert_ne!(old, new);
    bench.del("old", "web").await.expect("DEL");
    assert_eq!(bench.left().await, (new, vec!["new".to_owned()]));
    bench.del("old", "web").await.expect("DEL again");
    bench.del("new", "web").await.expect("DEL");
    assert_eq!(bench.left().await, (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adds_and_dels_of_one_pod_at_once_leave_one_owner() {
    let bench = Arc::new(Bench::new());
    for round in 0..10 {
        let tasks: Vec<_> = (0..4)
            .map(|index| {
                let bench = bench.clone();
                tokio::spawn(async move {
                    let container = format!("r{round}c{index}");
                    bench.add(&container, "web").await.expect("ADD");
                    if index > 0 {
                        bench.del(&container, "web").await.expect("DEL");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let survivor = format!("r{round}c0");
        let (addresses, containers) = bench.left().await;
        assert_eq!(addresses.len(), 1, "round {round}");
        // Whoever came last has the name; if that was one of those that left, nobody has it.
        assert!(containers.iter().all(|container| *container == survivor), "round {round}: {containers:?}");
        bench.del(&survivor, "web").await.expect("DEL");
        assert_eq!(bench.left().await, (vec![], vec![]));
    }
}

#[tokio::test]
async fn status_tells_when_no_address_could_be_assigned() {
    let bench = Bench::new();
    let query = |json: &str| serde_json::from_str::<StatusQuery>(json).expect("a query");
    let v4 = query(r#"{"ipv4":true}"#);
    bench.cni.status(&v4).await.expect("an empty pool");
    let code = |result: Result<(), ApiError>| result.expect_err("not available").code;
    assert_eq!(code(bench.cni.status(&query(r#"{"ipv6":true}"#)).await), ApiError::NOT_AVAILABLE);
    let named = query(r#"{"ipv4":true,"ipv4_pools":"none"}"#);
    assert_eq!(code(bench.cni.status(&named).await), ApiError::NOT_AVAILABLE);
    let mut addresses = BTreeSet::new();
    for index in 0..8 {
        addresses.extend(bench.add(&format!("c{index}"), &format!("web-{index}")).await.expect("ADD").addresses);
    }
    assert_eq!(addresses.len(), 8);
    bench.shared.send_modify(|shared| Arc::make_mut(shared).endpoints = 8);
    let full = bench.cni.status(&v4).await.expect_err("full");
    assert_eq!(full.code, ApiError::NOT_AVAILABLE);
    assert!(full.message.contains("no ipv4 address is free") && full.details.contains("pods"), "{full}");
    assert_eq!(bench.add("c8", "web-8").await.expect_err("full").code, ApiError::EXHAUSTED);
    bench.del("c0", "web-0").await.expect("DEL");
    bench.cni.status(&v4).await.expect("one is free");
    bench.add("c8", "web-8").await.expect("the free one");
}

#[tokio::test]
async fn nothing_is_attached_before_the_node_is_known() {
    let bench = Bench::new();
    bench.shared.send_modify(|shared| Arc::make_mut(shared).node_revision = None);
    let error = bench.add("c1", "web").await.expect_err("not registered");
    assert_eq!((error.code, error.message.as_str()), (ApiError::TRY_AGAIN, "this node is not registered yet"));
    bench.shared.send_modify(|shared| Arc::make_mut(shared).in_sync = false);
    assert_eq!(bench.del("c1", "web").await.expect_err("not read").code, ApiError::TRY_AGAIN);
}
