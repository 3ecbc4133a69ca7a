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

use super::as_path::AsPathRules;
use super::bitmap::Bitmap;
use super::prefixes::{PrefixId, Source};
use super::session::Answer;
use super::store::{AttributeId, AttributeStore};
use super::walks::Task;
use super::{DrainStage, PeerProfile, Routing, Table, index};
use crate::config::{AddPathSend, NextHopMode};
use crate::policy::Policy;

/// So many prefixes of a group that is no more are forgotten in the time in which one is decided.
const DISCARDED: usize = 4;

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
    /// Peers that become members once `told` is whole, and have been told what it says.
    pub(super) wanted: BTreeSet<usize>,
    /// `told` is still in the making: a walk through the table works it out.
    pub(super) making: bool,
    pub(super) end_of_rib: Option<Bytes>,
    /// Some member may be behind: where none is, a change costs no walk over hundreds of members to find that out.
    pub(super) lags: bool,
}

/// What a member still has to be told.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Numbers of its first table, of which it knows nothing yet: some may be no prefix that it is told.
    pub(super) initial: Bitmap,
    /// Prefixes that changed while it could take no more.
    pub(super) pending: Bitmap,
    /// Paths that it may know of these prefixes, by what they were called, and that are told no more.
    pub(super) gone: BTreeSet<(PrefixId, u32)>,
    /// End-of-RIB is due, when nothing of what felix had been told when it joined is held back any more.
    pub(super) end_of_rib_after: Option<u64>,
    /// To its request for the table.
    pub(super) answer: Answer,
}

impl Member {
    pub(super) fn is_behind(&self) -> bool {
        self.has_news() || self.end_of_rib_after.is_some()
    }

    /// Whether there is something to be sent, but for End-of-RIB.
    pub(super) fn has_news(&self) -> bool {
        !self.initial.is_empty() || !self.pending.is_empty() || self.answer == Answer::Running
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

    /// Forgets what is told of `most` prefixes, the last ones first.
    fn forget(&mut self, most: usize, store: &mut AttributeStore) {
        let left = self.len().saturating_sub(most);
        match self {
            Told::Best(told) => told.drain(left..).flatten().for_each(|attributes| store.release(attributes)),
            Told::Paths(told) => told.drain(left..).flatten().for_each(|path| store.release(path.attributes)),
        }
    }

    /// Returns the prefixes of which `other` tells something else.
    fn difference(&self, other: &Told, table: &Table) -> Difference {
        let mut difference = Difference::default();
        for id in 0..self.len().max(other.len()) as PrefixId {
            if let (Told::Best(_), Told::Best(_)) = (self, other) {
                if self.get(id) != other.get(id) {
                    difference.prefixes.insert(id);
                }
                continue;
            }
            let [before, after] = [self, other].map(|told| told.routes_of(table, id));
            if before != after {
                difference.prefixes.insert(id);
                // A name may be that of a path that a member gave itself.
                let same =
                    |one: &ToldRoute, other: &ToldRoute| (one.path_id, one.source) == (other.path_id, other.source);
                let gone = before.iter().filter(|route| !after.iter().any(|other| same(route, other)));
                difference.gone.extend(gone.map(|route| (id, route.path_id)));
            }
        }
        difference
    }

    /// Returns what is told of a prefix, the best path first.
    fn routes_of(&self, table: &Table, id: PrefixId) -> SmallVec<[ToldRoute; 2]> {
        match self {
            Told::Best(_) => {
                let source = table.prefixes.find_entry(id).map_or(Source::NONE, |entry| entry.told_source);
                let route = |attributes| ToldRoute { path_id: 0, attributes, source, received_id: 0 };
                self.get(id).map(route).into_iter().collect()
            }
            Told::Paths(_) => {
                let route = |path: &ToldPath| ToldRoute {
                    path_id: path.path_id,
                    attributes: path.attributes,
                    source: path.source,
                    received_id: path.received_id,
                };
                self.paths(id).iter().map(route).collect()
            }
        }
    }
}

/// What two groups are told otherwise.
#[derive(Debug, Default)]
struct Difference {
    prefixes: Bitmap,
    /// Names of paths of the first one that the other one doesn't have, or has for paths of another peer.
    gone: Vec<(PrefixId, u32)>,
}

impl Group {
    /// Returns what is told of a prefix, the best path first.
    pub(super) fn routes_of(&self, table: &Table, id: PrefixId) -> SmallVec<[ToldRoute; 2]> {
        self.told.routes_of(table, id)
    }
}

impl Routing {
    /// Puts a peer into the groups of its families; it will be told the whole table.
    pub(super) fn join(&mut self, peer: usize) {
        let Some(known) = self.peers.get(&peer) else { return };
        let Some(flow) = &known.flow else { return };
        for family in flow.families.clone() {
            self.enter(peer, family);
        }
    }

    /// Takes a peer out of its groups.
    pub(super) fn leave(&mut self, peer: usize) {
        for table in &mut self.tables {
            for (_, group) in &mut table.groups {
                group.members.remove(&peer);
                group.wanted.remove(&peer);
            }
            table.drop_empty_groups(self.slice, &mut self.store);
        }
    }

    /// Moves a peer to the groups that its settings ask for; it will be told the difference.
    pub(super) fn move_groups(&mut self, peer: usize) {
        for family in Family::ALL {
            let mut groups = self.tables[index(family)].groups.iter();
            if groups.any(|(_, group)| group.members.contains_key(&peer) || group.wanted.contains(&peer)) {
                self.enter(peer, family);
            }
        }
    }

    /// Has a peer become a member of the group that its settings ask for. Until what that is told is worked out, it stays
    /// where it is.
    fn enter(&mut self, peer: usize, family: Family) {
        let key = GroupKey::of(&self.peers[&peer].profile, family, self);
        let at = index(family);
        let groups = &mut self.tables[at].groups;
        groups.iter_mut().for_each(|(_, group)| {
            group.wanted.remove(&peer);
        });
        let known = groups.iter().find_map(|(to, group)| (group.key == key).then_some(to));
        let to = known.unwrap_or_else(|| self.begin_group(at, key));
        let is_member = |group: &Group| group.members.contains_key(&peer);
        let table = &mut self.tables[at];
        if !is_member(&table.groups[to]) {
            table.groups[to].wanted.insert(peer);
            let is_new = !table.groups.iter().any(|(_, group)| is_member(group));
            if !table.groups[to].making && (is_new || table.is_small(self.slice)) {
                self.admit_to(at, to);
            }
        }
        self.tables[at].drop_empty_groups(self.slice, &mut self.store);
    }

    /// Makes a group without members, and begins to work out what it is told.
    fn begin_group(&mut self, at: usize, key: GroupKey) -> usize {
        let mut group = Group {
            told: Told::new(key.add_path),
            key,
            members: BTreeMap::new(),
            wanted: BTreeSet::new(),
            making: !self.tables[at].is_small(self.slice),
            end_of_rib: None,
            lags: false,
        };
        if !group.making {
            self.make_part(at, &mut group, 0..self.tables[at].prefixes.slots());
        }
        let making = group.making;
        let table = &mut self.tables[at];
        let number = table.groups.insert(group);
        if making {
            table.walks.add(Task::Make(number));
        }
        number
    }

    /// Has peers become members of groups that are made: those that come from one group together, since it takes a look
    /// at all prefixes.
    pub(super) fn admit(&mut self, at: usize) {
        let mut groups = self.tables[at].groups.iter();
        if let Some((to, _)) = groups.find(|(_, group)| !group.making && !group.wanted.is_empty()) {
            self.admit_to(at, to);
            self.tables[at].drop_empty_groups(self.slice, &mut self.store);
        }
    }

    fn admit_to(&mut self, at: usize, to: usize) {
        let table = &mut self.tables[at];
        let group_of = |table: &Table, peer: usize| {
            table.groups.iter().find_map(|(from, group)| group.members.contains_key(&peer).then_some(from))
        };
        let told = self.installs.last(&self.fib_changes);
        let wanted = table.groups[to].wanted.clone();
        let Some(from) = wanted.first().map(|&first| group_of(table, first)) else { return };
        let difference = match from {
            Some(from) => table.groups[from].told.difference(&table.groups[to].told, table),
            None => Difference::default(),
        };
        for peer in wanted.into_iter().filter(|&peer| group_of(table, peer) == from).collect::<Vec<_>>() {
            let member = match from.and_then(|from| table.groups[from].members.remove(&peer)) {
                Some(mut member) => {
                    member.pending.insert_all(&difference.prefixes, &member.initial);
                    difference.gone.iter().for_each(|&(id, name)| member.note_gone(id, name));
                    member
                }
                None => {
                    let initial = Bitmap::filled(table.groups[to].told.len() as PrefixId);
                    Member { initial, end_of_rib_after: Some(told), ..Member::default() }
                }
            };
            let group = &mut table.groups[to];
            group.wanted.remove(&peer);
            group.members.insert(peer, member);
            group.lags = true;
        }
    }
}

impl Table {
    /// Whether a look at all prefixes takes no time to speak of.
    fn is_small(&self, slice: usize) -> bool {
        self.prefixes.slots() as usize <= slice
    }

    fn drop_empty_groups(&mut self, slice: usize, store: &mut AttributeStore) {
        let (walks, discarded) = (&mut self.walks, &mut self.discarded);
        self.groups.retain(|number, group| {
            let used = !group.members.is_empty() || !group.wanted.is_empty();
            if !used {
                walks.drop_task(Task::Make(number));
                discarded.push(std::mem::replace(&mut group.told, Told::Best(Vec::new())));
            }
            used
        });
        self.discard(slice, store);
    }

    /// Forgets a part of what groups were told that are no more.
    pub(super) fn discard(&mut self, slice: usize, store: &mut AttributeStore) {
        if let Some(told) = self.discarded.last_mut() {
            told.forget(DISCARDED * slice, store);
            if told.len() == 0 {
                self.discarded.pop();
            }
        }
    }
}
