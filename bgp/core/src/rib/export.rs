//! What a group is told of a path: RFC 4271 section 9.1.3 and 5.1, RFC 4456 for reflected ones, export policy.

use std::collections::BTreeMap;

use super::attributes::AttributesExt;
use super::communities::barrier;
use super::groups::GroupKey;
use super::prefixes::{Path, PrefixId, Source};
use super::store::{AttributeId, AttributeStore};
use super::{DrainStage, PeerProfile, Routing};
use crate::config::NextHopMode;
use crate::policy::{Changes, Route, RouteOrigin, SetOperation, Verdict};
use crate::wire::{Attributes, Community};

/// Outcomes for one group and one round, so that a message of many prefixes is worked on once. It holds a use of each
/// attribute set that it names.
#[derive(Debug, Default)]
pub(super) struct ExportCache(BTreeMap<(AttributeId, Source, Changes), Exported>);

/// What a group is told of a path.
#[derive(Debug, Clone, Copy)]
struct Exported {
    told: Option<AttributeId>,
    /// It is a peer's route with our own address as next hop.
    through_us: bool,
}

impl ExportCache {
    pub(super) fn clear(self, store: &mut AttributeStore) {
        for ((from, ..), to) in self.0 {
            store.release(from);
            if let Some(told) = to.told {
                store.release(told);
            }
        }
    }
}

/// Why a group isn't told of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Drained,
    NotReflected,
    Community(Community),
    /// By the rule with this index, or by default.
    Policy(Option<u32>),
    /// An external group without policy (RFC 8212).
    NoPolicy,
    NoNextHop,
    /// It would lead packets to us, and isn't in the kernel yet.
    NotInstalled,
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
        let verdict = self.judge_export(at, id, &path, group).ok()?;
        let key = (path.attributes, path.source, verdict.changes);
        let exported = match cache.0.get(&key) {
            Some(&known) => known,
            None => {
                let told = self.exported(&path, &key.2, group).ok().map(|told| self.store.intern(told));
                self.store.retain(path.attributes);
                let exported = Exported { told, through_us: self.leads_through_us(&path, group) };
                cache.0.insert(key, exported);
                exported
            }
        };
        if exported.through_us
            && let Some(batch) = self.installing(at, id)
        {
            self.hold_back(at, id, batch);
            return None;
        }
        exported.told.iter().for_each(|&told| self.store.retain(told));
        exported.told
    }

    /// Decides whether a group is told of a path, as far as its next hop doesn't matter.
    pub(super) fn judge_export(
        &self,
        at: usize,
        id: PrefixId,
        path: &Path,
        group: &GroupKey,
    ) -> Result<Verdict, Refusal> {
        if group.drain == DrainStage::Withdrawn {
            return Err(Refusal::Drained);
        }
        let prefix = self.tables[at].prefixes.entry(id).cidr;
        let giver = self.giver(path);
        let origin = match giver {
            Some(giver) if giver.ibgp => RouteOrigin::Ibgp,
            Some(_) => RouteOrigin::Ebgp,
            // What is there has a source; without one there would be nothing to lead packets to.
            None => RouteOrigin::Local(*self.tables[at].local.get(&prefix).ok_or(Refusal::NoNextHop)?),
        };
        if is_reflected(giver, group) && !(group.client || giver.is_some_and(|giver| giver.client)) {
            return Err(Refusal::NotReflected);
        }
        let attributes = &*self.store.get(path.attributes);
        if !attributes.communities.is_empty()
            && let Some(community) = barrier(attributes, group, self.discards(prefix, path))
        {
            return Err(Refusal::Community(community));
        }
        let policy = &group.export;
        let leaves_by = |giver| self.interface_of(giver, attributes);
        let verdict = policy.evaluate(&Route {
            prefix,
            origin,
            attributes,
            local_pref: attributes.local_pref.unwrap_or(self.config.decision.default_local_pref),
            interface: if policy.looks_at_interface() { giver.and_then(leaves_by) } else { None },
        });
        match verdict.accepted {
            true => Ok(verdict),
            false if policy.is_absent() && !group.ibgp => Err(Refusal::NoPolicy),
            false => Err(Refusal::Policy(verdict.rule)),
        }
    }

    /// Returns the attributes with which a group is told of a path that it is to be told of.
    pub(super) fn exported(&self, path: &Path, changes: &Changes, group: &GroupKey) -> Result<Attributes, Refusal> {
        let giver = self.giver(path);
        let mut told = Attributes::clone(&self.store.get(path.attributes));
        if self.puts_itself(giver, &told, group) && !told.set_next_hop(group.self_next_hop) {
            return Err(Refusal::NoNextHop);
        }
        if group.ibgp {
            told.local_pref.get_or_insert(self.config.decision.default_local_pref);
            if is_reflected(giver, group)
                && let Some(giver) = giver
            {
                told.reflect(giver.router_id, self.config.cluster_id);
            }
        } else {
            told.strip_internal(giver.is_some());
        }
        group.as_path.clean(&mut told.as_path);
        group.export.operations(changes).for_each(|operation| told.apply(operation));
        if group.drain == DrainStage::GracefulShutdown {
            told.apply(&SetOperation::AddCommunity(Community::GRACEFUL_SHUTDOWN.0));
            told.apply(&SetOperation::LocalPref(0));
        }
        if !group.ibgp {
            told.local_pref = None;
        }
        group.as_path.sign(&mut told.as_path);
        Ok(told)
    }

    /// Whether a group is told a peer's route with our own address as next hop.
    fn leads_through_us(&self, path: &Path, group: &GroupKey) -> bool {
        let giver = self.giver(path);
        giver.is_some() && self.puts_itself(giver, &self.store.get(path.attributes), group)
    }

    /// Whether a group has to wait until a path's route is in the kernel.
    pub(super) fn waits_for_kernel(&self, at: usize, id: PrefixId, path: &Path, group: &GroupKey) -> bool {
        self.installing(at, id).is_some() && self.leads_through_us(path, group)
    }

    fn giver(&self, path: &Path) -> Option<&PeerProfile> {
        path.source.as_peer().and_then(|peer| self.peers.get(&peer)).map(|peer| &*peer.profile)
    }

    /// Whether the session's own address is announced as next hop.
    fn puts_itself(&self, giver: Option<&PeerProfile>, attributes: &Attributes, group: &GroupKey) -> bool {
        let Some(giver) = giver else { return true };
        match group.next_hop {
            NextHopMode::SelfAddress => true,
            NextHopMode::Keep => false,
            NextHopMode::Auto => !group.ibgp && !self.is_beside(giver, attributes, group),
        }
    }

    /// Whether the next hop lies in the subnet that the group's peers are in, and is none of them: nobody is told its own
    /// address as next hop (RFC 4271 section 5.1.3). The giver's own is all right, since it isn't told its route.
    fn is_beside(&self, giver: &PeerProfile, attributes: &Attributes, group: &GroupKey) -> bool {
        let (Some(subnet), Some(next_hop)) = (group.shared_subnet, attributes.next_hop) else { return false };
        subnet.contains(next_hop)
            && (next_hop == giver.remote || !self.peers.values().any(|peer| peer.profile.remote == next_hop))
    }
}

/// Whether telling the group would be reflection (RFC 4456).
fn is_reflected(giver: Option<&PeerProfile>, group: &GroupKey) -> bool {
    group.ibgp && giver.is_some_and(|giver| giver.ibgp)
}
