//! Peers whose messages are good and whose behaviour isn't.

use std::time::Duration;

use margay_bgp_core::wire::{Message, encode_keepalive, encode_open};
use margay_bgp_core::{FsmState, Input, PeerName};

use crate::world::{PEER, ROUTE_V4, World, hex, message, open, update};

#[test]
fn a_flood_of_notifications_ends_one_session_once() {
    let (mut world, connection) = World::at(FsmState::Established, false);
    let flood = message(3, &[6, 4]).repeat(1000);
    world.receive(connection, &flood);
    assert_eq!(world.speaker.counters().notifications_received, 1);
    assert!(world.pipes[&connection].closed && !world.has(ROUTE_V4));
    world.receive(connection, &flood);
    assert_eq!(world.speaker.counters().notifications_received, 1);

    // A peer that comes back only to say it again.
    for _ in 0..500 {
        let connection = world.accept(2);
        world.receive(connection, &message(3, &[6, 4]));
        assert!(world.pipes[&connection].closed);
    }
    assert_eq!(world.peer(PEER).state, FsmState::Idle);
    world.assert_witness_unharmed("notifications");
}

#[test]
fn an_open_that_comes_in_drips_is_waited_for_no_longer_than_any() {
    let (mut world, connection) = World::at(FsmState::OpenSent, false);
    let open = encode_open(&open(65001, 2));
    for octet in &open[..open.len() - 1] {
        world.receive(connection, &[*octet]);
        world.run(Duration::from_secs(3));
    }
    let notification = world.notification(connection).expect("given up");
    assert_eq!((notification.code, notification.subcode), (4, 0));
}

#[test]
fn an_update_that_comes_in_drips_does_not_keep_a_session_alive() {
    let (mut world, connection) = World::at(FsmState::Established, false);
    let update = update(&[0; 4000], &[], &[]);
    for octet in &update[..200] {
        world.receive(connection, &[*octet]);
        world.run(Duration::from_secs(1));
    }
    let notification = world.notification(connection).expect("given up");
    assert_eq!((notification.code, notification.subcode), (4, 0));
    // The witness says nothing here either, and its time is over as well.
    assert_ne!(world.peer(PEER).state, FsmState::Established);
}

#[test]
fn half_a_message_is_forgotten_with_its_connection() {
    for state in [FsmState::OpenSent, FsmState::OpenConfirm, FsmState::Established] {
        let (mut world, connection) = World::at(state, false);
        let half = update(&[0; 200], &[], &[]);
        world.receive(connection, &half[..100]);
        world.input(Input::Closed { connection, reason: "reset by peer".to_owned() });
        let connection = world.accept(2);
        world.receive(connection, &encode_open(&open(65001, 2)));
        world.receive(connection, &encode_keepalive());
        assert_eq!(world.peer(PEER).state, FsmState::Established, "after {state}");
        world.assert_witness_unharmed("half a message");
    }
}

#[test]
fn four_thousand_connections_of_strangers_are_closed_and_kept_by_nobody() {
    let (mut world, session) = World::at(FsmState::Established, false);
    let connections: Vec<_> = (0..4096).map(|_| world.accept(77)).collect();
    for connection in connections {
        let notification = world.notification(connection).expect("a reason");
        assert_eq!((notification.code, notification.subcode), (6, 5));
        assert_eq!(world.pipes[&connection].messages.len(), 1, "a stranger is told nothing else");
        world.receive(connection, &message(1, &[4; 10]));
    }
    assert_eq!(world.peer(PEER).state, FsmState::Established);
    assert!(!world.pipes[&session].closed && world.has(ROUTE_V4));
    world.assert_witness_unharmed("strangers");
}

#[test]
fn four_thousand_connections_from_a_peers_address_leave_its_session_alone() {
    let (mut world, session) = World::at(FsmState::Established, false);
    let connections: Vec<_> = (0..4096).map(|_| world.accept(2)).collect();
    let left = connections.iter().filter(|connection| !world.pipes[connection].closed).count();
    assert!(left <= 1, "{left} connections are open beside the session");
    assert_eq!(world.peer(PEER).state, FsmState::Established);
    assert!(!world.pipes[&session].closed && world.has(ROUTE_V4));
    world.assert_witness_unharmed("connections");
}

#[test]
fn a_peer_that_never_reads_holds_a_bounded_part_of_what_it_should_read() {
    let (mut world, _) = World::at(FsmState::Established, false);
    world.peers_read = false;
    let witness = margay_bgp_core::ConnectionId(1);
    // All of them four times, so that what would be told is more than a megabyte.
    for (round, block) in (0..4u32).flat_map(|round| (0..200u32).map(move |block| (round, block))) {
        let mut nlri = Vec::new();
        for prefix in 0..500u32 {
            nlri.push(24);
            nlri.extend(&(0x1400_0000 + ((block * 500 + prefix) << 8)).to_be_bytes()[..3]);
        }
        // Another path in each round, so that there is something to tell.
        let mut attributes = hex("400101 00 400304 c0000203 40020a 0202 0000fdeb");
        attributes.extend((65100 + round).to_be_bytes());
        world.receive(witness, &update(&[], &attributes, &nlri));
    }
    assert!(world.fib.len() > 100_000);
    let unsent = world.peer(PEER).unsent_bytes;
    assert!((1 << 20..1_200_000).contains(&unsent), "{unsent} bytes wait for a peer that does not read");
}

#[test]
fn numbers_at_their_ends_are_taken() {
    for internal in [false, true] {
        for value in ["00000000", "7fffffff", "80000000", "ffffffff"] {
            let (mut world, connection) = World::at(FsmState::Established, internal);
            let mut attributes = hex(&format!("400101 00 400200 400304 c0000202 800404 {value} 400504 {value}"));
            if !internal {
                attributes = hex(&format!("400101 00 400206 02010000fde9 400304 c0000202 800404 {value}"));
            }
            world.receive(connection, &update(&[], &attributes, &hex("18 0a0909")));
            assert!(world.has("10.9.9.0/24"), "{value}");
            world.assert_witness_unharmed(value);
        }
    }
}

#[test]
fn a_prefix_that_is_announced_and_withdrawn_in_one_message_is_announced() {
    let (mut world, connection) = World::at(FsmState::Established, false);
    let attributes = world.mandatory();
    world.receive(connection, &update(&hex("18 0a0102 18 0a0909"), &attributes, &hex("18 0a0909")));
    assert!(world.has("10.9.9.0/24") && !world.has(ROUTE_V4));
}

#[test]
fn a_prefix_a_hundred_times_in_one_message_is_one_route() {
    let (mut world, connection) = World::at(FsmState::Established, false);
    world.told_to_witness();
    let attributes = world.mandatory();
    world.receive(connection, &update(&[], &attributes, &hex("18 0a0909").repeat(100)));
    let told: usize =
        world.told_to_witness().iter().flat_map(|update| &update.announced).map(|r| r.prefixes.len()).sum();
    assert_eq!(told, 1);
}

/// RFC 7911 section 3: the identifier and the prefix together say which path it is.
#[test]
fn a_path_identifier_that_comes_again_replaces_its_path_and_one_that_never_came_withdraws_nothing() {
    let (mut world, connection) = World::with_add_path();
    let mut say = |attributes: &str, withdrawn: &str, announced: &str| {
        world.receive(connection, &update(&hex(withdrawn), &hex(attributes), &hex(announced)));
        let routes = world.speaker.received(&PeerName::from(PEER));
        let mut meds: Vec<_> = routes.iter().flat_map(|route| &route.paths).map(|path| path.attributes.med).collect();
        meds.sort();
        assert_eq!(world.peer(PEER).state, FsmState::Established);
        meds
    };
    let path = |med: u8| format!("400101 00 400206 02010000fde9 400304 c0000202 800404 000000{med:02x}");
    let (zero, last) = ("00000000 18 0a0909", "ffffffff 18 0a0909");
    assert_eq!(say(&path(1), "", zero), [Some(1)]);
    assert_eq!(say(&path(2), "", last), [Some(1), Some(2)]);
    assert_eq!(say(&path(3), "", zero), [Some(2), Some(3)]);
    assert_eq!(say(&path(4), "", &format!("{zero} {zero}")), [Some(2), Some(4)]);
    assert_eq!(say("", "00000007 18 0a0909", ""), [Some(2), Some(4)]);
    assert_eq!(say("", last, ""), [Some(4)]);
    assert_eq!(say("", last, ""), [Some(4)]);
    assert_eq!(say(&path(5), last, last), [Some(4), Some(5)]);
    world.receive(connection, &update(&[], &hex(&path(6)), &hex("00000007")));
    let notification = world.notification(connection).expect("an identifier of no prefix");
    assert_eq!((notification.code, notification.subcode), (3, 10));
}

#[test]
fn a_second_open_is_an_error_of_the_machine_whatever_it_says() {
    for (state, subcode) in [(FsmState::OpenConfirm, 2), (FsmState::Established, 3)] {
        let (mut world, connection) = World::at(state, false);
        world.receive(connection, &encode_open(&open(65001, 2)));
        let notification = world.notification(connection).unwrap();
        assert_eq!((notification.code, notification.subcode), (5, subcode));
    }
}

#[test]
fn keepalives_by_the_thousand_cost_nothing_that_stays() {
    let (mut world, connection) = World::at(FsmState::Established, false);
    world.receive(connection, &encode_keepalive().repeat(10_000));
    assert_eq!(world.peer(PEER).state, FsmState::Established);
    assert!(world.pipes[&connection].messages.iter().all(|message| matches!(message, Message::Update(_))));
    world.assert_witness_unharmed("keepalives");
}
