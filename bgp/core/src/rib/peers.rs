use std::ops::Index;

use super::RoutePeer;

/// The peers that the tables know, by their numbers, which are small: a map whose look-up is that of an array.
#[derive(Debug, Default)]
pub(super) struct Peers(Vec<Option<(usize, RoutePeer)>>);

impl Peers {
    pub(super) fn insert(&mut self, peer: usize, known: RoutePeer) {
        if peer >= self.0.len() {
            self.0.resize_with(peer + 1, || None);
        }
        self.0[peer] = Some((peer, known));
    }

    pub(super) fn remove(&mut self, peer: &usize) {
        if let Some(known) = self.0.get_mut(*peer) {
            *known = None;
        }
    }

    pub(super) fn get(&self, peer: &usize) -> Option<&RoutePeer> {
        self.0.get(*peer)?.as_ref().map(|(_, known)| known)
    }

    pub(super) fn get_mut(&mut self, peer: &usize) -> Option<&mut RoutePeer> {
        self.0.get_mut(*peer)?.as_mut().map(|(_, known)| known)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &usize> {
        self.0.iter().flatten().map(|(peer, _)| peer)
    }
}

impl Index<&usize> for Peers {
    type Output = RoutePeer;

    fn index(&self, peer: &usize) -> &RoutePeer {
        self.get(peer).expect("a peer that is in use")
    }
}
