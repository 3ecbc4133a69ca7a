//! How sessions begin and end.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use margay_bgp_core::{
    ConnectionId, FsmState, Input, Options, Output, PeerConfig, RejectReason, RouteFilter, Speaker, SpeakerConfig,
    StopKind,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use margay_net::{Asn, Family, FromFelix, LinkState, LocalRoute, LocalRouteChange, LocalRouteSource, Now};

use crate::network::{Network, name, prefix, seconds};

fn pair() -> Network {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join(a, b);
    net.configure_all();
    net
}

#[test]
fn two_speakers_that_connect_to_each_other_at_once_end_with_one_session() {
    let mut net = pair();
    net.run_until(seconds(5), "established", |net| net.established(0, 1));
    net.run(seconds(300));
    for (node, other) in [(0, 1), (1, 0)] {
        let view = &net.nodes[node].speaker.peers()[0];
        assert_eq!(view.state, FsmState::Established);
        assert_eq!(view.established_count, 1, "{:#?}", net.events_of(node, other));
        assert_eq!((view.hold_time, view.keepalive), (Some(90), Some(30)));
    }
    let collisions = [(0, 1), (1, 0)].map(|(node, other)| {
        net.events_of(node, other)
            .iter()
            .filter(|event| event.contains("sent NOTIFICATION: Cease: Connection Collision"))
            .count()
    });
    assert!(collisions[0] + collisions[1] >= 1, "{collisions:?}");
}

#[test]
fn the_connection_of_the_higher_router_id_survives_a_collision() {
    let mut net = pair();
    net.run_until(seconds(5), "established", |net| net.established(0, 1));
    net.run(seconds(1));
    // Node 1 has the higher router id, so that its own connection goes to port 179 of node 0.
    let view = &net.nodes[0].speaker.peers()[0];
    assert_eq!(view.local_address.unwrap().port(), 179);
    assert_eq!(net.nodes[1].speaker.peers()[0].remote_address.unwrap().port(), 179);
}

#[test]
fn a_passive_peer_waits_and_two_passive_ones_wait_for_ever() {
    for passive in [[true, false], [false, true], [true, true]] {
        let mut net = Network::new();
        let (a, b) = (net.node(65001), net.node(65002));
        net.join(a, b);
        net.nodes[a].config.peers.get_mut(&name(b)).unwrap().passive = passive[0];
        net.nodes[b].config.peers.get_mut(&name(a)).unwrap().passive = passive[1];
        net.configure_all();
        net.run(seconds(60));
        assert_eq!(net.established(a, b), passive != [true, true]);
        if passive == [true, true] {
            assert_eq!(net.state(a, b), FsmState::Active);
        }
    }
}

#[test]
fn the_first_attempts_follow_quickly_when_nobody_listens() {
    let mut net = pair_with_dead_peer();
    net.run(seconds(4));
    net.restart(1, false);
    net.run_until(seconds(6), "established soon after the peer is there", |net| net.established(0, 1));
}

fn pair_with_dead_peer() -> Network {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join(a, b);
    net.change_peer(b, a, |peer| peer.passive = true);
    net.kill(b);
    net.configure(a);
    net
}

#[test]
fn a_silent_peer_is_given_up_when_the_hold_time_is_over() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    let link = net.join_with(a, b, |peer| {
        peer.hold_time = seconds(9);
        peer.graceful_restart = false;
    });
    net.configure_all();
    net.announce(b, [prefix("10.1.0.0/26")]);
    net.run_until(seconds(5), "a route", |net| net.nodes[0].fib.len() == 1);
    net.run(seconds(60));
    assert!(net.established(a, b), "keepalives keep the session up");
    net.cut(link);
    net.run(seconds(5));
    assert_eq!(net.state(a, b), FsmState::Established);
    net.run(seconds(5));
    assert_ne!(net.state(a, b), FsmState::Established);
    assert!(net.nodes[a].fib.is_empty());
    assert!(net.events_of(a, b).contains(&"sent NOTIFICATION: Hold Timer Expired (4/0)".to_owned()));
    net.mend(link);
    net.run_until(seconds(60), "the session is back", |net| net.established(0, 1) && net.nodes[0].fib.len() == 1);
}

#[test]
fn a_hold_time_of_zero_never_expires() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    let link = net.join_with(a, b, |peer| peer.hold_time = Duration::ZERO);
    net.configure_all();
    net.run_until(seconds(5), "established", |net| net.established(0, 1));
    net.run(seconds(5));
    net.cut(link);
    net.run(seconds(10_000));
    assert!(net.established(a, b));
}

#[test]
fn a_wrong_as_number_is_said_on_both_sides() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join(a, b);
    net.nodes[a].config.peers.get_mut(&name(b)).unwrap().asn = Asn(65009);
    net.configure_all();
    net.run(seconds(10));
    assert_ne!(net.state(a, b), FsmState::Established);
    let error = net.nodes[a].speaker.peers()[0].last_error.clone().unwrap();
    assert_eq!(error, "the peer's AS number is 65002, 65009 is configured");
    let error = net.nodes[b].speaker.peers()[0].last_error.clone().unwrap();
    assert!(error.starts_with("received NOTIFICATION: OPEN Message Error: Bad Peer AS (2/2)"), "{error}");
    net.change_peer(a, b, |peer| peer.asn = Asn(65002));
    net.run_until(seconds(60), "established once corrected", |net| net.established(0, 1));
}

#[test]
fn an_administrative_stop_reaches_the_peer_in_words() {
    let mut net = pair();
    net.run_until(seconds(5), "established", |net| net.established(0, 1));
    net.announce(1, [prefix("10.1.0.0/26")]);
    net.run(seconds(1));
    assert_eq!(net.nodes[0].fib.len(), 1);
    net.stop(1, StopKind::Administrative(Some("maintenance".to_owned())));
    net.run(seconds(1));
    assert_ne!(net.state(0, 1), FsmState::Established);
    assert!(net.nodes[0].fib.is_empty(), "routes go at once");
    let said = "received NOTIFICATION: Cease: Hard Reset (6/9) because of Cease: Administrative Shutdown (6/2): \
                \"maintenance\""
        .to_owned();
    assert!(net.events_of(0, 1).contains(&said), "{:#?}", net.events_of(0, 1));
    assert_eq!(net.nodes[0].speaker.peers()[0].shutdown_message.as_deref(), Some("maintenance"));
}

#[test]
fn a_reset_of_one_peer_leaves_the_others_alone() {
    let mut net = Network::new();
    let (hub, a, b) = (net.node(65000), net.node(65001), net.node(65002));
    net.join(hub, a);
    net.join(hub, b);
    net.configure_all();
    net.run_until(seconds(5), "established", |net| net.all_established());
    net.input(hub, Input::Reset { peer: name(a), reason: Some("try again".to_owned()) });
    net.run_until(seconds(30), "established again", |net| {
        net.all_established() && net.nodes[0].speaker.peers()[0].established_count == 2
    });
    assert_eq!(net.nodes[hub].speaker.peers()[1].established_count, 1);
}

#[test]
fn configuration_is_applied_by_difference() {
    let mut net = Network::new();
    let (hub, a, b) = (net.node(65000), net.node(65001), net.node(65002));
    net.join(hub, a);
    net.join(hub, b);
    net.configure_all();
    net.run_until(seconds(5), "established", |net| net.all_established());
    let counts =
        |net: &Network| net.nodes[0].speaker.peers().iter().map(|peer| peer.established_count).collect::<Vec<_>>();
    net.configure(hub);
    net.change_peer(hub, a, |peer| peer.description = Some("a rack".to_owned()));
    net.run(seconds(10));
    assert_eq!(counts(&net), [1, 1]);
    net.change_peer(hub, a, |peer| peer.hold_time = seconds(30));
    net.run_until(seconds(30), "established again", |net| net.all_established());
    net.run(seconds(10));
    assert_eq!(counts(&net), [2, 1]);
    assert_eq!(net.nodes[hub].speaker.peers()[0].hold_time, Some(30));
    net.change_peer(hub, b, |peer| peer.admin_up = false);
    net.run(seconds(60));
    assert_eq!(net.state(hub, b), FsmState::Idle);
    assert_ne!(net.state(b, hub), FsmState::Established);
    net.nodes[hub].config.peers.remove(&name(b));
    net.configure(hub);
    assert_eq!(net.nodes[hub].speaker.peers().len(), 1);
    assert!(net.established(hub, a));
}

#[test]
fn a_bad_configuration_is_refused_and_the_good_one_stays() {
    let mut net = pair();
    net.run_until(seconds(5), "established", |net| net.established(0, 1));
    let good = net.nodes[0].config.clone();
    net.nodes[0].config.peers.get_mut(&name(1)).unwrap().hold_time = seconds(2);
    net.configure(0);
    assert!(net.nodes[0].events.last().unwrap().1.to_string().contains("a hold time of 2 s is not allowed"));
    net.nodes[0].config = good;
    net.run(seconds(1));
    assert!(net.established(0, 1));
}

#[test]
fn a_session_falls_with_its_interface_and_comes_back_with_it() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    let link = net.join(a, b);
    net.configure_all();
    net.announce(b, [prefix("10.1.0.0/26")]);
    net.interface(a, link, true);
    net.run_until(seconds(5), "a route", |net| net.nodes[0].fib.len() == 1);
    net.cut(link);
    net.interface(a, link, false);
    assert_ne!(net.state(a, b), FsmState::Established);
    assert!(net.nodes[a].fib.is_empty(), "the link is gone, so that nothing is kept for graceful restart");
    net.run(seconds(100));
    net.mend(link);
    net.run(Duration::from_millis(1));
    net.interface(a, link, true);
    net.run_until(Duration::from_millis(500), "back at once", |net| {
        net.state(0, 1) == FsmState::Established && net.nodes[0].fib.len() == 1
    });
}

#[test]
fn a_session_over_a_point_to_point_link_falls_with_its_interface_and_no_other_does() {
    let mut net = Network::new();
    let (a, b, c) = (net.node(65001), net.node(65002), net.node(65003));
    // One address of the node on both links, the peer's own as the prefix of each; `multihop` says nothing of the link.
    net.join_at(a, b, "10.100.1.1", "10.101.1.1");
    net.join_at(a, c, "10.100.1.1", "10.101.1.2");
    for other in [b, c] {
        net.change_peer(a, other, |peer| peer.multihop = true);
    }
    net.configure_all();
    let link = |net: &mut Network, interface: &str, peer: &str, running| {
        let peer = format!("{peer}/32").parse().expect("a prefix");
        let addresses = vec![("10.100.1.1".parse().expect("an address"), peer)];
        let state = LinkState { interface: interface.to_owned(), running, addresses };
        net.input(0, Input::Felix(FromFelix::Link(state)));
    };
    link(&mut net, "uplink1", "10.101.1.1", true);
    link(&mut net, "uplink2", "10.101.1.2", true);
    net.run_until(seconds(5), "both sessions", |net| net.established(0, 1) && net.established(0, 2));
    net.cut(0);
    link(&mut net, "uplink1", "10.101.1.1", false);
    assert_ne!(net.state(a, b), FsmState::Established);
    assert_eq!(net.state(a, c), FsmState::Established);
}

/// A speaker with one peer, driven by hand.
struct Bench {
    speaker: Speaker,
    now: Duration,
}

impl Bench {
    fn new() -> Bench {
        Bench::with("10.0.0.1", true)
    }

    fn with(router_id: &str, passive: bool) -> Bench {
        let now = Now::at(Duration::ZERO);
        let mut speaker = Speaker::new(Options { seed: 1, restarting: false }, now);
        let mut config = SpeakerConfig::new(Asn(65001), router_id.parse().unwrap());
        let mut peer = PeerConfig::new("192.0.2.2".parse().unwrap(), Asn(65002));
        peer.passive = passive;
        peer.families = BTreeSet::from([Family::V4]);
        config.peers.insert(name(1), peer);
        speaker.handle_input(Input::Configure(config), now);
        Bench { speaker, now: Duration::ZERO }
    }

    /// Answers the attempt to connect and returns its number.
    fn connect(&mut self) -> u64 {
        let mut asked = None;
        while let Some(output) = self.speaker.poll_output() {
            if let Output::Connect { connection, .. } = output {
                asked = Some(connection);
            }
        }
        let connection = asked.expect("an attempt to connect");
        let (local, remote) = ("192.0.2.1:50000".parse().unwrap(), "192.0.2.2:179".parse().unwrap());
        self.speaker.handle_input(Input::Connected { connection, local, remote }, Now::at(self.now));
        connection.0
    }

    /// Returns the connections that were closed.
    fn closed(&mut self) -> Vec<u64> {
        let outputs = std::iter::from_fn(|| self.speaker.poll_output());
        let closed = outputs.filter_map(|output| match output {
            Output::Close { connection } => Some(connection.0),
            _ => None,
        });
        closed.collect()
    }

    fn accept(&mut self, connection: u64, remote: &str) {
        let (local, remote) = ("192.0.2.1:179".parse().unwrap(), remote.parse().unwrap());
        let connection = ConnectionId(connection);
        self.speaker.handle_input(Input::Accepted { connection, local, remote }, Now::at(self.now));
    }

    fn receive(&mut self, connection: u64, bytes: &[u8]) {
        let (connection, bytes) = (ConnectionId(connection), Bytes::copy_from_slice(bytes));
        self.speaker.handle_input(Input::Received { connection, bytes }, Now::at(self.now));
    }

    /// Returns the type of each message sent, with code and subcode of a NOTIFICATION, and 0 for the end.
    fn sent(&mut self) -> Vec<(u8, u8, u8)> {
        let mut sent = Vec::new();
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Send { bytes, .. } if bytes[18] == 3 => sent.push((3, bytes[19], bytes[20])),
                Output::Send { bytes, .. } => sent.push((bytes[18], 0, 0)),
                Output::Close { .. } => sent.push((0, 0, 0)),
                _ => {}
            }
        }
        sent
    }
}

const END: (u8, u8, u8) = (0, 0, 0);

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&(19 + body.len() as u16).to_be_bytes());
    message.push(kind);
    message.extend_from_slice(body);
    message
}

fn open(asn: u16, hold_time: u16, version: u8) -> Vec<u8> {
    let mut body = vec![version];
    body.extend_from_slice(&asn.to_be_bytes());
    body.extend_from_slice(&hold_time.to_be_bytes());
    body.extend_from_slice(&[10, 0, 0, 2, 0]);
    message(1, &body)
}

#[test]
fn errors_of_messages_are_answered_with_the_codes_of_the_standard() {
    let mut marker = message(4, &[]);
    marker[0] = 0;
    let cases: [(&str, Vec<u8>, (u8, u8)); 9] = [
        ("a bad marker", marker, (1, 1)),
        ("a wrong length", message(4, &[0]), (1, 2)),
        ("an unknown type", message(9, &[]), (1, 3)),
        ("a wrong version", open(65002, 90, 3), (2, 1)),
        ("a wrong AS", open(65003, 90, 4), (2, 2)),
        ("a hold time of one second", open(65002, 1, 4), (2, 6)),
        ("a hold time of two seconds", open(65002, 2, 4), (2, 6)),
        ("KEEPALIVE before OPEN", message(4, &[]), (5, 1)),
        ("UPDATE before OPEN", message(2, &[0, 0, 0, 0]), (5, 1)),
    ];
    for (what, bytes, (code, subcode)) in cases {
        let mut bench = Bench::new();
        bench.sent();
        bench.accept(1, "192.0.2.2:40000");
        assert_eq!(bench.sent(), [(1, 0, 0)], "{what}");
        bench.receive(1, &bytes);
        assert_eq!(bench.sent(), [(3, code, subcode), END], "{what}");
    }
}

#[test]
fn of_two_connections_the_one_of_the_higher_router_id_is_kept_in_whatever_order_opens_come() {
    // The peer's router id is 10.0.0.2.
    for (router_id, outbound_wins) in [("10.0.0.9", true), ("10.0.0.1", false)] {
        for outbound_first in [true, false] {
            let mut bench = Bench::with(router_id, false);
            let outbound = bench.connect();
            bench.accept(1, "192.0.2.2:40000");
            let order = if outbound_first { [outbound, 1] } else { [1, outbound] };
            bench.receive(order[0], &open(65002, 90, 4));
            assert_eq!(bench.closed(), [0; 0], "one OPEN decides nothing");
            bench.receive(order[1], &open(65002, 90, 4));
            let (winner, loser) = if outbound_wins { (outbound, 1) } else { (1, outbound) };
            assert_eq!(bench.closed(), [loser], "{router_id}, outbound first: {outbound_first}");
            bench.receive(winner, &message(4, &[]));
            let view = &bench.speaker.peers()[0];
            assert_eq!(view.state, FsmState::Established);
            assert_eq!(view.remote_address.unwrap().port(), if outbound_wins { 179 } else { 40000 });
        }
    }
}

#[test]
fn equal_router_ids_are_told_apart_by_the_as_number() {
    let mut bench = Bench::with("10.0.0.2", false);
    let outbound = bench.connect();
    bench.accept(1, "192.0.2.2:40000");
    bench.receive(outbound, &open(65002, 90, 4));
    bench.receive(1, &open(65002, 90, 4));
    assert_eq!(bench.closed(), [outbound], "the peer's AS number 65002 is higher (RFC 6286)");
}

#[test]
fn a_connection_that_becomes_the_session_ends_the_attempt_and_the_other_connection() {
    for other_is_connected in [false, true] {
        let mut bench = Bench::with("10.0.0.1", false);
        let outbound = if other_is_connected { Some(bench.connect()) } else { None };
        bench.accept(1, "192.0.2.2:40000");
        bench.receive(1, &[open(65002, 90, 4), message(4, &[])].concat());
        assert_eq!(bench.speaker.peers()[0].state, FsmState::Established);
        let closed = bench.closed();
        assert_eq!(closed, [outbound.unwrap_or(2)]);
    }
}

#[test]
fn unexpected_messages_later_on_have_the_subcode_of_the_state() {
    let mut bench = Bench::new();
    bench.sent();
    bench.accept(1, "192.0.2.2:40000");
    bench.receive(1, &open(65002, 90, 4));
    assert_eq!(bench.sent(), [(1, 0, 0), (4, 0, 0)]);
    bench.receive(1, &message(2, &[0, 0, 0, 0]));
    assert_eq!(bench.sent(), [(3, 5, 2), END]);
    bench.accept(3, "192.0.2.2:40001");
    bench.receive(3, &[open(65002, 90, 4), message(4, &[])].concat());
    assert_eq!(bench.speaker.peers()[0].state, FsmState::Established);
    bench.sent();
    bench.receive(3, &open(65002, 90, 4));
    assert_eq!(bench.sent(), [(3, 5, 3), END]);
}

#[test]
fn messages_may_be_cut_anywhere() {
    let mut bench = Bench::new();
    bench.accept(1, "192.0.2.2:40000");
    for byte in [open(65002, 90, 4), message(4, &[]), message(2, &[0, 0, 0, 0])].concat() {
        bench.receive(1, &[byte]);
    }
    let view = &bench.speaker.peers()[0];
    assert_eq!(view.state, FsmState::Established);
    assert_eq!((view.messages_received, view.updates_received), (3, 1));
}

#[test]
fn a_stranger_is_turned_away() {
    let mut bench = Bench::new();
    bench.accept(1, "192.0.2.77:40000");
    assert_eq!(bench.sent(), [(3, 6, 5), END]);
    bench.receive(1, &open(65002, 90, 4));
    assert_eq!(bench.sent(), []);
}

#[test]
fn the_peer_that_connects_again_before_it_sent_open_is_served_on_the_new_connection() {
    let mut bench = Bench::new();
    bench.accept(1, "192.0.2.2:40000");
    bench.accept(3, "192.0.2.2:40001");
    bench.receive(3, &[open(65002, 90, 4), message(4, &[])].concat());
    assert_eq!(bench.speaker.peers()[0].state, FsmState::Established);
    assert_eq!(bench.speaker.peers()[0].remote_address.unwrap().port(), 40001);
    bench.receive(1, &open(65002, 90, 4));
    assert_eq!(bench.speaker.peers()[0].state, FsmState::Established);
}

#[test]
fn an_established_session_wins_over_a_new_connection_without_graceful_restart() {
    let mut bench = Bench::new();
    bench.accept(1, "192.0.2.2:40000");
    bench.receive(1, &[open(65002, 90, 4), message(4, &[])].concat());
    bench.now = seconds(60);
    bench.accept(3, "192.0.2.2:40001");
    bench.sent();
    bench.receive(3, &open(65002, 90, 4));
    assert_eq!(bench.sent(), [(3, 6, 7), END]);
    assert_eq!(bench.speaker.peers()[0].remote_address.unwrap().port(), 40000);
}

/// Returns a bench with an established session, whose peer is 192.0.2.2.
fn established() -> Bench {
    let mut bench = Bench::new();
    bench.accept(1, "192.0.2.2:40000");
    bench.receive(1, &[open(65002, 90, 4), message(4, &[])].concat());
    bench.sent();
    bench
}

/// An UPDATE that announces 10.1.0.0/24 with the given ORIGIN and next hop.
fn update(origin: u8, next_hop: [u8; 4]) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, origin, 0x40, 2, 4, 2, 1];
    attributes.extend_from_slice(&65002u16.to_be_bytes());
    attributes.extend_from_slice(&[0x40, 3, 4]);
    attributes.extend_from_slice(&next_hop);
    let mut body = vec![0, 0, 0, attributes.len() as u8];
    body.extend_from_slice(&attributes);
    body.extend_from_slice(&[24, 10, 1, 0]);
    message(2, &body)
}

#[test]
fn a_malformed_attribute_takes_the_routes_and_leaves_the_session() {
    let mut bench = established();
    bench.receive(1, &update(0, [192, 0, 2, 2]));
    assert_eq!(bench.speaker.received(&name(1)).len(), 1);
    bench.receive(1, &update(77, [192, 0, 2, 2]));
    assert_eq!(bench.speaker.received(&name(1)).len(), 0, "treated as withdraw (RFC 7606)");
    assert_eq!(bench.speaker.peers()[0].state, FsmState::Established);
    assert_eq!(bench.speaker.counters().malformed_updates, 1);
    let told = std::iter::from_fn(|| bench.speaker.poll_output()).any(|output| match output {
        Output::Event(event) => event.kind.to_string().starts_with("malformed UPDATE: ORIGIN"),
        _ => false,
    });
    assert!(told);
}

#[test]
fn a_next_hop_that_is_this_node_is_not_used() {
    let mut bench = established();
    bench.receive(1, &update(0, [192, 0, 2, 1]));
    assert_eq!(bench.speaker.received(&name(1))[0].paths[0].rejected, Some(RejectReason::NextHopIsSelf));
    assert_eq!(bench.speaker.routes(&RouteFilter::default())[0].next_hops.len(), 0);
}

#[test]
fn a_route_refresh_brings_the_table_again() {
    let mut bench = established();
    let route = LocalRoute { prefix: prefix("10.7.0.0/26"), source: LocalRouteSource::Block };
    let local = FromFelix::Local(vec![LocalRouteChange::Announce(route)]);
    bench.speaker.handle_input(Input::Felix(local), Now::at(bench.now));
    assert_eq!(bench.sent(), [(2, 0, 0)]);
    bench.receive(1, &message(5, &[0, 1, 0, 1]));
    assert_eq!(bench.sent(), [(2, 0, 0)]);
    bench.receive(1, &message(5, &[0, 2, 0, 1]));
    assert_eq!(bench.sent(), [], "the family isn't negotiated");
}

#[test]
fn garbage_ends_a_session_at_worst() {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut bench = Bench::new();
    let good = [open(65002, 90, 4), message(4, &[]), update(0, [192, 0, 2, 2]), message(5, &[0, 1, 0, 1])].concat();
    for round in 0..2000 {
        let connection = 1 + 2 * round;
        bench.accept(connection, "192.0.2.2:40000");
        let mut bytes = good.clone();
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rng.random_range(1..=rest.len()));
            bench.receive(connection, chunk);
            rest = after;
        }
        bench.sent();
        let closed = Input::Closed { connection: ConnectionId(connection), reason: "closed".to_owned() };
        bench.speaker.handle_input(closed, Now::at(bench.now));
        bench.now += seconds(1);
        bench.speaker.handle_timeout(Now::at(bench.now));
    }
    let last = 5001;
    bench.accept(last, "192.0.2.2:40000");
    bench.receive(last, &good);
    assert_eq!(bench.speaker.peers()[0].state, FsmState::Established);
    assert_eq!(bench.speaker.received(&name(1)).len(), 1);
}
