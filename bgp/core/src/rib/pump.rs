//! From batches to bytes, with back-pressure.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bitmap::Bitmap;
use super::groups::{Group, Member};
use super::prefixes::{PrefixId, Source};
use super::store::AttributeId;
use super::{HIGH_WATER, Routing, Table};
use crate::config::AddPathSend;
use crate::io::ConnectionId;
use crate::wire::{self, Nlri};

/// How many noted prefixes are sent before room is looked at again.
const CHUNK: usize = 4096;
/// How many noted prefixes are sent at a time, to one peer or a few that are behind by the same.
const PUMPED: usize = 4 * CHUNK;
/// So many more peers to share what is sent take as long as another one alone.
const SHARING: usize = 32;
/// Messages for the same peers are handed out together up to about this many bytes: with many peers it is the number of
/// pieces that costs, not their size.
const BURST: usize = 16 * 1024;

/// Bytes for a connection.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) connection: ConnectionId,
    pub(crate) bytes: Bytes,
    /// How many messages they are.
    pub(crate) messages: u64,
}

/// A route of a group's table: a prefix, or one of its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    pub(super) prefix: PrefixId,
    /// What the path is called; 0 in a group that is told the best one alone.
    pub(super) path_id: u32,
}

/// Changes to be told together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    withdraw: Vec<Route>,
    announce: Vec<(AttributeId, Route)>,
}

/// A change, in the order of sending; without attributes the route is withdrawn.
type Step = (Option<AttributeId>, Route);

impl Batch {
    pub(super) fn add(&mut self, route: Route, attributes: Option<AttributeId>) {
        match attributes {
            Some(attributes) => self.announce.push((attributes, route)),
            None => self.withdraw.push(route),
        }
    }

    pub(super) fn append(&mut self, other: &Batch) {
        self.withdraw.extend_from_slice(&other.withdraw);
        self.announce.extend_from_slice(&other.announce);
    }

    /// Orders the changes for packing: withdrawals, then announcements by attribute set.
    fn into_order(self) -> Vec<Step> {
        let mut announce = self.announce;
        announce.sort_by_key(|&(attributes, _)| attributes);
        let withdraw = self.withdraw.into_iter().map(|route| (None, route));
        withdraw.chain(announce.into_iter().map(|(attributes, route)| (Some(attributes), route))).collect()
    }
}

impl Routing {
    /// Tells members a batch. Each message is encoded once, whoever gets it; a member that can take no more has the
    /// prefixes noted instead.
    pub(super) fn deliver(&mut self, at: usize, group: &mut Group, batch: Batch, is_meant: impl Fn(usize) -> bool) {
        let order = batch.into_order();
        let mut open = Vec::with_capacity(group.members.len());
        for (&peer, member) in group.members.iter_mut().filter(|(peer, _)| is_meant(**peer)) {
            if member.is_behind() || self.is_full(peer) {
                note(member, &order);
                group.lags = true;
            } else {
                open.push(peer);
            }
        }
        let mut left = &order[..];
        while !left.is_empty() && !open.is_empty() {
            left = self.send_burst(at, group, left, &open);
            open.retain(|&peer| {
                let full = self.is_full(peer);
                if full && let Some(member) = group.members.get_mut(&peer) {
                    note(member, left);
                    group.lags = true;
                }
                !full
            });
        }
    }

    /// Sends a part of what is noted for peers that have room; peers with the same notes share the bytes. Returns whether
    /// there may be more.
    pub(crate) fn pump(&mut self) -> bool {
        let mut left = PUMPED;
        for at in 0..self.tables.len() {
            let mut groups = std::mem::take(&mut self.tables[at].groups);
            debug_assert!(groups.iter().all(|(_, group)| group.lags || !group.members.values().any(Member::is_behind)));
            for (_, group) in groups.iter_mut().filter(|(_, group)| group.lags) {
                while left > 0
                    && let Some(cohort) = self.next_cohort(at, group)
                {
                    let count = self.pump_cohort(at, group, &cohort);
                    // What is noted is struck off for each.
                    left = left.saturating_sub((count + 1) * (1 + cohort.len() / SHARING));
                }
                group.lags = group.members.values().any(Member::is_behind);
            }
            self.tables[at].groups = groups;
            self.clear_limbo(at);
        }
        left == 0 || self.tables.iter().any(Table::has_limbo)
    }

    /// Returns members that are behind by the same, and have room.
    fn next_cohort(&self, at: usize, group: &Group) -> Option<Vec<usize>> {
        let can_go_on = |member: &Member| member.has_news() || self.is_end_of_rib_due(at, member);
        let mut ready = group.members.iter().filter(|(peer, member)| can_go_on(member) && !self.is_full(**peer));
        let (&first, like) = ready.next()?;
        let same = ready.filter(|(_, member)| {
            member.end_of_rib_after.is_some() == like.end_of_rib_after.is_some()
                && member.pending == like.pending
                && member.initial == like.initial
                && member.gone == like.gone
        });
        Some(std::iter::once(first).chain(same.map(|(&peer, _)| peer)).collect())
    }

    /// Whether End-of-RIB is to be sent once all else is.
    fn is_end_of_rib_due(&self, at: usize, member: &Member) -> bool {
        member.end_of_rib_after.is_some_and(|batch| !self.installs.holds_back(at, batch))
    }

    /// Sends a part of what is noted for members that are behind by the same, and returns how many prefixes that is.
    fn pump_cohort(&mut self, at: usize, group: &mut Group, cohort: &[usize]) -> usize {
        let like = &group.members[&cohort[0]];
        let changed: Vec<PrefixId> = like.pending.iter().take(CHUNK).collect();
        let fresh: Vec<PrefixId> = like.initial.iter().take(CHUNK - changed.len()).collect();
        let mut common = Batch::default();
        let mut given: BTreeMap<usize, (Batch, Batch)> = BTreeMap::new();
        // The giver of a path is not told it.
        let giver_in = |source: Source| source.as_peer().filter(|giver| cohort.binary_search(giver).is_ok());
        let best_alone = group.key.add_path == AddPathSend::None;
        for (&prefix, first_time) in changed.iter().map(|id| (id, false)).chain(fresh.iter().map(|id| (id, true))) {
            let routes = group.routes_of(&self.tables[at], prefix);
            for told in &routes {
                let route = Route { prefix, path_id: told.path_id };
                match giver_in(told.source) {
                    Some(giver) => {
                        let (others, own) = given.entry(giver).or_default();
                        others.add(route, Some(told.attributes));
                        // What it was told before is gone.
                        if best_alone && !first_time {
                            own.add(route, None);
                        }
                    }
                    None => common.add(route, Some(told.attributes)),
                }
            }
            if first_time {
                continue;
            }
            if best_alone && routes.is_empty() {
                common.add(Route { prefix, path_id: 0 }, None);
            }
            for &(_, path_id) in like.gone.range((prefix, 0)..=(prefix, u32::MAX)) {
                let route = Route { prefix, path_id };
                match routes.iter().find(|told| told.path_id == path_id) {
                    None => common.add(route, None),
                    // The name is another path's, which this member gave itself.
                    Some(told) => {
                        if let Some(giver) = giver_in(told.source) {
                            given.entry(giver).or_default().1.add(route, None);
                        }
                    }
                }
            }
        }
        for (giver, (others, own)) in given {
            let targets: Vec<usize> = cohort.iter().copied().filter(|&peer| peer != giver).collect();
            self.send_all(at, group, own, &[giver]);
            self.send_all(at, group, others, &targets);
        }
        self.send_all(at, group, common, cohort);
        for peer in cohort {
            let Some(member) = group.members.get_mut(peer) else { continue };
            remove_all(&mut member.pending, &changed);
            if !member.gone.is_empty() {
                member.gone.retain(|(id, _)| member.pending.contains(*id));
            }
            remove_all(&mut member.initial, &fresh);
            if member.initial.is_empty() && member.pending.is_empty() && self.is_end_of_rib_due(at, member) {
                member.end_of_rib_after = None;
                let family = self.tables[at].family;
                let bytes = group.end_of_rib.get_or_insert_with(|| wire::encode_end_of_rib(family)).clone();
                self.send(*peer, bytes, 1);
            }
            self.go_on_with_answer(at, group, *peer);
        }
        let count = changed.len() + fresh.len();
        self.counters.work += count as u64;
        count
    }

    fn send_all(&mut self, at: usize, group: &Group, batch: Batch, targets: &[usize]) {
        let order = batch.into_order();
        let mut left = &order[..];
        while !left.is_empty() && !targets.is_empty() {
            left = self.send_burst(at, group, left, targets);
        }
    }

    /// Encodes changes from the beginning of `order`, sends them to `targets`, and returns the rest.
    fn send_burst<'a>(&mut self, at: usize, group: &Group, order: &'a [Step], targets: &[usize]) -> &'a [Step] {
        let mut burst = std::mem::take(&mut self.burst);
        burst.clear();
        let (mut left, mut count) = (order, 0);
        while !left.is_empty() && burst.len() < BURST {
            let (messages, rest) = self.encode_run(at, group, left, &mut burst);
            count += messages;
            left = rest;
        }
        self.counters.messages_encoded += count;
        self.counters.messages_sent += count * targets.len() as u64;
        if count > 0 {
            let bytes = Bytes::copy_from_slice(&burst);
            for &peer in targets {
                self.send(peer, bytes.clone(), count);
            }
        }
        self.burst = burst;
        left
    }

    /// Appends what the changes at the beginning of `order` have in common, and returns how many messages that is and
    /// the rest.
    fn encode_run<'a>(&self, at: usize, group: &Group, order: &'a [Step], burst: &mut Vec<u8>) -> (u64, &'a [Step]) {
        let Some(&(attributes, _)) = order.first() else { return (0, order) };
        let run = order.iter().take_while(|(other, _)| *other == attributes).take(CHUNK).count();
        let (run, rest) = order.split_at(run);
        let table = &self.tables[at];
        let best_alone = group.key.add_path == AddPathSend::None;
        let routes = || {
            run.iter().map(|(_, route)| Nlri {
                prefix: table.prefixes.entry(route.prefix).cidr,
                path_id: (!best_alone).then_some(route.path_id),
            })
        };
        let announced = attributes.map(|attributes| {
            let attributes = self.store.get(attributes);
            wire::append_announcements(burst, table.family, &attributes, routes(), group.key.four_octet)
        });
        // A route that fits into no message can't be announced, and what the peer has of it is wrong.
        let messages = match announced {
            Some(Ok(messages)) => messages,
            Some(Err(_)) | None => wire::append_withdrawals(burst, table.family, routes()).unwrap_or_default(),
        };
        (messages, rest)
    }

    pub(super) fn send(&mut self, peer: usize, bytes: Bytes, messages: u64) {
        if let Some(flow) = self.peers.get_mut(&peer).and_then(|peer| peer.flow.as_mut()) {
            flow.unsent += bytes.len();
            self.sends.push(Outgoing { connection: flow.connection, bytes, messages });
        }
    }

    fn is_full(&self, peer: usize) -> bool {
        self.unsent(peer) >= HIGH_WATER
    }
}

fn note(member: &mut Member, order: &[Step]) {
    for (attributes, route) in order {
        member.note(route.prefix);
        if attributes.is_none() {
            member.note_gone(route.prefix, route.path_id);
        }
    }
}

fn remove_all(set: &mut Bitmap, ids: &[PrefixId]) {
    ids.iter().for_each(|&id| set.remove(id));
}
