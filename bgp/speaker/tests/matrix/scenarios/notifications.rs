//! RFC 8538: a NOTIFICATION is no reason to drop routes, a Hard Reset is.

use std::time::Duration;

use margay_bgp_speaker::core::{FsmState, PeerName};

use super::{SOON, Scenario, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::daemons::{Daemon, logged_notification, start};
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{Lab, so, within};

pub const SCENARIO: Scenario = Scenario {
    name: "notifications",
    features: &[Feature::NotificationRestart, Feature::HardResetFromPeer, Feature::HardResetToPeer],
    run,
};

fn run(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.graceful_restart = true;
    let daemon = start(cell, &lab, &setup);
    let ours = OurSpeaker::start(&lab, cell.own(&lab, &setup), false);
    let view = ours.wait_established();
    assert!(view.capabilities.iter().any(|words| words.contains("notifications too")), "{:?}", view.capabilities);
    wait_for_routes(&*daemon, &ours, &lab);

    daemon.cease(lab.our_address(), false);
    within(SOON, "the routes are kept", || {
        let view = ours.peer();
        let stale = ours.fib(|fib| fib.routes.values().filter(|route| route.stale).count());
        assert!(ours.fib(|fib| fib.withdrawn.is_empty()), "a route went");
        so(view.state != FsmState::Established && stale == lab.peer_prefixes().len(), || format!("{stale}, {view:?}"))
    });
    again(&ours, &*daemon, &lab, 2);
    cell.passed(Feature::NotificationRestart);

    let mut number = 2;
    if cell.claims(Feature::HardResetFromPeer) {
        daemon.cease(lab.our_address(), true);
        within(SOON, "the routes are gone", || {
            ours.fib(|fib| so(fib.routes.is_empty(), || format!("{:?}", fib.routes)))
        });
        number += 1;
        again(&ours, &*daemon, &lab, number);
        cell.passed(Feature::HardResetFromPeer);
    }

    ours.block_on(ours.handle.reset(PeerName::from(PEER), None)).unwrap();
    within(SOON, "the daemon reads a Hard Reset", || logged_notification(&*daemon, 6, 9));
    again(&ours, &*daemon, &lab, number + 1);
    cell.passed(Feature::HardResetToPeer);
}

/// Waits for the session of this number, with all of its routes.
fn again(ours: &OurSpeaker, daemon: &dyn Daemon, lab: &Lab, number: u64) {
    // GoBGP rests for half a minute after a reset of its own.
    within(Duration::from_secs(50), "a new session", || {
        let view = ours.peer();
        so(view.state == FsmState::Established && view.established_count == number && !view.restarting, || {
            format!("{view:?}")
        })
    });
    wait_for_routes(daemon, ours, lab);
}
