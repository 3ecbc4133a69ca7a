use super::super::*;
use super::bench::*;

/// A host with a pod, a block and a BGP route.
fn settled() -> Bench {
    let mut bench = Bench::new();
    bench.feed([
        Input::Endpoint { interface: POD_NAME.into(), endpoint: Some(endpoint(&["10.65.0.1"])) },
        Input::OwnBlocks([cidr("10.65.0.0/26")].into()),
        fib(1, &[("10.1.0.0/26", &["192.0.2.2", "192.0.2.18"])], true),
    ]);
    bench.take_log();
    bench
}

fn is_repaired(bench: &Bench, wanted: &Bench) -> bool {
    bench.routes == wanted.routes && bench.neighbours == wanted.neighbours
}

#[test]
fn what_is_deleted_by_hand_comes_back_and_is_counted() {
    let wanted = settled();
    for (prefix, object) in
        [("10.65.0.1/32", Object::Workload), ("10.65.0.0/26", Object::Blackhole), ("10.1.0.0/26", Object::Bgp)]
    {
        let mut bench = settled();
        let route = bench.routes[&(cidr(prefix), METRIC)].clone();
        bench.by_hand(route, true);
        assert!(is_repaired(&bench, &wanted), "{prefix}");
        assert_eq!(*bench.reconciler.drift(), Counts::from([(object, 1)]));
        assert_eq!(bench.take_log(), [format!("add {object} {prefix}")]);
    }
}

#[test]
fn what_is_changed_by_hand_is_put_right_and_counted() {
    let wanted = settled();
    let bgp = wanted.routes[&(cidr("10.1.0.0/26"), METRIC)].clone();
    let Target::Via(hops) = bgp.target.clone() else { panic!("a unicast route") };
    let one = Target::Via(hops.iter().take(1).cloned().collect());
    let heavy = Target::Via(hops.iter().map(|hop| Hop { weight: 3, ..hop.clone() }).collect());
    let changes = [
        KernelRoute { target: one, ..bgp.clone() },
        KernelRoute { target: heavy, ..bgp.clone() },
        KernelRoute { target: Target::Blackhole, ..bgp.clone() },
        KernelRoute { prefsrc: None, ..bgp.clone() },
        KernelRoute { protocol: BLACKHOLE, ..bgp.clone() },
        KernelRoute { protocol: 3, ..bgp.clone() },
        KernelRoute { target: Target::Other(7), ..bgp },
    ];
    for change in changes {
        let mut bench = settled();
        bench.by_hand(change.clone(), false);
        assert!(is_repaired(&bench, &wanted), "{change:?}");
        assert_eq!(*bench.reconciler.drift(), Counts::from([(Object::Bgp, 1)]), "{change:?}");
    }
}

#[test]
fn next_hops_taken_out_one_by_one_come_back() {
    let wanted = settled();
    let mut bench = settled();
    let mut route = bench.routes[&(cidr("10.1.0.0/26"), METRIC)].clone();
    let Target::Via(hops) = route.target.clone() else { panic!("a unicast route") };
    let (first, rest): (Vec<_>, Vec<_>) = hops.into_iter().enumerate().partition(|(index, _)| *index == 0);
    let set = |hops: Vec<(usize, Hop)>| Target::Via(hops.into_iter().map(|(_, hop)| hop).collect());
    route.target = set(rest);
    bench.routes.insert((route.prefix, route.metric), route.clone());
    let gone = KernelRoute { target: set(first), ..route };
    bench.feed([Input::Route { route: gone, gone: true, by_hand: true }]);
    assert!(is_repaired(&bench, &wanted));
    assert_eq!(bench.take_log(), ["replace BGP route 10.1.0.0/26"]);
}

#[test]
fn routes_of_our_protocols_that_nobody_wants_go() {
    let wanted = settled();
    for (protocol, metric, object) in [
        (WORKLOAD, METRIC, Object::Workload),
        (BLACKHOLE, METRIC, Object::Blackhole),
        (BGP, METRIC, Object::Bgp),
        (BGP, 7, Object::Bgp),
    ] {
        let mut bench = settled();
        let route = KernelRoute { protocol, metric, ..KernelRoute::blackhole(cidr("10.9.0.0/24")) };
        bench.by_hand(route, false);
        assert!(is_repaired(&bench, &wanted), "{protocol} {metric}");
        assert_eq!(*bench.reconciler.drift(), Counts::from([(object, 1)]));
    }
}

#[test]
fn a_neighbour_deleted_or_changed_by_hand_is_put_right() {
    let wanted = settled();
    for mac in [None, Some(margay_net::Mac([2; 6]))] {
        let mut bench = settled();
        let addr = ip("10.65.0.1");
        match mac {
            None => bench.neighbours.remove(&(POD, addr)),
            Some(mac) => bench.neighbours.insert((POD, addr), mac),
        };
        bench.feed([Input::Neighbour { interface: POD, addr, mac, by_hand: true }]);
        assert!(is_repaired(&bench, &wanted));
        assert_eq!(*bench.reconciler.drift(), Counts::from([(Object::Neighbour, 1)]));
    }
}

#[test]
fn what_the_kernel_does_by_itself_is_repaired_but_not_blamed() {
    let wanted = settled();
    let mut bench = settled();
    let route = bench.routes.remove(&(cidr("10.1.0.0/26"), METRIC)).unwrap();
    bench.feed([Input::Route { route, gone: true, by_hand: false }]);
    assert!(is_repaired(&bench, &wanted));
    // Set down and up: the kernel drops the pod's route and neighbour silently.
    bench.routes.remove(&(cidr("10.65.0.1/32"), METRIC));
    bench.neighbours.clear();
    bench.feed([link(POD, POD_NAME, false, false)]);
    assert_eq!(bench.routes.len(), 2);
    bench.feed([link(POD, POD_NAME, true, true)]);
    assert!(is_repaired(&bench, &wanted));
    assert!(bench.reconciler.drift().is_empty());
}

#[test]
fn a_resync_after_lost_events_repairs_and_counts() {
    let wanted = settled();
    let mut bench = settled();
    bench.routes.remove(&(cidr("10.1.0.0/26"), METRIC));
    bench.routes.insert((cidr("10.8.0.0/26"), METRIC), KernelRoute::blackhole(cidr("10.8.0.0/26")));
    bench.neighbours.clear();
    let dump = bench.dump(true);
    bench.feed([dump]);
    assert!(is_repaired(&bench, &wanted));
    let counts = [(Object::Bgp, 1), (Object::Blackhole, 1), (Object::Workload, 1)];
    assert_eq!(*bench.reconciler.drift(), Counts::from(counts));
    let dump = bench.dump(true);
    bench.feed([dump]);
    assert_eq!(*bench.reconciler.drift(), Counts::from(counts));
}

#[test]
fn a_strangers_route_in_the_way_is_left_alone_until_it_goes() {
    let mut bench = Bench::new();
    let stranger = KernelRoute { protocol: 4, ..KernelRoute::blackhole(cidr("10.1.0.0/26")) };
    bench.by_hand(stranger.clone(), false);
    bench.feed([fib(1, &[("10.1.0.0/26", &["192.0.2.2"])], true)]);
    assert_eq!(bench.routes[&(cidr("10.1.0.0/26"), METRIC)], stranger);
    assert_eq!(bench.reconciler.failures().collect::<Vec<_>>(), ["add BGP route 10.1.0.0/26: refused"]);
    bench.by_hand(stranger, true);
    assert_eq!(bench.hops("10.1.0.0/26").len(), 1);
    assert_eq!(bench.reconciler.failures().count(), 0);
    assert!(bench.reconciler.drift().is_empty());
}
