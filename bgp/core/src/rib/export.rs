//! What a group is told of a path: RFC 4271 section 9.1.3 and 5.1, RFC 4456 for reflected ones, export policy.

use std::collections::BTreeMap;

use super::Routing;
use super::attributes::AttributesExt;
use super::decision::DEFAULT_LOCAL_PREF;
use super::groups::GroupKey;
use super::prefixes::{Path, PrefixId, Source};
use super::store::{AttributeId, AttributeStore};
use crate::config::NextHopMode;
use crate::policy::{Changes, RouteOrigin};
use crate::wire::Community;

/// Outcomes for one group and one round, so that a message of many prefixes is worked on once. It holds a use of each
/// attribute set that it names.
#[derive(Debug, Default)]
pub(super) struct ExportCache(BTreeMap<(AttributeId, Source, Changes), Option<AttributeId>>);

impl ExportCache {
    pub(super) fn clear(self, store: &mut AttributeStore) {
        for ((from, ..), to) in self.0 {
            store.release(from);
            if let Some(to) = to {
                store.release(to);
            }
        }
    }
}

impl Routing {
    /// Returns what a group is told of a prefix, counted as used; `None`: it isn't.
    pub(super) fn export(
        &mut self,
        at: usize,
        id: PrefixId,
        group: &GroupKey,
        cache: &mut ExportCache,
    ) -> Option<AttributeId> {
        let path = *self.tables[at].prefixes.entry(id).best_path()?;
        self.export_path(at, id, path, group, cache)
    }

    /// Returns what a group is told of one path of a prefix, counted as used; `None`: it isn't.
    pub(super) fn export_path(
        &mut self,
        at: usize,
        id: PrefixId,
        path: Path,
        group: &GroupKey,
        cache: &mut ExportCache,
    ) -> Option<AttributeId> {
        let entry = self.tables[at].prefixes.entry(id);
        let giver = path.source.as_peer().and_then(|peer| self.peers.get(&peer)).map(|peer| &peer.profile);
        let origin = match giver {
            Some(giver) if giver.ibgp => RouteOrigin::Ibgp,
            Some(_) => RouteOrigin::Ebgp,
            None => RouteOrigin::Local(*self.tables[at].local.get(&entry.cidr)?),
        };
        let reflected = origin == RouteOrigin::Ibgp && group.ibgp;
        if reflected && !(group.client || giver.is_some_and(|giver| giver.client)) {
            return None;
        }
        let attributes = self.store.get(path.attributes);
        let barred = |community: &Community| match *community {
            Community::NO_ADVERTISE => true,
            Community::NO_EXPORT | Community::NO_EXPORT_SUBCONFED => !group.ibgp,
            _ => false,
        };
        if attributes.communities.iter().any(barred) {
            return None;
        }
        let policy = &group.export.0;
        let changes = policy.evaluate(entry.cidr, origin, &attributes.communities)?;
        let key = (path.attributes, path.source, changes);
        if let Some(&known) = cache.0.get(&key) {
            known.iter().for_each(|&known| self.store.retain(known));
            return known;
        }
        let learned = giver.is_some();
        let mut told = (*attributes).clone();
        let own = !learned
            || match group.next_hop {
                NextHopMode::SelfAddress => true,
                NextHopMode::Keep => false,
                NextHopMode::Auto => !group.ibgp,
            };
        let announced = if own { told.set_next_hop(group.self_next_hop) } else { true };
        if group.ibgp {
            told.local_pref.get_or_insert(DEFAULT_LOCAL_PREF);
            if reflected && let Some(giver) = giver {
                told.reflect(giver.router_id, self.config.cluster_id);
            }
        } else {
            told.strip_internal(learned);
        }
        policy.operations(&key.2).for_each(|operation| told.apply(operation));
        if !group.ibgp {
            told.local_pref = None;
            told.as_path.prepend(group.own_asn, 1);
        }
        let told = announced.then(|| self.store.intern(told));
        self.store.retain(path.attributes);
        told.iter().for_each(|&told| self.store.retain(told));
        cache.0.insert(key, told);
        told
    }
}
