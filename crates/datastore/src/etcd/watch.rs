use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use etcd_client::{EventType, GetOptions, WatchOptions, WatchResponse};
use tokio::sync::mpsc;

use super::failure::Failure;
use super::session::Sessions;
use super::{CALL_TIMEOUT, EtcdStore, key_value, revision_of};
use crate::backoff::Backoff;
use crate::error::{StoreError, WatchError};
use crate::key::prefix_end;
use crate::types::{Revision, WatchEvent, WatchStream};

const QUEUE: usize = 1024;
/// How long a broken stream is resumed before the watcher is told.
const RESUME_FOR: Duration = Duration::from_secs(10);

/// Starts a watch; fails only when etcd can't be asked at all.
pub(super) async fn start(store: &EtcdStore, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
    let (events, receiver) = mpsc::channel(QUEUE);
    let mut watch =
        Watch { sessions: store.sessions.clone(), prefix: prefix.into(), position: from, cluster: None, events };
    match watch.connect().await {
        Ok(stream) => {
            tokio::spawn(watch.run(stream));
        }
        Err(Broken::Ended(error)) => {
            let _ = watch.events.try_send(Err(error));
        }
        Err(Broken::Failed(failure)) => return Err(failure.into_store_error(prefix, store.sessions.name())),
        Err(Broken::Unwatched) => {}
    }
    Ok(WatchStream::new(receiver))
}

struct Watch {
    sessions: Arc<Sessions>,
    prefix: String,
    /// Everything up to here was delivered.
    position: Revision,
    /// The id of the cluster that the position belongs to.
    cluster: Option<u64>,
    events: mpsc::Sender<Result<WatchEvent, WatchError>>,
}

/// Why one stream of etcd's ended.
enum Broken {
    /// For good: the watcher has to list again.
    Ended(WatchError),
    /// Perhaps only here: worth a resume.
    Failed(Failure),
    /// Nobody listens.
    Unwatched,
}

/// A stream of etcd's that was acknowledged.
struct Stream {
    generation: u64,
    stream: etcd_client::WatchStream,
}

impl Watch {
    /// Delivers events, resuming broken streams after the last delivered revision.
    async fn run(mut self, mut stream: Stream) {
        loop {
            let failure = match self.deliver(&mut stream).await {
                Broken::Failed(failure) => failure,
                Broken::Ended(error) => return self.end(error).await,
                Broken::Unwatched => return,
            };
            self.sessions.note(stream.generation, &failure).await;
            tracing::debug!(prefix = self.prefix, ?failure, "watch interrupted, resuming");
            stream = match self.resume(failure).await {
                Ok(stream) => stream,
                Err(Some(error)) => return self.end(error).await,
                Err(None) => return,
            };
        }
    }

    /// Connects again within [`RESUME_FOR`]; `None` when nobody listens any more.
    async fn resume(&mut self, mut failure: Failure) -> Result<Stream, Option<WatchError>> {
        let (since, deadline) = (SystemTime::now(), Instant::now() + RESUME_FOR);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        while Instant::now() < deadline {
            let closed = self.events.clone();
            tokio::select! {
                () = tokio::time::sleep(backoff.delay()) => {}
                () = closed.closed() => return Err(None),
            }
            match self.connect().await {
                Ok(stream) => return Ok(stream),
                Err(Broken::Failed(again)) => failure = again,
                Err(Broken::Ended(error)) => return Err(Some(error)),
                Err(Broken::Unwatched) => return Err(None),
            }
        }
        let reason = failure.into_store_error(&self.prefix, self.sessions.name()).to_string();
        Err(Some(WatchError::Disconnected { reason, since }))
    }

    async fn end(&self, error: WatchError) {
        let _ = self.events.send(Err(error)).await;
    }

    /// Opens a stream and waits until etcd acknowledges the watch.
    async fn connect(&mut self) -> Result<Stream, Broken> {
        match tokio::time::timeout(CALL_TIMEOUT, self.connect_without_limit()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.sessions.drop_current().await;
                Err(Broken::Failed(Failure::Away("no answer to a watch request".into())))
            }
        }
    }

    async fn connect_without_limit(&mut self) -> Result<Stream, Broken> {
        let session = self.sessions.current().await.map_err(Broken::Failed)?;
        let generation = session.generation();
        // The watch includes the position itself, whose events are passed over: a compaction at just the next revision
        // would else go unnoticed, and with it a deletion that the compaction removed.
        let options = WatchOptions::new()
            .with_range(prefix_end(&self.prefix))
            .with_start_revision(self.position.raw().max(1))
            .with_progress_notify();
        let outcome = async {
            let mut stream = session.watch().watch(self.prefix.as_str(), Some(options)).await?;
            let first = stream.message().await?;
            Ok::<_, etcd_client::Error>((stream, first))
        }
        .await;
        let (stream, first) = match outcome {
            Ok((stream, Some(first))) => (stream, first),
            Ok((_, None)) => return Err(Broken::Failed(Failure::Away("the watch was closed".into()))),
            Err(error) => {
                let failure = Failure::of(&error);
                self.sessions.note(generation, &failure).await;
                return Err(Broken::Failed(failure));
            }
        };
        self.check_canceled(&first)?;

        // A cluster that was restored from a copy, or made anew, has another history under the same numbers.
        let cluster = first.header().map(etcd_client::ResponseHeader::cluster_id);
        if self.cluster.is_some() && self.cluster != cluster {
            return Err(Broken::Ended(self.compacted()));
        }
        self.cluster = cluster;
        if revision_of(first.header()) < self.position {
            // A member that lags behind says so too; only the leader knows.
            let count = GetOptions::new().with_count_only();
            let answer = session.kv().get(self.prefix.as_str(), Some(count)).await;
            let answer = answer.map_err(|error| Broken::Failed(Failure::of(&error)))?;
            if revision_of(answer.header()) < self.position {
                return Err(Broken::Ended(self.compacted()));
            }
        }
        // A start that is already compacted is acknowledged first and canceled by the next response.
        self.pass_on(&first).await?;
        Ok(Stream { generation, stream })
    }

    async fn deliver(&mut self, stream: &mut Stream) -> Broken {
        loop {
            let closed = self.events.clone();
            let response = tokio::select! {
                response = stream.stream.message() => response,
                () = closed.closed() => return Broken::Unwatched,
            };
            let passed = match response {
                Ok(Some(response)) => self.pass_on(&response).await,
                Ok(None) => return Broken::Failed(Failure::Away("the watch was closed".into())),
                Err(error) => return Broken::Failed(Failure::of(&error)),
            };
            if let Err(broken) = passed {
                return broken;
            }
        }
    }

    async fn pass_on(&mut self, response: &WatchResponse) -> Result<(), Broken> {
        self.check_canceled(response)?;
        // One write of several keys has one revision, and comes in one response: the position moves at the end of it.
        let position = self.position;
        for event in response.events() {
            let Some(item) = event.kv() else { continue };
            if Revision::new(item.mod_revision()) <= position {
                continue;
            }
            let Some(item) = key_value(item) else { continue };
            self.position = self.position.max(item.revision);
            let event = match event.event_type() {
                EventType::Put => WatchEvent::Put(item),
                EventType::Delete => WatchEvent::Delete { key: item.key, revision: item.revision },
            };
            self.events.send(Ok(event)).await.map_err(|_| Broken::Unwatched)?;
        }
        // A progress notice, and only that, promises that nothing up to its revision is still to come.
        if response.events().is_empty() && !response.created() {
            self.position = self.position.max(revision_of(response.header()));
        }
        Ok(())
    }

    fn check_canceled(&self, response: &WatchResponse) -> Result<(), Broken> {
        if response.compact_revision() > 0 {
            return Err(Broken::Ended(self.compacted()));
        }
        if response.canceled() {
            return Err(Broken::Failed(Failure::Denied(format!("watch canceled: {}", response.cancel_reason()))));
        }
        Ok(())
    }

    fn compacted(&self) -> WatchError {
        WatchError::Compacted { from: self.position }
    }
}
