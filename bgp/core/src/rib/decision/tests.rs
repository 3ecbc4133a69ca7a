use proptest::prelude::*;

use super::*;

fn path() -> Candidate {
    Candidate {
        local: false,
        local_pref: 100,
        as_path_length: 2,
        origin: 0,
        neighbour_as: Some(Asn(65001)),
        med: 0,
        ebgp: true,
        igp_metric: 10,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        cluster_list_length: 0,
        peer_address: "192.0.2.1".parse().expect("an address"),
        path_id: 5,
        as_path_id: 1,
    }
}

const MULTIPATH: Multipath = Multipath { ebgp: 16, ibgp: 16, relax_as_path_content: true };

fn decide_with(paths: &[Candidate], config: DecisionConfig, current: Option<usize>) -> Decision {
    decide(paths, &Rules { decision: &config, multipath: &MULTIPATH }, current).expect("a best path")
}

fn decide_by_default(paths: &[Candidate]) -> Decision {
    decide_with(paths, DecisionConfig::default(), None)
}

fn multipath(paths: &[Candidate], multipath: Multipath) -> Vec<usize> {
    let config = DecisionConfig::default();
    decide(paths, &Rules { decision: &config, multipath: &multipath }, None).expect("a best path").multipath.to_vec()
}

#[test]
fn each_step_decides_and_says_so() {
    // The winner is worse in all that is compared later, as far as it can be.
    let table: [(LossReason, Candidate, Candidate); 11] = [
        (LossReason::NotLocal, Candidate { local: true, local_pref: 1, ..path() }, path()),
        (LossReason::LocalPref, Candidate { local_pref: 200, as_path_length: 9, ..path() }, path()),
        (LossReason::AsPathLength, Candidate { as_path_length: 1, origin: 2, ..path() }, path()),
        (LossReason::Origin, Candidate { med: 50, ..path() }, Candidate { origin: 1, ..path() }),
        (LossReason::Med, Candidate { med: 5, ebgp: false, ..path() }, Candidate { med: 10, ..path() }),
        (LossReason::IbgpAgainstEbgp, Candidate { igp_metric: 90, ..path() }, Candidate { ebgp: false, ..path() }),
        (LossReason::IgpMetric, Candidate { igp_metric: 9, router_id: Ipv4Addr::new(10, 0, 0, 2), ..path() }, path()),
        (
            LossReason::RouterId,
            Candidate { router_id: Ipv4Addr::new(10, 0, 0, 0), cluster_list_length: 3, ..path() },
            path(),
        ),
        (
            LossReason::ClusterListLength,
            Candidate { cluster_list_length: 1, ..path() },
            Candidate { cluster_list_length: 2, peer_address: "192.0.2.0".parse().expect("an address"), ..path() },
        ),
        (
            LossReason::PeerAddress,
            Candidate { peer_address: "192.0.2.0".parse().expect("an address"), path_id: 6, ..path() },
            path(),
        ),
        (LossReason::PathId, Candidate { path_id: 4, ..path() }, path()),
    ];
    for (reason, winner, loser) in table {
        for (paths, best) in [([winner, loser], 0), ([loser, winner], 1)] {
            let decision = decide_by_default(&paths);
            assert_eq!(decision.best, best, "{reason}");
            assert_eq!(decision.lost[1 - best], Some(reason));
            assert_eq!(decision.lost[best], None);
        }
    }
}

#[test]
fn med_is_compared_only_between_paths_of_the_same_neighbour_unless_told() {
    // The classic of RFC 4451: pairwise comparison would depend on the order.
    let a = Candidate { neighbour_as: Some(Asn(1)), med: 10, router_id: Ipv4Addr::new(0, 0, 0, 2), ..path() };
    let b = Candidate { neighbour_as: Some(Asn(2)), med: 5, router_id: Ipv4Addr::new(0, 0, 0, 3), ..path() };
    let c = Candidate { neighbour_as: Some(Asn(1)), med: 20, router_id: Ipv4Addr::new(0, 0, 0, 1), ..path() };
    let always = DecisionConfig { always_compare_med: true, ..DecisionConfig::default() };
    for order in [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]] {
        assert_eq!(order[decide_by_default(&order).best], a);
        assert_eq!(order[decide_with(&order, always, None).best], b);
    }
}

#[test]
fn the_length_of_the_as_path_can_be_left_out() {
    let config = DecisionConfig { ignore_as_path_length: true, ..DecisionConfig::default() };
    let longer = Candidate { as_path_length: 9, med: 0, ..path() };
    let shorter = Candidate { as_path_length: 1, med: 1, ..path() };
    assert_eq!(decide_with(&[longer, shorter], config, None).best, 0);
    assert_eq!(decide_by_default(&[longer, shorter]).best, 1);
}

#[test]
fn the_ebgp_path_that_came_first_stays_where_router_ids_are_not_compared() {
    let config = DecisionConfig { compare_router_id: false, ..DecisionConfig::default() };
    let low = Candidate { router_id: Ipv4Addr::new(1, 1, 1, 1), ..path() };
    let high = Candidate { router_id: Ipv4Addr::new(9, 9, 9, 9), ..path() };
    let decision = decide_with(&[low, high], config, Some(1));
    assert_eq!((decision.best, decision.lost[0]), (1, Some(LossReason::Newer)));
    assert_eq!(decision.multipath.as_slice(), [1, 0], "they share the traffic all the same");
    assert_eq!(decide_with(&[low, high], config, None).best, 0, "without one that stays, router ids decide");
    assert_eq!(decide_with(&[low, high], DecisionConfig::default(), Some(1)).best, 0);
    let better = Candidate { local_pref: 200, ..low };
    assert_eq!(decide_with(&[better, high], config, Some(1)).best, 0, "a better path takes over");
    let internal = |path| Candidate { ebgp: false, ..path };
    assert_eq!(decide_with(&[internal(low), internal(high)], config, Some(1)).best, 0, "iBGP paths are compared");
}

#[test]
fn multipath_takes_equal_paths_whose_as_paths_differ_only_if_told() {
    let other = Candidate { as_path_id: 2, router_id: Ipv4Addr::new(10, 0, 0, 9), neighbour_as: None, ..path() };
    let longer = Candidate { as_path_length: 3, ..path() };
    let farther = Candidate { igp_metric: 11, ..path() };
    let paths = [other, longer, path(), farther];
    assert_eq!(multipath(&paths, MULTIPATH), [2, 0]);
    assert_eq!(multipath(&paths, Multipath { relax_as_path_content: false, ..MULTIPATH }), [2]);
    assert_eq!(multipath(&paths, Multipath { ebgp: 1, ..MULTIPATH }), [2]);
    assert_eq!(multipath(&paths, Multipath { ebgp: 0, ..MULTIPATH }), [2]);
}

#[test]
fn the_limit_is_that_of_the_best_paths_kind() {
    let with_id = |id: u8, ebgp| Candidate { router_id: Ipv4Addr::new(10, 0, 0, id), ebgp, ..path() };
    let limits = Multipath { ebgp: 2, ibgp: 3, ..MULTIPATH };
    let external: Vec<_> = (1..=4).map(|id| with_id(id, true)).collect();
    let internal: Vec<_> = (1..=4).rev().map(|id| with_id(id, false)).collect();
    assert_eq!(multipath(&external, limits), [0, 1]);
    assert_eq!(multipath(&internal, limits), [3, 2, 1], "the preferred ones, in order");
}

#[test]
fn nothing_is_chosen_from_nothing() {
    let config = DecisionConfig::default();
    assert_eq!(decide(&[], &Rules { decision: &config, multipath: &MULTIPATH }, None), None);
}

/// Paths of as many peers, alike in much.
fn any_paths() -> impl Strategy<Value = Vec<Candidate>> {
    let any =
        ((0..2u32, 1..3u32, 0..2u8, 0..3u32, 0..3u32), (any::<bool>(), 0..2u32, 0..3u8, 0..2usize, 0..2u64, 0..10u8));
    proptest::collection::vec(any, 1..7).prop_map(|paths| {
        let candidate = |(id, ((local_pref, length, origin, asn, med), rest)): (u32, _)| {
            let (ebgp, igp_metric, router_id, cluster_list_length, as_path_id, local): (bool, u32, u8, usize, u64, u8) =
                rest;
            Candidate {
                // One at most, as the node has one route of its own.
                local: id == 0 && local == 0,
                local_pref,
                as_path_length: length,
                origin,
                neighbour_as: Some(Asn(asn)).filter(|asn| asn.0 > 0),
                med,
                ebgp,
                igp_metric,
                router_id: Ipv4Addr::new(10, 0, 0, router_id),
                cluster_list_length,
                // Two paths of a peer each.
                peer_address: Ipv4Addr::from_bits(0xc000_0200 + id / 2).into(),
                path_id: id % 2,
                as_path_id,
            }
        };
        (0..).zip(paths).map(candidate).collect()
    })
}

fn any_config() -> impl Strategy<Value = (DecisionConfig, Multipath)> {
    (any::<bool>(), any::<bool>(), 0..4usize, 0..4usize, any::<bool>()).prop_map(
        |(always_compare_med, ignore_as_path_length, ebgp, ibgp, relax_as_path_content)| {
            let config = DecisionConfig { always_compare_med, ignore_as_path_length, ..DecisionConfig::default() };
            (config, Multipath { ebgp, ibgp, relax_as_path_content })
        },
    )
}

proptest! {
    #[test]
    fn the_outcome_does_not_depend_on_the_order_of_arrival(
        (paths, shuffled) in any_paths().prop_flat_map(|paths| (Just(paths.clone()), Just(paths).prop_shuffle())),
        (decision, multipath) in any_config(),
        current: prop::sample::Index,
    ) {
        let rules = Rules { decision: &decision, multipath: &multipath };
        let one = decide(&paths, &rules, None).expect("a best path");
        let other = decide(&shuffled, &rules, Some(current.index(shuffled.len()))).expect("a best path");
        prop_assert_eq!(paths[one.best], shuffled[other.best]);
        let chosen = |paths: &[Candidate], decision: &Decision| {
            decision.multipath.iter().map(|&at| paths[at]).collect::<Vec<_>>()
        };
        prop_assert_eq!(chosen(&paths, &one), chosen(&shuffled, &other));
        for (at, path) in paths.iter().enumerate() {
            let there = shuffled.iter().position(|other| other == path).expect("the same paths");
            prop_assert_eq!(one.lost[at], other.lost[there]);
        }
    }

    #[test]
    fn the_best_path_stays_the_best_when_one_that_lost_to_it_goes(
        paths in any_paths(),
        (decision, multipath) in any_config(),
        gone: prop::sample::Index,
    ) {
        let rules = Rules { decision: &decision, multipath: &multipath };
        let before = decide(&paths, &rules, None).expect("a best path");
        let gone = gone.index(paths.len());
        // A MED that is compared within a neighbour alone may have held back a path that comes to the fore.
        prop_assume!(gone != before.best && (decision.always_compare_med || paths.iter().all(|path| path.med == 0)));
        let left: Vec<_> = paths.iter().enumerate().filter(|&(at, _)| at != gone).map(|(_, path)| *path).collect();
        let after = decide(&left, &rules, None).expect("a best path");
        prop_assert_eq!(paths[before.best], left[after.best]);
    }

    #[test]
    fn one_path_wins_and_every_other_one_has_a_reason(paths in any_paths(), (decision, multipath) in any_config()) {
        let outcome = decide(&paths, &Rules { decision: &decision, multipath: &multipath }, None).expect("a best path");
        for (at, lost) in outcome.lost.iter().enumerate() {
            prop_assert_eq!(lost.is_none(), at == outcome.best);
        }
        let limit = if paths[outcome.best].local { 1 } else if paths[outcome.best].ebgp { multipath.ebgp } else { multipath.ibgp };
        prop_assert!(outcome.multipath.len() <= limit.max(1));
        prop_assert_eq!(outcome.multipath[0], outcome.best);
        let kind = paths[outcome.best].ebgp;
        prop_assert!(outcome.multipath.iter().all(|&at| paths[at].ebgp == kind));
    }
}
