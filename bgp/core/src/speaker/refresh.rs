//! Route refresh in both directions (RFC 2918, RFC 7313).

use margay_net::{Family, Now};

use super::Speaker;
use crate::config::PeerName;
use crate::io::{EventKind, RefreshDirection};
use crate::session::Slot;
use crate::wire::{RefreshSubtype, RouteRefresh, encode_route_refresh};

impl Speaker {
    /// An operator wants routes of a peer again, or ours sent again.
    pub(super) fn refresh(&mut self, name: &PeerName, direction: RefreshDirection) {
        let Some(&peer) = self.names.get(name) else { return };
        let known = &self.peers[peer];
        let agreed = known.primary.negotiated.clone().filter(|_| known.is_established());
        let Some(agreed) = agreed else {
            let state = known.state();
            let reason = format!("the session is {state}, not Established");
            return self.event(Some(peer), EventKind::RefreshImpossible(reason));
        };
        match direction {
            RefreshDirection::In if !agreed.route_refresh => {
                let reason = "the peer did not announce route refresh (RFC 2918): only a reset brings its routes again";
                self.event(Some(peer), EventKind::RefreshImpossible(reason.to_owned()));
            }
            RefreshDirection::In => {
                for family in agreed.families {
                    let request = RouteRefresh { family: family.into(), subtype: RefreshSubtype::Request };
                    self.send_on(peer, Slot::Primary, encode_route_refresh(request));
                    self.peers[peer].refreshes_sent += 1;
                    self.counters.refreshes_sent += 1;
                    self.event(Some(peer), EventKind::RefreshRequested(family));
                }
            }
            RefreshDirection::Out => {
                for family in agreed.families {
                    self.answer_refresh(peer, family, agreed.enhanced_refresh, "the operator wants it");
                }
            }
        }
    }

    pub(super) fn received_refresh(&mut self, peer: usize, refresh: RouteRefresh, now: Now) {
        let known = &self.peers[peer];
        let Some(agreed) = &known.primary.negotiated else { return };
        let enhanced = agreed.enhanced_refresh;
        let Some(family) = refresh.family.family().filter(|family| agreed.families.contains(family)) else { return };
        match refresh.subtype {
            RefreshSubtype::Request => {
                self.peers[peer].refreshes_received += 1;
                self.counters.refreshes_received += 1;
                self.answer_refresh(peer, family, enhanced, "the peer asked for it");
            }
            RefreshSubtype::Beginning if enhanced => {
                let stale_time = self.config.as_ref().and_then(|config| config.graceful_restart).unwrap_or_default();
                self.peers[peer].refreshing.insert(family, now.mono + stale_time.stale_time);
                if let Some(routing) = &mut self.routing {
                    routing.begin_refresh(peer, family);
                }
                self.schedule(peer);
                self.event(Some(peer), EventKind::RefreshBegan(family));
            }
            RefreshSubtype::End if enhanced => self.end_refresh(peer, family, "all were sent"),
            RefreshSubtype::Beginning | RefreshSubtype::End | RefreshSubtype::Unknown(_) => {}
        }
    }

    fn answer_refresh(&mut self, peer: usize, family: Family, marked: bool, reason: &str) {
        if let Some(routing) = &mut self.routing {
            routing.answer_refresh(peer, family, marked);
        }
        self.event(Some(peer), EventKind::RefreshAnswered { family, reason: reason.to_owned() });
    }

    /// What the peer did not send again goes (RFC 7313 section 4).
    fn end_refresh(&mut self, peer: usize, family: Family, reason: &str) {
        if self.peers[peer].refreshing.remove(&family).is_none() {
            return;
        }
        let removed = self.routing.as_mut().map_or(0, |routing| routing.end_refresh(peer, family));
        let reason = reason.to_owned();
        self.event(Some(peer), EventKind::RefreshEnded { family, reason, removed });
    }

    pub(super) fn refresh_timeout(&mut self, peer: usize, now: Now) {
        let due = |(&family, &deadline)| (deadline <= now.mono).then_some(family);
        let over: Vec<Family> = self.peers[peer].refreshing.iter().filter_map(due).collect();
        for family in over {
            self.end_refresh(peer, family, "no End-of-RIB-Refresh in time");
        }
    }
}
