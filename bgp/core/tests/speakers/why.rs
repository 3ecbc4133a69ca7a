//! Why a prefix is as it is.

use margay_bgp_core::wire::{AttributeType, Attributes, RawAttribute, encode_announcements};
use margay_bgp_core::{AdvertisementReason, LossReason, PathSource, RejectReason};
use margay_net::{Asn, LocalRouteSource};

use crate::crafted::{Crafted, OWN, both, path};
use crate::network::{Network, many, name, prefix, seconds};

const CIDR: &str = "10.1.0.0/24";
const ADVERTISED: AdvertisementReason = AdvertisementReason::Advertised { rule: None };

#[test]
fn each_peer_is_told_or_has_a_reason() {
    let mut crafted = Crafted::new();
    crafted.peer("client", 10, OWN, |peer| peer.route_reflector_client = true);
    crafted.peer("dual", 20, 65020, |peer| peer.families = both());
    crafted.peer("inside", 30, OWN, |_| {});
    crafted.peer("other", 31, OWN, |_| {});
    crafted.peer("outside", 40, 65040, |_| {});
    crafted.announce_plainly("inside", CIDR);
    assert_eq!(crafted.reason("inside", CIDR), AdvertisementReason::LearnedFromPeer);
    assert_eq!(crafted.reason("other", CIDR), AdvertisementReason::NotReflected);
    assert_eq!(crafted.reason("client", CIDR), ADVERTISED);
    assert_eq!(crafted.reason("outside", CIDR), ADVERTISED);
    let names: Vec<_> = crafted.why(CIDR).advertisements.into_iter().map(|view| view.peer.to_string()).collect();
    assert_eq!(names, ["client", "dual", "inside", "other", "outside"]);

    // The family, and an address of it to announce.
    let next_hop = "2001:db8::20".parse().ok();
    crafted.announce("dual", "fd00:1::/64", Attributes { next_hop, ..path(&[65020], 20) });
    assert_eq!(crafted.reason("outside", "fd00:1::/64"), AdvertisementReason::FamilyNotNegotiated);
    crafted.announce_local("fd00:2::/64");
    assert_eq!(crafted.reason("dual", "fd00:2::/64"), AdvertisementReason::NoNextHop);

    crafted.withdraw("inside", CIDR);
    let why = crafted.why(CIDR);
    assert!(why.route.is_none());
    assert!(why.advertisements.iter().all(|view| view.reason == AdvertisementReason::NoUsablePath));
}

#[test]
fn attributes_that_fit_into_no_message_are_told_apart() {
    let mut crafted = Crafted::new();
    crafted.peer("giver", 10, 65010, |_| {});
    crafted.peer("taker", 20, 65020, |_| {});
    // It came in a message that was just full, and gets an AS number more.
    let full = (3_900..4_096).rev().find_map(|len| {
        let unknown = vec![RawAttribute { kind: AttributeType(200), flags: 0xc0, value: vec![7; len].into() }];
        let attributes = Attributes { unknown, ..path(&[65010], 10) };
        encode_announcements(prefix(CIDR).family(), &attributes, [prefix(CIDR)], true).is_ok().then_some(attributes)
    });
    crafted.announce("giver", CIDR, full.unwrap());
    assert_eq!(crafted.reason("giver", CIDR), AdvertisementReason::LearnedFromPeer);
    assert_eq!(crafted.reason("taker", CIDR), AdvertisementReason::TooLong);
}

#[test]
fn every_path_has_its_place_and_the_reason_for_it() {
    let mut crafted = Crafted::new();
    crafted.peer("a", 10, 65010, |_| {});
    crafted.peer("b", 11, 65011, |_| {});
    crafted.peer("c", 12, 65012, |_| {});
    crafted.announce("a", CIDR, path(&[65010], 10));
    crafted.announce("b", CIDR, path(&[65011, 65099], 11));
    crafted.announce("c", CIDR, path(&[65012, OWN], 12));
    let route = crafted.why(CIDR).route.unwrap();
    let seen: Vec<_> = route
        .paths
        .iter()
        .map(|path| (path.source.clone(), path.best, path.lost, path.rejected, path.reason.as_deref()))
        .collect();
    let peer = |name: &str| PathSource::Peer(name.into());
    assert_eq!(
        seen,
        [
            (peer("a"), true, None, None, None),
            (peer("b"), false, Some(LossReason::AsPathLength), None, Some("longer AS path: 2 > 1")),
            (peer("c"), false, None, Some(RejectReason::AsPathLoop), Some("own AS in AS_PATH")),
        ]
    );
    crafted.announce_local(CIDR);
    let route = crafted.why(CIDR).route.unwrap();
    assert_eq!(route.paths[0].source, PathSource::Local(LocalRouteSource::Block));
    assert!(route.next_hops.is_empty());
}

#[test]
fn what_covers_a_prefix_that_is_not_there_is_named() {
    let mut crafted = Crafted::new();
    crafted.peer("a", 10, 65010, |_| {});
    for cidr in ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.128/25"] {
        crafted.announce_plainly("a", cidr);
    }
    let covered_by = |cidr: &str| crafted.why(cidr).covered_by.map(|cidr| cidr.to_string());
    assert_eq!(covered_by("10.1.2.0/24").as_deref(), Some("10.1.0.0/16"));
    assert_eq!(covered_by("10.1.2.200/32").as_deref(), Some("10.1.2.128/25"));
    assert_eq!(covered_by("192.0.2.7/32").as_deref(), Some("0.0.0.0/0"));
    assert_eq!(covered_by("10.1.0.0/16"), None, "it is there itself");
    assert_eq!(covered_by("fd00::/64"), None);
    crafted.withdraw("a", "10.1.0.0/16");
    assert_eq!(crafted.why("10.1.2.0/24").covered_by, Some(prefix("10.0.0.0/8")));
}

#[test]
fn a_peer_that_reads_nothing_has_its_routes_queued() {
    let mut net = Network::new();
    let (hub, slow) = (net.node(65001), net.node(65002));
    net.join_with(hub, slow, |peer| peer.hold_time = std::time::Duration::ZERO);
    net.configure_all();
    net.run_until(seconds(5), "established", |net| net.established(0, 1));
    net.stall(slow, true);
    // More than a megabyte is on its way, so that what follows is only noted.
    net.announce(hub, many(300_000));
    net.announce(hub, [prefix(CIDR)]);
    let reason = |net: &Network| net.nodes[hub].speaker.why(prefix(CIDR)).advertisements[0].reason.clone();
    assert_eq!(reason(&net), AdvertisementReason::Queued);
    net.stall(slow, false);
    net.run(seconds(5));
    assert_eq!(reason(&net), ADVERTISED);
    assert!(net.nodes[slow].fib.contains_key(&prefix(CIDR)));
}

#[test]
fn a_restarting_speaker_says_that_it_waits() {
    let mut net = Network::new();
    let (a, b, c) = (net.node(65001), net.node(65002), net.node(65003));
    net.join(a, b);
    net.join(a, c);
    net.configure_all();
    net.announce(b, [prefix(CIDR)]);
    net.run_until(seconds(5), "the route", |net| net.nodes[0].fib.len() == 1);
    net.kill(a);
    net.kill(c);
    net.restart(a, true);
    net.announce(a, []);
    net.run_until(seconds(30), "established", |net| net.established(0, 1));
    net.run(seconds(1));
    let why = net.nodes[a].speaker.why(prefix(CIDR));
    assert_eq!(why.advertisements[0].peer, name(b));
    assert_eq!(why.advertisements[0].reason, AdvertisementReason::Deferred);
    assert!(why.waits.iter().any(|wait| wait.what.starts_with("deferred: waiting")), "{:?}", why.waits);
    net.run(seconds(120));
    let why = net.nodes[a].speaker.why(prefix(CIDR));
    assert_eq!((why.advertisements[0].reason.clone(), why.waits.len()), (AdvertisementReason::LearnedFromPeer, 0));
}

#[test]
fn the_attributes_shown_are_those_told() {
    let mut crafted = Crafted::new();
    crafted.peer("giver", 10, 65010, |_| {});
    crafted.peer("taker", 20, 65020, |peer| peer.as_override = true);
    crafted.peer("inside", 30, OWN, |_| {});
    crafted.announce("giver", CIDR, Attributes { med: Some(5), ..path(&[65010, 65020], 10) });
    for peer in ["taker", "inside"] {
        assert_eq!(crafted.reason(peer, CIDR), ADVERTISED);
    }
    let advertised = crafted.why(CIDR).advertisements.into_iter().find(|view| view.peer.as_str() == "taker");
    assert_eq!(advertised.unwrap().advertised.unwrap().as_path, format!("{OWN} 65010 {OWN}"));
    assert_eq!(crafted.told("inside", CIDR).unwrap().as_path.first_as(), Some(Asn(65010)));
}
