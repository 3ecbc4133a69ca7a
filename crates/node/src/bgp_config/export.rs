//! What is announced to a peer, in Calico's order: filters, pools that are not exported, communities by prefix, this
//! node's blocks and services, what lies in pools; and nothing else.
//!
//! More specific prefixes of own blocks need no rule: felix gives only addresses outside of them (borrowed ones), and
//! what others borrowed of this node's blocks is passed on by a reflector (Calico's would keep it to itself).

use margay_api::kinds::CommunityValue;
use margay_bgp_core::{ExportPolicy, PrefixMatch, RouteMatch, RouteOrigin, Rule, RuleAction, RuleSet, SetOperation};
use margay_net::{Cidr, Family, LocalRouteSource};

use super::filters::{self, Context, Direction, LOCAL};
use super::session::SessionView;
use super::{MAX_PRIORITY, Planner};

impl Planner<'_> {
    pub(super) fn export_policy(&self, session: &SessionView<'_>) -> ExportPolicy {
        let mut rules = session.refusals(Direction::Export);
        if session.ibgp {
            rules.extend(self.local_preferences(session));
        }
        for &family in &session.families {
            let context = Context {
                direction: Direction::Export,
                family,
                shared: session.families.len() > 1,
                ibgp: session.ibgp,
                normal_priority: self.config.normal_route_priority(family),
            };
            let found = session.filters.iter().flat_map(|filter| filter.export(family));
            rules.extend(found.flat_map(|rule| filters::rules(rule, &context)));
        }
        rules.extend(rule(&self.pools(session, false), &[], RuleAction::Reject, Vec::new()));
        rules.extend(self.communities(session));
        // The node's own address on its loopback is announced to all: Margay's way to nodes with several uplinks.
        let own = [LocalRouteSource::Block, LocalRouteSource::Service, LocalRouteSource::Loopback];
        rules.push(Rule {
            matches: RouteMatch { origins: own.map(RouteOrigin::Local).to_vec(), ..RouteMatch::default() },
            action: RuleAction::Accept,
            set: Vec::new(),
        });
        // From one router to another is no business of a node's; all else as Calico has it.
        let learned: &[RouteOrigin] = match (session.ibgp, session.transit) {
            (true, _) => &[RouteOrigin::Ebgp, RouteOrigin::Ibgp],
            (false, true) => &[RouteOrigin::Ibgp],
            (false, false) => &[],
        };
        let ranges: Vec<Cidr> = self
            .services
            .passed_on
            .iter()
            .copied()
            .filter(|range| session.families.contains(&range.family()))
            .collect();
        if !learned.is_empty() {
            rules.extend(rule(&ranges, learned, RuleAction::Accept, Vec::new()));
        }
        let in_pools: Vec<RouteOrigin> =
            std::iter::once(RouteOrigin::Local(LocalRouteSource::Workload)).chain(learned.iter().copied()).collect();
        rules.extend(rule(&self.pools(session, true), &in_pools, RuleAction::Accept, Vec::new()));
        ExportPolicy(RuleSet { rules, accept_by_default: false })
    }

    /// The LOCAL_PREF of this node's own routes: 2^31-1 less the normal route priority.
    fn local_preferences(&self, session: &SessionView<'_>) -> Vec<Rule> {
        let preference = |family: Family| {
            SetOperation::LocalPref(MAX_PRIORITY.saturating_sub(self.config.normal_route_priority(family)))
        };
        let set = |prefixes: Vec<PrefixMatch>, family| Rule {
            matches: RouteMatch { prefixes, origins: LOCAL.to_vec(), ..RouteMatch::default() },
            action: RuleAction::Next,
            set: vec![preference(family)],
        };
        let mut families = session.families.iter().copied();
        let Some(first) = families.next() else { return Vec::new() };
        if families.all(|family| preference(family) == preference(first)) {
            return vec![set(Vec::new(), first)];
        }
        let within = |family: Family| set(vec![PrefixMatch::within(Cidr::any(family))], family);
        session.families.iter().map(|&family| within(family)).collect()
    }

    fn communities(&self, session: &SessionView<'_>) -> Vec<Rule> {
        let wanted = self.advertisements.iter().filter(|wanted| session.families.contains(&wanted.cidr.family()));
        let set = |communities: &[CommunityValue]| -> Vec<SetOperation> {
            let operation = |community: &CommunityValue| match *community {
                CommunityValue::Standard(community) => SetOperation::AddCommunity(community),
                CommunityValue::Large(community) => SetOperation::AddLargeCommunity(community),
            };
            communities.iter().map(operation).collect()
        };
        wanted.flat_map(|wanted| rule(&[wanted.cidr], &[], RuleAction::Next, set(&wanted.communities))).collect()
    }

    /// The pools that are exported, or those that are not.
    fn pools(&self, session: &SessionView<'_>, exported: bool) -> Vec<Cidr> {
        let pools = self.resources.pools.values().map(|pool| &pool.spec);
        let pools = pools.filter(|pool| pool.disable_bgp_export != exported);
        let mut cidrs: Vec<Cidr> =
            pools.map(|pool| pool.cidr).filter(|cidr| session.families.contains(&cidr.family())).collect();
        cidrs.sort_unstable();
        cidrs
    }
}

/// A rule for what lies in one of `within`; none where there is nothing to lie in.
fn rule(within: &[Cidr], origins: &[RouteOrigin], action: RuleAction, set: Vec<SetOperation>) -> Option<Rule> {
    let prefixes = within.iter().map(|cidr| PrefixMatch::within(*cidr)).collect();
    let matches = RouteMatch { prefixes, origins: origins.to_vec(), ..RouteMatch::default() };
    (!within.is_empty()).then_some(Rule { matches, action, set })
}
