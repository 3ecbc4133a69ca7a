//! Clients that break the protocol get the right NOTIFICATION, and nobody else notices.

use std::time::Duration;

use margay_bgp_speaker::core::{FsmState, PeerName};
use margay_net::Family;

use crate::support::bird::Bird;
use crate::support::peer::PeerOptions;
use crate::support::speaker::{OurSpeaker, config};
use crate::support::{Lab, raw, within};

#[test]
fn a_broken_message_gets_its_notification_and_other_sessions_go_on() {
    let lab = Lab::new(Family::V4);
    let _bird = Bird::start(&lab, &PeerOptions::default());
    let mut own = config(&lab);
    own.peers.insert(PeerName::from("raw"), raw::peer_config());
    let ours = OurSpeaker::start(&lab, own, false);
    let before = ours.wait_established();

    let mut short_marker = [0xff; 16];
    short_marker[7] = 0;
    let good = [0xff; 16];
    let open =
        |version, asn, hold_time, identifier| raw::message(raw::OPEN, &raw::open(version, asn, hold_time, identifier));
    let id = [192, 0, 2, 3];
    let mut unknown_parameter = raw::open(4, raw::ASN, 90, id);
    unknown_parameter.pop();
    unknown_parameter.extend([3, 99, 1, 0]);
    let garbage: Vec<u8> = (0..60u8).map(|n| n.wrapping_mul(151) ^ 0x5a).collect();
    // Code and subcode of RFC 4271 section 6, and the data that it demands.
    let cases: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("a bad marker", raw::message_with(short_marker, 29, raw::OPEN, &[4; 10]), vec![1, 1]),
        ("a length below 19", raw::message_with(good, 18, raw::KEEPALIVE, &[]), vec![1, 2, 0, 18]),
        ("a length above 4096", raw::message_with(good, 5000, raw::UPDATE, &[0; 200]), vec![1, 2, 0x13, 0x88]),
        ("a long KEEPALIVE", raw::message_with(good, 20, raw::KEEPALIVE, &[0]), vec![1, 2, 0, 20]),
        ("a short OPEN", raw::message_with(good, 28, raw::OPEN, &[4; 9]), vec![1, 2, 0, 28]),
        ("an unknown type", raw::message(9, &[]), vec![1, 3, 9]),
        ("version 3", open(3, raw::ASN, 90, id), vec![2, 1, 0, 4]),
        ("another AS", open(4, raw::ASN + 1, 90, id), vec![2, 2]),
        ("identifier 0", open(4, raw::ASN, 90, [0; 4]), vec![2, 3]),
        ("an unknown parameter", raw::message(raw::OPEN, &unknown_parameter), vec![2, 4]),
        ("a hold time of 1 s", open(4, raw::ASN, 1, id), vec![2, 6]),
    ];
    for (what, bytes, expected) in cases {
        let answer = within(Duration::from_secs(15), what, || raw::notification_for(&lab, &bytes));
        assert_eq!(answer, expected, "{what}");
    }
    let answer = within(Duration::from_secs(15), "a garbage OPEN", || {
        raw::notification_for(&lab, &raw::message(raw::OPEN, &garbage))
    });
    assert_eq!(answer[0], 2, "a garbage OPEN: {answer:?}");

    let after = ours.peer();
    assert_eq!((after.state, after.since), (FsmState::Established, before.since));
    assert_eq!(after.established_count, 1);
    assert_eq!(ours.peer_named("raw").established_count, 0);
}
