use std::time::Duration;

use margay_bgp_speaker::core::FsmState;
use margay_net::{Cidr, Family, FromFelix, LocalRoute, LocalRouteChange, LocalRouteSource};

use super::{SOON, Scenario, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::daemons::start;
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{so, within};

pub const SCENARIO: Scenario = Scenario { name: "silence", features: &[Feature::HoldTimerExpires], run };

pub const SEND_HOLD: Scenario = Scenario { name: "does not read", features: &[Feature::SendHold], run: send_hold };

fn run(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.hold_time = 3;
    let mut daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    // Graceful restart would keep the routes.
    own.graceful_restart = None;
    let ours = OurSpeaker::start(&lab, own, false);
    ours.wait_established();
    wait_for_routes(&*daemon, &ours, &lab);
    daemon.pause(true);
    within(Duration::from_secs(6), "the daemon is given up", || {
        let view = ours.peer();
        so(view.state != FsmState::Established, || format!("{view:?}"))
    });
    let error = ours.peer().last_error.unwrap();
    assert!(error.contains("hold timer expired"), "{error}");
    within(SOON, "its routes are gone", || {
        ours.fib(|fib| so(fib.routes.is_empty(), || format!("{} routes left", fib.routes.len())))
    });
    daemon.pause(false);
    within(SOON, "the session is back", || {
        let view = ours.peer();
        so(view.established_count == 2, || format!("{view:?}"))
    });
    wait_for_routes(&*daemon, &ours, &lab);
    cell.passed(Feature::HoldTimerExpires);
}

/// Without a hold time, so that only what can't be sent tells of a peer that stands still.
fn send_hold(cell: &Cell) {
    let lab = cell.lab();
    let setup = cell.setup();
    let mut daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    own.graceful_restart = None;
    let peer = own.peers.get_mut(PEER).unwrap();
    peer.hold_time = Duration::ZERO;
    peer.send_hold_time = Some(Duration::from_secs(3));
    let ours = OurSpeaker::start(&lab, own, false);
    ours.wait_established();
    wait_for_routes(&*daemon, &ours, &lab);
    daemon.pause(true);
    // More than the sockets of both sides take.
    for block in 0..8u32 {
        let prefix = |n: u32| -> Cidr {
            let text = match cell.family {
                Family::V4 => format!("{}.{}.{}.{}/32", 20 + block, n >> 16 & 255, n >> 8 & 255, n & 255),
                Family::V6 => format!("fd20:{block:x}:{:x}:{:x}::1/128", n >> 16, n & 0xffff),
            };
            text.parse().unwrap()
        };
        let announce =
            |n| LocalRouteChange::Announce(LocalRoute { prefix: prefix(n), source: LocalRouteSource::Block });
        ours.felix_says(FromFelix::Local((0..100_000).map(announce).collect()));
    }
    within(Duration::from_secs(30), "the daemon is given up", || {
        let view = ours.peer();
        so(view.state != FsmState::Established, || format!("{view:?}"))
    });
    let error = ours.peer().last_error.unwrap().to_lowercase();
    assert!(error.contains("send hold"), "{error}");
    daemon.pause(false);
    cell.passed(Feature::SendHold);
}
