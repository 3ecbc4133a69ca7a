//! A route that leads packets to us is in the kernel before a peer is told.

use std::collections::BTreeSet;

use margay_bgp_core::{AdvertisementReason, NextHopMode};

use crate::crafted::{Crafted, OWN, path};

const CIDR: &str = "10.1.0.0/24";
const OTHER: &str = "10.2.0.0/24";

/// External and internal givers and takers of which nobody shares a subnet, and a felix that takes its time.
fn slow_felix() -> Crafted {
    let mut crafted = Crafted::new();
    crafted.peer("giver", 10, 65010, |_| {});
    crafted.peer("second", 11, 65011, |_| {});
    crafted.peer("taker", 20, 65020, |_| {});
    crafted.peer("inside", 30, OWN, |_| {});
    crafted.peer("led-through-us", 31, OWN, |peer| peer.next_hop = NextHopMode::SelfAddress);
    crafted.unapplied = Some(Vec::new());
    crafted
}

#[test]
fn a_peer_is_told_our_address_as_next_hop_when_the_route_is_in_the_kernel() {
    let mut crafted = slow_felix();
    crafted.announce_plainly("giver", CIDR);
    for peer in ["taker", "led-through-us"] {
        assert_eq!(crafted.told(peer, CIDR), None, "{peer}");
        assert_eq!(crafted.reason(peer, CIDR), AdvertisementReason::NotInstalled, "{peer}");
    }
    assert!(crafted.told("inside", CIDR).is_some(), "the next hop is not ours");
    crafted.announce_plainly("giver", OTHER);
    crafted.apply_next();
    for peer in ["taker", "led-through-us"] {
        assert!(crafted.told(peer, CIDR).is_some(), "{peer}");
        assert!(matches!(crafted.reason(peer, CIDR), AdvertisementReason::Advertised { .. }), "{peer}");
        assert_eq!(crafted.told(peer, OTHER), None, "{peer}: that one is in the second batch");
    }
    crafted.apply_next();
    assert!(crafted.told("taker", OTHER).is_some());
}

#[test]
fn a_route_in_the_place_of_another_one_waits_for_nothing_and_neither_does_a_withdrawal() {
    let mut crafted = slow_felix();
    crafted.announce("second", CIDR, path(&[65011, 7, 8], 11));
    crafted.apply_next();
    crafted.announce("giver", CIDR, path(&[65010], 10));
    assert_eq!(crafted.as_path("taker", CIDR).unwrap(), "65000 65010");
    crafted.withdraw("giver", CIDR);
    assert_eq!(crafted.as_path("taker", CIDR).unwrap(), "65000 65011 7 8");
    crafted.withdraw("second", CIDR);
    assert_eq!(crafted.told("taker", CIDR), None);
}

#[test]
fn a_route_that_went_and_came_again_waits_for_its_own_batch() {
    let mut crafted = slow_felix();
    crafted.announce_plainly("giver", CIDR);
    crafted.withdraw("giver", CIDR);
    crafted.announce_plainly("giver", CIDR);
    // The first announcement, and the withdrawal.
    crafted.apply_next();
    crafted.apply_next();
    assert_eq!(crafted.told("taker", CIDR), None);
    crafted.apply_next();
    assert!(crafted.told("taker", CIDR).is_some());
}

#[test]
fn what_waited_for_a_route_that_went_lets_no_other_one_through() {
    let mut crafted = slow_felix();
    crafted.announce_plainly("giver", CIDR);
    crafted.withdraw("giver", CIDR);
    crafted.announce_plainly("giver", OTHER);
    for _ in 0..2 {
        crafted.apply_next();
        assert_eq!(crafted.known("taker"), BTreeSet::new());
    }
    crafted.apply_next();
    assert_eq!(crafted.known("taker"), BTreeSet::from([OTHER.to_owned()]));
}

#[test]
fn a_peer_that_comes_later_waits_as_well() {
    let mut crafted = slow_felix();
    crafted.announce_plainly("giver", CIDR);
    crafted.peer("late", 40, 65040, |_| {});
    assert_eq!(crafted.told("late", CIDR), None);
    crafted.apply_next();
    assert!(crafted.told("late", CIDR).is_some());
}
