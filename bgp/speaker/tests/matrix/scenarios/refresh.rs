use std::cell::RefCell;

use margay_bgp_speaker::core::{EventKind, PeerName, RefreshDirection};

use super::{SOON, Scenario, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::daemons::start;
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{so, within};

pub const SCENARIO: Scenario =
    Scenario { name: "refresh", features: &[Feature::EnhancedRefreshByPeer, Feature::EnhancedRefreshByUs], run };

fn run(cell: &Cell) {
    let lab = cell.lab();
    let setup = cell.setup();
    let daemon = start(cell, &lab, &setup);
    let ours = OurSpeaker::start(&lab, cell.own(&lab, &setup), false);
    let view = ours.wait_established();
    assert!(view.capabilities.iter().any(|words| words.contains("enhanced route refresh")), "{:?}", view.capabilities);
    wait_for_routes(&*daemon, &ours, &lab);
    let heard = RefCell::new((ours.handle.events().unwrap(), Vec::new()));
    let happened = |wanted: fn(&EventKind) -> bool| {
        let (events, kinds) = &mut *heard.borrow_mut();
        while let Ok(event) = events.try_recv() {
            kinds.push(event.kind);
        }
        so(kinds.iter().any(wanted), || format!("{kinds:?}"))
    };

    daemon.refresh(lab.our_address());
    within(SOON, "we answer with all of our routes", || {
        happened(|kind| matches!(kind, EventKind::RefreshAnswered { .. }))
    });
    within(SOON, "the daemon saw the beginning and the end", || daemon.saw_enhanced_refresh(lab.our_address()));
    cell.passed(Feature::EnhancedRefreshByPeer);
    if !cell.claims(Feature::EnhancedRefreshByUs) {
        return;
    }

    ours.block_on(ours.handle.refresh(PeerName::from(PEER), RefreshDirection::In)).unwrap();
    within(SOON, "the daemon says the beginning", || happened(|kind| matches!(kind, EventKind::RefreshBegan(_))));
    within(SOON, "and the end", || happened(|kind| matches!(kind, EventKind::RefreshEnded { removed: 0, .. })));
    wait_for_routes(&*daemon, &ours, &lab);
    assert!(ours.fib(|fib| fib.withdrawn.is_empty()));
    assert_eq!(ours.peer().established_count, 1);
    cell.passed(Feature::EnhancedRefreshByUs);
}
