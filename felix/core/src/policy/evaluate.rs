//! What the rules of a program let pass.

use std::collections::BTreeMap;

use margay_api::kinds::Action;

use super::connections::{Connections, PortSet};
use super::sets::{Fact, MatcherId};

/// The rules of a program, ready to be evaluated.
#[derive(Debug, Default)]
pub(super) struct Rules {
    all: Vec<Resolved>,
    /// Where the rules of profiles start.
    profile_start: usize,
    /// Policies apply; else profiles alone decide.
    has_tier: bool,
    /// Only Allow rules, all of policies or all of profiles: their order doesn't matter.
    additive: bool,
    /// The rules that ask something of the peer.
    pub(super) by_matcher: BTreeMap<MatcherId, Vec<usize>>,
    /// Those that don't.
    for_anyone: Vec<usize>,
    /// What passes whoever the peer is.
    pub(super) anyone: Connections,
    /// A peer that no rule speaks of may do more than that: every address needs an identity.
    pub(super) everyone_counts: bool,
}

/// A rule of a program, for one way to match its ports.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) action: Action,
    pub(super) protocol: Option<u8>,
    pub(super) ports: Ports,
    /// All must match; the first resolves the ports where they are the peer's.
    pub(super) matchers: Vec<MatcherId>,
}

/// How a rule of a program matches ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ports {
    Any,
    Numbers(PortSet),
    /// What the first matcher resolves a name to.
    OfPeer,
}

impl Rules {
    pub(super) fn new(all: Vec<Resolved>, profile_start: usize, has_tier: bool) -> Rules {
        let mut rules = Rules { all, profile_start, has_tier, ..Rules::default() };
        let one_list = !rules.has_tier || rules.profile_start == rules.all.len();
        rules.additive = one_list && rules.all.iter().all(|rule| rule.action == Action::Allow);
        for (index, rule) in rules.all.iter().enumerate() {
            if rule.matchers.is_empty() {
                rules.for_anyone.push(index);
            }
            for matcher in &rule.matchers {
                rules.by_matcher.entry(*matcher).or_default().push(index);
            }
        }
        let every_rule: Vec<usize> = (0..rules.all.len()).collect();
        rules.anyone = rules.first_match(&every_rule, |rule| match (rule.action, rule.matchers.is_empty()) {
            (_, true) => (rule.action, rule.connections(&[])),
            // A peer that it lets pass loses nothing by the rules that follow.
            (Action::Allow, false) => (Action::Allow, Connections::none()),
            // There may be peers that it stops.
            (_, false) => (Action::Deny, rule.widest()),
        });
        let stranger = rules.first_match(&rules.for_anyone, |rule| (rule.action, rule.connections(&[])));
        rules.everyone_counts = stranger != rules.anyone;
        rules
    }

    /// What passes from or to a peer of which these facts hold. Of an additive program without what passes anyway.
    pub(super) fn accepted(&self, facts: &[&[Fact]; 2]) -> Connections {
        let of_peer = facts.iter().flat_map(|facts| facts.iter()).filter_map(|fact| self.by_matcher.get(&fact.matcher));
        let mut candidates: Vec<usize> = of_peer.flatten().copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        candidates.retain(|index| {
            let holds = |matcher: &MatcherId| find(facts, *matcher).is_some();
            self.all[*index].matchers.iter().all(holds)
        });
        if self.additive {
            let mut out = Connections::none();
            candidates.iter().for_each(|index| out.add(&self.all[*index].connections(facts)));
            return out;
        }
        candidates.extend(&self.for_anyone);
        candidates.sort_unstable();
        self.first_match(&candidates, |rule| (rule.action, rule.connections(facts)))
    }

    /// Evaluates some of the rules in order: the first that matches a connection decides it.
    fn first_match(&self, rules: &[usize], effect: impl Fn(&Resolved) -> (Action, Connections)) -> Connections {
        let mut undecided = Connections::all();
        let (mut accepted, mut passed) = (Connections::none(), Connections::none());
        let in_tier = rules.partition_point(|index| *index < self.profile_start);
        for index in &rules[..in_tier] {
            let (action, matching) = effect(&self.all[*index]);
            let matching = matching.intersection(&undecided);
            undecided.remove(&matching);
            match action {
                Action::Allow => accepted.add(&matching),
                Action::Pass => passed.add(&matching),
                Action::Deny | Action::Log => {}
            }
        }
        let mut undecided = if self.has_tier { passed } else { undecided };
        for index in &rules[in_tier..] {
            if undecided.is_empty() {
                break;
            }
            let (action, matching) = effect(&self.all[*index]);
            let matching = matching.intersection(&undecided);
            undecided.remove(&matching);
            if action == Action::Allow {
                accepted.add(&matching);
            }
        }
        accepted
    }
}

impl Resolved {
    fn connections(&self, facts: &[&[Fact]]) -> Connections {
        match &self.ports {
            Ports::Any => Connections::of(self.protocol, None),
            Ports::Numbers(numbers) => Connections::of(self.protocol, Some(numbers)),
            Ports::OfPeer => {
                let fact = self.matchers.first().and_then(|matcher| find(facts, *matcher));
                let numbers = fact.into_iter().flat_map(|fact| fact.ports.iter().map(|port| (*port, *port)));
                Connections::of(self.protocol, Some(&PortSet::of(numbers)))
            }
        }
    }

    /// All that the rule may match, whoever the peer is.
    fn widest(&self) -> Connections {
        match &self.ports {
            Ports::OfPeer => Connections::of(self.protocol, None),
            Ports::Any | Ports::Numbers(_) => self.connections(&[]),
        }
    }
}

fn find<'a>(facts: &[&'a [Fact]], matcher: MatcherId) -> Option<&'a Fact> {
    facts
        .iter()
        .find_map(|facts| facts.binary_search_by_key(&matcher, |fact| fact.matcher).ok().map(|place| &facts[place]))
}
