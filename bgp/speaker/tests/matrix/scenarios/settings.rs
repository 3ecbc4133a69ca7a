use margay_bgp_speaker::core::wire::{AsPath, Attributes};
use margay_bgp_speaker::core::{PeerName, RejectReason};
use margay_net::Asn;

use super::{SOON, Scenario, wait_for_path, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::collector::Collector;
use crate::matrix::daemons::start;
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{so, within};

pub const SCENARIO: Scenario = Scenario {
    name: "settings",
    features: &[Feature::Passive, Feature::Multihop, Feature::LocalAs, Feature::AllowOwnAs],
    run,
};

const LOCAL_ASN: u32 = 65010;
const COLLECTOR_ASN: u32 = 65003;

/// The daemon connects to us, over what may be several hops, and knows us by another AS number.
fn run(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.active = true;
    setup.multihop = true;
    setup.collector_asn = Some(COLLECTOR_ASN);
    setup.our_asn = LOCAL_ASN;
    let mut own = cell.own(&lab, &setup);
    own.asn = Asn(64999);
    let peer = own.peers.get_mut(PEER).unwrap();
    peer.local_asn = Some(Asn(LOCAL_ASN));
    peer.multihop = true;
    let ours = OurSpeaker::start(&lab, own.clone(), false);
    let daemon = start(cell, &lab, &setup);
    let view = ours.wait_established();
    assert_eq!(view.local_address.unwrap().port(), 179, "the daemon connected");
    cell.passed(Feature::Passive);
    cell.passed(Feature::Multihop);
    wait_for_routes(&*daemon, &ours, &lab);
    let path = wait_for_path(&*daemon, &lab, lab.our_prefixes()[0], "our route", |_| true);
    assert_eq!(path.as_path, LOCAL_ASN.to_string());
    cell.passed(Feature::LocalAs);

    let collector = Collector::connect(&lab, lab.peer_address(), COLLECTOR_ASN, false);
    let attributes = Attributes {
        as_path: AsPath::sequence([COLLECTOR_ASN, 64999].map(Asn)),
        next_hop: Some(lab.collector_address()),
        ..Attributes::default()
    };
    collector.announce(&attributes, &[cell.prefix(5)]);
    within(SOON, "a path with our AS number is refused", || {
        let received = ours.block_on(ours.handle.received(PeerName::from(PEER))).unwrap();
        let paths = received.iter().filter(|route| route.prefix == cell.prefix(5)).flat_map(|route| &route.paths);
        let rejected: Vec<_> = paths.map(|path| path.rejected).collect();
        so(rejected == [Some(RejectReason::AsPathLoop)], || format!("{rejected:?}"))
    });
    own.peers.get_mut(PEER).unwrap().allow_own_as = 1;
    ours.configure(own);
    within(SOON, "it is taken where that is allowed", || {
        ours.fib(|fib| so(fib.routes.contains_key(&cell.prefix(5)), || "not there".to_owned()))
    });
    assert_eq!(ours.peer().established_count, 1, "the session stays");
    cell.passed(Feature::AllowOwnAs);
}
