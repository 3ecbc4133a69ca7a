//! The tables alone: what peers give goes in, and what members are told is read back from the bytes.

#![allow(clippy::unwrap_used)]

mod interrupted;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use margay_net::{Asn, Cidr, Family, FibChange};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{DrainStage, PeerProfile, RouteSettings, Routing, RoutingConfig, View, Which};
use crate::config::{AddPathSend, DecisionConfig, Multipath, NextHopMode, PeerName};
use crate::io::ConnectionId;
use crate::policy::{Policy, RuleSet};
use crate::view::{PrefixCounts, RouteFilter, RouteView};
use crate::wire::{
    AsPath, Attributes, DecodeContext, FamilySet, MAX_MESSAGE, Message, PeerKind, Withdrawal, decode, frame,
};

/// What a peer holds: by prefix and the name of the path, its AS_PATH.
type Held = BTreeMap<(Cidr, u32), String>;

struct Bench {
    routing: Routing,
    held: BTreeMap<u64, Held>,
    end_of_ribs: BTreeMap<u64, usize>,
    /// What felix was told: the next hops, and whether they are stale.
    fib: BTreeMap<Cidr, (Vec<IpAddr>, bool)>,
    /// Of the last batch for felix.
    serial: u64,
    /// Peers that are sent several paths.
    several: BTreeSet<usize>,
}

fn own(peer: usize) -> Asn {
    Asn(65000 + peer as u32)
}

fn address(peer: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, peer as u8 + 10).into()
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

/// Attributes of a route of an external peer: its own AS number, then `asns`.
fn attributes(peer: usize, asns: &[u32]) -> Attributes {
    Attributes {
        as_path: AsPath::sequence(std::iter::once(own(peer)).chain(asns.iter().copied().map(Asn))),
        next_hop: Some(address(peer)),
        ..Attributes::default()
    }
}

fn counts(routing: &Routing) -> BTreeMap<(usize, Family), PrefixCounts> {
    let mut counts = BTreeMap::new();
    routing.count_in(&(0..routing.slots()), &mut counts);
    counts
}

fn advertised(routing: &Routing, peer: usize) -> Vec<RouteView> {
    let view = View::Out(peer);
    let prefixes = routing.prefixes_in(view, &RouteFilter::default(), None, &(0..routing.slots()));
    prefixes.into_iter().filter_map(|prefix| routing.route_at(view, prefix)).collect()
}

impl Bench {
    fn new() -> Bench {
        let id = Ipv4Addr::new(10, 0, 0, 1);
        let config = RoutingConfig {
            asn: Asn(64512),
            router_id: id,
            cluster_id: id,
            multipath: Multipath::default(),
            decision: DecisionConfig::default(),
        };
        Bench {
            routing: Routing::new(config, false),
            held: BTreeMap::new(),
            end_of_ribs: BTreeMap::new(),
            fib: BTreeMap::new(),
            serial: 0,
            several: BTreeSet::new(),
        }
    }

    fn up(&mut self, peer: usize, send: AddPathSend) {
        let profile = self.profile(peer, send);
        self.establish(peer, profile);
        self.settle();
    }

    fn establish(&mut self, peer: usize, profile: PeerProfile) {
        self.held.insert(peer as u64, Held::new());
        self.routing.peer_up(peer, profile, ConnectionId(peer as u64), BTreeSet::from([Family::V4]));
    }

    fn profile(&mut self, peer: usize, send: AddPathSend) -> PeerProfile {
        if send != AddPathSend::None {
            self.several.insert(peer);
        }
        PeerProfile {
            name: PeerName::new(format!("peer{peer}")),
            ibgp: false,
            asn: own(peer),
            own_asn: Asn(64512),
            client: false,
            remote: address(peer),
            router_id: Ipv4Addr::new(10, 0, 1, peer as u8),
            self_next_hop: BTreeMap::from([(Family::V4, Ipv4Addr::new(192, 0, 2, 1).into())]),
            interface: None,
            four_octet: true,
            allow_own_as: 0,
            next_hop: NextHopMode::Auto,
            import: Arc::new(Policy::from(RuleSet { rules: Vec::new(), accept_by_default: true })),
            export: Arc::new(Policy::from(RuleSet { rules: Vec::new(), accept_by_default: true })),
            settings: RouteSettings::default(),
            add_path_receive: BTreeSet::from([Family::V4]),
            add_path_send: BTreeMap::from([(Family::V4, send)]),
            drain: DrainStage::None,
        }
    }

    fn announce(&mut self, peer: usize, prefix: &str, path_id: u32, asns: &[u32]) {
        self.routing.announce(peer, Family::V4, &[cidr(prefix)], &[path_id], attributes(peer, asns));
        self.settle();
    }

    fn withdraw(&mut self, peer: usize, prefix: &str, path_id: u32) {
        self.routing.withdraw(peer, Family::V4, &[cidr(prefix)], &[path_id]);
        self.settle();
    }

    /// Settles, and delivers what that sends; how many messages each peer got.
    fn settle(&mut self) -> BTreeMap<u64, usize> {
        self.routing.settle();
        while self.routing.pump() {}
        self.take()
    }

    /// Lets felix put everything into the kernel, and does what waits for that.
    fn install(&mut self) {
        for change in self.routing.take_fib_changes() {
            match change {
                FibChange::Set(route) => {
                    let next_hops = route.next_hops.iter().map(|next_hop| next_hop.addr).collect();
                    self.fib.insert(route.prefix, (next_hops, route.stale))
                }
                FibChange::Withdraw(prefix) => self.fib.remove(&prefix),
            };
        }
        self.serial += 1;
        self.routing.fib_told(self.serial);
        self.routing.fib_applied(self.serial);
        self.routing.settle();
        while self.routing.pump() {}
    }

    fn take(&mut self) -> BTreeMap<u64, usize> {
        self.install();
        let mut messages = BTreeMap::new();
        for outgoing in self.routing.take_sends() {
            let peer = outgoing.connection.0;
            *messages.entry(peer).or_default() += self.deliver(peer, &outgoing.bytes);
        }
        messages
    }

    fn deliver(&mut self, peer: u64, bytes: &[u8]) -> usize {
        let families: FamilySet = [Family::V4].into_iter().collect();
        let context = DecodeContext {
            four_octet_asn: true,
            peer_kind: PeerKind::External,
            families,
            add_path: if self.several.contains(&(peer as usize)) { families } else { FamilySet::EMPTY },
            ..DecodeContext::default()
        };
        let held = self.held.get_mut(&peer).unwrap();
        let (mut rest, mut messages) = (bytes, 0);
        while let Some(len) = frame(rest, MAX_MESSAGE).unwrap() {
            let (message, after) = rest.split_at(len);
            rest = after;
            let update = match decode(message, &context).unwrap() {
                Message::Update(update) => update,
                Message::RouteRefresh(_) => continue,
                other => panic!("{other:?}"),
            };
            let name = |path_ids: &[u32], at: usize| path_ids.get(at).copied().unwrap_or_default();
            for Withdrawal { prefixes, path_ids, .. } in &update.withdrawn {
                for (at, &prefix) in prefixes.iter().enumerate() {
                    held.remove(&(prefix, name(path_ids, at)));
                }
            }
            for announced in &update.announced {
                for (at, &prefix) in announced.prefixes.iter().enumerate() {
                    let path = announced.attributes.as_path.to_string();
                    held.insert((prefix, name(&announced.path_ids, at)), path);
                }
            }
            *self.end_of_ribs.entry(peer).or_default() += usize::from(update.end_of_rib.is_some());
            messages += 1;
        }
        messages
    }

    /// What a peer holds of a prefix, by the names of the paths.
    fn held(&self, peer: usize, prefix: &str) -> Vec<(u32, &str)> {
        let of_prefix = self.held[&(peer as u64)].iter().filter(|((held, _), _)| *held == cidr(prefix));
        of_prefix.map(|((_, name), path)| (*name, path.as_str())).collect()
    }
}

const P: &str = "10.1.0.0/24";

#[test]
fn a_peer_gives_several_paths_which_come_and_go_by_their_identifiers() {
    let mut bench = Bench::new();
    bench.up(1, AddPathSend::None);
    bench.up(2, AddPathSend::None);
    bench.announce(1, P, 7, &[1, 2, 3]);
    bench.announce(1, P, 3, &[1, 2]);
    assert_eq!(bench.held(2, P), [(0, "64512 65001 1 2")]);
    let views = Vec::from_iter(bench.routing.route_at(View::In(1), cidr(P)));
    let paths: Vec<_> = views[0].paths.iter().map(|path| (path.path_id, path.best)).collect();
    assert_eq!((views.len(), paths), (1, vec![(Some(3), true), (Some(7), false)]));
    assert_eq!(counts(&bench.routing)[&(1, Family::V4)].received, 2);
    // The same identifier replaces, another one doesn't.
    bench.announce(1, P, 3, &[1, 2, 3, 4]);
    assert_eq!(bench.held(2, P), [(0, "64512 65001 1 2 3")]);
    bench.withdraw(1, P, 9);
    bench.withdraw(1, P, 7);
    assert_eq!(bench.held(2, P), [(0, "64512 65001 1 2 3 4")]);
    bench.withdraw(1, P, 3);
    assert_eq!(bench.held(2, P), []);
    assert_eq!(bench.routing.counters().attribute_sets, 0);
}

#[test]
fn equal_paths_of_one_peer_are_told_apart_by_their_identifiers() {
    for order in [[4, 2, 9], [9, 4, 2], [2, 9, 4]] {
        let mut bench = Bench::new();
        bench.up(1, AddPathSend::None);
        for path_id in order {
            bench.announce(1, P, path_id, &[1, path_id]);
        }
        let views = Vec::from_iter(bench.routing.route_at(View::In(1), cidr(P)));
        let best: Vec<_> = views[0].paths.iter().filter(|path| path.best).map(|path| path.path_id).collect();
        assert_eq!(best, [Some(2)], "{order:?}");
    }
}

#[test]
fn all_paths_are_told_by_names_that_stay() {
    let mut bench = Bench::new();
    (1..=3).for_each(|peer| bench.up(peer, AddPathSend::None));
    bench.up(9, AddPathSend::All);
    bench.announce(1, P, 5, &[1, 1]);
    bench.announce(2, P, 5, &[2]);
    assert_eq!(bench.held(9, P), [(1, "64512 65001 1 1"), (2, "64512 65002 2")]);
    assert_eq!(bench.held(3, P), [(0, "64512 65002 2")], "one path where ADD-PATH is not in use");
    // Whatever is the best one, a path keeps its name.
    bench.announce(3, P, 0, &[]);
    bench.withdraw(1, P, 5);
    assert_eq!(bench.held(9, P), [(2, "64512 65002 2"), (3, "64512 65003")]);
    bench.announce(1, P, 6, &[8]);
    assert_eq!(bench.held(9, P), [(1, "64512 65001 8"), (2, "64512 65002 2"), (3, "64512 65003")]);
    let told = advertised(&bench.routing, 9);
    let names: Vec<_> = told[0].paths.iter().map(|path| (path.path_id, path.best)).collect();
    assert_eq!(names, [(Some(3), true), (Some(2), false), (Some(1), false)]);
    assert_eq!(counts(&bench.routing)[&(9, Family::V4)].advertised, 3);
    (1..=3).for_each(|peer| assert_eq!(bench.routing.flush(peer, Family::V4, Which::All), 1));
    bench.settle();
    assert_eq!(bench.held(9, P), []);
    assert_eq!(bench.routing.counters().attribute_sets, 0);
}

#[test]
fn the_best_two_of_four_are_told_and_the_third_follows_one_that_goes() {
    let mut bench = Bench::new();
    (1..=4).for_each(|peer| bench.up(peer, AddPathSend::None));
    bench.up(9, AddPathSend::Best(2));
    for (peer, hops) in [(1, 4), (2, 3), (3, 2), (4, 1)] {
        bench.announce(peer, P, 0, &vec![7; hops]);
    }
    let paths = |bench: &Bench| bench.held(9, P).into_iter().map(|(_, path)| path.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(paths(&bench), ["64512 65003 7 7", "64512 65004 7"].map(str::to_owned).into());
    bench.withdraw(4, P, 0);
    assert_eq!(paths(&bench), ["64512 65002 7 7 7", "64512 65003 7 7"].map(str::to_owned).into());
}

#[test]
fn a_peer_is_not_told_its_own_paths_among_several() {
    let mut bench = Bench::new();
    (1..=3).for_each(|peer| bench.up(peer, AddPathSend::All));
    for peer in 1..=3 {
        bench.announce(peer, P, 1, &[peer as u32]);
    }
    assert_eq!(bench.routing.counters().update_groups, 1);
    assert_eq!(bench.held(1, P), [(2, "64512 65002 2"), (3, "64512 65003 3")]);
    assert_eq!(bench.held(2, P), [(1, "64512 65001 1"), (3, "64512 65003 3")]);
    assert_eq!(bench.held(3, P), [(1, "64512 65001 1"), (2, "64512 65002 2")]);
}

#[test]
fn several_paths_with_the_same_attributes_share_messages_and_a_late_member_gets_end_of_rib() {
    let mut bench = Bench::new();
    (1..=2).for_each(|peer| bench.up(peer, AddPathSend::None));
    let prefixes: Vec<Cidr> = (0..100u8).map(|at| cidr(&format!("10.2.{at}.0/24"))).collect();
    for peer in 1..=2 {
        bench.routing.announce(peer, Family::V4, &prefixes, &[], attributes(peer, &[]));
    }
    bench.settle();
    bench.up(9, AddPathSend::All);
    assert_eq!(bench.held[&9].len(), 200);
    assert_eq!(bench.end_of_ribs[&9], 1);
    let before = bench.routing.counters().messages_encoded;
    bench.routing.answer_refresh(9, Family::V4, false);
    bench.settle();
    assert_eq!(bench.routing.counters().messages_encoded - before, 2);
}

#[test]
fn what_many_members_gave_goes_out_in_one_piece_for_each() {
    let mut bench = Bench::new();
    (0..20).for_each(|peer| bench.up(peer, AddPathSend::None));
    for peer in 0..18 {
        let prefix = cidr(&format!("10.2.{peer}.0/24"));
        bench.routing.announce(peer, Family::V4, &[prefix], &[], attributes(peer, &[]));
    }
    bench.routing.settle();
    bench.install();
    let sends = bench.routing.take_sends();
    assert_eq!(sends.len(), 20, "one piece for each peer");
    for outgoing in sends {
        bench.deliver(outgoing.connection.0, &outgoing.bytes);
    }
    for peer in 0..20 {
        let others = (0..18).filter(|giver| *giver != peer).count();
        assert_eq!(bench.held[&(peer as u64)].len(), others);
        assert!(bench.held(peer, &format!("10.2.{peer}.0/24")).is_empty());
    }
}

#[test]
fn what_a_peer_leaves_behind_is_told_slice_by_slice() {
    let mut bench = Bench::new();
    (1..=2).for_each(|peer| bench.up(peer, AddPathSend::None));
    let prefixes: Vec<Cidr> = (0..20_000u32).map(|at| cidr(&format!("10.{}.{}.0/24", at / 256, at % 256))).collect();
    bench.routing.announce(1, Family::V4, &prefixes, &[], attributes(1, &[]));
    bench.settle();
    assert_eq!(bench.held[&2].len(), 20_000);
    bench.routing.flush(1, Family::V4, Which::All);
    let mut slices = Vec::new();
    loop {
        let more = bench.routing.settle_slice();
        slices.push(bench.routing.take_fib_changes().len());
        if !more {
            break;
        }
    }
    assert_eq!(slices, [8192, 8192, 20_000 - 2 * 8192]);
    bench.settle();
    assert!(bench.held[&2].is_empty());
}

/// Peers that give and take at random, some of which take nothing for a while, hold in the end what they should.
#[test]
fn whatever_comes_and_whoever_lags_all_hold_the_same_paths_in_the_end() {
    for seed in 0..30 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut bench = Bench::new();
        let sends = [AddPathSend::All, AddPathSend::All, AddPathSend::Best(2), AddPathSend::None, AddPathSend::All];
        (0..4).for_each(|peer| bench.up(peer, sends[peer]));
        let mut given: BTreeMap<(Cidr, usize, u32), Vec<u32>> = BTreeMap::new();
        for step in 0..600 {
            if step == 300 {
                bench.up(4, sends[4]);
            }
            let peer = random.random_range(0..if step < 300 { 4 } else { 5 });
            let prefix = cidr(&format!("10.0.{}.0/24", random.random_range(0..6)));
            let path_id = random.random_range(0..3);
            if random.random_bool(0.6) {
                let asns: Vec<u32> = (0..random.random_range(1..5)).map(|_| random.random_range(1..4)).collect();
                bench.routing.announce(peer, Family::V4, &[prefix], &[path_id], attributes(peer, &asns));
                given.insert((prefix, peer, path_id), asns);
            } else {
                bench.routing.withdraw(peer, Family::V4, &[prefix], &[path_id]);
                given.remove(&(prefix, peer, path_id));
            }
            match random.random_range(0..10) {
                // A queue that is full makes the peer lag.
                0 => {
                    let lags = random.random_range(0..4);
                    bench.routing.peers.get_mut(&lags).unwrap().flow.as_mut().unwrap().unsent = super::HIGH_WATER;
                }
                1 => (0..5).for_each(|peer| {
                    bench.routing.drained(peer);
                }),
                _ => {}
            }
            // What several peers gave is told together.
            if random.random_bool(0.4) {
                bench.settle();
            }
            let prefixes = &bench.routing.tables[0].prefixes;
            for (_, entry) in prefixes.part(0..prefixes.slots()) {
                let (short, long) = (bench.routing.choose(entry), bench.routing.decide_entry(entry));
                let told = |outcome: super::settle::Outcome| (outcome.best, outcome.multipath, outcome.usable);
                assert_eq!(short.map(told), long.map(told), "seed {seed}");
            }
        }
        (0..5).for_each(|peer| {
            bench.routing.drained(peer);
        });
        bench.settle();
        for (peer, send) in sends.into_iter().enumerate() {
            let mut held: Vec<(Cidr, String)> =
                bench.held[&(peer as u64)].iter().map(|((prefix, _), path)| (*prefix, path.clone())).collect();
            held.sort();
            let others = given.iter().filter(|((_, giver, _), _)| *giver != peer);
            let mut all: Vec<(Cidr, String)> = others
                .map(|((prefix, giver, _), asns)| {
                    let path =
                        AsPath::sequence([Asn(64512), own(*giver)].into_iter().chain(asns.iter().copied().map(Asn)));
                    (*prefix, path.to_string())
                })
                .collect();
            all.sort();
            match send {
                AddPathSend::All => assert_eq!(held, all, "seed {seed}, peer {peer}"),
                AddPathSend::Best(_) | AddPathSend::None => {
                    // The best one or two of each prefix, but for the peer's own.
                    let told = advertised(&bench.routing, peer);
                    let told = told
                        .iter()
                        .flat_map(|route| route.paths.iter().map(|path| (route.prefix, &path.attributes.as_path)));
                    let mut told: Vec<(Cidr, String)> = told.map(|(prefix, path)| (prefix, path.clone())).collect();
                    told.sort();
                    assert_eq!(held, told, "seed {seed}, peer {peer}");
                    assert!(held.iter().all(|route| all.contains(route)));
                }
            }
        }
        (0..5).for_each(|peer| {
            bench.routing.flush(peer, Family::V4, Which::All);
        });
        bench.settle();
        assert_eq!(bench.routing.counters().attribute_sets, 0);
        assert_eq!(bench.routing.counters().prefixes, 0);
        assert!(bench.held.values().all(Held::is_empty));
    }
}
