//! What is taken from a peer: what its filters say, and the rest as well.

use margay_bgp_core::{ImportPolicy, RuleSet};

use super::filters::{self, Context, Direction};
use super::session::SessionView;

/// What no rule decides is accepted, as Calico does.
pub(super) fn policy(session: &SessionView<'_>) -> ImportPolicy {
    let shared = session.families.len() > 1;
    let mut rules = session.refusals(Direction::Import);
    for &family in &session.families {
        let context = Context { direction: Direction::Import, family, shared, ibgp: session.ibgp, normal_priority: 0 };
        let found = session.filters.iter().flat_map(|filter| filter.import(family));
        rules.extend(found.flat_map(|rule| filters::rules(rule, &context)));
    }
    ImportPolicy(RuleSet { rules, accept_by_default: true })
}
