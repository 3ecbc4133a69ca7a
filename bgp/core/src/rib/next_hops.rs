use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

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
    ids: HashMap<Arc<BTreeSet<NextHop>>, u32>,
    sets: slab::Slab<(Arc<BTreeSet<NextHop>>, u32)>,
}

impl NextHopSets {
    /// Returns the number of `set`, and counts one more use of it.
    pub(crate) fn intern(&mut self, set: BTreeSet<NextHop>) -> NextHopSetId {
        if let Some(&id) = self.ids.get(&set) {
            self.sets[id as usize].1 += 1;
            return NextHopSetId::at(id as usize);
        }
        let set = Arc::new(set);
        let id = self.sets.insert((set.clone(), 1)) as u32;
        self.ids.insert(set, id);
        NextHopSetId::at(id as usize)
    }

    /// Ends one use.
    pub(crate) fn release(&mut self, id: NextHopSetId) {
        let entry = &mut self.sets[id.slot()];
        entry.1 -= 1;
        if entry.1 == 0 {
            let (set, _) = self.sets.remove(id.slot());
            self.ids.remove(&set);
        }
    }

    pub(crate) fn set(&self, id: NextHopSetId) -> &BTreeSet<NextHop> {
        &self.sets[id.slot()].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_lives_as_long_as_it_is_used() {
        let mut sets = NextHopSets::default();
        let set = BTreeSet::from([NextHop::via("192.0.2.1".parse().expect("an address"))]);
        let first = sets.intern(set.clone());
        assert_eq!(sets.intern(set.clone()), first);
        sets.release(first);
        assert_eq!(sets.set(first), &set);
        sets.release(first);
        assert!(sets.sets.is_empty() && sets.ids.is_empty());
    }
}
