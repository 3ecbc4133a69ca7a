use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use margay_net::{Cidr, FibBatch, FibChange, NextHop};

use super::host::Host;
use super::io::Hop;

/// The routes that the speaker wants, grouped by their next hops, so that a link's change costs one resolution per
/// group and touches only the routes of groups that it changes.
#[derive(Debug, Default)]
pub(super) struct Fib {
    routes: BTreeMap<Cidr, Entry>,
    ids: BTreeMap<Arc<BTreeSet<NextHop>>, u32>,
    groups: BTreeMap<u32, Group>,
    next_id: u32,
    /// The table was whole once: what it doesn't have goes.
    pub(super) complete: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    group: u32,
    /// Found in the kernel after a start, and not confirmed by the speaker yet.
    kept: bool,
}

#[derive(Debug)]
struct Group {
    next_hops: Arc<BTreeSet<NextHop>>,
    resolved: BTreeSet<Hop>,
    prefixes: BTreeSet<Cidr>,
}

impl Fib {
    /// Takes a batch in and adds the touched prefixes to `dirty`.
    pub(super) fn apply(&mut self, batch: FibBatch, host: &Host, dirty: &mut BTreeSet<Cidr>) {
        for change in batch.changes {
            match change {
                FibChange::Set(route) => {
                    self.set(route.prefix, route.next_hops, false, host);
                    dirty.insert(route.prefix);
                }
                FibChange::Withdraw(prefix) => {
                    self.remove(prefix);
                    dirty.insert(prefix);
                }
            }
        }
        if batch.complete && !self.complete {
            self.complete = true;
            let kept: Vec<_> = self.routes.iter().filter(|(_, entry)| entry.kept).map(|(prefix, _)| *prefix).collect();
            for prefix in kept {
                self.remove(prefix);
                dirty.insert(prefix);
            }
        }
    }

    /// Keeps a route that is in the kernel until the speaker has its say, unless it had it already.
    pub(super) fn keep(&mut self, prefix: Cidr, next_hops: BTreeSet<NextHop>, host: &Host) {
        if !self.complete && !self.routes.contains_key(&prefix) {
            self.set(prefix, Arc::new(next_hops), true, host);
        }
    }

    pub(super) fn has(&self, prefix: Cidr) -> bool {
        self.routes.contains_key(&prefix)
    }

    /// The next hops that can be used now; `None` if there are none or no route.
    pub(super) fn hops(&self, prefix: Cidr) -> Option<&BTreeSet<Hop>> {
        let entry = self.routes.get(&prefix)?;
        let group = self.groups.get(&entry.group)?;
        (!group.resolved.is_empty()).then_some(&group.resolved)
    }

    pub(super) fn prefixes(&self) -> impl Iterator<Item = Cidr> {
        self.routes.keys().copied()
    }

    /// Resolves all next hops anew and adds the prefixes to `dirty` for which that changed something.
    pub(super) fn resolve(&mut self, host: &Host, dirty: &mut BTreeSet<Cidr>) {
        for group in self.groups.values_mut() {
            let resolved = host.resolve(&group.next_hops);
            if resolved != group.resolved {
                group.resolved = resolved;
                dirty.extend(&group.prefixes);
            }
        }
    }

    fn set(&mut self, prefix: Cidr, next_hops: Arc<BTreeSet<NextHop>>, kept: bool, host: &Host) {
        let id = match self.ids.get(&next_hops) {
            Some(id) => *id,
            None => {
                let id = self.next_id;
                self.next_id += 1;
                self.ids.insert(next_hops.clone(), id);
                let resolved = host.resolve(&next_hops);
                self.groups.insert(id, Group { next_hops, resolved, prefixes: BTreeSet::new() });
                id
            }
        };
        match self.routes.insert(prefix, Entry { group: id, kept }) {
            Some(old) if old.group == id => {}
            Some(old) => self.leave(old.group, prefix),
            None => {}
        }
        if let Some(group) = self.groups.get_mut(&id) {
            group.prefixes.insert(prefix);
        }
    }

    fn remove(&mut self, prefix: Cidr) {
        if let Some(entry) = self.routes.remove(&prefix) {
            self.leave(entry.group, prefix);
        }
    }

    /// Takes a prefix out of a group; a group without prefixes goes.
    fn leave(&mut self, id: u32, prefix: Cidr) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.prefixes.remove(&prefix);
        if group.prefixes.is_empty() {
            self.ids.remove(&group.next_hops);
            self.groups.remove(&id);
        }
    }
}
