//! What is taken from a peer: loop checks, next hop checks, import policy.

use std::net::IpAddr;

use margay_net::{Cidr, Family};
use smallvec::SmallVec;

use super::attributes::AttributesExt;
use super::prefixes::{Path, Source};
use super::store::AttributeId;
use super::{PeerProfile, Routing, index};
use crate::policy::RouteOrigin;
use crate::view::RejectReason;

impl Routing {
    /// Checks what all prefixes of a message share.
    pub(super) fn check_received(&self, profile: &PeerProfile, received: AttributeId) -> Result<(), RejectReason> {
        let attributes = self.store.get(received);
        let own = attributes.as_path.count(profile.own_asn);
        let speakers = if profile.own_asn == self.config.asn { 0 } else { attributes.as_path.count(self.config.asn) };
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
        if self.own_addresses.contains(&next_hop) || session_address == Some(&next_hop) {
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
        checked: Result<(), RejectReason>,
    ) -> (AttributeId, Option<RejectReason>) {
        let origin = if profile.ibgp { RouteOrigin::Ibgp } else { RouteOrigin::Ebgp };
        let policy = &profile.import.0;
        let outcome = checked.and_then(|()| {
            policy.evaluate(prefix, origin, &self.store.get(received).communities).ok_or(RejectReason::Policy)
        });
        match outcome {
            Ok(changes) if !changes.is_empty() => {
                let mut attributes = (*self.store.get(received)).clone();
                policy.operations(&changes).for_each(|operation| attributes.apply(operation));
                (self.store.intern(attributes), None)
            }
            outcome => {
                self.store.retain(received);
                (received, outcome.err())
            }
        }
    }

    /// Evaluates all paths of a peer anew.
    pub(super) fn import_again(&mut self, peer: usize) {
        let Some(known) = self.peers.get(&peer) else { return };
        let profile = known.profile.clone();
        let source = Source::peer(peer);
        for family in Family::ALL {
            for id in self.tables[index(family)].ids_of(source) {
                let entry = self.tables[index(family)].prefixes.entry(id);
                let cidr = entry.cidr;
                let paths: SmallVec<[Path; 1]> =
                    entry.paths.iter().filter(|path| path.source == source).copied().collect();
                for path in paths {
                    let checked = self.check_received(&profile, path.received);
                    let (attributes, rejected) = self.import(&profile, cidr, path.received, checked);
                    let rejected = rejected.or_else(|| self.unreachable(&profile, attributes));
                    self.store.retain(path.received);
                    let path = Path { attributes, rejected, ..path };
                    self.tables[index(family)].put(id, path, &mut self.store);
                }
            }
        }
    }
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_broadcast())
}
