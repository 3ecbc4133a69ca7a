use margay_net::LocalRouteSource;
use proptest::prelude::*;

use super::super::{PrefixMatch, Rule};
use super::*;

fn prefix(text: &str) -> Cidr {
    text.parse().expect("a prefix")
}

fn route<'a>(prefix: Cidr, attributes: &'a Attributes) -> Route<'a> {
    Route { prefix, origin: RouteOrigin::Ebgp, attributes, local_pref: 100, interface: None }
}

fn rule(within: &str, action: RuleAction, set: &[SetOperation]) -> Rule {
    let prefixes = vec![PrefixMatch::within(prefix(within))];
    Rule { matches: RouteMatch { prefixes, ..RouteMatch::default() }, action, set: set.to_vec() }
}

#[test]
fn the_first_rule_that_decides_wins_and_those_that_go_on_add_their_changes() {
    let policy = Policy::from(RuleSet {
        rules: vec![
            rule("10.0.0.0/8", RuleAction::Next, &[SetOperation::Med(5)]),
            rule("10.1.0.0/16", RuleAction::Reject, &[]),
            rule("10.0.0.0/8", RuleAction::Accept, &[SetOperation::LocalPref(7)]),
        ],
        accept_by_default: false,
    });
    let attributes = Attributes::default();
    let decide = |text: &str| {
        let verdict = policy.evaluate(&route(prefix(text), &attributes));
        let operations: Vec<_> = policy.operations(&verdict.changes).cloned().collect();
        (verdict.accepted, verdict.rule, operations)
    };
    assert_eq!(decide("10.2.0.0/24"), (true, Some(2), vec![SetOperation::Med(5), SetOperation::LocalPref(7)]));
    assert_eq!(decide("10.1.2.0/24"), (false, Some(1), vec![]));
    assert_eq!(decide("192.0.2.0/24"), (false, None, vec![]));
}

#[test]
fn each_condition_is_looked_at_and_all_must_hold() {
    let attributes = Attributes {
        as_path: AsPath::sequence([65001, 65002, 65003].map(Asn)),
        communities: vec![Community(1), Community(2), Community(3)],
        large_communities: vec![LargeCommunity { global_administrator: 1, local_data_1: 2, local_data_2: 3 }],
        extended_communities: vec![ExtendedCommunity(0x0002_fde8_0000_0001)],
        ..Attributes::default()
    };
    let seen = Route {
        prefix: prefix("10.0.0.0/26"),
        origin: RouteOrigin::Local(LocalRouteSource::Block),
        attributes: &attributes,
        local_pref: 300,
        interface: Some("bond0.100"),
    };
    let within = |min_len, max_len| vec![PrefixMatch { covering: prefix("10.0.0.0/8"), min_len, max_len }];
    let any = RouteMatch::default;
    let table: Vec<(RouteMatch, bool)> = vec![
        (any(), true),
        (RouteMatch { prefixes: within(24, 26), ..any() }, true),
        (RouteMatch { prefixes: within(24, 25), ..any() }, false),
        (RouteMatch { not_prefixes: within(24, 26), ..any() }, false),
        (RouteMatch { not_prefixes: within(24, 25), ..any() }, true),
        (RouteMatch { prefixes: within(24, 26), not_prefixes: within(26, 26), ..any() }, false),
        (RouteMatch { origins: vec![RouteOrigin::Ibgp, RouteOrigin::Local(LocalRouteSource::Block)], ..any() }, true),
        (RouteMatch { origins: vec![RouteOrigin::Local(LocalRouteSource::Service)], ..any() }, false),
        (RouteMatch { communities: vec![3, 1], ..any() }, true),
        (RouteMatch { communities: vec![3, 4], ..any() }, false),
        (RouteMatch { large_communities: vec![[1, 2, 3]], ..any() }, true),
        (RouteMatch { large_communities: vec![[1, 2, 4]], ..any() }, false),
        (RouteMatch { extended_communities: vec![0x0002_fde8_0000_0001], ..any() }, true),
        (RouteMatch { extended_communities: vec![1], ..any() }, false),
        (RouteMatch { as_path_prefix: [65001, 65002].map(Asn).into(), ..any() }, true),
        (RouteMatch { as_path_prefix: [65002].map(Asn).into(), ..any() }, false),
        (RouteMatch { as_path_prefix: [65001, 65002, 65003, 65004].map(Asn).into(), ..any() }, false),
        (RouteMatch { interfaces: vec!["eth*".into(), "bond?.*".into()], ..any() }, true),
        (RouteMatch { interfaces: vec!["bond".into()], ..any() }, false),
        (RouteMatch { local_pref: Some(300), ..any() }, true),
        (RouteMatch { local_pref: Some(100), ..any() }, false),
        (RouteMatch { local_pref: Some(300), communities: vec![9], ..any() }, false),
    ];
    for (matches, expected) in table {
        let rule = Rule { matches: matches.clone(), action: RuleAction::Accept, set: vec![] };
        let policy = Policy::from(RuleSet { rules: vec![rule], accept_by_default: false });
        assert_eq!(policy.evaluate(&seen).accepted, expected, "{matches:?}");
    }
    let unknown = Route { interface: None, ..seen };
    assert!(!RouteMatch { interfaces: vec!["*".into()], ..any() }.describes(&unknown));
}

#[test]
fn a_set_in_the_as_path_ends_what_can_be_matched_in_sequence() {
    let mut path = AsPath::sequence([Asn(1)]);
    path.push(SegmentKind::Set, &[Asn(2)]);
    assert!(begins_with(&path, &[Asn(1)]));
    assert!(!begins_with(&path, &[Asn(1), Asn(2)]));
    assert!(begins_with(&AsPath::default(), &[]));
}

#[test]
fn no_rules_and_no_default_are_no_policy() {
    let policy = |rules, accept_by_default| Policy::from(RuleSet { rules, accept_by_default });
    assert!(policy(vec![], false).is_absent());
    assert!(!policy(vec![], true).is_absent());
    assert!(!policy(vec![rule("10.0.0.0/8", RuleAction::Reject, &[])], false).is_absent());
}

fn any_prefix() -> impl Strategy<Value = Cidr> {
    // Few addresses, so that prefixes cover each other.
    (0..16u32, 0..=32u8).prop_map(|(address, len)| {
        Cidr::truncated(std::net::Ipv4Addr::from_bits(address << 26 | address).into(), len).expect("a length of IPv4")
    })
}

fn any_match() -> impl Strategy<Value = PrefixMatch> {
    (any_prefix(), 0..=32u8, 0..=32u8).prop_map(|(covering, a, b)| PrefixMatch {
        covering,
        min_len: a.min(b),
        max_len: a.max(b),
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let prefixes = || proptest::collection::vec(any_match(), 0..4);
    let action = prop_oneof![Just(RuleAction::Accept), Just(RuleAction::Reject), Just(RuleAction::Next)];
    (prefixes(), prefixes(), proptest::collection::vec(0..2u32, 0..2), action).prop_map(
        |(prefixes, not_prefixes, communities, action)| Rule {
            matches: RouteMatch { prefixes, not_prefixes, communities, ..RouteMatch::default() },
            action,
            set: vec![SetOperation::Med(1)],
        },
    )
}

proptest! {
    #[test]
    fn an_index_changes_no_verdict(
        rules in proptest::collection::vec(any_rule(), 0..20),
        accept_by_default: bool,
        prefixes in proptest::collection::vec(any_prefix(), 1..20),
    ) {
        let rules = RuleSet { rules, accept_by_default };
        let plain = Policy { index: None, ..Policy::from(rules.clone()) };
        let indexed = Policy { index: Some(Index::of(&rules)), ..Policy::from(rules) };
        let attributes = Attributes { communities: vec![Community(1)], ..Attributes::default() };
        for prefix in prefixes {
            prop_assert_eq!(plain.evaluate(&route(prefix, &attributes)), indexed.evaluate(&route(prefix, &attributes)));
        }
    }
}

#[test]
fn a_long_list_costs_no_more_than_what_covers_the_prefix() {
    let prefixes: Vec<Cidr> = (0..20_000u32)
        .map(|at| Cidr::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 + (at << 8)).into(), 24).expect("canonical"))
        .collect();
    let rules: Vec<Rule> = prefixes
        .iter()
        .map(|&prefix| Rule {
            matches: RouteMatch { prefixes: vec![PrefixMatch::exact(prefix)], ..RouteMatch::default() },
            action: RuleAction::Accept,
            set: vec![],
        })
        .collect();
    let policy = Policy::from(RuleSet { rules, accept_by_default: false });
    let index = policy.index.as_ref().expect("an index");
    assert!(prefixes.iter().all(|&prefix| index.candidates(prefix).count() == 1));
    let attributes = Attributes::default();
    assert_eq!(policy.evaluate(&route(prefixes[19_999], &attributes)).rule, Some(19_999));
    assert_eq!(policy.evaluate(&route(prefix("10.0.0.0/25"), &attributes)).rule, None);
}
