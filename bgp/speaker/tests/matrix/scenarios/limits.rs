use std::time::Duration;

use margay_bgp_speaker::core::{FsmState, MaxPrefixes, MaxPrefixesAction};

use super::{SOON, Scenario, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::daemons::{logged_notification, start};
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{so, within};

pub const SCENARIO: Scenario = Scenario { name: "limits", features: &[Feature::MaxPrefixes], run };

/// The daemon announces three prefixes where two are allowed.
fn run(cell: &Cell) {
    let lab = cell.lab();
    let setup = cell.setup();
    let daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    let limit = |limit| MaxPrefixes { limit, warning_percent: 75, action: MaxPrefixesAction::Hold };
    own.peers.get_mut(PEER).unwrap().max_prefixes.insert(cell.family, limit(2));
    let ours = OurSpeaker::start(&lab, own.clone(), false);
    within(SOON, "the daemon reads why it is stopped", || logged_notification(&*daemon, 6, 1));
    within(SOON, "an operator reads why, and what ends it", || {
        let view = ours.peer();
        so(view.state == FsmState::Idle && !view.waits.is_empty(), || format!("{view:?}"))
    });
    let error = ours.peer().last_error.unwrap();
    assert!(error.contains('2') && error.to_lowercase().contains("prefix"), "{error}");
    // However often the daemon tries.
    let held = std::time::Instant::now();
    within(Duration::from_secs(10), "the session stays away", || {
        let view = ours.peer();
        assert_ne!(view.state, FsmState::Established, "{view:?}");
        so(held.elapsed() > Duration::from_secs(3), || "held".to_owned())
    });
    // FRR also sends our own routes back, and they count.
    own.peers.get_mut(PEER).unwrap().max_prefixes.insert(cell.family, limit(10));
    ours.configure(own);
    ours.wait_established();
    wait_for_routes(&*daemon, &ours, &lab);
    cell.passed(Feature::MaxPrefixes);
}
