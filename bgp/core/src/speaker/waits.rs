//! What is waited for, until when, and who can end it.

use std::time::SystemTime;

use margay_net::Instant;

use super::Speaker;
use super::restart::Selection;
use crate::fsm::Timer;
use crate::session::{Connection, Peer};
use crate::view::{FsmState, WaitView};

impl Speaker {
    /// Returns what holds the table itself up, such as the deferral of route selection after a restart.
    pub fn waits(&self) -> Vec<WaitView> {
        let mut waits: Vec<WaitView> = self.names.values().filter_map(|&peer| self.deferral(peer)).collect();
        if let Selection::Awaiting { deadline, .. } = self.selection
            && self.awaits_local()
        {
            waits.push(self.wait("deferred: waiting for this node's own routes".to_owned(), Some(deadline)));
        }
        if let Some(deadline) = self.drain_deadline() {
            let what = "drained: all routes are withdrawn at the end of this time; `undrain` ends it".to_owned();
            waits.push(self.wait(what, Some(deadline)));
        }
        waits
    }

    /// Returns everything that a peer's session or its routes wait for.
    pub(super) fn peer_waits(&self, peer: usize) -> Vec<WaitView> {
        let known = &self.peers[peer];
        let mut waits = Vec::new();
        match &known.hold {
            Some(hold) => waits.push(self.wait(format!("held: {}; `reset` ends the hold", hold.reason), hold.until)),
            None if known.config.admin_up && !known.is_established() => {
                let furthest =
                    known.rival.as_ref().filter(|rival| rival.state > known.primary.state).unwrap_or(&known.primary);
                waits.extend(self.session_wait(known, furthest));
            }
            None => {}
        }
        if let Some(retained) = &known.retained {
            let families: Vec<String> = retained.families.iter().map(ToString::to_string).collect();
            let what = if known.is_established() { "End-of-RIB" } else { "a new session" };
            let what =
                format!("{} routes are kept as stale, waiting for {what} after the restart", families.join(", "));
            waits.push(self.wait(what, Some(retained.deadline)));
        }
        for (family, &deadline) in &known.refreshing {
            waits.push(self.wait(format!("the rest of its {family} routes, which it sends again"), Some(deadline)));
        }
        waits.extend(self.deferral(peer));
        if let Some(deadline) = known.primary.deadline(Timer::SendHold) {
            let unsent = self.routing.as_ref().map_or(0, |routing| routing.unsent(peer));
            let unsent = if unsent > 0 { format!(" ({unsent} bytes of updates)") } else { String::new() };
            let what = format!("the peer takes what is sent{unsent}; the session ends if it doesn't");
            waits.push(self.wait(what, Some(deadline)));
        }
        waits
    }

    /// Returns what a session that isn't there yet waits for.
    fn session_wait(&self, peer: &Peer, machine: &Connection) -> Option<WaitView> {
        let retry = machine.deadline(Timer::ConnectRetry);
        let (what, until) = match machine.state {
            FsmState::Idle => {
                ("the next attempt (back-off); `reset` starts it at once", machine.deadline(Timer::IdleHold))
            }
            FsmState::Connect => ("an answer to the attempt to connect", retry),
            FsmState::Active if peer.config.passive => ("the peer's connection (we are passive)", None),
            FsmState::Active => ("the next attempt to connect (back-off), or the peer's connection", retry),
            FsmState::OpenSent => ("the peer's OPEN", machine.deadline(Timer::Hold)),
            FsmState::OpenConfirm => ("the peer's KEEPALIVE", machine.deadline(Timer::Hold)),
            FsmState::Established => return None,
        };
        Some(self.wait(what.to_owned(), until))
    }

    /// Returns what of a peer defers route selection.
    fn deferral(&self, peer: usize) -> Option<WaitView> {
        let Selection::Awaiting { deadline, absent } = self.selection else { return None };
        let awaited = self.awaited_of(peer)?;
        let until = if self.peers[peer].is_established() { deadline } else { absent.unwrap_or(deadline) };
        Some(self.wait(format!("deferred: waiting for {awaited}"), Some(until)))
    }

    fn wait(&self, what: String, until: Option<Instant>) -> WaitView {
        WaitView { what, until: until.map(|until| self.wall(until)) }
    }

    /// Returns the wall clock's time of a deadline.
    pub(super) fn wall(&self, deadline: Instant) -> SystemTime {
        self.now.wall + deadline.since(self.now.mono)
    }
}
