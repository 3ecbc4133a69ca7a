//! Update groups and back-pressure.

use margay_bgp_core::{ExportPolicy, PrefixMatch, RouteMatch, Rule, RuleAction, RuleSet, SetOperation};

use crate::network::{Network, many, name, prefix, seconds};

/// A hub with a feeder of a policy of its own and `receivers` peers that are told the same with the same next hop.
fn star(receivers: usize) -> Network {
    let mut net = Network::new();
    let (hub, feeder) = (net.node(65000), net.node(65001));
    net.join(hub, feeder);
    for index in 0..receivers {
        let receiver = net.node(65100 + index as u32);
        net.join_at(hub, receiver, "192.0.2.1", &format!("192.0.2.{}", index + 10));
    }
    net.configure_all();
    net.run_until(seconds(10), "all established", |net| net.all_established());
    net.run(seconds(10));
    net
}

#[test]
fn fifty_peers_with_the_same_policy_share_each_encoded_message() {
    let mut net = star(50);
    let before = net.nodes[0].speaker.counters();
    net.announce(1, many(10_000));
    net.run_until(seconds(30), "10,000 routes at 50 peers", |net| {
        net.nodes[2..].iter().all(|node| node.speaker.counters().prefixes_announced_received == 10_000)
    });
    let after = net.nodes[0].speaker.counters();
    let encoded = after.messages_encoded - before.messages_encoded;
    let sent = after.messages_sent - before.messages_sent;
    assert!(encoded > 0);
    assert_eq!(sent, encoded * 50);
    assert_eq!(after.update_groups, 2);
    net.withdraw(1, many(10_000));
    net.run(seconds(5));
    assert!(net.nodes[2..].iter().all(|node| node.fib.is_empty()));
    let withdrawn = net.nodes[0].speaker.counters();
    assert_eq!(
        withdrawn.messages_sent - after.messages_sent,
        50 * (withdrawn.messages_encoded - after.messages_encoded)
    );
    assert_eq!(withdrawn.prefixes, 0);
    assert_eq!(withdrawn.attribute_sets, 0);
}

#[test]
fn a_peer_with_another_policy_is_in_another_group() {
    let mut net = star(2);
    assert_eq!(net.nodes[0].speaker.counters().update_groups, 2);
    let set = vec![SetOperation::AddCommunity(7)];
    let rules = vec![Rule { matches: RouteMatch::default(), action: RuleAction::Accept, set }];
    let export = ExportPolicy(RuleSet { rules, accept_by_default: true });
    net.change_peer(0, 2, |peer| peer.export = export.clone());
    assert_eq!(net.nodes[0].speaker.counters().update_groups, 3);
    net.change_peer(0, 3, |peer| peer.export = export.clone());
    assert_eq!(net.nodes[0].speaker.counters().update_groups, 2);
}

#[test]
fn a_new_member_is_told_the_table_and_then_end_of_rib() {
    let mut net = star(1);
    net.announce(1, many(3000));
    net.run(seconds(5));
    let late = net.node(65200);
    net.join_at(0, late, "192.0.2.1", "192.0.2.200");
    net.configure(0);
    net.configure(late);
    net.run_until(seconds(10), "the late one has all", |net| net.nodes[3].fib.len() == 3000);
    net.run(seconds(1));
    let view = &net.nodes[late].speaker.peers()[0];
    assert_eq!(view.end_of_rib.len(), 1);
    assert_eq!(view.established_count, 1);
}

#[test]
fn a_receiver_that_does_not_read_costs_a_bounded_amount_and_catches_up() {
    let mut net = star(2);
    net.stall(2, true);
    let rounds = 16;
    for round in 0..rounds {
        net.announce(1, many(10_000));
        net.run(seconds(1));
        net.withdraw(1, many(if round + 1 < rounds { 10_000 } else { 5_000 }));
        net.run(seconds(1));
    }
    let unsent = net.nodes[0].speaker.peers()[1].unsent_bytes;
    assert!(unsent > 0 && unsent < 2 << 20, "{unsent}");
    assert_eq!(net.nodes[3].fib.len(), 5_000, "the one that reads is not held up");
    net.stall(2, false);
    net.run(seconds(5));
    assert!(net.all_established());
    assert_eq!(net.nodes[2].fib, net.nodes[3].fib);
}

#[test]
fn a_slow_first_table_with_changes_in_between_ends_right() {
    let mut net = star(1);
    net.announce(1, many(60_000));
    net.run(seconds(10));
    let late = net.node(65200);
    net.join_at(0, late, "192.0.2.1", "192.0.2.200");
    net.configure(0);
    net.configure(late);
    net.run_until(seconds(10), "established", |net| net.established(0, 3));
    net.stall(late, true);
    net.withdraw(1, many(30_000));
    net.announce(1, [prefix("10.1.0.0/26")]);
    net.run(seconds(2));
    net.stall(late, false);
    net.run(seconds(5));
    assert_eq!(net.nodes[late].fib.len(), 30_001);
    assert_eq!(net.nodes[late].speaker.received(&name(0)).len(), 30_001);
}

#[test]
fn a_policy_by_prefix_splits_what_came_in_one_message() {
    let mut net = star(1);
    let matches = RouteMatch { prefixes: vec![PrefixMatch::within(prefix("20.0.0.0/20"))], ..RouteMatch::default() };
    let rules = vec![Rule { matches, action: RuleAction::Accept, set: vec![SetOperation::Med(9)] }];
    net.change_peer(0, 2, |peer| peer.export = ExportPolicy(RuleSet { rules, accept_by_default: true }));
    net.announce(1, many(20));
    net.run(seconds(5));
    let routes = net.nodes[2].speaker.received(&name(0));
    let med: Vec<_> = routes.iter().map(|route| route.paths[0].attributes.med).collect();
    assert_eq!(med[..16], [Some(9); 16]);
    assert_eq!(med[16..], [None; 4]);
}
