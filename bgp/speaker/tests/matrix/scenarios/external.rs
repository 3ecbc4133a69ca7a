use std::net::IpAddr;
use std::time::Duration;

use margay_bgp_speaker::core::wire::{
    AsPath, AttributeType, Attributes, Community, ExtendedCommunity, FLAG_OPTIONAL, FLAG_TRANSITIVE, LargeCommunity,
    Origin, RawAttribute, SegmentKind,
};
use margay_bgp_speaker::core::{
    ExportPolicy, FsmState, PeerConfig, PeerName, RouteMatch, Rule, RuleAction, RuleSet, SetOperation, StopKind,
};
use margay_net::Asn;

use super::{SOON, Scenario, wait_for_path, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::collector::Collector;
use crate::matrix::daemons::{OUR_ASN, start};
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{Lab, PEER_ASN, so, within};

pub const SCENARIO: Scenario = Scenario {
    name: "external",
    features: &[
        Feature::ExternalRoutes,
        Feature::FourOctetAs,
        Feature::Communities,
        Feature::LargeCommunities,
        Feature::ExtendedCommunities,
        Feature::UnknownAttributes,
        Feature::Multipath,
        Feature::RouteRefresh,
        Feature::AdministrativeReset,
        Feature::ShutdownTextToPeer,
        Feature::ShutdownTextFromPeer,
    ],
    run,
};

const COLLECTOR_ASN: u32 = 65003;

fn run(cell: &Cell) {
    let lab = cell.lab();
    let setup = cell.setup();
    let mut daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    own.peers.get_mut(PEER).unwrap().export = med_55();
    own.peers.insert("collector".into(), collector_config(&lab));
    let ours = OurSpeaker::start(&lab, own.clone(), false);
    ours.wait_established();
    let collector = Collector::connect(&lab, lab.our_address(), COLLECTOR_ASN, false);
    wait_for_routes(&*daemon, &ours, &lab);

    // Our routes at the daemon, the daemon's with us.
    for prefix in lab.our_prefixes() {
        let path = wait_for_path(&*daemon, &lab, prefix, "our route", |_| true);
        assert_eq!((path.as_path.as_str(), path.origin.as_str()), (&*OUR_ASN.to_string(), "igp"), "{path:?}");
        assert_eq!((path.next_hop, path.med), (Some(lab.our_address()), Some(55)), "{path:?}");
    }
    for attributes in ours.received().values() {
        assert_eq!((attributes.as_path.as_str(), attributes.origin.as_str()), (&*PEER_ASN.to_string(), "egp"));
        assert_eq!((attributes.next_hop, attributes.med), (Some(lab.peer_address()), Some(77)));
    }
    cell.passed(Feature::FourOctetAs);
    passes_through(cell, &lab, &*daemon, &collector);
    multipath(&lab, &ours, &collector);
    cell.passed(Feature::Multipath);

    let before = (ours.peer().messages_sent, ours.peer().established_count);
    daemon.refresh(lab.our_address());
    // In one message of each attribute set at least, beside KEEPALIVEs.
    within(Duration::from_secs(10), "our routes are sent again", || {
        let updates = ours.block_on(ours.handle.counters()).unwrap().messages_sent;
        let view = ours.peer();
        so(view.messages_sent >= before.0 + 2 && updates > 0, || format!("{view:?}"))
    });
    assert_eq!(ours.peer().established_count, before.1);
    wait_for_routes(&*daemon, &ours, &lab);
    cell.passed(Feature::RouteRefresh);

    daemon.withdraw();
    within(SOON, "the daemon's routes are gone", || {
        let left = ours.received().len();
        so(left == 0, || format!("{left} routes left"))
    });
    ours.withdraw_ours(&lab);
    within(SOON, "our routes are gone at the daemon", || {
        let left = daemon.paths(lab.our_prefixes()[0], lab.our_address())?;
        so(left.is_empty(), || format!("{left:?}"))
    });
    assert_eq!(ours.peer().established_count, 1);
    cell.passed(Feature::ExternalRoutes);

    ours.block_on(ours.handle.reset(PeerName::from(PEER), Some("changed a cable".to_owned()))).unwrap();
    within(SOON, "a new session", || {
        let view = ours.peer();
        so(view.state == FsmState::Established && view.established_count == 2, || format!("{view:?}"))
    });
    logged(&*daemon, cell, "changed a cable");
    cell.passed(Feature::AdministrativeReset);

    daemon.shut_down(lab.our_address(), "back at noon");
    within(SOON, "we read why", || {
        let error = ours.peer().last_error.unwrap_or_default();
        so(error.contains("Administrative Shutdown") && error.contains("back at noon"), || error)
    });
    cell.passed(Feature::ShutdownTextFromPeer);
    drop((collector, daemon));

    daemon = start(cell, &lab, &setup);
    within(SOON, "the session is back", || {
        let view = ours.peer();
        so(view.state == FsmState::Established, || format!("{view:?}"))
    });
    ours.stop(StopKind::Administrative(Some("moved to rack 7".to_owned())));
    logged(&*daemon, cell, "moved to rack 7");
    cell.passed(Feature::ShutdownTextToPeer);
    daemon.process().assert_running();
}

fn logged(daemon: &dyn crate::matrix::daemons::Daemon, cell: &Cell, text: &str) {
    within(SOON, "the daemon logs our text", || {
        let log = daemon.log();
        so(log.contains(text), || format!("{} logged: {log}", cell.kind.name()))
    });
}

/// What the collector announces reaches the daemon, and what the daemon announces the collector, with all that it came
/// with.
fn passes_through(cell: &Cell, lab: &Lab, daemon: &dyn crate::matrix::daemons::Daemon, collector: &Collector) {
    let attributes = Attributes {
        communities: vec![Community::new(65003, 7), Community::new(65003, 8)],
        large_communities: vec![LargeCommunity {
            global_administrator: 4_200_000_003,
            local_data_1: 5,
            local_data_2: 6,
        }],
        // Route target 65003:9.
        extended_communities: vec![ExtendedCommunity(0x0002_fdeb_0000_0009)],
        unknown: vec![RawAttribute {
            kind: AttributeType(230),
            flags: FLAG_OPTIONAL | FLAG_TRANSITIVE,
            value: vec![1, 2, 3].into(),
        }],
        ..route(lab.collector_address(), &[COLLECTOR_ASN, 70_000])
    };
    collector.announce(&attributes, &[cell.prefix(1)]);
    let path = wait_for_path(daemon, lab, cell.prefix(1), "the collector's route", |_| true);
    assert_eq!(path.as_path, format!("{OUR_ASN} {COLLECTOR_ASN} 70000"));
    assert_eq!(path.communities, ["65003:7", "65003:8"], "{path:?}");
    assert_eq!(path.large_communities, ["4200000003:5:6"], "{path:?}");
    assert_eq!(path.extended_communities, ["rt:65003:9"], "{path:?}");

    let route = within(SOON, "the daemon's route at the collector", || collector.route(lab.peer_prefixes()[0]));
    assert_eq!(route.as_path.to_string(), format!("{OUR_ASN} {PEER_ASN}"));
    assert_eq!(route.communities, [Community::new(65001, 100)]);
    cell.passed(Feature::Communities);
    let large = LargeCommunity { global_administrator: 65001, local_data_1: 1, local_data_2: 2 };
    assert_eq!(route.large_communities, [large]);
    cell.passed(Feature::LargeCommunities);
    assert_eq!(route.extended_communities, [ExtendedCommunity(0x0002_fde9_0000_0064)]);
    cell.passed(Feature::ExtendedCommunities);
    cell.passed(Feature::UnknownAttributes);
}

fn multipath(lab: &Lab, ours: &OurSpeaker, collector: &Collector) {
    let shared = lab.peer_prefixes()[1];
    collector
        .announce(&Attributes { origin: Origin::Egp, ..route(lab.collector_address(), &[COLLECTOR_ASN]) }, &[shared]);
    let expected = [lab.peer_address(), lab.collector_address()];
    within(SOON, "two next hops", || {
        ours.fib(|fib| {
            let next_hops: Vec<IpAddr> = fib
                .routes
                .get(&shared)
                .into_iter()
                .flat_map(|route| route.next_hops.iter())
                .map(|hop| hop.addr)
                .collect();
            so(next_hops == expected, || format!("{next_hops:?}"))
        })
    });
}

fn route(next_hop: IpAddr, path: &[u32]) -> Attributes {
    Attributes {
        as_path: AsPath::sequence(path.iter().copied().map(Asn)),
        next_hop: Some(next_hop),
        ..Attributes::default()
    }
}

fn med_55() -> ExportPolicy {
    let rule = Rule { matches: RouteMatch::default(), action: RuleAction::Accept, set: vec![SetOperation::Med(55)] };
    ExportPolicy(RuleSet { rules: vec![rule], accept_by_default: false })
}

fn collector_config(lab: &Lab) -> PeerConfig {
    let mut peer = PeerConfig::new(lab.collector_address(), Asn(COLLECTOR_ASN));
    peer.passive = true;
    peer
}

/// The collector has two-octet AS numbers; what it passes on for us reaches the daemon, and comes back, with all numbers.
pub const TWO_OCTETS: Scenario = Scenario { name: "two octets", features: &[Feature::TwoOctetAs], run: two_octets };

fn two_octets(cell: &Cell) {
    let lab = cell.lab();
    let setup = cell.setup();
    let daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    own.peers.insert("collector".into(), collector_config(&lab));
    let ours = OurSpeaker::start(&lab, own, false);
    ours.wait_established();
    let collector = Collector::connect_as(&lab, lab.our_address(), COLLECTOR_ASN, false, false);
    wait_for_routes(&*daemon, &ours, &lab);
    // AS_TRANS and AS4_PATH to the collector, which puts them together again.
    let told = within(SOON, "the daemon's route at the collector", || collector.route(lab.peer_prefixes()[0]));
    assert_eq!(told.as_path.to_string(), format!("{OUR_ASN} {PEER_ASN}"));
    let mut path = AsPath::sequence([COLLECTOR_ASN, 4_200_000_009, 65009].map(Asn));
    path.push(SegmentKind::Set, &[Asn(4_200_000_010), Asn(7)]);
    collector.announce(&Attributes { as_path: path, ..route(lab.collector_address(), &[]) }, &[cell.prefix(2)]);
    let path = wait_for_path(&*daemon, &lab, cell.prefix(2), "the collector's route", |_| true);
    assert!(path.as_path.starts_with(&format!("{OUR_ASN} {COLLECTOR_ASN} 4200000009 65009")), "{path:?}");
    assert!(path.as_path.contains("4200000010"), "{path:?}");
    cell.passed(Feature::TwoOctetAs);
}
