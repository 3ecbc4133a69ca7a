//! The well-known communities that keep a route from peers, or from traffic.

use margay_net::Cidr;

use super::Routing;
use super::groups::GroupKey;
use super::prefixes::Path;
use crate::wire::{Attributes, Community};

/// Returns the community of a route that keeps it from a group.
///
/// NO_EXPORT and NO_EXPORT_SUBCONFED are the same without confederations (RFC 1997). NO_PEER (RFC 3765) is for bilateral
/// peers as opposed to those that sell or buy transit. Nothing tells the speaker which external peer is which, so each
/// counts as bilateral: who asks for less spread gets it, at worst more so than meant.
pub(super) fn barrier(attributes: &Attributes, group: &GroupKey, discards: bool) -> Option<Community> {
    let bars = |community: &Community| match *community {
        Community::NO_ADVERTISE => true,
        Community::NO_EXPORT | Community::NO_EXPORT_SUBCONFED | Community::NO_PEER => !group.ibgp,
        Community::BLACKHOLE => discards && !group.ibgp,
        _ => false,
    };
    attributes.communities.iter().copied().find(bars)
}

/// Returns the name of a community that [`barrier`] knows, as in IANA's registry but for the case.
pub(super) fn name(community: Community) -> String {
    match community {
        Community::NO_ADVERTISE => "no-advertise".to_owned(),
        Community::NO_EXPORT => "no-export".to_owned(),
        Community::NO_EXPORT_SUBCONFED => "no-export-subconfed".to_owned(),
        Community::NO_PEER => "no-peer".to_owned(),
        Community::BLACKHOLE => "blackhole".to_owned(),
        other => other.to_string(),
    }
}

impl Routing {
    /// Whether packets that a path attracts are discarded (RFC 7999): a host route with BLACKHOLE of a peer for which that
    /// is honoured.
    pub(super) fn discards(&self, prefix: Cidr, path: &Path) -> bool {
        let giver = path.source.as_peer().and_then(|peer| self.peers.get(&peer));
        prefix.is_host()
            && giver.is_some_and(|giver| giver.profile.settings.honour_blackhole)
            && self.store.get(path.attributes).communities.contains(&Community::BLACKHOLE)
    }
}
