//! Graceful restart (RFC 4724) in both roles.

use margay_bgp_core::{FsmState, StopKind};

use crate::network::{Network, name, prefix, seconds};

/// A router with two nodes behind it, each of which announces a block.
fn rack() -> Network {
    let mut net = Network::new();
    let (tor, a, b) = (net.node(65100), net.node(65001), net.node(65002));
    net.join(tor, a);
    net.join(tor, b);
    net.configure_all();
    net.announce(a, [prefix("10.1.0.0/26")]);
    net.announce(b, [prefix("10.2.0.0/26")]);
    net.announce(tor, []);
    net.run_until(seconds(5), "all routes", |net| {
        net.nodes[0].fib.len() == 2 && net.nodes[1].fib.len() == 1 && net.nodes[2].fib.len() == 1
    });
    net.run(seconds(10));
    net
}

/// Runs until the rack is whole again, and asserts that no route was lost meanwhile.
fn nothing_is_lost_until_whole(net: &mut Network) {
    let before: Vec<_> = net.nodes.iter().map(|node| node.fib.keys().copied().collect::<Vec<_>>()).collect();
    let end = net.now + seconds(120);
    while net.now < end {
        net.run(std::time::Duration::from_millis(10));
        let kept = net.nodes.iter().map(|node| node.fib.keys().copied().collect::<Vec<_>>()).collect::<Vec<_>>();
        assert_eq!(kept, before, "at {:?}: {:#?}", net.now, net.states());
    }
    assert!(net.all_established());
    assert!(net.nodes.iter().all(|node| node.complete && node.fib.values().all(|route| !route.stale)));
}

#[test]
fn a_killed_node_that_comes_back_loses_no_route_anywhere() {
    let mut net = rack();
    net.kill(1);
    net.run(seconds(5));
    assert!(net.nodes[0].fib[&prefix("10.1.0.0/26")].stale);
    net.restart(1, true);
    net.announce(1, [prefix("10.1.0.0/26")]);
    nothing_is_lost_until_whole(&mut net);
    assert_eq!(net.nodes[1].fib_batches, 1, "the whole table comes as one batch");
}

#[test]
fn end_of_rib_is_not_sent_before_the_local_routes_are_known() {
    let mut net = rack();
    net.kill(1);
    net.restart(1, true);
    net.run(seconds(20));
    assert!(!net.nodes[1].complete);
    assert!(net.nodes[0].fib.contains_key(&prefix("10.1.0.0/26")));
    net.announce(1, [prefix("10.1.0.0/26")]);
    nothing_is_lost_until_whole(&mut net);
}

#[test]
fn a_stop_for_restart_keeps_the_routes_and_an_absence_too_long_loses_them() {
    let mut net = rack();
    net.stop(1, StopKind::Restart);
    net.kill(1);
    net.run(seconds(100));
    assert!(net.nodes[0].fib.contains_key(&prefix("10.1.0.0/26")));
    net.run(seconds(21));
    assert!(!net.nodes[0].fib.contains_key(&prefix("10.1.0.0/26")), "the restart time of 120 s is over");
}

#[test]
fn routes_that_do_not_come_again_go_at_end_of_rib() {
    let mut net = rack();
    net.announce(1, [prefix("10.7.0.0/26")]);
    net.run(seconds(1));
    net.kill(1);
    net.restart(1, true);
    net.announce(1, [prefix("10.1.0.0/26")]);
    net.run(seconds(10));
    let routes: Vec<String> = net.nodes[0].fib.keys().map(ToString::to_string).collect();
    assert_eq!(routes, ["10.1.0.0/26", "10.2.0.0/26"]);
    let events = net.events_of(0, 1);
    assert!(
        events.contains(&"peer's graceful restart ended: End-of-RIB, 1 stale paths removed".to_owned()),
        "{events:#?}"
    );
}

#[test]
fn a_restart_without_preserved_forwarding_loses_the_routes_at_once() {
    let mut net = rack();
    net.kill(1);
    net.run(seconds(1));
    assert_eq!(net.nodes[0].fib.len(), 2);
    net.restart(1, false);
    net.run_until(seconds(10), "established", |net| net.established(0, 1));
    assert!(!net.nodes[0].fib.contains_key(&prefix("10.1.0.0/26")));
}

#[test]
fn a_peer_that_hangs_and_connects_anew_is_taken_as_restarted() {
    let mut net = rack();
    // The router keeps an Established session to a node that is gone.
    net.power_off(1);
    net.run(seconds(5));
    assert_eq!(net.state(0, 1), FsmState::Established);
    net.restart(1, true);
    net.announce(1, [prefix("10.1.0.0/26")]);
    nothing_is_lost_until_whole(&mut net);
    assert_eq!(net.nodes[0].speaker.peers()[0].established_count, 2);
}

#[test]
fn a_shutdown_ends_the_routes_even_with_graceful_restart() {
    let mut net = rack();
    net.change_peer(1, 0, |peer| peer.admin_up = false);
    net.run(seconds(1));
    let routes: Vec<String> = net.nodes[0].fib.keys().map(ToString::to_string).collect();
    assert_eq!(routes, ["10.2.0.0/26"]);
}

#[test]
fn two_nodes_that_restart_together_do_not_wait_for_each_other() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join(a, b);
    net.configure_all();
    net.announce(a, [prefix("10.1.0.0/26")]);
    net.announce(b, [prefix("10.2.0.0/26")]);
    net.run(seconds(10));
    net.kill(a);
    net.kill(b);
    net.run(seconds(1));
    for (node, block) in [(a, "10.1.0.0/26"), (b, "10.2.0.0/26")] {
        net.restart(node, true);
        net.announce(node, [prefix(block)]);
    }
    net.run_until(seconds(10), "both whole", |net| net.nodes.iter().all(|node| node.complete && node.fib.len() == 1));
}

#[test]
fn a_peer_that_does_not_come_holds_the_start_up_until_a_few_attempts_have_failed() {
    let mut net = rack();
    net.kill(2);
    net.kill(0);
    net.run(seconds(1));
    net.restart(0, true);
    net.announce(0, []);
    net.run(seconds(4));
    assert!(!net.nodes[0].complete);
    let waits: Vec<String> = net.nodes[0].speaker.waits().into_iter().map(|wait| wait.what).collect();
    assert_eq!(waits, ["deferred: waiting for a session with n2"]);
    net.run(seconds(6));
    assert!(net.nodes[0].complete);
    assert_eq!(net.nodes[0].speaker.waits(), []);
    assert!(net.nodes[0].fib.contains_key(&prefix("10.1.0.0/26")));
    assert!(!net.nodes[0].fib.contains_key(&prefix("10.2.0.0/26")));
}

#[test]
fn a_peer_without_graceful_restart_is_awaited_until_its_first_keepalive() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join_with(a, b, |peer| {
        peer.graceful_restart = false;
        peer.hold_time = seconds(9);
    });
    net.configure_all();
    net.announce(b, [prefix("10.2.0.0/26")]);
    net.run(seconds(10));
    net.kill(a);
    net.run(seconds(5));
    net.restart(a, true);
    net.announce(a, []);
    net.run(seconds(8));
    assert!(net.nodes[a].complete);
    assert_eq!(net.nodes[a].speaker.peers()[0].name, name(b));
}

#[test]
fn the_first_batch_without_restart_is_not_held_back() {
    let mut net = Network::new();
    let (a, b, dead) = (net.node(65001), net.node(65002), net.node(65003));
    net.join(a, b);
    net.join(a, dead);
    net.kill(dead);
    net.configure(a);
    net.configure(b);
    net.announce(b, [prefix("10.2.0.0/26")]);
    net.run_until(seconds(5), "a route", |net| net.nodes[0].fib.len() == 1);
    assert!(!net.nodes[a].complete);
    net.run(seconds(60));
    assert!(net.nodes[a].complete, "the deferral time passed");
}

#[test]
fn stale_paths_behind_a_link_that_falls_are_not_kept() {
    let mut net = rack();
    net.interface(0, 0, true);
    net.kill(1);
    net.run(seconds(1));
    assert!(net.nodes[0].fib[&prefix("10.1.0.0/26")].stale);
    net.interface(0, 0, false);
    assert!(!net.nodes[0].fib.contains_key(&prefix("10.1.0.0/26")));
}
