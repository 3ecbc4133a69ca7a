//! What sessions ask of the tables: route refresh in both directions (RFC 2918, RFC 7313), counts.

use std::collections::BTreeSet;

use margay_net::Family;

use super::groups::{Group, Told, ToldPaths};
use super::prefixes::Source;
use super::{DrainStage, Routing, index};
use crate::wire::{self, RefreshSubtype, RouteRefresh};

/// Where the answer to a member's request for the table is, where it is marked off (RFC 7313 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Answer {
    #[default]
    None,
    /// It begins after End-of-RIB, before which BoRR must not be sent.
    Due,
    /// BoRR is sent, EoRR follows what is noted.
    Running,
}

impl Routing {
    /// Returns how many paths of a family a peer has announced, before policy.
    pub(crate) fn received_count(&self, peer: usize, family: Family) -> u32 {
        self.tables[index(family)].generations.paths(peer)
    }

    /// Returns the families in which an established peer sends several paths of a prefix, and those in which it is sent
    /// several.
    pub(crate) fn add_path(&self, peer: usize) -> (BTreeSet<Family>, BTreeSet<Family>) {
        self.peers.get(&peer).filter(|peer| peer.flow.is_some()).map_or_else(Default::default, |peer| {
            let profile = &peer.profile;
            (profile.add_path_receive.clone(), profile.add_path_send.keys().copied().collect())
        })
    }

    pub(crate) fn set_drain(&mut self, peer: usize, stage: DrainStage) {
        self.reconfigure_peer(peer, |profile| profile.drain = stage);
    }

    /// A peer is sent the whole table of a family again, marked off where `marked`.
    pub(crate) fn answer_refresh(&mut self, peer: usize, family: Family, marked: bool) {
        let at = index(family);
        let mut groups = std::mem::take(&mut self.tables[at].groups);
        if let Some((_, group)) = groups.iter_mut().find(|(_, group)| group.members.contains_key(&peer)) {
            group.lags = true;
            if marked {
                if let Some(member) = group.members.get_mut(&peer) {
                    member.answer = Answer::Due;
                }
                self.go_on_with_answer(at, group, peer);
            } else {
                self.note_table(at, group, peer);
            }
        }
        self.tables[at].groups = groups;
    }

    /// Begins an answer that is due once End-of-RIB is out, and ends one of which all is sent.
    pub(super) fn go_on_with_answer(&mut self, at: usize, group: &mut Group, peer: usize) {
        let Some(member) = group.members.get_mut(&peer) else { return };
        let family = self.tables[at].family;
        let marker = |subtype| wire::encode_route_refresh(RouteRefresh { family: family.into(), subtype });
        match member.answer {
            Answer::Due if member.end_of_rib_after.is_none() => {
                member.answer = Answer::Running;
                self.send(peer, marker(RefreshSubtype::Beginning), 1);
                self.note_table(at, group, peer);
            }
            Answer::Running if member.initial.is_empty() && member.pending.is_empty() => {
                member.answer = Answer::None;
                self.send(peer, marker(RefreshSubtype::End), 1);
            }
            _ => {}
        }
    }

    /// Notes all that a member is told.
    fn note_table(&self, at: usize, group: &mut Group, peer: usize) {
        let source = Source::peer(peer);
        let prefixes = &self.tables[at].prefixes;
        let Some(member) = group.members.get_mut(&peer) else { return };
        match &group.told {
            Told::Best(told) => {
                let told = told.iter().zip(0..).filter_map(|(told, id)| told.map(|_| id));
                told.filter(|&id| prefixes.entry(id).told_source != source).for_each(|id| member.note(id));
            }
            Told::Paths(told) => {
                let others = |paths: &ToldPaths| paths.iter().any(|path| path.source != source);
                told.iter().zip(0..).filter(|(paths, _)| others(paths)).for_each(|(_, id)| member.note(id));
            }
        }
    }

    /// The peer begins to send its routes of a family again (BoRR): what it has announced must come again.
    pub(crate) fn begin_refresh(&mut self, peer: usize, family: Family) {
        self.ready_to_retire(peer, family).generations.begin_refresh(peer);
    }

    /// The peer has sent its routes again (EoRR): what did not come is removed. Returns how much that is.
    pub(crate) fn end_refresh(&mut self, peer: usize, family: Family) -> usize {
        let table = self.ready_to_retire(peer, family);
        let removed = table.generations.retire_unconfirmed(peer);
        table.sweep_soon();
        removed
    }
}
