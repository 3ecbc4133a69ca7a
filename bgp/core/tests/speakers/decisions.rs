//! The switches of the decision process on the running speaker.

use margay_bgp_core::wire::{Attributes, Origin};
use margay_bgp_core::{DecisionConfig, LossReason, Multipath};

use crate::crafted::{Crafted, OWN, path};

const CIDR: &str = "10.1.0.0/24";

/// Three external peers, the first two of them in one AS, and one path at a time.
fn three() -> Crafted {
    let mut crafted = Crafted::new();
    crafted.config.multipath = Multipath { ebgp: 1, ibgp: 1, relax_as_path_content: true };
    crafted.configure();
    crafted.peer("a", 10, 65010, |_| {});
    crafted.peer("b", 11, 65010, |_| {});
    crafted.peer("c", 12, 65012, |_| {});
    crafted
}

fn with_med(asn: u32, number: u8, med: Option<u32>) -> Attributes {
    Attributes { med, ..path(&[asn], number) }
}

fn switch(crafted: &mut Crafted, change: impl FnOnce(&mut DecisionConfig)) {
    change(&mut crafted.config.decision);
    crafted.configure();
}

fn words(crafted: &Crafted) -> Vec<String> {
    let paths = crafted.why(CIDR).route.unwrap().paths;
    paths.into_iter().filter_map(|path| path.reason).collect()
}

#[test]
fn med_decides_between_neighbours_only_where_it_is_told_to() {
    let mut crafted = three();
    crafted.announce("a", CIDR, with_med(65010, 10, Some(20)));
    crafted.announce("b", CIDR, with_med(65010, 11, Some(10)));
    crafted.announce("c", CIDR, with_med(65012, 12, Some(5)));
    assert_eq!(crafted.next_hops(CIDR), ["192.0.2.11"]);
    assert_eq!(words(&crafted), ["higher MED: 20 > 10", "higher router id: 10.0.0.12 > 10.0.0.11"]);
    switch(&mut crafted, |decision| decision.always_compare_med = true);
    assert_eq!(crafted.next_hops(CIDR), ["192.0.2.12"]);
    assert_eq!(words(&crafted), ["higher MED: 20 > 5", "higher MED: 10 > 5"]);
}

#[test]
fn a_missing_med_is_the_best_or_the_worst() {
    let mut crafted = three();
    crafted.announce("a", CIDR, with_med(65010, 10, Some(20)));
    crafted.announce("b", CIDR, with_med(65010, 11, None));
    assert_eq!(crafted.next_hops(CIDR), ["192.0.2.11"]);
    switch(&mut crafted, |decision| decision.med_missing_as_worst = true);
    assert_eq!(crafted.next_hops(CIDR), ["192.0.2.10"]);
}

#[test]
fn the_length_of_the_as_path_counts_unless_told() {
    let mut crafted = three();
    crafted.announce("a", CIDR, path(&[65010, 65011], 10));
    crafted.announce("c", CIDR, path(&[65012], 12));
    assert_eq!(crafted.next_hops(CIDR), ["192.0.2.12"]);
    assert_eq!(words(&crafted), ["longer AS path: 2 > 1"]);
    switch(&mut crafted, |decision| decision.ignore_as_path_length = true);
    assert_eq!(crafted.next_hops(CIDR), ["192.0.2.10"]);
}

#[test]
fn the_oldest_external_path_stays_where_router_ids_are_not_compared() {
    let mut crafted = three();
    switch(&mut crafted, |decision| decision.compare_router_id = false);
    crafted.announce_plainly("c", CIDR);
    crafted.announce_plainly("a", CIDR);
    assert_eq!(crafted.next_hops(CIDR), ["192.0.2.12"]);
    assert_eq!(words(&crafted), ["newer than the best path (RFC 5004)"]);
    crafted.withdraw("c", CIDR);
    crafted.announce_plainly("c", CIDR);
    assert_eq!(crafted.next_hops(CIDR), ["192.0.2.10"], "it came again, and later");
    switch(&mut crafted, |decision| decision.compare_router_id = true);
    assert_eq!(crafted.next_hops(CIDR), ["192.0.2.10"]);
    let paths = crafted.why(CIDR).route.unwrap().paths;
    assert_eq!(paths[1].lost, Some(LossReason::RouterId));
}

#[test]
fn each_reason_has_the_values_that_were_compared() {
    let mut crafted = three();
    crafted.peer("inside", 30, OWN, |_| {});
    crafted.announce("a", CIDR, path(&[65010], 10));
    crafted.announce("b", CIDR, Attributes { origin: Origin::Incomplete, ..path(&[65010], 11) });
    crafted.announce("inside", CIDR, Attributes { local_pref: Some(50), ..path(&[65011], 30) });
    assert_eq!(words(&crafted), ["worse origin: incomplete against igp", "lower local preference: 50 < 100"]);
    crafted.announce("inside", CIDR, path(&[65011], 30));
    assert_eq!(words(&crafted), ["worse origin: incomplete against igp", "iBGP against eBGP"]);
    crafted.announce_local(CIDR);
    assert_eq!(words(&crafted), ["a local route exists"; 3]);
}

#[test]
fn ecmp_has_a_limit_for_each_kind_of_path() {
    let mut crafted = three();
    crafted.config.multipath = Multipath { ebgp: 2, ibgp: 3, relax_as_path_content: true };
    crafted.configure();
    for peer in ["a", "b", "c"] {
        crafted.announce_plainly(peer, CIDR);
    }
    assert_eq!(crafted.next_hops(CIDR), ["192.0.2.10", "192.0.2.11"]);
    for (name, number) in [("w", 40), ("x", 41), ("y", 42), ("z", 43)] {
        crafted.peer(name, number, OWN, |_| {});
        crafted.announce(name, "10.2.0.0/24", path(&[65099], number));
    }
    assert_eq!(crafted.next_hops("10.2.0.0/24"), ["192.0.2.40", "192.0.2.41", "192.0.2.42"]);
}
