//! Nodes and sessions that go out of service.

use margay_bgp_core::{Drain, Input};

use crate::network::{Network, name, prefix, seconds};

fn pair() -> Network {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join(a, b);
    net.configure_all();
    net.announce(a, [prefix("10.1.0.0/26")]);
    net.announce(b, [prefix("10.2.0.0/26")]);
    let whole = |net: &Network| net.nodes.iter().all(|node| node.complete && node.fib.len() == 1);
    net.run_until(seconds(5), "routes", whole);
    net
}

fn drain(net: &mut Network, drain: Option<u64>) {
    net.nodes[0].config.drain = drain.map(|after| Drain { withdraw_after: seconds(after), began: None });
    net.configure(0);
}

#[test]
fn a_drained_node_withdraws_its_routes_when_the_time_is_over_and_brings_them_back_afterwards() {
    let mut net = pair();
    drain(&mut net, Some(30));
    assert!(net.nodes[0].speaker.peers()[0].draining);
    let waits: Vec<String> = net.nodes[0].speaker.waits().into_iter().map(|wait| wait.what).collect();
    assert_eq!(waits, ["drained: all routes are withdrawn at the end of this time; `undrain` ends it"]);
    net.run(seconds(29));
    assert_eq!(net.nodes[1].fib.len(), 1);
    net.run(seconds(2));
    assert!(net.nodes[1].fib.is_empty());
    assert_eq!(net.nodes[0].fib.len(), 1, "it still reaches the others");
    assert!(net.established(0, 1));
    // A session made meanwhile is told nothing either.
    net.input(0, Input::Reset { peer: name(1), reason: None });
    net.run_until(seconds(30), "established", |net| net.nodes[1].speaker.peers()[0].established_count == 2);
    net.run(seconds(2));
    assert!(net.nodes[1].fib.is_empty());
    drain(&mut net, None);
    net.run(seconds(1));
    assert_eq!(net.nodes[1].fib.len(), 1);
    assert!(!net.nodes[0].speaker.peers()[0].draining);
    let events: Vec<String> = net.nodes[0].events.iter().map(|(_, kind)| kind.to_string()).collect();
    for wanted in
        ["drain: routes are announced with GRACEFUL_SHUTDOWN", "drain: all routes are withdrawn", "drain: ended"]
    {
        assert!(events.iter().any(|event| event == wanted), "{events:#?}");
    }
}

#[test]
fn a_drain_that_is_ended_in_time_withdraws_nothing() {
    let mut net = pair();
    drain(&mut net, Some(30));
    net.run(seconds(20));
    // Given again it goes on, and a new time counts from its beginning.
    drain(&mut net, Some(25));
    net.run(seconds(4));
    assert_eq!(net.nodes[1].fib.len(), 1);
    drain(&mut net, None);
    net.run(seconds(100));
    assert_eq!(net.nodes[1].fib.len(), 1);
}

#[test]
fn one_session_alone_is_drained_and_stays_up() {
    let mut net = pair();
    net.change_peer(0, 1, |peer| peer.graceful_shutdown = true);
    net.run(seconds(1));
    let view = net.nodes[0].speaker.peers().remove(0);
    assert!(view.draining);
    assert_eq!(view.established_count, 1);
    let said = "drain: routes are announced with GRACEFUL_SHUTDOWN".to_owned();
    assert!(net.events_of(0, 1).contains(&said));
    assert_eq!(net.nodes[1].fib.len(), 1);
}

#[test]
fn a_drain_that_began_before_the_speaker_goes_on_where_it_was() {
    for (ago, told) in [(20, true), (100, false)] {
        let mut net = Network::new();
        let (a, b) = (net.node(65001), net.node(65002));
        net.join(a, b);
        let began = Some(margay_net::Now::at(net.now).wall - seconds(ago));
        net.nodes[0].config.drain = Some(Drain { withdraw_after: seconds(60), began });
        net.configure_all();
        net.announce(a, [prefix("10.1.0.0/26")]);
        net.announce(b, [prefix("10.2.0.0/26")]);
        net.run_until(seconds(5), "a session", |net| net.established(0, 1));
        net.run(seconds(10));
        assert_eq!(net.nodes[1].fib.len(), usize::from(told), "{ago} s ago");
        let view = net.nodes[0].speaker.drain().unwrap();
        assert_eq!(Some(view.began), began);
        assert_eq!(view.withdraws, told.then(|| view.began + seconds(60)));
        net.run(seconds(60));
        assert!(net.nodes[1].fib.is_empty());
    }
}
