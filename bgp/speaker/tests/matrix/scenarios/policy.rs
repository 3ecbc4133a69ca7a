//! RFC 8212: an eBGP session without a policy carries nothing.

use margay_bgp_speaker::core::{ExportPolicy, ImportPolicy, PeerName, RejectReason, RuleSet};

use super::{SOON, Scenario, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::collector::Collector;
use crate::matrix::daemons::start;
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{so, within};

pub const OF_OURS: Scenario = Scenario { name: "no policy", features: &[Feature::OurPolicy], run: of_ours };
pub const OF_THE_PEER: Scenario =
    Scenario { name: "no policy there", features: &[Feature::PeersPolicy], run: of_the_peer };

const COLLECTOR_ASN: u32 = 65003;

fn of_ours(cell: &Cell) {
    let lab = cell.lab();
    let setup = cell.setup();
    let daemon = start(cell, &lab, &setup);
    let with_policy = cell.own(&lab, &setup);
    let mut own = with_policy.clone();
    let none = RuleSet { rules: Vec::new(), accept_by_default: false };
    let peer = own.peers.get_mut(PEER).unwrap();
    peer.import = ImportPolicy(none.clone());
    peer.export = ExportPolicy(none);
    let ours = OurSpeaker::start(&lab, own, false);
    ours.wait_established();
    let received = || ours.block_on(ours.handle.received(PeerName::from(PEER))).unwrap();
    within(SOON, "the daemon's routes are refused", || {
        let paths: Vec<_> = received().into_iter().flat_map(|route| route.paths).collect();
        let refused = paths.iter().filter(|path| path.rejected == Some(RejectReason::NoPolicy)).count();
        so(refused == lab.peer_prefixes().len() && paths.len() == refused, || format!("{paths:?}"))
    });
    assert!(ours.fib(|fib| fib.routes.is_empty()));
    assert!(ours.block_on(ours.handle.advertised(PeerName::from(PEER))).unwrap().is_empty());
    for prefix in lab.our_prefixes() {
        assert_eq!(daemon.paths(prefix, lab.our_address()), Ok(Vec::new()));
    }
    ours.configure(with_policy);
    wait_for_routes(&*daemon, &ours, &lab);
    assert_eq!(ours.peer().established_count, 1);
    cell.passed(Feature::OurPolicy);
}

fn of_the_peer(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.policy = false;
    setup.collector_asn = Some(COLLECTOR_ASN);
    // So that each says when it has told all.
    setup.graceful_restart = true;
    let mut daemon = start(cell, &lab, &setup);
    let ours = OurSpeaker::start(&lab, cell.own(&lab, &setup), false);
    ours.wait_established();
    let collector = Collector::connect(&lab, lab.peer_address(), COLLECTOR_ASN, false);
    within(SOON, "the daemon has told all that it tells", || {
        let view = ours.peer();
        let advertised = view.counts.get(&cell.family).map_or(0, |counts| counts.advertised);
        let told = advertised == lab.our_prefixes().len() && view.unsent_bytes == 0;
        so(view.end_of_rib.contains(&cell.family) && told, || format!("{view:?}"))
    });
    within(SOON, "the daemon has read ours", || so(daemon.process().has_read_all(), || "not yet".to_owned()));
    assert!(ours.received().is_empty(), "{:?}", ours.received());
    for prefix in lab.our_prefixes() {
        assert_eq!(daemon.best(prefix).ok().flatten(), None, "ours is not used");
        assert!(collector.route(prefix).is_err(), "nor passed on");
    }
    assert_eq!(ours.peer().established_count, 1);
    cell.passed(Feature::PeersPolicy);
}
