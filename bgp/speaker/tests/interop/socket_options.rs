//! TCP-MD5 (RFC 2385) and GTSM (RFC 5082) with real peers, whoever connects.

use std::time::Duration;

use margay_bgp_speaker::core::{FsmState, Secret, SpeakerConfig};
use margay_net::Family;

use crate::support::bird::Bird;
use crate::support::frr::Frr;
use crate::support::peer::PeerOptions;
use crate::support::process::run;
use crate::support::speaker::{OurSpeaker, PEER, config};
use crate::support::{Lab, so, within};

const KEY: &str = "key-of-the-test";

#[test]
fn a_session_that_we_open_can_have_a_key_and_gtsm() {
    for family in Family::ALL {
        let lab = Lab::new(family);
        let _bird = Bird::start(&lab, &secured(false));
        OurSpeaker::start(&lab, own(&lab, Some(KEY), false), false).wait_established();
    }
}

#[test]
fn a_session_that_we_accept_can_have_a_key_and_gtsm() {
    for family in Family::ALL {
        let lab = Lab::new(family);
        let _bird = Bird::start(&lab, &secured(true));
        OurSpeaker::start(&lab, own(&lab, Some(KEY), true), false).wait_established();
    }
}

#[test]
fn frr_agrees_on_key_and_gtsm() {
    for family in Family::ALL {
        let lab = Lab::new(family);
        let _frr = Frr::start(&lab, &secured(false));
        OurSpeaker::start(&lab, own(&lab, Some(KEY), false), false).wait_established();
    }
}

#[test]
fn a_wrong_key_makes_no_session_and_a_changed_one_does() {
    let lab = Lab::new(Family::V4);
    let _bird = Bird::start(&lab, &secured(true));
    let ours = OurSpeaker::start(&lab, own(&lab, Some("another key"), true), false);
    within(Duration::from_secs(10), "our kernel drops what is signed with another key", || {
        let mut command = lab.ours.command("cat");
        command.arg("/proc/thread-self/net/netstat");
        let statistics = run(command)?;
        so(counter(&statistics, "TCPMD5Failure") > 0, || statistics)
    });
    assert_ne!(ours.peer().state, FsmState::Established);
    ours.configure(own(&lab, Some(KEY), true));
    ours.wait_established();
}

/// A value of the `TcpExt` lines: names, then values.
fn counter(statistics: &str, name: &str) -> u64 {
    let lines: Vec<Vec<&str>> =
        statistics.lines().filter(|line| line.starts_with("TcpExt:")).map(|line| line.split(' ').collect()).collect();
    let index = lines[0].iter().position(|column| *column == name).unwrap();
    lines[1][index].parse().unwrap()
}

fn secured(active: bool) -> PeerOptions {
    PeerOptions { password: Some(KEY), ttl_security: true, active, ..PeerOptions::default() }
}

fn own(lab: &Lab, key: Option<&str>, passive: bool) -> SpeakerConfig {
    let mut own = config(lab);
    let peer = own.peers.get_mut(PEER).unwrap();
    peer.password = key.map(Secret::new);
    peer.ttl_security = Some(1);
    peer.passive = passive;
    own
}
