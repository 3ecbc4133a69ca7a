//! Prefix limits (RFC 4486), holds, and peers that don't read (RFC 9687).

use std::collections::BTreeMap;

use margay_bgp_core::{FsmState, Input, MaxPrefixes, MaxPrefixesAction, PeerConfig};
use margay_net::Family;

use crate::client::{ADDRESS, ASN, Client, PEER, config, graceful_restart};
use crate::network::{Network, many, name, prefix, seconds};

fn limit(limit: u32, action: MaxPrefixesAction) -> impl Fn(&mut PeerConfig) {
    move |peer| {
        let max = MaxPrefixes { limit, warning_percent: 80, action };
        peer.max_prefixes = BTreeMap::from([(Family::V4, max)]);
    }
}

#[test]
fn a_warning_comes_once_at_the_configured_part_and_an_excess_is_only_told_where_that_is_wanted() {
    let mut client = Client::new(config(limit(10, MaxPrefixesAction::Warn)));
    let connection = client.establish(vec![]);
    client.announce(connection, &many(7));
    assert!(client.events.is_empty());
    client.announce(connection, &many(9));
    client.announce(connection, &many(10));
    assert_eq!(client.events, ["9 ipv4 prefixes received, the limit is 10"]);
    client.announce(connection, &many(12));
    client.announce(connection, &many(13));
    assert_eq!(client.events[1..], ["12 ipv4 prefixes received, more than the limit of 10: the session stays"]);
    assert_eq!(client.peer().state, FsmState::Established);
    assert_eq!(client.peer().counts[&Family::V4].received, 13);
}

#[test]
fn an_excess_ends_the_session_with_family_and_limit_and_its_routes_go() {
    for n_bit in [true, false] {
        let mut client = Client::new(config(limit(10, MaxPrefixesAction::Hold)));
        let connection = client.establish(vec![graceful_restart(n_bit)]);
        client.announce(connection, &many(11));
        let sent = client.notifications();
        let notification = sent[0].hard_reset_reason().unwrap_or(sent[0].clone());
        assert_eq!((notification.code, notification.subcode), (6, 1));
        assert_eq!(notification.data, [0, 1, 1, 0, 0, 0, 10]);
        assert!(client.fib.is_empty());
        assert_eq!(client.peer().state, FsmState::Idle);
    }
}

#[test]
fn a_held_peer_says_why_and_is_let_go_by_a_reset_alone() {
    let mut client = Client::new(config(limit(10, MaxPrefixesAction::Hold)));
    let connection = client.establish(vec![]);
    client.announce(connection, &many(11));
    let reason = "it announced 11 ipv4 prefixes, the limit is 10";
    client.assert_event(&format!("held: {reason}"));
    assert_eq!(client.peer().last_error.as_deref(), Some(reason));
    assert_eq!(client.waits(), [format!("held: {reason}; `reset` ends the hold")]);
    client.pass(seconds(100_000));
    assert_eq!(client.peer().waits[0].until, None);
    client.take_sent();
    client.connect_from(ADDRESS);
    assert_eq!(client.notifications()[0].subcode, 5, "connection rejected");
    client.input(Input::Reset { peer: PEER.into(), reason: None });
    client.assert_event("hold ended: reset by the operator");
    client.establish(vec![]);
}

#[test]
fn a_session_comes_again_when_the_configured_time_is_over() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join(a, b);
    limit(10, MaxPrefixesAction::Restart(seconds(300)))(net.nodes[a].config.peers.get_mut(&name(b)).unwrap());
    net.configure_all();
    net.run_until(seconds(5), "established", |net| net.established(0, 1));
    net.announce(b, many(11));
    net.run(seconds(1));
    assert_ne!(net.state(a, b), FsmState::Established);
    let view = net.nodes[a].speaker.peers().remove(0);
    let until = view.waits[0].until.unwrap().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(until > seconds(300) && until < seconds(310), "{until:?}");
    net.withdraw(b, many(5));
    net.run_until(until - net.now, "nothing yet", |net| net.now >= until);
    assert_eq!(net.nodes[a].speaker.peers()[0].established_count, 1);
    net.run_until(seconds(60), "established again", |net| net.established(0, 1) && net.nodes[0].fib.len() == 6);
}

#[test]
fn a_raised_limit_ends_the_hold_and_a_lowered_one_counts_at_once() {
    let mut client = Client::new(config(limit(10, MaxPrefixesAction::Hold)));
    let connection = client.establish(vec![]);
    client.announce(connection, &many(11));
    client.input(Input::Configure(config(limit(20, MaxPrefixesAction::Hold))));
    client.assert_event("hold ended: its limits changed");
    let connection = client.establish(vec![]);
    client.announce(connection, &many(15));
    assert_eq!(client.peer().state, FsmState::Established);
    client.input(Input::Configure(config(limit(14, MaxPrefixesAction::Hold))));
    assert_eq!(client.peer().state, FsmState::Idle);
}

#[test]
fn prefixes_that_policy_rejects_count_too() {
    let mut client = Client::new(config(|peer| {
        limit(3, MaxPrefixesAction::Hold)(peer);
        peer.import =
            margay_bgp_core::ImportPolicy(margay_bgp_core::RuleSet { rules: vec![], accept_by_default: false });
    }));
    let connection = client.establish(vec![]);
    client.announce(connection, &many(4));
    client.assert_event("4 ipv4 prefixes received, more than the limit of 3: the session ends until the peer is reset");
}

#[test]
fn a_peer_that_never_reads_is_given_up_when_the_send_hold_time_is_over() {
    // The default is the greater of eight minutes and twice the hold time.
    for (hold, configured, expected) in
        [(90, None, Some(480)), (400, None, Some(800)), (90, Some(120), Some(120)), (90, Some(0), None)]
    {
        let mut client = Client::new(config(|peer| {
            peer.hold_time = seconds(hold);
            peer.send_hold_time = configured.map(seconds);
        }));
        client.reads = false;
        let connection = client.connect_from(ADDRESS);
        let open = margay_bgp_core::wire::Open::new(margay_net::Asn(ASN), 65535, [10, 0, 0, 2].into(), vec![]);
        client.say(connection, margay_bgp_core::wire::encode_open(&open));
        client.say(connection, margay_bgp_core::wire::encode_keepalive());
        let began = client.now;
        // It speaks all the while.
        while client.peer().state == FsmState::Established && client.now < began + seconds(2000) {
            client.pass(seconds(10));
            client.say(connection, margay_bgp_core::wire::encode_keepalive());
        }
        let lasted = (client.now - began).as_secs();
        match expected {
            Some(expected) => {
                assert!((expected..=expected + 40).contains(&lasted), "{lasted} s instead of {expected}");
                assert_eq!(client.notifications().last().map(|last| (last.code, last.subcode)), Some((8, 0)));
            }
            None => assert_eq!(client.peer().state, FsmState::Established),
        }
    }
}

#[test]
fn bytes_that_wait_for_their_turn_keep_the_session_up() {
    let mut client = Client::new(config(|_| {}));
    let connection = client.establish(vec![]);
    let heard = Input::Heard { connection: margay_bgp_core::ConnectionId(connection) };
    for _ in 0..10 {
        client.pass(seconds(80));
        client.input(heard.clone());
    }
    assert_eq!(client.peer().state, FsmState::Established);
    client.pass(seconds(91));
    assert_ne!(client.peer().state, FsmState::Established);
    assert_eq!(client.fib.get(&prefix("10.0.0.0/8")), None);
}
