//! Malformed messages that have taken routers down, in every state of a session: the right answer, and never more than
//! that one session.

use bytes::Bytes;
use margay_bgp_core::wire::{AfiSafi, Capability, Notification, encode_keepalive};
use margay_bgp_core::{FsmState, PeerConfig};
use margay_net::Family;

use crate::client::{ADDRESS, ASN, Client, config, graceful_restart, message, open};
use crate::network::prefix;

/// How far a session is when the message comes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    OpenSent,
    OpenConfirm,
    Established,
}

fn client(at: At) -> (Client, u64) {
    let mut client = Client::new(config(|peer: &mut PeerConfig| peer.families = Family::ALL.into_iter().collect()));
    let connection = client.connect_from(ADDRESS);
    let families = [AfiSafi::IPV4_UNICAST, AfiSafi::IPV6_UNICAST].map(Capability::Multiprotocol).to_vec();
    if at != At::OpenSent {
        client.say(connection, open(ASN, families));
    }
    if at == At::Established {
        client.say(connection, encode_keepalive());
        assert_eq!(client.peer().state, FsmState::Established);
    }
    client.take_sent();
    (client, connection)
}

/// Says `bytes` and returns code and subcode of the NOTIFICATION that comes back, if one does.
fn answer(at: At, bytes: &[u8]) -> Option<(u8, u8)> {
    let (mut client, connection) = client(at);
    client.say(connection, Bytes::copy_from_slice(bytes));
    let answer = client.notifications().first().map(|answer: &Notification| (answer.code, answer.subcode));
    // A session that is left alone can be used, one that was ended can be made anew.
    match answer {
        None if at == At::Established => {
            client.announce(connection, &[prefix("10.9.0.0/24")]);
            assert!(client.fib.contains_key(&prefix("10.9.0.0/24")), "{at:?}");
        }
        _ => {
            client.close(connection);
            client.establish(vec![graceful_restart(true)]);
        }
    }
    answer
}

/// The fixed part of an OPEN that is otherwise good, then what follows it.
fn open_with(parameters: &[u8]) -> Bytes {
    message(1, &[&[4, 0xfd, 0xea, 0, 90, 10, 0, 0, 2][..], parameters].concat())
}

fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Bytes {
    let len = |field: &[u8]| (field.len() as u16).to_be_bytes();
    message(2, &[&len(withdrawn)[..], withdrawn, &len(attributes), attributes, nlri].concat())
}

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xea];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 2];
/// IPv6 without prefixes.
const MP_REACH: &[u8] = &[0x80, 14, 21, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0];
const NLRI: &[u8] = &[24, 20, 0, 0];

/// A route with one attribute more.
fn route_with(attribute: &[u8]) -> Bytes {
    update(&[], &[ORIGIN, AS_PATH, NEXT_HOP, attribute].concat(), NLRI)
}

#[test]
fn malformed_opens_are_refused_before_a_session_and_out_of_place_in_one() {
    for (what, bytes) in [
        ("a parameter of type 255 with two of its three octets", open_with(&[3, 255, 0, 1])),
        ("extended lengths beyond the message", open_with(&[255, 255, 0, 9, 2, 0, 6])),
        ("extended lengths that end within a parameter", open_with(&[255, 255, 0, 2, 2, 0])),
        ("the end right after the length of parameters", open_with(&[8])),
        ("a capability that is longer than its parameter", open_with(&[4, 2, 2, 1, 4])),
        ("a capability without its length", open_with(&[3, 2, 1, 1])),
        ("four-octet AS number of three octets", open_with(&[7, 2, 5, 65, 3, 0, 0, 1])),
        ("octets after the parameters", open_with(&[0, 1, 2])),
    ] {
        assert_eq!(answer(At::OpenSent, &bytes), Some((2, 0)), "{what}");
        assert_eq!(answer(At::OpenConfirm, &bytes), Some((2, 0)), "{what}");
        assert_eq!(answer(At::Established, &bytes), Some((5, 3)), "{what}");
    }
    assert_eq!(answer(At::OpenSent, &open(0, vec![])), Some((2, 2)), "AS 0");
}

#[test]
fn malformed_attributes_cost_routes_and_not_the_session() {
    let broken = |attributes: &[&[u8]]| update(&[], &attributes.concat(), NLRI);
    let cases: Vec<(&str, Bytes)> = vec![
        ("tunnel encapsulation with a length beyond its own", route_with(&[0xc0, 23, 4, 0, 1, 0, 99])),
        ("attribute 21 with octets of no meaning", route_with(&[0xc0, 21, 3, 0xff, 0xff, 0xff])),
        ("entropy label", route_with(&[0xc0, 28, 1, 0])),
        ("prefix-SID that is all zero", route_with(&[0xc0, 40, 8, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("OTC of a wrong length", route_with(&[0xc0, 35, 3, 0, 0, 1])),
        ("IPv6 extended communities of less than 20 octets", route_with(&[0xc0, 25, 7, 0, 0, 0, 0, 0, 0, 0])),
        ("extended communities of seven octets", route_with(&[0xc0, 16, 7, 0, 0, 0, 0, 0, 0, 0])),
        ("communities of three octets", route_with(&[0xc0, 8, 3, 0, 0, 1])),
        ("large communities of eleven octets", route_with(&[0xc0, 32, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])),
        ("an aggregator of one octet", route_with(&[0xc0, 7, 1, 0])),
        ("NEXT_HOP of less than four octets", broken(&[ORIGIN, AS_PATH, &[0x40, 3, 3, 192, 0, 2]])),
        ("AS_PATH whose segment is longer than it", broken(&[ORIGIN, &[0x40, 2, 6, 2, 9, 0, 0, 0xfd, 0xea], NEXT_HOP])),
        ("AS4_PATH before AS_PATH and invalid", broken(&[ORIGIN, &[0xc0, 17, 2, 2, 9], AS_PATH, NEXT_HOP])),
        ("one unknown transitive attribute and no other", broken(&[&[0xc0, 99, 1, 0]])),
        ("no attributes with prefixes", broken(&[])),
        ("withdrawals of IPv6 and prefixes without the mandatory attributes", broken(&[&[0x80, 15, 4, 0, 2, 1, 0]])),
        ("duplicate ORIGIN", route_with(ORIGIN)),
        ("an attribute that ends beyond the others", broken(&[ORIGIN, AS_PATH, NEXT_HOP, &[0xc0, 8, 200, 0]])),
        ("AS 0 in AS_PATH", broken(&[ORIGIN, &[0x40, 2, 6, 2, 1, 0, 0, 0, 0], NEXT_HOP])),
    ];
    for (what, bytes) in cases {
        assert_eq!(answer(At::Established, &bytes), None, "{what}");
        assert_eq!(answer(At::OpenSent, &bytes), Some((5, 1)), "{what}");
        assert_eq!(answer(At::OpenConfirm, &bytes), Some((5, 2)), "{what}");
    }
}

#[test]
fn what_leaves_the_routes_unknown_ends_the_session_with_its_code() {
    let raw = |body: &[u8]| message(2, body);
    for (what, bytes, code) in [
        ("a withdrawn length beyond the message", raw(&[0xff, 0xff, 0, 0]), (3, 1)),
        ("an attribute length beyond the message", raw(&[0, 0, 0xff, 0xff]), (3, 1)),
        ("a withdrawn length that leaves no room for the other", raw(&[0, 1, 0, 0]), (3, 1)),
        ("a prefix of 33 bits", update(&[], &[ORIGIN, AS_PATH, NEXT_HOP].concat(), &[33, 1, 2, 3, 4, 5]), (3, 10)),
        ("a prefix that ends early", update(&[24, 1], &[], &[]), (3, 10)),
        (
            "MP_REACH_NLRI that ends in the next hop",
            update(&[], &[ORIGIN, AS_PATH, &[0x80, 14, 5, 0, 2, 1, 16, 0]].concat(), &[]),
            (3, 9),
        ),
        ("MP_REACH_NLRI twice", update(&[], &[MP_REACH, MP_REACH].concat(), &[]), (3, 1)),
    ] {
        assert_eq!(answer(At::Established, &bytes), Some(code), "{what}");
        assert_eq!(answer(At::OpenSent, &bytes), Some((5, 1)), "{what}");
        assert_eq!(answer(At::OpenConfirm, &bytes), Some((5, 2)), "{what}");
    }
}

#[test]
fn broken_headers_have_their_code_in_every_state() {
    let mut marker = encode_keepalive().to_vec();
    marker[7] = 0;
    let with_length = |length: u16, kind: u8| [&[0xff; 16][..], &length.to_be_bytes(), &[kind], &[0; 30]].concat();
    for at in [At::OpenSent, At::OpenConfirm, At::Established] {
        assert_eq!(answer(at, &marker), Some((1, 1)), "{at:?}");
        for (length, kind) in [(18, 4), (20, 4), (4097, 2), (65535, 2), (22, 2), (20, 3), (22, 5), (28, 1)] {
            assert_eq!(answer(at, &with_length(length, kind)), Some((1, 2)), "{length} {kind} {at:?}");
        }
        assert_eq!(answer(at, &with_length(19, 0)), Some((1, 3)), "{at:?}");
        assert_eq!(answer(at, &with_length(23, 77)), Some((1, 3)), "{at:?}");
    }
}

#[test]
fn notifications_with_any_text_are_taken_without_harm() {
    let texts: [&[u8]; 6] = [&[], &[0], &[200, b'a'], &[255; 256], &[3, 0xff, 0xfe, 0xfd], &[4, b'a', b'\n', 0, b'b']];
    for at in [At::OpenSent, At::OpenConfirm, At::Established] {
        for text in texts {
            let (mut client, connection) = client(at);
            client.say(connection, message(3, &[&[6, 2][..], text].concat()));
            assert!(client.notifications().is_empty(), "a NOTIFICATION is not answered");
            assert!(client.peer().state < FsmState::OpenSent);
            let shown = client.peer().shutdown_message;
            assert!(shown.is_none_or(|shown| !shown.contains(char::is_control)));
        }
    }
}

#[test]
fn route_refresh_of_a_wrong_length_or_an_unknown_family_harms_nobody() {
    assert_eq!(answer(At::Established, &message(5, &[0, 1, 1, 1, 0])), Some((7, 1)), "BoRR with more");
    for body in [&[0, 1, 0, 1, 0x80, 64, 0xff][..], &[0, 99, 0, 1], &[0, 1, 77, 1], &[0, 1, 2, 1]] {
        assert_eq!(answer(At::Established, &message(5, body)), None, "{body:?}");
    }
    assert_eq!(answer(At::OpenConfirm, &message(5, &[0, 1, 0, 1])), Some((5, 2)));
}

#[test]
fn who_sends_nothing_but_errors_fills_no_log_and_holds_up_nobody() {
    let (mut client, connection) = client(At::Established);
    client.events.clear();
    let bad = route_with(&[0xc0, 8, 3, 0, 0, 1]);
    (0..1000).for_each(|_| client.say(connection, bad.clone()));
    assert_eq!(client.events.len(), 20);
    assert!(client.events[19].ends_with("; further ones within a minute are only counted"), "{}", client.events[19]);
    assert_eq!(client.peer().malformed_updates, 1000);
    assert_eq!(client.peer().state, FsmState::Established);
    client.pass(std::time::Duration::from_secs(61));
    client.events.clear();
    client.say(connection, bad);
    assert_eq!(client.events.len(), 1);

    client.events.clear();
    for _ in 0..1000 {
        client.connect_from("203.0.113.9");
    }
    assert_eq!(client.events.len(), 20);
    assert_eq!(client.closed.len(), 1000);
    assert_eq!(client.peer().state, FsmState::Established);
}
