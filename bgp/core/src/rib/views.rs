//! The tables, readable.

use std::collections::BTreeMap;

use margay_net::{Cidr, Family};

use super::decision::Candidate;
use super::groups::ToldRoute;
use super::prefixes::{Entry, Path, PrefixId, Source};
use super::store::AttributeId;
use super::{Routing, index, reasons};
use crate::view::{AttributesView, PathSource, PathView, RouteFilter, RouteView};
use crate::wire::Attributes;

impl Routing {
    /// Returns the prefixes that match, in order; `peer`: the index of the filter's peer.
    pub(crate) fn routes(&self, filter: &RouteFilter, peer: Option<usize>) -> Vec<RouteView> {
        let mut found: BTreeMap<Cidr, (usize, PrefixId)> = BTreeMap::new();
        for (at, table) in self.tables.iter().enumerate() {
            if filter.family.is_some_and(|family| family != table.family) {
                continue;
            }
            for (id, entry) in table.prefixes.iter().filter(|(_, entry)| !entry.paths.is_empty()) {
                let of_peer = |peer: usize| entry.paths.iter().any(|path| path.source == Source::peer(peer));
                let meant = |path: &Path| peer.is_none_or(|peer| path.source == Source::peer(peer));
                let rejected = || entry.paths.iter().any(|path| path.rejected.is_some() && meant(path));
                if filter.within.is_none_or(|within| within.covers(entry.cidr))
                    && peer.is_none_or(of_peer)
                    && (!filter.rejected || rejected())
                {
                    found.insert(entry.cidr, (at, id));
                }
            }
        }
        let wanted = found.into_values().take(filter.limit.unwrap_or(usize::MAX));
        wanted.map(|(at, id)| self.route_view(at, id)).collect()
    }

    pub(super) fn route_view(&self, at: usize, id: PrefixId) -> RouteView {
        let entry = self.tables[at].prefixes.entry(id);
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
    pub(crate) fn received(&self, peer: usize) -> Vec<RouteView> {
        let mut routes = BTreeMap::new();
        for table in &self.tables {
            for (_, entry) in table.prefixes.iter() {
                for path in entry.paths.iter().filter(|path| path.source == Source::peer(peer)) {
                    let mut view = self.path_view(entry, path, path.received);
                    view.best = entry.best_path().is_some_and(|best| best.source == path.source);
                    view.best &= entry.best_path().is_some_and(|best| best.path_id == path.path_id);
                    let discard = view.best && self.discards(entry.cidr, path);
                    let route = route_in(&mut routes, entry.cidr);
                    route.next_hops.extend(self.next_hop(path));
                    route.discard |= discard;
                    route.paths.push(view);
                }
            }
        }
        routes.into_values().collect()
    }

    /// Returns what a peer is told.
    pub(crate) fn advertised(&self, peer: usize) -> Vec<RouteView> {
        let mut routes = BTreeMap::new();
        for family in Family::ALL {
            let table = &self.tables[index(family)];
            for (id, told) in self.advertised_routes(peer, family) {
                let entry = table.prefixes.entry(id);
                let Some(best) = entry.best_path() else { continue };
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
                route_in(&mut routes, entry.cidr).paths.push(view);
            }
        }
        routes.into_values().collect()
    }

    /// Returns the routes that a peer is told or is about to be.
    fn advertised_routes(&self, peer: usize, family: Family) -> Vec<(PrefixId, ToldRoute)> {
        let table = &self.tables[index(family)];
        let Some((_, group)) = table.groups.iter().find(|(_, group)| group.members.contains_key(&peer)) else {
            return Vec::new();
        };
        group.routes(table).filter(|(_, route)| route.source != Source::peer(peer)).collect()
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
            stale: path.stale,
            lost: None,
            rejected: path.rejected,
            reason: self.rejected(entry.cidr, path),
        }
    }
}

fn route_in(routes: &mut BTreeMap<Cidr, RouteView>, prefix: Cidr) -> &mut RouteView {
    let none = || RouteView { prefix, next_hops: Default::default(), discard: false, paths: Vec::new() };
    routes.entry(prefix).or_insert_with(none)
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
