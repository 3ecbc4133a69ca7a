use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::datastore::Datastore;
use crate::error::WatchError;
use crate::types::{KeyValue, Listing, Revision, WatchEvent, WatchStream};

const QUEUE: usize = 1024;

/// One item of the stream of [`watch_prefix`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrefixEvent {
    /// Everything below the prefix; comes once, before any change.
    Snapshot(Vec<KeyValue>),
    /// A key was created or changed.
    Put(KeyValue),
    /// A key is gone; after an interruption `revision` is that of the listing that missed it.
    Delete { key: String, revision: Revision },
    /// What came so far is the whole of one state of the store: follows the snapshot, and the differences after an
    /// interruption.
    InSync,
    /// The store can't be followed for the present; what was received stays the last known state. Repeated when the
    /// reason changes.
    Unavailable { reason: String, since: SystemTime },
    /// The store answers again; the differences follow.
    Available,
}

/// Follows all keys below `prefix` (which ends in `/`) for as long as the receiver lives.
///
/// The order is `Snapshot`, `InSync`, then `Put` and `Delete` in the order of their revisions. An interruption that the
/// driver can't bridge is bridged here: list again, and send what differs from what the receiver was told, as `Put`
/// and `Delete`, closed by `InSync`. While the store is away, attempts are 0.1 to 2 s apart, with jitter. A slow
/// receiver slows the watch and loses nothing.
///
/// The channel closes only when the prefix is not acceptable, after an `Unavailable` that says so.
///
/// Must be called within a tokio runtime.
pub fn watch_prefix(store: Arc<dyn Datastore>, prefix: impl Into<String>) -> mpsc::Receiver<PrefixEvent> {
    let (events, receiver) = mpsc::channel(QUEUE);
    let follower = Follower {
        store,
        prefix: prefix.into(),
        events,
        known: None,
        newest: Revision::ZERO,
        outage: None,
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)),
    };
    tokio::spawn(follower.run());
    receiver
}

/// The receiver is gone, or the prefix is hopeless.
struct Stop;

struct Outage {
    reason: String,
    since: SystemTime,
}

struct Follower {
    store: Arc<dyn Datastore>,
    prefix: String,
    events: mpsc::Sender<PrefixEvent>,
    /// What the receiver was told, by key; `None` before the snapshot.
    known: Option<BTreeMap<String, Revision>>,
    /// The newest revision that the receiver was told of.
    newest: Revision,
    outage: Option<Outage>,
    backoff: Backoff,
}

impl Follower {
    async fn run(mut self) {
        while let Ok(mut stream) = self.resync().await {
            if self.follow(&mut stream).await.is_err() {
                return;
            }
        }
    }

    /// Lists, tells the differences and starts a watch, for as long as it takes.
    async fn resync(&mut self) -> Result<WatchStream, Stop> {
        loop {
            let attempt = async {
                let listing = self.store.list(&self.prefix).await?;
                let stream = self.store.watch(&self.prefix, listing.revision).await?;
                Ok((listing, stream))
            };
            let closed = self.events.clone();
            let outcome = tokio::select! {
                outcome = attempt => outcome,
                () = closed.closed() => return Err(Stop),
            };
            match outcome {
                Ok((listing, stream)) => {
                    self.backoff.reset();
                    if self.outage.take().is_some() {
                        self.send(PrefixEvent::Available).await?;
                    }
                    self.tell(listing).await?;
                    self.send(PrefixEvent::InSync).await?;
                    return Ok(stream);
                }
                Err(error) => {
                    let error: crate::StoreError = error;
                    self.note_outage(error.to_string(), SystemTime::now()).await?;
                    if !error.is_retryable() {
                        return Err(Stop);
                    }
                    self.pause().await?;
                }
            }
        }
    }

    /// Passes the events of one watch on until it ends.
    async fn follow(&mut self, stream: &mut WatchStream) -> Result<(), Stop> {
        loop {
            let closed = self.events.clone();
            let event = tokio::select! {
                event = stream.next() => event,
                () = closed.closed() => return Err(Stop),
            };
            match event {
                Ok(WatchEvent::Put(item)) => {
                    self.remember(&item);
                    self.send(PrefixEvent::Put(item)).await?;
                }
                Ok(WatchEvent::Delete { key, revision }) => {
                    self.known.get_or_insert_default().remove(&key);
                    self.newest = self.newest.max(revision);
                    self.send(PrefixEvent::Delete { key, revision }).await?;
                }
                Err(WatchError::Compacted { from }) => {
                    tracing::info!(prefix = self.prefix, %from, "history is gone, listing again");
                    return Ok(());
                }
                Err(WatchError::Disconnected { reason, since }) => {
                    self.note_outage(reason, since).await?;
                    return self.pause().await;
                }
            }
        }
    }

    /// Sends a listing: as the snapshot the first time, later as what differs from what was told.
    async fn tell(&mut self, listing: Listing) -> Result<(), Stop> {
        let Some(known) = self.known.take() else {
            listing.items.iter().for_each(|item| self.remember(item));
            self.known.get_or_insert_default();
            self.newest = listing.revision;
            return self.send(PrefixEvent::Snapshot(listing.items)).await;
        };
        // A store that went back to an earlier state may give an old revision to a new value: trust none of them.
        let comparable = listing.revision >= self.newest;
        self.newest = listing.revision;
        let mut gone = known;
        for item in listing.items {
            let told = gone.remove(&item.key);
            self.remember(&item);
            if !comparable || told != Some(item.revision) {
                self.send(PrefixEvent::Put(item)).await?;
            }
        }
        self.known.get_or_insert_default();
        for key in gone.into_keys() {
            self.send(PrefixEvent::Delete { key, revision: listing.revision }).await?;
        }
        Ok(())
    }

    fn remember(&mut self, item: &KeyValue) {
        self.newest = self.newest.max(item.revision);
        self.known.get_or_insert_default().insert(item.key.clone(), item.revision);
    }

    async fn note_outage(&mut self, reason: String, since: SystemTime) -> Result<(), Stop> {
        let since = match &self.outage {
            Some(outage) if outage.reason == reason => return Ok(()),
            Some(outage) => outage.since,
            None => since,
        };
        self.outage = Some(Outage { reason: reason.clone(), since });
        self.send(PrefixEvent::Unavailable { reason, since }).await
    }

    async fn pause(&mut self) -> Result<(), Stop> {
        let delay = self.backoff.delay();
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(()),
            () = self.events.closed() => Err(Stop),
        }
    }

    async fn send(&self, event: PrefixEvent) -> Result<(), Stop> {
        self.events.send(event).await.map_err(|_| Stop)
    }
}
