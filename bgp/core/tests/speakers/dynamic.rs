//! Peers that are made from listen ranges.

use std::collections::BTreeSet;

use margay_bgp_core::{FsmState, Input, ListenRange, PeerConfig, SpeakerConfig};
use margay_net::Asn;

use crate::client::{Client, graceful_restart};
use crate::network::{prefix, seconds};

fn range(cidr: &str, limit: usize, asns: &[u32]) -> ListenRange {
    let mut template = PeerConfig::new("0.0.0.0".parse().unwrap(), Asn(65002));
    template.description = Some(format!("from {cidr}"));
    let asns: BTreeSet<Asn> = asns.iter().copied().map(Asn).collect();
    ListenRange { prefix: prefix(cidr), limit, asns, template }
}

fn config(ranges: &[(&str, ListenRange)]) -> SpeakerConfig {
    let mut config = SpeakerConfig::new(Asn(65001), [10, 0, 0, 1].into());
    config.listen_ranges = ranges.iter().map(|(name, range)| ((*name).into(), range.clone())).collect();
    config
}

#[test]
fn a_stranger_from_a_range_becomes_a_peer_and_is_gone_with_its_session() {
    let mut client = Client::new(config(&[("pods", range("10.0.0.0/8", 10, &[]))]));
    let connection = client.establish_from("10.1.2.3", 65002, vec![]);
    let view = client.peer_named("pods-10.1.2.3").unwrap();
    assert_eq!(view.state, FsmState::Established);
    assert!(view.dynamic);
    assert_eq!(view.description.as_deref(), Some("from 10.0.0.0/8"));
    client.announce(connection, &[prefix("20.0.0.0/24")]);
    assert_eq!(client.fib.len(), 1);
    client.close(connection);
    assert!(client.speaker.peers().is_empty());
    assert!(client.fib.is_empty());
    assert_eq!(client.speaker.poll_timeout().filter(|due| due.0 < client.now), None);
    // The same number serves the next one.
    client.establish_from("10.1.2.4", 65002, vec![]);
    assert_eq!(client.peer_named("pods-10.1.2.4").unwrap().state, FsmState::Established);
}

#[test]
fn the_longest_prefix_counts_and_a_configured_peer_comes_before_all() {
    let mut settings = config(&[
        ("wide", range("10.0.0.0/8", 10, &[])),
        ("narrow", range("10.1.0.0/16", 10, &[])),
        ("six", range("2001:db8::/32", 10, &[])),
    ]);
    let mut own = PeerConfig::new("10.1.0.7".parse().unwrap(), Asn(65002));
    own.passive = true;
    settings.peers.insert("own".into(), own);
    let mut client = Client::new(settings);
    for address in ["10.1.2.3", "10.2.2.3", "10.1.0.7"] {
        client.establish_from(address, 65002, vec![]);
    }
    client.connect_from("2001:db8::5");
    let names: Vec<String> = client.speaker.peers().iter().map(|peer| peer.name.to_string()).collect();
    assert_eq!(names, ["narrow-10.1.2.3", "own", "six-2001:db8::5", "wide-10.2.2.3"]);
    let listened: Vec<String> = client.listen.iter().map(|peer| peer.remote.to_string()).collect();
    assert_eq!(listened, ["10.1.0.7/32", "10.1.0.0/16", "2001:db8::/32", "10.0.0.0/8"]);
}

#[test]
fn beyond_the_limit_connections_are_refused_until_one_is_free() {
    let mut client = Client::new(config(&[("pods", range("10.0.0.0/8", 2, &[]))]));
    let first = client.establish_from("10.0.0.1", 65002, vec![]);
    client.establish_from("10.0.0.2", 65002, vec![]);
    client.take_sent();
    let third = client.connect_from("10.0.0.3");
    assert_eq!(client.notifications()[0].subcode, 5);
    assert_eq!(client.closed, [third]);
    client.assert_event("connection from 10.0.0.3:40000 refused: listen range 'pods' has its limit of 2 peers");
    client.close(first);
    client.establish_from("10.0.0.3", 65002, vec![]);
    assert_eq!(client.peer_named("pods-10.0.0.3").unwrap().state, FsmState::Established);
}

#[test]
fn the_as_number_is_one_of_the_range_or_that_of_the_template() {
    for (asns, accepted, refused) in [(&[][..], 65002, 65003), (&[65010, 65011], 65011, 65002)] {
        let mut client = Client::new(config(&[("pods", range("10.0.0.0/8", 10, asns))]));
        client.establish_from("10.0.0.1", accepted, vec![]);
        let view = client.peer_named("pods-10.0.0.1").unwrap();
        assert_eq!((view.state, view.asn), (FsmState::Established, Asn(accepted)));
        client.take_sent();
        client.establish_from("10.0.0.2", refused, vec![]);
        let notification = &client.notifications()[0];
        assert_eq!((notification.code, notification.subcode), (2, 2));
        assert!(client.peer_named("pods-10.0.0.2").is_none());
    }
}

#[test]
fn the_own_as_number_makes_an_internal_session() {
    let mut client = Client::new(config(&[("pods", range("10.0.0.0/8", 10, &[65001, 65002]))]));
    client.establish_from("10.0.0.1", 65001, vec![]);
    assert!(client.peer_named("pods-10.0.0.1").unwrap().ibgp);
}

#[test]
fn a_peer_of_a_range_that_restarts_is_kept_as_long_as_its_routes() {
    let mut client = Client::new(config(&[("pods", range("10.0.0.0/8", 10, &[]))]));
    let connection = client.establish_from("10.0.0.1", 65002, vec![graceful_restart(true)]);
    client.announce(connection, &[prefix("20.0.0.0/24")]);
    client.close(connection);
    client.pass(seconds(50));
    assert!(client.peer_named("pods-10.0.0.1").unwrap().restarting);
    assert_eq!(client.fib.values().filter(|stale| **stale).count(), 1);
    let again = client.establish_from("10.0.0.1", 65002, vec![graceful_restart(true)]);
    assert_eq!(client.peer_named("pods-10.0.0.1").unwrap().established_count, 2);
    client.close(again);
    client.pass(seconds(61));
    assert!(client.speaker.peers().is_empty());
    assert!(client.fib.is_empty());
}

#[test]
fn changes_of_ranges_reach_the_peers_made_from_them() {
    let one = |change: &dyn Fn(&mut ListenRange)| {
        let mut pods = range("10.0.0.0/8", 10, &[]);
        change(&mut pods);
        config(&[("pods", pods)])
    };
    let mut client = Client::new(one(&|_| {}));
    client.establish_from("10.0.0.1", 65002, vec![]);
    client.establish_from("10.0.1.1", 65002, vec![]);
    let count = |client: &Client| client.speaker.peers().iter().map(|peer| peer.established_count).collect::<Vec<_>>();
    client.input(Input::Configure(one(&|range| range.template.description = Some("new".to_owned()))));
    assert_eq!(client.peer_named("pods-10.0.0.1").unwrap().description.as_deref(), Some("new"));
    assert_eq!(count(&client), [1, 1]);
    assert!(client.speaker.peers().iter().all(|peer| peer.state == FsmState::Established));

    client.input(Input::Configure(one(&|range| range.prefix = prefix("10.0.0.0/24"))));
    let names: Vec<String> = client.speaker.peers().iter().map(|peer| peer.name.to_string()).collect();
    assert_eq!(names, ["pods-10.0.0.1"]);

    // A configured peer takes the place.
    let mut settings = one(&|_| {});
    let mut own = PeerConfig::new("10.0.0.1".parse().unwrap(), Asn(65002));
    own.passive = true;
    settings.peers.insert("own".into(), own);
    client.input(Input::Configure(settings));
    let names: Vec<String> = client.speaker.peers().iter().map(|peer| peer.name.to_string()).collect();
    assert_eq!(names, ["own"]);
}
