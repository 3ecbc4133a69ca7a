//! Which paths of a peer belong together, by when they came.
//!
//! What happens to all paths that a peer has given (they are stale, they must come again, they go) happens to the
//! generations that they are of, at once and whatever their number. A path that comes later is of another generation, so
//! that nothing of this concerns it. The paths of a retired generation are taken out by a walk through the table
//! ([`super::walks`]); until then they are there in no one's eyes but felix's and the groups', who were told of them.

use smallvec::{SmallVec, smallvec};

use super::prefixes::{Path, Source};

/// Tells generations of one peer and family apart.
pub(super) type Generation = u8;

/// With so many generations of a peer its retired ones are swept at once.
const MANY: usize = 250;
/// With so many, a peer's announcement to send everything again (BoRR) is not heeded: it does nothing else.
const MOST_REFRESHES: usize = 200;

/// The generations of a family, by the peers' numbers.
#[derive(Debug, Default)]
pub(super) struct Generations {
    peers: Vec<OfPeer>,
    /// Paths of retired generations.
    retired: usize,
}

/// A peer's generations, the current one last.
#[derive(Debug)]
struct OfPeer(SmallVec<[Known; 1]>);

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    number: Generation,
    paths: u32,
    /// They are from before a restart of the peer (RFC 4724).
    stale: bool,
    /// They were not sent again since the peer began to refresh its routes (RFC 7313).
    unconfirmed: bool,
    retired: bool,
}

impl Default for OfPeer {
    fn default() -> OfPeer {
        OfPeer(smallvec![Known::default()])
    }
}

impl OfPeer {
    fn current(&self) -> Known {
        self.0.last().copied().unwrap_or_default()
    }

    fn find(&self, number: Generation) -> Option<&Known> {
        self.0.iter().rev().find(|known| known.number == number)
    }

    /// Has what comes from here on be of a generation of its own.
    fn begin(&mut self) {
        let before = self.current().number;
        self.0.retain(|known| known.paths > 0);
        let free = (1..=Generation::MAX).map(|step| before.wrapping_add(step)).find(|&free| self.find(free).is_none());
        self.0.push(Known { number: free.unwrap_or(before), ..Known::default() });
    }
}

impl Generations {
    fn of(&self, source: Source) -> Option<&OfPeer> {
        self.peers.get(source.as_peer()?)
    }

    fn of_mut(&mut self, peer: usize) -> &mut OfPeer {
        if peer >= self.peers.len() {
            self.peers.resize_with(peer + 1, OfPeer::default);
        }
        &mut self.peers[peer]
    }

    /// Returns the generation of what comes at present.
    pub(super) fn current(&self, peer: usize) -> Generation {
        self.peers.get(peer).map_or(0, |peer| peer.current().number)
    }

    /// Counts a path that came.
    pub(super) fn add(&mut self, path: &Path) {
        let Some(peer) = path.source.as_peer() else { return };
        let generations = &mut self.of_mut(peer).0;
        if let Some(known) = generations.iter_mut().rev().find(|known| known.number == path.generation) {
            known.paths += 1;
        }
    }

    /// Counts a path that went.
    pub(super) fn remove(&mut self, path: &Path) {
        let Some(peer) = path.source.as_peer() else { return };
        let OfPeer(generations) = self.of_mut(peer);
        let Some(at) = generations.iter().rposition(|known| known.number == path.generation) else { return };
        generations[at].paths -= 1;
        let retired = generations[at].retired;
        if generations[at].paths == 0 && at + 1 < generations.len() {
            generations.remove(at);
        }
        self.retired -= usize::from(retired);
    }

    fn known(&self, path: &Path) -> Known {
        self.of(path.source).and_then(|peer| peer.find(path.generation)).copied().unwrap_or_default()
    }

    pub(super) fn is_stale(&self, path: &Path) -> bool {
        self.known(path).stale
    }

    /// Whether a path is about to be taken out.
    pub(super) fn is_retired(&self, path: &Path) -> bool {
        self.retired > 0 && self.known(path).retired
    }

    /// Whether any path is about to be taken out.
    pub(super) fn has_retired(&self) -> bool {
        self.retired > 0
    }

    /// Whether two paths of a peer, apart from what else they are, count for the same.
    pub(super) fn are_alike(&self, one: &Path, other: &Path) -> bool {
        if one.generation == other.generation {
            return true;
        }
        let (one, other) = (self.known(one), self.known(other));
        !one.retired && !other.retired && one.stale == other.stale
    }

    /// Returns how many paths a peer has in the table.
    pub(super) fn paths(&self, peer: usize) -> u32 {
        let of = |peer: &OfPeer| peer.0.iter().filter(|known| !known.retired).map(|known| known.paths).sum();
        self.peers.get(peer).map_or(0, of)
    }

    /// Returns how many paths all peers have in the table.
    pub(super) fn all_paths(&self) -> usize {
        (0..self.peers.len()).map(|peer| self.paths(peer) as usize).sum()
    }

    /// Whether the retired generations of a peer must be swept before another one begins.
    pub(super) fn are_many(&self, peer: usize) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.0.len() >= MANY)
    }

    /// Has all paths of a peer be stale, but for those that were so already: they go. Returns how many are, and how many
    /// go.
    pub(super) fn mark_stale(&mut self, peer: usize) -> (usize, usize) {
        let gone = self.retire(peer, |known| known.stale);
        let peer = self.of_mut(peer);
        let mut marked = 0;
        for known in peer.0.iter_mut().filter(|known| !known.retired) {
            known.stale = true;
            marked += known.paths as usize;
        }
        peer.begin();
        (marked, gone)
    }

    /// Has all paths of a peer be unconfirmed.
    pub(super) fn begin_refresh(&mut self, peer: usize) {
        let peer = self.of_mut(peer);
        if peer.0.len() < MOST_REFRESHES {
            peer.0.iter_mut().for_each(|known| known.unconfirmed = true);
            peer.begin();
        }
    }

    /// Retires all paths of a peer, and returns how many they are.
    pub(super) fn retire_all(&mut self, peer: usize) -> usize {
        self.retire(peer, |_| true)
    }

    pub(super) fn retire_stale(&mut self, peer: usize) -> usize {
        self.retire(peer, |known| known.stale)
    }

    pub(super) fn retire_unconfirmed(&mut self, peer: usize) -> usize {
        self.retire(peer, |known| known.unconfirmed)
    }

    fn retire(&mut self, peer: usize, which: impl Fn(&Known) -> bool) -> usize {
        if peer >= self.peers.len() {
            return 0;
        }
        let peer = &mut self.peers[peer];
        let mut gone = 0;
        for known in peer.0.iter_mut().filter(|known| !known.retired && which(known)) {
            known.retired = true;
            gone += known.paths as usize;
        }
        if peer.current().retired {
            peer.begin();
        }
        self.retired += gone;
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::AttributeStore;
    use super::*;
    use crate::wire::Attributes;

    fn path(generation: Generation) -> Path {
        let attributes = AttributeStore::default().intern(Attributes::default());
        let source = Source::peer(3);
        Path { source, path_id: 0, received: attributes, attributes, generation, rejected: None }
    }

    #[test]
    fn what_comes_after_a_change_of_all_paths_is_not_concerned() {
        let mut generations = Generations::default();
        let first = path(generations.current(3));
        generations.add(&first);
        assert_eq!(generations.mark_stale(3), (1, 0));
        let second = path(generations.current(3));
        generations.add(&second);
        assert!(generations.is_stale(&first) && !generations.is_stale(&second));
        assert!(!generations.are_alike(&first, &second));
        assert_eq!((generations.paths(3), generations.retire_stale(3), generations.paths(3)), (2, 1, 1));
        assert!(generations.is_retired(&first) && !generations.is_retired(&second));
        generations.begin_refresh(3);
        assert_eq!(generations.retire_unconfirmed(3), 1);
        assert_eq!((generations.paths(3), generations.retired), (0, 2));
        generations.remove(&first);
        generations.remove(&second);
        assert!(!generations.has_retired() && generations.peers[3].0.len() == 1);
    }

    #[test]
    fn numbers_are_given_anew_and_never_twice_at_a_time() {
        let mut generations = Generations::default();
        let kept = path(generations.current(3));
        generations.add(&kept);
        for _ in 0..1000 {
            generations.begin_refresh(3);
            let passing = path(generations.current(3));
            assert_ne!(passing.generation, kept.generation);
            generations.add(&passing);
            generations.remove(&passing);
        }
        for _ in 0..1000 {
            generations.begin_refresh(3);
            generations.add(&path(generations.current(3)));
        }
        assert_eq!(generations.paths(3), 1001);
        assert!(generations.peers[3].0.len() <= MOST_REFRESHES);
    }
}
