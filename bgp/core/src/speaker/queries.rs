//! What can be asked; nothing is changed.

use std::collections::BTreeMap;
use std::ops::Range;

use margay_net::{Cidr, Family};

use super::Speaker;
use crate::config::PeerName;
use crate::rib::{DrainStage, View};
use crate::session::Peer;
use crate::view::{Counters, FsmState, PeerView, PrefixCounts, Rib, RouteCounts, RouteFilter, RouteView, WhyView};

impl Speaker {
    /// Returns all peers in the order of their names.
    pub fn peers(&self) -> Vec<PeerView> {
        let mut counts = RouteCounts::default();
        self.count_in(0..self.slots(), &mut counts);
        self.peers_with(&counts)
    }

    /// Returns all peers with routes that were counted before.
    pub fn peers_with(&self, counts: &RouteCounts) -> Vec<PeerView> {
        self.names.values().map(|&peer| self.peer_view(peer, &self.peers[peer], &counts.0)).collect()
    }

    /// Returns one more than the highest number that a prefix has: what [`Speaker::count_in`] and
    /// [`Speaker::prefixes_in`] go through in parts, where there is other work to do between.
    pub fn slots(&self) -> u32 {
        self.routing.as_ref().map_or(0, |routing| routing.slots())
    }

    /// Counts the routes of a part of the tables in addition to those of other parts.
    pub fn count_in(&self, part: Range<u32>, counts: &mut RouteCounts) {
        if let Some(routing) = &self.routing {
            routing.count_in(&part, &mut counts.0);
        }
    }

    /// Returns the prefixes of a part of the tables that match, in any order; the filter's limit is the caller's to heed.
    pub fn prefixes_in(&self, filter: &RouteFilter, part: Range<u32>) -> Vec<Cidr> {
        let peer = filter.peer.as_ref().map(|name| self.names.get(name).copied());
        match (&self.routing, self.rib(&filter.rib), peer) {
            // A peer that isn't configured has no path.
            (None, ..) | (_, None, _) | (.., Some(None)) => Vec::new(),
            (Some(routing), Some(view), peer) => routing.prefixes_in(view, filter, peer.flatten(), &part),
        }
    }

    /// Returns the given prefixes as they are in a table, but for those that are not there.
    pub fn routes_at(&self, rib: &Rib, prefixes: &[Cidr]) -> Vec<RouteView> {
        match (&self.routing, self.rib(rib)) {
            (Some(routing), Some(view)) => {
                prefixes.iter().filter_map(|&prefix| routing.route_at(view, prefix)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the prefixes that match, in order.
    pub fn routes(&self, filter: &RouteFilter) -> Vec<RouteView> {
        let mut prefixes = self.prefixes_in(filter, 0..self.slots());
        prefixes.sort_unstable();
        prefixes.truncate(filter.limit.unwrap_or(usize::MAX));
        self.routes_at(&filter.rib, &prefixes)
    }

    /// Returns what a peer is told: all of [`Rib::Out`].
    pub fn advertised(&self, peer: &PeerName) -> Vec<RouteView> {
        self.routes(&RouteFilter { rib: Rib::Out(peer.clone()), ..RouteFilter::default() })
    }

    /// Returns what came from a peer: all of [`Rib::In`].
    pub fn received(&self, peer: &PeerName) -> Vec<RouteView> {
        self.routes(&RouteFilter { rib: Rib::In(peer.clone()), ..RouteFilter::default() })
    }

    /// Returns why a prefix is as it is: which path is the best one and at which step each other one lost, which are
    /// rejected, and for each established peer whether it is told and why. Everything is worked out when asked, by the
    /// code that decides.
    pub fn why(&self, prefix: Cidr) -> WhyView {
        let mut why = self.routing.as_ref().map(|routing| routing.why(prefix)).unwrap_or_default();
        why.waits.extend(self.waits());
        why
    }

    /// Returns counts since start.
    pub fn counters(&self) -> Counters {
        let routing = self.routing.as_ref().map(|routing| routing.counters()).unwrap_or_default();
        let own = self.counters;
        Counters {
            updates_received: own.updates_received,
            malformed_updates: own.malformed_updates,
            notifications_sent: own.notifications_sent,
            notifications_received: own.notifications_received,
            fib_batches: own.fib_batches,
            refreshes_received: own.refreshes_received,
            refreshes_sent: own.refreshes_sent,
            ..routing
        }
    }

    /// Whether the table is whole; see [`Speaker`].
    pub fn is_converged(&self) -> bool {
        self.selection.is_done() && self.routing.as_ref().is_none_or(|routing| !routing.is_starting())
    }

    /// None for an unknown peer's.
    fn rib(&self, rib: &Rib) -> Option<View> {
        match rib {
            Rib::Local => Some(View::Local),
            Rib::In(peer) => Some(View::In(*self.names.get(peer)?)),
            Rib::Out(peer) => Some(View::Out(*self.names.get(peer)?)),
        }
    }

    fn peer_view(&self, index: usize, peer: &Peer, counts: &BTreeMap<(usize, Family), PrefixCounts>) -> PeerView {
        let asn = self.config.as_ref().map(|config| config.asn).unwrap_or_default();
        let session = peer.rival.as_ref().filter(|rival| rival.state > peer.primary.state).unwrap_or(&peer.primary);
        let agreed = session.negotiated.as_ref().filter(|_| session.state >= FsmState::OpenConfirm);
        let routing = self.routing.as_ref();
        let families = peer.config.offered_families();
        let count = |family| (family, counts.get(&(index, family)).cloned().unwrap_or_default());
        let counts = families.into_iter().map(count).collect();
        let (add_path_receive, add_path_send) = routing.map(|routing| routing.add_path(index)).unwrap_or_default();
        PeerView {
            name: peer.name.clone(),
            description: peer.config.description.clone(),
            remote: peer.config.remote,
            asn: peer.config.asn,
            local_asn: peer.config.own_asn(asn),
            ibgp: peer.config.is_ibgp(asn),
            admin_up: peer.config.admin_up,
            state: peer.state(),
            since: peer.since,
            last_error: peer.last_error.clone(),
            local_address: session.local,
            remote_address: session.remote,
            router_id: agreed.map(|agreed| agreed.router_id),
            hold_time: agreed.map(|agreed| agreed.hold_time.as_secs()),
            keepalive: agreed.map(|agreed| agreed.keepalive.as_secs()),
            families: agreed.map(|agreed| agreed.families.clone()).unwrap_or_default(),
            graceful_restart: agreed.is_some_and(|agreed| agreed.graceful_restart.is_some()),
            restarting: peer.retained.is_some(),
            end_of_rib: peer.end_of_rib.clone(),
            counts,
            messages_received: peer.messages_received,
            messages_sent: peer.messages_sent,
            updates_received: peer.updates_received,
            established_count: peer.established_count,
            unsent_bytes: routing.map_or(0, |routing| routing.unsent(index)),
            last_error_at: peer.last_error_at,
            capabilities: peer.capabilities.clone(),
            waits: self.peer_waits(index),
            bfd: peer.config.bfd.map(|_| peer.bfd.clone()),
            dynamic: peer.range.is_some(),
            draining: self.drain_stage(&peer.config) != DrainStage::None,
            add_path_receive,
            add_path_send,
            shutdown_message: peer.shutdown_message.clone(),
            malformed_updates: peer.malformed_updates,
            refreshes_received: peer.refreshes_received,
            refreshes_sent: peer.refreshes_sent,
        }
    }
}
