//! Several paths of a prefix for a group (RFC 7911): which ones, and what they are called.

use smallvec::SmallVec;

use super::Routing;
use super::decision::{Candidate, decide};
use super::export::ExportCache;
use super::groups::{GroupKey, ToldPath, ToldPaths};
use super::prefixes::{Entry, Path, PrefixId};
use crate::config::AddPathSend;

impl Routing {
    /// Returns what a group is told of the paths of a prefix, the best one first, counted as used and still without
    /// names.
    pub(super) fn export_paths(
        &mut self,
        at: usize,
        id: PrefixId,
        group: &GroupKey,
        cache: &mut ExportCache,
    ) -> ToldPaths {
        let mut told = ToldPaths::new();
        for path in self.chosen(self.tables[at].prefixes.entry(id), group.add_path) {
            if let Some(attributes) = self.export_path(at, id, path, group, cache) {
                told.push(ToldPath { path_id: 0, source: path.source, received_id: path.path_id, attributes });
            }
        }
        told
    }

    /// Returns the usable paths of a prefix that `which` asks for, the best one first.
    pub(super) fn chosen(&self, entry: &Entry, which: AddPathSend) -> SmallVec<[Path; 4]> {
        let Some(outcome) = self.choose(entry) else { return SmallVec::new() };
        let path = |at: u16| entry.paths[usize::from(at)];
        let others = outcome.usable.iter().copied().filter(|&at| at != outcome.best);
        let most = match which {
            AddPathSend::None => 1,
            AddPathSend::Best(most) => usize::from(most),
            AddPathSend::All => usize::MAX,
        };
        let mut chosen: SmallVec<[Path; 4]> = SmallVec::from_slice(&[path(outcome.best)]);
        if outcome.usable.len() <= most {
            chosen.extend(others.map(path));
            return chosen;
        }
        // The next best one is what the decision process makes of the others, MED and all.
        let mut left: SmallVec<[u16; 8]> = others.collect();
        let mut candidates: SmallVec<[Candidate; 8]> = left.iter().map(|&at| self.candidate(&path(at))).collect();
        while chosen.len() < most
            && let Some(next) = decide(&candidates, &self.rules(), None)
        {
            candidates.remove(next.best);
            chosen.push(path(left.remove(next.best)));
        }
        chosen.truncate(most);
        chosen
    }
}

/// Gives each path a name that no other one of its prefix has: the one that it has in `before`, else the least that is
/// free.
pub(super) fn name_paths(paths: &mut [ToldPath], before: &[ToldPath]) {
    for path in &mut *paths {
        let known = before.iter().find(|known| (known.source, known.received_id) == (path.source, path.received_id));
        path.path_id = known.map_or(0, |known| known.path_id);
    }
    let mut free = 1;
    for at in 0..paths.len() {
        if paths[at].path_id == 0 {
            while paths.iter().any(|path| path.path_id == free) {
                free += 1;
            }
            paths[at].path_id = free;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::prefixes::Source;
    use super::super::store::AttributeStore;
    use super::*;
    use crate::wire::Attributes;

    #[test]
    fn a_path_keeps_its_name_and_a_new_one_takes_the_least_that_is_free() {
        let attributes = AttributeStore::default().intern(Attributes::default());
        let path = |peer, received_id| ToldPath { path_id: 0, source: Source::peer(peer), received_id, attributes };
        let mut before = [path(1, 0), path(2, 7), path(2, 8)];
        name_paths(&mut before, &[]);
        assert_eq!(before.map(|path| path.path_id), [1, 2, 3]);
        let mut after = [path(3, 0), path(2, 8), path(4, 0), path(1, 0), path(5, 0)];
        name_paths(&mut after, &before);
        assert_eq!(after.map(|path| path.path_id), [2, 3, 4, 1, 5]);
    }
}
