//! Route refresh (RFC 2918) and its enhanced form (RFC 7313), in both directions.

use margay_bgp_core::wire::{AfiSafi, Capability, Message, RefreshSubtype, RouteRefresh, encode_route_refresh};
use margay_bgp_core::{FsmState, Input, RefreshDirection};
use margay_net::Cidr;

use crate::client::{Client, PEER, config, graceful_restart, withdrawal};
use crate::network::{Network, name, prefix, seconds};

const REFRESH: [Capability; 1] = [Capability::RouteRefresh];
const ENHANCED: [Capability; 2] = [Capability::RouteRefresh, Capability::EnhancedRouteRefresh];

fn refresh(subtype: RefreshSubtype) -> bytes::Bytes {
    encode_route_refresh(RouteRefresh { family: AfiSafi::IPV4_UNICAST, subtype })
}

/// What was sent, in short: BoRR, EoRR, a request, or the prefixes of an UPDATE.
fn sent(client: &mut Client) -> Vec<String> {
    let short = |message| match message {
        Message::RouteRefresh(refresh) => format!("{:?}", refresh.subtype),
        Message::Update(update) if update.end_of_rib.is_some() => "End-of-RIB".to_owned(),
        Message::Update(update) => {
            let mut prefixes: Vec<Cidr> =
                update.announced.iter().flat_map(|announced| announced.prefixes.clone()).collect();
            prefixes.sort();
            prefixes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
        other => format!("{other:?}"),
    };
    client.take_sent().into_iter().map(short).collect()
}

fn prefixes(client: &Client) -> Vec<String> {
    client.fib.keys().map(ToString::to_string).collect()
}

#[test]
fn a_request_is_answered_with_the_table_and_marked_off_where_both_can() {
    for (capabilities, answer) in [
        (REFRESH.to_vec(), vec!["10.7.0.0/26 10.8.0.0/26"]),
        (ENHANCED.to_vec(), vec!["Beginning", "10.7.0.0/26 10.8.0.0/26", "End"]),
    ] {
        let mut client = Client::new(config(|_| {}));
        let connection = client.establish(capabilities);
        client.local(&["10.7.0.0/26", "10.8.0.0/26"]);
        client.take_sent();
        client.say(connection, refresh(RefreshSubtype::Request));
        assert_eq!(sent(&mut client), answer);
        client.assert_event("ipv4 routes are sent again: the peer asked for it");
        assert_eq!((client.peer().refreshes_received, client.speaker.counters().refreshes_received), (1, 1));
        client.input(Input::Refresh { peer: PEER.into(), direction: RefreshDirection::Out });
        assert_eq!(sent(&mut client), answer, "as an operator wants it");
    }
}

#[test]
fn an_answer_to_a_peer_that_is_slow_has_everything_between_its_marks() {
    let mut client = Client::new(config(|_| {}));
    let connection = client.establish(ENHANCED.to_vec());
    let blocks: Vec<String> = (0..200).flat_map(|a| (0..250).map(move |b| format!("20.{a}.{b}.0/24"))).collect();
    client.reads = false;
    client.local(&blocks.iter().map(String::as_str).collect::<Vec<_>>());
    client.say(connection, refresh(RefreshSubtype::Request));
    // A request while another one is answered begins anew.
    while client.peer().unsent_bytes < 1 << 20 {
        client.say(connection, refresh(RefreshSubtype::Request));
    }
    client.say(connection, refresh(RefreshSubtype::Request));
    client.local(&["30.0.0.0/24"]);
    client.reads = true;
    client.input(Input::SendQueueDrained { connection: margay_bgp_core::ConnectionId(connection) });
    let sent = sent(&mut client);
    let begins = sent.iter().rposition(|message| message == "Beginning").unwrap();
    assert_eq!(sent.last().map(String::as_str), Some("End"));
    assert!(!sent[..begins].last().unwrap().contains("30.0.0.0/24"));
    let again: std::collections::BTreeSet<&str> = sent[begins..].iter().flat_map(|text| text.split(' ')).collect();
    assert!(blocks.iter().all(|block| again.contains(block.as_str())));
    assert!(again.contains("30.0.0.0/24"));
}

#[test]
fn what_the_peer_does_not_send_again_is_removed_at_the_end_and_no_sooner() {
    let mut client = Client::new(config(|_| {}));
    let connection = client.establish(ENHANCED.to_vec());
    client.announce(connection, &["10.1.0.0/26", "10.2.0.0/26", "10.3.0.0/26", "10.4.0.0/26"].map(prefix));
    client.input(Input::Refresh { peer: PEER.into(), direction: RefreshDirection::In });
    assert_eq!(sent(&mut client), ["Request"]);
    client.assert_event("asked the peer for its ipv4 routes again");
    assert_eq!(client.peer().refreshes_sent, 1);
    client.say(connection, refresh(RefreshSubtype::Beginning));
    assert!(client.waits().contains(&"the rest of its ipv4 routes, which it sends again".to_owned()));
    client.announce(connection, &[prefix("10.1.0.0/26")]);
    client.say(connection, withdrawal(&[prefix("10.2.0.0/26")]));
    client.announce(connection, &[prefix("10.5.0.0/26")]);
    assert_eq!(prefixes(&client), ["10.1.0.0/26", "10.3.0.0/26", "10.4.0.0/26", "10.5.0.0/26"]);
    assert!(client.fib.values().all(|stale| !stale), "nobody restarts");
    client.say(connection, refresh(RefreshSubtype::End));
    assert_eq!(prefixes(&client), ["10.1.0.0/26", "10.5.0.0/26"]);
    client.assert_event("the peer's ipv4 routes are refreshed: all were sent, 2 paths removed");
    assert!(client.waits().iter().all(|wait| !wait.contains("again")));
    client.say(connection, refresh(RefreshSubtype::End));
    assert_eq!(client.fib.len(), 2, "an end without a beginning means nothing");
}

#[test]
fn a_refresh_that_does_not_end_is_ended_by_a_timer() {
    let mut settings = config(|peer| peer.hold_time = seconds(0));
    settings.graceful_restart.as_mut().unwrap().stale_time = seconds(100);
    let mut client = Client::new(settings);
    let connection = client.establish(ENHANCED.to_vec());
    client.announce(connection, &["10.1.0.0/26", "10.2.0.0/26"].map(prefix));
    client.say(connection, refresh(RefreshSubtype::Beginning));
    client.announce(connection, &[prefix("10.1.0.0/26")]);
    client.pass(seconds(99));
    assert_eq!(client.fib.len(), 2);
    client.pass(seconds(2));
    assert_eq!(prefixes(&client), ["10.1.0.0/26"]);
    client.assert_event("the peer's ipv4 routes are refreshed: no End-of-RIB-Refresh in time, 1 paths removed");
    assert_eq!(client.peer().state, FsmState::Established);
}

#[test]
fn marks_of_a_peer_that_did_not_announce_them_mean_nothing() {
    let mut client = Client::new(config(|_| {}));
    let connection = client.establish(REFRESH.to_vec());
    client.announce(connection, &[prefix("10.1.0.0/26")]);
    client.say(connection, refresh(RefreshSubtype::Beginning));
    client.say(connection, refresh(RefreshSubtype::End));
    assert_eq!(client.fib.len(), 1);
}

#[test]
fn a_session_that_ends_in_a_refresh_leaves_the_rest_to_graceful_restart() {
    let mut client = Client::new(config(|_| {}));
    let capabilities = [&ENHANCED[..], &[graceful_restart(true)]].concat();
    let connection = client.establish(capabilities);
    client.announce(connection, &["10.1.0.0/26", "10.2.0.0/26"].map(prefix));
    client.say(connection, refresh(RefreshSubtype::Beginning));
    client.close(connection);
    assert_eq!(client.fib.values().filter(|stale| **stale).count(), 2);
    client.pass(seconds(61));
    assert!(client.fib.is_empty());
}

#[test]
fn a_peer_without_the_capability_is_not_asked_and_the_operator_is_told_why() {
    let mut client = Client::new(config(|_| {}));
    client.establish(vec![]);
    client.input(Input::Refresh { peer: PEER.into(), direction: RefreshDirection::In });
    assert!(sent(&mut client).is_empty());
    client.assert_event(
        "refresh not possible: the peer did not announce route refresh (RFC 2918): only a reset brings its routes again",
    );
}

#[test]
fn two_speakers_refresh_each_other_and_lose_nothing() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join(a, b);
    net.configure_all();
    net.announce(b, crate::network::many(3000));
    net.run_until(seconds(5), "all routes", |net| net.nodes[0].fib.len() == 3000);
    net.input(a, Input::Refresh { peer: name(b), direction: RefreshDirection::In });
    net.withdraw(b, [prefix("20.0.7.0/24")]);
    net.run(seconds(2));
    assert_eq!(net.nodes[a].fib.len(), 2999);
    assert_eq!(net.nodes[a].speaker.received(&name(b)).len(), 2999);
    let events = net.events_of(a, b);
    let ended = "the peer's ipv4 routes are refreshed: all were sent, 0 paths removed".to_owned();
    assert!(events.contains(&ended), "{events:#?}");
    assert_eq!(net.nodes[a].speaker.peers()[0].established_count, 1);
}
