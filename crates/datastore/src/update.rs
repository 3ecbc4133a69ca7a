use std::time::Duration;

use crate::backoff::Backoff;
use crate::datastore::Datastore;
use crate::error::StoreError;
use crate::types::KeyValue;

const ATTEMPTS: u32 = 40;

/// What to do with a key, decided on its present value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Leave it as it is.
    Keep,
    /// Write this value, creating the key where it is absent.
    Put(Vec<u8>),
    /// Remove it; the same as [`Change::Keep`] where it is absent.
    Delete,
}

/// What [`update_with`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Updated {
    /// Nothing was written; the key as it is.
    Kept(Option<KeyValue>),
    /// The key as written.
    Put(KeyValue),
    /// The key was removed.
    Deleted,
}

/// Changes one key by compare-and-swap: reads it, asks `decide`, writes if nobody wrote meanwhile, else starts over.
///
/// `decide` is called once per attempt with a fresh read, so it must decide on its argument alone. After 40 lost
/// races, with jittered pauses of up to 50 ms between them, the result is [`StoreError::Conflict`].
/// [`StoreError::Unavailable`] is returned at once: a write before it may have been applied.
pub async fn update_with<F>(store: &dyn Datastore, key: &str, mut decide: F) -> Result<Updated, StoreError>
where
    F: FnMut(Option<KeyValue>) -> Change + Send,
{
    let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(50));
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(backoff.delay()).await;
        }
        let present = store.get(key).await?;
        let expected = present.as_ref().map(|item| item.revision);
        let written = match (decide(present.clone()), expected) {
            (Change::Keep, _) | (Change::Delete, None) => return Ok(Updated::Kept(present)),
            (Change::Delete, Some(_)) => store.delete(key, expected).await.map(|()| Updated::Deleted),
            (Change::Put(value), expected) => {
                let revision = match expected {
                    Some(expected) => store.update(key, &value, expected).await,
                    None => store.create(key, &value).await,
                };
                revision.map(|revision| Updated::Put(KeyValue { key: key.into(), value, revision }))
            }
        };
        match written {
            Err(StoreError::Conflict { .. } | StoreError::AlreadyExists { .. } | StoreError::NotFound { .. }) => {}
            other => return other,
        }
    }
    Err(StoreError::Conflict { key: key.into() })
}
