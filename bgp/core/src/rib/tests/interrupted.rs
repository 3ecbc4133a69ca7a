//! What is done bit by bit, interrupted by all that can happen meanwhile, against the same done at once.

use super::super::{HIGH_WATER, RoutingConfig};
use super::*;
use crate::policy::{PrefixMatch, RouteMatch, Rule, RuleAction, SetOperation};

const PEERS: usize = 5;
const SENDS: [AddPathSend; PEERS] =
    [AddPathSend::All, AddPathSend::None, AddPathSend::None, AddPathSend::Best(2), AddPathSend::None];

/// What happens to the tables.
#[derive(Debug, Clone)]
enum Step {
    Announce {
        peer: usize,
        prefix: Cidr,
        path_id: u32,
        asns: Vec<u32>,
    },
    Withdraw {
        peer: usize,
        prefix: Cidr,
        path_id: u32,
    },
    /// The session ends; the routes go, or are kept as stale.
    Down {
        peer: usize,
        kept: bool,
    },
    /// Another peer gets its number: one with another address.
    Replaced {
        peer: usize,
    },
    Up {
        peer: usize,
    },
    EndOfRib {
        peer: usize,
    },
    BeginRefresh {
        peer: usize,
    },
    EndRefresh {
        peer: usize,
    },
    Policies {
        peer: usize,
        policies: (u8, u8),
    },
    Drain {
        peer: usize,
        stage: DrainStage,
    },
    AnswerRefresh {
        peer: usize,
        marked: bool,
    },
    Decision {
        ignore_as_path_length: bool,
    },
    DefaultLocalPref(u32),
    Lag {
        peer: usize,
    },
}

/// Policies that differ in what they refuse and change.
fn policy(number: u8) -> Arc<Policy> {
    let within = |text: &str| vec![PrefixMatch::within(cidr(text))];
    let rule = |prefixes, action, set| Rule { matches: RouteMatch { prefixes, ..RouteMatch::default() }, action, set };
    let rules = match number % 4 {
        0 => Vec::new(),
        1 => vec![rule(within("10.0.0.0/20"), RuleAction::Reject, Vec::new())],
        2 => vec![rule(Vec::new(), RuleAction::Accept, vec![SetOperation::Prepend { asn: Asn(7), count: 2 }])],
        _ => vec![rule(within("10.0.16.0/20"), RuleAction::Accept, vec![SetOperation::LocalPref(700)])],
    };
    Arc::new(Policy::from(RuleSet { rules, accept_by_default: true }))
}

struct World {
    bench: Bench,
    up: [bool; PEERS],
    /// Which peer has the number.
    lives: [usize; PEERS],
    /// Of import and export.
    policies: [(u8, u8); PEERS],
}

impl World {
    fn new(slice: usize) -> World {
        let mut bench = Bench::new();
        bench.routing.slice = slice;
        // Otherwise the path that came first stays the best one.
        let mut config = bench.routing.config.clone();
        config.decision.compare_router_id = true;
        bench.routing.configure(config);
        World { bench, up: [false; PEERS], lives: [0; PEERS], policies: [(0, 0); PEERS] }
    }

    fn apply(&mut self, step: &Step) {
        let routing = &mut self.bench.routing;
        match *step {
            Step::Announce { peer, prefix, path_id, ref asns } if self.up[peer] => {
                let next_hop = Some(Ipv4Addr::new(192, 0, 2, 10 + peer as u8 + 50 * self.lives[peer] as u8).into());
                let attributes = Attributes { next_hop, ..attributes(peer, asns) };
                routing.announce(peer, Family::V4, &[prefix], &[path_id], attributes);
            }
            Step::Withdraw { peer, prefix, path_id } if self.up[peer] => {
                routing.withdraw(peer, Family::V4, &[prefix], &[path_id]);
            }
            Step::Down { peer, kept } if self.up[peer] => {
                routing.peer_down(peer);
                if kept {
                    routing.mark_stale(peer, Family::V4);
                } else {
                    routing.flush(peer, Family::V4, Which::All);
                }
                self.up[peer] = false;
            }
            Step::Replaced { peer } if !self.up[peer] => {
                routing.flush(peer, Family::V4, Which::All);
                routing.forget_peer(peer);
                self.lives[peer] = (self.lives[peer] + 1) % 3;
            }
            Step::Up { peer } if !self.up[peer] => {
                let (life, (import, export)) = (self.lives[peer] as u8, self.policies[peer]);
                let profile = self.bench.profile(peer, SENDS[peer]);
                let profile = PeerProfile {
                    remote: Ipv4Addr::new(192, 0, 2, 10 + peer as u8 + 50 * life).into(),
                    router_id: Ipv4Addr::new(10, 0, 1 + life, peer as u8),
                    import: policy(import),
                    export: policy(export),
                    ..profile
                };
                self.bench.establish(peer, profile);
                self.up[peer] = true;
            }
            Step::EndOfRib { peer } => {
                routing.flush(peer, Family::V4, Which::Stale);
            }
            Step::BeginRefresh { peer } if self.up[peer] => routing.begin_refresh(peer, Family::V4),
            Step::EndRefresh { peer } if self.up[peer] => {
                routing.end_refresh(peer, Family::V4);
            }
            Step::Policies { peer, policies } => {
                self.policies[peer] = policies;
                routing.reconfigure_peer(peer, |profile| {
                    profile.import = policy(policies.0);
                    profile.export = policy(policies.1);
                });
            }
            Step::Drain { peer, stage } => routing.set_drain(peer, stage),
            Step::AnswerRefresh { peer, marked } if self.up[peer] => routing.answer_refresh(peer, Family::V4, marked),
            Step::Decision { ignore_as_path_length } => {
                let mut config: RoutingConfig = routing.config.clone();
                config.decision.ignore_as_path_length = ignore_as_path_length;
                routing.configure(config);
            }
            Step::DefaultLocalPref(default_local_pref) => {
                let mut config: RoutingConfig = routing.config.clone();
                config.decision.default_local_pref = default_local_pref;
                routing.configure(config);
            }
            Step::Lag { peer } => {
                if let Some(flow) = routing.peers.get_mut(&peer).and_then(|known| known.flow.as_mut()) {
                    flow.unsent = HIGH_WATER;
                }
            }
            _ => {}
        }
    }

    /// Does a part of the work.
    fn go_on(&mut self) {
        self.bench.routing.settle_slice();
        self.bench.routing.pump();
        self.bench.take();
    }

    fn finish(&mut self) {
        (0..PEERS).for_each(|peer| {
            self.bench.routing.drained(peer);
        });
        self.bench.settle();
    }

    /// What is known of the peers' paths at once, whatever is left to be done.
    fn received(&self) -> Vec<(usize, u32, Vec<String>)> {
        let prefixes: Vec<Cidr> = prefixes().collect();
        let of_peer = |peer| {
            let view = |prefix: &Cidr| self.bench.routing.route_at(View::In(peer), *prefix);
            let paths = prefixes.iter().filter_map(view).flat_map(|route| {
                let prefix = route.prefix;
                let words = move |path: crate::view::PathView| {
                    format!("{prefix} {:?} {} {}", path.path_id, path.attributes.as_path, path.stale)
                };
                route.paths.into_iter().map(words)
            });
            (peer, self.bench.routing.received_count(peer, Family::V4), paths.collect())
        };
        (0..PEERS).map(of_peer).collect()
    }

    /// What peers hold, whatever the paths are called.
    fn held(&self) -> BTreeMap<(u64, Cidr, &str), usize> {
        let mut all = BTreeMap::new();
        for (&peer, held) in self.bench.held.iter().filter(|(peer, _)| self.up[**peer as usize]) {
            for ((prefix, _), path) in held {
                *all.entry((peer, *prefix, path.as_str())).or_default() += 1;
            }
        }
        all
    }
}

fn prefixes() -> impl Iterator<Item = Cidr> {
    (0..30).map(|at| cidr(&format!("10.0.{at}.0/24")))
}

fn step(random: &mut SmallRng) -> Step {
    let peer = random.random_range(0..PEERS);
    let prefix = cidr(&format!("10.0.{}.0/24", random.random_range(0..30)));
    let path_id = random.random_range(0..2);
    let policies = (random.random_range(0..4), random.random_range(0..4));
    match random.random_range(0..100) {
        0..50 => {
            let asns = (0..random.random_range(1..4)).map(|_| random.random_range(1..4)).collect();
            Step::Announce { peer, prefix, path_id, asns }
        }
        50..60 => Step::Withdraw { peer, prefix, path_id },
        60..64 => Step::Down { peer, kept: random.random_bool(0.6) },
        64..66 => Step::Replaced { peer },
        66..76 => Step::Up { peer },
        76..79 => Step::EndOfRib { peer },
        79..81 => Step::BeginRefresh { peer },
        81..83 => Step::EndRefresh { peer },
        83..88 => Step::Policies { peer, policies },
        88..91 => {
            let stages = [DrainStage::None, DrainStage::GracefulShutdown, DrainStage::Withdrawn];
            Step::Drain { peer, stage: stages[random.random_range(0..3)] }
        }
        91..93 => Step::AnswerRefresh { peer, marked: random.random_bool(0.5) },
        93..95 => Step::Decision { ignore_as_path_length: random.random_bool(0.5) },
        95..96 => Step::DefaultLocalPref(random.random_range(99..102)),
        _ => Step::Lag { peer },
    }
}

#[test]
fn work_that_is_interrupted_by_whatever_comes_ends_as_if_each_had_been_done_at_once() {
    for seed in 0..150 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut at_once = World::new(1_000_000);
        let mut sliced = World::new(random.random_range(1..12));
        let busy = random.random_range(0.1..0.9);
        for number in 0..600u32 {
            let step = step(&mut random);
            for world in [&mut at_once, &mut sliced] {
                world.apply(&step);
            }
            at_once.bench.settle();
            while random.random_bool(busy) {
                sliced.go_on();
            }
            if number.is_multiple_of(20) {
                assert_eq!(sliced.received(), at_once.received(), "seed {seed}, after step {number}");
            }
            if random.random_bool(0.02) {
                at_once.finish();
                sliced.finish();
            }
        }
        at_once.finish();
        sliced.finish();
        assert_eq!(sliced.received(), at_once.received(), "seed {seed}");
        assert_eq!(sliced.bench.fib, at_once.bench.fib, "seed {seed}");
        let (sliced_held, all_held) = (sliced.held(), at_once.held());
        let lacks: Vec<_> = all_held.iter().filter(|(path, count)| sliced_held.get(path) != Some(count)).collect();
        let has_more: Vec<_> = sliced_held.iter().filter(|(path, count)| all_held.get(path) != Some(count)).collect();
        assert!(lacks.is_empty() && has_more.is_empty(), "seed {seed}: {lacks:#?} became {has_more:#?}");
        let kept = |world: &World| {
            let counters = world.bench.routing.counters();
            (counters.prefixes, counters.paths, counters.attribute_sets, counters.update_groups)
        };
        assert_eq!(kept(&sliced), kept(&at_once), "seed {seed}");
        for world in [&mut at_once, &mut sliced] {
            (0..PEERS).for_each(|peer| {
                world.bench.routing.flush(peer, Family::V4, Which::All);
            });
            world.finish();
            assert_eq!(world.bench.routing.counters().attribute_sets, 0, "seed {seed}");
            assert_eq!(world.bench.routing.counters().prefixes, 0, "seed {seed}");
            assert!(world.bench.fib.is_empty());
        }
    }
}
