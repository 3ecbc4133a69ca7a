//! Attribute sets, each stored once and named by a number, and what the tables ask of them.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;

use super::PeerProfile;
use super::decision::{Candidate, DEFAULT_LOCAL_PREF};
use crate::policy::SetOperation;
use crate::wire::{Attributes, Community, ExtendedCommunity, LargeCommunity};

/// An attribute set of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttributeId(NonZeroU32);

impl AttributeId {
    /// Numbers begin with one, so that an optional one takes no more room.
    fn at(slot: usize) -> AttributeId {
        AttributeId(NonZeroU32::MIN.saturating_add(slot as u32))
    }

    fn slot(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[derive(Debug)]
struct Stored {
    attributes: Box<Attributes>,
    hash: u64,
    uses: u32,
}

/// The distinct attribute sets, counted by use.
#[derive(Debug, Default)]
pub(crate) struct AttributeStore {
    ids: HashTable<u32>,
    sets: Slab<Stored>,
    hasher: DefaultHashBuilder,
}

impl AttributeStore {
    /// Returns the number of `attributes`, and counts one more use of it.
    pub(crate) fn intern(&mut self, attributes: Attributes) -> AttributeId {
        let hash = self.hasher.hash_one(&attributes);
        let known = self.ids.find(hash, |&id| *self.sets[id as usize].attributes == attributes);
        if let Some(&id) = known {
            self.sets[id as usize].uses += 1;
            return AttributeId::at(id as usize);
        }
        let id = self.sets.insert(Stored { attributes: Box::new(attributes), hash, uses: 1 }) as u32;
        let sets = &self.sets;
        self.ids.insert_unique(hash, id, |&id| sets[id as usize].hash);
        AttributeId::at(id as usize)
    }

    /// Counts one more use.
    pub(crate) fn retain(&mut self, id: AttributeId) {
        self.sets[id.slot()].uses += 1;
    }

    /// Ends one use.
    pub(crate) fn release(&mut self, id: AttributeId) {
        let stored = &mut self.sets[id.slot()];
        stored.uses -= 1;
        if stored.uses == 0 {
            let hash = stored.hash;
            if let Ok(entry) = self.ids.find_entry(hash, |&other| other as usize == id.slot()) {
                entry.remove();
            }
            self.sets.remove(id.slot());
        }
    }

    pub(crate) fn get(&self, id: AttributeId) -> &Attributes {
        &self.sets[id.slot()].attributes
    }

    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }
}

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
    /// `content`: whether it matters which AS numbers the AS_PATH has.
    fn candidate(&self, giver: Option<&PeerProfile>, content: bool) -> Candidate;
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

    fn candidate(&self, giver: Option<&PeerProfile>, content: bool) -> Candidate {
        let mut hasher = DefaultHasher::new();
        if content {
            self.as_path.hash(&mut hasher);
        }
        Candidate {
            local: giver.is_none(),
            local_pref: self.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
            as_path_length: self.as_path.length(),
            origin: self.origin as u8,
            neighbour_as: self.as_path.first_as(),
            med: self.med.unwrap_or(0),
            ebgp: giver.is_some_and(|giver| !giver.ibgp),
            router_id: self.originator_id.or(giver.map(|giver| giver.router_id)).unwrap_or(Ipv4Addr::UNSPECIFIED),
            cluster_list_length: self.cluster_list.len(),
            peer_address: giver.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |giver| giver.remote),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_attributes_have_one_number_as_long_as_they_are_used() {
        let mut store = AttributeStore::default();
        let with_med = |med| Attributes { med: Some(med), ..Attributes::default() };
        let first = store.intern(with_med(1));
        let second = store.intern(with_med(2));
        assert_ne!(first, second);
        assert_eq!(store.intern(with_med(1)), first);
        store.release(first);
        assert_eq!(store.get(first).med, Some(1));
        store.release(first);
        store.release(second);
        assert_eq!(store.len(), 0);
        assert!(store.ids.is_empty());
    }
}
