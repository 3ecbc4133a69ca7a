use margay_bgp_speaker::core::wire::{AsPath, Attributes, Community};
use margay_bgp_speaker::core::{PeerConfig, PeerName, RemovePrivateAs, RouteFilter};
use margay_net::{Asn, Cidr};

use super::{SOON, Scenario, wait_for_path, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::collector::Collector;
use crate::matrix::daemons::start;
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{so, within};

pub const SCENARIO: Scenario = Scenario {
    name: "egress",
    features: &[Feature::AsOverride, Feature::RemovePrivateAs, Feature::GracefulShutdown],
    run,
};

/// Not a private one, as little as ours and the daemon's are here.
const COLLECTOR_ASN: u32 = 3000;
const OUR_ASN: u32 = 1000;
const PEER_ASN: u32 = 2000;

/// What we tell the daemon of the collector's routes is changed by settings of the running session.
fn run(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.our_asn = OUR_ASN;
    setup.peer_asn = PEER_ASN;
    let daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    own.peers.insert("collector".into(), cell.collector(&lab, COLLECTOR_ASN));
    let ours = OurSpeaker::start(&lab, own.clone(), false);
    ours.wait_established();
    wait_for_routes(&*daemon, &ours, &lab);
    let collector = Collector::connect(&lab, lab.our_address(), COLLECTOR_ASN, false);
    let announce = |prefix: Cidr, asns: &[u32], communities: &[Community]| {
        let attributes = Attributes {
            as_path: AsPath::sequence(asns.iter().copied().map(Asn)),
            next_hop: Some(lab.collector_address()),
            communities: communities.to_vec(),
            ..Attributes::default()
        };
        collector.announce(&attributes, &[prefix]);
    };
    let mut change = |set: fn(&mut PeerConfig)| {
        set(own.peers.get_mut(PEER).unwrap());
        ours.configure(own.clone());
    };

    announce(cell.prefix(6), &[COLLECTOR_ASN, PEER_ASN, 4000], &[]);
    change(|peer| peer.as_override = true);
    wait_for_path(&*daemon, &lab, cell.prefix(6), "our AS in the place of the daemon's", |path| {
        path.as_path == format!("{OUR_ASN} {COLLECTOR_ASN} {OUR_ASN} 4000")
    });
    cell.passed(Feature::AsOverride);

    announce(cell.prefix(7), &[COLLECTOR_ASN, 64600, 4000, 4_200_000_077], &[]);
    let told = |what, expected: &[u32]| {
        let expected = expected.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        wait_for_path(&*daemon, &lab, cell.prefix(7), what, |path| path.as_path == expected);
    };
    told("private AS numbers as they came", &[OUR_ASN, COLLECTOR_ASN, 64600, 4000, 4_200_000_077]);
    change(|peer| peer.remove_private_as = RemovePrivateAs::Remove);
    told("none of them", &[OUR_ASN, COLLECTOR_ASN, 4000]);
    change(|peer| peer.remove_private_as = RemovePrivateAs::Replace);
    told("ours in their places", &[OUR_ASN, COLLECTOR_ASN, OUR_ASN, 4000, OUR_ASN]);
    cell.passed(Feature::RemovePrivateAs);

    change(|peer| peer.graceful_shutdown = true);
    wait_for_path(&*daemon, &lab, lab.our_prefixes()[0], "GRACEFUL_SHUTDOWN on our route", |path| {
        path.communities == ["65535:0"]
    });
    announce(cell.prefix(8), &[COLLECTOR_ASN], &[Community::GRACEFUL_SHUTDOWN]);
    within(SOON, "the route that goes away has the lowest preference", || {
        let filter = RouteFilter { within: Some(cell.prefix(8)), ..RouteFilter::default() };
        let routes = ours.block_on(ours.handle.routes(filter)).unwrap();
        let preference = routes.first().and_then(|route| route.paths.first()?.attributes.local_pref);
        so(preference == Some(0), || format!("{preference:?}"))
    });
    change(|peer| peer.graceful_shutdown = false);
    wait_for_path(&*daemon, &lab, lab.our_prefixes()[0], "our route without it", |path| path.communities.is_empty());
    cell.passed(Feature::GracefulShutdown);
    let peers = ours.block_on(ours.handle.peers()).unwrap();
    let peer = peers.iter().find(|peer| peer.name == PeerName::from(PEER)).unwrap();
    assert_eq!(peer.established_count, 1, "no change needs a new session");
}
