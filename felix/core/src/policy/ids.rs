use std::collections::{BTreeMap, BTreeSet};

/// Gives small numbers to contents: the same content keeps its number, and a number that is free is given again.
#[derive(Debug, Clone)]
pub(super) struct Ids<T> {
    known: BTreeMap<T, u32>,
    free: BTreeSet<u32>,
    next: u32,
}

impl<T> Default for Ids<T> {
    fn default() -> Self {
        Ids { known: BTreeMap::new(), free: BTreeSet::new(), next: 1 }
    }
}

impl<T: Ord + Clone> Ids<T> {
    /// Forgets what is not among `used`; its numbers can be given again once the tables without them are told.
    pub(super) fn retain(&mut self, used: &BTreeSet<T>) {
        let free = &mut self.free;
        self.known.retain(|content, id| {
            let keep = used.contains(content);
            if !keep {
                free.insert(*id);
            }
            keep
        });
    }

    /// The number of a content, never zero.
    pub(super) fn of(&mut self, content: &T) -> u32 {
        if let Some(id) = self.known.get(content) {
            return *id;
        }
        let id = self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.known.insert(content.clone(), id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_with_its_content_and_is_given_again_when_free() {
        let mut ids = Ids::default();
        assert_eq!((ids.of(&"a"), ids.of(&"b"), ids.of(&"a")), (1, 2, 1));
        ids.retain(&BTreeSet::from(["b"]));
        assert_eq!((ids.of(&"c"), ids.of(&"b")), (1, 2));
    }
}
