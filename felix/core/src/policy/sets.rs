//! Sets of facts: what the rules of active programs can tell about an address.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use slab::Slab;

use super::IdentityId;
use super::labels::ShapeId;

pub(super) type MatcherId = u32;

/// A matcher that matches, and the numbers that it resolves a named port to, if it is about one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Fact {
    pub(super) matcher: MatcherId,
    /// Ascending.
    pub(super) ports: Vec<u16>,
}

/// Names a set of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SetId(u32);

impl SetId {
    pub(super) const EMPTY: SetId = SetId(0);
}

#[derive(Debug, Default)]
pub(super) struct FactSet {
    /// Ascending by matcher, each once.
    pub(super) facts: Arc<[Fact]>,
    pub(super) shapes: BTreeSet<ShapeId>,
    /// Addresses with facts of their own: those of several endpoints, or where a segment of the address space starts.
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) identities: BTreeSet<IdentityId>,
}

/// All sets of one kind: those of selectors, or those of nets. The empty one is always there.
#[derive(Debug)]
pub(super) struct FactSets {
    all: Slab<FactSet>,
    by_facts: HashMap<Arc<[Fact]>, SetId>,
    /// The sets that hold a matcher.
    by_matcher: HashMap<MatcherId, BTreeSet<SetId>>,
    /// Sets that lost a member and may have none left.
    fading: BTreeSet<SetId>,
}

impl Default for FactSets {
    fn default() -> Self {
        let mut sets = FactSets {
            all: Slab::new(),
            by_facts: HashMap::new(),
            by_matcher: HashMap::new(),
            fading: BTreeSet::new(),
        };
        sets.intern(Vec::new());
        sets
    }
}

impl FactSets {
    pub(super) fn set(&self, id: SetId) -> &FactSet {
        &self.all[id.0 as usize]
    }

    fn set_mut(&mut self, id: SetId) -> &mut FactSet {
        &mut self.all[id.0 as usize]
    }

    pub(super) fn facts(&self, id: SetId) -> &Arc<[Fact]> {
        &self.set(id).facts
    }

    /// The sets that hold a matcher.
    pub(super) fn holding(&self, matcher: MatcherId) -> Vec<SetId> {
        self.by_matcher.get(&matcher).into_iter().flatten().copied().collect()
    }

    pub(super) fn find(&self, facts: &[Fact]) -> Option<SetId> {
        self.by_facts.get(facts).copied()
    }

    /// The set of these facts, made if it isn't there.
    pub(super) fn intern(&mut self, facts: Vec<Fact>) -> SetId {
        if let Some(id) = self.find(&facts) {
            return id;
        }
        let facts: Arc<[Fact]> = facts.into();
        let id = SetId(self.all.insert(FactSet { facts: facts.clone(), ..FactSet::default() }) as u32);
        self.index(id, facts);
        id
    }

    /// Gives a set, with all its members, other facts, which no other set has.
    pub(super) fn rename(&mut self, id: SetId, facts: Vec<Fact>) {
        self.unindex(id);
        let facts: Arc<[Fact]> = facts.into();
        self.set_mut(id).facts = facts.clone();
        self.index(id, facts);
    }

    pub(super) fn add_shape(&mut self, id: SetId, shape: ShapeId) {
        // Nobody asks who has no facts.
        if id != SetId::EMPTY {
            self.all[id.0 as usize].shapes.insert(shape);
        }
    }

    pub(super) fn add_address(&mut self, id: SetId, address: IpAddr) {
        if id != SetId::EMPTY {
            self.all[id.0 as usize].addresses.insert(address);
        }
    }

    pub(super) fn add_identity(&mut self, id: SetId, identity: IdentityId) {
        self.all[id.0 as usize].identities.insert(identity);
    }

    pub(super) fn remove_shape(&mut self, id: SetId, shape: ShapeId) {
        self.set_mut(id).shapes.remove(&shape);
        self.fading.insert(id);
    }

    pub(super) fn remove_address(&mut self, id: SetId, address: IpAddr) {
        self.set_mut(id).addresses.remove(&address);
        self.fading.insert(id);
    }

    pub(super) fn remove_identity(&mut self, id: SetId, identity: IdentityId) {
        self.set_mut(id).identities.remove(&identity);
        self.fading.insert(id);
    }

    /// Forgets the sets that have no members.
    pub(super) fn collect(&mut self) {
        for id in std::mem::take(&mut self.fading) {
            let set = self.set(id);
            if id == SetId::EMPTY || !set.shapes.is_empty() || !set.addresses.is_empty() || !set.identities.is_empty() {
                continue;
            }
            self.unindex(id);
            self.all.remove(id.0 as usize);
        }
    }

    fn index(&mut self, id: SetId, facts: Arc<[Fact]>) {
        for fact in facts.iter() {
            self.by_matcher.entry(fact.matcher).or_default().insert(id);
        }
        self.by_facts.insert(facts, id);
    }

    fn unindex(&mut self, id: SetId) {
        let facts = self.facts(id).clone();
        self.by_facts.remove(&facts);
        for fact in facts.iter() {
            if let Some(sets) = self.by_matcher.get_mut(&fact.matcher) {
                sets.remove(&id);
                if sets.is_empty() {
                    self.by_matcher.remove(&fact.matcher);
                }
            }
        }
    }
}

/// The facts with one more, which replaces that of the same matcher.
pub(super) fn with_fact(facts: &[Fact], fact: &Fact) -> Vec<Fact> {
    let mut out: Vec<Fact> = facts.iter().filter(|known| known.matcher != fact.matcher).cloned().collect();
    let place = out.partition_point(|known| known.matcher < fact.matcher);
    out.insert(place, fact.clone());
    out
}

pub(super) fn without_matcher(facts: &[Fact], matcher: MatcherId) -> Vec<Fact> {
    facts.iter().filter(|fact| fact.matcher != matcher).cloned().collect()
}

/// What holds of an address of several endpoints: all that holds of any.
pub(super) fn union<'a>(sets: impl Iterator<Item = &'a [Fact]>) -> Vec<Fact> {
    let mut out: Vec<Fact> = Vec::new();
    for fact in sets.flatten() {
        match out.binary_search_by_key(&fact.matcher, |known| known.matcher) {
            Err(place) => out.insert(place, fact.clone()),
            Ok(place) => {
                out[place].ports.extend(&fact.ports);
                out[place].ports.sort_unstable();
                out[place].ports.dedup();
            }
        }
    }
    out
}
