//! Which next hops can be used, and the ways to those that are not on a link.
//!
//! A next hop in a connected prefix is used as it is, as is one that an external peer one hop away gives (RFC 4271
//! section 5.1.3 has it on the link). Any other one is tracked: felix tells how the kernel routes it, by routes that are
//! not the speaker's own, so that a next hop is never reached through itself. Until it is known to be reachable its paths
//! wait with [`RejectReason::NextHopUnreachable`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_net::{NextHop, ResolvedNextHop};
use smallvec::{SmallVec, smallvec};

use super::attributes::is_link_local;
use super::prefixes::Path;
use super::store::AttributeId;
use super::{PeerProfile, Routing};
use crate::view::RejectReason;

/// How many next hops are remembered that are tracked no more.
const MOST_RETIRED: usize = 1024;

/// What is known of next hops.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Tracked next hops; `None`: there is no way, or none is known yet.
    ways: BTreeMap<IpAddr, Option<ResolvedNextHop>>,
    /// The last known ways of next hops that were tracked: one that comes back soon may never have been given up by felix,
    /// which then has nothing new to say of it.
    retired: BTreeMap<IpAddr, Option<ResolvedNextHop>>,
    /// `ways` has other keys than were told last.
    changed: bool,
    /// Next hops whose ways changed and whose paths have still to be looked at.
    moved: BTreeSet<IpAddr>,
}

impl Reach {
    /// Has a next hop tracked that is not used as it is.
    fn want(&mut self, address: IpAddr) {
        if !self.ways.contains_key(&address) {
            let way = self.retired.remove(&address).flatten();
            self.ways.insert(address, way);
            self.changed = true;
        }
    }

    /// Gives up tracking those next hops that `gone` picks.
    fn retire(&mut self, gone: impl Fn(IpAddr) -> bool) {
        let retired: Vec<IpAddr> = self.ways.keys().copied().filter(|&address| gone(address)).collect();
        if self.retired.len() + retired.len() > MOST_RETIRED {
            self.retired.clear();
        }
        for address in retired {
            if let Some(way) = self.ways.remove(&address) {
                self.retired.insert(address, way);
                self.changed = true;
            }
        }
    }
}

impl Routing {
    /// Whether a next hop is used as it is: it is on a link, or no interface is known.
    fn is_direct(&self, address: IpAddr) -> bool {
        !self.connected.is_known() || is_link_local(address) || self.connected.subnet_of(address).is_some()
    }

    /// Has all next hops judged anew: some are on a link no more, or from here on.
    pub(super) fn move_next_hops(&mut self) {
        let known: Vec<IpAddr> = self.store.next_hops().collect();
        self.reach.moved.extend(known);
    }

    /// Takes how a tracked next hop is reached; `None`: it isn't.
    pub(crate) fn set_way(&mut self, address: IpAddr, resolved: Option<ResolvedNextHop>) {
        let resolved = resolved.filter(|resolved| !resolved.next_hops.is_empty());
        match self.reach.ways.get_mut(&address) {
            Some(way) if *way != resolved => {
                *way = resolved;
                self.reach.moved.insert(address);
            }
            Some(_) => {}
            None => {
                if let Some(way) = self.reach.retired.get_mut(&address) {
                    *way = resolved;
                }
            }
        }
    }

    /// Returns the whole set of next hops to track, where it has changed.
    pub(crate) fn take_tracked(&mut self) -> Option<BTreeSet<IpAddr>> {
        let changed = std::mem::take(&mut self.reach.changed);
        changed.then(|| self.reach.ways.keys().copied().collect())
    }

    /// Returns the interior cost of a next hop (RFC 4271 section 9.1.2.2 step e): 0 on a link, the metric of the kernel's
    /// route else; `None`: it is not reachable.
    pub(crate) fn next_hop_metric(&self, address: IpAddr) -> Option<u32> {
        match self.reach.ways.get(&address) {
            Some(way) => way.as_ref().map(|resolved| resolved.metric),
            None => self.is_direct(address).then_some(0),
        }
    }

    /// Returns the interior cost that a path is compared by.
    pub(super) fn interior_cost(&self, path: &Path) -> u32 {
        let giver = path.source.as_peer().and_then(|peer| self.peers.get(&peer));
        match giver.filter(|giver| !giver.profile.next_hops_on_link() && !self.reach.ways.is_empty()) {
            Some(_) => {
                let next_hop = self.store.forwarding_address(path.attributes);
                next_hop.and_then(|next_hop| self.next_hop_metric(next_hop)).unwrap_or_default()
            }
            None => 0,
        }
    }

    /// Tells why paths of a peer with these attributes have to wait, if they do, and has their next hop tracked.
    pub(super) fn unreachable(&mut self, profile: &PeerProfile, attributes: AttributeId) -> Option<RejectReason> {
        if profile.next_hops_on_link() || !self.connected.is_known() {
            return None;
        }
        let address = self.store.forwarding_address(attributes)?;
        if !self.is_direct(address) {
            self.reach.want(address);
        }
        self.next_hop_metric(address).is_none().then_some(RejectReason::NextHopUnreachable)
    }

    /// Returns where packets of a learned path go; nothing for the node's own.
    pub(super) fn next_hop(&self, path: &Path) -> SmallVec<[NextHop; 1]> {
        let Some(peer) = path.source.as_peer().and_then(|peer| self.peers.get(&peer)) else { return SmallVec::new() };
        let Some(addr) = self.store.forwarding_address(path.attributes) else { return SmallVec::new() };
        let profile = &peer.profile;
        match self.reach.ways.get(&addr).filter(|_| !profile.next_hops_on_link()) {
            Some(Some(resolved)) => resolved.next_hops.iter().cloned().collect(),
            Some(None) => SmallVec::new(),
            None => {
                let interface = if is_link_local(addr) { profile.interface.clone() } else { None };
                smallvec![NextHop { addr, interface }]
            }
        }
    }

    /// Has paths judged anew whose next hops moved, and gives up tracking those that no path has any more.
    pub(super) fn settle_next_hops(&mut self) {
        if self.store.take_dropped_next_hop() {
            let store = &self.store;
            self.reach.retire(|address| !store.has_next_hop(address));
        }
        let moved = std::mem::take(&mut self.reach.moved);
        if moved.is_empty() {
            return;
        }
        let connected = &self.connected;
        self.reach.retire(|address| !connected.is_known() || connected.subnet_of(address).is_some());
        self.judge_moved(&moved);
    }

    pub(super) fn judge_again(&mut self, at: usize, id: u32, moved: &BTreeSet<IpAddr>) {
        let mut touched = false;
        for index in 0..self.tables[at].prefixes.entry(id).paths.len() {
            let path = self.tables[at].prefixes.entry(id).paths[index];
            let Some(peer) = path.source.as_peer().and_then(|peer| self.peers.get(&peer)) else { continue };
            let is_moved = self.store.forwarding_address(path.attributes).is_some_and(|addr| moved.contains(&addr));
            if !is_moved || !matches!(path.rejected, None | Some(RejectReason::NextHopUnreachable)) {
                continue;
            }
            let profile = peer.profile.clone();
            let rejected = self.unreachable(&profile, path.attributes);
            self.tables[at].prefixes.entry_mut(id).paths[index].rejected = rejected;
            touched |= !profile.next_hops_on_link();
        }
        if touched {
            self.tables[at].mark(id);
        }
    }
}
