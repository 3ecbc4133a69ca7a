//! Peers made from listen ranges when they connect.

use std::net::IpAddr;

use margay_net::{Asn, Now};

use super::Speaker;
use crate::config::{ListenRange, PeerConfig, PeerName, SpeakerConfig};
use crate::session::Peer;
use crate::view::FsmState;

impl Speaker {
    /// Makes a peer for a stranger whose address is in a range; the error says why there is none.
    pub(super) fn make_dynamic(&mut self, remote: IpAddr, now: Now) -> Result<usize, String> {
        let nobody = || "no peer has this address".to_owned();
        let config = self.config.as_ref().ok_or_else(nobody)?;
        let (range, settings) = range_of(config, remote).ok_or_else(nobody)?;
        let range = range.clone();
        let of_range = self.peers.iter().filter(|(_, peer)| peer.range.as_ref() == Some(&range)).count();
        if of_range >= settings.limit {
            return Err(format!("listen range '{range}' has its limit of {} peers", settings.limit));
        }
        let name = PeerName::new(format!("{range}-{remote}"));
        if self.names.contains_key(&name) {
            return Err(format!("a peer with the name '{name}' is configured"));
        }
        let mut peer = Peer::new(name.clone(), peer_config(settings, remote), now);
        peer.range = Some(range);
        let index = self.peers.insert(peer);
        self.names.insert(name, index);
        self.bfd_changed = true;
        Ok(index)
    }

    /// Returns what a peer of a range is to be after a change of configuration; `None`: it goes.
    pub(super) fn dynamic_config(&self, peer: usize, config: &SpeakerConfig) -> Option<PeerConfig> {
        let known = &self.peers[peer];
        let remote = known.config.remote;
        let (range, settings) = range_of(config, remote)?;
        let configured =
            config.peers.contains_key(&known.name) || config.peers.values().any(|peer| peer.remote == remote);
        if configured || known.range.as_ref() != Some(range) {
            return None;
        }
        let wanted = PeerConfig { asn: known.config.asn, ..peer_config(settings, remote) };
        accepts(settings, wanted.asn).then_some(wanted)
    }

    /// Notes the AS number that a peer of a range names in its OPEN, where the range allows it.
    pub(super) fn learn_asn(&mut self, peer: usize, asn: Asn) {
        let known = &self.peers[peer];
        let Some(config) = &self.config else { return };
        let Some(range) = known.range.as_ref().and_then(|range| config.listen_ranges.get(range)) else { return };
        if accepts(range, asn) && known.primary.state != FsmState::Established && known.retained.is_none() {
            self.peers[peer].config.asn = asn;
        }
    }

    /// Removes peers of ranges that have neither a connection nor routes.
    pub(super) fn remove_departed(&mut self, now: Now) {
        if !std::mem::take(&mut self.dynamic_changed) {
            return;
        }
        let departed = |peer: &&usize| {
            let peer = &self.peers[**peer];
            let idle = peer.rival.is_none() && peer.primary.state <= FsmState::Active;
            peer.range.is_some() && idle && peer.retained.is_none() && peer.hold.is_none()
        };
        let departed: Vec<usize> = self.names.values().filter(departed).copied().collect();
        for peer in departed {
            let name = self.peers[peer].name.clone();
            self.remove_peer(&name, now);
        }
    }
}

/// Finds the range with the longest prefix that has an address.
pub(super) fn range_of(config: &SpeakerConfig, remote: IpAddr) -> Option<(&PeerName, &ListenRange)> {
    let has = |(_, range): &(&PeerName, &ListenRange)| range.template.admin_up && range.prefix.contains(remote);
    config.listen_ranges.iter().filter(has).max_by_key(|(_, range)| range.prefix.len())
}

fn accepts(range: &ListenRange, asn: Asn) -> bool {
    if range.asns.is_empty() { range.template.asn == asn } else { range.asns.contains(&asn) }
}

fn peer_config(range: &ListenRange, remote: IpAddr) -> PeerConfig {
    let asn = if accepts(range, range.template.asn) {
        range.template.asn
    } else {
        range.asns.first().copied().unwrap_or(range.template.asn)
    };
    PeerConfig { remote, asn, passive: true, ..range.template.clone() }
}
