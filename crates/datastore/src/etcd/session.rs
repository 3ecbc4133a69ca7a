use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, Error, GetOptions, Identity, KvClient, TlsOptions, WatchClient,
};
use tokio::sync::Mutex;

use super::failure::Failure;
use super::{EtcdOptions, EtcdTls};

/// How long one member may take to answer the probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// etcd refuses pings that come more often than every 5 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// A response to a list or a watch may hold many values of up to 1 MiB.
const MAX_MESSAGE: usize = 256 << 20;

/// A connection to one member that answered; clones share it.
#[derive(Clone)]
pub(super) struct Session(Arc<Connection>);

struct Connection {
    kv: KvClient,
    watch: WatchClient,
    generation: u64,
    /// Keeps the connection's list of endpoints alive.
    _client: Client,
}

impl Session {
    pub(super) fn generation(&self) -> u64 {
        self.0.generation
    }

    pub(super) fn kv(&self) -> KvClient {
        self.0.kv.clone()
    }

    pub(super) fn watch(&self) -> WatchClient {
        self.0.watch.clone()
    }
}

/// The present session, and how to get the next one.
pub(super) struct Sessions {
    endpoints: Vec<String>,
    name: String,
    options: EtcdOptions,
    current: Mutex<Option<Session>>,
    next_endpoint: AtomicUsize,
    generations: AtomicU64,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Sessions {
    pub(super) fn new(endpoints: Vec<String>, options: EtcdOptions) -> Self {
        let name = endpoints.join(",");
        let (next_endpoint, generations) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { endpoints, name, options, current: Mutex::new(None), next_endpoint, generations }
    }

    /// Returns the endpoints for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the present session, or one with the first member that answers a probe.
    pub(super) async fn current(&self) -> Result<Session, Failure> {
        let mut current = self.current.lock().await;
        if let Some(session) = &*current {
            return Ok(session.clone());
        }
        let mut last = Failure::Away("no endpoint".into());
        for _ in &self.endpoints {
            // Counted up front, so that a caller that gives up midway doesn't make the next one start at the same.
            let turn = self.next_endpoint.fetch_add(1, Ordering::Relaxed);
            let endpoint = &self.endpoints[turn % self.endpoints.len()];
            match tokio::time::timeout(PROBE_TIMEOUT, Box::pin(self.connect(endpoint))).await {
                Ok(Ok(session)) => {
                    // The next search begins with this one again.
                    self.next_endpoint.store(turn, Ordering::Relaxed);
                    *current = Some(session.clone());
                    return Ok(session);
                }
                Ok(Err(error)) => last = Failure::of(&error),
                Err(_) => last = Failure::Away(format!("{endpoint} does not answer")),
            }
        }
        Err(last)
    }

    /// Drops the session of that generation if the failure says that it is of no more use.
    pub(super) async fn note(&self, generation: u64, failure: &Failure) {
        if !failure.spoils_session() {
            return;
        }
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|session| session.generation() == generation) {
            self.next_endpoint.fetch_add(1, Ordering::Relaxed);
            *current = None;
        }
    }

    /// Drops whatever session there is.
    pub(super) async fn drop_current(&self) {
        // While somebody searches for a member the lock is held, and there is nothing to drop.
        if let Ok(mut current) = self.current.try_lock()
            && current.take().is_some()
        {
            self.next_endpoint.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn connect(&self, endpoint: &str) -> Result<Session, Error> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(PROBE_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_tcp_keepalive(KEEP_ALIVE)
            .with_require_leader(true);
        if let Some((user, password)) = &self.options.credentials {
            options = options.with_user(user, password);
        }
        if let Some(tls) = self.options.tls.as_ref().filter(|_| endpoint.starts_with("https://")) {
            options = options.with_tls(tls_options(tls));
        }
        let client = Client::connect([endpoint], Some(options)).await?;
        let session = Session(Arc::new(Connection {
            kv: client.kv_client().max_decoding_message_size(MAX_MESSAGE),
            watch: client.watch_client().max_decoding_message_size(MAX_MESSAGE),
            generation: self.generations.fetch_add(1, Ordering::Relaxed),
            _client: client,
        }));
        // Answered only by a member that can reach a leader. A user without rights on this key has logged in all the
        // same, and shall get the error of his own call.
        match session.kv().get("/", Some(GetOptions::new().with_count_only())).await {
            Err(error) if !is_permission_denied(&error) => Err(error),
            _ => Ok(session),
        }
    }
}

fn is_permission_denied(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if i32::from(status.code()) == 7)
}

fn tls_options(tls: &EtcdTls) -> TlsOptions {
    let options = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.authority));
    match &tls.identity {
        Some((certificate, key)) => options.identity(Identity::from_pem(certificate, key)),
        None => options,
    }
}
