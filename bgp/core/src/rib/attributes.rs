//! What the tables ask of attributes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use super::PeerProfile;
use super::decision::Candidate;
use crate::config::{DecisionConfig, LocalAsMode};
use crate::policy::SetOperation;
use crate::wire::{Attributes, Community, ExtendedCommunity, LargeCommunity};

/// Returns the attributes of the node's own routes before export.
pub(super) fn local() -> Attributes {
    Attributes::default()
}

pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// What the tables ask of attributes.
pub(super) trait AttributesExt {
    /// Where packets go: the global next hop, or the link-local one where there is no global one.
    fn forwarding_address(&self) -> Option<IpAddr>;
    /// What the decision process compares, but for the way to the next hop and the path's identifier. `content`: whether
    /// it matters which AS numbers the AS_PATH has.
    fn candidate(&self, giver: Option<&PeerProfile>, config: &DecisionConfig, content: bool) -> Candidate;
    fn apply(&mut self, operation: &SetOperation);
    /// Puts the session's own address as the next hop; false where there is none.
    fn set_next_hop(&mut self, own: Option<IpAddr>) -> bool;
    /// Notes the originator and this cluster (RFC 4456 section 8).
    fn reflect(&mut self, originator: Ipv4Addr, cluster: Ipv4Addr);
    /// Removes what doesn't leave the AS, and a MED that came from another one (RFC 4271 section 5.1.4).
    fn strip_internal(&mut self, learned: bool);
}

impl AttributesExt for Attributes {
    fn forwarding_address(&self) -> Option<IpAddr> {
        match (self.next_hop, self.link_local_next_hop) {
            (Some(IpAddr::V6(global)), Some(link_local)) if global.is_unspecified() => Some(link_local.into()),
            (None, link_local) => link_local.map(IpAddr::V6),
            (next_hop, _) => next_hop,
        }
    }

    fn candidate(&self, giver: Option<&PeerProfile>, config: &DecisionConfig, content: bool) -> Candidate {
        let mut hasher = DefaultHasher::new();
        if content {
            self.as_path.hash(&mut hasher);
        }
        Candidate {
            local: giver.is_none(),
            local_pref: self.local_pref.unwrap_or(config.default_local_pref),
            as_path_length: self.as_path.length(),
            origin: self.origin as u8,
            // What a local AS number puts in front is no neighbour.
            neighbour_as: match giver {
                Some(giver) if !giver.ibgp && giver.settings.local_as_mode == LocalAsMode::Prepend => Some(giver.asn),
                _ => self.as_path.first_as(),
            },
            med: self.med.unwrap_or(if config.med_missing_as_worst { u32::MAX } else { 0 }),
            ebgp: giver.is_some_and(|giver| !giver.ibgp),
            igp_metric: 0,
            router_id: self.originator_id.or(giver.map(|giver| giver.router_id)).unwrap_or(Ipv4Addr::UNSPECIFIED),
            cluster_list_length: self.cluster_list.len(),
            peer_address: giver.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |giver| giver.remote),
            path_id: 0,
            as_path_id: hasher.finish(),
        }
    }

    fn apply(&mut self, operation: &SetOperation) {
        match *operation {
            SetOperation::LocalPref(value) => self.local_pref = Some(value),
            SetOperation::Med(value) => self.med = Some(value),
            SetOperation::AddCommunity(community) => {
                self.communities.push(Community(community));
                self.canonicalize();
            }
            SetOperation::RemoveCommunity(community) => self.communities.retain(|known| known.0 != community),
            SetOperation::AddLargeCommunity([global_administrator, local_data_1, local_data_2]) => {
                self.large_communities.push(LargeCommunity { global_administrator, local_data_1, local_data_2 });
                self.canonicalize();
            }
            SetOperation::AddExtendedCommunity(community) => {
                self.extended_communities.push(ExtendedCommunity(community));
                self.canonicalize();
            }
            SetOperation::Prepend { asn, count } => self.as_path.prepend(asn, usize::from(count)),
        }
    }

    fn set_next_hop(&mut self, own: Option<IpAddr>) -> bool {
        self.next_hop = own;
        self.link_local_next_hop = None;
        own.is_some()
    }

    fn reflect(&mut self, originator: Ipv4Addr, cluster: Ipv4Addr) {
        self.originator_id.get_or_insert(originator);
        self.cluster_list.insert(0, cluster);
    }

    fn strip_internal(&mut self, learned: bool) {
        self.local_pref = None;
        self.originator_id = None;
        self.cluster_list = Vec::new();
        self.as_path.strip_confederation();
        self.extended_communities.retain(|community| !community.is_non_transitive());
        if learned {
            self.med = None;
        }
    }
}
