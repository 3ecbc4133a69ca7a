//! Whatever changes while sessions run: what peers and felix are told is what a speaker would tell that knew it all from
//! the start, and the reasons agree with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use margay_bgp_core::wire::{Attributes, Community, Origin};
use margay_bgp_core::{
    DecisionConfig, ExportPolicy, ImportPolicy, LocalAsMode, Multipath, NextHopMode, Owner, Ownership, OwnershipCheck,
    PeerConfig, PrefixMatch, RemovePrivateAs, RouteMatch, Rule, RuleAction, RuleSet, SetOperation,
};
use margay_net::Asn;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::crafted::{Crafted, OWN, address, path};
use crate::network::prefix;

const PREFIXES: [&str; 6] =
    ["10.0.1.0/26", "10.0.1.7/32", "10.0.2.0/26", "10.0.0.0/16", "0.0.0.0/0", "198.51.100.0/24"];

const PEERS: [(&str, u8, u32); 6] = [
    ("inside", 10, OWN),
    ("client", 11, OWN),
    ("one", 20, 65020),
    ("same", 21, 65020),
    ("other", 22, 3356),
    ("local-as", 23, 65023),
];

fn initial(name: &str, peer: &mut PeerConfig) {
    match name {
        "client" => peer.route_reflector_client = true,
        "local-as" => peer.local_asn = Some(Asn(64900)),
        _ => {}
    }
}

/// All that there is beside the configuration.
#[derive(Default)]
struct World {
    paths: BTreeMap<(&'static str, &'static str), Attributes>,
    local: BTreeSet<&'static str>,
    owners: Option<Ownership>,
    connected: bool,
}

fn any_attributes(rng: &mut SmallRng, number: u8, asn: u32) -> Attributes {
    let mut asns: Vec<u32> = if asn == OWN { vec![] } else { vec![asn] };
    let further = [65020, 65023, 3356, 64900, 4_200_000_000, OWN];
    asns.extend((0..rng.random_range(0..3)).map(|_| *further.choose(rng).unwrap()));
    let communities = [
        Community::NO_EXPORT,
        Community::NO_PEER,
        Community::NO_ADVERTISE,
        Community::BLACKHOLE,
        Community::GRACEFUL_SHUTDOWN,
        Community::new(65000, 1),
    ];
    let next_hop = [number, 99, 20].choose(rng).copied().unwrap();
    Attributes {
        origin: if rng.random_bool(0.8) { Origin::Igp } else { Origin::Egp },
        med: rng.random_bool(0.5).then(|| rng.random_range(0..3)),
        local_pref: (asn == OWN).then(|| rng.random_range(99..102)),
        communities: communities.into_iter().filter(|_| rng.random_bool(0.12)).collect(),
        originator_id: (asn == OWN && rng.random_bool(0.2)).then_some(Ipv4Addr::new(10, 0, 0, 77)),
        ..path(&asns, next_hop)
    }
}

fn any_rules(rng: &mut SmallRng) -> RuleSet {
    let rule = |rng: &mut SmallRng| Rule {
        matches: RouteMatch {
            prefixes: if rng.random_bool(0.5) {
                vec![PrefixMatch::within(prefix(PREFIXES.choose(rng).unwrap()))]
            } else {
                vec![]
            },
            communities: if rng.random_bool(0.2) { vec![65000 << 16 | 1] } else { vec![] },
            as_path_prefix: if rng.random_bool(0.2) { vec![Asn(65020)] } else { vec![] },
            interfaces: if rng.random_bool(0.2) { vec!["eth*".to_owned()] } else { vec![] },
            local_pref: rng.random_bool(0.2).then_some(100),
            ..RouteMatch::default()
        },
        action: *[RuleAction::Accept, RuleAction::Reject, RuleAction::Next].choose(rng).unwrap(),
        set: match rng.random_range(0..5) {
            0 => vec![SetOperation::LocalPref(rng.random_range(99..102))],
            1 => vec![SetOperation::AddCommunity(Community::NO_EXPORT.0)],
            2 => vec![SetOperation::Prepend { asn: Asn(65000), count: 2 }],
            3 => vec![SetOperation::RemoveCommunity(Community::GRACEFUL_SHUTDOWN.0), SetOperation::Med(1)],
            _ => vec![],
        },
    };
    RuleSet { rules: (0..rng.random_range(0..4)).map(|_| rule(rng)).collect(), accept_by_default: rng.random_bool(0.7) }
}

fn any_owners(rng: &mut SmallRng) -> Ownership {
    let owner = |number: u8| {
        Arc::new(Owner {
            node: format!("node-{number}"),
            addresses: BTreeSet::from([address(number)]),
            router_id: Some(Ipv4Addr::new(10, 0, 0, number)),
            asn: (number >= 22).then_some(Asn(3356)),
        })
    };
    let numbers = [10, 11, 20, 22, 77];
    let owned = ["10.0.1.0/26", "10.0.1.7/32", "10.0.2.0/26"].into_iter().filter(|_| rng.random_bool(0.7));
    let owned: Vec<&str> = owned.collect();
    Ownership {
        pools: if rng.random_bool(0.9) { [prefix("10.0.0.0/16")].into() } else { BTreeSet::new() },
        owned: owned.into_iter().map(|cidr| (prefix(cidr), owner(*numbers.choose(rng).unwrap()))).collect(),
    }
}

fn change_peer(rng: &mut SmallRng, peer: &mut PeerConfig) {
    match rng.random_range(0..14) {
        0 | 1 => peer.import = ImportPolicy(any_rules(rng)),
        2 | 3 => peer.export = ExportPolicy(any_rules(rng)),
        4 => peer.allow_own_as = rng.random_range(0..2),
        5 => {
            let modes = [NextHopMode::Auto, NextHopMode::SelfAddress, NextHopMode::Keep];
            peer.next_hop = *modes.choose(rng).unwrap();
        }
        6 => peer.local_as_mode = *[LocalAsMode::Replace, LocalAsMode::Prepend].choose(rng).unwrap(),
        7 => peer.as_override = !peer.as_override,
        8 => {
            let modes = [RemovePrivateAs::Keep, RemovePrivateAs::Remove, RemovePrivateAs::Replace];
            peer.remove_private_as = *modes.choose(rng).unwrap();
        }
        9 => peer.honour_graceful_shutdown = !peer.honour_graceful_shutdown,
        10 => peer.honour_blackhole = !peer.honour_blackhole,
        11 => peer.graceful_shutdown = !peer.graceful_shutdown,
        12 => peer.enforce_first_as = !peer.enforce_first_as,
        _ => {
            use OwnershipCheck::{External, Node, Off, Reflector};
            peer.ownership = *[Off, Node, Reflector, External].choose(rng).unwrap();
        }
    }
}

fn change_speaker(rng: &mut SmallRng, crafted: &mut Crafted) {
    crafted.config.decision = DecisionConfig {
        default_local_pref: rng.random_range(100..102),
        always_compare_med: rng.random(),
        med_missing_as_worst: rng.random(),
        ignore_as_path_length: rng.random(),
        compare_router_id: true,
    };
    crafted.config.multipath =
        Multipath { ebgp: rng.random_range(1..4), ibgp: rng.random_range(1..4), relax_as_path_content: rng.random() };
    crafted.configure();
}

fn step(rng: &mut SmallRng, crafted: &mut Crafted, world: &mut World) {
    let &(name, number, asn) = PEERS.choose(rng).unwrap();
    let cidr = *PREFIXES.choose(rng).unwrap();
    match rng.random_range(0..12) {
        0..=4 => {
            let attributes = any_attributes(rng, number, asn);
            world.paths.insert((name, cidr), attributes.clone());
            crafted.announce(name, cidr, attributes);
        }
        5 => {
            world.paths.remove(&(name, cidr));
            crafted.withdraw(name, cidr);
        }
        6 => {
            world.local.insert(cidr);
            crafted.announce_local(cidr);
        }
        7..=8 => crafted.change(name, |peer| change_peer(rng, peer)),
        9 => change_speaker(rng, crafted),
        10 => {
            let owners = any_owners(rng);
            world.owners = Some(owners.clone());
            crafted.owners(owners);
        }
        _ => {
            world.connected = true;
            crafted.connect_subnet();
        }
    }
}

/// Looks that every reason agrees with what the peers hold.
fn check_reasons(crafted: &Crafted) {
    for (name, ..) in PEERS {
        for cidr in PREFIXES {
            crafted.reason(name, cidr);
        }
    }
}

/// Makes a speaker that has the final settings before it hears of any route.
fn made_anew(crafted: &Crafted, world: &World, rng: &mut SmallRng) -> Crafted {
    let mut fresh = Crafted::new();
    fresh.config = crafted.config.clone();
    fresh.config.peers.clear();
    fresh.configure();
    if world.connected {
        fresh.connect_subnet();
    }
    if let Some(owners) = &world.owners {
        fresh.owners(owners.clone());
    }
    for (name, number, asn) in PEERS {
        let settings = &crafted.config.peers[name];
        fresh.peer(name, number, asn, |peer| *peer = settings.clone());
    }
    for cidr in &world.local {
        fresh.announce_local(cidr);
    }
    let mut left: Vec<_> = world.paths.iter().collect();
    while !left.is_empty() {
        let ((name, cidr), attributes) = left.swap_remove(rng.random_range(0..left.len()));
        fresh.announce(name, cidr, attributes.clone());
    }
    fresh
}

#[test]
fn the_way_to_a_state_makes_no_difference_to_it() {
    for seed in 0..30 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut crafted = Crafted::new();
        for (name, number, asn) in PEERS {
            crafted.peer(name, number, asn, |peer| initial(name, peer));
        }
        let mut world = World::default();
        for _ in 0..60 {
            step(&mut rng, &mut crafted, &mut world);
            check_reasons(&crafted);
        }
        let fresh = made_anew(&crafted, &world, &mut rng);
        assert_eq!(crafted.fib, fresh.fib, "seed {seed}");
        for (name, ..) in PEERS {
            for cidr in PREFIXES {
                assert_eq!(crafted.told(name, cidr), fresh.told(name, cidr), "seed {seed}: {cidr} to {name}");
            }
        }
        for cidr in PREFIXES {
            assert_eq!(crafted.why(cidr), fresh.why(cidr), "seed {seed}: {cidr}");
        }
        let counted = |crafted: &Crafted| {
            let peers = crafted.speaker.peers();
            peers.into_iter().map(|peer| (peer.name, peer.counts)).collect::<Vec<_>>()
        };
        assert_eq!(counted(&crafted), counted(&fresh), "seed {seed}");
        let sets = [&crafted, &fresh].map(|crafted| crafted.speaker.counters().attribute_sets);
        assert_eq!(sets[0], sets[1], "seed {seed}: no attributes are kept that nobody uses");
    }
}
