//! Ways to next hops that are on no link, and routes that discard, in a real kernel.
#![allow(clippy::unwrap_used)]

mod routes_support;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use margay_felix_agent::ToFelix;
use margay_net::{BestRoute, FibBatch, FibChange};
use routes_support::*;

fn track(addresses: &[&str]) -> ToFelix {
    ToFelix::TrackNextHops(addresses.iter().map(|address| addr(address)).collect::<BTreeSet<IpAddr>>())
}

#[test]
fn next_hops_are_resolved_through_the_hosts_routes_and_follow_them_within_ms() {
    let node = Node::new();
    node.run(async || {
        ip("route add 203.0.113.0/24 via 192.0.2.2 metric 7");
        ip("-6 route add 2001:db8:9::/48 via 2001:db8:1::2 metric 30");
        let mut agent = Agent::spawn();
        // No state of a datastore is needed to answer.
        agent.handle.send(track(&["203.0.113.1", "2001:db8:9::1", "198.18.0.1"])).await;
        agent.expect_told("203.0.113.1 via 192.0.2.2 dev up0 metric 7").await;
        agent.handle.send(track(&["203.0.113.1", "2001:db8:9::1", "198.18.0.2"])).await;
        agent.expect_told("198.18.0.2 no way").await;

        let began = Instant::now();
        ip("route add 203.0.113.0/28 via 192.0.2.18 dev up1");
        agent.expect_told("203.0.113.1 via 192.0.2.18 dev up1 metric 0").await;
        let took = began.elapsed();
        assert!(took < Duration::from_millis(300), "{took:?}, the ip program included");
        ip("route del 203.0.113.0/28 via 192.0.2.18");
        agent.expect_told("203.0.113.1 via 192.0.2.2 dev up0 metric 7").await;
        ip("route add 198.18.0.0/15 nexthop via 192.0.2.2 nexthop via 192.0.2.18");
        agent.expect_told("198.18.0.2 via 192.0.2.2 dev up0 via 192.0.2.18 dev up1 metric 0").await;
        ip("route replace 198.18.0.0/15 via 192.0.2.3");
        agent.expect_told("198.18.0.2 via 192.0.2.3 dev up0 metric 0").await;

        ip("-6 route append 2001:db8:9::/48 via 2001:db8:0::2 metric 30");
        agent.expect_told("2001:db8:9::1 via 2001:db8::2 dev up0 via 2001:db8:1::2 dev up1 metric 30").await;
        ip("-6 route del 2001:db8:9::/48 via 2001:db8:1::2 metric 30");
        agent.expect_told("2001:db8:9::1 via 2001:db8::2 dev up0 metric 30").await;
    });
}

#[test]
fn a_way_goes_with_its_link_though_the_kernel_says_nothing_of_the_route() {
    let node = Node::new();
    node.run(async || {
        ip("route add 203.0.113.0/24 via 192.0.2.18");
        ip("route add default via 192.0.2.2");
        let mut agent = Agent::spawn();
        agent.handle.send(track(&["203.0.113.1"])).await;
        agent.expect_told("203.0.113.1 via 192.0.2.18 dev up1 metric 0").await;
        ip("link set up1 down");
        agent.expect_told("203.0.113.1 via 192.0.2.2 dev up0 metric 0").await;
        ip("link set up1 up");
        // The route through it is gone: only one that is made anew is a way again.
        agent.expect_told("link up1 running").await;
        assert!(!agent.take_told().iter().any(|told| told.starts_with("203.0.113.1")));
        ip("route add 203.0.113.0/24 via 192.0.2.18");
        agent.expect_told("203.0.113.1 via 192.0.2.18 dev up1 metric 0").await;
        ip("addr del 192.0.2.17/28 dev up1");
        agent.expect_told("203.0.113.1 via 192.0.2.2 dev up0 metric 0").await;
    });
}

#[test]
fn routes_of_bgp_in_the_kernel_are_no_way() {
    let node = Node::new();
    node.run(async || {
        let mut agent = Agent::settled().await;
        // The table has a default route by BGP.
        assert!(routes().iter().any(|route| route.starts_with("79 0.0.0.0/0")));
        agent.handle.send(track(&["203.0.113.1"])).await;
        agent.expect_told("203.0.113.1 no way").await;
    });
}

#[test]
fn a_route_that_discards_is_a_blackhole_that_is_put_back_and_survives_a_restart() {
    let node = Node::new();
    node.run(async || {
        let discard = |serial, prefix: &str| {
            let route = BestRoute { prefix: cidr(prefix), next_hops: Default::default(), stale: false, discard: true };
            FibBatch { serial, changes: vec![FibChange::Set(route)], complete: true }
        };
        let holes = ["79 blackhole 10.66.0.9/32", "79 blackhole fd66::9/128"];
        let present = || routes().into_iter().filter(|route| route.contains("blackhole")).collect::<Vec<_>>();
        let agent = Agent::spawn();
        agent.handle.send(ToFelix::InSync).await;
        agent.handle.send(ToFelix::Fib(discard(1, "10.66.0.9/32"))).await;
        agent.handle.send(ToFelix::Fib(discard(2, "fd66::9/128"))).await;
        agent.handle.barrier().await.unwrap();
        let found = present();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().zip(holes).all(|(found, hole)| found.starts_with(hole)), "{found:?}");
        ip("route del blackhole 10.66.0.9/32 proto 79 metric 1024");
        agent.handle.barrier().await.unwrap();
        assert_eq!(present(), found);
        drop(agent);

        let agent = Agent::spawn();
        agent.handle.send(ToFelix::InSync).await;
        agent.handle.barrier().await.unwrap();
        assert_eq!(present(), found);
        agent.handle.send(ToFelix::Fib(discard(1, "fd66::9/128"))).await;
        agent.handle.barrier().await.unwrap();
        assert_eq!(present(), found[1..]);
    });
}
