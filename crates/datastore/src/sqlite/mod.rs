//! The driver for one file that several processes of one machine share.
//!
//! ```text
//!  calls --> write thread: one transaction for all that waits --+--> file (WAL) <--+-- other processes
//!        --> read thread                                        |                  |
//!        --> watch thread: polls data_version <-- "committed" --+   <-- inotify ---+
//! ```
//!
//! Every write is a row of the log, whose number is the revision; what is current lies beside it. The threads exist
//! because SQLite blocks, and the callers' runtime must not.

mod connection;
mod doorbell;
mod read;
mod watch;
mod write;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::datastore::Datastore;
use crate::error::{OpenError, StoreError};
use crate::key::{check_key, check_prefix, check_value};
use crate::types::{KeyValue, Listing, Revision, WatchStream};
use connection::FileIdentity;
use doorbell::{Doorbell, Mailbox};
use read::ReadJob;
use write::{WriteJob, WriteOp};

const WATCH_QUEUE: usize = 1024;

/// Settings of [`SqliteStore`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// How many log rows are kept for watchers that resume; older ones are dropped from time to time.
    pub retained_events: u32,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { retained_events: 100_000 }
    }
}

/// A datastore in one SQLite file: WAL, `synchronous=FULL`, usable by several processes of one machine at once.
///
/// The file must be on a local file system, since WAL needs shared memory. Dropping the store ends its threads and
/// watches.
#[derive(Debug)]
pub struct SqliteStore {
    file: Arc<StoreFile>,
    writes: mpsc::Sender<WriteJob>,
    reads: mpsc::Sender<ReadJob>,
    watches: Mailbox,
}

/// What the threads of one store know of their file.
#[derive(Debug)]
struct StoreFile {
    path: PathBuf,
    identity: FileIdentity,
    /// The path leads to another file, or to none: writing on would fork the cluster's state.
    replaced: AtomicBool,
}

impl StoreFile {
    fn check(&self) -> Result<(), StoreError> {
        if !self.replaced.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(StoreError::Unavailable {
            what: format!("{} was removed or replaced while it was in use", self.path.display()),
            advice: "put the file back, or restart the program to use the new one".into(),
        })
    }

    fn unavailable(&self, error: &rusqlite::Error) -> StoreError {
        connection::unavailable(&self.path, error)
    }
}

impl SqliteStore {
    /// Opens the file at `path`, creating it with mode 0600 when it is absent; its directory must exist.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        connection::prepare(path)?;
        let identity = FileIdentity::of(path).map_err(|error| connection::file_error(path, &error))?;
        let file = Arc::new(StoreFile { path: path.into(), identity, replaced: AtomicBool::new(false) });
        let (writes, write_jobs) = mpsc::channel();
        let (reads, read_jobs) = mpsc::channel();
        let watch_connection = connection::connect(path)?;
        let (watches, doorbell) = Doorbell::new(path).map_err(|error| connection::file_error(path, &error))?;

        let writer = write::Writer::new(connection::connect(path)?, file.clone(), watches.clone(), &options);
        let reader = connection::connect(path)?;
        let watcher = watch::Watcher::new(watch_connection, file.clone());
        let read_file = file.clone();
        spawn(path, "store-write", move || writer.run(&write_jobs))?;
        spawn(path, "store-read", move || read::run(reader, &read_file, &read_jobs))?;
        spawn(path, "store-watch", move || watcher.run(&doorbell))?;
        Ok(Self { file, writes, reads, watches })
    }

    async fn write(&self, op: WriteOp) -> Result<Revision, StoreError> {
        self.file.check()?;
        let (reply, answer) = oneshot::channel();
        self.writes.send(WriteJob { op, reply }).map_err(|_| self.stopped())?;
        answer.await.map_err(|_| self.stopped())?
    }

    async fn read<T>(&self, job: impl FnOnce(read::Reply<T>) -> ReadJob) -> Result<T, StoreError> {
        self.file.check()?;
        let (reply, answer) = oneshot::channel();
        self.reads.send(job(reply)).map_err(|_| self.stopped())?;
        answer.await.map_err(|_| self.stopped())?
    }

    fn stopped(&self) -> StoreError {
        StoreError::Unavailable {
            what: format!("the thread that serves {} has ended", self.file.path.display()),
            advice: "restart the program and report this".into(),
        }
    }
}

fn spawn(path: &Path, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    let thread = std::thread::Builder::new().name(name.into()).stack_size(512 * 1024).spawn(work);
    thread.map(drop).map_err(|error| OpenError::File {
        path: path.into(),
        reason: format!("no thread for it: {error}"),
        advice: "raise the limit of threads".into(),
    })
}

#[async_trait]
impl Datastore for SqliteStore {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        check_key(key)?;
        self.read(|reply| ReadJob::Get { key: key.into(), reply }).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        check_prefix(prefix)?;
        self.read(|reply| ReadJob::List { prefix: prefix.into(), reply }).await
    }

    async fn create(&self, key: &str, value: &[u8]) -> Result<Revision, StoreError> {
        check_key(key)?;
        check_value(key, value)?;
        self.write(WriteOp::Create { key: key.into(), value: value.into() }).await
    }

    async fn update(&self, key: &str, value: &[u8], expected: Revision) -> Result<Revision, StoreError> {
        check_key(key)?;
        check_value(key, value)?;
        self.write(WriteOp::Update { key: key.into(), value: value.into(), expected }).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(), StoreError> {
        check_key(key)?;
        self.write(WriteOp::Delete { key: key.into(), expected }).await.map(drop)
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        check_prefix(prefix)?;
        self.file.check()?;
        let (events, receiver) = tokio::sync::mpsc::channel(WATCH_QUEUE);
        let subscription = watch::Subscription::new(prefix.into(), from, events);
        self.watches.send(watch::Message::Subscribe(subscription)).map_err(|_| self.stopped())?;
        Ok(WatchStream::new(receiver))
    }

    async fn compact(&self, through: Revision) -> Result<(), StoreError> {
        self.write(WriteOp::Compact { through }).await.map(drop)
    }
}
