//! Two iBGP peers with a prefix each of the other's: who is chosen, by us and by the daemon.

use std::net::IpAddr;

use margay_bgp_speaker::core::wire::{Attributes, Origin};
use margay_bgp_speaker::core::{
    ExportPolicy, ImportPolicy, NextHopMode, RouteMatch, Rule, RuleAction, RuleSet, SetOperation,
};
use margay_net::{Asn, Cidr};

use super::{SOON, Scenario, wait_for_path, wait_for_routes};
use crate::matrix::cell::Cell;
use crate::matrix::claims::Feature;
use crate::matrix::collector::Collector;
use crate::matrix::daemons::start;
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{PEER_ASN, so, within};

pub const SCENARIO: Scenario =
    Scenario { name: "choice", features: &[Feature::OurChoice, Feature::PeersChoice, Feature::MultipathInternal], run };

/// Of the daemon's own routes.
const THEIR_MED: u32 = 77;

fn run(cell: &Cell) {
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.our_asn = PEER_ASN;
    setup.collector_asn = Some(PEER_ASN);
    let daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    own.peers.insert("collector".into(), cell.collector(&lab, PEER_ASN));
    let ours = OurSpeaker::start(&lab, own.clone(), false);
    assert!(ours.wait_established().ibgp);
    wait_for_routes(&*daemon, &ours, &lab);
    let route = |med: u32| Attributes {
        origin: Origin::Egp,
        next_hop: Some(lab.collector_address()),
        local_pref: Some(100),
        med: Some(med),
        ..Attributes::default()
    };

    let to_us = Collector::connect(&lab, lab.our_address(), PEER_ASN, true);
    let prefix = lab.peer_prefixes()[0];
    let we_choose = |what: &str, next_hops: &[IpAddr]| {
        within(SOON, what, || {
            let chosen = ours.fib(|fib| -> Vec<IpAddr> {
                fib.routes
                    .get(&prefix)
                    .into_iter()
                    .flat_map(|route| route.next_hops.iter())
                    .map(|hop| hop.addr)
                    .collect()
            });
            so(chosen == next_hops, || format!("{chosen:?}"))
        });
    };
    let (theirs, collectors) = (lab.peer_address(), lab.collector_address());
    to_us.announce(&route(THEIR_MED), &[prefix]);
    we_choose("both, which are equal", &[theirs, collectors]);
    cell.passed(Feature::MultipathInternal);
    to_us.announce(&route(THEIR_MED - 1), &[prefix]);
    we_choose("the lower MED", &[collectors]);
    own.peers.get_mut(PEER).unwrap().import = ImportPolicy(always(SetOperation::LocalPref(200)));
    ours.configure(own.clone());
    we_choose("the higher local preference", &[theirs]);
    own.peers.get_mut(PEER).unwrap().import = ImportPolicy::accept_all();
    ours.configure(own.clone());
    we_choose("the lower MED again", &[collectors]);
    to_us.announce(&route(THEIR_MED + 1), &[prefix]);
    we_choose("the daemon's, which is the lower MED", &[theirs]);
    cell.passed(Feature::OurChoice);
    drop(to_us);

    let to_daemon = Collector::connect(&lab, lab.peer_address(), PEER_ASN, true);
    let prefix: Cidr = lab.our_prefixes()[0];
    to_daemon.announce(&Attributes { origin: Origin::Igp, ..route(50) }, &[prefix]);
    let mut they_choose = |what: &str, set: SetOperation, neighbor: IpAddr| {
        own.peers.get_mut(PEER).unwrap().export = ExportPolicy(always(set));
        ours.configure(own.clone());
        within(SOON, what, || {
            let best = daemon.best(prefix)?;
            so(best == Some(neighbor), || format!("{best:?}, {:?}", daemon.paths(prefix, lab.our_address())))
        });
    };
    let we = lab.our_address();
    they_choose("ours, of a lower MED", SetOperation::Med(49), we);
    they_choose("the collector's, since our MED is higher", SetOperation::Med(51), collectors);
    they_choose("ours, of a higher local preference", SetOperation::LocalPref(101), we);
    they_choose("the collector's, since our local preference is lower", SetOperation::LocalPref(99), collectors);
    cell.passed(Feature::PeersChoice);
}

fn always(set: SetOperation) -> RuleSet {
    let rule = Rule { matches: RouteMatch::default(), action: RuleAction::Accept, set: vec![set] };
    RuleSet { rules: vec![rule], accept_by_default: false }
}

/// The collector is an eBGP peer of ours, and the daemon an iBGP one.
pub const NEXT_HOPS: Scenario = Scenario { name: "next hops", features: &[Feature::NextHopInternal], run: next_hops };

fn next_hops(cell: &Cell) {
    const COLLECTOR_ASN: u32 = 65003;
    let lab = cell.lab();
    let mut setup = cell.setup();
    setup.our_asn = PEER_ASN;
    let daemon = start(cell, &lab, &setup);
    let mut own = cell.own(&lab, &setup);
    own.peers.insert("collector".into(), cell.collector(&lab, COLLECTOR_ASN));
    let ours = OurSpeaker::start(&lab, own.clone(), false);
    ours.wait_established();
    let collector = Collector::connect(&lab, lab.our_address(), COLLECTOR_ASN, false);
    let as_path = margay_bgp_speaker::core::wire::AsPath::sequence([Asn(COLLECTOR_ASN)]);
    let attributes = Attributes { as_path, next_hop: Some(lab.collector_address()), ..Attributes::default() };
    collector.announce(&attributes, &[cell.prefix(9)]);
    for (mode, expected) in
        [(NextHopMode::Auto, lab.collector_address()), (NextHopMode::SelfAddress, lab.our_address())]
    {
        own.peers.get_mut(PEER).unwrap().next_hop = mode;
        ours.configure(own.clone());
        let what = format!("the next hop of {mode:?}");
        wait_for_path(&*daemon, &lab, cell.prefix(9), &what, |path| path.next_hop == Some(expected));
    }
    assert_eq!(ours.peer().established_count, 1);
    cell.passed(Feature::NextHopInternal);
}
