use std::path::PathBuf;
use std::time::SystemTime;

use crate::types::Revision;

/// Says why a call did not do what was asked, split by who has to act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another writer was faster: the caller reads again and decides again.
    #[error("{key} was changed by another writer since it was read; read it again and retry")]
    Conflict { key: String },
    /// The caller names a key that isn't there.
    #[error("{key} does not exist in the datastore; create it, or check the name")]
    NotFound { key: String },
    /// The caller creates a key that is there.
    #[error("{key} already exists in the datastore; update it instead")]
    AlreadyExists { key: String },
    /// The store, or the way to it, is at fault; the same call may succeed later.
    ///
    /// After a write the outcome is unknown: it may have been applied before the answer was lost.
    #[error("the datastore is not available: {what}; {advice}")]
    Unavailable { what: String, advice: String },
    /// The caller's key, prefix or value can never be accepted.
    #[error("the datastore cannot take {key:?}: {reason}")]
    Invalid { key: String, reason: String },
}

impl StoreError {
    /// Tells whether the very same call may succeed later. A [`StoreError::Conflict`] needs a fresh read first, so it
    /// is not.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// Says why a watch ended; in both cases the watcher lists again and watches from the listing's revision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The events after `from` are no longer (all) there: compacted, or the store was replaced by an older state.
    #[error("the history after revision {from} is gone (compacted or restored); list again")]
    Compacted { from: Revision },
    /// The way to the store broke, and the driver could not resume by itself.
    #[error("the watch was interrupted: {reason}; list again")]
    Disconnected {
        reason: String,
        /// When the interruption began.
        since: SystemTime,
    },
}

/// Says why a datastore could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The operator's setting is missing or wrong (a program exits with 2).
    #[error("{reason}; {advice}")]
    Usage { reason: String, advice: String },
    /// A file that the setting names can't be used.
    #[error("cannot use {}: {reason}; {advice}", path.display())]
    File { path: PathBuf, reason: String, advice: String },
}
