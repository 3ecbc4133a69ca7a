//! Graceful restart (RFC 4724): paths of a restarting peer, and our own deferred start.

use std::collections::{BTreeMap, BTreeSet};

use margay_net::{Family, Instant, Now};

use super::Speaker;
use super::drive::Cause;
use crate::fsm::FsmEvent;
use crate::io::EventKind;
use crate::rib::{PeerProfile, Which};
use crate::session::{Peer, Retained, Slot};
use crate::wire::{Cease, Notification};

/// Where the start of the speaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// There is no configuration yet.
    NotStarted,
    /// Peers' routes are awaited, until the deadline at most.
    Awaiting(Instant),
    Done,
}

impl Selection {
    pub(super) fn is_done(self) -> bool {
        self == Selection::Done
    }

    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Selection::Awaiting(deadline) => Some(deadline),
            Selection::NotStarted | Selection::Done => None,
        }
    }
}

impl Speaker {
    /// A session is established: the tables learn of it, and stale paths whose forwarding the peer did not preserve go.
    pub(super) fn session_up(&mut self, peer: usize, now: Now) {
        // A second connection has lost by now.
        let collision =
            Cause::notify(Notification::cease(Cease::ConnectionCollisionResolution), "connection collision");
        self.drive(peer, Slot::Rival, FsmEvent::CollisionDump, collision, now);
        let known = &mut self.peers[peer];
        known.retries = 0;
        known.established_count += 1;
        known.end_of_rib = BTreeSet::new();
        known.keepalive_seen = false;
        let Some(agreed) = known.primary.negotiated.clone() else { return };
        let Some(connection) = known.primary.id else { return };
        self.locate(peer);
        let Some(profile) = self.profile(peer) else { return };
        if let Some(mut retained) = self.peers[peer].retained.take() {
            let preserved = |family: &Family| {
                agreed.families.contains(family)
                    && agreed.graceful_restart.as_ref().is_some_and(|restart| restart.preserved.contains(family))
            };
            let (kept, lost): (BTreeSet<Family>, BTreeSet<Family>) = retained.families.into_iter().partition(preserved);
            let flushed = self.flush(peer, &lost, Which::Stale);
            if kept.is_empty() {
                let reason = "the peer did not preserve its forwarding state".to_owned();
                self.event(Some(peer), EventKind::GracefulRestartEnded { reason, flushed });
            } else {
                let stale_time = self.config.as_ref().and_then(|config| config.graceful_restart).unwrap_or_default();
                retained.families = kept;
                retained.deadline = now.mono + stale_time.stale_time;
                self.peers[peer].retained = Some(retained);
            }
        }
        if let Some(routing) = &mut self.routing {
            routing.peer_up(peer, profile, connection, agreed.families);
        }
    }

    /// A session is gone: its paths go too, or are kept as stale where the peer can restart gracefully.
    pub(super) fn session_down(&mut self, peer: usize, retain: bool, now: Now) {
        let Some(agreed) = self.peers[peer].primary.negotiated.clone() else { return };
        let restart = agreed
            .graceful_restart
            .filter(|restart| retain && self.honours_restart(peer) && !restart.restart_time.is_zero());
        let earlier = self.peers[peer].retained.take().map(|retained| retained.families).unwrap_or_default();
        let Some(routing) = &mut self.routing else { return };
        routing.peer_down(peer);
        let mut kept = BTreeSet::new();
        let mut paths = 0;
        let mut flushed = 0;
        for family in agreed.families.union(&earlier).copied() {
            if restart.as_ref().is_some_and(|restart| restart.families.contains(&family)) {
                paths += routing.mark_stale(peer, family);
                kept.insert(family);
            } else {
                flushed += routing.flush(peer, family, Which::All);
            }
        }
        if let Some(restart) = restart {
            self.peers[peer].retained = Some(Retained { families: kept, deadline: now.mono + restart.restart_time });
            self.event(Some(peer), EventKind::GracefulRestartBegan { paths });
        } else if !earlier.is_empty() {
            let reason = "the session ended".to_owned();
            self.event(Some(peer), EventKind::GracefulRestartEnded { reason, flushed });
        }
    }

    fn honours_restart(&self, peer: usize) -> bool {
        self.config.as_ref().is_some_and(|config| config.graceful_restart.is_some())
            && self.peers[peer].config.graceful_restart
    }

    /// Stale paths that did not come again by End-of-RIB go.
    pub(super) fn end_of_rib(&mut self, peer: usize, family: Family) {
        self.event(Some(peer), EventKind::EndOfRib(family));
        self.peers[peer].end_of_rib.insert(family);
        let Some(retained) = &mut self.peers[peer].retained else { return };
        if !retained.families.remove(&family) {
            return;
        }
        let over = retained.families.is_empty();
        let flushed = self.flush(peer, &BTreeSet::from([family]), Which::Stale);
        if over {
            self.peers[peer].retained = None;
            let reason = "End-of-RIB".to_owned();
            self.event(Some(peer), EventKind::GracefulRestartEnded { reason, flushed });
        }
    }

    pub(super) fn retention_timeout(&mut self, peer: usize, now: Now) {
        if self.peers[peer].retained.as_ref().is_some_and(|retained| retained.deadline <= now.mono) {
            let reason = if self.peers[peer].is_established() { "no End-of-RIB in time" } else { "not back in time" };
            self.end_retention(peer, reason);
        }
    }

    /// Gives up what is kept of a peer.
    pub(super) fn end_retention(&mut self, peer: usize, reason: &str) {
        if let Some(retained) = self.peers[peer].retained.take() {
            let flushed = self.flush(peer, &retained.families, Which::Stale);
            let reason = reason.to_owned();
            self.event(Some(peer), EventKind::GracefulRestartEnded { reason, flushed });
        }
    }

    fn flush(&mut self, peer: usize, families: &BTreeSet<Family>, which: Which) -> usize {
        let Some(routing) = &mut self.routing else { return 0 };
        families.iter().map(|&family| routing.flush(peer, family, which)).sum()
    }

    /// Looks whether the table is whole; true once, when it becomes so.
    pub(super) fn selection_progress(&mut self, now: Now) -> bool {
        let Selection::Awaiting(deadline) = self.selection else { return false };
        let all_sent = self.names.values().all(|&peer| has_sent_its_routes(&self.peers[peer]));
        let reason = if all_sent && (self.local_seen || !self.options.restarting) {
            "all peers sent their routes"
        } else if deadline <= now.mono {
            "the deferral time passed"
        } else {
            return false;
        };
        self.selection = Selection::Done;
        if let Some(routing) = &mut self.routing {
            routing.start_selection();
        }
        self.event(None, EventKind::SelectionStarted { reason: reason.to_owned() });
        true
    }

    /// Returns what the tables must know of a peer with an agreed session.
    fn profile(&self, peer: usize) -> Option<PeerProfile> {
        let config = self.config.as_ref()?;
        let known = &self.peers[peer];
        let agreed = known.primary.negotiated.as_ref()?;
        let local = known.primary.local?.ip().to_canonical();
        Some(PeerProfile {
            name: known.name.clone(),
            ibgp: known.config.is_ibgp(config.asn),
            own_asn: known.config.own_asn(config.asn),
            client: known.config.route_reflector_client,
            remote: known.config.remote,
            router_id: agreed.router_id,
            self_next_hop: self.self_next_hops(local),
            interface: known.interface.clone().or_else(|| known.config.interface.clone()),
            four_octet: agreed.four_octet,
            allow_own_as: known.config.allow_own_as,
            next_hop: known.config.next_hop,
            import: known.config.import.clone().into(),
            export: known.config.export.clone().into(),
            add_path_receive: BTreeSet::new(),
            add_path_send: BTreeMap::new(),
            next_hops_on_link: !known.config.is_ibgp(config.asn)
                && !known.config.multihop
                && known.config.ttl_security.is_none_or(|hops| hops <= 1),
        })
    }
}

/// Whether a peer holds the speaker's start up no longer; see [`Speaker`].
fn has_sent_its_routes(peer: &Peer) -> bool {
    if !peer.config.admin_up {
        return true;
    }
    let Some(agreed) = peer.primary.negotiated.as_ref().filter(|_| peer.is_established()) else { return false };
    if agreed.families.is_subset(&peer.end_of_rib) {
        return true;
    }
    match &agreed.graceful_restart {
        Some(restart) => restart.restarting,
        None => peer.keepalive_seen,
    }
}
