//! Which packets a session takes (RFC 5880 section 6.8.6, RFC 5881 sections 3 to 5, RFC 5883 section 4).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use margay_bfd::{
    Arrival, Bfd, ControlPacket, Diagnostic, Discard, Discriminator, Input, Malformed, Options, Output, SessionConfig,
    SessionKey, State,
};
use margay_net::Now;
use proptest::prelude::*;

use crate::network::{Network, address, config, key, ms};

fn control(your: Option<Discriminator>, state: State) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        final_: false,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: 3,
        my_discriminator: Discriminator(NonZeroU32::new(77).unwrap()),
        your_discriminator: your,
        desired_min_tx: ms(100),
        required_min_rx: ms(100),
        required_min_echo_rx: ms(0),
    }
}

fn from(remote: &str, local: &str, interface: Option<&str>, ttl: u8, multihop: bool) -> Arrival {
    Arrival {
        remote: remote.parse().unwrap(),
        local: local.parse().unwrap(),
        interface: interface.map(Arc::from),
        ttl: Some(ttl),
        multihop,
    }
}

fn session(remote: &str, local: Option<&str>, interface: Option<&str>, multihop: bool) -> SessionKey {
    SessionKey {
        remote: remote.parse().unwrap(),
        multihop,
        interface: interface.map(Arc::from),
        local: local.map(|local| local.parse().unwrap()),
    }
}

/// A machine with sessions, and the discriminator of each.
fn machine(keys: &[SessionKey], min_ttl: u8) -> (Bfd, Vec<Discriminator>) {
    let mut bfd = Bfd::new(Options { seed: 1, ..Options::default() });
    let config = SessionConfig { min_ttl, ..config(100, 3) };
    let wanted: BTreeMap<_, _> = keys.iter().map(|key| (key.clone(), config.clone())).collect();
    bfd.handle_input(Input::Sessions(wanted), Now::at(ms(0)));
    while bfd.poll_output().is_some() {}
    let discriminators = keys.iter().map(|key| bfd.session(key).unwrap().discriminator).collect();
    (bfd, discriminators)
}

/// Hands in a packet; which session took it, or why none did.
fn hand_in(bfd: &mut Bfd, packet: &[u8], arrival: Arrival) -> Result<SessionKey, Discard> {
    let took = |bfd: &Bfd| bfd.sessions().map(|view| (view.key, view.received)).collect::<BTreeMap<_, _>>();
    let (before, discarded) = (took(bfd), bfd.counters().discarded.clone());
    bfd.handle_input(Input::Packet { payload: packet, arrival }, Now::at(ms(1)));
    let after = took(bfd);
    match after.into_iter().find(|(key, received)| before.get(key) != Some(received)) {
        Some((key, _)) => Ok(key),
        None => {
            let now = &bfd.counters().discarded;
            Err(*now.iter().find(|(reason, count)| discarded.get(*reason) != Some(*count)).unwrap().0)
        }
    }
}

#[test]
fn a_first_packet_goes_to_the_session_that_says_most_about_its_path() {
    let any = session("192.0.2.2", None, None, false);
    let here = session("192.0.2.2", Some("192.0.2.1"), None, false);
    let on_eth1 = session("192.0.2.2", None, Some("eth1"), false);
    let far = session("192.0.2.2", None, None, true);
    let (mut bfd, _) = machine(&[any.clone(), here.clone(), on_eth1.clone(), far.clone()], 250);
    let first = control(None, State::Down).encode();
    let mut took = |arrival: Arrival| hand_in(&mut bfd, &first, arrival);
    assert_eq!(took(from("192.0.2.2", "192.0.2.9", Some("eth0"), 255, false)), Ok(any));
    assert_eq!(took(from("192.0.2.2", "192.0.2.1", Some("eth0"), 255, false)), Ok(here));
    assert_eq!(took(from("192.0.2.2", "192.0.2.1", Some("eth1"), 255, false)), Ok(on_eth1));
    assert_eq!(took(from("192.0.2.2", "192.0.2.1", Some("eth1"), 250, true)), Ok(far));
    assert_eq!(took(from("192.0.2.3", "192.0.2.1", Some("eth0"), 255, false)), Err(Discard::NoSession));
    assert_eq!(took(from("192.0.2.2", "192.0.2.1", Some("eth0"), 254, false)), Err(Discard::Ttl));
    assert_eq!(took(from("192.0.2.2", "192.0.2.1", Some("eth0"), 249, true)), Err(Discard::Ttl));
    let untold = Arrival { ttl: None, ..from("192.0.2.2", "192.0.2.1", None, 0, false) };
    assert_eq!(took(untold.clone()), Err(Discard::Ttl));
    assert_eq!(took(Arrival { multihop: true, ..untold }), Err(Discard::Ttl));
}

#[test]
fn a_discriminator_decides_on_the_session_and_the_path_must_fit_it() {
    let near = session("192.0.2.2", None, Some("eth0"), false);
    let far = session("198.51.100.2", Some("192.0.2.1"), None, true);
    let (mut bfd, names) = machine(&[near.clone(), far.clone()], 250);
    let mut took =
        |name: usize, arrival: Arrival| hand_in(&mut bfd, &control(Some(names[name]), State::Down).encode(), arrival);
    let wrong = Err(Discard::WrongPath);
    assert_eq!(took(0, from("192.0.2.2", "192.0.2.1", Some("eth0"), 255, false)), Ok(near.clone()));
    // RFC 5881 section 6: the neighbour's address may change.
    assert_eq!(took(0, from("192.0.2.7", "192.0.2.1", Some("eth0"), 255, false)), Ok(near));
    assert_eq!(took(0, from("192.0.2.2", "192.0.2.1", Some("eth1"), 255, false)), wrong);
    assert_eq!(took(0, from("192.0.2.2", "192.0.2.1", Some("eth0"), 255, true)), wrong);
    assert_eq!(took(1, from("198.51.100.2", "192.0.2.1", Some("eth0"), 250, true)), Ok(far));
    assert_eq!(took(1, from("198.51.100.3", "192.0.2.1", Some("eth0"), 255, true)), wrong);
    assert_eq!(took(1, from("198.51.100.2", "192.0.2.9", Some("eth0"), 255, true)), wrong);
    assert_eq!(took(1, from("198.51.100.2", "192.0.2.1", Some("eth0"), 255, false)), wrong);
    assert_eq!(took(1, from("198.51.100.2", "192.0.2.1", Some("eth0"), 249, true)), Err(Discard::Ttl));
}

#[test]
fn bad_packets_are_counted_by_reason_and_do_not_disturb_a_session() {
    let mut network = Network::up(1, [config(100, 3), config(100, 3)]);
    let before = network.view(0);
    let right = control(Some(before.discriminator), State::Down).encode();
    let unknown = control(Some(Discriminator(NonZeroU32::new(before.discriminator.0.get() ^ 1).unwrap())), State::Up);
    let with = |changes: &[(usize, u8)]| {
        let mut bytes = right.to_vec();
        changes.iter().for_each(|(place, value)| bytes[*place] = *value);
        bytes
    };
    let zero_in_up = with(&[(8, 0), (9, 0), (10, 0), (11, 0), (1, 0xc0)]);
    let cases: [(Vec<u8>, Discard); 9] = [
        (right[..23].to_vec(), Discard::Malformed(Malformed::Truncated)),
        (with(&[(0, 0)]), Discard::Malformed(Malformed::Version)),
        (with(&[(3, 48)]), Discard::Malformed(Malformed::Length)),
        (with(&[(2, 0)]), Discard::Malformed(Malformed::DetectMultiplier)),
        (with(&[(1, 0x41)]), Discard::Malformed(Malformed::Multipoint)),
        (with(&[(7, 0)]), Discard::Malformed(Malformed::MyDiscriminator)),
        (zero_in_up, Discard::Malformed(Malformed::YourDiscriminator)),
        ([with(&[(1, 0x44), (3, 26)]), vec![1, 0]].concat(), Discard::Malformed(Malformed::Authentication)),
        (unknown.encode().to_vec(), Discard::UnknownDiscriminator),
    ];
    for (payload, discard) in cases {
        network.deliver(0, &payload);
        assert_eq!(network.ends[0].counters().discarded.get(&discard), Some(&1), "{}", discard.name());
        assert_eq!(network.view(0), before, "{}", discard.name());
    }
}

#[test]
fn demand_mode_of_the_peer_stops_periodic_packets_but_not_answers() {
    let mut network = Network::up(1, [config(100, 3), config(100, 3)]);
    let ours = network.view(0);
    let mut packet = ControlPacket { demand: true, ..control(Some(ours.discriminator), State::Up) };
    packet.my_discriminator = ours.remote_discriminator.unwrap();
    network.cut = [true, true];
    network.deliver(0, &packet.encode());
    network.sent.clear();
    for _ in 0..20 {
        network.run(ms(100));
        network.deliver(0, &packet.encode());
    }
    assert_eq!(network.packets_of(0).count(), 0);
    assert!(network.view(0).remote_demand && network.view(0).state == State::Up);
    network.deliver(0, &ControlPacket { poll: true, ..packet }.encode());
    assert!(network.packets_of(0).all(|sent| sent.packet.final_) && network.packets_of(0).count() == 1);
    network.sent.clear();
    network.deliver(0, &ControlPacket { demand: false, ..packet }.encode());
    network.run(ms(200));
    assert!(network.packets_of(0).count() >= 2, "periodic again");
}

#[test]
fn a_peer_that_takes_no_packets_gets_none_until_it_is_forgotten() {
    let mut network = Network::up(1, [config(100, 3), config(100, 3)]);
    let ours = network.view(0);
    let mut packet = ControlPacket { required_min_rx: ms(0), ..control(Some(ours.discriminator), State::Up) };
    packet.my_discriminator = ours.remote_discriminator.unwrap();
    network.cut = [true, true];
    network.deliver(0, &packet.encode());
    network.sent.clear();
    network.run(ms(299));
    assert_eq!(network.packets_of(0).count(), 0);
    network.run(ms(2000));
    assert_eq!(network.view(0).state, State::Down);
    assert!(network.packets_of(0).count() >= 2, "its successor may think otherwise");
}

#[test]
fn a_peer_that_stops_and_starts_to_take_packets_gets_none_before_its_time() {
    let mut network = Network::up(1, [config(100, 3), config(100, 3)]);
    let ours = network.view(0);
    let mut packet = control(Some(ours.discriminator), State::Up);
    packet.my_discriminator = ours.remote_discriminator.unwrap();
    network.cut = [true, true];
    for off in [ControlPacket { required_min_rx: ms(0), ..packet }, ControlPacket { demand: true, ..packet }] {
        network.run(ms(100));
        network.sent.clear();
        for _ in 0..100 {
            network.deliver(0, &off.encode());
            network.run(ms(5));
            network.deliver(0, &packet.encode());
            network.run(ms(5));
        }
        let times: Vec<_> = network.packets_of(0).map(|sent| sent.at).collect();
        assert!(times.windows(2).all(|pair| pair[1].since(pair[0]) >= ms(75)), "{times:?}");
        assert!(times.len() >= 5, "{} packets in a second, half of which the peer takes some", times.len());
    }
}

#[test]
fn discriminators_are_unique_and_the_wire_names_the_same() {
    let keys: Vec<SessionKey> = (0..=255u8).map(|n| session(&format!("192.0.2.{n}"), None, None, false)).collect();
    let (mut bfd, mut names) = machine(&keys, 255);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 256);
    let mut sent = 0;
    bfd.handle_timeout(Now::at(ms(2000)));
    while let Some(output) = bfd.poll_output() {
        if let Output::Transmit { session, packet } = output {
            assert_eq!(ControlPacket::decode(&packet).unwrap().my_discriminator, session);
            sent += 1;
        }
    }
    assert_eq!(sent, 256);
}

proptest! {
    /// Whatever comes, with the right discriminator or not: nothing breaks, timers lie in the future, and the session
    /// comes up again when the cable is good.
    #[test]
    fn no_packets_break_a_session(
        packets in proptest::collection::vec((any::<[u8; 24]>(), any::<bool>(), any::<bool>(), 0u64..400), 1..60),
    ) {
        let mut network = Network::up(1, [config(100, 3), config(100, 3)]);
        for (mut bytes, header, named, wait) in packets {
            if header {
                bytes[0] = 0x20 | bytes[0] & 0x1f;
                bytes[1] &= !0x05;
                bytes[3] = 24;
            }
            if named {
                bytes[8..12].copy_from_slice(&network.view(0).discriminator.0.get().to_be_bytes());
            }
            network.deliver(0, &bytes);
            network.run(ms(wait));
            prop_assert!(network.ends[0].poll_timeout().is_none_or(|at| at >= network.now));
        }
        // What a liar advertised holds until it was silent for as long as it said, at most 255 x 71 minutes: the
        // honest end's next packet corrects it.
        network.run(ms(20_000));
        prop_assert_eq!(network.view(0).state, State::Up);
        prop_assert_eq!(network.view(1).state, State::Up);
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused_in_words() {
    let link_local: IpAddr = "fe80::1".parse().unwrap();
    let key = |remote: IpAddr| SessionKey { remote, ..key(0) };
    let good = config(100, 3);
    assert_eq!(good.check(&key(address(1))), Ok(()));
    let said = |config: &SessionConfig, key: &SessionKey| config.check(key).unwrap_err().to_string();
    assert!(said(&config(9, 3), &key(address(1))).contains("9ms is not possible: 10ms to 60s"));
    assert!(said(&config(100, 0), &key(address(1))).contains("multiplier"));
    assert!(said(&good, &key(link_local)).contains("interface"));
    let bound = SessionKey { interface: Some("eth0".into()), ..key(link_local) };
    assert_eq!(good.check(&bound), Ok(()));
    assert!(said(&good, &SessionKey { multihop: true, ..bound }).contains("multihop"));
    assert!(said(&good, &SessionKey { local: Some(link_local), ..key(address(1)) }).contains("family"));
}
