//! Time: when the speaker is to be woken, and what it does then.

use std::collections::BTreeSet;
use std::time::Duration;

use margay_net::{Instant, Now};

use super::Speaker;
use super::drive::Cause;
use crate::fsm::{FsmEvent, Timer};
use crate::io::ConnectionId;
use crate::session::Slot;
use crate::view::FsmState;

/// When which peer is to be woken, so that hundreds of peers cost no walk over all of them.
///
/// A peer has one entry at most. It may be too early, since timers are mostly put off and rarely shortened: the peer is
/// then woken for nothing and gets a new one. It is never too late.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeSet<(Instant, usize)>);

impl Deadlines {
    fn take_due(&mut self, now: Instant) -> Vec<usize> {
        let later = self.0.split_off(&(now + Duration::from_nanos(1), 0));
        std::mem::replace(&mut self.0, later).into_iter().map(|(_, peer)| peer).collect()
    }
}

impl Speaker {
    /// Lets the timers act that are due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.stopped {
            return;
        }
        self.now = now;
        for peer in self.deadlines.take_due(now.mono) {
            let Some(known) = self.peers.get_mut(peer) else { continue };
            known.scheduled = None;
            for slot in [Slot::Primary, Slot::Rival] {
                while let Some(timer) = self.due(peer, slot, now.mono) {
                    self.timer_expired(peer, slot, timer, now);
                }
            }
            self.retention_timeout(peer, now);
            self.refresh_timeout(peer, now);
            self.schedule(peer);
        }
        self.drain_timeout(now);
        self.flush_work(now);
    }

    /// Returns when [`Speaker::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        let peers = self.deadlines.0.first().map(|&(at, _)| at);
        [peers, self.selection.deadline(), self.drain_deadline()].into_iter().flatten().min()
    }

    /// Sees to it that a peer is woken in time.
    pub(super) fn schedule(&mut self, peer: usize) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        let Some(next) = known.next_deadline() else { return };
        if known.scheduled.is_some_and(|scheduled| scheduled <= next) {
            return;
        }
        if let Some(before) = known.scheduled.replace(next) {
            self.deadlines.0.remove(&(before, peer));
        }
        self.deadlines.0.insert((next, peer));
    }

    /// Forgets when a peer is to be woken.
    pub(super) fn unschedule(&mut self, peer: usize) {
        if let Some(before) = self.peers.get_mut(peer).and_then(|known| known.scheduled.take()) {
            self.deadlines.0.remove(&(before, peer));
        }
    }

    fn due(&mut self, peer: usize, slot: Slot, now: Instant) -> Option<Timer> {
        self.peers.get_mut(peer)?.connection(slot)?.take_due(now)
    }

    fn timer_expired(&mut self, peer: usize, slot: Slot, timer: Timer, now: Now) {
        let connecting = self.peers[peer].connection(slot).is_some_and(|machine| machine.state == FsmState::Connect);
        let (event, reason) = match timer {
            Timer::ConnectRetry if connecting => (FsmEvent::ConnectRetryExpired, "no answer to the attempt to connect"),
            Timer::ConnectRetry => (FsmEvent::ConnectRetryExpired, "connect retry"),
            Timer::IdleHold => {
                self.end_hold(peer, "its time is over");
                (FsmEvent::IdleHoldExpired, "start")
            }
            Timer::Hold => (FsmEvent::HoldExpired, "hold timer expired"),
            Timer::Keepalive => (FsmEvent::KeepaliveExpired, "keepalive"),
            Timer::SendHold => (FsmEvent::SendHoldExpired, "the peer takes nothing: send hold timer expired"),
        };
        self.drive(peer, slot, event, Cause::because(reason), now);
    }

    /// Starts the send hold timer where bytes are on their way and it doesn't run yet (RFC 9687).
    pub(super) fn arm_send_hold(&mut self, peer: usize) {
        let now = self.now.mono;
        let known = &mut self.peers[peer];
        if !known.is_established() || known.primary.deadline(Timer::SendHold).is_some() {
            return;
        }
        if let Some(time) = known.send_hold_time() {
            known.primary.arm(Timer::SendHold, now + time);
            self.schedule(peer);
        }
    }

    /// Puts the hold timer off for a peer that was heard but not listened to yet.
    pub(super) fn heard(&mut self, connection: ConnectionId, now: Now) {
        let Some(&peer) = self.connections.get(&connection) else { return };
        let known = &mut self.peers[peer];
        let Some(slot) = known.slot_of(connection) else { return };
        let Some(machine) = known.connection(slot) else { return };
        let agreed = machine.negotiated.as_ref().map(|agreed| agreed.hold_time);
        if machine.state >= FsmState::OpenConfirm
            && machine.deadline(Timer::Hold).is_some()
            && let Some(hold_time) = agreed
        {
            machine.arm(Timer::Hold, now.mono + hold_time);
        }
    }
}
