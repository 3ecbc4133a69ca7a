//! Named filters, and the rules that a peer gets from them.

use std::collections::BTreeMap;

use margay_bgp_core::{RouteMatch, RouteOrigin, Rule, RuleAction, RuleSet, SetOperation};
use margay_net::{Asn, LocalRouteSource};
use serde_saphyr::Spanned;

use super::community::CommunityText;
use super::problem::Problem;
use super::schema::{Action, FilterSpec, From, RuleSpec, SetSpec, Verdict};

/// A filter that accepts everything, and one that rejects it; no filter may have their names.
const ACCEPT_ALL: &str = "accept-all";
const REJECT_ALL: &str = "reject-all";

/// The filters of a file, checked.
#[derive(Debug, Default)]
pub(super) struct Filters(BTreeMap<String, RuleSet>);

/// The rules of a peer in one direction, and by the same indexes how the file names them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NamedRules {
    pub(super) rules: RuleSet,
    pub(super) names: Vec<String>,
}

impl Filters {
    pub(super) fn build(specs: &BTreeMap<String, FilterSpec>, own: Asn, problems: &mut Vec<Problem>) -> Filters {
        let mut filters = BTreeMap::new();
        for (name, spec) in specs {
            if [ACCEPT_ALL, REJECT_ALL].contains(&name.as_str()) {
                problems.push(Problem::nowhere(format!("the filter '{name}' is built in and cannot be defined")));
            }
            let rules = spec.rules.iter().map(|rule| build_rule(rule, own, problems)).collect();
            filters.insert(name.clone(), RuleSet { rules, accept_by_default: spec.default == Verdict::Accept });
        }
        for (name, accept_by_default) in [(ACCEPT_ALL, true), (REJECT_ALL, false)] {
            filters.insert(name.to_owned(), RuleSet { rules: Vec::new(), accept_by_default });
        }
        Filters(filters)
    }

    /// One filter after the other: the first rule that accepts or rejects decides, the last filter's default where none
    /// does.
    pub(super) fn chain(&self, names: &[Spanned<String>], problems: &mut Vec<Problem>) -> NamedRules {
        let mut chained = NamedRules::all(false);
        for name in names {
            match self.0.get(&name.value) {
                Some(filter) => {
                    let numbers = 1..=filter.rules.len();
                    chained.names.extend(numbers.map(|number| format!("rule {number} of filter '{}'", name.value)));
                    chained.rules.rules.extend(filter.rules.iter().cloned());
                    chained.rules.accept_by_default = filter.accept_by_default;
                }
                None => {
                    let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
                    let reason = format!("there is no filter '{}'; there are {}", name.value, known.join(", "));
                    problems.push(Problem::at(name, reason));
                }
            }
        }
        chained
    }
}

impl NamedRules {
    /// No rule: everything is accepted, or nothing.
    pub(super) fn all(accept: bool) -> NamedRules {
        NamedRules { rules: RuleSet { rules: Vec::new(), accept_by_default: accept }, names: Vec::new() }
    }
}

fn build_rule(spec: &RuleSpec, own: Asn, problems: &mut Vec<Problem>) -> Rule {
    let mut matches = RouteMatch {
        prefixes: spec.prefixes.iter().map(|prefix| prefix.0.clone()).collect(),
        not_prefixes: spec.not_prefixes.iter().map(|prefix| prefix.0.clone()).collect(),
        origins: spec.from.iter().map(|from| origin(*from)).collect(),
        as_path_prefix: spec.as_path_prefix.clone(),
        interfaces: spec.interfaces.clone(),
        local_pref: spec.local_pref,
        ..RouteMatch::default()
    };
    for community in &spec.communities {
        match *community {
            CommunityText::Standard(value) => matches.communities.push(value),
            CommunityText::Large(value) => matches.large_communities.push(value),
            CommunityText::Extended(value) => matches.extended_communities.push(value),
        }
    }
    let action = match spec.action {
        Action::Accept => RuleAction::Accept,
        Action::Reject => RuleAction::Reject,
        Action::Next => RuleAction::Next,
    };
    Rule { matches, action, set: spec.set.iter().filter_map(|set| operation(set, own, problems)).collect() }
}

fn origin(from: From) -> RouteOrigin {
    match from {
        From::Networks => RouteOrigin::Local(LocalRouteSource::Static),
        From::Ebgp => RouteOrigin::Ebgp,
        From::Ibgp => RouteOrigin::Ibgp,
    }
}

fn operation(set: &SetSpec, own: Asn, problems: &mut Vec<Problem>) -> Option<SetOperation> {
    Some(match set {
        SetSpec::LocalPref(value) => SetOperation::LocalPref(*value),
        SetSpec::Med(value) => SetOperation::Med(*value),
        SetSpec::AddCommunity(community) => match *community {
            CommunityText::Standard(value) => SetOperation::AddCommunity(value),
            CommunityText::Large(value) => SetOperation::AddLargeCommunity(value),
            CommunityText::Extended(value) => SetOperation::AddExtendedCommunity(value),
        },
        SetSpec::RemoveCommunity(community) => match community.value {
            CommunityText::Standard(value) => SetOperation::RemoveCommunity(value),
            CommunityText::Large(_) | CommunityText::Extended(_) => {
                problems.push(Problem::at(community, "only communities of the form AS:NUMBER can be removed"));
                return None;
            }
        },
        SetSpec::Prepend(prepend) => {
            if !(1..=10).contains(&prepend.count.value) {
                problems.push(Problem::at(&prepend.count, "an AS number is prepended 1 to 10 times"));
                return None;
            }
            SetOperation::Prepend { asn: prepend.asn.unwrap_or(own), count: prepend.count.value }
        }
    })
}
