//! What rules of active programs ask of their peers: selectors, selectors with a named port, nets.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use margay_api::selector::Selector;
use slab::Slab;

use super::addresses::AddressSet;
use super::labels::{ShapeId, Watcher};
use super::sets::{Fact, MatcherId, with_fact};
use super::{PolicyCore, ProgramId};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum MatcherKey {
    /// Known endpoints with such labels.
    Select(Arc<Selector>),
    /// Known endpoints with such labels that declare a port of this name and protocol; resolves to its numbers.
    SelectPort(Arc<Selector>, Arc<str>, u8),
    /// Addresses, whoever has them.
    Net(AddressSet),
}

#[derive(Debug, Default)]
pub(super) struct Matchers {
    all: Slab<Matcher>,
    by_key: HashMap<MatcherKey, MatcherId>,
    /// Matchers that lost a program and may have none left.
    fading: BTreeSet<MatcherId>,
}

#[derive(Debug)]
struct Matcher {
    key: MatcherKey,
    programs: BTreeSet<ProgramId>,
}

impl Matchers {
    /// The programs that ask.
    pub(super) fn programs(&self, id: MatcherId) -> impl Iterator<Item = ProgramId> {
        self.all.get(id as usize).into_iter().flat_map(|matcher| matcher.programs.iter().copied())
    }

    pub(super) fn remove_program(&mut self, id: MatcherId, program: ProgramId) {
        self.all[id as usize].programs.remove(&program);
        self.fading.insert(id);
    }
}

impl PolicyCore {
    /// The matcher, for a program, made if it isn't there.
    pub(super) fn acquire_matcher(&mut self, key: &MatcherKey, program: ProgramId) -> MatcherId {
        if let Some(id) = self.matchers.by_key.get(key) {
            self.matchers.all[*id as usize].programs.insert(program);
            return *id;
        }
        let matcher = Matcher { key: key.clone(), programs: BTreeSet::from([program]) };
        let id = self.matchers.all.insert(matcher) as MatcherId;
        self.matchers.by_key.insert(key.clone(), id);
        match key {
            MatcherKey::Net(addresses) => self.cover(id, addresses.spans()),
            MatcherKey::Select(selector) | MatcherKey::SelectPort(selector, ..) => {
                self.labels.watch(Watcher::Matcher(id), selector);
                let candidates = self
                    .labels
                    .shapes(selector)
                    .map_or_else(|| self.shapes.ids(), |shapes| shapes.into_iter().collect());
                let moves = candidates.into_iter().filter_map(|shape| {
                    let fact = self.fact(id, shape)?;
                    let facts = self.selector_sets.facts(self.shapes.shape(shape).set);
                    Some((shape, with_fact(facts, &fact)))
                });
                let moves = moves.collect();
                self.set_facts(moves);
            }
        }
        id
    }

    /// Forgets the matchers that no program asks.
    pub(super) fn collect_matchers(&mut self) {
        for id in std::mem::take(&mut self.matchers.fading) {
            if self.matchers.all.get(id as usize).is_none_or(|matcher| !matcher.programs.is_empty()) {
                continue;
            }
            let key = self.matchers.all[id as usize].key.clone();
            match &key {
                MatcherKey::Net(addresses) => self.uncover(id, addresses.spans()),
                MatcherKey::Select(_) | MatcherKey::SelectPort(..) => {
                    self.labels.unwatch(Watcher::Matcher(id));
                    self.drop_selector_facts(id);
                }
            }
            self.matchers.by_key.remove(&key);
            self.matchers.all.remove(id as usize);
        }
    }

    /// All that active selectors say of a shape.
    pub(super) fn facts(&self, shape: ShapeId) -> Vec<Fact> {
        let watchers = self.labels.watchers(&self.shapes.shape(shape).labels);
        let matchers = watchers.into_iter().filter_map(|watcher| match watcher {
            Watcher::Matcher(id) => self.fact(id, shape),
            Watcher::Policy(_) => None,
        });
        matchers.collect()
    }

    fn fact(&self, matcher: MatcherId, shape: ShapeId) -> Option<Fact> {
        let shape = self.shapes.shape(shape);
        let (selector, ports) = match &self.matchers.all[matcher as usize].key {
            MatcherKey::Net(_) => return None,
            MatcherKey::Select(selector) => (selector, Vec::new()),
            MatcherKey::SelectPort(selector, name, protocol) => {
                let numbers = shape.key.numbers(name, *protocol);
                if numbers.is_empty() {
                    return None;
                }
                (selector, numbers)
            }
        };
        self.labels.matches(selector, &shape.labels).then_some(Fact { matcher, ports })
    }
}
