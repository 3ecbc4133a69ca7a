//! Update groups: peers that are told the same share one table of what they are told and the bytes that tell it.
//!
//! A route is not sent back to the peer that it came from. What a member was told is therefore the group's table but
//! for the prefixes whose path came from that member ([`super::prefixes::Entry::told_source`]), and but for what is
//! noted in its bitmaps. With ADD-PATH a table holds several paths of a prefix, each with its source.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use margay_net::{Cidr, Family};
use smallvec::SmallVec;

use super::add_path;
use super::as_path::AsPathRules;
use super::bitmap::Bitmap;
use super::export::ExportCache;
use super::prefixes::{PrefixId, Source};
use super::session::Answer;
use super::store::{AttributeId, AttributeStore};
use super::{DrainStage, PeerProfile, Routing, Table, index};
use crate::config::{AddPathSend, NextHopMode};
use crate::policy::Policy;

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
    pub(super) add_path: AddPathSend,
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
            add_path: profile.add_path_send.get(&family).copied().unwrap_or_default(),
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
    /// Some member may be behind: where none is, a change costs no walk over hundreds of members to find that out.
    pub(super) lags: bool,
}

/// What a member still has to be told.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Prefixes of its first table, of which it knows nothing yet.
    pub(super) initial: Bitmap,
    /// Prefixes that changed while it could take no more.
    pub(super) pending: Bitmap,
    /// Paths that it may know of these prefixes, by what they were called, and that are told no more.
    pub(super) gone: BTreeSet<(PrefixId, u32)>,
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

    /// Notes, with the prefix, that one of its several paths is to be taken back.
    pub(super) fn note_gone(&mut self, id: PrefixId, path_id: u32) {
        if path_id != 0 && !self.initial.contains(id) {
            self.gone.insert((id, path_id));
        }
    }
}

/// What is told of each prefix, by its number; attribute sets are held in the store.
#[derive(Debug)]
pub(super) enum Told {
    /// The best path, or nothing.
    Best(Vec<Option<AttributeId>>),
    /// Several paths (RFC 7911).
    Paths(Vec<ToldPaths>),
}

/// The paths of a prefix that are told, the best one first.
pub(super) type ToldPaths = SmallVec<[ToldPath; 1]>;

/// One of several paths of a prefix, as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ToldPath {
    /// What it is called towards the group; it stays as long as the path is told.
    pub(super) path_id: u32,
    pub(super) source: Source,
    /// What its source calls it.
    pub(super) received_id: u32,
    pub(super) attributes: AttributeId,
}

/// A route as a group is told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ToldRoute {
    /// 0 in a group that is told the best path alone.
    pub(super) path_id: u32,
    pub(super) attributes: AttributeId,
    /// Who isn't told it.
    pub(super) source: Source,
    pub(super) received_id: u32,
}

impl Told {
    fn new(add_path: AddPathSend) -> Told {
        if add_path == AddPathSend::None { Told::Best(Vec::new()) } else { Told::Paths(Vec::new()) }
    }

    /// Returns what is told of a prefix: of several paths, the best one's.
    pub(super) fn get(&self, id: PrefixId) -> Option<AttributeId> {
        match self {
            Told::Best(told) => told.get(id as usize).copied().flatten(),
            Told::Paths(_) => self.paths(id).first().map(|path| path.attributes),
        }
    }

    /// Returns the paths that are told of a prefix, in a group that is told several.
    pub(super) fn paths(&self, id: PrefixId) -> &[ToldPath] {
        match self {
            Told::Best(_) => &[],
            Told::Paths(told) => told.get(id as usize).map_or(&[], |paths| paths),
        }
    }

    /// Puts `attributes`, whose use goes over to the table, and ends the use of those before.
    pub(super) fn set(&mut self, id: PrefixId, attributes: Option<AttributeId>, store: &mut AttributeStore) {
        let Told::Best(told) = self else { return };
        let at = id as usize;
        if at >= told.len() {
            if attributes.is_none() {
                return;
            }
            told.resize(at + 1, None);
        }
        if let Some(before) = std::mem::replace(&mut told[at], attributes) {
            store.release(before);
        }
    }

    /// Puts several paths likewise.
    pub(super) fn set_paths(&mut self, id: PrefixId, paths: ToldPaths, store: &mut AttributeStore) {
        let Told::Paths(told) = self else { return };
        let at = id as usize;
        if at >= told.len() {
            if paths.is_empty() {
                return;
            }
            told.resize_with(at + 1, ToldPaths::new);
        }
        for before in std::mem::replace(&mut told[at], paths) {
            store.release(before.attributes);
        }
    }

    fn len(&self) -> usize {
        match self {
            Told::Best(told) => told.len(),
            Told::Paths(told) => told.len(),
        }
    }

    fn clear(&mut self, store: &mut AttributeStore) {
        match self {
            Told::Best(told) => {
                std::mem::take(told).into_iter().flatten().for_each(|attributes| store.release(attributes));
            }
            Told::Paths(told) => {
                std::mem::take(told).into_iter().flatten().for_each(|path| store.release(path.attributes));
            }
        }
    }
}

impl Group {
    /// Returns what is told of a prefix, the best path first.
    pub(super) fn routes_of(&self, table: &Table, id: PrefixId) -> SmallVec<[ToldRoute; 2]> {
        match &self.told {
            Told::Best(_) => {
                let source = table.prefixes.entry(id).told_source;
                let route = |attributes| ToldRoute { path_id: 0, attributes, source, received_id: 0 };
                self.told.get(id).map(route).into_iter().collect()
            }
            Told::Paths(_) => {
                let route = |path: &ToldPath| ToldRoute {
                    path_id: path.path_id,
                    attributes: path.attributes,
                    source: path.source,
                    received_id: path.received_id,
                };
                self.told.paths(id).iter().map(route).collect()
            }
        }
    }

    /// Returns all that is told, in the order of the prefixes' numbers.
    pub(super) fn routes<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = (PrefixId, ToldRoute)> + 'a {
        let ids = (0..self.told.len() as PrefixId).filter(|&id| self.told.get(id).is_some());
        ids.flat_map(move |id| self.routes_of(table, id).into_iter().map(move |route| (id, route)))
    }
}

impl Routing {
    /// Puts a peer into the groups of its families; it will be told the whole table.
    pub(super) fn join(&mut self, peer: usize) {
        self.settle();
        let Some(known) = self.peers.get(&peer) else { return };
        let Some(flow) = &known.flow else { return };
        for family in flow.families.clone() {
            let at = self.group_for(peer, family);
            let table = &self.tables[index(family)];
            let group = &table.groups[at];
            let mut initial = Bitmap::default();
            for (id, _) in group.routes(table).filter(|(_, route)| route.source != Source::peer(peer)) {
                initial.insert(id);
            }
            let member = Member { initial, end_of_rib_due: true, ..Member::default() };
            let group = &mut self.tables[index(family)].groups[at];
            group.members.insert(peer, member);
            group.lags = true;
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
                let [before, after] = [from, to].map(|at| table.groups[at].routes_of(table, id));
                if before != after {
                    let still = |route: &ToldRoute| after.iter().any(|other| other.path_id == route.path_id);
                    before.iter().filter(|route| !still(route)).for_each(|route| member.note_gone(id, route.path_id));
                    member.note(id);
                }
            }
            table.groups[to].members.insert(peer, member);
            table.groups[to].lags = true;
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
        let mut told = Told::new(key.add_path);
        for id in self.tables[at].prefixes.ids() {
            if key.add_path == AddPathSend::None {
                let attributes = self.export(at, id, &key, &mut cache);
                told.set(id, attributes, &mut self.store);
            } else {
                let mut paths = self.export_paths(at, id, &key, &mut cache);
                add_path::name_paths(&mut paths, &[]);
                told.set_paths(id, paths, &mut self.store);
            }
        }
        cache.clear(&mut self.store);
        self.tables[at].groups.insert(Group { key, told, members: BTreeMap::new(), end_of_rib: None, lags: false })
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
