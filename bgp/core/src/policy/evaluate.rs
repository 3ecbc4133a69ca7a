//! Policy made ready for use.

use std::sync::Arc;

use margay_net::{Asn, Cidr, glob_matches};
use smallvec::SmallVec;

use super::index::{Hits, PrefixIndex};
use super::{ExportPolicy, ImportPolicy, RouteMatch, RouteOrigin, RuleAction, RuleSet, SetOperation};
use crate::wire::{AsPath, Attributes, Community, ExtendedCommunity, LargeCommunity, SegmentKind};

/// As many entries as this are looked through one after the other, faster than an index would be.
const FEW: usize = 16;

/// The rules of a policy whose changes an accepted route gets, by index.
pub(crate) type Changes = SmallVec<[u32; 4]>;

/// A route as a policy sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) prefix: Cidr,
    pub(crate) origin: RouteOrigin,
    pub(crate) attributes: &'a Attributes,
    /// LOCAL_PREF, or the default.
    pub(crate) local_pref: u32,
    /// The interface that the route leaves by, where known.
    pub(crate) interface: Option<&'a str>,
}

/// What a policy says of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) accepted: bool,
    /// The rule that decided; absent: the default.
    pub(crate) rule: Option<u32>,
    /// Empty for a rejected route.
    pub(crate) changes: Changes,
}

/// Rules with an index of their prefixes.
#[derive(Debug)]
pub(crate) struct Policy {
    rules: RuleSet,
    index: Option<Index>,
    looks_at_prefix: bool,
    looks_at_interface: bool,
}

/// Made where there are many prefixes to look through.
#[derive(Debug)]
struct Index {
    wanted: PrefixIndex,
    unwanted: PrefixIndex,
    /// The rules that want no prefix, in order: the prefix is no reason to pass over them.
    any: Vec<u32>,
}

/// Two policies are equal that have the same rules.
impl PartialEq for Policy {
    fn eq(&self, other: &Policy) -> bool {
        self.rules == other.rules
    }
}

impl Eq for Policy {}

impl From<RuleSet> for Policy {
    fn from(rules: RuleSet) -> Policy {
        let all = || rules.rules.iter().map(|rule| &rule.matches);
        let entries: usize = all().map(|matches| matches.prefixes.len() + matches.not_prefixes.len()).sum();
        Policy {
            looks_at_prefix: entries > 0,
            looks_at_interface: all().any(|matches| !matches.interfaces.is_empty()),
            index: (entries > FEW).then(|| Index::of(&rules)),
            rules,
        }
    }
}

impl From<ImportPolicy> for Arc<Policy> {
    fn from(policy: ImportPolicy) -> Arc<Policy> {
        Arc::new(policy.0.into())
    }
}

impl From<ExportPolicy> for Arc<Policy> {
    fn from(policy: ExportPolicy) -> Arc<Policy> {
        Arc::new(policy.0.into())
    }
}

impl Policy {
    /// Decides on a route. All rules see the route as it came.
    pub(crate) fn evaluate(&self, route: &Route<'_>) -> Verdict {
        let mut changes = Changes::new();
        let decided = match &self.index {
            None => self.first_that_decides(0..self.rules.rules.len() as u32, true, route, &mut changes),
            Some(index) => self.first_that_decides(index.candidates(route.prefix), false, route, &mut changes),
        };
        let (accepted, rule) = match decided {
            Some((rule, accepted)) => (accepted, Some(rule)),
            None => (self.rules.accept_by_default, None),
        };
        if !accepted {
            changes.clear();
        }
        Verdict { accepted, rule, changes }
    }

    /// Whether routes that differ in their prefixes alone may get different verdicts.
    pub(crate) fn looks_at_prefix(&self) -> bool {
        self.looks_at_prefix
    }

    /// Whether it matters which interface a route leaves by.
    pub(crate) fn looks_at_interface(&self) -> bool {
        self.looks_at_interface
    }

    /// Whether there is no rule and nothing is accepted, as where none is configured (RFC 8212).
    pub(crate) fn is_absent(&self) -> bool {
        self.rules.rules.is_empty() && !self.rules.accept_by_default
    }

    /// Returns the operations that `changes` stands for, in order.
    pub(crate) fn operations<'a>(&'a self, changes: &'a Changes) -> impl Iterator<Item = &'a SetOperation> {
        changes.iter().filter_map(|&index| self.rules.rules.get(index as usize)).flat_map(|rule| &rule.set)
    }

    fn first_that_decides(
        &self,
        candidates: impl IntoIterator<Item = u32>,
        prefix_too: bool,
        route: &Route<'_>,
        changes: &mut Changes,
    ) -> Option<(u32, bool)> {
        for index in candidates {
            let rule = &self.rules.rules[index as usize];
            if (prefix_too && !rule.matches.names(route.prefix)) || !rule.matches.describes(route) {
                continue;
            }
            match rule.action {
                RuleAction::Reject => return Some((index, false)),
                RuleAction::Accept | RuleAction::Next => {
                    if !rule.set.is_empty() {
                        changes.push(index);
                    }
                }
            }
            if rule.action == RuleAction::Accept {
                return Some((index, true));
            }
        }
        None
    }
}

impl Index {
    fn of(rules: &RuleSet) -> Index {
        let mut index = Index { wanted: PrefixIndex::default(), unwanted: PrefixIndex::default(), any: Vec::new() };
        for (at, rule) in (0..).zip(&rules.rules) {
            rule.matches.prefixes.iter().for_each(|wanted| index.wanted.add(at, wanted));
            rule.matches.not_prefixes.iter().for_each(|unwanted| index.unwanted.add(at, unwanted));
            if rule.matches.prefixes.is_empty() {
                index.any.push(at);
            }
        }
        index
    }

    /// Returns the rules whose conditions on the prefix hold, in order.
    fn candidates(&self, prefix: Cidr) -> impl Iterator<Item = u32> {
        let unwanted = self.unwanted.hits(prefix);
        merge(self.wanted.hits(prefix), &self.any).filter(move |rule| unwanted.binary_search(rule).is_err())
    }
}

/// Joins two rows in ascending order that have nothing in common.
fn merge(left: Hits, right: &[u32]) -> impl Iterator<Item = u32> {
    let (mut left, mut right) = (left.into_iter().peekable(), right.iter().copied().peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(a), Some(b)) if a > b => right.next(),
        (Some(_), _) => left.next(),
        (None, _) => right.next(),
    })
}

impl RouteMatch {
    /// Whether the conditions on the prefix hold.
    fn names(&self, prefix: Cidr) -> bool {
        (self.prefixes.is_empty() || self.prefixes.iter().any(|wanted| wanted.matches(prefix)))
            && !self.not_prefixes.iter().any(|unwanted| unwanted.matches(prefix))
    }

    /// Whether all other conditions hold.
    fn describes(&self, route: &Route<'_>) -> bool {
        let known = route.attributes;
        let large = |&[global_administrator, local_data_1, local_data_2]: &[u32; 3]| {
            known.large_communities.contains(&LargeCommunity { global_administrator, local_data_1, local_data_2 })
        };
        let leaves_by = |name: &str| self.interfaces.iter().any(|pattern| glob_matches(pattern, name));
        (self.origins.is_empty() || self.origins.contains(&route.origin))
            && self.local_pref.is_none_or(|wanted| wanted == route.local_pref)
            && self.communities.iter().all(|&community| known.communities.contains(&Community(community)))
            && self.large_communities.iter().all(large)
            && self
                .extended_communities
                .iter()
                .all(|&community| known.extended_communities.contains(&ExtendedCommunity(community)))
            && begins_with(&known.as_path, &self.as_path_prefix)
            && (self.interfaces.is_empty() || route.interface.is_some_and(leaves_by))
    }
}

fn begins_with(path: &AsPath, wanted: &[Asn]) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let sequences = path.segments().take_while(|segment| segment.kind == SegmentKind::Sequence);
    let mut asns = sequences.flat_map(|segment| segment.asns);
    wanted.iter().all(|wanted| asns.next() == Some(wanted))
}

#[cfg(test)]
mod tests;
