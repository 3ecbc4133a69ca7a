//! Sessions that fall with BFD (RFC 5882), which runs elsewhere.

use std::collections::BTreeMap;

use margay_net::Now;

use super::Speaker;
use super::drive::Cause;
use crate::config::PeerName;
use crate::fsm::FsmEvent;
use crate::io::{BfdSession, BfdState, EventKind, Output};
use crate::session::{Peer, Slot};
use crate::view::BfdView;
use crate::wire::{Cease, Notification};

impl Speaker {
    /// Tells which BFD sessions are wanted, if that has changed.
    pub(super) fn tell_bfd(&mut self) {
        if !std::mem::take(&mut self.bfd_changed) {
            return;
        }
        let Some(config) = &self.config else { return };
        let wanted = |(name, &index): (&PeerName, &usize)| {
            let peer = &self.peers[index];
            Some((name.clone(), wanted_session(peer, peer.config.is_ibgp(config.asn))?))
        };
        let sessions: BTreeMap<PeerName, BfdSession> = self.names.iter().filter_map(wanted).collect();
        if sessions == self.bfd_sessions {
            return;
        }
        for (name, &peer) in &self.names {
            // Another session begins with Down, which says nothing; new intervals are those of the same one.
            let (before, after) = (self.bfd_sessions.get(name), sessions.get(name));
            let same = before
                .zip(after)
                .is_some_and(|(before, after)| *after == BfdSession { config: after.config, ..before.clone() });
            if !same {
                self.peers[peer].bfd = BfdView { state: None, since: None, reason: None };
            }
        }
        self.bfd_sessions = sessions.clone();
        self.outputs.push_back(Output::Bfd(sessions));
    }

    /// Takes in the state of a peer's BFD session.
    ///
    /// Only a session that was up and fails takes the BGP session with it. One that never came up, or that either side
    /// has shut down, says nothing about the peer (RFC 5882 sections 3.2 and 4.1).
    pub(super) fn bfd(&mut self, name: &PeerName, state: BfdState, reason: String, now: Now) {
        let Some(&peer) = self.names.get(name) else { return };
        let known = &mut self.peers[peer];
        if known.config.bfd.is_none() {
            return;
        }
        let before = known.bfd.state;
        if before != Some(state) {
            known.bfd.since = Some(now.wall);
            self.outputs_bfd_event(peer, state, &reason);
        }
        let view = &mut self.peers[peer].bfd;
        view.state = Some(state);
        view.reason = Some(reason.clone());
        if before == Some(BfdState::Up) && matches!(state, BfdState::Down { .. } | BfdState::Init) {
            let independent = state == (BfdState::Down { control_plane_independent: true });
            self.bfd_failed(peer, independent, &reason, now);
        }
    }

    fn outputs_bfd_event(&mut self, peer: usize, to: BfdState, reason: &str) {
        self.event(Some(peer), EventKind::BfdChanged { to, reason: reason.to_owned() });
    }

    /// A session that is established when BFD fails has lost its peer, or the way to it: its routes go. A peer whose daemon
    /// dies closes its connections first; for one that restarts so, BFD says something only if it outlives the control
    /// plane (`independent`, the C bit; RFC 5882 section 4.3.2): then it is the way that failed.
    fn bfd_failed(&mut self, peer: usize, independent: bool, reason: &str, now: Now) {
        let known = &self.peers[peer];
        let reason = format!("BFD down: {reason}");
        let cease = Notification::cease(Cease::BfdDown);
        if !known.is_established() {
            if independent {
                self.end_retention(peer, &reason);
            }
            return;
        }
        self.drive(peer, Slot::Primary, FsmEvent::AutomaticStop, Cause::hard(cease, reason), now);
    }
}

/// Returns the BFD session of a peer that is configured for one and may have a BGP session.
fn wanted_session(peer: &Peer, ibgp: bool) -> Option<BfdSession> {
    let config = peer.config.bfd.filter(|_| peer.config.admin_up && peer.hold.is_none())?;
    let interface = peer.interface.clone().or_else(|| peer.config.interface.clone());
    Some(BfdSession {
        remote: peer.config.remote,
        local: peer.local.or(peer.config.source),
        // A peer that is on a link is one hop away, whatever distance its session would allow.
        multihop: interface.is_none() && (ibgp || peer.config.multihop),
        interface,
        config,
    })
}
