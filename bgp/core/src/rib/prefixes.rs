use std::cmp::Ordering;
use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::hash_table::Entry as Place;
use hashbrown::{DefaultHashBuilder, HashTable};
use margay_net::Cidr;
use slab::Slab;

use super::next_hops::NextHopSetId;
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
    pub(crate) stale: bool,
    /// Not yet sent again since the peer began to refresh its routes (RFC 7313).
    pub(crate) unconfirmed: bool,
    pub(crate) rejected: Option<RejectReason>,
}

/// There is no best path.
const NO_BEST: u16 = u16::MAX;

/// A prefix with its paths and what the others were told of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) cidr: Cidr,
    /// The index of the best path, or [`NO_BEST`].
    best: u16,
    /// Those of one peer are next to each other in the order of their identifiers.
    pub(crate) paths: Paths,
    /// Where the path came from that the group tables hold.
    pub(crate) told_source: Source,
    pub(crate) told_fib: Option<NextHopSetId>,
    pub(crate) told_stale: bool,
    pub(crate) dirty: bool,
    /// The best path, or what is told of it, may be another one than was told; where not, other paths came or went.
    pub(crate) touched: bool,
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
            self.touched = true;
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
    ids: HashTable<PrefixId>,
    entries: Slab<Entry>,
    hasher: DefaultHashBuilder,
}

impl Prefixes {
    /// Returns the number of `cidr`, a new one where it has none.
    pub(crate) fn intern(&mut self, cidr: Cidr) -> PrefixId {
        let (entries, hasher) = (&mut self.entries, &self.hasher);
        let same = |id: &PrefixId| entries[*id as usize].cidr == cidr;
        let hash = |id: &PrefixId| hasher.hash_one(entries[*id as usize].cidr);
        match self.ids.entry(hasher.hash_one(cidr), same, hash) {
            Place::Occupied(place) => *place.get(),
            Place::Vacant(place) => {
                let id = entries.insert(Entry {
                    cidr,
                    paths: Paths::default(),
                    best: NO_BEST,
                    told_source: Source::NONE,
                    told_fib: None,
                    told_stale: false,
                    dirty: false,
                    touched: false,
                }) as PrefixId;
                *place.insert(id).get()
            }
        }
    }

    pub(crate) fn find(&self, cidr: Cidr) -> Option<PrefixId> {
        self.ids.find(self.hasher.hash_one(cidr), |&id| self.entries[id as usize].cidr == cidr).copied()
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
            && !entry.dirty
        {
            let hash = self.hasher.hash_one(entry.cidr);
            if let Ok(place) = self.ids.find_entry(hash, |&other| other == id) {
                place.remove();
            }
            self.entries.remove(id as usize);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PrefixId, &Entry)> {
        self.entries.iter().map(|(id, entry)| (id as PrefixId, entry))
    }

    /// Returns those whose numbers are in `part`.
    pub(crate) fn part(&self, part: Range<PrefixId>) -> impl Iterator<Item = (PrefixId, &Entry)> {
        part.filter_map(|id| Some((id, self.entries.get(id as usize)?)))
    }

    /// Returns one more than the highest number that there may be.
    pub(crate) fn slots(&self) -> PrefixId {
        self.entries.capacity() as PrefixId
    }

    pub(crate) fn ids(&self) -> Vec<PrefixId> {
        self.entries.iter().map(|(id, _)| id as PrefixId).collect()
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
        assert!(size_of::<Entry>() <= 64, "{}", size_of::<Entry>());
    }
}
