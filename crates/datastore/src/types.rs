use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::SystemTime;

use tokio::sync::mpsc;

use crate::error::WatchError;

/// Names a state of the store: the one right after the write that was given this number.
///
/// Opaque outside a driver: compare it, hand it back, print it as `resourceVersion`, and compute nothing with it. It
/// grows with every write to the store and is never used twice, not even after compaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(i64);

impl Revision {
    /// The state before the first write; a watch from here sees everything, as long as nothing was compacted.
    pub const ZERO: Self = Self(0);

    /// Wraps the driver's number.
    pub const fn new(raw: i64) -> Self {
        Self(raw)
    }

    /// Returns the driver's number.
    pub const fn raw(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    /// Reads a `resourceVersion` as printed by `Display`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A key with its value and the revision of its last modification (etcd's `mod_revision`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: String,
    pub value: Vec<u8>,
    pub revision: Revision,
}

/// Everything below a prefix at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The keys in byte order.
    pub items: Vec<KeyValue>,
    /// The state that was read: a watch from here continues without a gap and without a repetition.
    pub revision: Revision,
}

/// One change under a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// The key was created or changed; `revision` is that of this change.
    Put(KeyValue),
    /// The key was removed by the write with this revision.
    Delete { key: String, revision: Revision },
}

impl WatchEvent {
    /// Returns the key that changed.
    pub fn key(&self) -> &str {
        match self {
            Self::Put(item) => &item.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// Returns the revision of the change.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put(item) => item.revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// The events of one watch, in the order of their revisions; dropping it ends the watch.
#[derive(Debug)]
pub struct WatchStream {
    events: mpsc::Receiver<Result<WatchEvent, WatchError>>,
}

impl WatchStream {
    /// Wraps the queue that a driver fills; the driver sends at most one error, as its last item.
    pub fn new(events: mpsc::Receiver<Result<WatchEvent, WatchError>>) -> Self {
        Self { events }
    }

    /// Waits for the next event. Cancel-safe: an event is not lost when the future is dropped.
    ///
    /// An error ends the stream, and later calls return [`WatchError::Disconnected`]: list again and watch from the
    /// listing's revision.
    pub async fn next(&mut self) -> Result<WatchEvent, WatchError> {
        match self.events.recv().await {
            Some(item) => item,
            None => Err(WatchError::Disconnected { reason: "the store was closed".into(), since: SystemTime::now() }),
        }
    }
}
