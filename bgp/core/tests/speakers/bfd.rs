//! Sessions that fall with BFD (RFC 5882, RFC 9384).

use std::collections::BTreeSet;

use margay_bgp_core::{BfdConfig, BfdState, FsmState, Input, PeerConfig};
use margay_net::{FromFelix, LinkState};

use crate::client::{ADDRESS, Client, PEER, config, graceful_restart};
use crate::network::{prefix, seconds};

const FAILED: BfdState = BfdState::Down { control_plane_independent: false };
const FAILED_INDEPENDENT: BfdState = BfdState::Down { control_plane_independent: true };

fn with_bfd(peer: &mut PeerConfig) {
    peer.bfd = Some(BfdConfig::default());
}

fn say(client: &mut Client, state: BfdState) {
    let reason = "control detection time expired".to_owned();
    client.input(Input::Bfd { peer: PEER.into(), state, reason });
}

#[test]
fn a_session_is_asked_for_as_long_as_the_peer_is_up_and_with_what_is_known() {
    let mut client = Client::new(config(with_bfd));
    let session = client.bfd.take().unwrap().remove(PEER).unwrap();
    assert_eq!((session.local, session.interface, session.multihop), (None, None, false));
    assert_eq!(session.remote.to_string(), ADDRESS);
    client.input(Input::Felix(FromFelix::Link(LinkState {
        interface: "eth0".to_owned(),
        running: true,
        addresses: vec![("192.0.2.1".parse().unwrap(), prefix("192.0.2.0/24"))],
    })));
    let connection = client.establish(vec![]);
    let session = client.bfd.take().unwrap().remove(PEER).unwrap();
    assert_eq!(session.local, Some("192.0.2.1".parse().unwrap()));
    assert_eq!(session.interface.as_deref(), Some("eth0"));
    client.close(connection);
    assert_eq!(client.bfd, None, "the session outlives the one of BGP");
    client.input(Input::Configure(config(|peer| {
        with_bfd(peer);
        peer.admin_up = false;
    })));
    assert!(client.bfd.take().unwrap().is_empty());
}

#[test]
fn a_failure_ends_the_session_and_its_routes_go() {
    // The capabilities, the state, the NOTIFICATION.
    for (capabilities, state, sent) in [
        (vec![graceful_restart(true)], FAILED, vec![(6, 9)]),
        (vec![graceful_restart(true)], FAILED_INDEPENDENT, vec![(6, 9)]),
        (vec![graceful_restart(false)], FAILED, vec![(6, 10)]),
        (vec![graceful_restart(false)], FAILED_INDEPENDENT, vec![(6, 10)]),
        (vec![], FAILED, vec![(6, 10)]),
        (vec![], FAILED_INDEPENDENT, vec![(6, 10)]),
    ] {
        let mut client = Client::new(config(with_bfd));
        let connection = client.establish(capabilities.clone());
        client.announce(connection, &[prefix("10.1.0.0/26")]);
        say(&mut client, BfdState::Up);
        say(&mut client, state);
        assert_ne!(client.peer().state, FsmState::Established);
        let notifications: Vec<(u8, u8)> =
            client.notifications().iter().map(|notification| (notification.code, notification.subcode)).collect();
        assert_eq!(notifications, sent, "{capabilities:?} {state:?}");
        assert_eq!(client.fib.len(), 0, "{capabilities:?} {state:?}");
        assert_eq!(client.peer().last_error.as_deref(), Some("BFD down: control detection time expired"));
        assert_eq!(client.peer().bfd.unwrap().state, Some(state));
        client.assert_event("BFD Down: control detection time expired");
    }
}

#[test]
fn bfd_that_is_shut_down_or_never_came_up_says_nothing() {
    let orders: [&[BfdState]; 5] = [
        &[FAILED],
        &[FAILED_INDEPENDENT, BfdState::Init, FAILED],
        &[BfdState::Up, BfdState::AdminDown],
        &[BfdState::Up, BfdState::AdminDown, FAILED],
        &[],
    ];
    for order in orders {
        let mut client = Client::new(config(with_bfd));
        client.establish(vec![]);
        order.iter().for_each(|&state| say(&mut client, state));
        client.pass(seconds(60));
        assert_eq!(client.peer().state, FsmState::Established, "{order:?}");
    }
    // Nor does it keep a session from coming up.
    let mut client = Client::new(config(with_bfd));
    say(&mut client, BfdState::Up);
    say(&mut client, FAILED);
    client.establish(vec![]);
    // A state of a peer without BFD is of another time.
    client.input(Input::Configure(config(|_| {})));
    say(&mut client, BfdState::Up);
    say(&mut client, FAILED);
    assert_eq!(client.peer().state, FsmState::Established);
    assert_eq!(client.peer().bfd, None);
}

#[test]
fn the_way_to_a_restarting_peer_that_fails_takes_its_routes() {
    for (state, left) in [(FAILED, 1), (FAILED_INDEPENDENT, 0)] {
        let mut client = Client::new(config(with_bfd));
        let connection = client.establish(vec![graceful_restart(true)]);
        client.announce(connection, &[prefix("10.1.0.0/26")]);
        say(&mut client, BfdState::Up);
        client.close(connection);
        assert_eq!(client.fib.len(), 1);
        say(&mut client, state);
        assert_eq!(client.fib.len(), left, "{state:?}");
    }
}

#[test]
fn new_intervals_keep_the_state_and_another_session_begins_with_none() {
    let mut client = Client::new(config(with_bfd));
    client.establish(vec![]);
    say(&mut client, BfdState::Up);
    client.input(Input::Configure(config(|peer| {
        peer.bfd = Some(BfdConfig { multiplier: 5, ..BfdConfig::default() });
    })));
    assert_eq!(client.peer().bfd.unwrap().state, Some(BfdState::Up));
    assert_eq!(client.peer().established_count, 1);
    client.input(Input::Felix(FromFelix::Link(LinkState {
        interface: "eth0".to_owned(),
        running: true,
        addresses: vec![("192.0.2.1".parse().unwrap(), prefix("192.0.2.0/24"))],
    })));
    assert_eq!(client.peer().bfd.unwrap().state, None);
    say(&mut client, FAILED);
    assert_eq!(client.peer().state, FsmState::Established);
}

#[test]
fn an_internal_session_is_multihop_unless_the_peer_is_on_a_link() {
    let mut settings = config(|peer| {
        with_bfd(peer);
        peer.asn = margay_net::Asn(65001);
    });
    let mut client = Client::new(settings.clone());
    assert!(client.bfd.take().unwrap()[PEER].multihop);
    client.input(Input::Felix(FromFelix::Link(LinkState {
        interface: "eth0".to_owned(),
        running: true,
        addresses: vec![("192.0.2.1".parse().unwrap(), prefix("192.0.2.0/24"))],
    })));
    assert!(!client.bfd.take().unwrap()[PEER].multihop);
    let peer = settings.peers.values_mut().next().unwrap();
    peer.families = BTreeSet::new();
    peer.multihop = true;
    peer.asn = margay_net::Asn(65002);
    assert!(Client::new(settings).bfd.unwrap()[PEER].multihop);
}
