//! Everything that is waited for can be seen, with its end.

use std::time::{Duration, SystemTime};

use margay_bgp_core::wire::{Cease, Notification, encode_keepalive, encode_notification};
use margay_bgp_core::{FsmState, PeerConfig};

use crate::client::{ADDRESS, ASN, Client, config, graceful_restart, open};
use crate::network::{Network, prefix, seconds};

/// The first wait of the peer, and how long it lasts from the present on.
fn first(client: &Client) -> (String, Option<Duration>) {
    let wait = client.peer().waits.remove(0);
    let now = SystemTime::UNIX_EPOCH + client.now;
    (wait.what, wait.until.map(|until| until.duration_since(now).unwrap()))
}

#[test]
fn each_step_to_a_session_says_what_it_waits_for() {
    let mut client = Client::new(config(|_| {}));
    client.pass(seconds(25));
    assert_eq!(first(&client), ("the peer's connection (we are passive)".to_owned(), None));
    let connection = client.connect_from(ADDRESS);
    assert_eq!(first(&client), ("the peer's OPEN".to_owned(), Some(seconds(60))));
    client.say(connection, open(ASN, vec![]));
    assert_eq!(first(&client), ("the peer's KEEPALIVE".to_owned(), Some(seconds(90))));
    client.say(connection, encode_keepalive());
    assert_eq!(client.peer().state, FsmState::Established);
    client.say(connection, encode_keepalive());
    assert_eq!(client.peer().waits, []);
    client.close(connection);
    let (what, until) = first(&client);
    assert_eq!(what, "the next attempt (back-off); `reset` starts it at once");
    assert!(until.unwrap() <= seconds(1));
}

#[test]
fn attempts_that_fail_say_why_and_when_the_next_one_is() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join(a, b);
    net.kill(b);
    net.configure(a);
    net.run(seconds(2));
    let view = net.nodes[a].speaker.peers().remove(0);
    assert_eq!(view.last_error.as_deref(), Some("connection refused"));
    assert!(view.last_error_at.is_some());
    assert_eq!(view.waits[0].what, "the next attempt to connect (back-off), or the peer's connection");
    assert!(view.waits[0].until.is_some());
}

#[test]
fn stale_routes_and_full_queues_are_waits_with_an_end() {
    let mut client = Client::new(config(|_| {}));
    client.pass(seconds(25));
    let connection = client.establish(vec![graceful_restart(true)]);
    client.announce(connection, &[prefix("10.1.0.0/26")]);
    client.reads = false;
    client.local(&["10.7.0.0/26"]);
    let waits = client.peer().waits;
    assert!(waits[0].what.starts_with("the peer takes what is sent ("), "{waits:?}");
    assert_eq!(waits[0].until.unwrap(), SystemTime::UNIX_EPOCH + seconds(25 + 480));
    client.close(connection);
    let waits = client.peer().waits;
    assert_eq!(waits[1].what, "ipv4 routes are kept as stale, waiting for a new session after the restart");
    assert_eq!(waits[1].until.unwrap(), SystemTime::UNIX_EPOCH + seconds(25 + 60));
    client.establish(vec![graceful_restart(true)]);
    let waits = client.peer().waits;
    assert_eq!(waits[0].what, "ipv4 routes are kept as stale, waiting for End-of-RIB after the restart");
}

#[test]
fn the_deferral_names_the_end_of_rib_that_is_missing_and_no_family_that_is_not_there() {
    let mut client = Client::starting(
        config(|peer: &mut PeerConfig| peer.families = margay_net::Family::ALL.into_iter().collect()),
        true,
    );
    client.local(&[]);
    let connection = client.connect_from(ADDRESS);
    client.say(connection, open(ASN, vec![graceful_restart(true)]));
    client.say(connection, encode_keepalive());
    // The peer has IPv4 alone.
    let wait = client.speaker.waits().remove(0);
    assert_eq!(wait.what, "deferred: waiting for End-of-RIB of peer ipv4");
    assert_eq!(wait.until, Some(SystemTime::UNIX_EPOCH + seconds(60)));
    assert!(client.waits().contains(&wait.what));
    client.say(connection, margay_bgp_core::wire::encode_end_of_rib(margay_net::Family::V4));
    assert_eq!(client.speaker.waits(), []);
    assert!(client.speaker.is_converged());
}

#[test]
fn the_deferral_is_bounded_where_end_of_rib_never_comes() {
    let mut client = Client::starting(config(|_| {}), true);
    client.local(&[]);
    let connection = client.connect_from(ADDRESS);
    client.say(connection, open(ASN, vec![graceful_restart(true)]));
    client.say(connection, encode_keepalive());
    client.pass(seconds(59));
    assert!(!client.speaker.is_converged());
    client.pass(seconds(2));
    assert!(client.speaker.is_converged());
    client.assert_event("route selection starts: the deferral time passed");
}

#[test]
fn a_peer_that_does_not_connect_defers_for_twenty_seconds_and_a_shut_one_not_at_all() {
    let mut client = Client::starting(config(|_| {}), true);
    client.local(&[]);
    client.pass(seconds(19));
    assert_eq!(client.speaker.waits()[0].what, "deferred: waiting for a session with peer");
    client.pass(seconds(2));
    assert!(client.speaker.is_converged());
    client.assert_event("route selection starts: all peers that are there sent their routes; not there: peer");
    let mut client = Client::starting(config(|peer| peer.admin_up = false), true);
    assert_eq!(client.speaker.waits()[0].what, "deferred: waiting for this node's own routes");
    client.local(&[]);
    assert!(client.speaker.is_converged());
}

#[test]
fn the_last_error_and_the_words_of_the_peers_operator_stay_to_be_seen() {
    let mut client = Client::new(config(|_| {}));
    let connection = client.establish(vec![graceful_restart(true)]);
    assert!(
        client
            .peer()
            .capabilities
            .contains(&"graceful restart (60 s, notifications too, ipv4 unicast preserved)".to_owned())
    );
    client.pass(seconds(10));
    let shutdown = Notification::cease_with_communication(Cease::AdministrativeShutdown, "new optics");
    client.say(connection, encode_notification(&shutdown));
    let view = client.peer();
    assert_eq!(view.shutdown_message.as_deref(), Some("new optics"));
    assert!(view.last_error.unwrap().contains("new optics"));
    assert_eq!(view.last_error_at, Some(SystemTime::UNIX_EPOCH + seconds(10)));
    client.establish(vec![]);
    assert_eq!(client.peer().shutdown_message, None);
    assert!(client.peer().last_error.is_some(), "why it last wasn't up");
}

#[test]
fn families_that_do_not_meet_are_named_on_both_sides() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join(a, b);
    let peer = net.nodes[a].config.peers.values_mut().next().unwrap();
    peer.families = [margay_net::Family::V6].into();
    net.configure_all();
    net.run(seconds(5));
    let error = |node: usize| net.nodes[node].speaker.peers()[0].last_error.clone().unwrap();
    let words = [
        "no address family in common: we offer ipv",
        "received NOTIFICATION: OPEN Message Error: Unsupported Capability (2/7)",
    ];
    for error in [error(a), error(b)] {
        assert!(words.iter().any(|words| error.starts_with(words)), "{error}");
    }
    assert!(net.events_of(a, b).iter().any(|event| event.contains("we offer ipv6, the peer ipv4")));
}
