//! From the machine's actions to effects.

use std::time::Duration;

use bytes::Bytes;
use margay_net::Now;
use rand::Rng;

use super::Speaker;
use crate::fsm::{Action, FsmEvent, Notify, Timer, step};
use crate::io::{ConnectionId, EventKind, Output};
use crate::session::{Direction, LocalOpen, Negotiated, Slot};
use crate::view::FsmState;
use crate::wire::{self, Notification};

/// How long the peer's OPEN is waited for. RFC 4271 section 8.2.2 suggests four minutes; with less a connection that
/// hangs costs less, and no speaker takes a minute for its first message.
const OPEN_HOLD_TIME: Duration = Duration::from_secs(60);

/// Why an event happens, and the message that comes with it.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    pub(super) reason: String,
    /// Sent where the machine says so.
    pub(super) notification: Option<Notification>,
    /// What the peer's OPEN agreed to.
    pub(super) negotiated: Option<Negotiated>,
    /// Whether graceful restart is out of the question: the routes go on both sides.
    pub(super) flush: bool,
}

impl Cause {
    pub(super) fn because(reason: impl Into<String>) -> Cause {
        Cause { reason: reason.into(), notification: None, negotiated: None, flush: false }
    }

    pub(super) fn notify(notification: Notification, reason: impl Into<String>) -> Cause {
        Cause { notification: Some(notification), ..Cause::because(reason) }
    }

    /// The session must end for good: as Hard Reset where graceful restart would follow a NOTIFICATION (RFC 8538).
    pub(super) fn hard(notification: Notification, reason: impl Into<String>) -> Cause {
        Cause { flush: true, ..Cause::notify(notification, reason) }
    }
}

impl Speaker {
    /// Gives an event to a machine and does what it says.
    pub(super) fn drive(&mut self, peer: usize, slot: Slot, event: FsmEvent, cause: Cause, now: Now) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        let passive = known.config.passive;
        let shown = known.state();
        let Some(connection) = known.connection(slot) else { return };
        let before = connection.state;
        let step = step(before, event, passive);
        connection.state = step.next;
        if before != step.next {
            connection.since = now.mono;
        }
        if let Some(negotiated) = cause.negotiated.clone() {
            connection.negotiated = Some(negotiated);
        }
        for action in step.actions {
            self.act(peer, slot, action, &cause, now);
        }
        if let Some(known) = self.peers.get_mut(peer) {
            if step.next < FsmState::OpenSent {
                if slot == Slot::Rival {
                    known.rival = None;
                } else if step.next != FsmState::Connect
                    && let Some(rival) = known.rival.take()
                {
                    known.primary = rival;
                }
            }
            // An attempt or a connection failed, and none of the peer's others is the session.
            let failed = before >= FsmState::OpenSent && step.next < before
                || before == FsmState::Connect
                    && matches!(event, FsmEvent::TransportFailed | FsmEvent::ConnectRetryExpired);
            if failed && event != FsmEvent::CollisionDump && !known.is_established() {
                known.last_error = Some(cause.reason.clone());
                known.last_error_at = Some(now.wall);
            }
        }
        self.note_state(peer, shown, &cause.reason, now);
        self.schedule(peer);
    }

    fn note_state(&mut self, peer: usize, from: FsmState, reason: &str, now: Now) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        let to = known.state();
        if from == to {
            return;
        }
        known.since = now.wall;
        self.bfd_changed |= known.config.bfd.is_some();
        self.dynamic_changed |= known.range.is_some();
        self.event(Some(peer), EventKind::StateChanged { from, to, reason: reason.to_owned() });
    }

    fn act(&mut self, peer: usize, slot: Slot, action: Action, cause: &Cause, now: Now) {
        match action {
            Action::StartConnect => self.start_connect(peer),
            Action::DropConnection => self.drop_connection(peer, slot),
            Action::SendOpen => self.send_open(peer, slot),
            Action::SendKeepalive => self.send_on(peer, slot, wire::encode_keepalive()),
            Action::Notify(notify) => {
                let notification = match notify {
                    Notify::OfEvent => cause.notification.clone(),
                    Notify::HoldTimerExpired => Some(Notification::hold_timer_expired()),
                    Notify::SendHoldTimerExpired => Some(Notification::send_hold_timer_expired()),
                    Notify::FsmError(subcode) => Some(Notification::new(Notification::FSM_ERROR, subcode)),
                };
                if let Some(mut notification) = notification {
                    let machine = self.peers[peer].connection(slot);
                    let agreed = machine.and_then(|machine| machine.negotiated.as_ref());
                    if cause.flush && agreed.is_some_and(|agreed| agreed.notification_restart) {
                        notification = Notification::hard_reset(notification);
                    }
                    self.send_notification(peer, slot, &notification);
                }
            }
            Action::Arm(timer) => self.arm(peer, slot, timer, now),
            Action::ArmOpenHold => {
                if let Some(connection) = self.peers[peer].connection(slot) {
                    connection.arm(Timer::Hold, now.mono + OPEN_HOLD_TIME);
                }
            }
            Action::DisarmAll => {
                if let Some(connection) = self.peers[peer].connection(slot) {
                    connection.disarm_all();
                }
            }
            Action::SessionUp => self.session_up(peer, now),
            Action::SessionDown { retain } => self.session_down(peer, retain, cause.flush, now),
            // The caller holds the message and gives it to the tables itself.
            Action::DeliverUpdate => {}
        }
    }

    fn start_connect(&mut self, peer: usize) {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 2;
        self.connections.insert(connection, peer);
        let ibgp = self.config.as_ref().is_some_and(|config| self.peers[peer].config.is_ibgp(config.asn));
        let known = &mut self.peers[peer];
        known.primary.id = Some(connection);
        known.primary.direction = Direction::Outbound;
        let config = &known.config;
        let (ttl, min_ttl) = ttls(config, ibgp);
        self.outputs.push_back(Output::Connect {
            connection,
            peer: known.name.clone(),
            remote: (config.remote, config.remote_port).into(),
            source: config.source,
            interface: config.interface.clone(),
            ttl,
            min_ttl,
            password: config.password.clone(),
        });
    }

    fn drop_connection(&mut self, peer: usize, slot: Slot) {
        if let Some(id) = self.peers[peer].connection(slot).and_then(|connection| connection.detach())
            && self.connections.remove(&id).is_some()
        {
            self.outputs.push_back(Output::Close { connection: id });
        }
    }

    fn send_open(&mut self, peer: usize, slot: Slot) {
        if let Some(open) = self.local_open(peer) {
            self.send_on(peer, slot, open.encode());
        }
    }

    /// Returns what we offer a peer.
    pub(super) fn local_open(&self, peer: usize) -> Option<LocalOpen> {
        let config = self.config.as_ref()?;
        let known = &self.peers[peer];
        let graceful_restart = config.graceful_restart.filter(|_| known.config.graceful_restart);
        Some(LocalOpen {
            asn: known.config.own_asn(config.asn),
            router_id: config.router_id,
            hold_time: known.config.hold_time.as_secs() as u16,
            families: known.config.offered_families(),
            restart_time: graceful_restart.map(|global| known.config.restart_time.unwrap_or(global.restart_time)),
            restarting: self.options.restarting && !self.selection.is_done(),
            // The kernel forwards on while the speaker runs, so a session that is lost and made anew preserves it too.
            forwarding_preserved: self.options.restarting || known.established_count > 0,
            add_path: known.config.add_path,
        })
    }

    pub(super) fn send_notification(&mut self, peer: usize, slot: Slot, notification: &Notification) {
        self.counters.notifications_sent += 1;
        self.event(Some(peer), EventKind::NotificationSent(notification.to_string()));
        self.send_on(peer, slot, wire::encode_notification(notification));
    }

    pub(super) fn send_on(&mut self, peer: usize, slot: Slot, bytes: Bytes) {
        let known = &mut self.peers[peer];
        if let Some(connection) = known.connection(slot).and_then(|connection| connection.id) {
            known.messages_sent += 1;
            self.outputs.push_back(Output::Send { connection, bytes });
            if slot == Slot::Primary {
                self.arm_send_hold(peer);
            }
        }
    }

    fn arm(&mut self, peer: usize, slot: Slot, timer: Timer, now: Now) {
        let jitter = self.rng.random_range(0.75..=1.0);
        let known = &mut self.peers[peer];
        let back_off = known.back_off();
        let hold = known.hold.as_ref().map(|hold| hold.until);
        let send_hold_time = known.send_hold_time();
        let attempt = (back_off * 2).clamp(Duration::from_secs(3), Duration::from_secs(30));
        let Some(connection) = known.connection(slot) else { return };
        let agreed = connection.negotiated.as_ref();
        let wait = match timer {
            Timer::IdleHold if let Some(until) = hold => until.map(|until| until.since(now.mono)),
            Timer::ConnectRetry if connection.state == FsmState::Connect => Some(attempt),
            Timer::ConnectRetry | Timer::IdleHold => Some(back_off.mul_f64(jitter)),
            Timer::Hold => agreed.map(|agreed| agreed.hold_time).filter(|time| !time.is_zero()),
            Timer::Keepalive => {
                agreed.map(|agreed| agreed.keepalive).filter(|time| !time.is_zero()).map(|time| time.mul_f64(jitter))
            }
            Timer::SendHold => send_hold_time,
        };
        let waits = timer == Timer::IdleHold || (timer == Timer::ConnectRetry && connection.state != FsmState::Connect);
        if let Some(wait) = wait {
            connection.arm(timer, now.mono + wait);
        }
        if waits && slot == Slot::Primary {
            known.retries += 1;
        }
    }

    /// Starts a peer that is administratively up.
    pub(super) fn start(&mut self, peer: usize, now: Now) {
        if self.peers[peer].config.admin_up && self.peers[peer].hold.is_none() {
            self.peers[peer].retries = 0;
            self.drive(peer, Slot::Primary, FsmEvent::Start, Cause::because("start"), now);
        }
    }

    /// Starts a peer whose session was just ended after a moment: to a peer that sees the new connection before it has
    /// read the NOTIFICATION on the old one we would be a speaker that restarted (RFC 4724 section 4.2).
    pub(super) fn start_soon(&mut self, peer: usize, now: Now) {
        if self.peers[peer].config.admin_up {
            self.peers[peer].retries = 0;
            self.arm(peer, Slot::Primary, Timer::IdleHold, now);
        }
    }

    /// Ends all connections of a peer with a NOTIFICATION and leaves it in Idle; its paths go where `cause` says so.
    pub(super) fn shut(&mut self, peer: usize, cause: &Cause, now: Now) {
        self.drive(peer, Slot::Rival, FsmEvent::Stop, cause.clone(), now);
        self.drive(peer, Slot::Primary, FsmEvent::Stop, cause.clone(), now);
        if cause.flush {
            self.end_retention(peer, &cause.reason);
        }
    }

    /// Closes all connections of a peer without a word.
    pub(super) fn abandon(&mut self, peer: usize) {
        for slot in [Slot::Rival, Slot::Primary] {
            self.drop_connection(peer, slot);
        }
    }
}

/// Returns the TTL to send with and the least one to accept (RFC 5082; RFC 4271 section 5.1.3 for eBGP).
pub(super) fn ttls(config: &crate::PeerConfig, ibgp: bool) -> (Option<u8>, Option<u8>) {
    match config.ttl_security {
        Some(hops) => (Some(255), Some(255 - hops.max(1) + 1)),
        None if !ibgp && !config.multihop => (Some(1), None),
        None => (None, None),
    }
}
