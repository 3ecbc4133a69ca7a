use margay_bgp_speaker::core::{FsmState, ListenRange};
use margay_net::Cidr;

use super::{SOON, Scenario, has_ours};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::daemons::start;
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{so, within};

pub const SCENARIO: Scenario = Scenario { name: "range", features: &[Feature::DynamicNeighbours], run };

/// The daemon connects to a speaker that knows the range of its address alone.
fn run(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.active = true;
    let mut own = cell.own(&lab, &setup);
    let template = own.peers.remove(PEER).unwrap();
    let prefix: Cidr = lab.cable();
    own.listen_ranges.insert("rack".into(), ListenRange { prefix, limit: 1, asns: Default::default(), template });
    let ours = OurSpeaker::start(&lab, own, false);
    let daemon = start(cell, &lab, &setup);
    let peers = || ours.block_on(ours.handle.peers()).unwrap();
    within(SOON, "a session with a peer of the range", || {
        let peers = peers();
        let up = |peer: &&margay_bgp_speaker::core::PeerView| peer.state == FsmState::Established && peer.dynamic;
        so(peers.iter().filter(up).count() == 1, || format!("{peers:?}"))
    });
    assert_eq!(peers()[0].remote, lab.peer_address());
    within(SOON, "the daemon has our routes", || has_ours(&*daemon, &lab));
    within(SOON, "felix has the daemon's routes", || {
        ours.fib(|fib| so(fib.routes.len() == lab.peer_prefixes().len(), || format!("{} routes", fib.routes.len())))
    });
    drop(daemon);
    within(SOON, "the peer is forgotten", || {
        let peers = peers();
        so(peers.iter().all(|peer| peer.state != FsmState::Established), || format!("{peers:?}"))
    });
    cell.passed(Feature::DynamicNeighbours);
}
