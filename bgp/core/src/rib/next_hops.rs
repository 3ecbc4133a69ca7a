use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use margay_net::NextHop;

/// A set of next hops, by a number. Each of the few sets there are is stored once, however many prefixes use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NextHopSetId(NonZeroU32);

impl NextHopSetId {
    fn at(slot: usize) -> NextHopSetId {
        NextHopSetId(NonZeroU32::MIN.saturating_add(slot as u32))
    }

    fn slot(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The distinct sets of next hops, counted by use.
#[derive(Debug, Default)]
pub(crate) struct NextHopSets {
    ids: HashTable<u32>,
    sets: slab::Slab<(Arc<BTreeSet<NextHop>>, u32)>,
    hasher: DefaultHashBuilder,
}

impl NextHopSets {
    /// Returns the number of the set of `next_hops`, which are in order and not empty, and counts one more use of it.
    pub(crate) fn intern(&mut self, next_hops: &[NextHop]) -> NextHopSetId {
        let (sets, hasher) = (&self.sets, &self.hasher);
        // By the first one and the number, so that a set hashes as the slice that it came from.
        let hash_of = |first: Option<&NextHop>, len: usize| hasher.hash_one((first, len));
        let hash = hash_of(next_hops.first(), next_hops.len());
        if let Some(&id) = self.ids.find(hash, |&id| sets[id as usize].0.iter().eq(next_hops)) {
            return self.retain(NextHopSetId::at(id as usize));
        }
        let id = self.sets.insert((Arc::new(next_hops.iter().cloned().collect()), 1)) as u32;
        let sets = &self.sets;
        self.ids.insert_unique(hash, id, |&id| hash_of(sets[id as usize].0.first(), sets[id as usize].0.len()));
        NextHopSetId::at(id as usize)
    }

    /// Counts one more use.
    pub(crate) fn retain(&mut self, id: NextHopSetId) -> NextHopSetId {
        self.sets[id.slot()].1 += 1;
        id
    }

    /// Ends one use.
    pub(crate) fn release(&mut self, id: NextHopSetId) {
        let (set, uses) = &mut self.sets[id.slot()];
        *uses -= 1;
        if *uses == 0 {
            let hash = self.hasher.hash_one((set.first(), set.len()));
            if let Ok(place) = self.ids.find_entry(hash, |&other| other as usize == id.slot()) {
                place.remove();
            }
            self.sets.remove(id.slot());
        }
    }

    pub(crate) fn set(&self, id: NextHopSetId) -> &Arc<BTreeSet<NextHop>> {
        &self.sets[id.slot()].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_lives_as_long_as_it_is_used() {
        let mut sets = NextHopSets::default();
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|address| NextHop::via(address.parse().expect("an address")));
        let first = sets.intern(std::slice::from_ref(&a));
        let both = sets.intern(&[a.clone(), b]);
        assert_ne!(first, both);
        assert_eq!(sets.intern(std::slice::from_ref(&a)), first);
        sets.release(first);
        assert_eq!(**sets.set(first), BTreeSet::from([a]));
        sets.release(first);
        sets.release(both);
        assert!(sets.sets.is_empty() && sets.ids.is_empty());
    }
}
