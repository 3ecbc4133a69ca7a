//! From batches to bytes, with back-pressure.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bitmap::Bitmap;
use super::groups::Group;
use super::prefixes::PrefixId;
use super::store::AttributeId;
use super::{HIGH_WATER, Routing};
use crate::io::ConnectionId;
use crate::wire;

/// How many noted prefixes are sent before room is looked at again.
const CHUNK: usize = 4096;
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

/// Changes to be told together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    withdraw: Vec<PrefixId>,
    announce: Vec<(AttributeId, PrefixId)>,
}

impl Batch {
    pub(super) fn add(&mut self, id: PrefixId, attributes: Option<AttributeId>) {
        match attributes {
            Some(attributes) => self.announce.push((attributes, id)),
            None => self.withdraw.push(id),
        }
    }

    /// Orders the changes for packing: withdrawals, then announcements by attribute set.
    fn into_order(self) -> Vec<(Option<AttributeId>, PrefixId)> {
        let mut announce = self.announce;
        announce.sort_by_key(|&(attributes, _)| attributes);
        let withdraw = self.withdraw.into_iter().map(|id| (None, id));
        withdraw.chain(announce.into_iter().map(|(attributes, id)| (Some(attributes), id))).collect()
    }
}

impl Routing {
    /// Tells `targets` a batch. Each message is encoded once, whoever gets it; a target that can take no more has the
    /// prefixes noted instead.
    pub(super) fn deliver(&mut self, at: usize, group: &mut Group, batch: Batch, targets: Vec<usize>) {
        let order = batch.into_order();
        let (behind, mut open): (Vec<usize>, Vec<usize>) =
            targets.into_iter().partition(|peer| self.is_full(*peer) || group.members[peer].is_behind());
        note(group, &behind, &order);
        let mut left = &order[..];
        while !left.is_empty() && !open.is_empty() {
            left = self.send_burst(at, group, left, &open);
            let full: Vec<usize> = open.iter().copied().filter(|peer| self.is_full(*peer)).collect();
            if !full.is_empty() {
                open.retain(|peer| !full.contains(peer));
                note(group, &full, left);
            }
        }
    }

    /// Sends what is noted for peers that have room, as far as it goes; peers with the same notes share the bytes.
    pub(crate) fn pump(&mut self) {
        for at in 0..self.tables.len() {
            let mut groups = std::mem::take(&mut self.tables[at].groups);
            for (_, group) in &mut groups {
                while let Some(cohort) = self.next_cohort(group) {
                    self.pump_cohort(at, group, &cohort);
                }
            }
            self.tables[at].groups = groups;
            self.clear_limbo(at);
        }
    }

    /// Returns members that are behind by the same, and have room.
    fn next_cohort(&self, group: &Group) -> Option<Vec<usize>> {
        let mut ready = group.members.iter().filter(|(peer, member)| member.is_behind() && !self.is_full(**peer));
        let (&first, like) = ready.next()?;
        let same = ready.filter(|(_, member)| {
            member.end_of_rib_due == like.end_of_rib_due
                && member.pending == like.pending
                && member.initial == like.initial
        });
        Some(std::iter::once(first).chain(same.map(|(&peer, _)| peer)).collect())
    }

    fn pump_cohort(&mut self, at: usize, group: &mut Group, cohort: &[usize]) {
        let like = &group.members[&cohort[0]];
        let changed: Vec<PrefixId> = like.pending.iter().take(CHUNK).collect();
        let fresh: Vec<PrefixId> = like.initial.iter().take(CHUNK - changed.len()).collect();
        let mut common = Batch::default();
        let mut given: BTreeMap<usize, (Batch, Batch)> = BTreeMap::new();
        for (&id, first_time) in changed.iter().map(|id| (id, false)).chain(fresh.iter().map(|id| (id, true))) {
            let attributes = group.told.get(id);
            match self.tables[at].prefixes.entry(id).told_source.as_peer() {
                // The giver of a path is not told it, but that what it was told before is gone.
                Some(giver) if attributes.is_some() && cohort.contains(&giver) => {
                    let (others, own) = given.entry(giver).or_default();
                    others.add(id, attributes);
                    if !first_time {
                        own.add(id, None);
                    }
                }
                _ if attributes.is_none() && first_time => {}
                _ => common.add(id, attributes),
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
            remove_all(&mut member.initial, &fresh);
            if member.end_of_rib_due && member.initial.is_empty() && member.pending.is_empty() {
                member.end_of_rib_due = false;
                let family = self.tables[at].family;
                let bytes = group.end_of_rib.get_or_insert_with(|| wire::encode_end_of_rib(family)).clone();
                self.send(*peer, bytes, 1);
            }
            self.go_on_with_answer(at, group, *peer);
        }
    }

    fn send_all(&mut self, at: usize, group: &Group, batch: Batch, targets: &[usize]) {
        let order = batch.into_order();
        let mut left = &order[..];
        while !left.is_empty() && !targets.is_empty() {
            left = self.send_burst(at, group, left, targets);
        }
    }

    /// Encodes changes from the beginning of `order`, sends them to `targets`, and returns the rest.
    fn send_burst<'a>(
        &mut self,
        at: usize,
        group: &Group,
        order: &'a [(Option<AttributeId>, PrefixId)],
        targets: &[usize],
    ) -> &'a [(Option<AttributeId>, PrefixId)] {
        let (mut left, mut messages, mut len) = (order, Vec::new(), 0);
        while !left.is_empty() && len < BURST {
            let (encoded, rest) = self.encode_run(at, group, left);
            len += encoded.iter().map(Bytes::len).sum::<usize>();
            messages.extend(encoded);
            left = rest;
        }
        let count = messages.len() as u64;
        self.counters.messages_encoded += count;
        self.counters.messages_sent += count * targets.len() as u64;
        let bytes = match &messages[..] {
            [] => return left,
            [one] => one.clone(),
            several => several.concat().into(),
        };
        for &peer in targets {
            self.send(peer, bytes.clone(), count);
        }
        left
    }

    /// Encodes what the changes at the beginning of `order` have in common, and returns the rest beside it.
    fn encode_run<'a>(
        &self,
        at: usize,
        group: &Group,
        order: &'a [(Option<AttributeId>, PrefixId)],
    ) -> (Vec<Bytes>, &'a [(Option<AttributeId>, PrefixId)]) {
        let Some(&(attributes, _)) = order.first() else { return (Vec::new(), order) };
        let run = order.iter().take_while(|(other, _)| *other == attributes).take(CHUNK).count();
        let (run, rest) = order.split_at(run);
        let table = &self.tables[at];
        let prefixes = || run.iter().map(|&(_, id)| table.prefixes.entry(id).cidr);
        let announced = attributes.map(|attributes| {
            let attributes = self.store.get(attributes);
            wire::encode_announcements(table.family, &attributes, prefixes(), group.key.four_octet)
        });
        // A route that fits into no message can't be announced, and what the peer has of it is wrong.
        let messages = match announced {
            Some(Ok(messages)) => messages,
            Some(Err(_)) | None => wire::encode_withdrawals(table.family, prefixes()).unwrap_or_default(),
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

fn note(group: &mut Group, peers: &[usize], order: &[(Option<AttributeId>, PrefixId)]) {
    for peer in peers {
        if let Some(member) = group.members.get_mut(peer) {
            order.iter().for_each(|&(_, id)| member.note(id));
        }
    }
}

fn remove_all(set: &mut Bitmap, ids: &[PrefixId]) {
    ids.iter().for_each(|&id| set.remove(id));
}
