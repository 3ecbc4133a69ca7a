use std::ops::{Deref, DerefMut};

use super::prefixes::Path;

/// The paths of a prefix, in no more room than they need: one without an allocation, several in one of their size.
#[derive(Debug, Clone)]
pub(crate) enum Paths {
    One(Path),
    /// None, or more than one.
    Many(Box<[Path]>),
}

impl Default for Paths {
    fn default() -> Paths {
        Paths::Many(Box::default())
    }
}

impl Paths {
    /// Puts a path before the one at `at`, which is at most the number of paths.
    pub(crate) fn insert(&mut self, at: usize, path: Path) {
        *self = match std::mem::take(self) {
            Paths::Many(none) if none.is_empty() => Paths::One(path),
            Paths::One(only) => Paths::Many(Box::new(if at == 0 { [path, only] } else { [only, path] })),
            Paths::Many(known) => {
                let mut paths = Vec::with_capacity(known.len() + 1);
                paths.extend_from_slice(&known[..at]);
                paths.push(path);
                paths.extend_from_slice(&known[at..]);
                Paths::Many(paths.into_boxed_slice())
            }
        };
    }

    /// Takes out the path at `at`, which there is.
    pub(crate) fn remove(&mut self, at: usize) -> Path {
        let path = self[at];
        let others: Vec<Path> =
            self.iter().enumerate().filter(|&(index, _)| index != at).map(|(_, path)| *path).collect();
        *self = match others[..] {
            [only] => Paths::One(only),
            _ => Paths::Many(others.into_boxed_slice()),
        };
        path
    }
}

impl Deref for Paths {
    type Target = [Path];

    fn deref(&self) -> &[Path] {
        match self {
            Paths::One(path) => std::slice::from_ref(path),
            Paths::Many(paths) => paths,
        }
    }
}

impl DerefMut for Paths {
    fn deref_mut(&mut self) -> &mut [Path] {
        match self {
            Paths::One(path) => std::slice::from_mut(path),
            Paths::Many(paths) => paths,
        }
    }
}

impl<'a> IntoIterator for &'a Paths {
    type Item = &'a Path;
    type IntoIter = std::slice::Iter<'a, Path>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Paths {
    type Item = &'a mut Path;
    type IntoIter = std::slice::IterMut<'a, Path>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::super::prefixes::Source;
    use super::super::store::AttributeStore;
    use super::*;
    use crate::wire::Attributes;

    #[test]
    fn paths_come_and_go_in_their_places() {
        let attributes = AttributeStore::default().intern(Attributes::default());
        let path = |peer| Path {
            source: Source::peer(peer),
            path_id: 0,
            received: attributes,
            attributes,
            generation: 0,
            rejected: None,
        };
        let mut paths = Paths::default();
        let mut model: Vec<usize> = Vec::new();
        for (at, peer) in [(0, 1), (0, 2), (1, 3), (3, 4), (2, 5)] {
            paths.insert(at, path(peer));
            model.insert(at, peer);
            assert_eq!(paths.iter().filter_map(|path| path.source.as_peer()).collect::<Vec<_>>(), model);
        }
        for at in [4, 0, 1, 1, 0] {
            assert_eq!(paths.remove(at).source.as_peer(), Some(model.remove(at)));
            assert_eq!(paths.iter().filter_map(|path| path.source.as_peer()).collect::<Vec<_>>(), model);
        }
        assert!(paths.is_empty());
    }
}
