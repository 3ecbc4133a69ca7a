//! The ownership guard: a node that announces what is another's, over mesh, reflector and router.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use margay_bgp_core::wire::Attributes;
use margay_bgp_core::{Owner, Ownership, OwnershipCheck, RejectReason, RouteFilter};
use margay_net::{Asn, Family};

use crate::crafted::{Crafted, OWN, address, path};
use crate::network::prefix;

fn owner(number: u8, asn: Option<u32>) -> Arc<Owner> {
    Arc::new(Owner {
        node: format!("node-{number}"),
        addresses: BTreeSet::from([address(number)]),
        router_id: Some(Ipv4Addr::new(10, 0, 0, number)),
        asn: asn.map(Asn),
    })
}

/// Nodes 10 and 11 own a block each; 11 has borrowed an address of 10's block.
fn owners(asns: bool) -> Ownership {
    let (good, evil) = (owner(10, asns.then_some(65010)), owner(11, asns.then_some(65011)));
    let owned = [("10.0.10.0/26", &good), ("10.0.11.0/26", &evil), ("10.0.10.7/32", &evil)];
    Ownership {
        pools: BTreeSet::from([prefix("10.0.0.0/16")]),
        owned: owned.into_iter().map(|(cidr, owner)| (prefix(cidr), owner.clone())).collect(),
    }
}

/// What the evil node 11 tries, and what becomes of it where 11 itself is the peer.
const ATTEMPTS: [(&str, Option<RejectReason>); 8] = [
    ("10.0.10.0/26", Some(RejectReason::NotOwner)),
    ("10.0.10.8/32", Some(RejectReason::NotOwner)),
    ("10.0.10.0/27", Some(RejectReason::NotOwner)),
    ("10.0.0.0/16", Some(RejectReason::NotAllocated)),
    ("0.0.0.0/0", Some(RejectReason::CoversPool)),
    ("10.0.0.0/8", Some(RejectReason::CoversPool)),
    ("10.0.10.7/32", None),
    ("10.0.11.0/26", None),
];

/// A mesh: nodes 10 and 11 are internal peers, as is a third one that is told by us as a reflector where `client`.
fn mesh(client: bool) -> Crafted {
    let mut crafted = Crafted::new();
    for (name, number) in [("good", 10), ("evil", 11)] {
        crafted.peer(name, number, OWN, |peer| {
            peer.ownership = OwnershipCheck::Node;
            peer.route_reflector_client = client;
        });
    }
    crafted.peer("watcher", 30, OWN, |peer| peer.route_reflector_client = client);
    crafted.owners(owners(false));
    crafted
}

#[test]
fn over_the_mesh_and_at_a_reflectors_ingress_a_node_announces_only_its_own() {
    for client in [false, true] {
        let mut crafted = mesh(client);
        for (cidr, expected) in ATTEMPTS {
            crafted.announce("evil", cidr, path(&[], 11));
            assert_eq!(crafted.rejected("evil", cidr), expected, "{cidr}");
            assert_eq!(crafted.next_hops(cidr).is_empty(), expected.is_some(), "{cidr}");
        }
        let accepted: BTreeSet<String> = ["10.0.10.7/32", "10.0.11.0/26"].map(str::to_owned).into();
        assert_eq!(crafted.known("watcher"), if client { accepted } else { BTreeSet::new() });
        crafted.announce("good", "10.0.10.0/26", path(&[], 10));
        crafted.announce("good", "10.0.10.7/32", path(&[], 10));
        assert_eq!(crafted.next_hops("10.0.10.0/26"), ["192.0.2.10"]);
        assert_eq!(crafted.next_hops("10.0.10.7/32"), ["192.0.2.11"], "lent");
    }
}

#[test]
fn an_originator_id_from_a_node_is_refused_whatever_it_is() {
    let mut crafted = mesh(true);
    for originator in [10, 11, 77] {
        let attributes = Attributes { originator_id: Some(Ipv4Addr::new(10, 0, 0, originator)), ..path(&[], 11) };
        for cidr in ["10.0.11.0/26", "10.0.10.0/26", "172.16.0.0/24"] {
            crafted.announce("evil", cidr, attributes.clone());
            assert_eq!(crafted.rejected("evil", cidr), Some(RejectReason::ForgedOriginator), "{cidr} of {originator}");
        }
    }
    assert!(crafted.known("watcher").is_empty());
    assert_eq!(
        crafted.received("evil", "10.0.11.0/26").reason.unwrap(),
        "ORIGINATOR_ID 10.0.0.77 from 192.0.2.11, which is a node and no reflector"
    );
}

#[test]
fn a_client_believes_its_reflector_as_far_as_the_originator_owns_what_it_passes_on() {
    let mut crafted = Crafted::new();
    crafted.peer("reflector", 50, OWN, |peer| peer.ownership = OwnershipCheck::Reflector);
    crafted.owners(owners(false));
    let of = |originator: Option<u8>, number| Attributes {
        originator_id: originator.map(|number| Ipv4Addr::new(10, 0, 0, number)),
        ..path(&[], number)
    };
    for (cidr, expected) in ATTEMPTS {
        crafted.announce("reflector", cidr, of(Some(11), 11));
        assert_eq!(crafted.rejected("reflector", cidr), expected, "{cidr}");
    }
    crafted.announce("reflector", "10.0.10.0/26", of(Some(10), 10));
    assert_eq!(crafted.next_hops("10.0.10.0/26"), ["192.0.2.10"]);
    // Without an originator the reflector itself would have to own it.
    crafted.announce("reflector", "10.0.10.0/26", of(None, 10));
    assert_eq!(crafted.rejected("reflector", "10.0.10.0/26"), Some(RejectReason::NotOwner));
    crafted.announce("reflector", "10.0.10.0/26", of(Some(1), 10));
    assert_eq!(crafted.rejected("reflector", "10.0.10.0/26"), Some(RejectReason::OriginatorLoop));
}

#[test]
fn a_router_passes_on_blocks_of_their_owners_and_what_leads_out_of_the_cluster() {
    let mut crafted = Crafted::new();
    crafted.peer("tor", 254, 64512, |peer| peer.ownership = OwnershipCheck::External);
    crafted.owners(owners(true));
    let by_evil = [
        ("10.0.10.0/26", Some(RejectReason::WrongOriginAs)),
        ("10.0.10.8/32", Some(RejectReason::NotAllocated)),
        ("10.0.10.0/27", Some(RejectReason::NotAllocated)),
        ("10.0.0.0/16", Some(RejectReason::NotAllocated)),
        ("10.0.10.7/32", None),
        ("10.0.11.0/26", None),
        // The router itself answers for these.
        ("0.0.0.0/0", None),
        ("10.0.0.0/8", None),
        ("198.51.100.0/24", None),
    ];
    for (cidr, expected) in by_evil {
        crafted.announce("tor", cidr, path(&[64512, 65011], 254));
        assert_eq!(crafted.rejected("tor", cidr), expected, "{cidr}");
    }
    crafted.announce("tor", "10.0.10.0/26", path(&[64512, 65010], 254));
    assert_eq!(crafted.rejected("tor", "10.0.10.0/26"), None);
    // Where the nodes have one AS number in common, it proves nothing.
    crafted.owners(owners(false));
    crafted.announce("tor", "10.0.10.0/26", path(&[64512, 65011], 254));
    assert_eq!(crafted.rejected("tor", "10.0.10.0/26"), None);
}

#[test]
fn a_change_of_owners_is_judged_at_once_and_concerns_what_changed() {
    let mut crafted = mesh(true);
    crafted.announce("evil", "10.0.10.0/26", path(&[], 11));
    crafted.announce("evil", "10.0.11.0/26", path(&[], 11));
    crafted.announce("good", "10.0.10.9/32", path(&[], 10));
    assert_eq!(crafted.known("watcher").len(), 2);
    let before = crafted.updates("watcher");
    crafted.owners(owners(false));
    assert_eq!(crafted.updates("watcher"), before, "the same table again says nothing new");
    // The block moves from the one to the other.
    let mut next = owners(false);
    next.owned.insert(prefix("10.0.10.0/26"), owner(11, None));
    crafted.owners(next.clone());
    assert_eq!(crafted.next_hops("10.0.10.0/26"), ["192.0.2.11"]);
    assert_eq!(crafted.rejected("good", "10.0.10.9/32"), Some(RejectReason::NotOwner));
    assert_eq!(crafted.known("watcher"), ["10.0.10.0/26", "10.0.11.0/26"].map(str::to_owned).into());
    // Released, then the pool is gone.
    next.owned.remove(&prefix("10.0.10.0/26"));
    crafted.owners(next.clone());
    assert_eq!(crafted.rejected("evil", "10.0.10.0/26"), Some(RejectReason::NotAllocated));
    next.pools.clear();
    crafted.owners(next);
    assert_eq!(crafted.rejected("evil", "10.0.10.0/26"), None);
}

#[test]
fn nothing_is_refused_before_the_first_table_and_the_view_says_so() {
    let mut crafted = Crafted::new();
    crafted.peer("evil", 11, OWN, |peer| peer.ownership = OwnershipCheck::Node);
    let forged = Attributes { originator_id: Some(Ipv4Addr::new(10, 0, 0, 10)), ..path(&[], 11) };
    crafted.announce("evil", "10.0.10.0/26", path(&[], 11));
    crafted.announce("evil", "172.16.0.0/24", forged);
    assert_eq!(crafted.fib.len(), 2);
    let waits = |crafted: &Crafted| {
        crafted.why("10.0.10.0/26").waits.into_iter().any(|wait| wait.what.starts_with("no table of owners came yet"))
    };
    assert!(waits(&crafted));
    crafted.owners(owners(false));
    assert!(crafted.fib.is_empty() && !waits(&crafted));
    // A check that is switched on later looks at what is there, and off again lets it in.
    crafted.change("evil", |peer| peer.ownership = OwnershipCheck::Off);
    assert_eq!(crafted.fib.len(), 2);
    crafted.change("evil", |peer| peer.ownership = OwnershipCheck::Node);
    assert!(crafted.fib.is_empty());
}

#[test]
fn owners_that_are_told_before_the_configuration_are_kept() {
    let mut crafted = Crafted::new();
    let now = margay_net::Now::at(std::time::Duration::ZERO);
    let options = margay_bgp_core::Options { seed: 1, restarting: false };
    crafted.speaker = margay_bgp_core::Speaker::new(options, now);
    crafted.owners(owners(false));
    crafted.peer("evil", 11, OWN, |peer| peer.ownership = OwnershipCheck::Node);
    crafted.announce("evil", "10.0.10.0/26", path(&[], 11));
    assert_eq!(crafted.rejected("evil", "10.0.10.0/26"), Some(RejectReason::NotOwner));
}

#[test]
fn rejected_paths_are_kept_counted_by_reason_and_found() {
    let mut crafted = mesh(false);
    for (cidr, _) in ATTEMPTS {
        crafted.announce("evil", cidr, path(&[], 11));
    }
    crafted.announce("good", "10.0.10.0/26", path(&[], 10));
    let peers = crafted.speaker.peers();
    let evil = peers.iter().find(|peer| peer.name.as_str() == "evil").unwrap();
    let counts = &evil.counts[&Family::V4];
    assert_eq!((counts.received, counts.rejected), (8, 6));
    let by_reason: Vec<_> = counts.rejected_by.iter().map(|(reason, count)| (*reason, *count)).collect();
    let expected = [(RejectReason::NotOwner, 3), (RejectReason::NotAllocated, 1), (RejectReason::CoversPool, 2)];
    assert_eq!(by_reason, expected);
    let find = |peer: Option<&str>| {
        let peer = peer.map(Into::into);
        crafted.speaker.routes(&RouteFilter { rejected: true, peer, ..RouteFilter::default() }).len()
    };
    assert_eq!((find(None), find(Some("evil")), find(Some("good"))), (6, 6, 0));
    assert_eq!(
        crafted.received("evil", "10.0.10.8/32").reason.unwrap(),
        "10.0.10.8/32 lies in 10.0.10.0/26, which belongs to node node-10, and it comes from 192.0.2.11, node node-11"
    );
}
