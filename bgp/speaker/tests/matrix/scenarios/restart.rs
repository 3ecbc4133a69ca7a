//! RFC 4724 in both roles.

use margay_bgp_speaker::core::FsmState;

use super::{SOON, Scenario, has_ours, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::daemons::{start, start_again};
use crate::support::speaker::OurSpeaker;
use crate::support::{so, within};

pub const OF_THE_PEER: Scenario =
    Scenario { name: "the peer restarts", features: &[Feature::KeptOverPeersRestart], run: of_the_peer };
pub const OF_OURS: Scenario = Scenario { name: "we restart", features: &[Feature::KeptOverOurRestart], run: of_ours };

fn of_the_peer(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.graceful_restart = true;
    let daemon = start(cell, &lab, &setup);
    let ours = OurSpeaker::start(&lab, cell.own(&lab, &setup), false);
    assert!(ours.wait_established().graceful_restart);
    wait_for_routes(&*daemon, &ours, &lab);
    drop(daemon);
    let count = lab.peer_prefixes().len();
    within(SOON, "the paths are stale", || {
        let view = ours.peer();
        let stale = ours.fib(|fib| fib.routes.values().filter(|route| route.stale).count());
        so(view.restarting && stale == count, || format!("{stale} stale, {view:?}"))
    });
    let daemon = start_again(cell, &lab, &setup, true);
    within(SOON, "the restart is over", || {
        let view = ours.peer();
        let fresh = ours.fib(|fib| fib.routes.values().filter(|route| !route.stale).count());
        so(view.state == FsmState::Established && !view.restarting && fresh == count, || {
            format!("{fresh} fresh, {view:?}")
        })
    });
    assert!(ours.fib(|fib| fib.withdrawn.is_empty()), "felix was told of no withdrawal");
    wait_for_routes(&*daemon, &ours, &lab);
    cell.passed(Feature::KeptOverPeersRestart);
}

fn of_ours(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.graceful_restart = true;
    let mut daemon = start(cell, &lab, &setup);
    let own = cell.own(&lab, &setup);
    let ours = OurSpeaker::start(&lab, own.clone(), false);
    ours.wait_established();
    wait_for_routes(&*daemon, &ours, &lab);
    ours.crash();
    has_ours(&*daemon, &lab).unwrap();
    let ours = OurSpeaker::start(&lab, own, true);
    within(SOON, "the session is back", || {
        has_ours(&*daemon, &lab).expect("our routes stay at the daemon");
        let view = ours.peer();
        let advertised = view.counts.get(&lab.family).map_or(0, |counts| counts.advertised);
        so(view.state == FsmState::Established && advertised == lab.our_prefixes().len(), || format!("{view:?}"))
    });
    wait_for_routes(&*daemon, &ours, &lab);
    assert!(ours.fib(|fib| fib.complete && fib.withdrawn.is_empty()));
    daemon.process().assert_running();
    cell.passed(Feature::KeptOverOurRestart);
}
