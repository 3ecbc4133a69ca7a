//! Routes on their way to the kernel.
//!
//! Whoever is told a route of a peer with our own address as next hop sends packets at once: it is told when felix has
//! put the prefix's first route into the kernel, and not before. A route in the place of one that is there waits for
//! nothing, since packets have a way meanwhile. Neither does what is told with somebody else's next hop; where that
//! becomes ours before the route is there, it is withdrawn until then.

use std::collections::BTreeSet;

use margay_net::FibChange;

use super::Routing;
use super::prefixes::{Marks, PrefixId};

/// What a batch is called where there is room for no more: its serial number's last octets. There is another batch of
/// that name only after millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct BatchName([u8; 3]);

impl BatchName {
    const MOST: u32 = (1 << 24) - 1;

    fn number(self) -> u32 {
        let BatchName([low, middle, high]) = self;
        u32::from_le_bytes([low, middle, high, 0])
    }

    fn of(serial: u64) -> BatchName {
        let [low, middle, high, ..] = serial.to_le_bytes();
        BatchName([low, middle, high])
    }
}

/// How far felix is, and what waits for it.
#[derive(Debug)]
pub(super) struct Installs {
    /// The serial number of the batch in the making.
    making: u64,
    /// Up to which batch all is in the kernel.
    applied: u64,
    /// By table: what some group is told of when the batch is in the kernel.
    held_back: [BTreeSet<(u64, PrefixId)>; 2],
}

impl Default for Installs {
    fn default() -> Installs {
        Installs { making: 1, applied: 0, held_back: Default::default() }
    }
}

impl Installs {
    /// Names the batch in the making.
    pub(super) fn making(&self) -> BatchName {
        BatchName::of(self.making)
    }

    /// Returns the batch of this name if it isn't in the kernel; `last` is the last one of all.
    fn under_way(&self, batch: BatchName, last: u64) -> Option<u64> {
        let before_last = BatchName::of(last).number().wrapping_sub(batch.number()) & BatchName::MOST;
        last.checked_sub(before_last.into()).filter(|&serial| serial > self.applied)
    }

    /// Returns the last batch that is told, or will be as it has something in it.
    pub(super) fn last(&self, making: &[FibChange]) -> u64 {
        self.making - u64::from(making.is_empty())
    }

    /// Whether something is held back that is in a batch up to `batch`.
    pub(super) fn holds_back(&self, at: usize, batch: u64) -> bool {
        self.held_back[at].first().is_some_and(|&(first, _)| first <= batch)
    }

    /// Whether something is in the kernel of which somebody has still to be told.
    pub(super) fn are_due(&self) -> bool {
        self.held_back.iter().filter_map(BTreeSet::first).any(|&(batch, _)| batch <= self.applied)
    }

    /// Takes at most so many prefixes that are not held back any more.
    fn take_due(&mut self, at: usize, most: usize, is_ready: impl Fn(PrefixId) -> bool) -> Vec<PrefixId> {
        let held_back = &mut self.held_back[at];
        let in_kernel = held_back.range(..=(self.applied, PrefixId::MAX)).take(most);
        let ready: Vec<(u64, PrefixId)> = in_kernel.copied().filter(|&(_, id)| is_ready(id)).collect();
        for held in &ready {
            held_back.remove(held);
        }
        // It may have waited for several batches.
        let mut due: Vec<PrefixId> = ready.into_iter().map(|(_, id)| id).collect();
        due.sort_unstable();
        due.dedup();
        due
    }
}

impl Routing {
    /// Takes the serial number of the batch that was made of what [`Routing::take_fib_changes`] returned.
    pub(crate) fn fib_told(&mut self, serial: u64) {
        self.installs.making = serial + 1;
    }

    /// Takes that felix has put all batches up to `serial` into the kernel.
    pub(crate) fn fib_applied(&mut self, serial: u64) {
        self.installs.applied = self.installs.applied.max(serial);
    }

    /// Returns the batch that puts a prefix's first route into the kernel, where it isn't there.
    pub(super) fn installing(&self, at: usize, id: PrefixId) -> Option<u64> {
        let entry = self.tables[at].prefixes.entry(id);
        entry.told_fib?;
        self.installs.under_way(entry.batch, self.installs.last(&self.fib_changes))
    }

    /// Has the groups told of a prefix again when a batch is in the kernel.
    pub(super) fn hold_back(&mut self, at: usize, id: PrefixId, batch: u64) {
        self.installs.held_back[at].insert((batch, id));
    }

    /// Returns what is not held back any more, marked as dirty, for the groups to be told of: a slice of the prefixes. What is
    /// dirty anyway has its turn then, and is held back until it had.
    pub(super) fn release_installed(&mut self, at: usize) -> Vec<PrefixId> {
        let prefixes = &mut self.tables[at].prefixes;
        // A number may have been given back meanwhile.
        let is_clean = |id| prefixes.find_entry(id).is_none_or(|entry| !entry.marks.has(Marks::DIRTY));
        let mut due = self.installs.take_due(at, self.slice, is_clean);
        due.retain(|&id| prefixes.has(id));
        for &id in &due {
            prefixes.entry_mut(id).marks.set(Marks::TOUCHED | Marks::DIRTY, true);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_under_way_from_its_making_until_it_is_in_the_kernel() {
        let installs = Installs { making: 1 << 24, applied: (1 << 24) - 10, ..Installs::default() };
        let under_way = |serial: u64, last| installs.under_way(BatchName::of(serial), last);
        for serial in (1 << 24) - 9..=1 << 24 {
            assert_eq!(under_way(serial, 1 << 24), Some(serial));
        }
        for serial in (1 << 24) - 1000..=(1 << 24) - 10 {
            assert_eq!(under_way(serial, 1 << 24), None, "{serial}");
        }
        assert_eq!(under_way(1 << 24, (1 << 24) - 1), None, "the batch in the making has nothing in it");
        assert_eq!(Installs::default().under_way(BatchName::default(), 0), None);
    }
}
