//! The helpers above a store that can be cut off, and one where every race is lost.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use margay_datastore::{
    Change, Datastore, KeyValue, Listing, PrefixEvent, Revision, StoreError, Updated, WatchError, WatchStream,
    update_with, watch_prefix,
};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

/// A SQLite store behind a wire that the test cuts.
#[derive(Debug)]
struct Wire {
    store: Arc<dyn Datastore>,
    away: AtomicBool,
    /// Each change ends all watches.
    cut: watch::Sender<Option<WatchError>>,
    lose_races: AtomicBool,
    writes: AtomicU32,
    _directory: TempDir,
}

impl Wire {
    fn new() -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        let store = margay_datastore::open(&format!("sqlite://{}/store.db", directory.path().display())).unwrap();
        Arc::new(Self {
            store,
            away: AtomicBool::new(false),
            cut: watch::Sender::new(None),
            lose_races: AtomicBool::new(false),
            writes: AtomicU32::new(0),
            _directory: directory,
        })
    }

    fn cut_off(&self) {
        self.away.store(true, Ordering::SeqCst);
        let since = SystemTime::UNIX_EPOCH;
        self.cut.send_replace(Some(WatchError::Disconnected { reason: "cut".into(), since }));
    }

    fn check(&self) -> Result<(), StoreError> {
        let away = self.away.load(Ordering::SeqCst);
        let error = || StoreError::Unavailable { what: "the wire is cut".into(), advice: "mend it".into() };
        if away { Err(error()) } else { Ok(()) }
    }

    fn check_race(&self, key: &str) -> Result<(), StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let lost = self.lose_races.load(Ordering::SeqCst);
        if lost { Err(StoreError::Conflict { key: key.into() }) } else { Ok(()) }
    }
}

#[async_trait]
impl Datastore for Wire {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.check()?;
        self.store.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.check()?;
        self.store.list(prefix).await
    }

    async fn create(&self, key: &str, value: &[u8]) -> Result<Revision, StoreError> {
        self.check()?;
        self.store.create(key, value).await
    }

    async fn update(&self, key: &str, value: &[u8], expected: Revision) -> Result<Revision, StoreError> {
        self.check()?;
        self.check_race(key)?;
        self.store.update(key, value, expected).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(), StoreError> {
        self.check()?;
        self.store.delete(key, expected).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        self.check()?;
        let mut inner = self.store.watch(prefix, from).await?;
        let (events, receiver) = mpsc::channel(16);
        let mut cut = self.cut.subscribe();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = inner.next() => if events.send(event).await.is_err() { return },
                    _ = cut.changed() => {
                        let error = cut.borrow().clone().expect("a cut has an error");
                        let _ = events.send(Err(error)).await;
                        return;
                    }
                }
            }
        });
        Ok(WatchStream::new(receiver))
    }
}

async fn next(events: &mut mpsc::Receiver<PrefixEvent>) -> PrefixEvent {
    tokio::time::timeout(Duration::from_secs(10), events.recv()).await.expect("in time").expect("the channel is open")
}

#[tokio::test]
async fn after_an_interruption_the_differences_come_and_nothing_else() {
    let wire = Wire::new();
    let kept = wire.store.create("/t/kept", b"1").await.unwrap();
    let changed = wire.store.create("/t/changed", b"1").await.unwrap();
    wire.store.create("/t/gone", b"1").await.unwrap();
    let mut events = watch_prefix(wire.clone(), "/t/");
    assert!(matches!(next(&mut events).await, PrefixEvent::Snapshot(items) if items.len() == 3));
    assert_eq!(next(&mut events).await, PrefixEvent::InSync);
    let seen = wire.store.create("/t/seen", b"1").await.unwrap();
    assert!(matches!(next(&mut events).await, PrefixEvent::Put(item) if item.revision == seen));

    wire.cut_off();
    let unavailable = next(&mut events).await;
    let since = SystemTime::UNIX_EPOCH;
    assert_eq!(unavailable, PrefixEvent::Unavailable { reason: "cut".into(), since });
    let changed = wire.store.update("/t/changed", b"2", changed).await.unwrap();
    wire.store.delete("/t/gone", None).await.unwrap();
    let fresh = wire.store.create("/t/fresh", b"1").await.unwrap();
    match next(&mut events).await {
        PrefixEvent::Unavailable { reason, since } => {
            assert!(reason.contains("the wire is cut; mend it"), "{reason}");
            assert_eq!(since, SystemTime::UNIX_EPOCH, "it is still the same outage");
        }
        other => panic!("{other:?}"),
    }

    wire.away.store(false, Ordering::SeqCst);
    assert_eq!(next(&mut events).await, PrefixEvent::Available);
    let put = |event, key: &str, revision| match event {
        PrefixEvent::Put(item) => assert_eq!((item.key.as_str(), item.revision), (key, revision)),
        other => panic!("{other:?}"),
    };
    put(next(&mut events).await, "/t/changed", changed);
    put(next(&mut events).await, "/t/fresh", fresh);
    assert!(matches!(next(&mut events).await, PrefixEvent::Delete { key, .. } if key == "/t/gone"));
    assert_eq!(next(&mut events).await, PrefixEvent::InSync);
    let again = wire.store.update("/t/kept", b"2", kept).await.unwrap();
    put(next(&mut events).await, "/t/kept", again);
}

#[tokio::test]
async fn a_lost_history_is_bridged_without_an_outage() {
    let wire = Wire::new();
    let mut events = watch_prefix(wire.clone(), "/t/");
    assert_eq!(next(&mut events).await, PrefixEvent::Snapshot(Vec::new()));
    assert_eq!(next(&mut events).await, PrefixEvent::InSync);
    wire.cut.send_replace(Some(WatchError::Compacted { from: Revision::ZERO }));
    assert_eq!(next(&mut events).await, PrefixEvent::InSync);
    let revision = wire.store.create("/t/a", b"").await.unwrap();
    assert!(matches!(next(&mut events).await, PrefixEvent::Put(item) if item.revision == revision));
}

#[tokio::test]
async fn a_prefix_that_no_store_takes_closes_the_channel_with_the_reason() {
    let mut events = watch_prefix(Wire::new(), "/t");
    assert!(
        matches!(next(&mut events).await, PrefixEvent::Unavailable { reason, .. } if reason.contains("ends with '/'"))
    );
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn a_dropped_receiver_ends_the_watch() {
    let wire = Wire::new();
    let mut events = watch_prefix(wire.clone(), "/t/");
    assert!(matches!(next(&mut events).await, PrefixEvent::Snapshot(_)));
    drop(events);
    tokio::time::timeout(Duration::from_secs(10), async {
        while wire.cut.receiver_count() > 0 || Arc::strong_count(&wire) > 1 {
            wire.cut.send_replace(Some(WatchError::Compacted { from: Revision::ZERO }));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the task ends and lets go of the store");
}

#[tokio::test]
async fn update_with_creates_changes_keeps_and_removes() {
    let wire = Wire::new();
    let value = |text: &str| Change::Put(text.as_bytes().to_vec());
    let made =
        update_with(&*wire, "/t/a", |found| if found.is_none() { value("1") } else { Change::Keep }).await.unwrap();
    let Updated::Put(made) = made else { panic!("{made:?}") };
    assert_eq!(wire.get("/t/a").await.unwrap().unwrap(), made);
    let kept = update_with(&*wire, "/t/a", |_| Change::Keep).await;
    assert_eq!(kept, Ok(Updated::Kept(Some(made))));
    assert!(matches!(update_with(&*wire, "/t/a", |_| value("2")).await, Ok(Updated::Put(item)) if item.value == b"2"));
    assert_eq!(update_with(&*wire, "/t/a", |_| Change::Delete).await, Ok(Updated::Deleted));
    assert_eq!(update_with(&*wire, "/t/a", |_| Change::Delete).await, Ok(Updated::Kept(None)));
}

#[tokio::test]
async fn update_with_gives_up_after_many_lost_races_and_at_once_when_the_store_is_away() {
    let wire = Wire::new();
    wire.create("/t/a", b"1").await.unwrap();
    wire.lose_races.store(true, Ordering::SeqCst);
    let lost = update_with(&*wire, "/t/a", |_| Change::Put(b"2".to_vec())).await;
    assert_eq!(lost, Err(StoreError::Conflict { key: "/t/a".into() }));
    assert_eq!(wire.writes.load(Ordering::SeqCst), 40);
    wire.cut_off();
    assert!(update_with(&*wire, "/t/a", |_| Change::Keep).await.unwrap_err().is_retryable());
}
