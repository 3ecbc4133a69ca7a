//! AS numbers: what is put into AS_PATH, replaced, removed and refused.

use margay_bgp_core::wire::{Attributes, SegmentKind};
use margay_bgp_core::{
    AdvertisementReason, ExportPolicy, LocalAsMode, RejectReason, RemovePrivateAs, RouteMatch, Rule, RuleAction,
    RuleSet, SetOperation,
};
use margay_net::Asn;

use crate::crafted::{Crafted, OWN, path};

#[test]
fn sites_with_one_as_number_reach_each_other_by_override() {
    let mut crafted = Crafted::new();
    crafted.peer("one", 10, 65010, |_| {});
    crafted.peer("other", 20, 65010, |_| {});
    crafted.announce("one", "10.1.0.0/24", path(&[65010, 65010, 65099], 10));
    assert_eq!(crafted.as_path("other", "10.1.0.0/24").unwrap(), "65000 65010 65010 65099");
    crafted.change("other", |peer| peer.as_override = true);
    assert_eq!(crafted.as_path("other", "10.1.0.0/24").unwrap(), "65000 65000 65000 65099");
    crafted.change("other", |peer| peer.as_override = false);
    assert_eq!(crafted.as_path("other", "10.1.0.0/24").unwrap(), "65000 65010 65010 65099");
}

#[test]
fn private_numbers_are_kept_removed_or_replaced_before_what_policy_and_speaker_put_in_front() {
    let mut crafted = Crafted::new();
    crafted.peer("giver", 10, 65010, |_| {});
    crafted.peer("upstream", 20, 3356, |_| {});
    crafted.peer("inside", 30, OWN, |peer| peer.remove_private_as = RemovePrivateAs::Remove);
    let prepend = Rule {
        matches: RouteMatch::default(),
        action: RuleAction::Accept,
        set: vec![SetOperation::Prepend { asn: Asn(64999), count: 1 }],
    };
    let export = ExportPolicy(RuleSet { rules: vec![prepend], accept_by_default: false });
    crafted.change("upstream", |peer| peer.export = export);
    crafted.announce("giver", "10.1.0.0/24", path(&[65010, 174, 4_200_000_001], 10));
    let table = [
        (RemovePrivateAs::Keep, "65000 64999 65010 174 4200000001"),
        (RemovePrivateAs::Remove, "65000 64999 174"),
        (RemovePrivateAs::Replace, "65000 64999 65000 174 65000"),
    ];
    for (mode, expected) in table {
        crafted.change("upstream", |peer| peer.remove_private_as = mode);
        assert_eq!(crafted.as_path("upstream", "10.1.0.0/24").unwrap(), expected, "{mode:?}");
    }
    assert_eq!(crafted.as_path("inside", "10.1.0.0/24").unwrap(), "65010 174 4200000001", "iBGP sees all");
}

#[test]
fn a_peer_with_a_private_number_still_sees_its_own() {
    let mut crafted = Crafted::new();
    crafted.peer("giver", 10, 65010, |_| {});
    crafted.peer("taker", 20, 65020, |peer| peer.remove_private_as = RemovePrivateAs::Remove);
    crafted.announce("giver", "10.1.0.0/24", path(&[65010, 65020, 65011], 10));
    assert_eq!(crafted.as_path("taker", "10.1.0.0/24").unwrap(), "65000 65020");
}

#[test]
fn a_local_as_replaces_the_speakers_number_or_stands_before_it_both_ways() {
    let mut crafted = Crafted::new();
    crafted.peer("old", 10, 65010, |peer| peer.local_asn = Some(Asn(64900)));
    crafted.peer("taker", 20, 65020, |_| {});
    crafted.announce_plainly("old", "10.1.0.0/24");
    crafted.announce_plainly("taker", "10.2.0.0/24");
    let paths = |crafted: &Crafted| {
        [("old", "10.2.0.0/24"), ("taker", "10.1.0.0/24")].map(|(peer, cidr)| crafted.as_path(peer, cidr).unwrap())
    };
    assert_eq!(paths(&crafted), ["64900 65020", "65000 65010"]);
    crafted.change("old", |peer| peer.local_as_mode = LocalAsMode::Prepend);
    assert_eq!(paths(&crafted), ["64900 65000 65020", "65000 64900 65010"]);
    crafted.change("old", |peer| peer.local_as_mode = LocalAsMode::Replace);
    assert_eq!(paths(&crafted), ["64900 65020", "65000 65010"]);
}

#[test]
fn the_local_as_in_a_path_is_a_loop_as_the_speakers_own_is() {
    for asn in [OWN, 64900] {
        let mut crafted = Crafted::new();
        crafted.peer("old", 10, 65010, |peer| {
            peer.local_asn = Some(Asn(64900));
            peer.local_as_mode = LocalAsMode::Prepend;
        });
        crafted.announce("old", "10.1.0.0/24", path(&[65010, asn], 10));
        assert_eq!(crafted.rejected("old", "10.1.0.0/24"), Some(RejectReason::AsPathLoop), "{asn}");
        crafted.change("old", |peer| peer.allow_own_as = 1);
        assert_eq!(crafted.rejected("old", "10.1.0.0/24"), None, "{asn}");
    }
}

#[test]
fn the_first_number_must_be_the_peers_unless_it_is_a_route_server() {
    let mut crafted = Crafted::new();
    crafted.peer("server", 10, 65010, |_| {});
    crafted.peer("inside", 30, OWN, |_| {});
    crafted.announce("server", "10.1.0.0/24", path(&[65011], 11));
    crafted.announce("server", "10.2.0.0/24", path(&[], 11));
    crafted.announce("inside", "10.3.0.0/24", path(&[65011], 30));
    for cidr in ["10.1.0.0/24", "10.2.0.0/24"] {
        assert_eq!(crafted.rejected("server", cidr), Some(RejectReason::FirstAs));
    }
    assert_eq!(
        crafted.received("server", "10.1.0.0/24").reason.unwrap(),
        "AS_PATH doesn't begin with the peer's AS 65010, but is \"65011\""
    );
    assert_eq!(crafted.rejected("inside", "10.3.0.0/24"), None);
    crafted.change("server", |peer| peer.enforce_first_as = false);
    assert_eq!(crafted.next_hops("10.1.0.0/24"), ["192.0.2.11"]);
    crafted.change("server", |peer| peer.enforce_first_as = true);
    assert!(crafted.next_hops("10.1.0.0/24").is_empty());
}

#[test]
fn a_set_in_the_as_path_is_refused() {
    let mut crafted = Crafted::new();
    crafted.peer("giver", 10, 65010, |_| {});
    crafted.peer("taker", 20, 65020, |_| {});
    let mut attributes: Attributes = path(&[65010], 10);
    attributes.as_path.push(SegmentKind::Set, &[Asn(65011), Asn(65012)]);
    crafted.announce("giver", "10.1.0.0/24", attributes);
    assert_eq!(crafted.rejected("giver", "10.1.0.0/24"), Some(RejectReason::AsSet));
    assert_eq!(crafted.reason("taker", "10.1.0.0/24"), AdvertisementReason::NoUsablePath);
}

#[test]
fn as_number_zero_takes_the_route_away() {
    let mut crafted = Crafted::new();
    crafted.peer("giver", 10, 65010, |_| {});
    crafted.announce("giver", "10.1.0.0/24", path(&[65010, 65011], 10));
    assert_eq!(crafted.next_hops("10.1.0.0/24").len(), 1);
    crafted.announce("giver", "10.1.0.0/24", path(&[65010, 0], 10));
    assert!(crafted.next_hops("10.1.0.0/24").is_empty(), "treated as withdraw (RFC 7607)");
}
