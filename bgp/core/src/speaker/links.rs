//! Interfaces: sessions fall with them and come back with them, and they give the own addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use margay_net::{Family, LinkState, Now};

use super::Speaker;
use super::drive::Cause;
use crate::fsm::FsmEvent;
use crate::rib::Connected;
use crate::session::Slot;
use crate::view::FsmState;

impl Speaker {
    pub(super) fn link(&mut self, link: LinkState, now: Now) {
        let name = link.interface.clone();
        let was_running = self.links.get(&name).is_some_and(|known| known.running);
        let running = link.running;
        // Before the new state is known, since one that went has no addresses left to find its peers by.
        self.indexes().into_iter().for_each(|peer| self.locate(peer));
        self.links.insert(name.clone(), link);
        self.bfd_changed = true;
        if let Some(routing) = &mut self.routing {
            routing.set_connected(Connected::of(self.links.values()));
        }
        for peer in self.indexes() {
            if !running && self.is_behind_link(peer, &name) {
                self.link_down(peer, format!("interface {name} is down"), now);
            } else if running && self.is_behind_link(peer, &name) && self.lost_its_address(peer, &name) {
                self.link_down(peer, format!("the session's address is gone from interface {name}"), now);
            }
        }
        if !running && self.links[&name].addresses.is_empty() {
            self.links.remove(&name);
        }
        if running && !was_running {
            for peer in self.indexes() {
                self.locate(peer);
                if self.is_behind_link(peer, &name) {
                    self.try_now(peer, now);
                }
            }
        }
    }

    /// Notes the interface that a peer is directly connected through, where one is known.
    pub(super) fn locate(&mut self, peer: usize) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        if let Some(interface) = &known.config.interface {
            known.interface = Some(interface.clone());
            return;
        }
        let remote = known.config.remote;
        let local = known.primary.local.map(|local| local.ip().to_canonical());
        let connected = |link: &&LinkState| {
            link.addresses.iter().any(|&(address, prefix)| {
                // A point-to-point link has the peer's own address as its prefix.
                prefix.contains(remote) && address != remote && local.is_none_or(|local| local == address)
            })
        };
        if let Some(link) = self.links.values().find(connected) {
            known.interface = Some(link.interface.clone());
        } else if known.is_established() {
            known.interface = None;
        }
    }

    fn is_behind_link(&self, peer: usize, interface: &str) -> bool {
        self.peers[peer].interface.as_deref() == Some(interface)
    }

    fn lost_its_address(&self, peer: usize, interface: &str) -> bool {
        let known = &self.peers[peer];
        let Some(local) = known.primary.local else { return false };
        let local = local.ip().to_canonical();
        known.is_established()
            && !self.links.get(interface).is_some_and(|link| link.addresses.iter().any(|&(own, _)| own == local))
    }

    /// Ends a session at once (fast external fallover). Its paths lead through the link, so none is kept.
    fn link_down(&mut self, peer: usize, reason: String, now: Now) {
        let cause = Cause { flush: true, ..Cause::because(reason.clone()) };
        for slot in [Slot::Rival, Slot::Primary] {
            let state = self.peers[peer].connection(slot).map(|connection| connection.state);
            if state.is_some_and(|state| state >= FsmState::OpenSent) {
                self.drive(peer, slot, FsmEvent::TransportFailed, cause.clone(), now);
            }
        }
        self.end_retention(peer, &reason);
    }

    /// Attempts to connect without the rest of the wait.
    fn try_now(&mut self, peer: usize, now: Now) {
        if !self.peers[peer].config.admin_up || self.peers[peer].hold.is_some() {
            return;
        }
        self.peers[peer].retries = 0;
        let event = match self.peers[peer].primary.state {
            FsmState::Idle => FsmEvent::IdleHoldExpired,
            FsmState::Connect | FsmState::Active => FsmEvent::ConnectRetryExpired,
            FsmState::OpenSent | FsmState::OpenConfirm | FsmState::Established => return,
        };
        self.drive(peer, Slot::Primary, event, Cause::because("the interface is up"), now);
    }

    /// Returns the next hops to announce on a session from `local`: that address for its own family, and one of the
    /// same interface for the other.
    pub(super) fn self_next_hops(&self, local: IpAddr) -> BTreeMap<Family, IpAddr> {
        let mut next_hops = BTreeMap::from([(Family::of(local), local)]);
        let link = self.links.values().find(|link| link.addresses.iter().any(|&(address, _)| address == local));
        for &(address, _) in link.iter().flat_map(|link| &link.addresses) {
            let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
            if !link_local && !address.is_loopback() {
                next_hops.entry(Family::of(address)).or_insert(address);
            }
        }
        next_hops
    }
}
