use std::time::{Duration, Instant};

use margay_bgp_speaker::core::{FsmState, Secret};

use super::{Scenario, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::daemons::start;
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{so, within};

pub const SCENARIO: Scenario = Scenario {
    name: "secured",
    features: &[Feature::Md5, Feature::Md5WrongKey, Feature::Md5KeyChange, Feature::Gtsm],
    run,
};

/// First with a wrong key, then with the right one.
fn run(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.key = Some("key-of-the-test");
    setup.ttl_security = cell.claims(Feature::Gtsm);
    let daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    let right = own.clone();
    own.peers.get_mut(PEER).unwrap().password = Some(Secret::new("another key"));
    let ours = OurSpeaker::start(&lab, own, false);
    let start = Instant::now();
    within(Duration::from_secs(20), "attempts are in vain", || {
        let view = ours.peer();
        assert!(view.state < FsmState::OpenSent, "{view:?}");
        so(start.elapsed() > Duration::from_secs(6), || format!("{view:?}"))
    });
    assert_eq!(ours.peer().established_count, 0);
    cell.passed(Feature::Md5WrongKey);
    ours.configure(right);
    ours.wait_established();
    wait_for_routes(&*daemon, &ours, &lab);
    cell.passed(Feature::Md5KeyChange);
    cell.passed(Feature::Md5);
    if cell.claims(Feature::Gtsm) {
        cell.passed(Feature::Gtsm);
    }
}
