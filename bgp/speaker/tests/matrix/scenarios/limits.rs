use std::time::Duration;

use margay_bgp_speaker::core::{EventKind, FsmState, MaxPrefixes, MaxPrefixesAction};

use super::{SOON, Scenario, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::daemons::{logged_notification, start};
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{so, within};

pub const SCENARIO: Scenario =
    Scenario { name: "limits", features: &[Feature::MaxPrefixesWarning, Feature::MaxPrefixes], run };

/// The daemon announces three prefixes where two are allowed.
fn run(cell: &Cell) {
    let lab = cell.lab();
    let setup = cell.setup();
    let daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    let warning = MaxPrefixes { limit: 2, warning_percent: 75, action: MaxPrefixesAction::Warn };
    own.peers.get_mut(PEER).unwrap().max_prefixes.insert(cell.family, warning);
    let ours = OurSpeaker::start(&lab, own.clone(), false);
    let mut events = ours.handle.events().unwrap();
    ours.wait_established();
    wait_for_routes(&*daemon, &ours, &lab);
    let mut heard = Vec::new();
    within(SOON, "an operator is warned", || {
        while let Ok(event) = events.try_recv() {
            if matches!(event.kind, EventKind::PrefixLimitExceeded { limit: 2, .. }) {
                return Ok(());
            }
            heard.push(event);
        }
        Err(format!("{heard:?}"))
    });
    assert_eq!(ours.peer().state, FsmState::Established);
    cell.passed(Feature::MaxPrefixesWarning);

    let limit = |limit| MaxPrefixes { limit, action: MaxPrefixesAction::Hold, ..warning };
    own.peers.get_mut(PEER).unwrap().max_prefixes.insert(cell.family, limit(2));
    ours.configure(own.clone());
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

pub const OF_THE_PEER: Scenario =
    Scenario { name: "their limit", features: &[Feature::PeersMaxPrefixes], run: of_the_peer };

/// We announce three prefixes where the daemon allows one.
fn of_the_peer(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    // FRR looks before it counts.
    setup.max_prefixes = Some(1);
    let mut daemon = start(cell, &lab, &setup);
    let ours = OurSpeaker::start(&lab, cell.own(&lab, &setup), false);
    within(SOON, "we read why it stops", || {
        let view = ours.peer();
        let error = view.last_error.clone().unwrap_or_default();
        so(error.contains("received NOTIFICATION") && error.contains("(6/1)"), || format!("{view:?}"))
    });
    daemon.process().assert_running();
    cell.passed(Feature::PeersMaxPrefixes);
}
