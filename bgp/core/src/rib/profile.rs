//! Settings of a peer that are in force on the running session.

use std::sync::Arc;

use margay_net::Asn;

use super::{PeerProfile, Routing};
use crate::config::{LocalAsMode, OwnershipCheck, PeerConfig, RemovePrivateAs};
use crate::ownership::Announcer;

/// What a peer's configuration says on what is taken from it and told to it, beside the policies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RouteSettings {
    pub(crate) local_as_mode: LocalAsMode,
    pub(crate) as_override: bool,
    pub(crate) remove_private_as: RemovePrivateAs,
    pub(crate) enforce_first_as: bool,
    pub(crate) honour_graceful_shutdown: bool,
    pub(crate) honour_blackhole: bool,
    pub(crate) ownership: OwnershipCheck,
    pub(crate) multihop: bool,
}

impl RouteSettings {
    pub(crate) fn of(config: &PeerConfig) -> RouteSettings {
        RouteSettings {
            local_as_mode: config.local_as_mode,
            as_override: config.as_override,
            remove_private_as: config.remove_private_as,
            enforce_first_as: config.enforce_first_as,
            honour_graceful_shutdown: config.honour_graceful_shutdown,
            honour_blackhole: config.honour_blackhole,
            ownership: config.ownership,
            multihop: config.multihop || config.ttl_security.is_some_and(|hops| hops > 1),
        }
    }
}

impl PeerProfile {
    /// Takes over what is decided by settings that need no new session.
    pub(crate) fn set_live(&mut self, config: &PeerConfig) {
        self.import = config.import.clone().into();
        self.export = config.export.clone().into();
        self.allow_own_as = config.allow_own_as;
        self.next_hop = config.next_hop;
        self.settings = RouteSettings::of(config);
    }

    /// Whether what comes from the peer gets the local AS number in front, as the peer gets the speaker's number behind it.
    pub(super) fn prepends_local_as(&self, speaker: Asn) -> bool {
        !self.ibgp && self.settings.local_as_mode == LocalAsMode::Prepend && self.own_asn != speaker
    }

    /// Whether it is an external peer one hop away: its next hops are on the link that it is on (RFC 4271 section 5.1.3).
    pub(super) fn next_hops_on_link(&self) -> bool {
        !self.ibgp && !self.settings.multihop
    }

    /// Returns who announces what comes from the peer.
    pub(super) fn announcer(&self) -> Announcer {
        Announcer { check: self.settings.ownership, address: self.remote }
    }

    /// Whether the same routes of the peer are taken, and with the same attributes.
    fn imports_like(&self, other: &PeerProfile) -> bool {
        self.import == other.import
            && self.allow_own_as == other.allow_own_as
            && self.settings.local_as_mode == other.settings.local_as_mode
            && self.settings.enforce_first_as == other.settings.enforce_first_as
            && self.settings.honour_graceful_shutdown == other.settings.honour_graceful_shutdown
            && self.settings.ownership == other.settings.ownership
    }
}

impl Routing {
    /// Applies settings that don't need a new session.
    pub(crate) fn reconfigure_peer(&mut self, peer: usize, change: impl FnOnce(&mut PeerProfile)) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let before = known.profile.clone();
        change(Arc::make_mut(&mut known.profile));
        self.share_policies(peer);
        let after = self.peers[&peer].profile.clone();
        if !before.imports_like(&after) {
            self.import_again(peer);
        }
        if before.settings.honour_blackhole != after.settings.honour_blackhole {
            self.mark_paths_of(peer);
        }
        self.move_groups(peer);
    }

    /// Has a peer use the policies that another peer has, where they are equal: hundreds of peers often have one long
    /// list in common.
    pub(super) fn share_policies(&mut self, peer: usize) {
        let Some(profile) = self.peers.get(&peer).map(|known| known.profile.clone()) else { return };
        let others = || self.peers.iter().filter(|&(other, _)| other != peer).map(|(_, other)| &other.profile);
        let import = others().map(|other| &other.import).find(|&import| *import == profile.import).cloned();
        let export = others().map(|other| &other.export).find(|&export| *export == profile.export).cloned();
        if let Some(known) = self.peers.get_mut(&peer) {
            let profile = Arc::make_mut(&mut known.profile);
            profile.import = import.unwrap_or_else(|| profile.import.clone());
            profile.export = export.unwrap_or_else(|| profile.export.clone());
        }
    }
}
