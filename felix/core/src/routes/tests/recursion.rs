use std::collections::BTreeSet;

use super::super::*;
use super::bench::*;

/// A static route through an uplink.
fn host_route(prefix: &str, metric: u32, gateway: &str, interface: u32) -> KernelRoute {
    let hop = Hop { gateway: Some(ip(gateway)), interface, onlink: false, weight: 1 };
    KernelRoute { prefix: cidr(prefix), metric, protocol: 4, target: Target::Via([hop].into()), prefsrc: None }
}

fn track(addresses: &[&str]) -> Input {
    Input::TrackNextHops(addresses.iter().map(|addr| ip(addr)).collect::<BTreeSet<_>>())
}

fn answers(bench: &mut Bench) -> Vec<String> {
    bench.take_log().into_iter().filter(|line| line.contains(": ")).collect()
}

#[test]
fn the_longest_prefix_and_then_the_least_metric_is_the_way() {
    let mut bench = Bench::new();
    for route in [
        host_route("0.0.0.0/0", 0, "192.0.2.2", UPLINKS[0]),
        host_route("203.0.113.0/24", 20, "192.0.2.18", UPLINKS[1]),
        host_route("203.0.113.0/24", 10, "192.0.2.3", UPLINKS[0]),
    ] {
        bench.by_hand(route, false);
    }
    assert_eq!(bench.take_log(), [""; 0], "nobody asks");
    bench.feed([track(&["203.0.113.1", "198.18.0.1", "2001:db8:9::1"])]);
    assert_eq!(
        bench.take_log(),
        [
            "list host routes",
            "198.18.0.1: 192.0.2.2 up0 metric 0",
            "203.0.113.1: 192.0.2.3 up0 metric 10",
            "2001:db8:9::1: no way",
        ]
    );
    bench.by_hand(host_route("203.0.113.0/24", 10, "192.0.2.3", UPLINKS[0]), true);
    assert_eq!(bench.take_log(), ["203.0.113.1: 192.0.2.18 up1 metric 20"]);
    bench.by_hand(host_route("203.0.113.0/24", 20, "192.0.2.18", UPLINKS[1]), true);
    bench.by_hand(host_route("0.0.0.0/0", 0, "192.0.2.2", UPLINKS[0]), true);
    assert_eq!(bench.take_log(), ["203.0.113.1: 192.0.2.2 up0 metric 0", "198.18.0.1: no way", "203.0.113.1: no way"]);
}

#[test]
fn routes_of_bgp_are_no_way() {
    let mut bench = Bench::new();
    bench.feed([fib(1, &[("203.0.113.0/24", &["192.0.2.2"])], true)]);
    bench.take_log();
    bench.feed([track(&["203.0.113.1"])]);
    assert_eq!(answers(&mut bench), ["203.0.113.1: no way"]);
    bench.by_hand(host_route("0.0.0.0/0", 5, "192.0.2.18", UPLINKS[1]), false);
    assert_eq!(answers(&mut bench), ["203.0.113.1: 192.0.2.18 up1 metric 5"]);
}

#[test]
fn a_link_that_stops_takes_the_ways_through_it_and_gives_them_back() {
    let mut bench = Bench::new();
    bench.by_hand(host_route("203.0.113.0/24", 0, "192.0.2.18", UPLINKS[1]), false);
    bench.by_hand(host_route("0.0.0.0/0", 0, "192.0.2.2", UPLINKS[0]), false);
    bench.feed([track(&["203.0.113.1"])]);
    assert_eq!(answers(&mut bench), ["203.0.113.1: 192.0.2.18 up1 metric 0"]);
    bench.feed([link(UPLINKS[1], "up1", true, false)]);
    assert_eq!(answers(&mut bench), ["203.0.113.1: 192.0.2.2 up0 metric 0"]);
    bench.feed([link(UPLINKS[1], "up1", true, true)]);
    assert_eq!(answers(&mut bench), ["203.0.113.1: 192.0.2.18 up1 metric 0"]);
    // Set down, IPv4 routes through it are gone without a word; they are not back with the link.
    bench.routes.remove(&(cidr("203.0.113.0/24"), 0));
    bench.feed([link(UPLINKS[1], "up1", false, false)]);
    bench.feed([link(UPLINKS[1], "up1", true, true)]);
    assert_eq!(answers(&mut bench), ["203.0.113.1: 192.0.2.2 up0 metric 0"]);
}

#[test]
fn an_address_on_a_link_without_a_gateway_is_its_own_way_and_a_hole_is_none() {
    let mut bench = Bench::new();
    let hop = Hop { gateway: None, interface: UPLINKS[0], onlink: false, weight: 1 };
    let on_link = KernelRoute { target: Target::Via([hop].into()), ..host_route("203.0.113.1/32", 0, "::", 0) };
    bench.by_hand(on_link, false);
    let hole = KernelRoute { target: Target::Blackhole, ..host_route("198.18.0.0/15", 0, "::", 0) };
    bench.by_hand(hole, false);
    bench.by_hand(host_route("0.0.0.0/0", 0, "192.0.2.2", UPLINKS[0]), false);
    bench.feed([track(&["203.0.113.1", "198.18.0.1"])]);
    assert_eq!(answers(&mut bench), ["198.18.0.1: no way", "203.0.113.1: 203.0.113.1 up0 metric 0"]);
}

#[test]
fn a_pod_is_reached_through_its_interface_and_the_rest_of_its_block_not_at_all() {
    let mut bench = Bench::new();
    bench.by_hand(host_route("0.0.0.0/0", 0, "192.0.2.2", UPLINKS[0]), false);
    bench.feed([Input::OwnBlocks([cidr("10.65.0.0/26")].into()), track(&["10.65.0.1", "10.65.0.2"])]);
    assert_eq!(answers(&mut bench), ["10.65.0.1: no way", "10.65.0.2: no way"]);
    let endpoint = LocalEndpoint { addresses: [ip("10.65.0.1")].into(), mac: None };
    bench.feed([Input::Endpoint { interface: POD_NAME.into(), endpoint: Some(endpoint) }]);
    assert_eq!(answers(&mut bench), [format!("10.65.0.1: 10.65.0.1 {POD_NAME} metric {METRIC}")]);
}

#[test]
fn an_address_that_is_asked_for_again_is_answered_again() {
    let mut bench = Bench::new();
    bench.by_hand(host_route("0.0.0.0/0", 0, "192.0.2.2", UPLINKS[0]), false);
    bench.feed([track(&["203.0.113.1", "203.0.113.2"])]);
    assert_eq!(answers(&mut bench).len(), 2);
    bench.feed([track(&["203.0.113.2"])]);
    bench.feed([track(&["203.0.113.1", "203.0.113.2"])]);
    assert_eq!(bench.take_log(), ["203.0.113.1: 192.0.2.2 up0 metric 0"], "without a new list");
    bench.feed([track(&[])]);
    bench.by_hand(host_route("203.0.113.0/24", 0, "192.0.2.3", UPLINKS[0]), false);
    assert_eq!(bench.take_log(), [""; 0]);
    bench.feed([track(&["203.0.113.1"])]);
    assert_eq!(bench.take_log(), ["list host routes", "203.0.113.1: 192.0.2.3 up0 metric 0"]);
}

#[test]
fn what_an_event_of_ipv6_leaves_open_is_listed() {
    let mut bench = Bench::new();
    let first = host_route("2001:db8:9::/48", 1024, "2001:db8::2", UPLINKS[0]);
    bench.by_hand(first, false);
    bench.feed([track(&["2001:db8:9::1"])]);
    assert_eq!(answers(&mut bench), ["2001:db8:9::1: 2001:db8::2 up0 metric 1024"]);
    // One beside it or in its place? The event says neither.
    bench.by_hand(host_route("2001:db8:9::/48", 1024, "2001:db8::3", UPLINKS[0]), false);
    assert_eq!(bench.take_log(), ["list host routes", "2001:db8:9::1: 2001:db8::3 up0 metric 1024"]);
}
