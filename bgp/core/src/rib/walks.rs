//! What concerns a whole table, done a part at a time so that no session waits for it.
//!
//! All that is to be done is done on one way round through the numbers of the prefixes: a [`Task`] joins where the walk
//! happens to be, and is over when the walk comes there again. Each prefix is treated by what holds when it is come to, so
//! a task that is asked for again while it is under way just has another lap before it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use smallvec::SmallVec;

use super::add_path::name_paths;
use super::export::ExportCache;
use super::groups::{Group, Told};
use super::import::LastChecked;
use super::prefixes::{Path, PrefixId, Source};
use super::settle::Ways;
use super::{Routing, Table};
use crate::config::OwnershipCheck;
use crate::ownership::Affected;

/// With so many tables of owners in a lap, all guarded paths are judged anew.
const MANY_OWNERS: usize = 8;

/// What is done to every prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    /// Paths of retired generations are taken out.
    Sweep,
    /// Paths of a peer are evaluated anew.
    Import(usize),
    /// Paths are judged anew of which a change of owners is noted.
    Owners,
    /// Paths are judged anew whose next hops are noted.
    NextHops,
    /// Prefixes are decided and told anew: all, or those that a peer has a path of.
    Mark,
    MarkPeer(usize),
    /// Felix is told, after a restart.
    TellFib,
    /// The table of a new group is made.
    Make(usize),
}

/// The way round through a table.
#[derive(Debug, Default)]
pub(super) struct Walks {
    /// The next prefix.
    at: PrefixId,
    laps: BTreeMap<Task, Lap>,
    /// What [`Task::NextHops`] is about.
    moved: BTreeSet<IpAddr>,
    /// What [`Task::Owners`] is about.
    affected: Vec<Affected>,
}

#[derive(Debug, Clone, Copy)]
struct Lap {
    from: PrefixId,
    /// The end of the table was passed.
    turned: bool,
}

impl Walks {
    /// Has something done to every prefix that there is.
    pub(super) fn add(&mut self, task: Task) {
        self.laps.insert(task, Lap { from: self.at, turned: false });
    }

    pub(super) fn drop_task(&mut self, task: Task) {
        self.laps.remove(&task);
    }

    pub(super) fn has(&self, task: Task) -> bool {
        self.laps.contains_key(&task)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.laps.is_empty()
    }

    fn peers(&self, number: impl Fn(&Task) -> Option<usize>) -> BTreeSet<usize> {
        self.laps.keys().filter_map(number).collect()
    }

    /// Goes on to `at`, and returns the tasks that are over.
    fn advance(&mut self, at: PrefixId, turned: bool) -> Vec<Task> {
        self.at = at;
        for lap in self.laps.values_mut() {
            lap.turned |= turned;
        }
        let over: Vec<Task> =
            self.laps.iter().filter(|(_, lap)| lap.turned && at >= lap.from).map(|(&task, _)| task).collect();
        for task in &over {
            self.laps.remove(task);
            match task {
                Task::NextHops => self.moved.clear(),
                Task::Owners => self.affected.clear(),
                _ => {}
            }
        }
        over
    }
}

/// What is done in one part of the way.
struct Part {
    begin: PrefixId,
    end: PrefixId,
    moved: BTreeSet<IpAddr>,
    affected: Vec<Affected>,
    import: BTreeSet<usize>,
    guarded: BTreeSet<usize>,
    mark: bool,
    mark_of: BTreeSet<usize>,
    tell_fib: bool,
}

impl Routing {
    /// Goes a part of the way through a table.
    pub(super) fn walk(&mut self, at: usize) {
        let table = &mut self.tables[at];
        if table.walks.is_empty() {
            return;
        }
        let slots = table.prefixes.slots();
        let begin = table.walks.at.min(slots);
        let end = slots.min(begin.saturating_add(self.slice as PrefixId));
        let walks = &mut table.walks;
        let part = Part {
            begin,
            end,
            moved: std::mem::take(&mut walks.moved),
            affected: std::mem::take(&mut walks.affected),
            import: walks.peers(|task| if let Task::Import(peer) = task { Some(*peer) } else { None }),
            guarded: if walks.has(Task::Owners) { self.guarded() } else { BTreeSet::new() },
            mark: self.tables[at].walks.has(Task::Mark),
            mark_of: self.tables[at]
                .walks
                .peers(|task| if let Task::MarkPeer(peer) = task { Some(*peer) } else { None }),
            tell_fib: self.tables[at].walks.has(Task::TellFib),
        };
        self.counters.work += u64::from(end - begin);
        let (mut ways, mut last) = (Ways::default(), LastChecked::default());
        for id in part.begin..part.end {
            if self.tables[at].prefixes.has(id) {
                self.visit(at, id, &part, &mut ways, &mut last);
            }
        }
        ways.clear(self);
        last.end(self);
        self.make_groups(at, &part);
        let walks = &mut self.tables[at].walks;
        (walks.moved, walks.affected) = (part.moved, part.affected);
        let turned = end == slots;
        for task in walks.advance(if turned { 0 } else { end }, turned) {
            if let Task::Make(group) = task
                && let Some(group) = self.tables[at].groups.get_mut(group)
            {
                group.making = false;
            }
        }
        if !self.tables[at].generations.has_retired() {
            self.tables[at].walks.drop_task(Task::Sweep);
        }
    }

    fn visit(&mut self, at: usize, id: PrefixId, part: &Part, ways: &mut Ways, last: &mut LastChecked) {
        let table = &mut self.tables[at];
        table.sweep(id, &mut self.store);
        let entry = table.prefixes.entry(id);
        let concerned = !part.affected.is_empty() && part.affected.iter().any(|affected| affected.contains(entry.cidr));
        if concerned || !part.import.is_empty() {
            let meant = |path: &&Path| {
                let of = |peers: &BTreeSet<usize>| path.source.as_peer().is_some_and(|peer| peers.contains(&peer));
                of(&part.import) || concerned && of(&part.guarded)
            };
            let again: SmallVec<[Path; 2]> = entry.paths.iter().filter(meant).copied().collect();
            again.into_iter().for_each(|path| self.import_path_again(at, id, path, last));
        }
        if !part.moved.is_empty() {
            self.judge_again(at, id, &part.moved);
        }
        let of_peer = |path: &Path| path.source.as_peer().is_some_and(|peer| part.mark_of.contains(&peer));
        if part.mark || !part.mark_of.is_empty() && self.tables[at].prefixes.entry(id).paths.iter().any(of_peer) {
            self.tables[at].mark(id);
        }
        if part.tell_fib {
            let outcome = self.choose(self.tables[at].prefixes.entry(id));
            self.tell_fib(at, id, outcome.as_ref(), ways);
            let entry = self.tables[at].prefixes.entry_mut(id);
            entry.set_best(outcome.map(|outcome| outcome.best));
            entry.told_source = entry.best_path().map_or(Source::NONE, |path| path.source);
        }
    }

    /// Goes on with the tables of new groups.
    fn make_groups(&mut self, at: usize, part: &Part) {
        if !self.tables[at].groups.iter().any(|(_, group)| group.making) {
            return;
        }
        let mut groups = std::mem::take(&mut self.tables[at].groups);
        for (_, group) in groups.iter_mut().filter(|(_, group)| group.making) {
            self.make_part(at, group, part.begin..part.end);
        }
        self.tables[at].groups = groups;
    }

    /// Works out what a group is told of a part of the prefixes. One that is about to be decided is told again then.
    pub(super) fn make_part(&mut self, at: usize, group: &mut Group, part: std::ops::Range<PrefixId>) {
        self.counters.work += u64::from(part.end - part.start);
        let mut cache = ExportCache::default();
        for id in part {
            if !self.tables[at].prefixes.has(id) {
                continue;
            }
            if let Told::Best(_) = group.told {
                let attributes = self.export(at, id, &group.key, &mut cache);
                group.told.set(id, attributes, &mut self.store);
            } else {
                let mut paths = self.export_paths(at, id, &group.key, &mut cache);
                name_paths(&mut paths, group.told.paths(id));
                group.told.set_paths(id, paths, &mut self.store);
            }
        }
        cache.clear(&mut self.store);
    }

    /// Has paths of a peer evaluated anew.
    pub(super) fn import_again(&mut self, peer: usize) {
        for table in self.tables.iter_mut().filter(|table| table.generations.paths(peer) > 0) {
            table.walks.add(Task::Import(peer));
        }
    }

    /// Has all prefixes decided and told anew that a peer has a path of.
    pub(super) fn mark_paths_of(&mut self, peer: usize) {
        for table in self.tables.iter_mut().filter(|table| table.generations.paths(peer) > 0) {
            table.walks.add(Task::MarkPeer(peer));
        }
    }

    /// Has all prefixes decided and told anew.
    pub(super) fn mark_all(&mut self) {
        self.tables.iter_mut().for_each(|table| table.walks.add(Task::Mark));
    }

    /// Has the paths judged anew whose next hops moved.
    pub(super) fn judge_moved(&mut self, moved: &BTreeSet<IpAddr>) {
        for table in &mut self.tables {
            table.walks.moved.extend(moved);
            table.walks.add(Task::NextHops);
        }
    }

    /// Has the guarded paths judged anew that a change of owners concerns.
    pub(super) fn judge_owned(&mut self, affected: &Affected) {
        let guarded = self.guarded();
        for table in &mut self.tables {
            if !guarded.iter().any(|&peer| table.generations.paths(peer) > 0) {
                continue;
            }
            if table.walks.affected.len() < MANY_OWNERS {
                table.walks.affected.push(affected.clone());
                table.walks.add(Task::Owners);
            } else {
                guarded.iter().for_each(|&peer| table.walks.add(Task::Import(peer)));
            }
        }
    }

    /// Returns the peers whose routes the guard judges.
    pub(super) fn guarded(&self) -> BTreeSet<usize> {
        let guarded = self.peers.iter().filter(|(_, peer)| peer.profile.settings.ownership != OwnershipCheck::Off);
        guarded.map(|(index, _)| index).collect()
    }
}

impl Table {
    /// Has retired paths taken out.
    pub(super) fn sweep_soon(&mut self) {
        if self.generations.has_retired() {
            self.walks.add(Task::Sweep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks over ten prefixes, three at a time, and returns how many steps each task took.
    fn steps(joins: &[(usize, Task)]) -> BTreeMap<Task, usize> {
        let (mut walks, mut over, mut step) = (Walks::default(), BTreeMap::new(), 0);
        while step < 40 {
            joins.iter().filter(|(at, _)| *at == step).for_each(|(_, task)| walks.add(*task));
            let end = (walks.at + 3).min(10);
            step += 1;
            for task in walks.advance(if end == 10 { 0 } else { end }, end == 10) {
                over.insert(task, step);
            }
        }
        assert!(walks.is_empty());
        over
    }

    #[test]
    fn a_task_is_over_when_the_walk_comes_to_where_it_joined() {
        assert_eq!(steps(&[(0, Task::Mark)])[&Task::Mark], 4);
        let two = steps(&[(0, Task::Mark), (2, Task::Sweep)]);
        assert_eq!((two[&Task::Mark], two[&Task::Sweep]), (4, 6));
    }

    #[test]
    fn a_task_that_is_asked_for_again_has_another_lap() {
        assert_eq!(steps(&[(0, Task::Mark), (3, Task::Mark)])[&Task::Mark], 7);
    }
}
