use std::cmp::Ordering;
use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::DefaultHashBuilder;
use margay_net::Cidr;
use slab::Slab;

use super::generations::Generation;
use super::installs::BatchName;
use super::next_hops::NextHopSetId;
use super::numbers::Numbers;
use super::paths::Paths;
use super::store::AttributeId;
use crate::view::RejectReason;

/// A prefix by a dense number, so that tables over prefixes are arrays.
pub(crate) type PrefixId = u32;

/// Where a path comes from: a peer by its number, or the node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Source(u32);

impl Source {
    pub(crate) const LOCAL: Source = Source(u32::MAX);
    pub(crate) const NONE: Source = Source(u32::MAX - 1);

    pub(crate) fn peer(index: usize) -> Source {
        Source(index as u32)
    }

    pub(crate) fn as_peer(self) -> Option<usize> {
        (self < Source::NONE).then_some(self.0 as usize)
    }
}

/// One path of a prefix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub(crate) source: Source,
    /// Tells paths of one peer apart (RFC 7911); 0 where the peer sends one for each prefix.
    pub(crate) path_id: u32,
    /// As received; import policy is evaluated anew from these.
    pub(crate) received: AttributeId,
    /// After import policy; holds a use of its own in the store.
    pub(crate) attributes: AttributeId,
    /// Of which of the peer's generations it is.
    pub(crate) generation: Generation,
    pub(crate) rejected: Option<RejectReason>,
}

/// There is no best path.
const NO_BEST: u16 = u16::MAX;

/// A prefix with its paths and what the others were told of it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) cidr: Cidr,
    /// The index of the best path, or [`NO_BEST`].
    best: u16,
    /// Those of one peer are next to each other in the order of their identifiers.
    pub(crate) paths: Paths,
    /// Where the path came from that the group tables hold.
    pub(crate) told_source: Source,
    pub(crate) told_fib: Option<NextHopSetId>,
    /// The batch for felix with which it got a route that had none before.
    pub(crate) batch: BatchName,
    pub(crate) marks: Marks,
}

/// What is to be known of a prefix, a bit each.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marks(u8);

impl Marks {
    /// It is in the queue of those to be decided.
    pub(crate) const DIRTY: u8 = 1;
    /// The best path, or what is told of it, may be another one than was told; where not, other paths came or went.
    pub(crate) const TOUCHED: u8 = 2;
    /// Felix was told that its route is stale.
    pub(crate) const TOLD_STALE: u8 = 4;

    pub(crate) fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    /// Sets a mark, or takes it off, and tells whether it was there.
    pub(crate) fn set(&mut self, mark: u8, wanted: bool) -> bool {
        let had = self.has(mark);
        self.0 = if wanted { self.0 | mark } else { self.0 & !mark };
        had
    }
}

impl Entry {
    /// Returns the index of the best path, which stays that of the same path while others come and go.
    pub(crate) fn best(&self) -> Option<u16> {
        (self.best != NO_BEST).then_some(self.best)
    }

    /// Puts a path in its place.
    pub(crate) fn insert(&mut self, at: usize, path: Path) {
        self.paths.insert(at, path);
        if self.best != NO_BEST && usize::from(self.best) >= at {
            self.best += 1;
        }
    }

    /// Takes a path out.
    pub(crate) fn remove(&mut self, at: usize) -> Path {
        if usize::from(self.best) == at {
            self.best = NO_BEST;
            self.marks.set(Marks::TOUCHED, true);
        } else if self.best != NO_BEST && usize::from(self.best) > at {
            self.best -= 1;
        }
        self.paths.remove(at)
    }

    /// Finds a path, or the place where it belongs.
    pub(crate) fn find(&self, source: Source, path_id: u32) -> Result<usize, usize> {
        let mut place = self.paths.len();
        for (at, path) in self.paths.iter().enumerate().filter(|(_, path)| path.source == source) {
            match path.path_id.cmp(&path_id) {
                Ordering::Equal => return Ok(at),
                Ordering::Less => place = at + 1,
                Ordering::Greater => return Err(at),
            }
        }
        Err(place)
    }

    /// Notes which path is the best one, by its index.
    pub(crate) fn set_best(&mut self, best: Option<u16>) {
        self.best = best.unwrap_or(NO_BEST);
    }

    pub(crate) fn best_path(&self) -> Option<&Path> {
        self.paths.get(usize::from(self.best))
    }
}

/// The prefixes of a family.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    /// By the prefixes, which are looked up in their entries.
    ids: Numbers,
    entries: Slab<Entry>,
    /// One more than the highest number that was ever given.
    slots: PrefixId,
    hasher: DefaultHashBuilder,
}

impl Prefixes {
    /// Returns the number of `cidr`, a new one where it has none.
    pub(crate) fn intern(&mut self, cidr: Cidr) -> PrefixId {
        let hash = self.hasher.hash_one(cidr);
        let entries = &self.entries;
        if let Some(known) = self.ids.find(hash, |id| entries[id as usize].cidr == cidr) {
            return known;
        }
        let id = self.entries.insert(Entry {
            cidr,
            paths: Paths::default(),
            best: NO_BEST,
            told_source: Source::NONE,
            told_fib: None,
            batch: BatchName::default(),
            marks: Marks::default(),
        }) as PrefixId;
        self.slots = self.slots.max(id + 1);
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash_of = |id| entries.get(id as usize).map(|entry| hasher.hash_one(entry.cidr));
        self.ids.insert(hash, id, hash_of);
        id
    }

    pub(crate) fn find(&self, cidr: Cidr) -> Option<PrefixId> {
        self.ids.find(self.hasher.hash_one(cidr), |id| self.entries[id as usize].cidr == cidr)
    }

    pub(crate) fn entry(&self, id: PrefixId) -> &Entry {
        &self.entries[id as usize]
    }

    pub(crate) fn entry_mut(&mut self, id: PrefixId) -> &mut Entry {
        &mut self.entries[id as usize]
    }

    /// Gives the number of a prefix back if it has no path and nobody was told of it.
    pub(crate) fn release(&mut self, id: PrefixId) {
        if let Some(entry) = self.entries.get(id as usize)
            && entry.paths.is_empty()
            && entry.told_fib.is_none()
            && !entry.marks.has(Marks::DIRTY)
        {
            let hash = self.hasher.hash_one(entry.cidr);
            self.ids.remove(hash, id);
            self.entries.remove(id as usize);
        }
    }

    /// Returns those whose numbers are in `part`.
    pub(crate) fn part(&self, part: Range<PrefixId>) -> impl Iterator<Item = (PrefixId, &Entry)> {
        part.filter_map(|id| Some((id, self.entries.get(id as usize)?)))
    }

    /// Returns one more than the highest number that there may be.
    pub(crate) fn slots(&self) -> PrefixId {
        self.slots
    }

    /// Returns the prefix with a number, where there is one.
    pub(crate) fn find_entry(&self, id: PrefixId) -> Option<&Entry> {
        self.entries.get(id as usize)
    }

    pub(crate) fn has(&self, id: PrefixId) -> bool {
        self.entries.contains(id as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_one_path_takes_a_cache_line() {
        assert!(size_of::<Path>() <= 20, "{}", size_of::<Path>());
        assert!(size_of::<Paths>() <= 24, "{}", size_of::<Paths>());
        assert!(size_of::<Entry>() <= 56, "{}", size_of::<Entry>());
    }
}
