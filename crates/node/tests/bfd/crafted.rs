//! Packets that no peer should send: dropped, counted by reason, and no session is disturbed.

use std::net::UdpSocket;
use std::time::Duration;

use margay_local_api::BfdProcessStatus;

use crate::bird::Bird;
use crate::client::status;
use crate::lab::{Lab, Way, within};
use crate::margay::Margay;
use crate::peers::Peer;

/// State Down: taken by the session, it would fail.
fn packet(your_discriminator: u32) -> Vec<u8> {
    let mut bytes = vec![0x20, 0x40, 3, 24];
    for word in [0x0102_0304, your_discriminator, 1_000_000, 1_000_000, 0] {
        bytes.extend(u32::to_be_bytes(word));
    }
    bytes
}

/// Sends a payload from the peer's namespace, as another process there.
fn send(lab: &Lab, payload: &[u8], port: u16, ttl: u32) {
    let (ours, theirs) = (lab.way.our_address(), lab.way.their_address());
    lab.theirs.inside(|| {
        let socket = UdpSocket::bind((theirs, 0)).unwrap();
        let options = socket2::SockRef::from(&socket);
        if ours.is_ipv4() { options.set_ttl_v4(ttl) } else { options.set_unicast_hops_v6(ttl) }.unwrap();
        socket.send_to(payload, (ours, port)).unwrap();
    });
}

fn discarded(status: &BfdProcessStatus, reason: &str) -> u64 {
    status.discarded.get(reason).copied().unwrap_or_default()
}

fn bad_packets(way: Way, port: u16, wrong_ttl: u32) {
    let lab = Lab::new(way);
    let bird = Bird::start(&lab);
    let margay = Margay::start(&lab);
    let mut client = margay.attach();
    client.want(&[lab.session()]);
    let session = client.wait_until_settled(300);
    let right = packet(session.discriminator);
    let with = |changes: &[(usize, u8)]| {
        let mut bytes = right.clone();
        changes.iter().for_each(|(place, value)| bytes[*place] = *value);
        bytes
    };
    let zero = [(8, 0), (9, 0), (10, 0), (11, 0)];
    let authenticated = [with(&[(1, 0x44), (3, 28)]), vec![1, 4, 1, b'x']].concat();
    let cases: [(&str, Vec<u8>, u32); 13] = [
        ("ttl", right.clone(), wrong_ttl),
        ("ttl", right.clone(), 5),
        ("your_discriminator", with(&[&zero[..], &[(1, 0xc0)]].concat()), 255),
        ("your_discriminator", with(&[&zero[..], &[(1, 0x80)]].concat()), 255),
        ("length", with(&[(3, 23)]), 255),
        ("length", with(&[(3, 52)]), 255),
        ("truncated", right[..20].to_vec(), 255),
        ("version", with(&[(0, 0x00)]), 255),
        ("version", with(&[(0, 0x40)]), 255),
        ("authentication", authenticated, 255),
        ("detect_multiplier", with(&[(2, 0)]), 255),
        ("multipoint", with(&[(1, 0x41)]), 255),
        ("my_discriminator", with(&[(4, 0), (5, 0), (6, 0), (7, 0)]), 255),
    ];
    for (reason, payload, ttl) in cases {
        let before = discarded(&status(&margay.socket), reason);
        send(&lab, &payload, port, ttl);
        within(Duration::from_secs(3), &format!("{reason} is counted"), || {
            let status = status(&margay.socket);
            if discarded(&status, reason) == before + 1 { Ok(()) } else { Err(format!("{:?}", status.discarded)) }
        });
    }
    send(&lab, &packet(session.discriminator ^ 1), port, 255);
    within(Duration::from_secs(3), "an unknown discriminator is counted", || {
        let status = status(&margay.socket);
        if discarded(&status, "unknown_discriminator") == 1 { Ok(()) } else { Err(format!("{:?}", status.discarded)) }
    });
    // The other kind's port.
    send(&lab, &right, if port == 3784 { 4784 } else { 3784 }, 255);
    within(Duration::from_secs(3), "the wrong port is counted", || {
        let status = status(&margay.socket);
        let counted = discarded(&status, "wrong_path") + discarded(&status, "ttl");
        if counted == 3 { Ok(()) } else { Err(format!("{:?}", status.discarded)) }
    });
    client.must_stay_up(Duration::from_millis(500));
    let status = status(&margay.socket);
    assert_eq!(status.sessions[0].flaps, 0);
    assert_eq!(status.sessions[0].discriminator, session.discriminator);
    assert_eq!(status.sessions[0].remote_discriminator, session.remote_discriminator);
    assert!(bird.seen().unwrap().is_up);
    // That the packets would have had an effect, had they been right.
    send(&lab, &right, port, 255);
    client.wait_for(Duration::from_secs(3), |session| session.flaps == 1);
}

#[test]
fn bad_packets_over_ipv4_disturb_nothing() {
    bad_packets(Way::V4, 3784, 254);
}

#[test]
fn bad_packets_over_ipv6_disturb_nothing() {
    bad_packets(Way::V6, 3784, 254);
}

#[test]
fn bad_packets_over_several_hops_disturb_nothing() {
    // The router takes one more off.
    bad_packets(Way::MultihopV4, 4784, 63);
}
