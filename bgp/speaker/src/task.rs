use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use margay_bgp_core::{
    BfdSession, ConnectionId, Event, EventKind, FsmState, Input, Options, Output, PeerName, Speaker, StopKind,
};
use margay_net::{FibBatch, FromFelix};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::clock::Clock;
use crate::connection::{Connection, ConnectionEvent, EventSender};
use crate::fib::FibQueue;
use crate::handle::{Request, SpeakerHandle};
use crate::listener::{self, Accepted, ListenPlan, ListenerState};
use crate::socket::{self, Dial};

const REQUESTS: usize = 64;
const ACCEPTED: usize = 64;
const CONNECTION_EVENTS: usize = 1024;
const EVENTS: usize = 1024;
/// Most events of connections that are taken before the core's outputs are: what arrives together goes out together.
const BATCH: usize = 64;
/// Most outputs that are gathered before they are sent.
const OUTPUTS: usize = 4096;
/// How long events of connections are handled, or outputs done, before the others get their turn.
const SLICE: Duration = Duration::from_millis(10);
/// A timer that is late by this much means that the process or the machine stood still ...
const STALL: Duration = Duration::from_millis(500);
/// ... and then peers' messages that wait in the kernel get this long to arrive before hold timers may expire.
const STALL_GRACE: Duration = Duration::from_millis(100);
/// Most connections that say their last words; further ones are closed without, so that a flood of strangers is bounded.
const CLOSING: usize = 1024;
/// How long a stop waits for connections to close.
const STOP_CONNECTIONS: Duration = Duration::from_secs(3);
/// How long a stop waits for felix to take the last batch.
const STOP_FIB: Duration = Duration::from_secs(1);

/// What a speaker is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeakerOptions {
    /// Whether forwarding state of the last run is in the kernel (RFC 4724). The first [`margay_net::FromFelix::Local`]
    /// must then hold all prefixes of the node: see [`Speaker`].
    pub restarting: bool,
    /// Seeds the jitter of timers; any number, different on every node.
    pub seed: u64,
}

/// Starts a speaker on the current runtime, without a configuration. Batches of best routes go to `fib` in order; one
/// that isn't read holds up no session. Where no route goes to the kernel, the receiver is dropped.
///
/// The task ends after [`SpeakerHandle::stop`] or when the last handle is dropped. Aborting it closes connections
/// without a word, as a crash does.
///
/// # Panics
///
/// Outside a tokio runtime with IO and time enabled.
pub fn spawn(options: SpeakerOptions, fib: mpsc::Sender<FibBatch>) -> (SpeakerHandle, JoinHandle<()>) {
    let (requests, requests_rx) = mpsc::channel(REQUESTS);
    let (accepted, accepted_rx) = mpsc::channel(ACCEPTED);
    let (connection_events, connection_events_rx) = mpsc::channel(CONNECTION_EVENTS);
    let (plan, plan_rx) = watch::channel(ListenPlan::default());
    let (listener_state, listener_state_rx) = watch::channel(ListenerState::default());
    let events = broadcast::Sender::new(EVENTS);
    let (bfd_sessions, bfd_sessions_rx) = watch::channel(BTreeMap::new());
    let (tracked_next_hops, tracked_next_hops_rx) = watch::channel(BTreeSet::new());
    let handle = SpeakerHandle {
        requests,
        events: events.downgrade(),
        listener: listener_state_rx,
        bfd_sessions: bfd_sessions_rx,
        tracked_next_hops: tracked_next_hops_rx,
    };

    let clock = Clock::start();
    let core = Speaker::new(Options { seed: options.seed, restarting: options.restarting }, clock.now());
    let task = Task {
        core,
        clock,
        fib: FibQueue::new(fib),
        links: BTreeMap::new(),
        unflushed: Vec::new(),
        next_inbound: 1,
        connection_events,
        plan,
        events,
        bfd_sessions,
        tracked_next_hops,
        closing: JoinSet::new(),
        grace_until: None,
        stopping: false,
        _listener: AbortOnDrop(tokio::spawn(listener::run(plan_rx, accepted, listener_state)).abort_handle()),
    };
    let inbox = Inbox { requests: requests_rx, accepted: accepted_rx, connections: connection_events_rx };
    (handle, tokio::spawn(task.run(inbox)))
}

struct Inbox {
    requests: mpsc::Receiver<Request>,
    accepted: mpsc::Receiver<Accepted>,
    connections: mpsc::Receiver<(ConnectionId, ConnectionEvent)>,
}

/// How the task is to stop, and who wants to know when it has.
type Stop = (StopKind, Option<oneshot::Sender<()>>);

/// The owner of the core.
struct Task {
    core: Speaker,
    clock: Clock,
    fib: FibQueue,
    links: BTreeMap<ConnectionId, Link>,
    /// Connections with bytes appended since the last flush.
    unflushed: Vec<ConnectionId>,
    next_inbound: u64,
    connection_events: EventSender,
    plan: watch::Sender<ListenPlan>,
    events: broadcast::Sender<Event>,
    bfd_sessions: watch::Sender<BTreeMap<PeerName, BfdSession>>,
    tracked_next_hops: watch::Sender<BTreeSet<IpAddr>>,
    /// Connections that say their last words.
    closing: JoinSet<()>,
    /// Set after a stall: no timer acts before.
    grace_until: Option<Instant>,
    /// Sessions that end from here on do so because the operator wants it.
    stopping: bool,
    _listener: AbortOnDrop,
}

/// A connection that the core knows.
enum Link {
    Connecting { _attempt: AbortOnDrop },
    Open(Connection),
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Task {
    async fn run(mut self, mut inbox: Inbox) {
        let mut batch = Vec::with_capacity(BATCH);
        let sleep = tokio::time::sleep_until(Instant::now());
        tokio::pin!(sleep);
        let (stop, stopped) = loop {
            let more = self.pump();
            let deadline = self.deadline();
            if let Some(deadline) = deadline.filter(|deadline| *deadline != sleep.deadline()) {
                sleep.as_mut().reset(deadline);
            }
            if more {
                // Readers, writers and the runtime's own look at sockets have their turn, whatever else is waiting.
                tokio::task::yield_now().await;
            }
            tokio::select! {
                () = std::future::ready(()), if more => {}
                () = &mut sleep, if deadline.is_some() => self.tick(),
                untaken = self.fib.hand_over(), if self.fib.is_waiting() => {
                    if let Some(serial) = untaken {
                        self.core.handle_input(Input::Felix(FromFelix::Applied { serial }), self.clock.now());
                    }
                }
                request = inbox.requests.recv() => {
                    if let Some(stop) = self.requests(request, &mut inbox.requests) {
                        break stop;
                    }
                }
                Some(accepted) = inbox.accepted.recv() => self.accepted(accepted),
                _ = inbox.connections.recv_many(&mut batch, BATCH) => {
                    self.connection_events(&mut batch).await;
                    // Readers and writers get the thread where there is just one.
                    tokio::task::yield_now().await;
                }
                Some(_) = self.closing.join_next() => {}
            }
        };
        self.stop(stop).await;
        if let Some(stopped) = stopped {
            let _ = stopped.send(());
        }
    }

    /// Does what is asked, together with what else waits to be, and returns how to stop where that is asked.
    fn requests(&mut self, first: Option<Request>, waiting: &mut mpsc::Receiver<Request>) -> Option<Stop> {
        let began = Instant::now();
        let mut request = first;
        loop {
            match request {
                Some(Request::Input(input)) => self.core.handle_input(*input, self.clock.now()),
                Some(Request::Query(query)) => {
                    // It sees what came of that before it.
                    self.pump();
                    query(&self.core);
                }
                Some(Request::Stop(kind, stopped)) => return Some((kind, Some(stopped))),
                None => return Some((StopKind::Restart, None)),
            }
            if began.elapsed() > SLICE {
                return None;
            }
            request = Some(waiting.try_recv().ok()?);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let deadline = self.clock.deadline(self.core.poll_timeout()?);
        Some(self.grace_until.map_or(deadline, |grace| deadline.max(grace)))
    }

    /// Lets timers act that are due.
    fn tick(&mut self) {
        let Some(deadline) = self.core.poll_timeout().map(|instant| self.clock.deadline(instant)) else { return };
        let now = Instant::now();
        match self.grace_until {
            _ if now < deadline => return,
            None if now - deadline > STALL => {
                info!(
                    late_ms = (now - deadline).as_millis(),
                    "timers are late: the process or the machine stood still"
                );
                self.grace_until = Some(now + STALL_GRACE);
                return;
            }
            Some(grace) if now < grace => return,
            _ => {}
        }
        self.grace_until = None;
        self.say_who_is_heard();
        self.core.handle_timeout(self.clock.now());
    }

    /// Lets no hold timer expire of a peer whose bytes wait for their turn.
    fn say_who_is_heard(&mut self) {
        for (&connection, link) in &self.links {
            if matches!(link, Link::Open(open) if open.is_heard()) {
                self.core.handle_input(Input::Heard { connection }, self.clock.now());
            }
        }
    }

    async fn connection_events(&mut self, batch: &mut Vec<(ConnectionId, ConnectionEvent)>) {
        let mut slice_began = Instant::now();
        for (id, event) in batch.drain(..) {
            self.connection_event(id, event);
            if slice_began.elapsed() > SLICE {
                self.pump();
                self.tick();
                self.pump();
                tokio::task::yield_now().await;
                slice_began = Instant::now();
            }
        }
    }

    fn connection_event(&mut self, connection: ConnectionId, event: ConnectionEvent) {
        // The core has done with a connection that isn't there: its last events are of no interest.
        let Some(link) = self.links.get_mut(&connection) else { return };
        let input = match (event, link) {
            (ConnectionEvent::Connected(stream), Link::Connecting { .. }) => {
                match (stream.local_addr(), stream.peer_addr()) {
                    (Ok(local), Ok(remote)) => {
                        let open = Connection::open(connection, stream, &self.connection_events);
                        self.links.insert(connection, Link::Open(open));
                        Input::Connected { connection, local, remote }
                    }
                    (Err(error), _) | (_, Err(error)) => {
                        self.links.remove(&connection);
                        Input::ConnectFailed { connection, reason: error.to_string() }
                    }
                }
            }
            (ConnectionEvent::ConnectFailed(reason), Link::Connecting { .. }) => {
                self.links.remove(&connection);
                Input::ConnectFailed { connection, reason }
            }
            (ConnectionEvent::Received(bytes, turn), Link::Open(_)) => {
                self.core.handle_input(Input::Received { connection, bytes }, self.clock.now());
                drop(turn);
                return;
            }
            // More may have been queued since the writer said so.
            (ConnectionEvent::Drained, Link::Open(open)) if open.is_drained() => Input::SendQueueDrained { connection },
            (ConnectionEvent::Closed(reason), Link::Open(_)) => {
                self.links.remove(&connection);
                Input::Closed { connection, reason }
            }
            _ => return,
        };
        self.core.handle_input(input, self.clock.now());
    }

    fn accepted(&mut self, accepted: Accepted) {
        let connection = ConnectionId(self.next_inbound);
        self.next_inbound += 2;
        let Accepted { stream, local, remote } = accepted;
        let open = Connection::open(connection, stream, &self.connection_events);
        self.links.insert(connection, Link::Open(open));
        self.core.handle_input(Input::Accepted { connection, local, remote }, self.clock.now());
    }

    /// Does what the core asks for; tells whether the slice ended before there was nothing more.
    fn pump(&mut self) -> bool {
        let began = Instant::now();
        loop {
            let mut outputs = 0;
            while let Some(output) = self.core.poll_output() {
                self.output(output);
                outputs += 1;
                if outputs == OUTPUTS || began.elapsed() > SLICE {
                    break;
                }
            }
            // Sockets that take what they get let the core hand out more.
            self.flush();
            if outputs == 0 {
                return false;
            }
            if began.elapsed() > SLICE {
                return true;
            }
        }
    }

    fn flush(&mut self) {
        // The peers wait for their bytes, the core for nothing: it hears what is in the kernel when all are written.
        let mut unflushed = std::mem::take(&mut self.unflushed);
        unflushed.retain(|connection| match self.links.get_mut(connection) {
            Some(Link::Open(open)) => open.flush(),
            _ => false,
        });
        let now = self.clock.now();
        for connection in unflushed.drain(..) {
            self.core.handle_input(Input::SendQueueDrained { connection }, now);
        }
        self.unflushed = unflushed;
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Send { connection, bytes } => {
                if let Some(Link::Open(open)) = self.links.get_mut(&connection)
                    && open.append(bytes)
                {
                    self.unflushed.push(connection);
                }
            }
            Output::Fib(batch) => {
                let serial = batch.serial;
                if !self.fib.push(batch) {
                    self.core.handle_input(Input::Felix(FromFelix::Applied { serial }), self.clock.now());
                }
            }
            Output::Connect { connection, peer, remote, source, interface, ttl, min_ttl, password } => {
                self.connect(connection, peer, Dial { remote, source, interface, ttl, min_ttl, password });
            }
            Output::Close { connection } => {
                if let Some(Link::Open(open)) = self.links.remove(&connection)
                    && self.closing.len() < CLOSING
                {
                    self.closing.spawn(open.close());
                }
            }
            Output::Listen { port, addresses, peers } => {
                self.plan.send_replace(ListenPlan { port, addresses, peers });
            }
            Output::Bfd(sessions) => {
                self.bfd_sessions.send_replace(sessions);
            }
            Output::TrackNextHops(next_hops) => {
                self.tracked_next_hops.send_replace(next_hops);
            }
            Output::Working => {}
            Output::Event(event) => {
                log(&event, self.stopping);
                // Nobody may be listening.
                let _ = self.events.send(event);
            }
        }
    }

    fn connect(&mut self, connection: ConnectionId, peer: PeerName, dial: Dial) {
        let events = self.connection_events.clone();
        let attempt = tokio::spawn(async move {
            debug!(%peer, remote = %dial.remote, "connecting");
            let event = match socket::connect(dial).await {
                Ok(stream) => ConnectionEvent::Connected(stream),
                Err(reason) => ConnectionEvent::ConnectFailed(reason),
            };
            let _ = events.send((connection, event)).await;
        });
        self.links.insert(connection, Link::Connecting { _attempt: AbortOnDrop(attempt.abort_handle()) });
    }

    async fn stop(mut self, kind: StopKind) {
        info!(?kind, "BGP speaker stops");
        self.stopping = true;
        self.core.handle_input(Input::Stop(kind), self.clock.now());
        while self.pump() {}
        let Task { mut closing, mut fib, links, .. } = self;
        drop(links);
        let _ = tokio::time::timeout(STOP_CONNECTIONS, async { while closing.join_next().await.is_some() {} }).await;
        if fib.is_waiting() {
            // There is no core any more that could hear of it.
            let _ = tokio::time::timeout(STOP_FIB, fib.hand_over()).await;
        }
    }
}

fn log(event: &Event, stopping: bool) {
    let peer = event.peer.as_ref().map(tracing::field::display);
    let text = &event.kind;
    match &event.kind {
        EventKind::StateChanged { from: FsmState::Established, .. } if !stopping => warn!(peer, "{text}"),
        EventKind::MalformedUpdate(_)
        | EventKind::ConfigRefused(_)
        | EventKind::PrefixWarning { .. }
        | EventKind::PrefixLimitExceeded { .. }
        | EventKind::Held(_) => warn!(peer, "{text}"),
        EventKind::StateChanged { from: FsmState::Established, .. }
        | EventKind::StateChanged { to: FsmState::Established, .. }
        | EventKind::NotificationSent(_)
        | EventKind::NotificationReceived(_)
        | EventKind::GracefulRestartBegan { .. }
        | EventKind::GracefulRestartEnded { .. }
        | EventKind::SelectionStarted { .. }
        | EventKind::RefreshRequested(_)
        | EventKind::RefreshImpossible(_)
        | EventKind::RefreshAnswered { .. }
        | EventKind::HoldEnded(_)
        | EventKind::BfdChanged { .. }
        | EventKind::Drain(_) => info!(peer, "{text}"),
        EventKind::StateChanged { .. }
        | EventKind::ConnectionRefused { .. }
        | EventKind::EndOfRib(_)
        | EventKind::RefreshBegan(_)
        | EventKind::RefreshEnded { .. } => debug!(peer, "{text}"),
    }
}
