use margay_net::{Asn, Cidr, LocalRouteSource};
use serde::Serialize;
use smallvec::SmallVec;

use crate::wire::Community;

/// Prefixes within `covering`, by length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PrefixMatch {
    pub covering: Cidr,
    /// The least length, both ends included.
    pub min_len: u8,
    pub max_len: u8,
}

impl PrefixMatch {
    /// Matches `cidr` alone.
    pub fn exact(cidr: Cidr) -> PrefixMatch {
        PrefixMatch { covering: cidr, min_len: cidr.len(), max_len: cidr.len() }
    }

    /// Matches `cidr` and everything in it.
    pub fn within(cidr: Cidr) -> PrefixMatch {
        PrefixMatch { covering: cidr, min_len: cidr.len(), max_len: cidr.family().bits() }
    }

    /// Whether `prefix` is one of those meant.
    pub fn matches(&self, prefix: Cidr) -> bool {
        (self.min_len..=self.max_len).contains(&prefix.len()) && self.covering.covers(prefix)
    }
}

/// Where a route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum RouteOrigin {
    Local(LocalRouteSource),
    Ebgp,
    Ibgp,
}

/// What a rule matches: all conditions that are not empty must hold; an empty one always does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct RouteMatch {
    /// One of these matches the prefix.
    pub prefixes: Vec<PrefixMatch>,
    /// The route comes from one of these.
    pub origins: Vec<RouteOrigin>,
    /// The route carries each of these communities (RFC 1997: AS in the upper half).
    pub communities: Vec<u32>,
    /// None of these matches the prefix.
    pub not_prefixes: Vec<PrefixMatch>,
    /// The route carries each of these large communities (RFC 8092).
    pub large_communities: Vec<[u32; 3]>,
    /// The route carries each of these extended communities (RFC 4360), as they are on the wire.
    pub extended_communities: Vec<u64>,
    /// AS_PATH begins with these numbers, before what export itself prepends.
    pub as_path_prefix: Vec<Asn>,
    /// The interface that the route leaves by has a name that one of these matches (`*` stands for any characters, `?`
    /// for one).
    pub interfaces: Vec<String>,
    /// LOCAL_PREF is this.
    pub local_pref: Option<u32>,
}

/// What becomes of a matched route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum RuleAction {
    Accept,
    Reject,
    /// Only the rule's changes are made; the next rules decide.
    Next,
}

/// A change of an accepted route's attributes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum SetOperation {
    LocalPref(u32),
    Med(u32),
    AddCommunity(u32),
    RemoveCommunity(u32),
    AddLargeCommunity([u32; 3]),
    AddExtendedCommunity(u64),
    /// Puts an AS number before the AS_PATH, `count` times.
    Prepend {
        asn: Asn,
        count: u8,
    },
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Rule {
    pub matches: RouteMatch,
    pub action: RuleAction,
    /// Made in order, unless the action is `Reject`.
    pub set: Vec<SetOperation>,
}

/// Ordered rules; the first that accepts or rejects decides, `default` where none does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RuleSet {
    pub rules: Vec<Rule>,
    /// Whether a route is accepted that no rule decided.
    pub accept_by_default: bool,
}

/// The rules of a set whose changes an accepted route gets, by index.
pub(crate) type Changes = SmallVec<[u16; 4]>;

impl RuleSet {
    /// Decides on a route. `None`: rejected. All rules see the communities that the route came with.
    pub(crate) fn evaluate(&self, prefix: Cidr, origin: RouteOrigin, communities: &[Community]) -> Option<Changes> {
        let mut changes = Changes::new();
        for (index, rule) in self.rules.iter().enumerate() {
            if !rule.matches.holds(prefix, origin, communities) {
                continue;
            }
            if rule.action != RuleAction::Reject && !rule.set.is_empty() {
                changes.push(index as u16);
            }
            match rule.action {
                RuleAction::Accept => return Some(changes),
                RuleAction::Reject => return None,
                RuleAction::Next => {}
            }
        }
        self.accept_by_default.then_some(changes)
    }

    /// Returns the operations that `changes` stands for, in order.
    pub(crate) fn operations<'a>(&'a self, changes: &'a Changes) -> impl Iterator<Item = &'a SetOperation> {
        changes.iter().filter_map(|&index| self.rules.get(usize::from(index))).flat_map(|rule| &rule.set)
    }
}

impl RouteMatch {
    fn holds(&self, prefix: Cidr, origin: RouteOrigin, communities: &[Community]) -> bool {
        (self.prefixes.is_empty() || self.prefixes.iter().any(|wanted| wanted.matches(prefix)))
            && (self.origins.is_empty() || self.origins.contains(&origin))
            && self.communities.iter().all(|&community| communities.contains(&Community(community)))
    }
}

/// What is announced to a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ExportPolicy(pub RuleSet);

/// What is taken from a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ImportPolicy(pub RuleSet);

impl ExportPolicy {
    /// Announces everything.
    pub fn accept_all() -> ExportPolicy {
        ExportPolicy(RuleSet { rules: Vec::new(), accept_by_default: true })
    }
}

impl ImportPolicy {
    /// Takes everything.
    pub fn accept_all() -> ImportPolicy {
        ImportPolicy(RuleSet { rules: Vec::new(), accept_by_default: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(within: &str, action: RuleAction, set: &[SetOperation]) -> Rule {
        let prefixes = vec![PrefixMatch::within(within.parse().expect("a prefix"))];
        Rule { matches: RouteMatch { prefixes, ..RouteMatch::default() }, action, set: set.to_vec() }
    }

    #[test]
    fn the_first_rule_that_decides_wins_and_those_that_go_on_add_their_changes() {
        let rules = RuleSet {
            rules: vec![
                rule("10.0.0.0/8", RuleAction::Next, &[SetOperation::Med(5)]),
                rule("10.1.0.0/16", RuleAction::Reject, &[]),
                rule("10.0.0.0/8", RuleAction::Accept, &[SetOperation::LocalPref(7)]),
            ],
            accept_by_default: false,
        };
        let decide = |prefix: &str| {
            let changes = rules.evaluate(prefix.parse().expect("a prefix"), RouteOrigin::Ebgp, &[])?;
            Some(rules.operations(&changes).cloned().collect::<Vec<_>>())
        };
        assert_eq!(decide("10.2.0.0/24"), Some(vec![SetOperation::Med(5), SetOperation::LocalPref(7)]));
        assert_eq!(decide("10.1.2.0/24"), None);
        assert_eq!(decide("192.0.2.0/24"), None);
    }

    #[test]
    fn all_conditions_of_a_match_must_hold() {
        let matches = RouteMatch {
            prefixes: vec![PrefixMatch { covering: "10.0.0.0/8".parse().expect("a prefix"), min_len: 24, max_len: 26 }],
            origins: vec![RouteOrigin::Local(LocalRouteSource::Block), RouteOrigin::Ibgp],
            communities: vec![1, 2],
            ..RouteMatch::default()
        };
        let prefix = |text: &str| text.parse::<Cidr>().expect("a prefix");
        assert!(matches.holds(prefix("10.0.0.0/26"), RouteOrigin::Ibgp, &[Community(2), Community(3), Community(1)]));
        assert!(!matches.holds(prefix("10.0.0.0/27"), RouteOrigin::Ibgp, &[Community(1), Community(2)]));
        assert!(!matches.holds(prefix("10.0.0.0/26"), RouteOrigin::Ebgp, &[Community(1), Community(2)]));
        assert!(!matches.holds(prefix("10.0.0.0/26"), RouteOrigin::Ibgp, &[Community(1)]));
    }
}
