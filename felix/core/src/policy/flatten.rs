//! First-match evaluation of a program for one identity, turned into what passes: protocols and port intervals.

use std::collections::{BTreeMap, BTreeSet};

use super::identity::Class;
use super::rules::{Matcher, ResolvedRule, RuleVerdict};
use super::tables::{PortMatch, ProtocolMatch};

/// The rules that judge an endpoint in one direction: those of its policies in order, then its profiles'.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Program {
    pub(super) policies: Vec<ResolvedRule>,
    /// Decide what policies passed on; everything, where no policy applies.
    pub(super) profiles: Vec<ResolvedRule>,
    pub(super) isolated: bool,
}

impl Program {
    /// Tells whether everything passes, whoever the other side is.
    pub(super) fn is_open(&self) -> bool {
        let opens = |rule: &ResolvedRule| rule.peer.is_none() && rule.protocol.is_none() && rule.ports.is_none();
        !self.isolated && self.profiles.first().is_some_and(|rule| rule.verdict == RuleVerdict::Allow && opens(rule))
    }

    /// Tells whether rules only allow: then what anyone may do need not be said again for each identity.
    pub(super) fn is_additive(&self) -> bool {
        self.policies.iter().chain(&self.profiles).all(|rule| rule.verdict == RuleVerdict::Allow)
    }

    pub(super) fn matchers(&self) -> impl Iterator<Item = &Matcher> {
        self.policies.iter().chain(&self.profiles).filter_map(|rule| rule.peer.as_ref())
    }

    /// What passes for a class of addresses; None stands for anyone, whom only rules without a peer match.
    pub(super) fn allowed(&self, class: Option<&Class>) -> BTreeSet<(ProtocolMatch, PortMatch)> {
        let rules = self.policies.iter().chain(&self.profiles);
        let named: BTreeSet<u8> = rules.filter_map(|rule| rule.protocol).collect();
        let mut passed: BTreeMap<u8, Ports> = BTreeMap::new();
        for protocol in &named {
            passed.insert(*protocol, self.evaluate(class, Some(*protocol)));
        }
        let others = !self.evaluate(class, None).is_empty();
        let mut allowed = BTreeSet::new();
        if others && passed.values().all(Ports::is_full) {
            allowed.insert((ProtocolMatch::Any, PortMatch::Any));
            return allowed;
        }
        if others {
            let unnamed = (0..=u8::MAX).filter(|protocol| !named.contains(protocol));
            allowed.extend(unnamed.map(|protocol| (ProtocolMatch::Number(protocol), PortMatch::Any)));
        }
        for (protocol, ports) in passed {
            allowed.extend(ports.matches().map(|ports| (ProtocolMatch::Number(protocol), ports)));
        }
        allowed
    }

    /// The ports of a protocol that pass; for None those of every protocol that no rule names.
    fn evaluate(&self, class: Option<&Class>, protocol: Option<u8>) -> Ports {
        let mut allowed = Ports::none();
        let mut undecided = Ports::full();
        if self.isolated {
            let mut passed_on = Ports::none();
            for rule in &self.policies {
                let matched = matched(rule, class, protocol).and(&undecided);
                undecided = undecided.without(&matched);
                match rule.verdict {
                    RuleVerdict::Allow => allowed = allowed.or(&matched),
                    RuleVerdict::Deny => {}
                    RuleVerdict::Pass => passed_on = passed_on.or(&matched),
                }
            }
            undecided = passed_on;
        }
        for rule in &self.profiles {
            let matched = matched(rule, class, protocol).and(&undecided);
            undecided = undecided.without(&matched);
            if rule.verdict == RuleVerdict::Allow {
                allowed = allowed.or(&matched);
            }
        }
        allowed
    }
}

fn matched(rule: &ResolvedRule, class: Option<&Class>, protocol: Option<u8>) -> Ports {
    if rule.protocol.is_some() && rule.protocol != protocol {
        return Ports::none();
    }
    let numbers = match &rule.peer {
        None => None,
        Some(peer) => match class.and_then(|class| class.get(peer)) {
            None => return Ports::none(),
            Some(numbers) => Some(numbers),
        },
    };
    match &rule.ports {
        None => Ports::full(),
        Some(ports) => {
            let by_name = numbers.into_iter().flatten().map(|port| (*port, *port));
            Ports::of(ports.iter().copied().chain(by_name))
        }
    }
}

/// A set of ports as ordered intervals that neither overlap nor touch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ports(Vec<(u16, u16)>);

impl Ports {
    fn none() -> Ports {
        Ports(Vec::new())
    }

    fn full() -> Ports {
        Ports(vec![(0, u16::MAX)])
    }

    fn of(intervals: impl Iterator<Item = (u16, u16)>) -> Ports {
        let mut intervals: Vec<(u16, u16)> = intervals.collect();
        intervals.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in intervals {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        Ports(merged)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_full(&self) -> bool {
        self.0 == [(0, u16::MAX)]
    }

    fn or(&self, other: &Ports) -> Ports {
        Ports::of(self.0.iter().chain(&other.0).copied())
    }

    fn and(&self, other: &Ports) -> Ports {
        let overlaps = self.0.iter().flat_map(|(first, last)| {
            other.0.iter().filter_map(move |(from, to)| {
                let (first, last) = ((*first).max(*from), (*last).min(*to));
                (first <= last).then_some((first, last))
            })
        });
        Ports::of(overlaps)
    }

    fn without(&self, other: &Ports) -> Ports {
        let mut rest = Vec::new();
        for (first, last) in &self.0 {
            let mut next = Some(*first);
            for (from, to) in other.0.iter().filter(|(from, to)| to >= first && from <= last) {
                if let Some(start) = next
                    && *from > start
                {
                    rest.push((start, from - 1));
                }
                next = to.checked_add(1);
            }
            if let Some(start) = next
                && start <= *last
            {
                rest.push((start, *last));
            }
        }
        Ports(rest)
    }

    fn matches(&self) -> impl Iterator<Item = PortMatch> {
        let full = self.is_full();
        self.0.iter().map(move |(first, last)| match (full, first == last) {
            (true, _) => PortMatch::Any,
            (false, true) => PortMatch::One(*first),
            (false, false) => PortMatch::Range(*first, *last),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(intervals: &[(u16, u16)]) -> Ports {
        Ports::of(intervals.iter().copied())
    }

    #[test]
    fn intervals_merge_and_subtract() {
        assert_eq!(ports(&[(80, 90), (91, 95), (10, 20)]), Ports(vec![(10, 20), (80, 95)]));
        assert_eq!(Ports::full().without(&ports(&[(0, 0), (100, 200), (65535, 65535)])), Ports(vec![(1, 99), (201, 65534)]));
        assert_eq!(ports(&[(1, 10)]).without(&Ports::full()), Ports::none());
        assert_eq!(ports(&[(1, 10), (20, 30)]).and(&ports(&[(5, 25)])), Ports(vec![(5, 10), (20, 25)]));
        assert_eq!(Ports::none().or(&ports(&[(7, 7)])).matches().collect::<Vec<_>>(), [PortMatch::One(7)]);
    }
}
