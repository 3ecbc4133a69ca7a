//! Where the two ends of a session are, who they are, and how long they wait for each other.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use margay_bgp_speaker::core::EventKind;
use margay_net::Family;

use super::{SOON, Scenario, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::daemons::start;
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{INTERFACE, Lab, PEER_ASN, so, within};

pub const SCENARIO: Scenario = Scenario {
    name: "endpoints",
    features: &[Feature::SourceAddress, Feature::OtherPort, Feature::HoldTime, Feature::SameRouterId],
    run,
};

/// The daemons'.
const THEIR_ROUTER_ID: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn run(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.port = 1179;
    prefer_another_address(&lab);
    let daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    own.router_id = THEIR_ROUTER_ID;
    let peer = own.peers.get_mut(PEER).unwrap();
    // The daemon knows us by this address alone.
    peer.source = Some(lab.our_address());
    peer.hold_time = Duration::from_secs(6);
    let ours = OurSpeaker::start(&lab, own.clone(), false);
    let view = ours.wait_established();
    assert_eq!(view.local_address.unwrap().ip(), lab.our_address());
    assert_eq!(view.remote_address.unwrap().port(), 1179);
    assert_eq!(view.router_id, Some(THEIR_ROUTER_ID));
    wait_for_routes(&*daemon, &ours, &lab);
    cell.passed(Feature::SourceAddress);
    cell.passed(Feature::OtherPort);
    cell.passed(Feature::SameRouterId);

    let agreed = |seconds: u64| {
        within(SOON, "both have the lower hold time", || {
            let (view, theirs) = (ours.peer(), daemon.hold_time(lab.our_address())?);
            so((view.hold_time, theirs) == (Some(seconds), seconds), || format!("{theirs} there, {view:?}"))
        });
    };
    agreed(6);
    own.peers.get_mut(PEER).unwrap().hold_time = Duration::from_secs(90);
    ours.configure(own);
    agreed(setup.hold_time);
    cell.passed(Feature::HoldTime);
}

/// Gives us a second address, which the kernel prefers to the one that the daemon knows.
fn prefer_another_address(lab: &Lab) {
    let dev = ["dev", INTERFACE];
    match lab.family {
        Family::V4 => {
            // The first one is preferred.
            for words in [["del", "192.0.2.1/24"], ["add", "192.0.2.4/24"], ["add", "192.0.2.1/24"]] {
                lab.ours.ip(&[&["address"], &words[..], &dev].concat());
            }
        }
        Family::V6 => {
            lab.ours.ip(&[&["address", "add", "fd99::4/64"], &dev[..], &["nodad"]].concat());
            let deprecated = ["preferred_lft", "0", "valid_lft", "forever"];
            lab.ours.ip(&[&["address", "change", "fd99::1/64"], &dev[..], &deprecated].concat());
        }
    }
    let (peer, any) = (lab.peer_address(), if lab.family == Family::V4 { "0.0.0.0:0" } else { "[::]:0" });
    let chosen = lab.ours.thread("source", move || {
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect((peer, 9)).unwrap();
        socket.local_addr().unwrap().ip()
    });
    assert_ne!(chosen.join().unwrap(), lab.our_address(), "the kernel prefers another address");
}

pub const SAME_INSIDE: Scenario =
    Scenario { name: "same id", features: &[Feature::SameRouterIdInternal], run: same_inside };

fn same_inside(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.our_asn = PEER_ASN;
    let mut daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    own.router_id = THEIR_ROUTER_ID;
    let ours = OurSpeaker::start(&lab, own, false);
    let mut events = ours.handle.events().unwrap();
    let mut heard = Vec::new();
    within(SOON, "one of both says Bad BGP Identifier", || {
        while let Ok(event) = events.try_recv() {
            heard.push(event.kind);
        }
        let is_said = |kind: &EventKind| match kind {
            EventKind::NotificationSent(words) | EventKind::NotificationReceived(words) => words.contains("(2/3)"),
            _ => false,
        };
        so(heard.iter().any(is_said), || format!("{heard:?}"))
    });
    assert_eq!(ours.peer().established_count, 0);
    daemon.process().assert_running();
    cell.passed(Feature::SameRouterIdInternal);
}
