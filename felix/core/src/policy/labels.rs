//! An index over labels: which shapes have a label, and which selectors ask for it.
//!
//! Every selector that can only match where one of a few labels (or keys) is present is filed under these; the labels
//! of a shape then lead to the few selectors that may match it, and a selector to the few shapes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use margay_api::selector::Selector;
use slab::Slab;

/// A label, key and value, as a number.
pub(super) type PairId = u32;
/// What endpoints of the same labels, profiles and ports share, as a number.
pub(super) type ShapeId = u32;

/// Who is told of shapes that a selector matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Watcher {
    Matcher(u32),
    Policy(u32),
}

#[derive(Debug, Default)]
pub(super) struct LabelIndex {
    pairs: Slab<Pair>,
    keys: HashMap<Arc<str>, Key>,
    /// Selectors that no label or key is necessary for.
    unanchored: BTreeSet<Watcher>,
    anchors: HashMap<Watcher, Vec<Anchor>>,
}

#[derive(Debug)]
struct Pair {
    key: Arc<str>,
    value: Arc<str>,
    /// The shapes and profiles that name the pair, and the watchers under it.
    holders: u32,
    shapes: BTreeSet<ShapeId>,
    watchers: BTreeSet<Watcher>,
}

#[derive(Debug, Default)]
struct Key {
    values: HashMap<Arc<str>, PairId>,
    watchers: BTreeSet<Watcher>,
}

#[derive(Debug)]
enum Anchor {
    Pair(PairId),
    Key(Arc<str>),
}

/// One of the labels of which a selector needs at least one.
enum Need<'a> {
    Pair(&'a str, &'a str),
    Key(&'a str),
}

impl LabelIndex {
    /// The number of a label, held until it is released as often.
    pub(super) fn acquire(&mut self, key: &str, value: &str) -> PairId {
        if let Some(id) = self.find(key, value) {
            self.pairs[id as usize].holders += 1;
            return id;
        }
        let (key, entry) = match self.keys.get_key_value(key) {
            Some((known, _)) => (known.clone(), self.keys.get_mut(key)),
            None => {
                let new: Arc<str> = key.into();
                self.keys.insert(new.clone(), Key::default());
                (new, self.keys.get_mut(key))
            }
        };
        let value: Arc<str> = value.into();
        let pair = Pair { key, value: value.clone(), holders: 1, shapes: BTreeSet::new(), watchers: BTreeSet::new() };
        let id = self.pairs.insert(pair) as PairId;
        if let Some(entry) = entry {
            entry.values.insert(value, id);
        }
        id
    }

    pub(super) fn release(&mut self, id: PairId) {
        self.pairs[id as usize].holders -= 1;
        self.drop_if_unused(id);
    }

    pub(super) fn label(&self, id: PairId) -> (&str, &str) {
        let pair = &self.pairs[id as usize];
        (&pair.key, &pair.value)
    }

    /// The value of a label among these.
    pub(super) fn value<'a>(&'a self, labels: &[PairId], key: &str) -> Option<&'a str> {
        labels.iter().map(|id| self.label(*id)).find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    pub(super) fn matches(&self, selector: &Selector, labels: &[PairId]) -> bool {
        selector.matches(&|key: &str| self.value(labels, key))
    }

    pub(super) fn add_shape(&mut self, labels: &[PairId], shape: ShapeId) {
        for id in labels {
            self.pairs[*id as usize].shapes.insert(shape);
        }
    }

    pub(super) fn remove_shape(&mut self, labels: &[PairId], shape: ShapeId) {
        for id in labels {
            self.pairs[*id as usize].shapes.remove(&shape);
            self.drop_if_unused(*id);
        }
    }

    pub(super) fn watch(&mut self, watcher: Watcher, selector: &Selector) {
        let crowd = |need: &Need<'_>| match need {
            Need::Pair(key, value) => self.find(key, value).map_or(0, |id| self.pairs[id as usize].watchers.len()),
            Need::Key(key) => self.keys.get(*key).map_or(0, |key| key.watchers.len()),
        };
        let Some(needs) = needs(selector, &crowd) else {
            self.unanchored.insert(watcher);
            return;
        };
        let mut anchors = Vec::new();
        for need in needs {
            anchors.push(match need {
                Need::Pair(key, value) => {
                    let id = self.acquire(key, value);
                    self.pairs[id as usize].watchers.insert(watcher);
                    Anchor::Pair(id)
                }
                Need::Key(key) => {
                    self.keys.entry(key.into()).or_default().watchers.insert(watcher);
                    Anchor::Key(key.into())
                }
            });
        }
        self.anchors.insert(watcher, anchors);
    }

    pub(super) fn unwatch(&mut self, watcher: Watcher) {
        self.unanchored.remove(&watcher);
        for anchor in self.anchors.remove(&watcher).unwrap_or_default() {
            match anchor {
                Anchor::Pair(id) => {
                    self.pairs[id as usize].watchers.remove(&watcher);
                    self.release(id);
                }
                Anchor::Key(key) => {
                    if let Some(entry) = self.keys.get_mut(&key) {
                        entry.watchers.remove(&watcher);
                        self.drop_key_if_unused(&key);
                    }
                }
            }
        }
    }

    /// All watchers whose selector may match these labels, and some more.
    pub(super) fn watchers(&self, labels: &[PairId]) -> BTreeSet<Watcher> {
        let mut out = self.unanchored.clone();
        for id in labels {
            let pair = &self.pairs[*id as usize];
            out.extend(&pair.watchers);
            out.extend(self.keys.get(&pair.key).iter().flat_map(|key| &key.watchers));
        }
        out
    }

    /// All shapes that the selector may match, and some more; `None` where it may match any.
    pub(super) fn shapes(&self, selector: &Selector) -> Option<BTreeSet<ShapeId>> {
        let pairs = |need: &Need<'_>| -> Vec<PairId> {
            match need {
                Need::Pair(key, value) => self.find(key, value).into_iter().collect(),
                Need::Key(key) => self.keys.get(*key).iter().flat_map(|key| key.values.values().copied()).collect(),
            }
        };
        let crowd = |need: &Need<'_>| pairs(need).iter().map(|id| self.pairs[*id as usize].shapes.len()).sum::<usize>();
        let needs = needs(selector, &crowd)?;
        Some(needs.iter().flat_map(pairs).flat_map(|id| self.pairs[id as usize].shapes.iter().copied()).collect())
    }

    fn find(&self, key: &str, value: &str) -> Option<PairId> {
        self.keys.get(key)?.values.get(value).copied()
    }

    fn drop_if_unused(&mut self, id: PairId) {
        let pair = &self.pairs[id as usize];
        if pair.holders == 0 && pair.shapes.is_empty() {
            let pair = self.pairs.remove(id as usize);
            if let Some(key) = self.keys.get_mut(&pair.key) {
                key.values.remove(&pair.value);
            }
            self.drop_key_if_unused(&pair.key);
        }
    }

    fn drop_key_if_unused(&mut self, key: &str) {
        if self.keys.get(key).is_some_and(|entry| entry.values.is_empty() && entry.watchers.is_empty()) {
            self.keys.remove(key);
        }
    }
}

/// Labels or keys of which at least one must be present for the selector to match; of several such lists the least
/// crowded. `None` where the selector may match without any label.
fn needs<'a>(selector: &'a Selector, crowd: &dyn Fn(&Need<'_>) -> usize) -> Option<Vec<Need<'a>>> {
    match selector {
        Selector::Equals(key, value) => Some(vec![Need::Pair(key, value)]),
        Selector::In(key, values) => Some(values.iter().map(|value| Need::Pair(key, value)).collect()),
        Selector::Has(key) | Selector::Contains(key, _) | Selector::StartsWith(key, _) | Selector::EndsWith(key, _) => {
            Some(vec![Need::Key(key)])
        }
        Selector::And(parts) => parts
            .iter()
            .filter_map(|part| needs(part, crowd))
            .min_by_key(|needs| needs.iter().map(crowd).sum::<usize>()),
        Selector::Or(parts) => {
            let all: Option<Vec<_>> = parts.iter().map(|part| needs(part, crowd)).collect();
            all.map(|all| all.into_iter().flatten().collect())
        }
        Selector::All | Selector::Global | Selector::NotEquals(..) | Selector::NotIn(..) | Selector::Not(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_found_by_the_labels_that_it_needs() {
        let mut index = LabelIndex::default();
        let web = [index.acquire("app", "web"), index.acquire("ns", "shop")];
        let db = [index.acquire("app", "db"), index.acquire("ns", "shop")];
        index.add_shape(&web, 1);
        index.add_shape(&db, 2);
        for (number, text) in
            ["ns == 'shop' && app == 'web'", "app in {'db', 'x'}", "has(role)", "app != 'web'"].iter().enumerate()
        {
            index.watch(Watcher::Policy(number as u32), &text.parse().expect("a selector"));
        }
        let policies = |labels| {
            index
                .watchers(labels)
                .into_iter()
                .map(|watcher| match watcher {
                    Watcher::Policy(number) | Watcher::Matcher(number) => number,
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(policies(&db), [0, 1, 3], "0 is filed under the namespace");
        assert_eq!(policies(&web), [0, 3]);
        let shapes = |text: &str| index.shapes(&text.parse().expect("a selector")).map(Vec::from_iter);
        assert_eq!(shapes("ns == 'shop' && app == 'web'"), Some(vec![1]));
        assert_eq!(shapes("has(app)"), Some(vec![1, 2]));
        assert_eq!(shapes("app in {}"), Some(vec![]));
        assert_eq!(shapes("!has(app)"), None);
    }

    #[test]
    fn nothing_stays_behind() {
        let mut index = LabelIndex::default();
        let labels = [index.acquire("a", "b")];
        index.add_shape(&labels, 7);
        index.watch(Watcher::Matcher(1), &"a == 'b' || has(c)".parse().expect("a selector"));
        index.release(labels[0]);
        index.remove_shape(&labels, 7);
        index.unwatch(Watcher::Matcher(1));
        assert!(index.pairs.is_empty() && index.keys.is_empty() && index.anchors.is_empty());
    }
}
