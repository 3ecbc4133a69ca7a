//! [`Speaker`]: inputs to sessions and tables, and what they give back.

mod accept;
mod bfd;
mod configure;
mod drain;
mod drive;
mod dynamic;
mod limits;
mod links;
mod messages;
mod queries;
mod refresh;
mod restart;
mod timers;
mod waits;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use margay_net::{FibBatch, FromFelix, LinkState, LocalRouteChange, Now};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use slab::Slab;

use crate::config::{PeerName, SpeakerConfig};
use crate::fsm::Timer;
use crate::io::{BfdSession, ConnectionId, Event, EventKind, Input, ListenPeer, Output, StopKind};
use crate::ownership::Ownership;
use crate::rib::Routing;
use crate::session::{EventLimit, Peer};
use crate::view::Counters;
use crate::wire::{Cease, Notification};
use drain::Draining;
use drive::Cause;
use restart::Selection;
use timers::Deadlines;

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
/// configuration that it brings, and not by the size of the tables. **Time** is [`Speaker::poll_timeout`] and [`Speaker::handle_timeout`]. **What must go
/// out** is [`Speaker::poll_output`], in order, until `None`. **What can be asked** are the queries, which change
/// nothing and recompute reasons.
///
/// The table counts as whole once each peer that is awaited has sent its routes, or the deferral time has passed. A peer
/// has sent its routes when End-of-RIB is there for each negotiated family of its graceful restart; when it restarts
/// itself (RFC 4724 section 4.1 excludes it); and in families without graceful restart when the first KEEPALIVE came
/// after the session was established. One that isn't there is awaited until a few attempts to connect have failed, and
/// never longer than 20 s; one that is shut down or held not at all. A restarting speaker also waits for the first [`FromFelix::Local`], which must
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
    /// The table of owners that came before the configuration.
    early_owners: Option<Arc<Ownership>>,
    selection: Selection,
    /// A peer that the start was waiting for when it was last looked.
    awaited: Option<usize>,
    drain: Option<Draining>,
    bfd_sessions: BTreeMap<PeerName, BfdSession>,
    /// What BFD sessions depend on has changed.
    bfd_changed: bool,
    /// Something happened to a peer made from a listen range.
    dynamic_changed: bool,
    deadlines: Deadlines,
    refused_events: EventLimit,
    /// The present of the last call.
    now: Now,
    listening: Option<(u16, BTreeSet<IpAddr>, Vec<ListenPeer>)>,
    fib_serial: u64,
    counters: Counters,
    outputs: VecDeque<Output>,
    /// Prefixes are left to be decided on.
    unsettled: bool,
    stopped: bool,
}

impl Speaker {
    /// Makes a speaker without configuration, which does nothing until [`Input::Configure`].
    pub fn new(options: Options, now: Now) -> Speaker {
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
            early_owners: None,
            selection: Selection::NotStarted,
            awaited: None,
            drain: None,
            bfd_sessions: BTreeMap::new(),
            bfd_changed: false,
            dynamic_changed: false,
            deadlines: Deadlines::default(),
            refused_events: EventLimit::default(),
            now,
            listening: None,
            fib_serial: 0,
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
        self.now = now;
        match input {
            Input::Configure(config) => self.configure(config, now),
            Input::Felix(FromFelix::Local(changes)) => self.local(changes),
            Input::Felix(FromFelix::Link(link)) => self.link(link, now),
            Input::Felix(FromFelix::NextHop { address, resolved }) | Input::NextHop { address, resolved } => {
                if let Some(routing) = &mut self.routing {
                    routing.set_way(address, resolved);
                }
                return self.settle_later(now);
            }
            Input::Felix(FromFelix::Applied { serial }) => {
                if let Some(routing) = &mut self.routing {
                    routing.fib_applied(serial);
                }
                return self.settle_later(now);
            }
            Input::Accepted { connection, local, remote } => self.accepted(connection, local, remote, now),
            Input::Connected { connection, local, remote } => self.connected(connection, local, remote, now),
            Input::ConnectFailed { connection, reason } | Input::Closed { connection, reason } => {
                self.transport_failed(connection, reason, now);
            }
            Input::Received { connection, bytes } => {
                self.received_bytes(connection, bytes, now);
                return self.settle_later(now);
            }
            // Nothing but a timer changes.
            Input::Heard { connection } => return self.heard(connection, now),
            Input::SendQueueDrained { connection } => {
                if !self.drained(connection) {
                    return;
                }
            }
            Input::Reset { peer, reason } => self.reset(&peer, reason, now),
            Input::Refresh { peer, direction } => self.refresh(&peer, direction),
            Input::Bfd { peer, state, reason } => self.bfd(&peer, state, reason, now),
            Input::Ownership(owners) => match &mut self.routing {
                Some(routing) => routing.set_ownership(owners),
                None => self.early_owners = Some(owners),
            },
            Input::Stop(kind) => self.stop(kind, now),
        }
        self.flush_work(now);
    }

    /// Gives the next thing to do; `None`: nothing for the time being. One call does a bounded part of the work on the
    /// tables at most, however much there is.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() && self.unsettled {
            self.tell();
            if self.outputs.is_empty() && self.unsettled {
                return Some(Output::Working);
            }
        }
        self.outputs.pop_front()
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
        {
            self.peers[peer].primary.disarm(Timer::SendHold);
            return self.routing.as_mut().is_some_and(|routing| routing.drained(peer));
        }
        false
    }

    fn reset(&mut self, peer: &PeerName, reason: Option<String>, now: Now) {
        if let Some(&peer) = self.names.get(peer) {
            let cause = Cause::hard(cease(Cease::AdministrativeReset, reason.as_deref()), "reset by the operator");
            self.shut(peer, &cause, now);
            self.end_hold(peer, "reset by the operator");
            self.start_soon(peer, now);
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
                    self.shut(peer, &Cause::hard(notification.clone(), "the speaker stops"), now);
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
        self.remove_departed(now);
        self.selection_progress(now);
        self.tell_bfd();
        self.tell();
    }

    /// Ends a call that brought bytes, or a way: what arrives together, from one peer or many, is decided and told together,
    /// when the outputs are asked for.
    fn settle_later(&mut self, now: Now) {
        if self.stopped {
            return;
        }
        self.remove_departed(now);
        self.tell_bfd();
        self.unsettled = true;
        if self.selection_progress(now) {
            self.tell();
        }
    }

    /// Does a slice of the work on the tables, and tells felix and the peers what came of it; [`Speaker::poll_output`] goes
    /// on with the rest.
    fn tell(&mut self) {
        let Some(routing) = &mut self.routing else {
            self.unsettled = false;
            return;
        };
        self.unsettled = routing.settle_slice();
        self.unsettled |= routing.pump();
        if let Some(next_hops) = routing.take_tracked() {
            self.outputs.push_back(Output::TrackNextHops(next_hops));
        }
        let changes = routing.take_fib_changes();
        let complete = routing.take_started();
        if complete || !changes.is_empty() {
            self.fib_serial += 1;
            self.counters.fib_batches += 1;
            routing.fib_told(self.fib_serial);
            self.outputs.push_back(Output::Fib(FibBatch { serial: self.fib_serial, changes, complete }));
        }
        for outgoing in routing.take_sends() {
            if let Some(&peer) = self.connections.get(&outgoing.connection) {
                self.peers[peer].messages_sent += outgoing.messages;
                self.outputs.push_back(Output::Send { connection: outgoing.connection, bytes: outgoing.bytes });
                self.arm_send_hold(peer);
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
