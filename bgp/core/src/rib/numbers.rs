//! A hash table that grows without a pause.

use hashbrown::HashTable;

/// How many numbers move to the larger table with each one that comes.
const MOVED: u32 = 16;
/// A table of up to so many numbers moves at once.
const SMALL: usize = 4096;

/// Numbers, found by the hash of what they stand for.
///
/// When the table is full a larger one takes its place, and what was in it moves there bit by bit: with a million
/// numbers no single one waits for all the others.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    table: HashTable<u32>,
    /// What has still to move.
    before: HashTable<u32>,
    /// The next number that may be in `before`.
    next: u32,
}

impl Numbers {
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let found = self.table.find(hash, |&number| is_it(number));
        let before = || if self.before.is_empty() { None } else { self.before.find(hash, |&number| is_it(number)) };
        found.or_else(before).copied()
    }

    /// Puts a number in that isn't there. `hash_of` tells the hash of one that is.
    pub(super) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> Option<u64>) {
        let rehash = |&number: &u32| hash_of(number).unwrap_or_default();
        if self.table.len() == self.table.capacity() {
            // A table that is full of numbers becomes twice as large, one that is full of gaps stays as it is.
            let larger = HashTable::with_capacity((self.table.len() * 3 / 2).max(16));
            let full = std::mem::replace(&mut self.table, larger);
            let left = std::mem::replace(&mut self.before, full);
            self.next = 0;
            left.into_iter().for_each(|number| {
                self.table.insert_unique(rehash(&number), number, rehash);
            });
            if self.before.len() <= SMALL {
                for number in self.before.drain() {
                    self.table.insert_unique(rehash(&number), number, rehash);
                }
            }
        }
        for _ in 0..MOVED {
            if self.before.is_empty() {
                break;
            }
            let moving = self.next;
            self.next += 1;
            if let Some(hash) = hash_of(moving)
                && let Ok(place) = self.before.find_entry(hash, |&other| other == moving)
            {
                place.remove();
                self.table.insert_unique(hash, moving, rehash);
            }
        }
        if self.before.is_empty() && self.before.capacity() > 0 {
            self.before = HashTable::new();
        }
        self.table.insert_unique(hash, number, rehash);
    }

    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let is_it = |&other: &u32| other == number;
        if let Ok(place) = self.table.find_entry(hash, is_it) {
            place.remove();
        } else if let Ok(place) = self.before.find_entry(hash, is_it) {
            place.remove();
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty() && self.before.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u32) -> u64 {
        u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn every_number_is_found_while_the_table_grows_and_shrinks() {
        let mut numbers = Numbers::default();
        let mut moving = 0;
        for number in 0..100_000 {
            // Of those that came every other one is gone again soon.
            let is_there = |other: u32| other < number && (other.is_multiple_of(2) || other + 500 >= number);
            numbers.insert(hash(number), number, |other| is_there(other).then(|| hash(other)));
            moving = moving.max(numbers.before.len());
            if number >= 500 && (number - 500) % 2 == 1 {
                numbers.remove(hash(number - 500), number - 500);
            }
            if number.is_multiple_of(997) {
                for other in 0..=number {
                    let there = other.is_multiple_of(2) || other + 500 > number;
                    assert_eq!(numbers.find(hash(other), |it| it == other).is_some(), there, "{other} of {number}");
                }
            }
        }
        assert!(moving > SMALL);
        (0..100_000).for_each(|number| numbers.remove(hash(number), number));
        assert!(numbers.is_empty());
    }
}
