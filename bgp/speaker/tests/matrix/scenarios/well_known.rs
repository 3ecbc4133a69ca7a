//! Well-known communities, and the next hop that an eBGP peer is told.

use std::net::IpAddr;

use margay_bgp_speaker::core::wire::{AsPath, Attributes, Community};
use margay_bgp_speaker::core::{
    ExportPolicy, NextHopMode, PrefixMatch, RouteMatch, Rule, RuleAction, RuleSet, SetOperation, SpeakerConfig,
};
use margay_net::{Asn, Cidr, Family, FromFelix, LocalRoute, LocalRouteChange, LocalRouteSource};

use super::{SOON, Scenario, wait_for_path, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::collector::Collector;
use crate::matrix::daemons::{Daemon, start};
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{Lab, so, within};

pub const SCENARIO: Scenario = Scenario {
    name: "well-known",
    features: &[Feature::KeptByUs, Feature::KeptByPeer, Feature::Blackhole, Feature::NextHopExternal],
    run,
};

const COLLECTOR_ASN: u32 = 65003;
/// The collector's where it is a peer of the daemon.
const BEYOND_ASN: u32 = 65004;
const NO_ADVERTISE: Community = Community(0xffff_ff02);

fn run(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.collector_asn = Some(BEYOND_ASN);
    setup.blackhole = Some(discarded(cell.family));
    let daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    own.peers.get_mut(PEER).unwrap().honour_blackhole = true;
    own.peers.insert("collector".into(), cell.collector(&lab, COLLECTOR_ASN));
    let ours = OurSpeaker::start(&lab, own.clone(), false);
    ours.wait_established();
    let collector = Collector::connect(&lab, lab.our_address(), COLLECTOR_ASN, false);
    wait_for_routes(&*daemon, &ours, &lab);

    kept_by_us(cell, &lab, &*daemon, &collector);
    blackhole(cell, &ours, &collector);
    next_hops(cell, &lab, &*daemon, &ours, &mut own, &collector);
    kept_by_peer(cell, &lab, &*daemon, &ours, &mut own);
    assert_eq!(ours.peer().established_count, 1, "no change needs a new session");
}

/// The last of the collector's routes, and it alone, may be told.
fn kept_by_us(cell: &Cell, lab: &Lab, daemon: &dyn Daemon, collector: &Collector) {
    let kept = [Community::NO_EXPORT, NO_ADVERTISE, Community::NO_EXPORT_SUBCONFED, Community::NO_PEER];
    for (number, community) in (10..).zip(kept) {
        collector.announce(&route(lab.collector_address(), &[community]), &[cell.prefix(number)]);
    }
    collector.announce(&route(lab.collector_address(), &[]), &[cell.prefix(14)]);
    wait_for_path(daemon, lab, cell.prefix(14), "the route that may be told", |_| true);
    for number in 10..14 {
        assert_eq!(
            daemon.paths(cell.prefix(number), lab.our_address()),
            Ok(Vec::new()),
            "{:?}",
            kept[number as usize - 10]
        );
    }
    cell.passed(Feature::KeptByUs);
}

fn blackhole(cell: &Cell, ours: &OurSpeaker, collector: &Collector) {
    let prefix = discarded(cell.family);
    within(SOON, "felix is told to discard", || {
        ours.fib(|fib| so(fib.routes.get(&prefix).is_some_and(|route| route.discard), || format!("{fib:?}")))
    });
    assert!(collector.route(prefix).is_err(), "an external peer is not told");
}

fn next_hops(
    cell: &Cell,
    lab: &Lab,
    daemon: &dyn Daemon,
    ours: &OurSpeaker,
    own: &mut SpeakerConfig,
    collector: &Collector,
) {
    // On the segment that we share with the daemon, and an address that nobody there has.
    collector.announce(&route(fourth(lab), &[]), &[cell.prefix(15)]);
    for (mode, expected) in [
        (NextHopMode::Auto, fourth(lab)),
        (NextHopMode::SelfAddress, lab.our_address()),
        (NextHopMode::Keep, fourth(lab)),
    ] {
        own.peers.get_mut(PEER).unwrap().next_hop = mode;
        ours.configure(own.clone());
        let what = format!("the next hop of {mode:?}");
        wait_for_path(daemon, lab, cell.prefix(15), &what, |path| path.next_hop == Some(expected));
    }
    cell.passed(Feature::NextHopExternal);
}

/// Our routes are marked, and the daemon tells another peer of the last one, which is not.
fn kept_by_peer(cell: &Cell, lab: &Lab, daemon: &dyn Daemon, ours: &OurSpeaker, own: &mut SpeakerConfig) {
    let numbers = [0x14, 0x15, 0x16, 0x17, 0x18];
    let marks =
        [Some(Community::NO_EXPORT), Some(NO_ADVERTISE), Some(Community::NO_PEER), Some(Community::BLACKHOLE), None];
    let marked = |(number, mark): (u8, Option<Community>)| {
        let matches = RouteMatch { prefixes: vec![PrefixMatch::exact(cell.prefix(number))], ..RouteMatch::default() };
        let set = mark.map(|community| SetOperation::AddCommunity(community.0)).into_iter().collect();
        Rule { matches, action: RuleAction::Accept, set }
    };
    let rules = numbers.into_iter().zip(marks).map(marked).collect();
    own.peers.get_mut(PEER).unwrap().export = ExportPolicy(RuleSet { rules, accept_by_default: true });
    ours.configure(own.clone());
    let beyond = Collector::connect(lab, lab.peer_address(), BEYOND_ASN, false);
    let announce = |number: &u8| {
        LocalRouteChange::Announce(LocalRoute { prefix: cell.prefix(*number), source: LocalRouteSource::Block })
    };
    ours.felix_says(FromFelix::Local(numbers[..4].iter().map(announce).collect()));
    for (number, mark) in numbers.into_iter().zip(marks).take(4) {
        let mark = mark.unwrap();
        let words = format!("{}:{}", mark.0 >> 16, mark.0 & 0xffff);
        let shown = |path: &crate::matrix::daemons::Path| path.communities.contains(&words);
        wait_for_path(daemon, lab, cell.prefix(number), "our marked route", shown);
    }
    cell.passed(Feature::Blackhole);
    // What is announced after all of them has come by the same way.
    ours.felix_says(FromFelix::Local(vec![announce(&numbers[4])]));
    within(SOON, "the daemon tells of what is not marked", || beyond.route(cell.prefix(numbers[4])));
    let told = |number: u8| beyond.route(cell.prefix(number)).is_ok();
    if cell.claims(Feature::KeptByPeer) {
        assert!(!told(numbers[0]), "NO_EXPORT is told");
        assert!(!told(numbers[1]), "NO_ADVERTISE is told");
        cell.passed(Feature::KeptByPeer);
    } else {
        let ignored = || so(told(numbers[0]) && told(numbers[1]), || "kept all the same".to_owned());
        within(SOON, "the communities mean nothing, as is said of the daemon", ignored);
    }
    // As the table says of all of them.
    within(SOON, "NO_PEER means nothing to the daemon", || beyond.route(cell.prefix(numbers[2])));
}

fn route(next_hop: IpAddr, communities: &[Community]) -> Attributes {
    Attributes {
        as_path: AsPath::sequence([Asn(COLLECTOR_ASN)]),
        next_hop: Some(next_hop),
        communities: communities.to_vec(),
        ..Attributes::default()
    }
}

fn discarded(family: Family) -> Cidr {
    match family {
        Family::V4 => "10.60.6.66/32".parse().unwrap(),
        Family::V6 => "fd00:60::66/128".parse().unwrap(),
    }
}

/// An address on the segment that nobody has.
fn fourth(lab: &Lab) -> IpAddr {
    match lab.family {
        Family::V4 => IpAddr::from([192, 0, 2, 9]),
        Family::V6 => "fd99::9".parse().unwrap(),
    }
}
