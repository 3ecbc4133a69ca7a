use margay_bgp_speaker::core::wire::{AsPath, Attributes};
use margay_bgp_speaker::core::{AddPath, AddPathSend, PeerName};
use margay_net::{Asn, Cidr};

use super::{SOON, Scenario, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::collector::Collector;
use crate::matrix::daemons::start;
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{so, within};

pub const SCENARIO: Scenario =
    Scenario { name: "paths", features: &[Feature::AddPathReceived, Feature::AddPathSent], run };

const COLLECTOR_ASN: u32 = 65003;

/// The collector announces a prefix of the daemon's to the daemon, and one of ours to us.
fn run(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.add_path = true;
    setup.collector_asn = Some(COLLECTOR_ASN);
    let daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    own.peers.get_mut(PEER).unwrap().add_path = AddPath { receive: true, send: AddPathSend::All };
    own.peers.insert("collector".into(), cell.collector(&lab, COLLECTOR_ASN));
    let ours = OurSpeaker::start(&lab, own, false);
    let view = ours.wait_established();
    assert!(view.add_path_receive.contains(&cell.family) && view.add_path_send.contains(&cell.family), "{view:?}");
    wait_for_routes(&*daemon, &ours, &lab);
    let attributes = Attributes {
        as_path: AsPath::sequence([COLLECTOR_ASN, 65077].map(Asn)),
        next_hop: Some(lab.collector_address()),
        ..Attributes::default()
    };
    let (theirs, mine) = (lab.peer_prefixes()[0], lab.our_prefixes()[0]);
    let to_daemon = Collector::connect(&lab, lab.peer_address(), COLLECTOR_ASN, false);
    to_daemon.announce(&attributes, &[theirs]);
    within(SOON, "two paths of the daemon", || {
        let paths = received(&ours, theirs);
        so(paths == ["65001", "65001 65003 65077"], || format!("{paths:?}"))
    });
    drop(to_daemon);
    within(SOON, "one path of the daemon", || {
        let paths = received(&ours, theirs);
        so(paths == ["65001"], || format!("{paths:?}"))
    });
    cell.passed(Feature::AddPathReceived);

    let to_us = Collector::connect(&lab, lab.our_address(), COLLECTOR_ASN, false);
    to_us.announce(&attributes, &[mine]);
    let at_daemon = || -> Result<Vec<String>, String> {
        let mut paths: Vec<String> =
            daemon.paths(mine, lab.our_address())?.into_iter().map(|path| path.as_path).collect();
        paths.sort();
        Ok(paths)
    };
    within(SOON, "two paths at the daemon", || {
        let paths = at_daemon()?;
        so(paths == ["4200000001", "4200000001 65003 65077"], || format!("{paths:?}"))
    });
    drop(to_us);
    within(SOON, "one path at the daemon", || {
        let paths = at_daemon()?;
        so(paths == ["4200000001"], || format!("{paths:?}"))
    });
    assert_eq!(ours.peer().established_count, 1);
    cell.passed(Feature::AddPathSent);
}

fn received(ours: &OurSpeaker, prefix: Cidr) -> Vec<String> {
    let routes = ours.block_on(ours.handle.received(PeerName::from(PEER))).unwrap();
    let paths = routes.into_iter().filter(|route| route.prefix == prefix).flat_map(|route| route.paths);
    let mut paths: Vec<String> = paths.map(|path| path.attributes.as_path).collect();
    paths.sort();
    paths
}
