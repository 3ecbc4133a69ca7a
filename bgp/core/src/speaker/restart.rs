//! Graceful restart (RFC 4724): paths of a restarting peer, and our own deferred start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use margay_net::{Family, Instant, Now};

use super::Speaker;
use super::drive::Cause;
use crate::fsm::{FsmEvent, Retain};
use crate::io::EventKind;
use crate::rib::{PeerProfile, RouteSettings, Which};
use crate::session::{Retained, Slot};
use crate::wire::{Cease, Notification};

/// Where the start of the speaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// There is no configuration yet.
    NotStarted,
    /// Peers' routes are awaited, until the deadline at most.
    Awaiting {
        deadline: Instant,
        /// Until when peers are awaited that are not there; `None` once it has passed.
        absent: Option<Instant>,
    },
    Done,
}

/// How long the start waits for a peer without a session. Those of the last run are back within a few seconds; for one
/// that isn't, the routes of the others must not wait.
const ABSENT: Duration = Duration::from_secs(20);
/// After so many failed attempts to connect a peer isn't awaited either.
const FAILED_ATTEMPTS: usize = 4;
/// Most peers that an event names.
const NAMED: usize = 5;

impl Selection {
    pub(super) fn begin(now: Instant, deferral: Duration) -> Selection {
        Selection::Awaiting { deadline: now + deferral, absent: (ABSENT < deferral).then(|| now + ABSENT) }
    }

    pub(super) fn is_done(self) -> bool {
        self == Selection::Done
    }

    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Selection::Awaiting { deadline, absent } => Some(absent.unwrap_or(deadline)),
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
        known.shutdown_message = None;
        known.warned.clear();
        known.exceeded.clear();
        known.local = known.primary.local.map(|local| local.ip().to_canonical());
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
    pub(super) fn session_down(&mut self, peer: usize, retain: Retain, flush: bool, now: Now) {
        self.peers[peer].refreshing.clear();
        let Some(agreed) = self.peers[peer].primary.negotiated.clone() else { return };
        let allowed =
            !flush && (retain == Retain::Restart || agreed.notification_restart) && self.honours_restart(peer);
        let restart = agreed.graceful_restart.filter(|restart| allowed && !restart.restart_time.is_zero());
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
            self.dynamic_changed = true;
        }
    }

    fn flush(&mut self, peer: usize, families: &BTreeSet<Family>, which: Which) -> usize {
        let Some(routing) = &mut self.routing else { return 0 };
        families.iter().map(|&family| routing.flush(peer, family, which)).sum()
    }

    /// Looks whether everybody's routes are there; true once, when route selection starts for it.
    pub(super) fn selection_progress(&mut self, now: Now) -> bool {
        let Selection::Awaiting { deadline, absent } = &mut self.selection else { return false };
        if absent.is_some_and(|absent| absent <= now.mono) {
            *absent = None;
        }
        let late = *deadline <= now.mono;
        let reason = if !self.awaits_peers() && !self.awaits_local() {
            let absent = self.names.values().map(|&peer| &self.peers[peer]);
            let absent = absent.filter(|peer| peer.config.admin_up && !peer.is_established());
            let absent: Vec<&str> = absent.map(|peer| peer.name.as_str()).collect();
            match &absent[..] {
                [] => "all peers sent their routes".to_owned(),
                absent => {
                    let more = absent.len().saturating_sub(NAMED);
                    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                    let named = absent[..absent.len().min(NAMED)].join(", ");
                    format!("all peers that are there sent their routes; not there: {named}{more}")
                }
            }
        } else if late {
            "the deferral time passed".to_owned()
        } else {
            return false;
        };
        self.selection = Selection::Done;
        if let Some(routing) = &mut self.routing {
            routing.start_selection();
        }
        self.event(None, EventKind::SelectionStarted { reason });
        true
    }

    /// Whether the start waits for peers. Each call looks at the one first that the last call found: looking at all of
    /// them with every message of a start costs hundreds of peers a noticeable time.
    fn awaits_peers(&mut self) -> bool {
        let awaited = |peer: usize| self.awaited_of(peer).is_some();
        let still = self.awaited.filter(|&peer| self.peers.contains(peer) && awaited(peer));
        self.awaited = still.or_else(|| self.names.values().copied().find(|&peer| awaited(peer)));
        self.awaited.is_some()
    }

    /// Whether the start waits for the node's own routes.
    pub(super) fn awaits_local(&self) -> bool {
        self.options.restarting && !self.local_seen
    }

    /// Returns what of a peer holds the speaker's start up, in words; see [`Speaker`].
    pub(super) fn awaited_of(&self, peer: usize) -> Option<String> {
        let Selection::Awaiting { absent, .. } = self.selection else { return None };
        let known = &self.peers[peer];
        if !known.config.admin_up || known.hold.is_some() {
            return None;
        }
        let Some(agreed) = known.primary.negotiated.as_ref().filter(|_| known.is_established()) else {
            let awaited = absent.is_some() && known.retries < FAILED_ATTEMPTS;
            return awaited.then(|| format!("a session with {}", known.name));
        };
        let restart = agreed.graceful_restart.as_ref();
        if restart.is_some_and(|restart| restart.restarting) {
            return None;
        }
        let missing = agreed.families.difference(&known.end_of_rib);
        let marked: Vec<String> = missing
            .clone()
            .filter(|family| restart.is_some_and(|restart| restart.families.contains(family)))
            .map(Family::to_string)
            .collect();
        if !marked.is_empty() {
            return Some(format!("End-of-RIB of {} {}", known.name, marked.join(" and ")));
        }
        let unmarked = missing.count() > 0 && !known.keepalive_seen;
        unmarked
            .then(|| format!("the first KEEPALIVE after the routes of {}, which has no graceful restart", known.name))
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
            asn: known.config.asn,
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
            settings: RouteSettings::of(&known.config),
            add_path_receive: agreed.add_path_receive.clone(),
            add_path_send: agreed
                .add_path_send
                .iter()
                .map(|&family| (family, known.config.add_path.send))
                .collect::<BTreeMap<_, _>>(),
            drain: self.drain_stage(&known.config),
        })
    }
}
