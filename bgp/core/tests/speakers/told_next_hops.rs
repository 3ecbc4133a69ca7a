//! Which next hop a peer is told.

use margay_bgp_core::NextHopMode;
use margay_bgp_core::wire::Attributes;

use crate::crafted::{Crafted, OWN, address, path};

const CIDR: &str = "10.1.0.0/24";

/// External and internal givers and takers on 192.0.2.0/24.
fn segment() -> Crafted {
    let mut crafted = Crafted::new();
    crafted.peer("giver", 10, 65010, |_| {});
    crafted.peer("taker", 20, 65020, |_| {});
    crafted.peer("inside", 30, OWN, |_| {});
    crafted
}

fn told(crafted: &Crafted, peer: &str) -> String {
    crafted.told(peer, CIDR).unwrap().next_hop.unwrap().to_string()
}

#[test]
fn on_a_shared_subnet_packets_take_no_detour() {
    let mut crafted = segment();
    crafted.announce_plainly("giver", CIDR);
    assert_eq!(told(&crafted, "taker"), "192.0.2.1", "nothing is known of a subnet");
    crafted.connect_subnet();
    assert_eq!(told(&crafted, "taker"), "192.0.2.10");
    assert_eq!(told(&crafted, "inside"), "192.0.2.10");
    // A third router beside them, a next hop elsewhere, and one that is another peer.
    crafted.announce("giver", CIDR, path(&[65010], 99));
    assert_eq!(told(&crafted, "taker"), "192.0.2.99");
    crafted.announce("giver", CIDR, path(&[65010], 20));
    assert_eq!(told(&crafted, "taker"), "192.0.2.1", "a peer is not told its own address");
    let elsewhere = Attributes { next_hop: "198.51.100.1".parse().ok(), ..path(&[65010], 10) };
    crafted.announce("giver", CIDR, elsewhere);
    assert_eq!(told(&crafted, "taker"), "192.0.2.1");
    assert_eq!(told(&crafted, "inside"), "198.51.100.1");
    crafted.announce_local("10.9.0.0/26");
    assert_eq!(crafted.told("taker", "10.9.0.0/26").unwrap().next_hop, Some(address(1)));
}

#[test]
fn a_route_from_inside_keeps_a_next_hop_beside_the_external_peer() {
    let mut crafted = segment();
    crafted.connect_subnet();
    crafted.announce("inside", CIDR, path(&[], 30));
    assert_eq!(told(&crafted, "taker"), "192.0.2.30");
    assert_eq!(crafted.as_path("taker", CIDR).unwrap(), "65000");
}

#[test]
fn a_peer_that_is_several_hops_away_is_told_our_address() {
    let mut crafted = segment();
    crafted.connect_subnet();
    crafted.peer("far", 40, 65040, |peer| peer.multihop = true);
    crafted.peer("secure", 41, 65041, |peer| peer.ttl_security = Some(3));
    crafted.announce_plainly("giver", CIDR);
    assert_eq!(told(&crafted, "far"), "192.0.2.1");
    assert_eq!(told(&crafted, "secure"), "192.0.2.1");
}

#[test]
fn the_mode_decides_whatever_the_subnet_and_is_changed_live() {
    let mut crafted = segment();
    crafted.connect_subnet();
    crafted.announce_plainly("giver", CIDR);
    for peer in ["taker", "inside"] {
        crafted.change(peer, |peer| peer.next_hop = NextHopMode::SelfAddress);
        assert_eq!(told(&crafted, peer), "192.0.2.1");
        crafted.change(peer, |peer| peer.next_hop = NextHopMode::Keep);
        assert_eq!(told(&crafted, peer), "192.0.2.10");
    }
    crafted.announce_local("10.9.0.0/26");
    for peer in ["taker", "inside"] {
        assert_eq!(crafted.told(peer, "10.9.0.0/26").unwrap().next_hop, Some(address(1)), "{peer}");
    }
}

#[test]
fn a_next_hop_that_becomes_an_address_of_this_node_is_refused_and_back() {
    let mut crafted = segment();
    crafted.connect_subnet();
    crafted.announce("giver", CIDR, path(&[65010], 99));
    assert_eq!(crafted.next_hops(CIDR), ["192.0.2.99"]);
    crafted.interface("eth0", &[("192.0.2.1", "192.0.2.0/24"), ("192.0.2.99", "192.0.2.0/24")]);
    assert!(crafted.next_hops(CIDR).is_empty());
    assert_eq!(crafted.received("giver", CIDR).reason.unwrap(), "next hop is an address of this node: 192.0.2.99");
    crafted.connect_subnet();
    assert_eq!(crafted.next_hops(CIDR), ["192.0.2.99"]);
}
