//! Update groups: peers that are told the same share one table of what they are told and the bytes that tell it.
//!
//! A route is not sent back to the peer that it came from. What a member was told is therefore the group's table but
//! for the prefixes whose path came from that member ([`super::prefixes::Entry::told_source`]), and but for what is
//! noted in its bitmaps.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::as_path::AsPathRules;
use super::bitmap::Bitmap;
use super::export::ExportCache;
use super::prefixes::{PrefixId, Source};
use super::session::Answer;
use super::store::{AttributeId, AttributeStore};
use super::{DrainStage, PeerProfile, Routing, Table, index};
use crate::config::NextHopMode;
use crate::policy::Policy;
use margay_net::{Cidr, Family};

/// All that decides what a peer is told, and in which bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GroupKey {
    pub(super) ibgp: bool,
    pub(super) client: bool,
    pub(super) self_next_hop: Option<IpAddr>,
    pub(super) next_hop: NextHopMode,
    pub(super) four_octet: bool,
    pub(super) export: Arc<Policy>,
    pub(super) drain: DrainStage,
    pub(super) as_path: AsPathRules,
    /// The connected prefix that external peers one hop away are in.
    pub(super) shared_subnet: Option<Cidr>,
}

impl GroupKey {
    fn of(profile: &PeerProfile, family: Family, routing: &Routing) -> GroupKey {
        GroupKey {
            ibgp: profile.ibgp,
            client: profile.client,
            self_next_hop: profile.self_next_hop.get(&family).copied(),
            next_hop: profile.next_hop,
            four_octet: profile.four_octet,
            export: profile.export.clone(),
            drain: profile.drain,
            as_path: AsPathRules::of(profile, routing.config.asn),
            shared_subnet: routing.shared_subnet(profile, family),
        }
    }
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    /// What is told, by prefix.
    pub(super) told: Told,
    pub(super) members: BTreeMap<usize, Member>,
    pub(super) end_of_rib: Option<Bytes>,
}

/// What a member still has to be told.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Prefixes of its first table, of which it knows nothing yet.
    pub(super) initial: Bitmap,
    /// Prefixes that changed while it could take no more.
    pub(super) pending: Bitmap,
    pub(super) end_of_rib_due: bool,
    /// To its request for the table.
    pub(super) answer: Answer,
}

impl Member {
    pub(super) fn is_behind(&self) -> bool {
        !self.initial.is_empty() || !self.pending.is_empty() || self.end_of_rib_due || self.answer == Answer::Running
    }

    /// Notes a prefix to be told later.
    pub(super) fn note(&mut self, id: PrefixId) {
        if !self.initial.contains(id) {
            self.pending.insert(id);
        }
    }
}

/// An array over prefixes of attribute sets, each of which is held in the store.
#[derive(Debug, Default)]
pub(super) struct Told(Vec<Option<AttributeId>>);

impl Told {
    pub(super) fn get(&self, id: PrefixId) -> Option<AttributeId> {
        self.0.get(id as usize).copied().flatten()
    }

    /// Puts `attributes`, whose use goes over to the table, and ends the use of those before.
    pub(super) fn set(&mut self, id: PrefixId, attributes: Option<AttributeId>, store: &mut AttributeStore) {
        let at = id as usize;
        if at >= self.0.len() {
            if attributes.is_none() {
                return;
            }
            self.0.resize(at + 1, None);
        }
        if let Some(before) = std::mem::replace(&mut self.0[at], attributes) {
            store.release(before);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PrefixId, AttributeId)> + '_ {
        self.0.iter().enumerate().filter_map(|(id, attributes)| Some((id as PrefixId, (*attributes)?)))
    }

    fn clear(&mut self, store: &mut AttributeStore) {
        for attributes in std::mem::take(&mut self.0).into_iter().flatten() {
            store.release(attributes);
        }
    }
}

impl Routing {
    /// Puts a peer into the groups of its families; it will be told the whole table.
    pub(super) fn join(&mut self, peer: usize) {
        self.settle();
        let Some(known) = self.peers.get(&peer) else { return };
        let Some(flow) = &known.flow else { return };
        for family in flow.families.clone() {
            let group = self.group_for(peer, family);
            let table = &mut self.tables[index(family)];
            let group = &mut table.groups[group];
            let mut member = Member { end_of_rib_due: true, ..Member::default() };
            for (id, _) in group.told.iter() {
                if table.prefixes.entry(id).told_source != Source::peer(peer) {
                    member.initial.insert(id);
                }
            }
            group.members.insert(peer, member);
        }
    }

    /// Takes a peer out of its groups.
    pub(super) fn leave(&mut self, peer: usize) {
        for table in &mut self.tables {
            for (_, group) in &mut table.groups {
                group.members.remove(&peer);
            }
            table.drop_empty_groups(&mut self.store);
        }
    }

    /// Moves a peer to the groups that its settings ask for; it will be told the difference.
    pub(super) fn move_groups(&mut self, peer: usize) {
        self.settle();
        for family in Family::ALL {
            let table = &self.tables[index(family)];
            let Some(from) =
                table.groups.iter().find_map(|(at, group)| group.members.contains_key(&peer).then_some(at))
            else {
                continue;
            };
            let to = self.group_for(peer, family);
            let table = &mut self.tables[index(family)];
            if from == to {
                continue;
            }
            let Some(mut member) = table.groups[from].members.remove(&peer) else { continue };
            for id in table.prefixes.ids() {
                if table.groups[from].told.get(id) != table.groups[to].told.get(id) {
                    member.note(id);
                }
            }
            table.groups[to].members.insert(peer, member);
            table.drop_empty_groups(&mut self.store);
        }
    }

    /// Returns the group that a peer belongs to, with its table made if it is new.
    fn group_for(&mut self, peer: usize, family: Family) -> usize {
        let key = GroupKey::of(&self.peers[&peer].profile, family, self);
        let at = index(family);
        if let Some((found, _)) = self.tables[at].groups.iter().find(|(_, group)| group.key == key) {
            return found;
        }
        let mut cache = ExportCache::default();
        let mut told = Told::default();
        for id in self.tables[at].prefixes.ids() {
            let attributes = self.export(at, id, &key, &mut cache);
            told.set(id, attributes, &mut self.store);
        }
        cache.clear(&mut self.store);
        self.tables[at].groups.insert(Group { key, told, members: BTreeMap::new(), end_of_rib: None })
    }
}

impl Table {
    fn drop_empty_groups(&mut self, store: &mut AttributeStore) {
        self.groups.retain(|_, group| {
            let used = !group.members.is_empty();
            if !used {
                group.told.clear(store);
            }
            used
        });
    }
}
