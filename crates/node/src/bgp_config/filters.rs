//! BGPFilter's rules as the speaker's.

use margay_api::kinds::{BgpFilterRule, CommunityValue, FilterAction, FilterOperation, MatchOperator, PeerType};
use margay_bgp_core::{PrefixMatch, RouteMatch, RouteOrigin, Rule, RuleAction, SetOperation};
use margay_net::{Cidr, Family, LocalRouteSource};

use super::MAX_PRIORITY;

/// Which way routes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Import,
    Export,
}

/// What a rule is read for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    pub(super) direction: Direction,
    pub(super) family: Family,
    /// Whether the session carries the other family, too: a rule must keep to its own.
    pub(super) shared: bool,
    pub(super) ibgp: bool,
    /// The priority of this node's own routes.
    pub(super) normal_priority: u32,
}

/// This node's own routes, whatever they are of.
pub(super) const LOCAL: [RouteOrigin; 6] = [
    RouteOrigin::Local(LocalRouteSource::Block),
    RouteOrigin::Local(LocalRouteSource::Workload),
    RouteOrigin::Local(LocalRouteSource::Loopback),
    RouteOrigin::Local(LocalRouteSource::Connected),
    RouteOrigin::Local(LocalRouteSource::Static),
    RouteOrigin::Local(LocalRouteSource::Service),
];

const LEARNED: [RouteOrigin; 2] = [RouteOrigin::Ebgp, RouteOrigin::Ibgp];

/// The rules that one rule of a filter stands for: none where it can match nothing in this session, two where it asks for
/// a priority that own routes have without an attribute that says so.
pub(super) fn rules(rule: &BgpFilterRule, context: &Context) -> Vec<Rule> {
    let wanted = rule.peer_type.is_none_or(|kind| (kind == PeerType::Ibgp) == context.ibgp);
    let Some(matches) = prefixes(rule, context).filter(|_| wanted) else { return Vec::new() };
    let mut matches = RouteMatch { as_path_prefix: rule.as_path_prefix.clone(), ..matches };
    matches.interfaces.extend(rule.interface.clone());
    for value in rule.communities.iter().flat_map(|communities| &communities.values) {
        match value.parse() {
            Ok(CommunityValue::Standard(community)) => matches.communities.push(community),
            Ok(CommunityValue::Large(community)) => matches.large_communities.push(community),
            // One that is no community is on no route.
            Err(_) => return Vec::new(),
        }
    }
    if rule.source.is_some() && context.direction == Direction::Export {
        matches.origins = LEARNED.to_vec();
    }
    let action = match rule.action {
        FilterAction::Accept => RuleAction::Accept,
        FilterAction::Reject => RuleAction::Reject,
    };
    let set: Vec<SetOperation> = rule.operations.iter().flat_map(operations).collect();
    let built = |matches: RouteMatch| Rule { matches, action, set: set.clone() };
    let Some(priority) = rule.priority else { return vec![built(matches)] };
    let learned = RouteMatch { local_pref: Some(MAX_PRIORITY.saturating_sub(priority)), ..matches.clone() };
    if context.direction == Direction::Import {
        return vec![built(learned)];
    }
    let mut out = vec![built(RouteMatch { origins: LEARNED.to_vec(), ..learned })];
    if priority == context.normal_priority && rule.source.is_none() {
        out.push(built(RouteMatch { origins: LOCAL.to_vec(), ..matches }));
    }
    out
}

/// The part of a match that is about the prefix; None where no prefix can match.
fn prefixes(rule: &BgpFilterRule, context: &Context) -> Option<RouteMatch> {
    let all = || PrefixMatch::within(Cidr::any(context.family));
    let mut matches = RouteMatch::default();
    if let Some(cidr) = rule.cidr {
        if cidr.family() != context.family {
            return None;
        }
        let mut within = PrefixMatch::within(cidr);
        if let Some(lengths) = rule.prefix_length {
            within.min_len = within.min_len.max(lengths.min.unwrap_or(0));
            within.max_len = within.max_len.min(lengths.max.unwrap_or(u8::MAX));
        }
        match rule.match_operator {
            Some(MatchOperator::Equal) => matches.prefixes.push(PrefixMatch::exact(cidr)),
            Some(MatchOperator::In) | None => matches.prefixes.push(within),
            Some(MatchOperator::NotEqual) => matches.not_prefixes.push(PrefixMatch::exact(cidr)),
            Some(MatchOperator::NotIn) => matches.not_prefixes.push(within),
        }
    }
    if matches.prefixes.is_empty() && context.shared {
        matches.prefixes.push(all());
    }
    Some(matches)
}

fn operations(operation: &FilterOperation) -> Vec<SetOperation> {
    let mut out = Vec::new();
    if let Some(add) = &operation.add_community {
        match add.value.parse() {
            Ok(CommunityValue::Standard(community)) => out.push(SetOperation::AddCommunity(community)),
            Ok(CommunityValue::Large(community)) => out.push(SetOperation::AddLargeCommunity(community)),
            Err(_) => {}
        }
    }
    if let Some(prepend) = &operation.prepend_as_path {
        // The last that is put in front is the first of the path.
        out.extend(prepend.prefix.iter().rev().map(|&asn| SetOperation::Prepend { asn, count: 1 }));
    }
    if let Some(priority) = &operation.set_priority {
        out.push(SetOperation::LocalPref(MAX_PRIORITY.saturating_sub(priority.value)));
    }
    out
}
