//! [`Speaker`]: inputs to sessions and tables, and what they give back.

mod accept;
mod configure;
mod drive;
mod links;
mod messages;
mod queries;
mod restart;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use margay_net::{FibBatch, FromFelix, Instant, LinkState, LocalRouteChange, Now};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use slab::Slab;

use crate::config::{PeerName, SpeakerConfig};
use crate::fsm::{FsmEvent, Timer};
use crate::io::{ConnectionId, Event, EventKind, Input, ListenPeer, Output, StopKind};
use crate::rib::Routing;
use crate::session::{Peer, Slot};
use crate::view::Counters;
use crate::wire::{Cease, Notification};
use drive::Cause;
use restart::Selection;

/// What the speaker must know before its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Seeds the jitter of timers.
    pub seed: u64,
    /// Whether this is a restart with the forwarding state preserved (RFC 4724): routes of the last run are in the
    /// kernel. Nothing is given out for felix or peers until the table is whole, see [`Speaker`].
    pub restarting: bool,
}

/// A BGP speaker.
///
/// **What came in** goes to [`Speaker::handle_input`]; the work of one call is bounded by the bytes or the
/// configuration that it brings. **Time** is [`Speaker::poll_timeout`] and [`Speaker::handle_timeout`]. **What must go
/// out** is [`Speaker::poll_output`], in order, until `None`. **What can be asked** are the queries, which change
/// nothing and recompute reasons.
///
/// The table counts as whole once each peer that is configured and administratively up has sent its routes, or the
/// deferral time has passed. A peer has sent its routes when End-of-RIB is there for each negotiated family; when it
/// restarts itself (RFC 4724 section 4.1 excludes it); or, without graceful restart, when the first KEEPALIVE came
/// after the session was established. A restarting speaker also waits for the first [`FromFelix::Local`], which must
/// hold all prefixes of the node (none: an empty list), since End-of-RIB would make the peers drop what is missing.
/// The batch after which the table is whole is marked [`FibBatch::complete`]; with `restarting` it is the first one and
/// has everything, and routes are announced after it.
#[derive(Debug)]
pub struct Speaker {
    options: Options,
    config: Option<SpeakerConfig>,
    rng: SmallRng,
    peers: Slab<Peer>,
    names: BTreeMap<PeerName, usize>,
    connections: BTreeMap<ConnectionId, usize>,
    next_connection: u64,
    links: BTreeMap<String, LinkState>,
    routing: Option<Routing>,
    /// Local routes that came before the configuration.
    early_local: Vec<LocalRouteChange>,
    local_seen: bool,
    selection: Selection,
    listening: Option<(u16, BTreeSet<IpAddr>, Vec<ListenPeer>)>,
    fib_serial: u64,
    applied_serial: u64,
    counters: Counters,
    outputs: VecDeque<Output>,
    /// Prefixes are left to be decided on.
    unsettled: bool,
    stopped: bool,
}

impl Speaker {
    /// Makes a speaker without configuration, which does nothing until [`Input::Configure`].
    pub fn new(options: Options, _now: Now) -> Speaker {
        Speaker {
            options,
            config: None,
            rng: SmallRng::seed_from_u64(options.seed),
            peers: Slab::new(),
            names: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_connection: 2,
            links: BTreeMap::new(),
            routing: None,
            early_local: Vec::new(),
            local_seen: false,
            selection: Selection::NotStarted,
            listening: None,
            fib_serial: 0,
            applied_serial: 0,
            counters: Counters::default(),
            outputs: VecDeque::new(),
            unsettled: false,
            stopped: false,
        }
    }

    /// Takes in what happened.
    pub fn handle_input(&mut self, input: Input, now: Now) {
        if self.stopped {
            return;
        }
        match input {
            Input::Configure(config) => self.configure(config, now),
            Input::Felix(FromFelix::Local(changes)) => self.local(changes),
            Input::Felix(FromFelix::Link(link)) => self.link(link, now),
            Input::Felix(FromFelix::NextHop { address, resolved }) | Input::NextHop { address, resolved } => {
                if let Some(routing) = &mut self.routing {
                    routing.set_way(address, resolved);
                }
            }
            Input::Felix(FromFelix::Applied { serial }) => self.applied_serial = self.applied_serial.max(serial),
            Input::Accepted { connection, local, remote } => self.accepted(connection, local, remote, now),
            Input::Connected { connection, local, remote } => self.connected(connection, local, remote, now),
            Input::ConnectFailed { connection, reason } | Input::Closed { connection, reason } => {
                self.transport_failed(connection, reason, now);
            }
            Input::Received { connection, bytes } => {
                self.received_bytes(connection, bytes, now);
                return self.settle_later(now);
            }
            Input::SendQueueDrained { connection } => {
                if !self.drained(connection) {
                    return;
                }
            }
            Input::Reset { peer, reason } => self.reset(&peer, reason, now),
            Input::Refresh { .. } | Input::Bfd { .. } | Input::Ownership(_) => {}
            Input::Stop(kind) => self.stop(kind, now),
        }
        self.flush_work(now);
    }

    /// Lets the timers act that are due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.stopped {
            return;
        }
        for peer in self.indexes() {
            for slot in [Slot::Primary, Slot::Rival] {
                while let Some(timer) = self.due(peer, slot, now.mono) {
                    self.timer_expired(peer, slot, timer, now);
                }
            }
            self.retention_timeout(peer, now);
        }
        self.flush_work(now);
    }

    /// Gives the next thing to do; `None`: nothing for the time being.
    pub fn poll_output(&mut self) -> Option<Output> {
        // A slice may have nothing to tell.
        while self.outputs.is_empty() && self.unsettled {
            self.tell(false);
        }
        self.outputs.pop_front()
    }

    /// Returns when [`Speaker::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        let peers = self.peers.iter().filter_map(|(_, peer)| peer.next_deadline());
        peers.chain(self.selection.deadline()).min()
    }

    fn due(&mut self, peer: usize, slot: Slot, now: Instant) -> Option<Timer> {
        self.peers.get_mut(peer)?.connection(slot)?.take_due(now)
    }

    fn timer_expired(&mut self, peer: usize, slot: Slot, timer: Timer, now: Now) {
        let (event, reason) = match timer {
            Timer::ConnectRetry => (FsmEvent::ConnectRetryExpired, "connect retry"),
            Timer::IdleHold => (FsmEvent::IdleHoldExpired, "start"),
            Timer::Hold => (FsmEvent::HoldExpired, "hold timer expired"),
            Timer::Keepalive => (FsmEvent::KeepaliveExpired, "keepalive"),
        };
        self.drive(peer, slot, event, Cause::because(reason), now);
    }

    fn local(&mut self, changes: Vec<LocalRouteChange>) {
        self.local_seen = true;
        let Some(routing) = &mut self.routing else {
            self.early_local.extend(changes);
            return;
        };
        for change in changes {
            match change {
                LocalRouteChange::Announce(route) => routing.announce_local(&route),
                LocalRouteChange::Withdraw(prefix) => routing.withdraw_local(prefix),
            }
        }
    }

    /// Returns whether that lets more be sent.
    fn drained(&mut self, connection: ConnectionId) -> bool {
        if let Some(&peer) = self.connections.get(&connection)
            && self.peers[peer].primary.id == Some(connection)
            && let Some(routing) = &mut self.routing
        {
            return routing.drained(peer);
        }
        false
    }

    fn reset(&mut self, peer: &PeerName, reason: Option<String>, now: Now) {
        if let Some(&peer) = self.names.get(peer) {
            let cause = Cause::notify(cease(Cease::AdministrativeReset, reason.as_deref()), "reset by the operator");
            self.shut(peer, &cause, now);
            self.start(peer, now);
        }
    }

    fn stop(&mut self, kind: StopKind, now: Now) {
        let notification = match &kind {
            StopKind::Restart => None,
            StopKind::Administrative(text) => Some(cease(Cease::AdministrativeShutdown, text.as_deref())),
        };
        for peer in self.indexes() {
            match &notification {
                Some(notification) => {
                    self.shut(peer, &Cause::notify(notification.clone(), "the speaker stops"), now);
                }
                None => self.abandon(peer),
            }
        }
        self.unsettled = false;
        self.stopped = true;
    }

    /// Ends a call: decides what is dirty, tells felix first and the peers then.
    fn flush_work(&mut self, now: Now) {
        if self.stopped {
            return;
        }
        let complete = self.selection_progress(now);
        self.tell(complete);
    }

    /// Ends a call that brought bytes: what arrives together, from one peer or many, is decided and told together, when the
    /// outputs are asked for.
    fn settle_later(&mut self, now: Now) {
        if self.stopped {
            return;
        }
        self.unsettled = true;
        if self.selection_progress(now) {
            self.tell(true);
        }
    }

    /// Tells felix and the peers of a slice of what is dirty; [`Speaker::poll_output`] goes on with the rest.
    fn tell(&mut self, complete: bool) {
        let Some(routing) = &mut self.routing else { return };
        self.unsettled = routing.settle_slice();
        routing.pump();
        if let Some(next_hops) = routing.take_tracked() {
            self.outputs.push_back(Output::TrackNextHops(next_hops));
        }
        let changes = routing.take_fib_changes();
        if complete || !changes.is_empty() {
            self.fib_serial += 1;
            self.counters.fib_batches += 1;
            self.outputs.push_back(Output::Fib(FibBatch { serial: self.fib_serial, changes, complete }));
        }
        for outgoing in routing.take_sends() {
            if let Some(&peer) = self.connections.get(&outgoing.connection) {
                self.peers[peer].messages_sent += outgoing.messages;
                self.outputs.push_back(Output::Send { connection: outgoing.connection, bytes: outgoing.bytes });
            }
        }
    }

    fn indexes(&self) -> Vec<usize> {
        self.names.values().copied().collect()
    }

    fn event(&mut self, peer: Option<usize>, kind: EventKind) {
        let peer = peer.and_then(|peer| self.peers.get(peer)).map(|peer| peer.name.clone());
        self.outputs.push_back(Output::Event(Event { peer, kind }));
    }
}

fn cease(reason: Cease, text: Option<&str>) -> Notification {
    Notification::cease_with_communication(reason, text.unwrap_or_default())
}
