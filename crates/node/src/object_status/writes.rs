//! The difference between what this node has to say and what is said.

use std::collections::{BTreeMap, BTreeSet};

use margay_api::{Condition, ConditionKey};
use margay_datastore::Revision;

use super::{Finding, Findings};

/// A condition as the datastore has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) revision: Revision,
    /// None where the value can't be read.
    pub(super) condition: Option<Condition>,
}

impl Said {
    pub(super) fn node(&self) -> Option<&str> {
        self.condition.as_ref().map(|condition| condition.node.as_str())
    }
}

/// A write to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    /// Says what nobody says.
    Say(Finding),
    /// Says it in other words, or in the place of a node that is gone; since when it is so stays.
    Correct { finding: Finding, since: Option<String>, revision: Revision },
    /// Takes back what is not so, by the node that said it or in its place.
    Withdraw(Revision),
}

/// The writes that `node` has to do. `gone`: the conditions that nobody is left to take back.
pub(super) fn writes(
    node: &str,
    findings: &Findings,
    said: &BTreeMap<ConditionKey, Said>,
    gone: &BTreeSet<ConditionKey>,
) -> BTreeMap<ConditionKey, Write> {
    let mut writes = BTreeMap::new();
    for (key, said) in said {
        let own = said.node() == Some(node);
        if !own && !gone.contains(key) {
            continue;
        }
        match findings.get(key) {
            None => drop(writes.insert(key.clone(), Write::Withdraw(said.revision))),
            Some(finding) if own && is_as_said(finding, said) => {}
            Some(finding) => {
                let since = said.condition.as_ref().map(|condition| condition.last_transition_time.clone());
                let write = Write::Correct { finding: finding.clone(), since, revision: said.revision };
                writes.insert(key.clone(), write);
            }
        }
    }
    for (key, finding) in findings.iter().filter(|(key, _)| !said.contains_key(key)) {
        writes.insert(key.clone(), Write::Say(finding.clone()));
    }
    writes
}

fn is_as_said(finding: &Finding, said: &Said) -> bool {
    let same = |said: &Condition| said.kind == finding.kind && said.message == finding.message;
    said.condition.as_ref().is_some_and(same)
}

/// The condition of a finding, said by `node`.
pub(super) fn condition(key: &ConditionKey, finding: &Finding, node: &str, since: String) -> Condition {
    Condition {
        kind: finding.kind.to_owned(),
        status: "False".to_owned(),
        reason: key.reason.clone(),
        message: finding.message.clone(),
        last_transition_time: since,
        node: node.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn key(name: &str) -> ConditionKey {
        ConditionKey { plural: "bgppeers", name: name.to_owned(), reason: "FilterNotFound".to_owned() }
    }

    fn finding(message: &str) -> Finding {
        Finding { kind: "ResolvedRefs", message: message.to_owned() }
    }

    fn said(node: &str, message: &str) -> Said {
        let condition = condition(&key("tor"), &finding(message), node, "then".to_owned());
        Said { revision: Revision::new(7), condition: Some(condition) }
    }

    #[test]
    fn each_case_of_what_is_found_said_and_gone_has_its_write() {
        let correct = |since: Option<&str>| Write::Correct {
            finding: finding("a"),
            since: since.map(str::to_owned),
            revision: Revision::new(7),
        };
        let withdraw = Write::Withdraw(Revision::new(7));
        let unreadable = Said { revision: Revision::new(7), condition: None };
        for (case, found, stored, gone, expected) in [
            ("nothing at all", None, None, false, None),
            ("found, not said", Some("a"), None, false, Some(Write::Say(finding("a")))),
            ("found, said by this node", Some("a"), Some(said("n1", "a")), false, None),
            (
                "found, said by this node in other words",
                Some("a"),
                Some(said("n1", "b")),
                false,
                Some(correct(Some("then"))),
            ),
            ("found, said by another", Some("a"), Some(said("n2", "b")), false, None),
            ("found, said by one that is gone", Some("a"), Some(said("n2", "a")), true, Some(correct(Some("then")))),
            ("found, unreadable", Some("a"), Some(unreadable.clone()), true, Some(correct(None))),
            ("not found, said by this node", None, Some(said("n1", "a")), false, Some(withdraw.clone())),
            ("not found, said by another", None, Some(said("n2", "a")), false, None),
            ("not found, said by one that is gone", None, Some(said("n2", "a")), true, Some(withdraw.clone())),
            ("not found, unreadable", None, Some(unreadable), true, Some(withdraw)),
        ] {
            let findings = found.map(|message| (key("tor"), finding(message))).into_iter().collect();
            let stored = stored.map(|stored| (key("tor"), stored)).into_iter().collect();
            let gone = gone.then(|| key("tor")).into_iter().collect();
            let writes = writes("n1", &findings, &stored, &gone);
            assert_eq!(writes.get(&key("tor")), expected.as_ref(), "{case}");
        }
    }

    /// A store, and nodes that look at it one after the other.
    #[derive(Default)]
    struct World {
        found: BTreeMap<String, Findings>,
        said: BTreeMap<ConditionKey, Said>,
        revision: i64,
        written: usize,
    }

    impl World {
        /// All writes of a node; whether there were any.
        fn turn(&mut self, node: &str) -> bool {
            let left = |said: &Said| said.node().is_none_or(|node| !self.found.contains_key(node));
            let gone = self.said.iter().filter(|(_, said)| left(said)).map(|(key, _)| key.clone()).collect();
            let writes = writes(node, &self.found[node], &self.said, &gone);
            let any = !writes.is_empty();
            for (key, write) in writes {
                self.revision += 1;
                self.written += 1;
                let (finding, since) = match write {
                    Write::Say(finding) => (finding, None),
                    Write::Correct { finding, since, .. } => (finding, since),
                    Write::Withdraw(_) => {
                        self.said.remove(&key);
                        continue;
                    }
                };
                let condition = condition(&key, &finding, node, since.unwrap_or_default());
                let said = Said { revision: Revision::new(self.revision), condition: Some(condition) };
                self.said.insert(key, said);
            }
            any
        }

        /// Nodes in a random order until none has anything to write.
        fn settle(&mut self, random: &mut SmallRng) {
            let nodes: Vec<String> = self.found.keys().cloned().collect();
            for _ in 0..1_000 {
                let first = random.random_range(0..nodes.len());
                let order = nodes[first..].iter().chain(&nodes[..first]);
                if order.fold(false, |any, node| self.turn(node) | any) {
                    continue;
                }
                return;
            }
            panic!("it never settles");
        }
    }

    #[test]
    fn whatever_nodes_find_each_thing_is_said_once_by_one_that_finds_it() {
        for seed in 0..300 {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut world = World::default();
            for _ in 0..8 {
                let nodes: Vec<String> = (0..random.random_range(1..12)).map(|node| format!("n{node}")).collect();
                // A node that is gone leaves what it said; the others find something else than before.
                world.found = nodes
                    .into_iter()
                    .map(|node| {
                        let mut found = Findings::new();
                        for name in ["a", "b", "c"].into_iter().filter(|_| random.random_bool(0.4)).collect::<Vec<_>>()
                        {
                            let message = ["missing", "missing on this node"].choose(&mut random).expect("one of two");
                            found.insert(key(name), finding(message));
                        }
                        (node, found)
                    })
                    .collect();
                let before = world.written;
                world.settle(&mut random);
                let wanted: BTreeSet<&ConditionKey> = world.found.values().flat_map(BTreeMap::keys).collect();
                assert_eq!(world.said.keys().collect::<BTreeSet<_>>(), wanted, "seed {seed}");
                for (key, said) in &world.said {
                    let node = said.node().expect("readable");
                    let finding = world.found.get(node).and_then(|found| found.get(key)).expect("its node finds it");
                    assert!(is_as_said(finding, said), "seed {seed}");
                }
                // Taken back by one and said again by another, at most, however many nodes there are.
                assert!(world.written - before <= 3 * 2, "seed {seed}: {} writes", world.written - before);
            }
        }
    }

    #[test]
    fn a_thousand_nodes_that_find_the_same_write_once() {
        let mut world = World::default();
        for node in 0..1_000 {
            world.found.insert(format!("n{node}"), [(key("tor"), finding("missing"))].into());
        }
        world.settle(&mut SmallRng::seed_from_u64(1));
        assert_eq!(world.written, 1);
    }
}
