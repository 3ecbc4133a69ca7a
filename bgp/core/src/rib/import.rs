//! What is taken from a peer: loop checks, next hop checks, the ownership guard, import policy.

use std::net::IpAddr;

use margay_net::{Cidr, Family};
use smallvec::SmallVec;

use super::attributes::AttributesExt;
use super::prefixes::{Path, PrefixId, Source};
use super::store::AttributeId;
use super::{PeerProfile, Routing, as_path};
use crate::config::OwnershipCheck;
use crate::policy::{Changes, Route, RouteOrigin, SetOperation, Verdict};
use crate::view::RejectReason;
use crate::wire::{Attributes, Community};

/// What the prefixes of a message have in common, so that it is worked out once.
#[derive(Debug)]
pub(super) struct Checked {
    outcome: Result<(), RejectReason>,
    /// Policy's word, where that does not depend on the prefix.
    verdict: Option<Verdict>,
    /// The attributes that changes lead to, each with a use of its own.
    changed: SmallVec<[(Changes, AttributeId); 1]>,
}

/// What the path has that was evaluated last; it holds a use of what the peer sent.
#[derive(Debug, Default)]
pub(super) struct LastChecked(Option<((Source, AttributeId), Checked)>);

impl LastChecked {
    pub(super) fn end(self, routing: &mut Routing) {
        if let Some(((_, received), checked)) = self.0 {
            routing.end_import(checked);
            routing.store.release(received);
        }
    }
}

impl Routing {
    /// Checks what all prefixes of a message share; [`Routing::end_import`] ends it.
    pub(super) fn check_received(&self, profile: &PeerProfile, received: AttributeId) -> Checked {
        Checked { outcome: self.check(profile, received), verdict: None, changed: SmallVec::new() }
    }

    fn check(&self, profile: &PeerProfile, received: AttributeId) -> Result<(), RejectReason> {
        let attributes = self.store.get(received);
        let path = &attributes.as_path;
        if !profile.ibgp && profile.settings.enforce_first_as && path.first_as() != Some(profile.asn) {
            return Err(RejectReason::FirstAs);
        }
        if as_path::has_set(path) {
            return Err(RejectReason::AsSet);
        }
        let own = path.count(profile.own_asn);
        let speakers = if profile.own_asn == self.config.asn { 0 } else { path.count(self.config.asn) };
        if own.max(speakers) > usize::from(profile.allow_own_as) {
            return Err(RejectReason::AsPathLoop);
        }
        if attributes.originator_id == Some(self.config.router_id) {
            return Err(RejectReason::OriginatorLoop);
        }
        if attributes.cluster_list.contains(&self.config.cluster_id) {
            return Err(RejectReason::ClusterLoop);
        }
        let Some(next_hop) = attributes.forwarding_address() else { return Err(RejectReason::NextHopInvalid) };
        if next_hop.is_unspecified() || next_hop.is_loopback() || next_hop.is_multicast() || is_broadcast(next_hop) {
            return Err(RejectReason::NextHopInvalid);
        }
        let session_address = profile.self_next_hop.get(&Family::of(next_hop));
        if self.connected.is_own(next_hop) || session_address == Some(&next_hop) {
            return Err(RejectReason::NextHopIsSelf);
        }
        Ok(())
    }

    /// Returns the attributes that a path is used with, counted as used, and why it isn't where that is so.
    pub(super) fn import(
        &mut self,
        profile: &PeerProfile,
        prefix: Cidr,
        received: AttributeId,
        checked: &mut Checked,
    ) -> (AttributeId, Option<RejectReason>) {
        match self.judge_import(profile, prefix, received, checked) {
            Ok(changes) => (self.imported(profile, received, changes, checked), None),
            Err(reason) => {
                self.store.retain(received);
                (received, Some(reason))
            }
        }
    }

    /// Ends what [`Routing::check_received`] began.
    pub(super) fn end_import(&mut self, checked: Checked) {
        checked.changed.into_iter().for_each(|(_, attributes)| self.store.release(attributes));
    }

    /// Decides whether a path is used, and which changes of policy it gets.
    fn judge_import(
        &self,
        profile: &PeerProfile,
        prefix: Cidr,
        received: AttributeId,
        checked: &mut Checked,
    ) -> Result<Changes, RejectReason> {
        checked.outcome?;
        if profile.settings.ownership != OwnershipCheck::Off
            && let Some(guard) = &self.guard
        {
            guard.judge(profile.announcer(), prefix, &self.store.get(received))?;
        }
        let verdict = match &checked.verdict {
            Some(verdict) => verdict.clone(),
            None => {
                let verdict = self.evaluate_import(profile, prefix, received);
                checked.verdict = (!profile.import.looks_at_prefix()).then(|| verdict.clone());
                verdict
            }
        };
        match verdict.accepted {
            true => Ok(verdict.changes),
            false if profile.import.is_absent() && !profile.ibgp => Err(RejectReason::NoPolicy),
            false => Err(RejectReason::Policy),
        }
    }

    /// Asks import policy about a path.
    pub(super) fn evaluate_import(&self, profile: &PeerProfile, prefix: Cidr, received: AttributeId) -> Verdict {
        let attributes = &*self.store.get(received);
        profile.import.evaluate(&Route {
            prefix,
            origin: if profile.ibgp { RouteOrigin::Ibgp } else { RouteOrigin::Ebgp },
            attributes,
            local_pref: attributes.local_pref.unwrap_or(self.config.decision.default_local_pref),
            interface: if profile.import.looks_at_interface() { self.interface_of(profile, attributes) } else { None },
        })
    }

    /// Returns the attributes after changes, counted as used.
    fn imported(
        &mut self,
        profile: &PeerProfile,
        received: AttributeId,
        changes: Changes,
        checked: &mut Checked,
    ) -> AttributeId {
        if let Some(&(_, known)) = checked.changed.iter().find(|(known, _)| *known == changes) {
            self.store.retain(known);
            return known;
        }
        let attributes = if changes.is_empty() && self.leaves_alone(profile, received) {
            self.store.retain(received);
            received
        } else {
            let mut attributes = Attributes::clone(&self.store.get(received));
            profile.import.operations(&changes).for_each(|operation| attributes.apply(operation));
            self.take_in(profile, &mut attributes);
            self.store.intern(attributes)
        };
        self.store.retain(attributes);
        checked.changed.push((changes, attributes));
        attributes
    }

    /// Whether nothing but policy changes the attributes.
    fn leaves_alone(&self, profile: &PeerProfile, received: AttributeId) -> bool {
        !lowers(profile, &self.store.get(received)) && !profile.prepends_local_as(self.config.asn)
    }

    /// Makes the changes that are not policy's.
    fn take_in(&self, profile: &PeerProfile, attributes: &mut Attributes) {
        if lowers(profile, attributes) {
            attributes.apply(&SetOperation::LocalPref(0));
        }
        if profile.prepends_local_as(self.config.asn) {
            attributes.apply(&SetOperation::Prepend { asn: profile.own_asn, count: 1 });
        }
    }

    /// Returns the interface that packets of a route of a peer leave by, where it is known.
    pub(super) fn interface_of<'a>(&'a self, profile: &'a PeerProfile, attributes: &Attributes) -> Option<&'a str> {
        let next_hop = attributes.forwarding_address()?;
        let beside_the_peer = next_hop == profile.remote || super::attributes::is_link_local(next_hop);
        let of_the_peer = if beside_the_peer { profile.interface.as_deref() } else { None };
        of_the_peer.or_else(|| self.connected.interface_of(next_hop))
    }

    /// Evaluates a path anew; `last` is for what it shares with the one before.
    pub(super) fn import_path_again(&mut self, at: usize, id: PrefixId, path: Path, last: &mut LastChecked) {
        let Some(known) = path.source.as_peer().and_then(|peer| self.peers.get(&peer)) else { return };
        let profile = known.profile.clone();
        let prefix = self.tables[at].prefixes.entry(id).cidr;
        let key = (path.source, path.received);
        let mut checked = match last.0.take() {
            Some((last, checked)) if last == key => checked,
            other => {
                LastChecked(other).end(self);
                // A use of its own keeps the number from standing for others.
                self.store.retain(path.received);
                self.check_received(&profile, path.received)
            }
        };
        let (attributes, rejected) = self.import(&profile, prefix, path.received, &mut checked);
        last.0 = Some((key, checked));
        let rejected = rejected.or_else(|| self.unreachable(&profile, attributes));
        self.store.retain(path.received);
        self.tables[at].put(id, Path { attributes, rejected, ..path }, &mut self.store);
    }
}

/// RFC 8326 section 3.2: the receiver of an external route that is about to go prefers any other one.
fn lowers(profile: &PeerProfile, attributes: &Attributes) -> bool {
    let asks = || attributes.communities.contains(&Community::GRACEFUL_SHUTDOWN);
    profile.settings.honour_graceful_shutdown && !profile.ibgp && asks()
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_broadcast())
}
