//! The driver for etcd v3.
//!
//! One member serves all calls until it fails; then the next call goes through the list of endpoints until one of them
//! answers a probe. So a write is only sent to a member that has just proven to have a leader, and a cluster with one
//! member down costs one call, not every third.

mod failure;
mod list;
mod session;
mod watch;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Compare, CompareOp, Error, Txn, TxnOp, TxnOpResponse};

use crate::datastore::Datastore;
use crate::error::{OpenError, StoreError};
use crate::key::{check_key, check_prefix, check_value};
use crate::types::{KeyValue, Listing, Revision, WatchStream};
use failure::Failure;
use session::{Session, Sessions};

/// How long one call may take, the search for a member that answers included.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a read is tried within that time.
const READ_ATTEMPTS: u32 = 3;

/// Settings of [`EtcdStore`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EtcdOptions {
    /// User name and password of etcd's own authentication.
    pub credentials: Option<(String, String)>,
    /// Certificates; needed for `https://` endpoints.
    pub tls: Option<EtcdTls>,
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.credentials.as_ref().map(|(user, _)| user);
        f.debug_struct("EtcdOptions").field("user", &user).field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// PEM texts for TLS to etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// The authorities that may have signed the server's certificate.
    pub authority: Vec<u8>,
    /// The client's certificate chain and its private key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

/// A datastore in an etcd v3 cluster.
///
/// Nothing compacts an etcd by itself: in a cluster without Calico's controllers, or `--auto-compaction-retention`, call
/// [`Datastore::compact`] from time to time. Keys that are not UTF-8 are passed over with a warning.
#[derive(Debug)]
pub struct EtcdStore {
    sessions: Arc<Sessions>,
}

impl EtcdStore {
    /// Takes note of the endpoints (`http://host:port` or `https://host:port`); connects at the first call.
    pub fn open(endpoints: Vec<String>, options: EtcdOptions) -> Result<Self, OpenError> {
        if endpoints.is_empty() {
            let reason = "etcd needs at least one endpoint".into();
            return Err(OpenError::Usage { reason, advice: "name it as host:port".into() });
        }
        Ok(Self { sessions: Arc::new(Sessions::new(endpoints, options)) })
    }

    /// Runs a read, again on another member when one fails, within [`CALL_TIMEOUT`].
    async fn read<T: Send, F>(&self, key: &str, call: impl Fn(Session) -> F + Send + Sync) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let attempts = async {
            let mut attempt = 1;
            loop {
                let session = self.sessions.current().await?;
                let generation = session.generation();
                match Box::pin(call(session)).await.map_err(|error| Failure::of(&error)) {
                    Ok(value) => return Ok(value),
                    Err(failure) => {
                        self.sessions.note(generation, &failure).await;
                        if attempt == READ_ATTEMPTS || !failure.is_transient() {
                            return Err(failure);
                        }
                        attempt += 1;
                    }
                }
            }
        };
        self.within_timeout(key, attempts).await
    }

    /// Runs a write once: whether a failed one was applied is unknown.
    async fn write<T: Send, F>(&self, key: &str, call: impl FnOnce(Session) -> F + Send) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let attempt = async {
            let session = self.sessions.current().await?;
            let generation = session.generation();
            match Box::pin(call(session)).await.map_err(|error| Failure::of(&error)) {
                Ok(value) => Ok(value),
                Err(failure) => {
                    self.sessions.note(generation, &failure).await;
                    Err(failure)
                }
            }
        };
        self.within_timeout(key, attempt).await
    }

    async fn within_timeout<T>(
        &self,
        key: &str,
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, StoreError> {
        let outcome = match tokio::time::timeout(CALL_TIMEOUT, work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.sessions.drop_current().await;
                Err(Failure::Away(format!("no answer within {} s", CALL_TIMEOUT.as_secs())))
            }
        };
        outcome.map_err(|failure| failure.into_store_error(key, self.sessions.name()))
    }

    /// Refuses the revision 0, which no key ever has, and which etcd takes for "must be absent".
    async fn check_expected(&self, key: &str, expected: Revision) -> Result<(), StoreError> {
        if expected != Revision::ZERO {
            return Ok(());
        }
        let found = self.get(key).await?;
        let key = key.to_owned();
        Err(if found.is_some() { StoreError::Conflict { key } } else { StoreError::NotFound { key } })
    }

    /// Runs `operation` while the key is at `expected`, 0 meaning absent; without success tells which error that is.
    async fn swap(&self, key: &str, expected: Revision, operation: TxnOp) -> Result<Revision, StoreError> {
        let compare = Compare::mod_revision(key, CompareOp::Equal, expected.raw());
        let txn = Txn::new().when([compare]).and_then([operation]).or_else([TxnOp::get(key, None)]);
        let response = self.write(key, |session| async move { session.kv().txn(txn).await }).await?;
        if response.succeeded() {
            return Ok(revision_of(response.header()));
        }
        let exists = match response.op_responses().first() {
            Some(TxnOpResponse::Get(found)) => !found.kvs().is_empty(),
            _ => false,
        };
        let key = key.to_owned();
        Err(match (exists, expected) {
            (true, Revision::ZERO) => StoreError::AlreadyExists { key },
            (true, _) => StoreError::Conflict { key },
            (false, _) => StoreError::NotFound { key },
        })
    }
}

fn revision_of(header: Option<&etcd_client::ResponseHeader>) -> Revision {
    Revision::new(header.map_or(0, etcd_client::ResponseHeader::revision))
}

/// Turns etcd's pair into ours; passes over a key that is not UTF-8, which nothing of ours or Calico's writes.
fn key_value(item: &etcd_client::KeyValue) -> Option<KeyValue> {
    let Ok(key) = item.key_str() else {
        tracing::warn!(key = %String::from_utf8_lossy(item.key()), "passing over a key that is not UTF-8");
        return None;
    };
    Some(KeyValue { key: key.into(), value: item.value().into(), revision: Revision::new(item.mod_revision()) })
}

#[async_trait]
impl Datastore for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        check_key(key)?;
        let response = self.read(key, |session| async move { session.kv().get(key, None).await }).await?;
        Ok(response.kvs().first().and_then(key_value))
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        check_prefix(prefix)?;
        list::list(self, prefix).await
    }

    async fn create(&self, key: &str, value: &[u8]) -> Result<Revision, StoreError> {
        check_key(key)?;
        check_value(key, value)?;
        self.swap(key, Revision::ZERO, TxnOp::put(key, value, None)).await
    }

    async fn update(&self, key: &str, value: &[u8], expected: Revision) -> Result<Revision, StoreError> {
        check_key(key)?;
        check_value(key, value)?;
        self.check_expected(key, expected).await?;
        self.swap(key, expected, TxnOp::put(key, value, None)).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(), StoreError> {
        check_key(key)?;
        if let Some(expected) = expected {
            self.check_expected(key, expected).await?;
            return self.swap(key, expected, TxnOp::delete(key, None)).await.map(drop);
        }
        let response = self.write(key, |session| async move { session.kv().delete(key, None).await }).await?;
        if response.deleted() == 0 { Err(StoreError::NotFound { key: key.into() }) } else { Ok(()) }
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        check_prefix(prefix)?;
        watch::start(self, prefix, from).await
    }

    async fn compact(&self, through: Revision) -> Result<(), StoreError> {
        let call = |session: Session| async move {
            match session.kv().compact(through.raw(), None).await {
                // Somebody compacted as far already.
                Err(error) if matches!(Failure::of(&error), Failure::Compacted) => Ok(()),
                other => other.map(drop),
            }
        };
        self.write("/", call).await
    }
}
