//! From changed paths to what felix and the peers are told.

use std::collections::{BTreeMap, VecDeque};

use margay_net::{BestRoute, FibChange, NextHop};
use smallvec::SmallVec;

use super::Routing;
use super::attributes::AttributesExt;
use super::decision::{Candidate, Decision, Rules, decide};
use super::export::ExportCache;
use super::groups::Group;
use super::next_hops::NextHopSetId;
use super::prefixes::{Entry, Path, PrefixId, Source};
use super::pump::Batch;
use super::store::AttributeId;

/// Most prefixes of a family that are decided at a time.
const SLICE: usize = 8192;

/// A prefix whose best path was decided anew.
struct Change {
    id: PrefixId,
    source_before: Source,
    source: Source,
}

impl Routing {
    /// Decides what is dirty and tells felix and the groups of what came out differently.
    pub(crate) fn settle(&mut self) {
        while self.settle_slice() {}
    }

    /// Does a bounded part of [`Routing::settle`] and returns whether there is more, so that what a peer with many
    /// routes leaves behind when it goes is told bit by bit.
    pub(crate) fn settle_slice(&mut self) -> bool {
        for at in 0..self.tables.len() {
            self.settle_table(at);
        }
        self.tables.iter().any(|table| !table.dirty.is_empty())
    }

    /// Ends the deferral of route selection, where there is one: everybody is told everything.
    pub(crate) fn start_selection(&mut self) {
        self.settle();
        if !self.deferred {
            return;
        }
        self.deferred = false;
        for at in 0..self.tables.len() {
            let mut ways = Ways::default();
            for id in self.tables[at].prefixes.ids() {
                let usable = self.decide_entry(self.tables[at].prefixes.entry(id));
                self.tell_fib(at, id, usable.as_ref(), &mut ways);
                let entry = self.tables[at].prefixes.entry_mut(id);
                entry.told_source = entry.best_path().map_or(Source::NONE, |path| path.source);
            }
            ways.clear(self);
        }
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.join(peer);
        }
    }

    fn settle_table(&mut self, at: usize) {
        let waiting = &mut self.tables[at].dirty;
        let dirty: Vec<PrefixId> = waiting.drain(..waiting.len().min(SLICE)).collect();
        if waiting.is_empty() && waiting.capacity() > SLICE {
            *waiting = VecDeque::new();
        }
        if dirty.is_empty() {
            return self.clear_limbo(at);
        }
        let mut changes = Vec::with_capacity(dirty.len());
        let mut ways = Ways::default();
        for &id in &dirty {
            let decision = self.decide_entry(self.tables[at].prefixes.entry(id));
            if !self.deferred {
                self.tell_fib(at, id, decision.as_ref(), &mut ways);
            }
            let entry = self.tables[at].prefixes.entry_mut(id);
            entry.dirty = false;
            entry.set_best(decision.map(|outcome| outcome.best));
            let source = entry.best_path().map_or(Source::NONE, |path| path.source);
            if !self.deferred {
                let source_before = std::mem::replace(&mut entry.told_source, source);
                changes.push(Change { id, source_before, source });
            }
            if entry.paths.is_empty() {
                self.tables[at].limbo.push(id);
            }
        }
        ways.clear(self);
        if !changes.is_empty() {
            self.tell_groups(at, &changes);
        }
        self.clear_limbo(at);
    }

    /// Gives the numbers of unused prefixes back, unless somebody has still to be told about one.
    pub(super) fn clear_limbo(&mut self, at: usize) {
        let table = &mut self.tables[at];
        let noted = |group: &Group| {
            group.members.values().any(|member| !member.pending.is_empty() || !member.initial.is_empty())
        };
        if table.limbo.is_empty() || table.groups.iter().any(|(_, group)| noted(group)) {
            return;
        }
        for id in std::mem::take(&mut table.limbo) {
            table.prefixes.release(id);
        }
    }

    /// Runs the decision process over the usable paths of a prefix.
    pub(super) fn decide_entry(&self, entry: &Entry) -> Option<Outcome> {
        let usable: SmallVec<[u16; 4]> =
            (0..entry.paths.len()).filter(|&at| entry.paths[at].rejected.is_none()).map(|at| at as u16).collect();
        if let [only] = usable[..] {
            let multipath = SmallVec::from_slice(&[only]);
            return Some(Outcome { best: only, multipath, usable, decision: None });
        }
        let candidates: SmallVec<[Candidate; 4]> =
            usable.iter().map(|&at| self.candidate(&entry.paths[usize::from(at)])).collect();
        let so_far = |at: &u16| entry.paths[usize::from(*at)].source == entry.told_source;
        let decision = decide(&candidates, &self.rules(), usable.iter().position(so_far))?;
        Some(Outcome {
            best: usable[decision.best],
            multipath: decision.multipath.iter().map(|&at| usable[at]).collect(),
            usable,
            decision: Some(decision),
        })
    }

    pub(super) fn rules(&self) -> Rules<'_> {
        Rules { decision: &self.config.decision, multipath: &self.config.multipath }
    }

    pub(super) fn candidate(&self, path: &Path) -> Candidate {
        let giver = path.source.as_peer().and_then(|peer| self.peers.get(&peer));
        self.store.for_decision(path.attributes).candidate(
            giver.map(|peer| &*peer.profile),
            &self.config.decision,
            !self.config.multipath.relax_as_path_content,
        )
    }

    fn tell_fib(&mut self, at: usize, id: PrefixId, decision: Option<&Outcome>, ways: &mut Ways) {
        let entry = self.tables[at].prefixes.entry(id);
        let (told, told_stale, cidr) = (entry.told_fib, entry.told_stale, entry.cidr);
        // Told as the empty set of next hops.
        let discard = decision.is_some_and(|outcome| self.discards(cidr, &entry.paths[usize::from(outcome.best)]));
        let paths = decision.iter().flat_map(|outcome| &outcome.multipath).map(|&at| &entry.paths[usize::from(at)]);
        let stale = paths.clone().any(|path| path.stale && path.source != Source::LOCAL);
        let set = match decision.map(|outcome| &outcome.multipath[..]) {
            Some(_) if discard => Some(self.next_hop_sets.intern(&[])),
            Some(&[only]) => {
                let path = entry.paths[usize::from(only)];
                self.way(&path, ways)
            }
            _ => {
                let mut next_hops: SmallVec<[NextHop; 4]> = paths.flat_map(|path| self.next_hop(path)).collect();
                next_hops.sort_unstable();
                next_hops.dedup();
                (!next_hops.is_empty()).then(|| self.next_hop_sets.intern(&next_hops))
            }
        };
        if let Some(told) = told {
            self.next_hop_sets.release(told);
        }
        match set {
            Some(set) if told != Some(set) || told_stale != stale => {
                let next_hops = self.next_hop_sets.set(set).clone();
                self.fib_changes.push(FibChange::Set(BestRoute { prefix: cidr, next_hops, stale, discard }));
            }
            None if told.is_some() => self.fib_changes.push(FibChange::Withdraw(cidr)),
            _ => {}
        }
        let entry = self.tables[at].prefixes.entry_mut(id);
        (entry.told_fib, entry.told_stale) = (set, stale && set.is_some());
    }

    /// Returns the next hops of a path that is alone, counted as used.
    fn way(&mut self, path: &Path, ways: &mut Ways) -> Option<NextHopSetId> {
        let key = (path.source, path.attributes);
        if let Some((known, set)) = ways.0
            && known == key
        {
            return Some(self.next_hop_sets.retain(set));
        }
        let next_hop = self.next_hop(path)?;
        let set = self.next_hop_sets.intern(std::slice::from_ref(&next_hop));
        if let Some((_, before)) = ways.0.replace((key, self.next_hop_sets.retain(set))) {
            self.next_hop_sets.release(before);
        }
        Some(set)
    }

    /// Returns where packets of a learned path go; nothing for the node's own.
    pub(super) fn next_hop(&self, path: &Path) -> Option<NextHop> {
        let peer = self.peers.get(&path.source.as_peer()?)?;
        let addr = self.store.forwarding_address(path.attributes)?;
        let interface = if super::attributes::is_link_local(addr) { peer.profile.interface.clone() } else { None };
        Some(NextHop { addr, interface })
    }

    fn tell_groups(&mut self, at: usize, changes: &[Change]) {
        let mut groups = std::mem::take(&mut self.tables[at].groups);
        for (_, group) in &mut groups {
            let mut cache = ExportCache::default();
            let mut batches: BTreeMap<(Source, Source), Batch> = BTreeMap::new();
            let mut alone: BTreeMap<usize, Batch> = BTreeMap::new();
            // Attributes that a batch names stay in use by the table until it is sent, since a prefix changes once.
            for change in changes {
                let before = group.told.get(change.id);
                let after = self.export(at, change.id, &group.key, &mut cache);
                sort_out(group, change, before, after, &mut batches, &mut alone);
                group.told.set(change.id, after, &mut self.store);
            }
            for ((giver_before, giver), batch) in batches {
                let excluded = [giver_before.as_peer(), giver.as_peer()];
                let targets = group.members.keys().copied().filter(|peer| !excluded.contains(&Some(*peer))).collect();
                self.deliver(at, group, batch, targets);
            }
            for (peer, batch) in alone {
                self.deliver(at, group, batch, vec![peer]);
            }
            cache.clear(&mut self.store);
        }
        self.tables[at].groups = groups;
    }
}

/// The last path whose next hops were looked up in a round, since prefixes of one message share theirs; it holds a use of
/// the set.
#[derive(Debug, Default)]
struct Ways(Option<((Source, AttributeId), NextHopSetId)>);

impl Ways {
    fn clear(self, routing: &mut Routing) {
        if let Some((_, set)) = self.0 {
            routing.next_hop_sets.release(set);
        }
    }
}

/// The decision on a prefix, with indexes of its paths.
pub(super) struct Outcome {
    pub(super) best: u16,
    pub(super) multipath: SmallVec<[u16; 4]>,
    /// The paths that took part, by which the decision's own indexes go.
    pub(super) usable: SmallVec<[u16; 4]>,
    pub(super) decision: Option<Decision>,
}

/// Puts a change into the batch for all members that neither gave the path before nor give it at present, and into
/// batches for the one or two that do.
fn sort_out(
    group: &Group,
    change: &Change,
    before: Option<AttributeId>,
    after: Option<AttributeId>,
    batches: &mut BTreeMap<(Source, Source), Batch>,
    alone: &mut BTreeMap<usize, Batch>,
) {
    let giver = |source: Source, told: Option<AttributeId>| match source.as_peer() {
        Some(peer) if told.is_some() && group.members.contains_key(&peer) => source,
        _ => Source::NONE,
    };
    let (giver_before, giver_after) = (giver(change.source_before, before), giver(change.source, after));
    if before != after {
        batches.entry((giver_before, giver_after)).or_default().add(change.id, after);
    }
    if giver_before == giver_after {
        return;
    }
    if let Some(peer) = giver_before.as_peer()
        && after.is_some()
    {
        alone.entry(peer).or_default().add(change.id, after);
    }
    if let Some(peer) = giver_after.as_peer()
        && before.is_some()
    {
        alone.entry(peer).or_default().add(change.id, None);
    }
}
