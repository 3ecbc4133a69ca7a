//! The cluster's datastore: get, list, compare-and-swap on one key, and watch from a revision.
//!
//! The model is etcd's. Keys are Calico's etcd v3 paths (`/calico/resources/v3/projectcalico.org/...`), values are
//! opaque bytes (JSON text in practice), and nothing stronger than compare-and-swap on *one* key is offered, so that
//! every driver can keep the same promise:
//!
//! * a [`Revision`] names a state of the store; it only grows and is never used twice;
//! * of several writers that expect the same revision of a key, exactly one wins;
//! * a watch from a revision delivers every later change of its prefix once, in order, or ends with an error that
//!   tells the watcher to list again.
//!
//! ```text
//!             open("sqlite:///..." | "etcd://..." | "etcds://...")
//!                                  |
//!   watch_prefix, update_with --> dyn Datastore --> SqliteStore | EtcdStore
//! ```
//!
//! [`watch_prefix`] turns list, watch, resume and re-list into one stream of changes; [`update_with`] is the
//! compare-and-swap loop.

mod backoff;
mod datastore;
mod error;
mod etcd;
mod key;
mod open;
mod prefix_watch;
mod sqlite;
mod types;
mod update;

pub use datastore::Datastore;
pub use error::{OpenError, StoreError, WatchError};
pub use etcd::{EtcdOptions, EtcdStore, EtcdTls};
pub use key::MAX_VALUE_BYTES;
pub use open::open;
pub use prefix_watch::{PrefixEvent, watch_prefix};
pub use sqlite::{SqliteOptions, SqliteStore};
pub use types::{KeyValue, Listing, Revision, WatchEvent, WatchStream};
pub use update::{Change, Updated, update_with};
