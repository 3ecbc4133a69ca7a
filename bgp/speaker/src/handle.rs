use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use margay_bgp_core::{
    BfdSession, BfdState, ConfigError, Counters, DrainView, Event, Input, Ownership, PeerName, PeerView,
    RefreshDirection, ResolvedNextHop, Rib, RouteCounts, RouteFilter, RouteView, Speaker, SpeakerConfig, StopKind,
    WaitView, WhyView,
};
use margay_net::{Cidr, FromFelix};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::listener::ListenerState;

/// Prefixes whose routes are counted, and listed, and shown in one step of the speaker's task: some ten milliseconds at most.
const COUNTED: u32 = 131_072;
const LISTED: u32 = 131_072;
const PAGE: usize = 1024;

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
    pub(crate) bfd_sessions: watch::Receiver<BTreeMap<PeerName, BfdSession>>,
    pub(crate) tracked_next_hops: watch::Receiver<BTreeSet<IpAddr>>,
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

    /// Asks a peer for its routes again, or sends it ours again (RFC 2918). What can't be done is said by an event.
    pub async fn refresh(&self, peer: PeerName, direction: RefreshDirection) -> Result<(), SpeakerGone> {
        self.input(Input::Refresh { peer, direction }).await
    }

    /// Tells the state of a BFD session of [`SpeakerHandle::bfd_sessions`], with the reason in words.
    ///
    /// A session that is made anew must be told as [`BfdState::AdminDown`] in between, since one that goes from Up to
    /// Down takes the BGP session with it.
    pub async fn bfd(&self, peer: PeerName, state: BfdState, reason: String) -> Result<(), SpeakerGone> {
        self.input(Input::Bfd { peer, state, reason }).await
    }

    /// Tells how a next hop of [`SpeakerHandle::tracked_next_hops`] is reached; `None`: it isn't.
    pub async fn next_hop(&self, address: IpAddr, resolved: Option<ResolvedNextHop>) -> Result<(), SpeakerGone> {
        self.input(Input::NextHop { address, resolved }).await
    }

    /// Replaces the table of who owns what.
    pub async fn ownership(&self, ownership: Arc<Ownership>) -> Result<(), SpeakerGone> {
        self.input(Input::Ownership(ownership)).await
    }

    /// Returns the BFD sessions that are wanted, and their changes.
    pub fn bfd_sessions(&self) -> watch::Receiver<BTreeMap<PeerName, BfdSession>> {
        self.bfd_sessions.clone()
    }

    /// Returns the next hops whose ways are to be told, and their changes.
    pub fn tracked_next_hops(&self) -> watch::Receiver<BTreeSet<IpAddr>> {
        self.tracked_next_hops.clone()
    }

    /// Returns what holds the table itself up; what the sessions wait for is in [`PeerView::waits`].
    pub async fn waits(&self) -> Result<Vec<WaitView>, SpeakerGone> {
        self.query(Speaker::waits).await
    }

    /// Returns how far the node is drained; None where it isn't.
    pub async fn drain(&self) -> Result<Option<DrainView>, SpeakerGone> {
        self.query(Speaker::drain).await
    }

    /// Returns why a prefix is as it is.
    pub async fn why(&self, prefix: Cidr) -> Result<WhyView, SpeakerGone> {
        self.query(move |speaker| speaker.why(prefix)).await
    }

    /// Returns the peers by name, those made from listen ranges included. Routes of a large table are counted while other
    /// work goes on, so that the counts are of slightly different moments.
    pub async fn peers(&self) -> Result<Vec<PeerView>, SpeakerGone> {
        let (mut counts, mut from) = (RouteCounts::default(), 0);
        loop {
            let step = self.query(move |core| {
                let to = core.slots().min(from + COUNTED);
                core.count_in(from..to, &mut counts);
                if to == core.slots() { Ok(core.peers_with(&counts)) } else { Err((counts, to)) }
            });
            match step.await? {
                Ok(peers) => return Ok(peers),
                Err(counted) => (counts, from) = counted,
            }
        }
    }

    /// Returns the routes that `filter` asks for, in order, page by page: the speaker does other work between, however
    /// many there are. What comes after this call is not among them, and what goes may be.
    pub async fn pages(&self, filter: RouteFilter) -> Result<RoutePages, SpeakerGone> {
        let (filter, mut prefixes, mut from) = (Arc::new(filter), Vec::new(), 0);
        loop {
            let asked = filter.clone();
            let (found, to, slots) = self
                .query(move |core| {
                    let to = core.slots().min(from + LISTED);
                    (core.prefixes_in(&asked, from..to), to, core.slots())
                })
                .await?;
            prefixes.extend(found);
            if to == slots {
                break;
            }
            from = to;
        }
        // A prefix that went and came again while they were listed has two numbers.
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes.truncate(filter.limit.unwrap_or(usize::MAX));
        Ok(self.pages_of(filter.rib.clone(), prefixes))
    }

    /// Returns the given prefixes as they are in a table, but for those that are not there.
    pub fn pages_of(&self, rib: Rib, prefixes: Vec<Cidr>) -> RoutePages {
        RoutePages { handle: self.clone(), rib, prefixes: prefixes.into_iter() }
    }

    /// Returns all pages of [`SpeakerHandle::pages`] together.
    pub async fn routes(&self, filter: RouteFilter) -> Result<Vec<RouteView>, SpeakerGone> {
        let mut pages = self.pages(filter).await?;
        let mut routes = Vec::new();
        while let Some(page) = pages.next().await? {
            routes.extend(page);
        }
        Ok(routes)
    }

    /// Returns what is announced to a peer; nothing for an unknown one.
    pub async fn advertised(&self, peer: PeerName) -> Result<Vec<RouteView>, SpeakerGone> {
        self.routes(RouteFilter { rib: Rib::Out(peer), ..RouteFilter::default() }).await
    }

    /// Returns what a peer announced, rejected paths included; nothing for an unknown one.
    pub async fn received(&self, peer: PeerName) -> Result<Vec<RouteView>, SpeakerGone> {
        self.routes(RouteFilter { rib: Rib::In(peer), ..RouteFilter::default() }).await
    }

    /// Returns the counts since start.
    pub async fn counters(&self) -> Result<Counters, SpeakerGone> {
        self.query(Speaker::counters).await
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

/// Routes that come in pages.
#[derive(Debug)]
pub struct RoutePages {
    handle: SpeakerHandle,
    rib: Rib,
    prefixes: std::vec::IntoIter<Cidr>,
}

impl RoutePages {
    /// Returns the next up to 1,024 routes; `None` after the last ones. A page may be empty: its prefixes are gone.
    pub async fn next(&mut self) -> Result<Option<Vec<RouteView>>, SpeakerGone> {
        let page: Vec<Cidr> = self.prefixes.by_ref().take(PAGE).collect();
        if page.is_empty() {
            return Ok(None);
        }
        let rib = self.rib.clone();
        self.handle.query(move |core| core.routes_at(&rib, &page)).await.map(Some)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use margay_bgp_core::{BfdConfig, EventKind, PeerConfig};
    use margay_net::Asn;

    use super::*;
    use crate::{SpeakerOptions, spawn};

    #[tokio::test]
    async fn bfd_sessions_states_and_events_go_through_the_handle() {
        let (fib, _batches) = mpsc::channel(8);
        let (handle, task) = spawn(SpeakerOptions { restarting: false, seed: 1 }, fib);
        let mut heard = handle.events().unwrap();
        let mut sessions = handle.bfd_sessions();
        assert!(sessions.borrow_and_update().is_empty());
        let name = PeerName::from("tor");
        let mut config = SpeakerConfig::new(Asn(65001), [10, 0, 0, 1].into());
        config.listen_port = 0;
        let mut peer = PeerConfig::new("192.0.2.2".parse().unwrap(), Asn(65002));
        peer.passive = true;
        peer.bfd = Some(BfdConfig::default());
        config.peers.insert(name.clone(), peer);
        handle.configure(config).await.unwrap();
        sessions.changed().await.unwrap();
        assert_eq!(sessions.borrow_and_update()[&name].remote.to_string(), "192.0.2.2");

        handle.bfd(name.clone(), BfdState::Up, "no diagnostic".to_owned()).await.unwrap();
        handle.refresh(name.clone(), RefreshDirection::In).await.unwrap();
        handle.ownership(Arc::default()).await.unwrap();
        handle.next_hop("10.9.9.9".parse().unwrap(), None).await.unwrap();
        let view = handle.peers().await.unwrap().remove(0);
        assert_eq!(view.bfd.unwrap().state, Some(BfdState::Up));
        assert_eq!(handle.waits().await.unwrap()[0].what, "deferred: waiting for a session with tor");
        assert!(handle.tracked_next_hops().borrow().is_empty());

        handle.stop(StopKind::Restart).await;
        task.await.unwrap();
        let events: Vec<EventKind> =
            std::iter::from_fn(|| heard.try_recv().ok()).map(|event: Event| event.kind).collect();
        let bfd = EventKind::BfdChanged { to: BfdState::Up, reason: "no diagnostic".to_owned() };
        let refresh = EventKind::RefreshImpossible("the session is Active, not Established".to_owned());
        assert!(events.contains(&bfd) && events.contains(&refresh), "{events:?}");
    }
}
