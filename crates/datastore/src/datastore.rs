use async_trait::async_trait;

use crate::error::StoreError;
use crate::types::{KeyValue, Listing, Revision, WatchStream};

/// A store of keys with compare-and-swap on one key and watches from a revision.
///
/// Keys are absolute paths (`/calico/...`, no `/` at the end); prefixes end in `/` and select what is below them, so
/// that `/host/node-1/` never selects `/host/node-10/x`. Another form is [`StoreError::Invalid`]. Values have at most
/// [`MAX_VALUE_BYTES`](crate::MAX_VALUE_BYTES) bytes.
///
/// Every call answers within seconds: a store that is away gives [`StoreError::Unavailable`], and so does a write
/// whose answer was lost. A write whose future is dropped may still be applied.
#[async_trait]
pub trait Datastore: Send + Sync + std::fmt::Debug {
    /// Reads one key; `None` when it doesn't exist. Sees every write that was acknowledged before the call, by any
    /// process.
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError>;

    /// Reads all keys below `prefix` as they are at one revision, in byte order.
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError>;

    /// Writes a key that must not exist ([`StoreError::AlreadyExists`]); returns the revision of the write.
    async fn create(&self, key: &str, value: &[u8]) -> Result<Revision, StoreError>;

    /// Replaces the value of a key that is still at `expected` ([`StoreError::Conflict`] when it is at another
    /// revision, [`StoreError::NotFound`] when it is gone); returns the revision of the write.
    async fn update(&self, key: &str, value: &[u8], expected: Revision) -> Result<Revision, StoreError>;

    /// Removes a key, if `expected` is given only while it is at that revision; errors as for
    /// [`update`](Datastore::update).
    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(), StoreError>;

    /// Streams every change below `prefix` after the revision `from`, in order and without a gap.
    ///
    /// A history that doesn't reach back to `from` shows as the stream's first item, not as an error of this call.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError>;

    /// Drops the history up to and including `through`; current values stay. A watch from an earlier revision ends
    /// with [`WatchError::Compacted`](crate::WatchError::Compacted). A driver without history has nothing to drop.
    async fn compact(&self, through: Revision) -> Result<(), StoreError> {
        let _ = through;
        Ok(())
    }
}
