//! The tables, readable.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use margay_net::{Cidr, Family};

use super::decision::Candidate;
use super::groups::{Group, ToldRoute};
use super::prefixes::{Entry, Path, PrefixId, Source};
use super::store::AttributeId;
use super::{Routing, Table, index, reasons};
use crate::view::{AttributesView, PathSource, PathView, PrefixCounts, RouteFilter, RouteView};
use crate::wire::Attributes;

/// A table, and the peer that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Local,
    In(usize),
    Out(usize),
}

impl Routing {
    /// Returns one more than the highest number that a prefix has.
    pub(crate) fn slots(&self) -> PrefixId {
        self.tables.iter().map(|table| table.prefixes.slots()).max().unwrap_or_default()
    }

    /// Returns the prefixes that match, of those whose numbers are in `part`; `peer`: the index of the filter's peer.
    pub(crate) fn prefixes_in(
        &self,
        view: View,
        filter: &RouteFilter,
        peer: Option<usize>,
        part: &Range<PrefixId>,
    ) -> Vec<Cidr> {
        let mut found = Vec::new();
        for table in &self.tables {
            if filter.family.is_some_and(|family| family != table.family) {
                continue;
            }
            let group = match view {
                View::Out(peer) => table.group_of(peer),
                View::Local | View::In(_) => None,
            };
            for (id, entry) in table.prefixes.part(part.clone()) {
                let paths = || entry.paths.iter().filter(|path| !table.generations.is_retired(path));
                let of_peer = |peer: usize| paths().any(|path| path.source == Source::peer(peer));
                let meant = |path: &Path| peer.is_none_or(|peer| path.source == Source::peer(peer));
                let rejected = || paths().any(|path| path.rejected.is_some() && meant(path));
                let there = match view {
                    View::Local => paths().next().is_some(),
                    View::In(peer) => of_peer(peer),
                    View::Out(peer) => group.is_some_and(|group| table.told(group, id, peer).next().is_some()),
                };
                if there
                    && filter.within.is_none_or(|within| within.covers(entry.cidr))
                    && peer.is_none_or(of_peer)
                    && (!filter.rejected || rejected())
                {
                    found.push(entry.cidr);
                }
            }
        }
        found
    }

    /// Returns a prefix as it is in a table.
    pub(crate) fn route_at(&self, view: View, prefix: Cidr) -> Option<RouteView> {
        let at = index(prefix.family());
        let id = self.tables[at].prefixes.find(prefix)?;
        let route = match view {
            View::Local => self.route_view(at, id),
            View::In(peer) => self.received(at, id, peer),
            View::Out(peer) => self.advertised(at, id, peer),
        };
        (!route.paths.is_empty()).then_some(route)
    }

    /// Returns a prefix without the paths that are about to be taken out.
    pub(super) fn shown(&self, at: usize, id: PrefixId) -> Cow<'_, Entry> {
        let table = &self.tables[at];
        let entry = table.prefixes.entry(id);
        let is_retired = |path: &Path| table.generations.is_retired(path);
        if !entry.paths.iter().any(is_retired) {
            return Cow::Borrowed(entry);
        }
        let mut shown = entry.clone();
        while let Some(at) = shown.paths.iter().position(is_retired) {
            shown.remove(at);
        }
        shown.set_best(self.choose(&shown).map(|outcome| outcome.best));
        Cow::Owned(shown)
    }

    pub(super) fn route_view(&self, at: usize, id: PrefixId) -> RouteView {
        let entry = &*self.shown(at, id);
        let outcome = self.decide_entry(entry);
        let usable = outcome.iter().flat_map(|outcome| &outcome.usable);
        let candidates: Vec<Candidate> =
            usable.map(|&usable| self.candidate(&entry.paths[usize::from(usable)])).collect();
        let mut paths = Vec::with_capacity(entry.paths.len());
        for (index, path) in entry.paths.iter().enumerate() {
            let mut view = self.path_view(entry, path, path.attributes);
            if let Some(outcome) = &outcome {
                let index = index as u16;
                view.best = outcome.best == index;
                view.multipath = outcome.multipath.contains(&index);
                let took_part = outcome.usable.iter().position(|&usable| usable == index);
                if let (Some(at), Some(decision)) = (took_part, &outcome.decision) {
                    view.lost = decision.lost[at];
                    let words = reasons::lost(at, &candidates, decision, &self.config.decision);
                    view.reason = view.reason.or(words);
                }
            }
            paths.push(view);
        }
        paths.sort_by_key(|path| (!path.best, !path.multipath, path.rejected.is_some(), path.source.clone()));
        let next_hops = entry.told_fib.map(|set| (**self.next_hop_sets.set(set)).clone()).unwrap_or_default();
        let discard = outcome.is_some_and(|outcome| self.discards(entry.cidr, &entry.paths[usize::from(outcome.best)]));
        RouteView { prefix: entry.cidr, next_hops, discard, paths }
    }

    /// Returns what came from a peer, as it came.
    fn received(&self, at: usize, id: PrefixId, peer: usize) -> RouteView {
        let entry = &*self.shown(at, id);
        let mut route = empty(entry.cidr);
        for path in entry.paths.iter().filter(|path| path.source == Source::peer(peer)) {
            let mut view = self.path_view(entry, path, path.received);
            let is_path = |best: &Path| (best.source, best.path_id) == (path.source, path.path_id);
            view.best = entry.best_path().is_some_and(is_path);
            route.next_hops.extend(self.next_hop(path));
            route.discard |= view.best && self.discards(entry.cidr, path);
            route.paths.push(view);
        }
        route
    }

    /// Returns what a peer is told, or is about to be.
    fn advertised(&self, at: usize, id: PrefixId, peer: usize) -> RouteView {
        let table = &self.tables[at];
        let entry = &*self.shown(at, id);
        let mut route = empty(entry.cidr);
        let (Some(group), Some(best)) = (table.group_of(peer), entry.best_path()) else { return route };
        for told in table.told(group, id, peer) {
            let path = match told.path_id {
                0 => best,
                _ => match entry.find(told.source, told.received_id) {
                    Ok(at) => &entry.paths[at],
                    Err(_) => continue,
                },
            };
            let mut view = self.path_view(entry, path, told.attributes);
            view.best = (path.source, path.path_id) == (best.source, best.path_id);
            view.path_id = (told.path_id != 0).then_some(told.path_id);
            route.paths.push(view);
        }
        route
    }

    /// Counts the routes of the prefixes whose numbers are in `part`, in addition to what was counted before.
    pub(crate) fn count_in(&self, part: &Range<PrefixId>, counts: &mut BTreeMap<(usize, Family), PrefixCounts>) {
        for table in &self.tables {
            for path in table.prefixes.part(part.clone()).flat_map(|(_, entry)| &entry.paths) {
                let Some(peer) = path.source.as_peer().filter(|_| !table.generations.is_retired(path)) else {
                    continue;
                };
                let counts = counts.entry((peer, table.family)).or_default();
                counts.received += 1;
                counts.rejected += usize::from(path.rejected.is_some());
                if let Some(reason) = path.rejected {
                    *counts.rejected_by.entry(reason).or_default() += 1;
                }
                counts.stale += usize::from(table.generations.is_stale(path));
            }
            for (_, group) in &table.groups {
                let mut given: BTreeMap<usize, usize> = BTreeMap::new();
                let mut told = 0;
                for (id, _) in table.prefixes.part(part.clone()) {
                    for route in group.routes_of(table, id) {
                        told += 1;
                        if let Some(giver) = route.source.as_peer() {
                            *given.entry(giver).or_default() += 1;
                        }
                    }
                }
                for &peer in group.members.keys() {
                    let own = given.get(&peer).copied().unwrap_or_default();
                    counts.entry((peer, table.family)).or_default().advertised += told - own;
                }
            }
        }
    }

    fn path_view(&self, entry: &Entry, path: &Path, attributes: AttributeId) -> PathView {
        let known = path.source.as_peer().and_then(|peer| self.peers.get(&peer));
        let source = match known {
            Some(peer) => PathSource::Peer(peer.profile.name.clone()),
            None => {
                let local = self.tables[index(entry.cidr.family())].local.get(&entry.cidr);
                PathSource::Local(local.copied().unwrap_or(margay_net::LocalRouteSource::Static))
            }
        };
        let family = entry.cidr.family();
        let several = known.is_some_and(|peer| peer.profile.add_path_receive.contains(&family));
        PathView {
            source,
            path_id: several.then_some(path.path_id),
            attributes: attributes_view(&self.store.get(attributes)),
            best: false,
            multipath: false,
            stale: self.tables[index(family)].generations.is_stale(path),
            lost: None,
            rejected: path.rejected,
            reason: self.rejected(entry.cidr, path),
        }
    }
}

fn empty(prefix: Cidr) -> RouteView {
    RouteView { prefix, next_hops: Default::default(), discard: false, paths: Vec::new() }
}

impl Table {
    fn group_of(&self, peer: usize) -> Option<&Group> {
        self.groups.iter().map(|(_, group)| group).find(|group| group.members.contains_key(&peer))
    }

    /// Returns what a member of a group is told of a prefix, or is about to be.
    fn told(&self, group: &Group, id: PrefixId, peer: usize) -> impl Iterator<Item = ToldRoute> {
        group.routes_of(self, id).into_iter().filter(move |route| route.source != Source::peer(peer))
    }
}

pub(super) fn attributes_view(attributes: &Attributes) -> AttributesView {
    let plain = attributes.communities.iter().map(ToString::to_string);
    let large = attributes.large_communities.iter().map(ToString::to_string);
    let extended = attributes.extended_communities.iter().map(ToString::to_string);
    AttributesView {
        origin: attributes.origin.to_string(),
        as_path: attributes.as_path.to_string(),
        next_hop: attributes.next_hop.or(attributes.link_local_next_hop.map(Into::into)),
        med: attributes.med,
        local_pref: attributes.local_pref,
        communities: plain.chain(large).chain(extended).collect(),
        originator_id: attributes.originator_id,
        cluster_list: attributes.cluster_list.clone(),
    }
}
