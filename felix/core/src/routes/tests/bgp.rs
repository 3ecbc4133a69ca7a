use super::super::*;
use super::bench::*;

const A: &str = "192.0.2.2";
const B: &str = "192.0.2.18";

fn both() -> Vec<(u32, String)> {
    vec![(UPLINKS[0], A.into()), (UPLINKS[1], B.into())]
}

#[test]
fn next_hops_are_found_among_connected_prefixes() {
    // Prefix, next hops, the interfaces that they are reached through.
    let cases: &[(&str, &[&str], &[u32])] = &[
        ("10.1.0.0/26", &[A], &[UPLINKS[0]]),
        ("10.1.0.0/26", &[A, B], &UPLINKS),
        ("10.1.0.0/26", &[A, "203.0.113.1"], &[UPLINKS[0]]),
        ("10.1.0.0/26", &["203.0.113.1"], &[]),
        ("10.1.0.0/26", &["192.0.2.1"], &[]),
        ("fd01::/122", &["2001:db8::2"], &[UPLINKS[0]]),
        ("fd01::/122", &["fe80::2"], &[]),
        ("10.1.0.0/26", &["2001:db8::2"], &[UPLINKS[0]]),
        ("0.0.0.0/0", &["192.0.2.30"], &[UPLINKS[1]]),
    ];
    for (prefix, hops, expected) in cases {
        let mut bench = Bench::new();
        bench.feed([fib(1, &[(prefix, hops)], false)]);
        let found: Vec<_> = bench.hops(prefix).into_iter().map(|(interface, _)| interface).collect();
        assert_eq!(found, *expected, "{prefix} via {hops:?}");
        assert_eq!(bench.take_log().last().map(String::as_str), Some("applied 1"));
    }
}

#[test]
fn a_named_interface_is_used_and_a_gateway_outside_its_prefixes_is_on_link() {
    let cases = [("fe80::2", false), ("192.0.2.2", false), ("203.0.113.1", true)];
    for (addr, onlink) in cases {
        let mut bench = Bench::new();
        let next_hop = margay_net::NextHop { addr: ip(addr), interface: Some("up0".into()) };
        let route = margay_net::BestRoute {
            prefix: cidr("10.1.0.0/26"),
            next_hops: std::sync::Arc::new([next_hop].into()),
            stale: false,
            discard: false,
        };
        let changes = vec![margay_net::FibChange::Set(route)];
        bench.feed([Input::Fib(margay_net::FibBatch { serial: 1, changes, complete: false })]);
        let route = &bench.routes[&(cidr("10.1.0.0/26"), METRIC)];
        let hop = Hop { gateway: Some(ip(addr)), interface: UPLINKS[0], onlink, weight: 1 };
        assert_eq!(route.target, Target::Via([hop].into()), "{addr}");
    }
}

#[test]
fn the_host_sends_over_bgp_routes_from_the_nodes_address() {
    let mut bench = Bench::new();
    bench.feed([fib(1, &[("10.1.0.0/26", &[A]), ("fd01::/122", &["2001:db8::2"])], false)]);
    let source = |bench: &Bench, prefix: &str| bench.routes[&(cidr(prefix), METRIC)].prefsrc;
    assert_eq!(source(&bench, "10.1.0.0/26"), Some(ip("192.0.2.1")));
    assert_eq!(source(&bench, "fd01::/122"), Some(ip("2001:db8::1")));
    let tentative = InterfaceAddress {
        interface: UPLINKS[0],
        addr: ip("2001:db8::1"),
        connected: cidr("2001:db8::/64"),
        usable: false,
    };
    bench.feed([Input::Address(tentative)]);
    assert_eq!(source(&bench, "fd01::/122"), None);
    bench.feed([Input::NodeAddresses([ip("192.0.2.17")].into())]);
    assert_eq!(source(&bench, "10.1.0.0/26"), Some(ip("192.0.2.17")));
}

#[test]
fn a_link_that_does_not_run_takes_its_next_hop_out_and_back() {
    // Which uplink fails and how (up, running).
    for (number, up) in [(0, true), (0, false), (1, true), (1, false)] {
        let mut bench = Bench::new();
        let only = if number == 0 { A } else { B };
        bench.feed([fib(1, &[("10.1.0.0/26", &[A, B]), ("10.2.0.0/26", &[only])], false)]);
        bench.take_log();
        let name = format!("up{number}");
        if !up {
            bench.routes.remove(&(cidr("10.2.0.0/26"), METRIC));
        }
        bench.feed([link(UPLINKS[number], &name, up, false)]);
        assert_eq!(bench.hops("10.1.0.0/26"), [both()[1 - number].clone()]);
        assert_eq!(bench.hops("10.2.0.0/26"), []);
        bench.feed([link(UPLINKS[number], &name, true, true)]);
        assert_eq!(bench.hops("10.1.0.0/26"), both());
        assert_eq!(bench.hops("10.2.0.0/26"), [both()[number].clone()]);
        assert!(bench.reconciler.drift().is_empty());
        let mut expected =
            vec![format!("link {name} not running {}", 2 - number), "replace BGP route 10.1.0.0/26".into()];
        if up {
            expected.push("delete BGP route 10.2.0.0/26".into());
        }
        expected.push(format!("link {name} running {}", 2 - number));
        expected.extend(["replace BGP route 10.1.0.0/26".into(), "add BGP route 10.2.0.0/26".into()]);
        assert_eq!(bench.take_log(), expected, "{name} {up}");
    }
}

#[test]
fn a_link_made_anew_under_its_name_carries_its_routes_again() {
    let mut bench = Bench::new();
    bench.feed([fib(1, &[("10.1.0.0/26", &[A, B])], false)]);
    bench.feed([Input::LinkGone { index: UPLINKS[0] }]);
    assert_eq!(bench.hops("10.1.0.0/26"), both()[1..]);
    bench.feed([link(20, "up0", true, true), address(20, "192.0.2.1", "192.0.2.0/28")]);
    let mut expected = both();
    expected[0].0 = 20;
    let mut found = bench.hops("10.1.0.0/26");
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_bgp_route_never_takes_the_place_of_a_pod_or_an_own_block() {
    let mut bench = Bench::new();
    let pod = Input::Endpoint { interface: POD_NAME.into(), endpoint: Some(endpoint(&["10.65.0.1"])) };
    bench.feed([pod, Input::OwnBlocks([cidr("10.65.0.0/26")].into())]);
    bench.take_log();
    bench.feed([fib(1, &[("10.65.0.1/32", &[A]), ("10.65.0.0/26", &[A])], false)]);
    assert_eq!(bench.take_log(), ["applied 1"]);
    bench.feed([
        Input::Endpoint { interface: POD_NAME.into(), endpoint: None },
        Input::OwnBlocks(std::collections::BTreeSet::new()),
    ]);
    assert_eq!(
        bench.take_log(),
        [
            "withdraw 10.65.0.0/26",
            "replace BGP route 10.65.0.0/26",
            "replace BGP route 10.65.0.1/32",
            "delete neighbour 10.65.0.1",
        ]
    );
}

#[test]
fn after_a_restart_identical_routes_are_left_alone_and_others_wait_for_the_whole_table() {
    let mut old = Bench::new();
    let routes: &[(&str, &[&str])] = &[("10.1.0.0/26", &[A, B]), ("10.2.0.0/26", &[A]), ("10.3.0.0/26", &[A])];
    let pod = || Input::Endpoint { interface: POD_NAME.into(), endpoint: Some(endpoint(&["10.65.0.1"])) };
    let own = || Input::OwnBlocks([cidr("10.65.0.0/26")].into());
    old.feed([pod(), own(), fib(1, routes, true)]);
    let kernel: Vec<_> = old.routes.values().cloned().collect();

    let mut new = Bench::before_sync(kernel);
    new.neighbours = old.neighbours.clone();
    let dump = new.dump(false);
    new.feed([dump]);
    new.log.clear();
    new.feed([pod(), own(), Input::InSync]);
    assert_eq!(new.take_log(), ["announce 10.65.0.0/26 Block"]);
    new.feed([fib(1, &[("10.1.0.0/26", &[A, B])], false)]);
    assert_eq!(new.take_log(), ["applied 1"]);
    new.feed([fib(2, &[("10.3.0.0/26", &[])], false)]);
    assert_eq!(new.take_log(), ["delete BGP route 10.3.0.0/26", "applied 2"]);
    // A link's failure is answered before the table is whole, too.
    new.feed([link(UPLINKS[0], "up0", true, false)]);
    assert_eq!(new.hops("10.2.0.0/26"), []);
    new.feed([link(UPLINKS[0], "up0", true, true)]);
    assert_eq!(new.hops("10.2.0.0/26"), both()[..1]);
    new.take_log();
    new.feed([fib(3, &[], true)]);
    assert_eq!(new.take_log(), ["delete BGP route 10.2.0.0/26", "applied 3"]);
}

#[test]
fn a_batch_is_applied_however_many_follow_it() {
    let mut bench = Bench::new();
    let prefixes: Vec<_> = (0..1500).map(|number| format!("10.{}.{}.0/24", 100 + number / 250, number % 250)).collect();
    let routes: Vec<(&str, &[&str])> = prefixes.iter().map(|prefix| (prefix.as_str(), &[A][..])).collect();
    // Each comes before the one before it is in the kernel, with a prefix that is first in order.
    let following: Vec<String> = (0..20).map(|number| format!("10.1.{number}.0/24")).collect();
    let mut batches = (2..).zip(&following).map(|(serial, prefix)| fib(serial, &[(prefix, &[A])], false));
    bench.feed_in_turns(fib(1, &routes, false), &mut batches);
    let log = bench.take_log();
    let at = |line: &str| log.iter().position(|known| known == line).unwrap();
    assert_eq!(at("applied 1"), 1500, "nothing comes between a batch and its end");
    assert!(at("applied 1") < at("applied 3") && log.last().unwrap() == "applied 21", "{log:?}");
}

#[test]
fn a_batch_is_applied_when_the_kernel_has_all_of_it() {
    let mut bench = Bench::new();
    let prefixes: Vec<_> = (0..2500).map(|number| format!("10.{}.{}.0/24", number / 250, number % 250)).collect();
    let routes: Vec<(&str, &[&str])> = prefixes.iter().map(|prefix| (prefix.as_str(), &[A][..])).collect();
    bench.feed([fib(7, &routes, false)]);
    assert_eq!(bench.routes.len(), 2500);
    let log = bench.take_log();
    assert_eq!((log.len(), log.last().map(String::as_str)), (2501, Some("applied 7")));
}

#[test]
fn a_route_that_discards_is_a_blackhole_of_bgp_and_gives_way_to_one_with_next_hops() {
    let discard = |serial, discard| {
        let next_hops = if discard { Default::default() } else { [margay_net::NextHop::via(ip(A))].into() };
        let next_hops = std::sync::Arc::new(next_hops);
        let route = margay_net::BestRoute { prefix: cidr("10.1.0.1/32"), next_hops, stale: false, discard };
        Input::Fib(margay_net::FibBatch { serial, changes: vec![margay_net::FibChange::Set(route)], complete: true })
    };
    let mut bench = Bench::new();
    bench.feed([discard(1, true)]);
    let hole = KernelRoute {
        prefix: cidr("10.1.0.1/32"),
        metric: METRIC,
        protocol: BGP,
        target: Target::Blackhole,
        prefsrc: None,
    };
    assert_eq!(bench.routes[&(cidr("10.1.0.1/32"), METRIC)], hole);
    assert_eq!(bench.reconciler.counts()[&Object::Bgp], 1);
    // It is ours like others: what is done by hand is undone.
    bench.by_hand(hole.clone(), true);
    assert_eq!(bench.routes[&(cidr("10.1.0.1/32"), METRIC)], hole);
    assert_eq!(bench.reconciler.drift()[&Object::Bgp], 1);
    bench.feed([discard(2, false)]);
    assert_eq!(bench.hops("10.1.0.1/32"), [(UPLINKS[0], A.to_owned())]);
    bench.feed([discard(3, true), fib(4, &[("10.1.0.1/32", &[])], false)]);
    assert_eq!(bench.routes.get(&(cidr("10.1.0.1/32"), METRIC)), None);

    // A restart leaves it until the table is whole.
    let mut bench = Bench::before_sync(vec![hole.clone()]);
    bench.feed([Input::InSync]);
    assert_eq!(bench.routes[&(cidr("10.1.0.1/32"), METRIC)], hole);
    bench.feed([fib(1, &[], true)]);
    assert_eq!(bench.routes.get(&(cidr("10.1.0.1/32"), METRIC)), None);
}
