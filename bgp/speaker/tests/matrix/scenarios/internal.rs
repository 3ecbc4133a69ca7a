use std::net::Ipv4Addr;

use margay_bgp_speaker::core::PeerConfig;
use margay_bgp_speaker::core::wire::{AsPath, Attributes};
use margay_net::Asn;

use super::{SOON, Scenario, wait_for_path, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::collector::Collector;
use crate::matrix::daemons::start;
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{PEER_ASN, so, within};

pub const SCENARIO: Scenario = Scenario {
    name: "internal",
    features: &[Feature::InternalRoutes, Feature::ReflectToPeer, Feature::ReflectedByPeer],
    run,
};

/// The daemon and we are each other's reflectors; the collector is first a client of ours, then of the daemon.
fn run(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.our_asn = PEER_ASN;
    setup.collector_asn = Some(PEER_ASN);
    setup.reflects = true;
    let daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    own.peers.get_mut(PEER).unwrap().route_reflector_client = true;
    let mut client = PeerConfig::new(lab.collector_address(), Asn(PEER_ASN));
    client.passive = true;
    client.route_reflector_client = true;
    own.peers.insert("collector".into(), client);
    let ours = OurSpeaker::start(&lab, own, false);
    assert!(ours.wait_established().ibgp);
    wait_for_routes(&*daemon, &ours, &lab);
    for prefix in lab.our_prefixes() {
        let path = wait_for_path(&*daemon, &lab, prefix, "our route", |_| true);
        assert_eq!((path.as_path.as_str(), path.local_pref), ("", Some(100)), "{path:?}");
        assert_eq!(path.next_hop, Some(lab.our_address()), "{path:?}");
    }
    for attributes in ours.received().values() {
        assert_eq!((attributes.as_path.as_str(), attributes.local_pref), ("", Some(100)));
        assert_eq!((attributes.next_hop, attributes.med), (Some(lab.peer_address()), Some(77)));
    }
    cell.passed(Feature::InternalRoutes);

    let attributes = Attributes {
        as_path: AsPath::sequence([Asn(65077)]),
        next_hop: Some(lab.collector_address()),
        local_pref: Some(300),
        ..Attributes::default()
    };
    let client_of_ours = Collector::connect(&lab, lab.our_address(), PEER_ASN, true);
    client_of_ours.announce(&attributes, &[cell.prefix(3)]);
    let path = wait_for_path(&*daemon, &lab, cell.prefix(3), "the client's route", |_| true);
    assert_eq!(path.originator_id, Some(Ipv4Addr::new(192, 0, 2, 3)), "{path:?}");
    // OpenBGPD shows it with its own in front.
    assert_eq!(path.cluster_list.last(), Some(&Ipv4Addr::new(192, 0, 2, 1)), "{path:?}");
    assert_eq!((path.as_path.as_str(), path.local_pref), ("65077", Some(300)), "{path:?}");
    assert_eq!(path.next_hop, Some(lab.collector_address()), "{path:?}");
    let told = within(SOON, "the daemon's route at our client", || client_of_ours.route(lab.peer_prefixes()[0]));
    assert_eq!(told.originator_id, Some(Ipv4Addr::new(192, 0, 2, 2)));
    // GoBGP adds its own to routes of its own, too.
    assert_eq!(told.cluster_list.first(), Some(&Ipv4Addr::new(192, 0, 2, 1)));
    cell.passed(Feature::ReflectToPeer);
    drop(client_of_ours);

    let client_of_theirs = Collector::connect(&lab, lab.peer_address(), PEER_ASN, true);
    client_of_theirs.announce(&attributes, &[cell.prefix(4)]);
    let received = within(SOON, "the daemon reflects to us", || {
        ours.received().remove(&cell.prefix(4)).ok_or_else(|| "not received".to_owned())
    });
    assert_eq!(received.originator_id, Some(Ipv4Addr::new(192, 0, 2, 3)));
    assert_eq!(received.cluster_list, [Ipv4Addr::new(192, 0, 2, 2)]);
    assert_eq!((received.as_path.as_str(), received.local_pref), ("65077", Some(300)));
    let told = within(SOON, "our route at the daemon's client", || client_of_theirs.route(lab.our_prefixes()[0]));
    assert_eq!(told.originator_id, Some(Ipv4Addr::new(192, 0, 2, 1)));
    within(SOON, "felix has the reflected route", || {
        ours.fib(|fib| so(fib.routes.contains_key(&cell.prefix(4)), || "not there".to_owned()))
    });
    cell.passed(Feature::ReflectedByPeer);
}
