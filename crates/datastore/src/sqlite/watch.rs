use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::StoreFile;
use super::connection::FileIdentity;
use super::doorbell::Doorbell;
use super::read::head;
use crate::error::WatchError;
use crate::types::{KeyValue, Revision, WatchEvent};

/// The log file is written, and synced to the disk, before a commit becomes visible.
const STIRRED_POLL: Duration = Duration::from_millis(1);
const STIRRED_FOR: Duration = Duration::from_millis(20);
const ACTIVE_POLL: Duration = Duration::from_millis(5);
const IDLE_POLL: Duration = Duration::from_millis(20);
/// How long polls stay quick after a change.
const ACTIVE_FOR: Duration = Duration::from_secs(1);
const FILE_CHECK: Duration = Duration::from_secs(1);
const ROWS: u32 = 256;

#[derive(Debug)]
pub(super) enum Message {
    Subscribe(Subscription),
    /// This process has written: no need to wait for the next poll.
    Committed,
}

/// One watch: how far it was served, and its bounded queue.
#[derive(Debug)]
pub(super) struct Subscription {
    prefix: String,
    position: i64,
    events: Sender<Result<WatchEvent, WatchError>>,
    /// The error that still has to fit into the queue.
    ending: Option<WatchError>,
    /// The queue is full: served again at the next poll.
    full: bool,
}

impl Subscription {
    pub(super) fn new(prefix: String, from: Revision, events: Sender<Result<WatchEvent, WatchError>>) -> Self {
        Self { prefix, position: from.raw(), events, ending: None, full: false }
    }

    fn wants_more(&self) -> bool {
        self.ending.is_none() && !self.full
    }

    fn offer(&mut self, event: &WatchEvent) {
        let revision = event.revision().raw();
        if !self.wants_more() || revision <= self.position {
            return;
        }
        if event.key().starts_with(&self.prefix)
            && let Err(TrySendError::Full(_)) = self.events.try_send(Ok(event.clone()))
        {
            self.full = true;
            return;
        }
        self.position = revision;
    }

    /// Tells whether the watch goes on.
    fn settle(&mut self) -> bool {
        if self.events.is_closed() {
            return false;
        }
        match self.ending.take() {
            None => true,
            Some(error) => match self.events.try_send(Err(error)) {
                Err(TrySendError::Full(Err(error))) => {
                    self.ending = Some(error);
                    true
                }
                _ => false,
            },
        }
    }
}

/// Serves all watches of one store: each has its own position in the log, so that a slow one delays no other.
pub(super) struct Watcher {
    connection: Connection,
    file: Arc<StoreFile>,
    subscriptions: Vec<Subscription>,
    data_version: Option<i64>,
    active_until: Instant,
    stirred_until: Instant,
    file_checked: Instant,
}

impl Watcher {
    pub(super) fn new(connection: Connection, file: Arc<StoreFile>) -> Self {
        let now = Instant::now();
        Self {
            connection,
            file,
            subscriptions: Vec::new(),
            data_version: None,
            active_until: now,
            stirred_until: now,
            file_checked: now,
        }
    }

    /// Serves until the store is dropped.
    pub(super) fn run(mut self, doorbell: &Doorbell) {
        loop {
            let rung = doorbell.wait(self.pause());
            if rung.closed {
                return;
            }
            if rung.log_written {
                self.stirred_until = Instant::now() + STIRRED_FOR;
            }
            let mut serve = !rung.messages.is_empty();
            rung.messages.into_iter().for_each(|message| self.take(message));
            self.check_file();
            if self.subscriptions.is_empty() {
                continue;
            }
            serve |= self.is_behind();
            if let Err(error) = self.poll(serve) {
                let reason = self.file.unavailable(&error).to_string();
                self.end_all(&reason);
            }
            self.subscriptions.retain_mut(Subscription::settle);
        }
    }

    fn take(&mut self, message: Message) {
        if let Message::Subscribe(subscription) = message {
            self.subscriptions.push(subscription);
        }
    }

    fn pause(&self) -> Duration {
        let now = Instant::now();
        if self.subscriptions.is_empty() {
            FILE_CHECK
        } else if now < self.stirred_until {
            STIRRED_POLL
        } else if self.is_behind() || now < self.active_until {
            ACTIVE_POLL
        } else {
            IDLE_POLL
        }
    }

    fn is_behind(&self) -> bool {
        self.subscriptions.iter().any(|subscription| subscription.full || subscription.ending.is_some())
    }

    /// Serves the watches if the file was changed by any connection but this one, or if `serve` is set.
    fn poll(&mut self, serve: bool) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached("PRAGMA data_version")?;
        let data_version: i64 = statement.query_row([], |row| row.get(0))?;
        drop(statement);
        let changed = self.data_version.replace(data_version) != Some(data_version);
        if changed {
            self.active_until = Instant::now() + ACTIVE_FOR;
        }
        if changed || serve { self.serve() } else { Ok(()) }
    }

    fn serve(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let head = head(&transaction)?;
        let compacted: i64 =
            transaction.prepare_cached("SELECT compacted FROM horizon")?.query_row([], |row| row.get(0))?;
        for subscription in &mut self.subscriptions {
            subscription.full = false;
            if subscription.ending.is_none() && !(compacted..=head).contains(&subscription.position) {
                subscription.ending = Some(WatchError::Compacted { from: Revision::new(subscription.position) });
            }
        }
        loop {
            let behind = self.subscriptions.iter().filter(|subscription| subscription.wants_more());
            let Some(from) = behind.map(|subscription| subscription.position).min().filter(|from| *from < head) else {
                break;
            };
            let mut statement = transaction.prepare_cached(
                "SELECT revision, key, value FROM event WHERE revision > ?1 ORDER BY revision LIMIT ?2",
            )?;
            let mut rows = statement.query((from, ROWS))?;
            let mut progress = false;
            while let Some(row) = rows.next()? {
                progress = true;
                let (revision, key) = (Revision::new(row.get(0)?), row.get(1)?);
                let event = match row.get(2)? {
                    Some(value) => WatchEvent::Put(KeyValue { key, value, revision }),
                    None => WatchEvent::Delete { key, revision },
                };
                self.subscriptions.iter_mut().for_each(|subscription| subscription.offer(&event));
            }
            if !progress {
                break;
            }
        }
        transaction.commit()
    }

    /// Notices once in a while that the path leads elsewhere: two processes on two files would both believe to own
    /// the cluster's state.
    fn check_file(&mut self) {
        if self.file_checked.elapsed() < FILE_CHECK {
            return;
        }
        self.file_checked = Instant::now();
        let same = FileIdentity::of(&self.file.path).is_ok_and(|identity| identity == self.file.identity);
        if self.file.replaced.swap(!same, Ordering::Relaxed) || same {
            return;
        }
        let path = self.file.path.display().to_string();
        tracing::error!(path, "the datastore's file was removed or replaced");
        self.end_all(&format!("{path} was removed or replaced"));
    }

    fn end_all(&mut self, reason: &str) {
        let since = SystemTime::now();
        for subscription in &mut self.subscriptions {
            subscription.ending.get_or_insert_with(|| WatchError::Disconnected { reason: reason.into(), since });
        }
    }
}
