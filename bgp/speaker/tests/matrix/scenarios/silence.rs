use std::time::Duration;

use margay_bgp_speaker::core::FsmState;

use super::{SOON, Scenario, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::daemons::start;
use crate::support::speaker::OurSpeaker;
use crate::support::{so, within};

pub const SCENARIO: Scenario = Scenario { name: "silence", features: &[Feature::HoldTimerExpires], run };

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
