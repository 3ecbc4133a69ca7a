use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::doorbell::Mailbox;
use super::read::head;
use super::{SqliteOptions, StoreFile, watch};
use crate::error::StoreError;
use crate::types::Revision;

/// How many waiting writes share one transaction, and so one fsync.
const BATCH: usize = 64;

#[derive(Debug)]
pub(super) enum WriteOp {
    Create { key: String, value: Vec<u8> },
    Update { key: String, value: Vec<u8>, expected: Revision },
    Delete { key: String, expected: Option<Revision> },
    Compact { through: Revision },
}

#[derive(Debug)]
pub(super) struct WriteJob {
    pub(super) op: WriteOp,
    pub(super) reply: oneshot::Sender<Result<Revision, StoreError>>,
}

/// The one writer of this process.
pub(super) struct Writer {
    connection: Connection,
    file: Arc<StoreFile>,
    watches: Mailbox,
    retained: i64,
    /// Compaction runs when the revision passes a multiple of this.
    stride: i64,
}

impl Writer {
    pub(super) fn new(connection: Connection, file: Arc<StoreFile>, watches: Mailbox, options: &SqliteOptions) -> Self {
        let retained = i64::from(options.retained_events);
        Self { connection, file, watches, retained, stride: (retained / 10).clamp(1, 1000) }
    }

    /// Serves writes until the store is dropped.
    pub(super) fn run(mut self, jobs: &Receiver<WriteJob>) {
        while let Ok(first) = jobs.recv() {
            let mut batch = vec![first];
            batch.extend(jobs.try_iter().take(BATCH - 1));
            let outcomes = self.commit(&batch);
            let _ = self.watches.send(watch::Message::Committed);
            match outcomes {
                Ok(outcomes) => {
                    for (job, outcome) in batch.into_iter().zip(outcomes) {
                        let _ = job.reply.send(outcome);
                    }
                }
                Err(error) => {
                    for job in batch {
                        let _ = job.reply.send(Err(self.file.unavailable(&error)));
                    }
                }
            }
        }
    }

    /// Applies a batch in one transaction. A refused write changes nothing and doesn't disturb the others.
    fn commit(&mut self, batch: &[WriteJob]) -> rusqlite::Result<Vec<Result<Revision, StoreError>>> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = head(&transaction)?;
        let outcomes = batch.iter().map(|job| apply(&transaction, &job.op)).collect::<rusqlite::Result<Vec<_>>>()?;
        let after = head(&transaction)?;
        if after / self.stride > before / self.stride && after > self.retained {
            compact(&transaction, after - self.retained)?;
        }
        transaction.commit()?;
        Ok(outcomes)
    }
}

fn apply(transaction: &Transaction<'_>, op: &WriteOp) -> rusqlite::Result<Result<Revision, StoreError>> {
    Ok(match op {
        WriteOp::Create { key, value } => match current(transaction, key)? {
            Some(_) => Err(StoreError::AlreadyExists { key: key.clone() }),
            None => Ok(put(transaction, key, value)?),
        },
        WriteOp::Update { key, value, expected } => match current(transaction, key)? {
            None => Err(StoreError::NotFound { key: key.clone() }),
            Some(revision) if revision != *expected => Err(StoreError::Conflict { key: key.clone() }),
            Some(_) => Ok(put(transaction, key, value)?),
        },
        WriteOp::Delete { key, expected } => match current(transaction, key)? {
            None => Err(StoreError::NotFound { key: key.clone() }),
            Some(revision) if expected.is_some_and(|expected| expected != revision) => {
                Err(StoreError::Conflict { key: key.clone() })
            }
            Some(_) => {
                transaction.prepare_cached("DELETE FROM item WHERE key = ?1")?.execute([key])?;
                Ok(append(transaction, key, None)?)
            }
        },
        WriteOp::Compact { through } => {
            compact(transaction, through.raw().min(head(transaction)?))?;
            Ok(*through)
        }
    })
}

fn current(transaction: &Transaction<'_>, key: &str) -> rusqlite::Result<Option<Revision>> {
    let mut statement = transaction.prepare_cached("SELECT revision FROM item WHERE key = ?1")?;
    statement.query_row([key], |row| row.get(0)).optional().map(|found| found.map(Revision::new))
}

fn put(transaction: &Transaction<'_>, key: &str, value: &[u8]) -> rusqlite::Result<Revision> {
    let revision = append(transaction, key, Some(value))?;
    transaction
        .prepare_cached(
            "INSERT INTO item (key, value, revision) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision",
        )?
        .execute(params![key, value, revision.raw()])?;
    Ok(revision)
}

fn append(transaction: &Transaction<'_>, key: &str, value: Option<&[u8]>) -> rusqlite::Result<Revision> {
    let mut statement = transaction.prepare_cached("INSERT INTO event (key, value) VALUES (?1, ?2)")?;
    statement.insert(params![key, value]).map(Revision::new)
}

fn compact(transaction: &Transaction<'_>, through: i64) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM event WHERE revision <= ?1")?.execute([through])?;
    transaction.prepare_cached("UPDATE horizon SET compacted = max(compacted, ?1)")?.execute([through])?;
    Ok(())
}
