//! Next hops that are on no link: they are asked for, and what uses them waits for the answer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use margay_bgp_core::{Input, LossReason, NextHopMode, RejectReason, ResolvedNextHop};
use margay_net::{Cidr, FromFelix, LinkState, NextHop, Now};

use crate::network::{Network, many, name, prefix, seconds};

const OUTSIDE: &str = "172.16.0.1";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An external peer, an edge and a node inside of it, which is told the external next hop as it is and has an interface
/// that leads to the edge alone.
fn edge() -> (Network, usize, usize, usize) {
    let mut net = Network::new();
    let (outside, edge, inside) = (net.node(65001), net.node(65000), net.node(65000));
    net.join(outside, edge);
    let link = net.join(edge, inside);
    net.configure_all();
    net.interface(inside, link, true);
    net.run_until(seconds(10), "all established", |net| net.all_established());
    net.announce(outside, [prefix("10.1.0.0/26")]);
    net.announce(edge, [prefix("10.2.0.0/26")]);
    net.run(seconds(1));
    (net, outside, edge, inside)
}

fn way(gateway: &str, interface: &str, metric: u32) -> Option<ResolvedNextHop> {
    let next_hop = NextHop { addr: address(gateway), interface: Some(interface.to_owned()) };
    Some(ResolvedNextHop { next_hops: BTreeSet::from([next_hop]), metric })
}

fn answer(net: &mut Network, node: usize, next_hop: &str, resolved: Option<ResolvedNextHop>) {
    net.input(node, Input::NextHop { address: address(next_hop), resolved });
}

fn rejected(net: &Network, node: usize, from: usize, wanted: &str) -> Option<RejectReason> {
    let routes = net.nodes[node].speaker.received(&name(from));
    routes.iter().find(|route| route.prefix == prefix(wanted)).and_then(|route| route.paths[0].rejected)
}

#[test]
fn a_next_hop_off_the_links_is_asked_for_and_its_route_waits_for_the_answer() {
    let (mut net, _, edge, inside) = edge();
    assert_eq!(net.nodes[inside].tracked, [BTreeSet::from([address(OUTSIDE)])]);
    assert_eq!(net.nodes[edge].tracked, [], "its peers are one hop away, or it knows no interface");
    assert_eq!(rejected(&net, inside, edge, "10.1.0.0/26"), Some(RejectReason::NextHopUnreachable));
    assert_eq!(rejected(&net, inside, edge, "10.2.0.0/26"), None);
    assert_eq!(net.nodes[inside].fib.len(), 1);

    answer(&mut net, inside, OUTSIDE, way("172.16.0.5", "eth1", 20));
    assert_eq!(rejected(&net, inside, edge, "10.1.0.0/26"), None);
    let hops: Vec<_> = net.nodes[inside].fib[&prefix("10.1.0.0/26")].next_hops.iter().cloned().collect();
    assert_eq!(hops, [NextHop { addr: address("172.16.0.5"), interface: Some("eth1".to_owned()) }]);

    let batches = net.nodes[inside].fib_batches;
    answer(&mut net, inside, OUTSIDE, way("172.16.0.5", "eth1", 20));
    assert_eq!(net.nodes[inside].fib_batches, batches, "the same answer changes nothing");
    answer(&mut net, inside, OUTSIDE, way("172.16.0.9", "eth2", 20));
    assert_eq!(net.next_hops(inside, "10.1.0.0/26"), ["172.16.0.9"]);
    answer(&mut net, inside, OUTSIDE, None);
    assert_eq!(rejected(&net, inside, edge, "10.1.0.0/26"), Some(RejectReason::NextHopUnreachable));
    assert_eq!(net.nodes[inside].fib.len(), 1);
}

#[test]
fn an_answer_touches_only_the_prefixes_of_its_next_hop() {
    let (mut net, outside, _, inside) = edge();
    net.announce(outside, many(500));
    net.run(seconds(1));
    answer(&mut net, inside, OUTSIDE, way("172.16.0.5", "eth1", 0));
    assert_eq!(net.nodes[inside].fib.len(), 502);
    let told = net.nodes[inside].speaker.counters().fib_batches;
    answer(&mut net, inside, "192.0.2.77", way("172.16.0.5", "eth1", 0));
    assert_eq!(net.nodes[inside].speaker.counters().fib_batches, told, "nobody asked for this one");
}

#[test]
fn a_next_hop_that_no_route_has_is_asked_for_no_more_and_comes_back_with_what_was_known() {
    let (mut net, outside, _, inside) = edge();
    answer(&mut net, inside, OUTSIDE, way("172.16.0.5", "eth1", 0));
    net.withdraw(outside, [prefix("10.1.0.0/26")]);
    net.run(seconds(1));
    assert_eq!(net.nodes[inside].tracked.last(), Some(&BTreeSet::new()));
    net.announce(outside, [prefix("10.1.0.0/26")]);
    net.run(seconds(1));
    assert_eq!(net.nodes[inside].tracked.last(), Some(&BTreeSet::from([address(OUTSIDE)])));
    assert_eq!(net.next_hops(inside, "10.1.0.0/26"), ["172.16.0.5"]);
}

#[test]
fn a_next_hop_that_comes_onto_a_link_needs_no_answer_and_one_that_leaves_it_does() {
    let (mut net, _, _, inside) = edge();
    let link = |running| LinkState {
        interface: "eth9".to_owned(),
        running,
        addresses: vec![(address("172.16.0.2"), "172.16.0.0/30".parse::<Cidr>().unwrap())],
    };
    net.input(inside, Input::Felix(FromFelix::Link(link(true))));
    assert_eq!(net.next_hops(inside, "10.1.0.0/26"), [OUTSIDE]);
    assert_eq!(net.nodes[inside].tracked.last(), Some(&BTreeSet::new()));
    net.input(inside, Input::Felix(FromFelix::Link(link(false))));
    assert_eq!(net.nodes[inside].fib.len(), 1);
    assert_eq!(net.nodes[inside].tracked.last(), Some(&BTreeSet::from([address(OUTSIDE)])));
    net.input(
        inside,
        Input::Felix(FromFelix::NextHop { address: address(OUTSIDE), resolved: way("172.16.0.5", "eth1", 1) }),
    );
    assert_eq!(net.next_hops(inside, "10.1.0.0/26"), ["172.16.0.5"]);
}

#[test]
fn without_interfaces_every_next_hop_will_do() {
    let mut net = Network::new();
    let (outside, edge, inside) = (net.node(65001), net.node(65000), net.node(65000));
    net.join(outside, edge);
    net.join_with(edge, inside, |peer| peer.next_hop = NextHopMode::Keep);
    net.configure_all();
    net.announce(outside, [prefix("10.1.0.0/26")]);
    net.run_until(seconds(10), "the route", |net| net.nodes[2].fib.len() == 1);
    assert_eq!(net.next_hops(inside, "10.1.0.0/26"), [OUTSIDE]);
    assert!(net.nodes[inside].tracked.is_empty());
}

/// Two external peers behind an edge each, and a node inside that has an interface towards one edge alone and asks for
/// both external next hops.
fn two_edges() -> (Network, usize) {
    let mut net = Network::new();
    let (a, b, edge_a, edge_b, inside) =
        (net.node(65001), net.node(65001), net.node(65000), net.node(65000), net.node(65000));
    net.join(a, edge_a);
    net.join(b, edge_b);
    let link = net.join(edge_a, inside);
    net.join(edge_b, inside);
    net.configure_all();
    net.interface(inside, link, true);
    net.announce(a, [prefix("10.9.0.0/26")]);
    net.announce(b, [prefix("10.9.0.0/26")]);
    net.run_until(seconds(10), "both asked for", |net| {
        net.nodes[4].tracked.last().is_some_and(|tracked| tracked.len() == 2)
    });
    assert!(net.nodes[inside].fib.is_empty());
    (net, inside)
}

#[test]
fn the_path_with_a_way_is_used_while_the_better_one_waits() {
    let (mut net, inside) = two_edges();
    answer(&mut net, inside, "172.16.0.5", way("172.16.0.13", "eth3", 0));
    assert_eq!(net.next_hops(inside, "10.9.0.0/26"), ["172.16.0.13"]);
    answer(&mut net, inside, "172.16.0.1", way("172.16.0.9", "eth2", 0));
    assert_eq!(net.next_hops(inside, "10.9.0.0/26"), ["172.16.0.9", "172.16.0.13"]);
    answer(&mut net, inside, "172.16.0.5", None);
    assert_eq!(net.next_hops(inside, "10.9.0.0/26"), ["172.16.0.9"]);
}

#[test]
fn a_table_larger_than_a_slice_is_decided_to_its_end_though_nobody_is_told() {
    let mut net = Network::new();
    let alone = net.node(65000);
    net.configure_all();
    net.announce(alone, many(20_000));
    net.withdraw(alone, many(20_000));
    net.run(seconds(1));
    assert_eq!(net.nodes[alone].speaker.counters().prefixes, 0);
}

#[test]
fn the_nearer_next_hop_wins_and_the_farther_one_loses_by_its_cost() {
    let (mut net, inside) = two_edges();
    let answer_both = |net: &mut Network, near: u32, far: u32| {
        answer(net, inside, "172.16.0.1", way("172.16.0.9", "eth2", near));
        answer(net, inside, "172.16.0.5", way("172.16.0.13", "eth3", far));
    };
    answer_both(&mut net, 10, 20);
    assert_eq!(net.next_hops(inside, "10.9.0.0/26"), ["172.16.0.9"]);
    let why = net.nodes[inside].speaker.why(prefix("10.9.0.0/26")).route.unwrap();
    assert_eq!(why.paths[1].lost, Some(LossReason::IgpMetric));
    assert!(
        why.paths[1].reason.as_deref().is_some_and(|words| words.ends_with("20 > 10")),
        "{:?}",
        why.paths[1].reason
    );
    answer_both(&mut net, 10, 5);
    assert_eq!(net.next_hops(inside, "10.9.0.0/26"), ["172.16.0.13"]);
    answer_both(&mut net, 5, 5);
    assert_eq!(net.next_hops(inside, "10.9.0.0/26"), ["172.16.0.9", "172.16.0.13"]);
}

#[test]
fn answers_that_come_together_are_judged_together() {
    let (mut net, inside) = two_edges();
    let batches = net.nodes[inside].fib_batches;
    let now = Now::at(net.now);
    let speaker = &mut net.nodes[inside].speaker;
    for (next_hop, gateway, interface) in [("172.16.0.1", "172.16.0.9", "eth2"), ("172.16.0.5", "172.16.0.13", "eth3")]
    {
        speaker.handle_input(Input::NextHop { address: address(next_hop), resolved: way(gateway, interface, 0) }, now);
    }
    net.run(seconds(1));
    net.input(inside, Input::Felix(FromFelix::Local(Vec::new())));
    assert_eq!(net.next_hops(inside, "10.9.0.0/26"), ["172.16.0.9", "172.16.0.13"]);
    assert_eq!(net.nodes[inside].fib_batches, batches + 1);
}
