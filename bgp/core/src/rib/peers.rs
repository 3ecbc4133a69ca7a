use std::ops::Index;

use super::RoutePeer;

/// The peers that the tables know, by their numbers, which are small.
#[derive(Debug, Default)]
pub(super) struct Peers(Vec<Option<RoutePeer>>);

impl Peers {
    pub(super) fn insert(&mut self, peer: usize, known: RoutePeer) {
        if peer >= self.0.len() {
            self.0.resize_with(peer + 1, || None);
        }
        self.0[peer] = Some(known);
    }

    pub(super) fn remove(&mut self, peer: &usize) {
        if let Some(known) = self.0.get_mut(*peer) {
            *known = None;
        }
    }

    pub(super) fn get(&self, peer: &usize) -> Option<&RoutePeer> {
        self.0.get(*peer)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, peer: &usize) -> Option<&mut RoutePeer> {
        self.0.get_mut(*peer)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &RoutePeer)> {
        self.0.iter().enumerate().filter_map(|(peer, known)| Some((peer, known.as_ref()?)))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = usize> {
        self.iter().map(|(peer, _)| peer)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &RoutePeer> {
        self.iter().map(|(_, known)| known)
    }
}

impl Index<&usize> for Peers {
    type Output = RoutePeer;

    fn index(&self, peer: &usize) -> &RoutePeer {
        self.get(peer).expect("a peer that is in use")
    }
}
