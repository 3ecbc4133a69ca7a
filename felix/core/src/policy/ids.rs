//! Small numbers that name things in the kernel.

use std::collections::BTreeSet;

/// Hands out numbers from 1, the lowest free one first.
///
/// A released number rests until the next hand-over of changes: a packet that is judged while the kernel's tables
/// change must not meet a number in its old meaning in one map and in its new one in another.
#[derive(Debug, Default)]
pub(super) struct Ids {
    last: u32,
    free: BTreeSet<u32>,
    resting: Vec<u32>,
}

impl Ids {
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.last += 1;
            self.last
        })
    }

    pub(super) fn release(&mut self, id: u32) {
        self.resting.push(id);
    }

    /// Lets what was released before be taken again.
    pub(super) fn hand_over(&mut self) {
        self.free.extend(self.resting.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_number_comes_back_after_the_hand_over() {
        let mut ids = Ids::default();
        assert_eq!([ids.take(), ids.take(), ids.take()], [1, 2, 3]);
        ids.release(2);
        assert_eq!(ids.take(), 4);
        ids.hand_over();
        assert_eq!([ids.take(), ids.take()], [2, 5]);
    }
}
