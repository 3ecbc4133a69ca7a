//! Why a prefix is as it is, worked out by the code that decides.

use margay_net::Cidr;

use super::export::Refusal;
use super::groups::GroupKey;
use super::prefixes::{Path, PrefixId};
use super::views::attributes_view;
use super::{Routing, communities, index};
use crate::config::AddPathSend;
use crate::policy::Verdict;
use crate::view::{AdvertisementReason, AdvertisementView, WaitView, WhyView};
use crate::wire::{self, Attributes, Nlri};

impl Routing {
    pub(crate) fn why(&self, prefix: Cidr) -> WhyView {
        let at = index(prefix.family());
        let there = self.used(at, prefix);
        let mut names: Vec<_> = self.peers.iter().filter(|(_, peer)| peer.flow.is_some()).collect();
        names.sort_by_key(|(_, peer)| &peer.profile.name);
        let advertisements = names.into_iter().map(|(peer, known)| {
            let (reason, advertised) = self.advertisement(at, there, peer);
            let words = reason.to_string();
            AdvertisementView { peer: known.profile.name.clone(), advertised, reason, words }
        });
        let mut why = WhyView {
            route: there.map(|id| self.route_view(at, id)),
            covered_by: None,
            advertisements: advertisements.collect(),
            waits: Vec::new(),
        };
        if there.is_none() {
            let shorter = (0..prefix.len()).rev().filter_map(|len| Cidr::truncated(prefix.addr(), len).ok());
            why.covered_by = shorter.into_iter().find(|&cidr| self.used(at, cidr).is_some());
        }
        if self.lacks_owners() {
            let what = "no table of owners came yet: routes inside pools are taken unchecked";
            why.waits.push(WaitView { what: what.to_owned(), until: None });
        }
        why
    }

    /// Finds a prefix that has paths.
    fn used(&self, at: usize, prefix: Cidr) -> Option<PrefixId> {
        let table = &self.tables[at];
        let is_there = |path: &Path| !table.generations.is_retired(path);
        table.prefixes.find(prefix).filter(|&id| table.prefixes.entry(id).paths.iter().any(is_there))
    }

    fn advertisement(
        &self,
        at: usize,
        prefix: Option<PrefixId>,
        peer: usize,
    ) -> (AdvertisementReason, Option<crate::view::AttributesView>) {
        match self.told(at, prefix, peer) {
            Ok((reason, told)) => (reason, Some(attributes_view(&told))),
            Err(reason) => (reason, None),
        }
    }

    fn told(
        &self,
        at: usize,
        prefix: Option<PrefixId>,
        peer: usize,
    ) -> Result<(AdvertisementReason, Attributes), AdvertisementReason> {
        let table = &self.tables[at];
        let flow = self.peers.get(&peer).and_then(|peer| peer.flow.as_ref());
        if !flow.is_some_and(|flow| flow.families.contains(&table.family)) {
            return Err(AdvertisementReason::FamilyNotNegotiated);
        }
        let id = prefix.ok_or(AdvertisementReason::NoUsablePath)?;
        let group = table.groups.iter().map(|(_, group)| group).find(|group| group.members.contains_key(&peer));
        let group = group.filter(|_| !self.deferred).ok_or(AdvertisementReason::Deferred)?;
        let entry = &*self.shown(at, id);
        let paths = self.chosen(entry, group.key.add_path);
        if paths.is_empty() {
            return Err(AdvertisementReason::NoUsablePath);
        }
        // Of several paths the best one that is told speaks for all, or the best one where none is.
        let mut others = paths.iter().filter(|path| path.source.as_peer() != Some(peer));
        let first = others.next().ok_or(AdvertisementReason::LearnedFromPeer)?;
        let (verdict, told) = match self.told_of(at, id, first, &group.key) {
            Ok(told) => told,
            Err(refusal) => others.find_map(|path| self.told_of(at, id, path, &group.key).ok()).ok_or(refusal)?,
        };
        let path_id = (group.key.add_path != AddPathSend::None).then_some(0);
        let route = Nlri { prefix: entry.cidr, path_id };
        let message = wire::encode_announcements(table.family, &told, [route], group.key.four_octet);
        if message.is_err() {
            return Err(AdvertisementReason::TooLong);
        }
        let waits = |member: &super::groups::Member| member.initial.contains(id) || member.pending.contains(id);
        if group.members.get(&peer).is_some_and(waits) {
            return Err(AdvertisementReason::Queued);
        }
        Ok((AdvertisementReason::Advertised { rule: verdict.rule.map(|rule| rule as usize) }, told))
    }

    /// Returns how a group is told of a path.
    fn told_of(
        &self,
        at: usize,
        id: PrefixId,
        path: &Path,
        group: &GroupKey,
    ) -> Result<(Verdict, Attributes), Refusal> {
        let verdict = self.judge_export(at, id, path, group)?;
        let told = self.exported(path, &verdict.changes, group)?;
        if self.waits_for_kernel(at, id, path, group) {
            return Err(Refusal::NotInstalled);
        }
        Ok((verdict, told))
    }
}

impl From<Refusal> for AdvertisementReason {
    fn from(refusal: Refusal) -> AdvertisementReason {
        match refusal {
            Refusal::Drained => AdvertisementReason::Drained,
            Refusal::NotReflected => AdvertisementReason::NotReflected,
            Refusal::Community(community) => AdvertisementReason::Community { community: communities::name(community) },
            Refusal::Policy(rule) => AdvertisementReason::Policy { rule: rule.map(|rule| rule as usize) },
            Refusal::NoPolicy => AdvertisementReason::NoPolicy,
            Refusal::NoNextHop => AdvertisementReason::NoNextHop,
            Refusal::NotInstalled => AdvertisementReason::NotInstalled,
        }
    }
}
