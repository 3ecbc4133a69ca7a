//! Attribute sets, each stored once in packed form and named by a number.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use slab::Slab;

use super::numbers::Numbers;
use crate::wire::{Attributes, packed};

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
    packed: Box<[u8]>,
    hash: u32,
    uses: u32,
    merit: Merit,
}

/// What the decision process compares first, at hand without unpacking.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Merit {
    local_pref: u32,
    /// The longest path that fits into a message is far below the limit.
    as_path_length: u16,
    origin: u8,
    has_local_pref: bool,
}

impl Merit {
    fn of(attributes: &Attributes) -> Merit {
        Merit {
            local_pref: attributes.local_pref.unwrap_or_default(),
            as_path_length: u16::try_from(attributes.as_path.length()).unwrap_or(u16::MAX),
            origin: attributes.origin as u8,
            has_local_pref: attributes.local_pref.is_some(),
        }
    }

    pub(crate) fn local_pref(self) -> Option<u32> {
        self.has_local_pref.then_some(self.local_pref)
    }

    /// As the decision process counts it.
    pub(crate) fn as_path_length(self) -> u16 {
        self.as_path_length
    }

    pub(crate) fn origin(self) -> u8 {
        self.origin
    }
}

/// The distinct attribute sets, counted by use.
///
/// What was asked for of late is kept decoded, since routes of one message are worked on one after the other.
#[derive(Debug, Default)]
pub(crate) struct AttributeStore {
    ids: Numbers,
    sets: Slab<Stored>,
    hasher: DefaultHashBuilder,
    /// In how many sets a next hop is.
    next_hops: BTreeMap<IpAddr, u32>,
    /// One is in none any more.
    dropped_next_hop: bool,
    /// The packed form of what is looked up.
    scratch: Vec<u8>,
    decoded: RefCell<[Option<Decoded>; DECODED]>,
}

/// A set with its number.
type Decoded = (AttributeId, Arc<Attributes>);

/// How many sets are kept decoded, each where the low bits of its number say.
const DECODED: usize = 8;

impl AttributeStore {
    /// Returns the number of `attributes`, and counts one more use of it.
    pub(crate) fn intern(&mut self, attributes: Attributes) -> AttributeId {
        let mut packed = std::mem::take(&mut self.scratch);
        packed.clear();
        packed::pack(&attributes, &mut packed);
        // 32 bits are plenty to tell sets apart, and half of what the table would keep.
        let hash = self.hasher.hash_one(&packed[..]) as u32;
        let sets = &self.sets;
        let known = self.ids.find(spread(hash), |slot| *sets[slot as usize].packed == packed[..]);
        let id = match known {
            Some(slot) => {
                self.sets[slot as usize].uses += 1;
                AttributeId::at(slot as usize)
            }
            None => {
                if let Some(next_hop) = forwarding_address(&packed) {
                    *self.next_hops.entry(next_hop).or_default() += 1;
                }
                let slot = self.sets.insert(Stored {
                    packed: packed[..].into(),
                    hash,
                    uses: 1,
                    merit: Merit::of(&attributes),
                });
                let sets = &self.sets;
                self.ids.insert(spread(hash), slot as u32, |slot| Some(spread(sets.get(slot as usize)?.hash)));
                AttributeId::at(slot)
            }
        };
        self.scratch = packed;
        self.decoded.get_mut()[id.slot() % DECODED] = Some((id, Arc::new(attributes)));
        id
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
            let hash = spread(stored.hash);
            self.ids.remove(hash, id.slot() as u32);
            let stored = self.sets.remove(id.slot());
            if let Some(next_hop) = forwarding_address(&stored.packed)
                && let Some(sets) = self.next_hops.get_mut(&next_hop)
            {
                *sets -= 1;
                if *sets == 0 {
                    self.next_hops.remove(&next_hop);
                    self.dropped_next_hop = true;
                }
            }
            let decoded = &mut self.decoded.get_mut()[id.slot() % DECODED];
            if decoded.as_ref().is_some_and(|(known, _)| *known == id) {
                *decoded = None;
            }
        }
    }

    /// Returns the attributes.
    pub(crate) fn get(&self, id: AttributeId) -> Arc<Attributes> {
        let mut decoded = self.decoded.borrow_mut();
        let place = &mut decoded[id.slot() % DECODED];
        if let Some((known, attributes)) = place
            && *known == id
        {
            return attributes.clone();
        }
        let attributes = Arc::new(packed::unpack(&self.sets[id.slot()].packed));
        *place = Some((id, attributes.clone()));
        attributes
    }

    pub(crate) fn merit(&self, id: AttributeId) -> Merit {
        self.sets[id.slot()].merit
    }

    /// Returns the attributes without communities and unknown ones, at less cost.
    pub(crate) fn for_decision(&self, id: AttributeId) -> Attributes {
        packed::unpack_for_decision(&self.sets[id.slot()].packed)
    }

    /// Returns where packets go: the global next hop, or the link-local one where there is no global one.
    pub(crate) fn forwarding_address(&self, id: AttributeId) -> Option<IpAddr> {
        forwarding_address(&self.sets[id.slot()].packed)
    }

    /// Returns the next hops of all sets.
    pub(crate) fn next_hops(&self) -> impl Iterator<Item = IpAddr> {
        self.next_hops.keys().copied()
    }

    pub(crate) fn has_next_hop(&self, next_hop: IpAddr) -> bool {
        self.next_hops.contains_key(&next_hop)
    }

    /// Tells, once, whether some next hop is in no set any more.
    pub(crate) fn take_dropped_next_hop(&mut self) -> bool {
        std::mem::take(&mut self.dropped_next_hop)
    }

    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }
}

fn forwarding_address(packed: &[u8]) -> Option<IpAddr> {
    match packed::next_hops(packed) {
        (Some(IpAddr::V6(global)), Some(link_local)) if global.is_unspecified() => Some(link_local.into()),
        (None, link_local) => link_local.map(IpAddr::V6),
        (next_hop, _) => next_hop,
    }
}

/// Makes of 32 bits the 64 that the table takes its place from, both ends of them.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
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
        assert!(store.ids.is_empty() && store.next_hops.is_empty());
    }

    #[test]
    fn a_number_that_is_given_anew_stands_for_the_new_attributes() {
        let mut store = AttributeStore::default();
        let with_med = |med| Attributes { med: Some(med), ..Attributes::default() };
        for med in 0..3 {
            let id = store.intern(with_med(med));
            assert_eq!(store.get(id).med, Some(med));
            store.release(id);
        }
        let ids: Vec<_> = (0..100).map(|med| store.intern(with_med(med))).collect();
        for (med, &id) in (0..).zip(&ids) {
            assert_eq!((store.get(id).med, store.for_decision(id).med), (Some(med), Some(med)));
        }
    }
}
