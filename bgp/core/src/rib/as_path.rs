//! What becomes of AS_PATH on its way.

use margay_net::Asn;

use super::PeerProfile;
use crate::config::RemovePrivateAs;
use crate::wire::{AsPath, SegmentKind};

/// How the AS_PATH that peers are told differs from the one that the speaker has. An internal peer is told the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct AsPathRules {
    /// Put in front, the last one first.
    own: Vec<Asn>,
    /// The peer's number, where it is overridden.
    overridden: Option<Asn>,
    private: RemovePrivateAs,
    /// The peer's number, where it is private and others are removed.
    kept: Option<Asn>,
}

impl AsPathRules {
    /// `speaker`: its own number, which the peer sees only behind a local one, if at all.
    pub(super) fn of(profile: &PeerProfile, speaker: Asn) -> AsPathRules {
        if profile.ibgp {
            return AsPathRules::default();
        }
        let settings = &profile.settings;
        let peer = profile.asn;
        let behind = profile.prepends_local_as(speaker);
        AsPathRules {
            own: behind.then_some(speaker).into_iter().chain([profile.own_asn]).collect(),
            overridden: settings.as_override.then_some(peer),
            private: settings.remove_private_as,
            kept: (settings.remove_private_as != RemovePrivateAs::Keep && peer.is_private()).then_some(peer),
        }
    }

    /// Makes the changes that come before export policy.
    pub(super) fn clean(&self, path: &mut AsPath) {
        let Some(&own) = self.own.last() else { return };
        if self.private != RemovePrivateAs::Keep {
            *path = without_private(path, self.private, self.kept, own);
        }
        if let Some(peer) = self.overridden
            && path.contains(peer)
        {
            *path = overridden(path, peer, own);
        }
    }

    /// Puts the own numbers in front, after export policy.
    pub(super) fn sign(&self, path: &mut AsPath) {
        self.own.iter().for_each(|&own| path.prepend(own, 1));
    }
}

/// Whether there is a set of either kind (RFC 9774).
pub(super) fn has_set(path: &AsPath) -> bool {
    path.segments().any(|segment| matches!(segment.kind, SegmentKind::Set | SegmentKind::ConfedSet))
}

/// Puts `own` into the places of `peer`.
fn overridden(path: &AsPath, peer: Asn, own: Asn) -> AsPath {
    rewritten(path, |asn| Some(if asn == peer { own } else { asn }))
}

/// Treats private numbers, but for that of the peer, which it must see to notice its loops.
fn without_private(path: &AsPath, mode: RemovePrivateAs, peer: Option<Asn>, own: Asn) -> AsPath {
    rewritten(path, |asn| match mode {
        _ if !asn.is_private() || Some(asn) == peer => Some(asn),
        RemovePrivateAs::Keep => Some(asn),
        RemovePrivateAs::Remove => None,
        RemovePrivateAs::Replace => Some(own),
    })
}

fn rewritten(path: &AsPath, change: impl Fn(Asn) -> Option<Asn>) -> AsPath {
    let mut result = AsPath::default();
    for segment in path.segments() {
        let asns: Vec<Asn> = segment.asns.iter().filter_map(|&asn| change(asn)).collect();
        result.push(segment.kind, &asns);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> AsPath {
        let mut path = AsPath::sequence([65001, 3356, 64512, 65001].map(Asn));
        path.push(SegmentKind::Set, &[Asn(4_200_000_000), Asn(65534)]);
        path
    }

    #[test]
    fn private_numbers_go_or_are_replaced_and_the_peers_own_stays() {
        let after = |mode, peer| without_private(&path(), mode, Some(Asn(peer)), Asn(1)).to_string();
        assert_eq!(after(RemovePrivateAs::Keep, 9), path().to_string());
        assert_eq!(after(RemovePrivateAs::Remove, 9), "3356");
        assert_eq!(after(RemovePrivateAs::Remove, 65001), "65001 3356 65001");
        assert_eq!(after(RemovePrivateAs::Replace, 9), "1 3356 1 1 {1 1}");
    }

    #[test]
    fn the_ranges_are_those_of_rfc_6996() {
        let table = [
            (64511, false),
            (64512, true),
            (65534, true),
            (65535, false),
            (4_199_999_999, false),
            (4_200_000_000, true),
            (4_294_967_294, true),
            (4_294_967_295, false),
        ];
        for (asn, private) in table {
            let left = without_private(&AsPath::sequence([Asn(asn)]), RemovePrivateAs::Remove, None, Asn(2));
            assert_eq!(left.is_empty(), private, "{asn}");
        }
    }

    #[test]
    fn every_place_of_the_peer_is_overridden() {
        assert_eq!(overridden(&path(), Asn(65001), Asn(7)).to_string(), "7 3356 64512 7 {4200000000 65534}");
    }

    #[test]
    fn a_set_is_found_wherever_it_is() {
        assert!(has_set(&path()));
        assert!(!has_set(&AsPath::sequence([Asn(1), Asn(2)])));
    }
}
