//! From changed paths to what felix and the peers are told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use margay_net::{BestRoute, FibChange, NextHop};
use smallvec::SmallVec;

use super::add_path::name_paths;
use super::attributes::AttributesExt;
use super::decision::{Candidate, Decision, Rules, decide};
use super::export::ExportCache;
use super::groups::{Group, ToldPath};
use super::next_hops::NextHopSetId;
use super::prefixes::{Entry, Marks, Path, PrefixId, Source};
use super::pump::{Batch, Route};
use super::store::AttributeId;
use super::walks::Task;
use super::{Routing, Table};
use crate::config::AddPathSend;

/// Most prefixes of a family that are decided at a time, and most that are looked at on a walk.
pub(super) const SLICE: usize = 8192;

/// Most changes of several givers that are told together; see [`Routing::deliver_combined`].
const COMBINED: usize = 1024;

/// The start of route selection.
#[derive(Debug)]
pub(super) struct Start {
    /// Felix is told everything in one batch, and the peers are told nothing before.
    withheld: bool,
    /// How many prefixes of each table have still to be decided that were to be at the beginning.
    undecided: [usize; 2],
    over: bool,
}

/// A prefix whose best path was decided anew.
struct Change {
    id: PrefixId,
    source_before: Source,
    source: Source,
}

impl Routing {
    /// Decides what is dirty and tells felix and the groups of what came out differently.
    #[cfg(test)]
    pub(crate) fn settle(&mut self) {
        while self.settle_slice() {}
    }

    /// Does a bounded part of what is to be done in the tables, and returns whether there is more: a part of the walks
    /// through them, and the decision on a part of what is dirty.
    pub(crate) fn settle_slice(&mut self) -> bool {
        self.settle_next_hops();
        for at in 0..self.tables.len() {
            self.walk(at);
            self.admit(at);
            self.settle_table(at);
            self.tables[at].discard(self.slice, &mut self.store);
        }
        self.start_is_over();
        self.start.as_ref().is_some_and(|start| !start.over)
            || self.installs.are_due()
            || self.tables.iter().any(Table::has_work)
    }

    /// Starts route selection: everybody is told everything, where nobody was so far (RFC 4724 section 4.1). It has
    /// started when [`Routing::take_started`] says so.
    pub(crate) fn start_selection(&mut self) {
        let withheld = std::mem::take(&mut self.deferred);
        let undecided = self.tables.each_ref().map(|table| if withheld { 0 } else { table.dirty.len() });
        if withheld {
            self.tables.iter_mut().for_each(|table| table.walks.add(Task::TellFib));
        }
        self.start = Some(Start { withheld, undecided, over: false });
    }

    /// Whether the table that felix is told at the start is still in the making.
    pub(super) fn is_withheld(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.withheld && !start.over)
    }

    /// Tells, once, that route selection has started: felix's changes up to here make the table whole.
    pub(crate) fn take_started(&mut self) -> bool {
        let over = self.start.as_ref().is_some_and(|start| start.over);
        if over {
            self.start = None;
        }
        over
    }

    /// Whether route selection is deferred or has not started in all of the table.
    pub(crate) fn is_starting(&self) -> bool {
        self.deferred || self.start.is_some()
    }

    fn start_is_over(&mut self) {
        let Some(start) = &mut self.start else { return };
        let told = !self.tables.iter().any(|table| table.walks.has(Task::TellFib));
        if start.over || !told || start.undecided != [0; 2] {
            return;
        }
        start.over = true;
        if start.withheld {
            for peer in self.peers.keys().collect::<Vec<_>>() {
                self.join(peer);
            }
        }
    }

    fn settle_table(&mut self, at: usize) {
        let waiting = &mut self.tables[at].dirty;
        let mut dirty: Vec<PrefixId> = waiting.drain(..waiting.len().min(self.slice)).collect();
        if let Some(start) = &mut self.start {
            start.undecided[at] = start.undecided[at].saturating_sub(dirty.len());
        }
        if waiting.is_empty() && waiting.capacity() > SLICE {
            *waiting = VecDeque::new();
        }
        dirty.extend(self.release_installed(at));
        self.counters.work += dirty.len() as u64;
        if dirty.is_empty() {
            return self.clear_limbo(at);
        }
        let mut changes = Vec::with_capacity(dirty.len());
        let mut ways = Ways::default();
        let best_alone = self.tables[at].groups.iter().all(|(_, group)| group.key.add_path == AddPathSend::None);
        for &id in &dirty {
            self.tables[at].sweep(id, &mut self.store);
            let decision = self.choose(self.tables[at].prefixes.entry(id));
            if !self.deferred {
                self.tell_fib(at, id, decision.as_ref(), &mut ways);
            }
            let entry = self.tables[at].prefixes.entry_mut(id);
            entry.marks.set(Marks::DIRTY, false);
            let best_before = entry.best();
            entry.set_best(decision.map(|outcome| outcome.best));
            let same = entry.best() == best_before && !entry.marks.set(Marks::TOUCHED, false);
            let source = entry.best_path().map_or(Source::NONE, |path| path.source);
            if !self.deferred {
                let source_before = std::mem::replace(&mut entry.told_source, source);
                if !same || !best_alone {
                    changes.push(Change { id, source_before, source });
                }
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
        if table.limbo.is_empty() || table.has_notes() {
            return;
        }
        let left = table.limbo.len().saturating_sub(self.slice);
        for id in table.limbo.drain(left..) {
            table.prefixes.release(id);
        }
        if table.limbo.is_empty() && table.limbo.capacity() > SLICE {
            table.limbo = Vec::new();
        }
    }

    /// Chooses among the usable paths of a prefix as [`Routing::decide_entry`] does, without saying why each other one
    /// lost: most lose in the first steps, which are at hand.
    pub(super) fn choose(&self, entry: &Entry) -> Option<Outcome> {
        let usable: SmallVec<[u16; 4]> =
            (0..entry.paths.len()).filter(|&at| entry.paths[at].rejected.is_none()).map(|at| at as u16).collect();
        let mut left: SmallVec<[u16; 4]> = SmallVec::new();
        let mut least = None;
        for &at in &usable {
            let standing = self.standing(&entry.paths[usize::from(at)]);
            if least.is_none_or(|least| standing < least) {
                least = Some(standing);
                left.clear();
            }
            if least == Some(standing) {
                left.push(at);
            }
        }
        if let [only] = left[..] {
            return Some(Outcome { best: only, multipath: SmallVec::from_slice(&[only]), usable, decision: None });
        }
        let candidates: SmallVec<[Candidate; 4]> =
            left.iter().map(|&at| self.candidate(&entry.paths[usize::from(at)])).collect();
        let current = left.iter().position(|&at| Some(at) == entry.best());
        let decision = decide(&candidates, &self.rules(), current)?;
        let multipath = decision.multipath.iter().map(|&at| left[at]).collect();
        Some(Outcome { best: left[decision.best], multipath, usable, decision: None })
    }

    /// Returns what the first steps of the decision process compare, the least the best: whether the path is the node's
    /// own, LOCAL_PREF, the length of AS_PATH, ORIGIN.
    fn standing(&self, path: &Path) -> (bool, u32, u16, u8) {
        if path.source == Source::LOCAL {
            return (false, 0, 0, 0);
        }
        let merit = self.store.merit(path.attributes);
        let config = &self.config.decision;
        let local_pref = merit.local_pref().unwrap_or(config.default_local_pref);
        let as_path_length = if config.ignore_as_path_length { 0 } else { merit.as_path_length() };
        (true, u32::MAX - local_pref, as_path_length, merit.origin())
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
        let current = usable.iter().position(|&at| Some(at) == entry.best());
        let decision = decide(&candidates, &self.rules(), current)?;
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
        let candidate = self.store.for_decision(path.attributes).candidate(
            giver.map(|peer| &*peer.profile),
            &self.config.decision,
            !self.config.multipath.relax_as_path_content,
        );
        Candidate { igp_metric: self.interior_cost(path), path_id: path.path_id, ..candidate }
    }

    pub(super) fn tell_fib(&mut self, at: usize, id: PrefixId, decision: Option<&Outcome>, ways: &mut Ways) {
        let entry = self.tables[at].prefixes.entry(id);
        let (told, told_stale, cidr) = (entry.told_fib, entry.marks.has(Marks::TOLD_STALE), entry.cidr);
        // Told as the empty set of next hops.
        let discard = decision.is_some_and(|outcome| self.discards(cidr, &entry.paths[usize::from(outcome.best)]));
        let paths = decision.iter().flat_map(|outcome| &outcome.multipath).map(|&at| &entry.paths[usize::from(at)]);
        let stale = paths.clone().any(|path| self.tables[at].generations.is_stale(path));
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
        entry.told_fib = set;
        entry.marks.set(Marks::TOLD_STALE, stale && set.is_some());
        if told.is_none() {
            entry.batch = self.installs.making();
        }
    }

    /// Returns the next hops of a path that is alone, counted as used.
    fn way(&mut self, path: &Path, ways: &mut Ways) -> Option<NextHopSetId> {
        let key = (path.source, path.attributes);
        if let Some((known, set)) = ways.0
            && known == key
        {
            return Some(self.next_hop_sets.retain(set));
        }
        let next_hops = self.next_hop(path);
        if next_hops.is_empty() {
            return None;
        }
        let set = self.next_hop_sets.intern(&next_hops);
        if let Some((_, before)) = ways.0.replace((key, self.next_hop_sets.retain(set))) {
            self.next_hop_sets.release(before);
        }
        Some(set)
    }

    fn tell_groups(&mut self, at: usize, changes: &[Change]) {
        let mut groups = std::mem::take(&mut self.tables[at].groups);
        for (_, group) in &mut groups {
            let mut cache = ExportCache::default();
            let mut batches: BTreeMap<(Source, Source), Batch> = BTreeMap::new();
            let mut alone: BTreeMap<usize, Batch> = BTreeMap::new();
            // Attributes that a batch names stay in use by the table until it is sent, since a prefix changes once.
            for change in changes {
                let mut sort = |path_id, before, after| {
                    let route = Route { prefix: change.id, path_id };
                    sort_out(group, route, before, after, &mut batches, &mut alone);
                };
                if group.key.add_path == AddPathSend::None {
                    let before = group.told.get(change.id);
                    let after = self.export(at, change.id, &group.key, &mut cache);
                    let with = |source| move |attributes| (attributes, source);
                    sort(0, before.map(with(change.source_before)), after.map(with(change.source)));
                    group.told.set(change.id, after, &mut self.store);
                } else {
                    let mut after = self.export_paths(at, change.id, &group.key, &mut cache);
                    let before = group.told.paths(change.id);
                    name_paths(&mut after, before);
                    let told = |paths: &[ToldPath], name: u32| {
                        let path = paths.iter().find(|path| path.path_id == name)?;
                        Some((path.attributes, path.source))
                    };
                    let new = after.iter().map(|path| path.path_id).filter(|&name| told(before, name).is_none());
                    for name in before.iter().map(|path| path.path_id).chain(new) {
                        sort(name, told(before, name), told(&after, name));
                    }
                    group.told.set_paths(change.id, after, &mut self.store);
                }
            }
            if group.members.is_empty() {
                // It is in the making.
            } else if batches.len() > 1 && changes.len() <= COMBINED {
                self.deliver_combined(at, group, &batches, alone);
            } else {
                for ((giver_before, giver), batch) in batches {
                    let excluded = [giver_before.as_peer(), giver.as_peer()];
                    self.deliver(at, group, batch, |peer| !excluded.contains(&Some(peer)));
                }
                for (peer, batch) in alone {
                    self.deliver(at, group, batch, |other| other == peer);
                }
            }
            cache.clear(&mut self.store);
        }
        self.tables[at].groups = groups;
    }
}

/// The last path whose next hops were looked up in a round, since prefixes of one message share theirs; it holds a use of
/// the set.
#[derive(Debug, Default)]
pub(super) struct Ways(Option<((Source, AttributeId), NextHopSetId)>);

impl Ways {
    pub(super) fn clear(self, routing: &mut Routing) {
        if let Some((_, set)) = self.0 {
            routing.next_hop_sets.release(set);
        }
    }
}

impl Table {
    /// Whether somebody has still to be told of some prefix.
    fn has_notes(&self) -> bool {
        let noted = |group: &Group| {
            let mut members = group.members.values();
            group.lags && members.any(|member| !member.pending.is_empty() || !member.initial.is_empty())
        };
        self.groups.iter().any(|(_, group)| noted(group))
    }

    fn has_work(&self) -> bool {
        !self.dirty.is_empty()
            || !self.walks.is_empty()
            || !self.discarded.is_empty()
            || self.groups.iter().any(|(_, group)| !group.making && !group.wanted.is_empty())
            || self.has_limbo()
    }

    /// Whether numbers of unused prefixes can be given back.
    pub(super) fn has_limbo(&self) -> bool {
        !self.limbo.is_empty() && !self.has_notes()
    }
}

impl Routing {
    /// Delivers what several givers changed: all of it together to those that gave nothing, and to each giver what is left
    /// without its own. With many members it is the number of pieces that costs, more than encoding some of it again.
    fn deliver_combined(
        &mut self,
        at: usize,
        group: &mut Group,
        batches: &BTreeMap<(Source, Source), Batch>,
        mut alone: BTreeMap<usize, Batch>,
    ) {
        let givers_of = |&(before, after): &(Source, Source)| [before.as_peer(), after.as_peer()];
        let givers: BTreeSet<usize> = batches.keys().flat_map(givers_of).flatten().collect();
        let mut all = Batch::default();
        for (key, batch) in batches {
            all.append(batch);
            for &giver in givers.iter().filter(|giver| !givers_of(key).contains(&Some(**giver))) {
                alone.entry(giver).or_default().append(batch);
            }
        }
        self.deliver(at, group, all, |peer| !givers.contains(&peer));
        for (peer, batch) in alone {
            self.deliver(at, group, batch, |other| other == peer);
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

/// What is told of a route, and whose path it is.
type Telling = Option<(AttributeId, Source)>;

/// Puts a change into the batch for all members that neither gave the path before nor give it at present, and into
/// batches for the one or two that do.
fn sort_out(
    group: &Group,
    route: Route,
    before: Telling,
    after: Telling,
    batches: &mut BTreeMap<(Source, Source), Batch>,
    alone: &mut BTreeMap<usize, Batch>,
) {
    let giver = |told: Telling| match told {
        Some((_, source)) if source.as_peer().is_some_and(|peer| group.members.contains_key(&peer)) => source,
        _ => Source::NONE,
    };
    let (giver_before, giver_after) = (giver(before), giver(after));
    let [before, after] = [before, after].map(|told| told.map(|(attributes, _)| attributes));
    if before != after {
        batches.entry((giver_before, giver_after)).or_default().add(route, after);
    }
    if giver_before == giver_after {
        return;
    }
    if let Some(peer) = giver_before.as_peer()
        && after.is_some()
    {
        alone.entry(peer).or_default().add(route, after);
    }
    if let Some(peer) = giver_after.as_peer()
        && before.is_some()
    {
        alone.entry(peer).or_default().add(route, None);
    }
}
