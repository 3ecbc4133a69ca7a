use std::sync::mpsc::Receiver;

use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::oneshot;

use super::StoreFile;
use crate::error::StoreError;
use crate::key::prefix_end;
use crate::types::{KeyValue, Listing, Revision};

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

#[derive(Debug)]
pub(super) enum ReadJob {
    Get { key: String, reply: Reply<Option<KeyValue>> },
    List { prefix: String, reply: Reply<Listing> },
}

/// Serves reads until the store is dropped.
pub(super) fn run(mut connection: Connection, file: &StoreFile, jobs: &Receiver<ReadJob>) {
    while let Ok(job) = jobs.recv() {
        // A reply that nobody waits for any more is no error.
        match job {
            ReadJob::Get { key, reply } => {
                let _ = reply.send(get(&connection, &key).map_err(|error| file.unavailable(&error)));
            }
            ReadJob::List { prefix, reply } => {
                let _ = reply.send(list(&mut connection, &prefix).map_err(|error| file.unavailable(&error)));
            }
        }
    }
}

fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<KeyValue>> {
    let mut statement = connection.prepare_cached("SELECT key, value, revision FROM item WHERE key = ?1")?;
    statement.query_row([key], key_value).optional()
}

fn list(connection: &mut Connection, prefix: &str) -> rusqlite::Result<Listing> {
    // One transaction, so that the revision belongs to what is read.
    let transaction = connection.transaction()?;
    let revision = Revision::new(head(&transaction)?);
    let items = transaction
        .prepare_cached("SELECT key, value, revision FROM item WHERE key >= ?1 AND key < ?2 ORDER BY key")?
        .query_map(params![prefix, prefix_end(prefix)], key_value)?
        .collect::<rusqlite::Result<_>>()?;
    transaction.commit()?;
    Ok(Listing { items, revision })
}

fn key_value(row: &Row<'_>) -> rusqlite::Result<KeyValue> {
    Ok(KeyValue { key: row.get(0)?, value: row.get(1)?, revision: Revision::new(row.get(2)?) })
}

/// Returns the revision of the newest write, 0 before the first; right even when the log is empty.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'event'")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}
