use std::collections::BTreeMap;

use margay_bgp_core::{
    ConfigError, Counters, Event, Input, PeerName, PeerView, RejectReason, RouteFilter, RouteView, Speaker,
    SpeakerConfig, StopKind,
};
use margay_net::{Family, FromFelix};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::listener::ListenerState;

/// The speaker's task has ended: it was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the BGP speaker has stopped")]
pub struct SpeakerGone;

/// Why a configuration was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigureError {
    /// The operator must change it; the one in force stays.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    #[error(transparent)]
    Gone(#[from] SpeakerGone),
}

/// What the task is asked.
pub(crate) enum Request {
    Input(Box<Input>),
    Query(Box<dyn FnOnce(&Speaker) + Send>),
    Stop(StopKind, oneshot::Sender<()>),
}

/// A handle to a running speaker; cheap to clone.
///
/// Every call waits where the speaker has much to do. When the last handle is dropped the speaker stops as by
/// [`StopKind::Restart`].
#[derive(Debug, Clone)]
pub struct SpeakerHandle {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) events: broadcast::WeakSender<Event>,
    pub(crate) listener: watch::Receiver<ListenerState>,
}

impl SpeakerHandle {
    /// Replaces the configuration; what is unchanged keeps its session.
    pub async fn configure(&self, config: SpeakerConfig) -> Result<(), ConfigureError> {
        config.validate()?;
        Ok(self.input(Input::Configure(config)).await?)
    }

    /// Passes on what felix says, in order.
    pub async fn from_felix(&self, message: FromFelix) -> Result<(), SpeakerGone> {
        self.input(Input::Felix(message)).await
    }

    /// Resets a peer's session with Cease / Administrative Reset (RFC 4486) and a text for its operator (RFC 9003).
    pub async fn reset(&self, peer: PeerName, reason: Option<String>) -> Result<(), SpeakerGone> {
        self.input(Input::Reset { peer, reason }).await
    }

    /// Returns the configured peers by name.
    pub async fn peers(&self) -> Result<Vec<PeerView>, SpeakerGone> {
        self.query(Speaker::peers).await
    }

    /// Returns the prefixes of the table that `filter` asks for, with their paths and why each won or lost.
    pub async fn routes(&self, filter: RouteFilter) -> Result<Vec<RouteView>, SpeakerGone> {
        self.query(move |core| core.routes(&filter)).await
    }

    /// Returns what is announced to a peer; nothing for an unknown one.
    pub async fn advertised(&self, peer: PeerName) -> Result<Vec<RouteView>, SpeakerGone> {
        self.query(move |core| core.advertised(&peer)).await
    }

    /// Returns what a peer announced, rejected paths included; nothing for an unknown one.
    pub async fn received(&self, peer: PeerName) -> Result<Vec<RouteView>, SpeakerGone> {
        self.query(move |core| core.received(&peer)).await
    }

    /// Returns the counts since start.
    pub async fn counters(&self) -> Result<Counters, SpeakerGone> {
        self.query(Speaker::counters).await
    }

    /// Returns how many paths of each peer are rejected, by family and reason.
    pub async fn rejections(&self) -> Result<BTreeMap<(PeerName, Family, RejectReason), usize>, SpeakerGone> {
        self.query(Speaker::rejections).await
    }

    /// Returns the events from here on. A receiver that falls more than 1,024 behind loses the oldest and is told.
    pub fn events(&self) -> Result<broadcast::Receiver<Event>, SpeakerGone> {
        self.events.upgrade().map(|events| events.subscribe()).ok_or(SpeakerGone)
    }

    /// Returns whether the speaker listens, and where not, why.
    pub fn listener_state(&self) -> ListenerState {
        self.listener.borrow().clone()
    }

    /// Stops the speaker and returns when its connections are closed. Stopping twice is no error.
    pub async fn stop(&self, kind: StopKind) {
        let (done, stopped) = oneshot::channel();
        if self.requests.send(Request::Stop(kind, done)).await.is_ok() {
            let _ = stopped.await;
        }
    }

    async fn input(&self, input: Input) -> Result<(), SpeakerGone> {
        self.requests.send(Request::Input(Box::new(input))).await.map_err(|_| SpeakerGone)
    }

    async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Speaker) -> T + Send + 'static,
    ) -> Result<T, SpeakerGone> {
        let (answer, answered) = oneshot::channel();
        let query = Request::Query(Box::new(move |core| {
            // An asker that went away needs no answer.
            let _ = answer.send(ask(core));
        }));
        self.requests.send(query).await.map_err(|_| SpeakerGone)?;
        answered.await.map_err(|_| SpeakerGone)
    }
}
