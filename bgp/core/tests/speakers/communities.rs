//! What well-known communities do to a route.

use margay_bgp_core::wire::{Attributes, Community};
use margay_bgp_core::{
    AdvertisementReason, ExportPolicy, ImportPolicy, LossReason, RouteMatch, Rule, RuleAction, RuleSet, SetOperation,
};

use crate::crafted::{Crafted, OWN, path};
use crate::network::prefix;

/// A giver, and a taker outside and inside the AS.
fn three() -> Crafted {
    let mut crafted = Crafted::new();
    crafted.peer("giver", 10, 65010, |_| {});
    crafted.peer("outside", 20, 65020, |_| {});
    crafted.peer("inside", 30, OWN, |_| {});
    crafted
}

fn with(communities: &[Community]) -> Attributes {
    Attributes { communities: communities.to_vec(), ..path(&[65010], 10) }
}

fn always(set: Vec<SetOperation>) -> RuleSet {
    let rule = Rule { matches: RouteMatch::default(), action: RuleAction::Accept, set };
    RuleSet { rules: vec![rule], accept_by_default: false }
}

#[test]
fn a_well_known_community_keeps_a_route_from_whom_it_says() {
    let table = [
        (Community::NO_EXPORT, "no-export", true, false),
        (Community::NO_EXPORT_SUBCONFED, "no-export-subconfed", true, false),
        (Community::NO_PEER, "no-peer", true, false),
        (Community::NO_ADVERTISE, "no-advertise", false, false),
        (Community::BLACKHOLE, "blackhole", true, true),
        (Community::GRACEFUL_SHUTDOWN, "", true, true),
        (Community::new(65010, 1), "", true, true),
    ];
    for (community, word, inside, outside) in table {
        let mut crafted = three();
        crafted.announce("giver", "10.1.0.0/24", with(&[community]));
        for (peer, gets_it) in [("inside", inside), ("outside", outside)] {
            let expected = if gets_it {
                AdvertisementReason::Advertised { rule: None }
            } else {
                AdvertisementReason::Community { community: word.to_owned() }
            };
            assert_eq!(crafted.reason(peer, "10.1.0.0/24"), expected, "{word} {peer}");
        }
        assert_eq!(crafted.next_hops("10.1.0.0/24"), ["192.0.2.10"], "it is used all the same");
    }
}

#[test]
fn what_export_policy_adds_is_for_the_peer_and_what_import_policy_adds_counts() {
    let mut crafted = three();
    let add = || always(vec![SetOperation::AddCommunity(Community::NO_EXPORT.0)]);
    crafted.change("outside", |peer| peer.export = ExportPolicy(add()));
    crafted.announce_plainly("giver", "10.1.0.0/24");
    assert_eq!(crafted.told("outside", "10.1.0.0/24").unwrap().communities, [Community::NO_EXPORT]);
    crafted.change("giver", |peer| peer.import = ImportPolicy(add()));
    assert_eq!(crafted.told("outside", "10.1.0.0/24"), None);
}

#[test]
fn an_external_path_that_is_about_to_go_loses_to_any_other_one() {
    let mut crafted = three();
    crafted.peer("second", 11, 65011, |_| {});
    crafted.announce("giver", "10.1.0.0/24", with(&[]));
    crafted.announce("second", "10.1.0.0/24", path(&[65011, 65012, 65013], 11));
    assert_eq!(crafted.next_hops("10.1.0.0/24"), ["192.0.2.10"]);
    crafted.announce("giver", "10.1.0.0/24", with(&[Community::GRACEFUL_SHUTDOWN]));
    assert_eq!(crafted.next_hops("10.1.0.0/24"), ["192.0.2.11"]);
    let paths = crafted.why("10.1.0.0/24").route.unwrap().paths;
    assert_eq!((paths[1].lost, paths[1].attributes.local_pref), (Some(LossReason::LocalPref), Some(0)));
    assert_eq!(paths[1].reason.as_deref(), Some("lower local preference: 0 < 100"));

    // Import policy does not undo it, unless it takes the community away.
    crafted.change("giver", |peer| peer.import = ImportPolicy(always(vec![SetOperation::LocalPref(500)])));
    assert_eq!(crafted.next_hops("10.1.0.0/24"), ["192.0.2.11"]);
    let remove = vec![SetOperation::RemoveCommunity(Community::GRACEFUL_SHUTDOWN.0)];
    crafted.change("giver", |peer| peer.import = ImportPolicy(always(remove)));
    assert_eq!(crafted.next_hops("10.1.0.0/24"), ["192.0.2.10"]);
    crafted.change("giver", |peer| peer.import = ImportPolicy::accept_all());
    assert_eq!(crafted.next_hops("10.1.0.0/24"), ["192.0.2.11"]);
    crafted.change("giver", |peer| peer.honour_graceful_shutdown = false);
    assert_eq!(crafted.next_hops("10.1.0.0/24"), ["192.0.2.10"]);
    crafted.change("giver", |peer| peer.honour_graceful_shutdown = true);
    assert_eq!(crafted.next_hops("10.1.0.0/24"), ["192.0.2.11"]);
}

#[test]
fn an_internal_path_keeps_the_preference_that_it_came_with() {
    let mut crafted = three();
    let attributes = Attributes { local_pref: Some(70), ..with(&[Community::GRACEFUL_SHUTDOWN]) };
    crafted.announce("inside", "10.1.0.0/24", attributes);
    assert_eq!(crafted.best("10.1.0.0/24").attributes.local_pref, Some(70));
}

#[test]
fn a_session_that_is_shut_down_gracefully_announces_it_and_takes_it_back() {
    let mut crafted = three();
    crafted.announce_plainly("giver", "10.1.0.0/24");
    crafted.announce_local("10.2.0.0/26");
    // Policy that takes the community away comes too early for it.
    let remove = || always(vec![SetOperation::RemoveCommunity(Community::GRACEFUL_SHUTDOWN.0)]);
    for peer in ["inside", "outside"] {
        crafted.change(peer, |peer| peer.export = ExportPolicy(remove()));
        crafted.change(peer, |peer| peer.graceful_shutdown = true);
        for cidr in ["10.1.0.0/24", "10.2.0.0/26"] {
            let told = crafted.told(peer, cidr).unwrap();
            assert_eq!(told.communities, [Community::GRACEFUL_SHUTDOWN], "{peer} {cidr}");
            assert_eq!(told.local_pref, if peer == "inside" { Some(0) } else { None });
        }
        assert_eq!(crafted.reason(peer, "10.2.0.0/26"), AdvertisementReason::Advertised { rule: Some(0) });
    }
    assert_eq!(crafted.told("giver", "10.2.0.0/26").unwrap().communities, [], "the other session is untouched");
    crafted.change("inside", |peer| peer.graceful_shutdown = false);
    let told = crafted.told("inside", "10.2.0.0/26").unwrap();
    assert_eq!((told.local_pref, told.communities.len()), (Some(100), 0));
}

#[test]
fn a_blackhole_discards_host_routes_where_it_is_honoured() {
    let mut crafted = three();
    let blackhole = || with(&[Community::BLACKHOLE]);
    for cidr in ["10.1.0.7/32", "10.1.0.0/24"] {
        crafted.announce("giver", cidr, blackhole());
        assert_eq!(crafted.next_hops(cidr), ["192.0.2.10"]);
    }
    crafted.change("giver", |peer| peer.honour_blackhole = true);
    let route = &crafted.fib[&prefix("10.1.0.7/32")];
    assert!(route.discard && route.next_hops.is_empty());
    assert!(!crafted.fib[&prefix("10.1.0.0/24")].discard, "a shorter prefix is an ordinary route");
    let why = crafted.why("10.1.0.7/32").route.unwrap();
    assert!(why.discard && why.next_hops.is_empty() && why.paths[0].best);
    let blackhole_word = AdvertisementReason::Community { community: "blackhole".to_owned() };
    assert_eq!(crafted.reason("outside", "10.1.0.7/32"), blackhole_word);
    assert_eq!(crafted.reason("inside", "10.1.0.7/32"), AdvertisementReason::Advertised { rule: None });
    assert_eq!(crafted.reason("outside", "10.1.0.0/24"), AdvertisementReason::Advertised { rule: None });

    // Only what import policy accepts, and for as long as it is announced so.
    crafted.announce("giver", "10.1.0.7/32", with(&[]));
    assert!(!crafted.fib[&prefix("10.1.0.7/32")].discard);
    assert_eq!(crafted.reason("outside", "10.1.0.7/32"), AdvertisementReason::Advertised { rule: None });
    crafted.announce("giver", "10.1.0.7/32", blackhole());
    assert!(crafted.fib[&prefix("10.1.0.7/32")].discard);
    let nothing = RuleSet { rules: vec![], accept_by_default: false };
    crafted.change("giver", |peer| peer.import = ImportPolicy(nothing));
    assert!(crafted.fib.is_empty());
    crafted.change("giver", |peer| peer.import = ImportPolicy::accept_all());
    crafted.change("giver", |peer| peer.honour_blackhole = false);
    assert_eq!(crafted.next_hops("10.1.0.7/32"), ["192.0.2.10"]);
    crafted.withdraw("giver", "10.1.0.7/32");
    assert!(!crafted.fib.contains_key(&prefix("10.1.0.7/32")));
}
