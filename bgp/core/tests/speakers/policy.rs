//! Policy on the way in and out.

use margay_bgp_core::wire::{Attributes, Community, ExtendedCommunity, LargeCommunity};
use margay_bgp_core::{
    AdvertisementReason, DecisionConfig, ExportPolicy, ImportPolicy, PrefixMatch, RejectReason, RouteMatch,
    RouteOrigin, Rule, RuleAction, RuleSet, SetOperation,
};
use margay_net::Asn;

use crate::crafted::{Crafted, OWN, both, path};
use crate::network::prefix;

fn reject(matches: RouteMatch) -> RuleSet {
    RuleSet { rules: vec![Rule { matches, action: RuleAction::Reject, set: vec![] }], accept_by_default: true }
}

fn set(operations: Vec<SetOperation>) -> RuleSet {
    let rule = Rule { matches: RouteMatch::default(), action: RuleAction::Accept, set: operations };
    RuleSet { rules: vec![rule], accept_by_default: false }
}

/// A peer that gives and one that takes, each in an AS of its own.
fn give_and_take() -> Crafted {
    let mut crafted = Crafted::new();
    crafted.peer("giver", 10, 65010, |_| {});
    crafted.peer("taker", 20, 65020, |_| {});
    crafted
}

fn tagged() -> Attributes {
    Attributes {
        communities: vec![Community::new(65010, 1)],
        large_communities: vec![LargeCommunity { global_administrator: 65010, local_data_1: 2, local_data_2: 3 }],
        extended_communities: vec![ExtendedCommunity(0x0002_fdf2_0000_0004)],
        ..path(&[65010, 65011], 10)
    }
}

#[test]
fn every_condition_works_on_import_and_on_export_without_a_reset() {
    let mut crafted = give_and_take();
    crafted.connect_subnet();
    crafted.announce("giver", "10.1.0.0/24", tagged());
    crafted.announce("giver", "10.2.0.0/24", path(&[65010], 10));
    let within = |text| vec![PrefixMatch::within(prefix(text))];
    let any = RouteMatch::default;
    // Each rejects the first route and leaves the second one.
    let table = [
        RouteMatch { prefixes: within("10.1.0.0/16"), ..any() },
        RouteMatch { not_prefixes: within("10.2.0.0/16"), ..any() },
        RouteMatch { communities: vec![65010 << 16 | 1], ..any() },
        RouteMatch { large_communities: vec![[65010, 2, 3]], ..any() },
        RouteMatch { extended_communities: vec![0x0002_fdf2_0000_0004], ..any() },
        RouteMatch { as_path_prefix: vec![Asn(65010), Asn(65011)], origins: vec![RouteOrigin::Ebgp], ..any() },
        RouteMatch { prefixes: within("10.1.0.0/16"), interfaces: vec!["eth*".to_owned()], ..any() },
        RouteMatch { prefixes: within("10.1.0.0/16"), local_pref: Some(100), ..any() },
    ];
    for matches in table {
        crafted.change("giver", |peer| peer.import = ImportPolicy(reject(matches.clone())));
        assert_eq!(crafted.rejected("giver", "10.1.0.0/24"), Some(RejectReason::Policy), "{matches:?}");
        assert_eq!(crafted.rejected("giver", "10.2.0.0/24"), None, "{matches:?}");
        let words = crafted.received("giver", "10.1.0.0/24").reason.unwrap();
        assert_eq!(words, "import policy rejects it by rule 0");
        assert_eq!(crafted.known("taker"), ["10.2.0.0/24".to_owned()].into());
        crafted.change("giver", |peer| peer.import = ImportPolicy::accept_all());
        assert_eq!(crafted.known("taker").len(), 2);

        crafted.change("taker", |peer| peer.export = ExportPolicy(reject(matches.clone())));
        assert_eq!(crafted.known("taker"), ["10.2.0.0/24".to_owned()].into(), "{matches:?}");
        assert_eq!(crafted.reason("taker", "10.1.0.0/24"), AdvertisementReason::Policy { rule: Some(0) });
        assert_eq!(crafted.reason("taker", "10.2.0.0/24"), AdvertisementReason::Advertised { rule: None });
        crafted.change("taker", |peer| peer.export = ExportPolicy::accept_all());
    }
    let other = [
        RouteMatch { interfaces: vec!["bond*".to_owned()], ..any() },
        RouteMatch { local_pref: Some(200), ..any() },
        RouteMatch { as_path_prefix: vec![Asn(OWN)], ..any() },
    ];
    for matches in other {
        crafted.change("taker", |peer| peer.export = ExportPolicy(reject(matches.clone())));
        assert_eq!(crafted.known("taker").len(), 2, "{matches:?}");
    }
}

#[test]
fn every_change_reaches_the_peer() {
    let mut crafted = give_and_take();
    let operations = vec![
        SetOperation::Med(7),
        SetOperation::LocalPref(300),
        SetOperation::AddCommunity(65000 << 16 | 9),
        SetOperation::RemoveCommunity(65010 << 16 | 1),
        SetOperation::AddLargeCommunity([65000, 1, 1]),
        SetOperation::AddExtendedCommunity(0x0002_fde8_0000_0001),
        SetOperation::Prepend { asn: Asn(65000), count: 2 },
    ];
    crafted.change("taker", |peer| peer.export = ExportPolicy(set(operations.clone())));
    crafted.announce("giver", "10.1.0.0/24", tagged());
    let told = crafted.told("taker", "10.1.0.0/24").unwrap();
    assert_eq!((told.med, told.local_pref), (Some(7), None), "LOCAL_PREF stays inside");
    assert_eq!(told.communities, [Community::new(65000, 9)]);
    assert_eq!(told.large_communities.len(), 2);
    assert_eq!(told.extended_communities.len(), 2);
    assert_eq!(told.as_path.to_string(), "65000 65000 65000 65010 65011");

    crafted.change("taker", |peer| peer.export = ExportPolicy::accept_all());
    crafted.change("giver", |peer| peer.import = ImportPolicy(set(operations)));
    let best = crafted.best("10.1.0.0/24").attributes;
    assert_eq!((best.med, best.local_pref), (Some(7), Some(300)));
    assert_eq!(best.as_path, "65000 65000 65010 65011");
    assert_eq!(best.communities, ["65000:9", "65000:1:1", "65010:2:3", "0x0002fde800000001", "0x0002fdf200000004"]);
    let received = crafted.received("giver", "10.1.0.0/24").attributes;
    assert_eq!((received.as_path.as_str(), received.med), ("65010 65011", None), "what came is kept");
}

#[test]
fn an_external_peer_without_policy_gets_and_gives_nothing_and_the_reason_says_so() {
    let absent = RuleSet { rules: vec![], accept_by_default: false };
    let mut crafted = give_and_take();
    crafted.peer("inside", 30, OWN, |peer| peer.import = ImportPolicy(absent.clone()));
    crafted.announce_plainly("giver", "10.1.0.0/24");
    crafted.announce_plainly("inside", "10.3.0.0/24");
    assert_eq!(crafted.rejected("inside", "10.3.0.0/24"), Some(RejectReason::Policy), "RFC 8212 is about eBGP");
    crafted.change("taker", |peer| peer.export = ExportPolicy(absent.clone()));
    assert_eq!(crafted.reason("taker", "10.1.0.0/24"), AdvertisementReason::NoPolicy);
    assert_eq!(crafted.why("10.1.0.0/24").advertisements[2].words, "no policy configured (RFC 8212)");
    crafted.change("giver", |peer| peer.import = ImportPolicy(absent.clone()));
    assert_eq!(crafted.rejected("giver", "10.1.0.0/24"), Some(RejectReason::NoPolicy));
    assert_eq!(crafted.received("giver", "10.1.0.0/24").reason.unwrap(), "no import policy configured (RFC 8212)");
    crafted.change("giver", |peer| peer.import = ImportPolicy(reject(RouteMatch::default())));
    assert_eq!(crafted.rejected("giver", "10.1.0.0/24"), Some(RejectReason::Policy));
}

#[test]
fn an_interface_is_known_once_it_is_there_and_policy_looks_again() {
    let mut crafted = give_and_take();
    let uplink = RouteMatch { interfaces: vec!["eth0".to_owned()], ..RouteMatch::default() };
    crafted.change("taker", |peer| peer.export = ExportPolicy(reject(uplink.clone())));
    crafted.change("giver", |peer| peer.import = ImportPolicy(RuleSet { accept_by_default: true, ..reject(uplink) }));
    crafted.announce_plainly("giver", "10.1.0.0/24");
    crafted.announce_local("10.2.0.0/26");
    assert_eq!(crafted.known("taker").len(), 2);
    crafted.connect_subnet();
    assert_eq!(crafted.rejected("giver", "10.1.0.0/24"), Some(RejectReason::Policy));
    assert_eq!(crafted.known("taker"), ["10.2.0.0/26".to_owned()].into(), "a local route's interface is not known");
}

#[test]
fn a_long_list_is_evaluated_route_by_route() {
    let rules = (0..5_000u32).map(|at| Rule {
        matches: RouteMatch {
            prefixes: vec![PrefixMatch::exact(prefix(&format!("10.{}.{}.0/24", at >> 8, at & 255)))],
            ..RouteMatch::default()
        },
        action: if at % 2 == 0 { RuleAction::Accept } else { RuleAction::Reject },
        set: vec![],
    });
    let list = RuleSet { rules: rules.collect(), accept_by_default: false };
    let mut crafted = give_and_take();
    crafted.change("giver", |peer| peer.import = ImportPolicy(list));
    for cidr in ["10.0.0.0/24", "10.0.1.0/24", "10.19.134.0/24", "10.19.135.0/24", "10.19.136.0/24", "10.0.0.0/25"] {
        crafted.announce_plainly("giver", cidr);
    }
    assert_eq!(crafted.known("taker"), ["10.0.0.0/24", "10.19.134.0/24"].map(str::to_owned).into());
    assert_eq!(crafted.received("giver", "10.0.1.0/24").reason.unwrap(), "import policy rejects it by rule 1");
    assert_eq!(crafted.received("giver", "10.0.0.0/25").reason.unwrap(), "import policy rejects it by default");
}

#[test]
fn the_default_local_preference_is_a_setting_that_applies_at_once() {
    let mut crafted = give_and_take();
    crafted.peer("inside", 30, OWN, |_| {});
    crafted.announce_plainly("giver", "10.1.0.0/24");
    assert_eq!(crafted.told("inside", "10.1.0.0/24").unwrap().local_pref, Some(100));
    crafted.config.decision = DecisionConfig { default_local_pref: 555, ..DecisionConfig::default() };
    crafted.configure();
    assert_eq!(crafted.told("inside", "10.1.0.0/24").unwrap().local_pref, Some(555));
    let matches = RouteMatch { local_pref: Some(555), ..RouteMatch::default() };
    crafted.change("taker", |peer| peer.export = ExportPolicy(reject(matches)));
    assert!(crafted.known("taker").is_empty());
}

#[test]
fn both_families_go_through_the_same_rules() {
    let mut crafted = Crafted::new();
    crafted.interface("eth0", &[("192.0.2.1", "192.0.2.0/24"), ("2001:db8::1", "2001:db8::/64")]);
    crafted.peer("giver", 10, 65010, |peer| peer.families = both());
    crafted.peer("taker", 20, 65020, |peer| peer.families = both());
    let no = RouteMatch { prefixes: vec![PrefixMatch::within(prefix("fd00:1::/32"))], ..RouteMatch::default() };
    crafted.change("taker", |peer| peer.export = ExportPolicy(reject(no)));
    let next_hop = "2001:db8::10".parse().ok();
    for cidr in ["fd00:1::/64", "fd00:2::/64"] {
        crafted.announce("giver", cidr, Attributes { next_hop, ..path(&[65010], 10) });
    }
    crafted.announce_plainly("giver", "10.1.0.0/24");
    assert_eq!(crafted.known("taker"), ["10.1.0.0/24", "fd00:2::/64"].map(str::to_owned).into());
}
