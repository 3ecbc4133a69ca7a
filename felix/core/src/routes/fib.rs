use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use margay_net::{Cidr, FibBatch, FibChange, NextHop};

use super::host::Host;
use super::io::{Hop, Target};

/// The routes that the speaker wants, grouped by their next hops, so that a link's change costs one resolution per
/// group and touches only the routes of groups that it changes.
#[derive(Debug, Default)]
pub(super) struct Fib {
    routes: BTreeMap<Cidr, Entry>,
    ids: BTreeMap<Way, u32>,
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

/// What becomes of packets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Via(Arc<BTreeSet<NextHop>>),
    Discard,
}

#[derive(Debug)]
struct Group {
    way: Way,
    resolved: BTreeSet<Hop>,
    prefixes: BTreeSet<Cidr>,
}

impl Fib {
    /// Takes a batch in and adds the touched prefixes to `dirty`.
    pub(super) fn apply(&mut self, batch: FibBatch, host: &Host, dirty: &mut BTreeSet<Cidr>) {
        for change in batch.changes {
            match change {
                FibChange::Set(route) => {
                    let way = if route.discard { Way::Discard } else { Way::Via(route.next_hops) };
                    self.set(route.prefix, way, false, host);
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

    /// Keeps a route that is in the kernel until the speaker has its say, unless it had it already. Without next hops it
    /// discards.
    pub(super) fn keep(&mut self, prefix: Cidr, next_hops: Option<BTreeSet<NextHop>>, host: &Host) {
        if !self.complete && !self.routes.contains_key(&prefix) {
            let way = next_hops.map_or(Way::Discard, |next_hops| Way::Via(Arc::new(next_hops)));
            self.set(prefix, way, true, host);
        }
    }

    pub(super) fn has(&self, prefix: Cidr) -> bool {
        self.routes.contains_key(&prefix)
    }

    /// What the kernel should do with packets to the prefix: discard, or send them to those next hops that can be used;
    /// `None` if there are none or no route.
    pub(super) fn target(&self, prefix: Cidr) -> Option<Target> {
        let entry = self.routes.get(&prefix)?;
        let group = self.groups.get(&entry.group)?;
        match group.way {
            Way::Discard => Some(Target::Blackhole),
            Way::Via(_) => (!group.resolved.is_empty()).then(|| Target::Via(group.resolved.clone())),
        }
    }

    pub(super) fn prefixes(&self) -> impl Iterator<Item = Cidr> {
        self.routes.keys().copied()
    }

    /// Resolves all next hops anew and adds the prefixes to `dirty` for which that changed something.
    pub(super) fn resolve(&mut self, host: &Host, dirty: &mut BTreeSet<Cidr>) {
        for group in self.groups.values_mut() {
            let resolved = group.way.resolve(host);
            if resolved != group.resolved {
                group.resolved = resolved;
                dirty.extend(&group.prefixes);
            }
        }
    }

    fn set(&mut self, prefix: Cidr, way: Way, kept: bool, host: &Host) {
        let id = match self.ids.get(&way) {
            Some(id) => *id,
            None => {
                let id = self.next_id;
                self.next_id += 1;
                self.ids.insert(way.clone(), id);
                let resolved = way.resolve(host);
                self.groups.insert(id, Group { way, resolved, prefixes: BTreeSet::new() });
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
            self.ids.remove(&group.way);
            self.groups.remove(&id);
        }
    }
}

impl Way {
    fn resolve(&self, host: &Host) -> BTreeSet<Hop> {
        match self {
            Way::Via(next_hops) => host.resolve(next_hops),
            Way::Discard => BTreeSet::new(),
        }
    }
}
