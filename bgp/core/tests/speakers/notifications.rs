//! What of a session outlives a NOTIFICATION: the N bit and Hard Reset (RFC 8538).

use margay_bgp_core::wire::{Capability, Cease, Message, Notification, encode_notification};
use margay_bgp_core::{FsmState, Input, PeerConfig, RefreshDirection, StopKind};

use crate::client::{Client, PEER, config, graceful_restart};
use crate::network::{Network, prefix, seconds};

/// A session with one route of the peer.
fn session(capabilities: Vec<Capability>) -> (Client, u64) {
    let mut client = Client::new(config(|_| {}));
    let connection = client.establish(capabilities);
    client.announce(connection, &[prefix("10.1.0.0/26")]);
    assert_eq!(client.fib.len(), 1);
    (client, connection)
}

fn kept(client: &Client) -> bool {
    client.fib.get(&prefix("10.1.0.0/26")) == Some(&true)
}

fn codes(notifications: &[Notification]) -> Vec<(u8, u8)> {
    notifications.iter().map(|notification| (notification.code, notification.subcode)).collect()
}

#[test]
fn the_n_bit_is_announced_with_graceful_restart_and_not_without() {
    for graceful in [true, false] {
        let mut client = Client::new(config(|peer| peer.graceful_restart = graceful));
        client.connect_from("192.0.2.2");
        let Some(Message::Open(open)) = client.take_sent().into_iter().next() else { panic!("OPEN") };
        let announced = open.capabilities.iter().find_map(|capability| match capability {
            Capability::GracefulRestart(restart) => Some(restart.notification),
            _ => None,
        });
        assert_eq!(announced, graceful.then_some(true));
    }
}

#[test]
fn an_expired_hold_timer_keeps_the_routes_only_where_both_have_the_n_bit() {
    for (n_bit, is_kept) in [(true, true), (false, false)] {
        let (mut client, _) = session(vec![graceful_restart(n_bit)]);
        client.pass(seconds(91));
        assert_eq!(codes(&client.notifications()), [(4, 0)]);
        assert_eq!(kept(&client), is_kept, "N bit: {n_bit}");
        assert_eq!(client.fib.len(), usize::from(is_kept));
        // The peer's restart time is 60 s.
        client.pass(seconds(61));
        assert!(client.fib.is_empty());
    }
}

#[test]
fn received_notifications_keep_the_routes_unless_they_are_a_hard_reset() {
    let cease = |reason| Notification::cease(reason);
    for (n_bit, notification, is_kept) in [
        (true, cease(Cease::AdministrativeReset), true),
        (true, cease(Cease::AdministrativeShutdown), true),
        (true, Notification::hold_timer_expired(), true),
        (true, Notification::new(3, 1), true),
        (true, Notification::hard_reset(cease(Cease::AdministrativeReset)), false),
        (false, cease(Cease::AdministrativeReset), false),
        (false, Notification::hold_timer_expired(), false),
    ] {
        let (mut client, connection) = session(vec![graceful_restart(n_bit)]);
        client.say(connection, encode_notification(&notification));
        assert_ne!(client.peer().state, FsmState::Established);
        assert_eq!(kept(&client), is_kept, "{notification}, N bit: {n_bit}");
        assert_eq!(client.peer().restarting, is_kept);
    }
}

#[test]
fn an_error_in_a_message_keeps_the_routes_where_both_have_the_n_bit() {
    for n_bit in [true, false] {
        let (mut client, connection) = session(vec![graceful_restart(n_bit)]);
        client.say(connection, vec![0; 19]);
        assert_eq!(codes(&client.notifications()), [(1, 1)]);
        assert_eq!(kept(&client), n_bit);
    }
}

#[test]
fn what_must_end_is_a_hard_reset_with_the_n_bit_and_a_plain_cease_without() {
    let reset = |client: &mut Client| {
        client.input(Input::Reset { peer: PEER.into(), reason: Some("again".to_owned()) });
    };
    let shut = |client: &mut Client| {
        client.input(Input::Configure(config(|peer| {
            peer.admin_up = false;
            peer.description = Some("rack 7".to_owned());
        })));
    };
    let remove = |client: &mut Client| {
        let mut none = config(|_| {});
        none.peers.clear();
        client.input(Input::Configure(none));
    };
    let stop = |client: &mut Client| client.input(Input::Stop(StopKind::Administrative(Some("bye".to_owned()))));
    type Act<'a> = &'a dyn Fn(&mut Client);
    let cases: [(Act<'_>, Cease, Option<&str>); 4] = [
        (&reset, Cease::AdministrativeReset, Some("again")),
        (&shut, Cease::AdministrativeShutdown, Some("shut down by configuration (rack 7)")),
        (&remove, Cease::PeerDeconfigured, None),
        (&stop, Cease::AdministrativeShutdown, Some("bye")),
    ];
    for (act, reason, text) in cases {
        for n_bit in [true, false] {
            let (mut client, _) = session(vec![graceful_restart(n_bit)]);
            act(&mut client);
            let sent = client.notifications();
            let [notification] = &sent[..] else { panic!("one NOTIFICATION in {sent:?}") };
            let inner = notification.hard_reset_reason();
            assert_eq!(inner.is_some(), n_bit, "{notification}");
            assert_eq!(inner.as_ref().unwrap_or(notification).subcode, reason as u8, "{notification}");
            assert_eq!(notification.communication().as_deref(), text);
            assert!(!kept(&client), "{notification}");
        }
    }
}

#[test]
fn a_changed_setting_of_the_session_keeps_the_routes_of_the_same_peer_on_both_sides() {
    let change = |change: &dyn Fn(&mut PeerConfig)| {
        let mut net = Network::new();
        let (a, b) = (net.node(65001), net.node(65002));
        net.join(a, b);
        net.configure_all();
        net.announce(a, [prefix("10.1.0.0/26")]);
        net.announce(b, [prefix("10.2.0.0/26")]);
        net.run_until(seconds(5), "routes", |net| net.nodes.iter().all(|node| node.fib.len() == 1));
        net.change_peer(a, b, change);
        let mut lost = net.nodes[a].fib.is_empty() as usize;
        for _ in 0..2000 {
            net.run(std::time::Duration::from_millis(10));
            lost += net.nodes.iter().filter(|node| node.fib.is_empty()).count();
        }
        assert!(net.established(a, b));
        assert_eq!(net.nodes[a].speaker.peers()[0].established_count, 2);
        lost
    };
    assert_eq!(change(&|peer| peer.hold_time = seconds(30)), 0);
    assert_eq!(change(&|peer| peer.password = Some(margay_bgp_core::Secret::new("secret"))), 0);
    assert_ne!(change(&|peer| peer.route_reflector_client = true), 0, "another role");
}

#[test]
fn a_session_that_ended_is_not_refreshed_and_says_why() {
    let (mut client, connection) = session(vec![Capability::RouteRefresh]);
    client.close(connection);
    client.events.clear();
    client.input(Input::Refresh { peer: PEER.into(), direction: RefreshDirection::In });
    client.assert_event("refresh not possible: the session is Idle, not Established");
}
