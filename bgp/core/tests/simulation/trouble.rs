//! What happens to a world.

use std::collections::BTreeSet;
use std::time::Duration;

use margay_bgp_core::{
    ExportPolicy, Input, PrefixMatch, RouteMatch, Rule, RuleAction, RuleSet, SetOperation, StopKind,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::invariants;
use crate::network::{name, seconds};
use crate::world::{Shape, World, block};

/// The time in which everything must be whole again: a hold time, the longest wait to connect and what graceful
/// restart may keep.
const SETTLE: Duration = Duration::from_secs(500);

pub(crate) struct Trouble {
    pub(crate) world: World,
    rng: SmallRng,
    log: Vec<String>,
}

impl Trouble {
    pub(crate) fn new(seed: u64) -> Trouble {
        let mut rng = SmallRng::seed_from_u64(seed);
        let shape = Shape::random(&mut rng);
        let mut world = World::new(shape, &mut rng);
        let jitter = Duration::from_millis(rng.random_range(0..20));
        let lateness = Duration::from_millis(rng.random_range(0..200));
        world.net.disorder(seed, jitter, lateness);
        Trouble { world, rng, log: Vec::new() }
    }

    pub(crate) fn run(&mut self) {
        let early = self.rng.random_range(0..8000);
        self.pass(early);
        for _ in 0..self.rng.random_range(3..8) {
            self.something();
            if self.rng.random_range(0..4) == 0 {
                self.world.net.run(SETTLE);
                self.check();
                self.graceful_restart();
            }
        }
        self.world.net.run(SETTLE);
        self.check();
    }

    fn check(&self) {
        if let Err(wrong) = invariants::whole(&self.world) {
            panic!("{:?} after {:#?}: {wrong}\n{:#?}", self.world.shape, self.log, self.world.net.states());
        }
    }

    fn pass(&mut self, millis: u64) {
        self.world.net.run(Duration::from_millis(millis));
    }

    fn some_node(&mut self) -> usize {
        self.rng.random_range(0..self.world.net.nodes.len())
    }

    fn some_session(&mut self) -> (usize, usize) {
        let (a, b) = self.world.sessions[self.rng.random_range(0..self.world.sessions.len())];
        if self.rng.random_range(0..2) == 0 { (a, b) } else { (b, a) }
    }

    fn something(&mut self) {
        let away = self.rng.random_range(1..20_000);
        match self.rng.random_range(0..9) {
            0 | 1 => {
                let link = self.world.links[self.rng.random_range(0..self.world.links.len())];
                self.log.push(format!("cut link {link} for {away} ms"));
                self.world.net.cut(link);
                self.pass(away);
                self.world.net.mend(link);
            }
            2 => {
                let node = self.some_node();
                self.log.push(format!("killed n{node} for {away} ms"));
                self.world.net.kill(node);
                self.pass(away);
                self.start(node, true);
            }
            3 => {
                let (node, restarting) = (self.some_node(), self.rng.random_range(0..2) == 0);
                self.log.push(format!("power of n{node} off for {away} ms, forwarding kept: {restarting}"));
                self.world.net.power_off(node);
                self.pass(away);
                self.start(node, restarting);
            }
            4 => {
                let node = self.some_node();
                self.log.push(format!("stopped n{node} administratively for {away} ms"));
                self.world.net.stop(node, StopKind::Administrative(Some("maintenance".to_owned())));
                self.pass(away);
                self.world.net.kill(node);
                self.start(node, false);
            }
            5 => self.change_blocks(),
            6 => {
                let (a, b) = self.some_session();
                self.log.push(format!("n{a} reset n{b}"));
                self.world.net.input(a, Input::Reset { peer: name(b), reason: Some("trouble".to_owned()) });
            }
            7 => self.change_policy(),
            _ => {
                let (a, b) = self.some_session();
                self.log.push(format!("n{a} had n{b} administratively down for {away} ms"));
                self.world.net.change_peer(a, b, |peer| peer.admin_up = false);
                self.pass(away);
                self.world.net.change_peer(a, b, |peer| peer.admin_up = true);
            }
        }
        let after = self.rng.random_range(0..5000);
        self.pass(after);
    }

    fn start(&mut self, node: usize, restarting: bool) {
        self.world.net.restart(node, restarting);
        self.world.announce_all(node);
    }

    /// Blocks that come and go, also faster than messages travel.
    fn change_blocks(&mut self) {
        let owners: Vec<usize> = self.world.blocks.keys().copied().collect();
        let node = owners[self.rng.random_range(0..owners.len())];
        for _ in 0..self.rng.random_range(1..6) {
            let prefix = block(node, self.rng.random_range(0..4));
            let blocks = self.world.blocks.entry(node).or_default();
            if blocks.remove(&prefix) {
                self.log.push(format!("n{node} withdrew {prefix}"));
                self.world.net.withdraw(node, [prefix]);
            } else {
                blocks.insert(prefix);
                self.log.push(format!("n{node} announced {prefix}"));
                self.world.net.announce(node, [prefix]);
            }
            let between = self.rng.random_range(0..30);
            self.pass(between);
        }
    }

    /// An export policy that changes what is told but not who is reached.
    fn change_policy(&mut self) {
        let (a, b) = self.some_session();
        let med = self.rng.random_range(0..3);
        self.log.push(format!("n{a} tells n{b} MED {med}"));
        let everything = vec![PrefixMatch::within("0.0.0.0/0".parse().unwrap())];
        let rule = Rule {
            matches: RouteMatch { prefixes: everything, ..RouteMatch::default() },
            action: RuleAction::Next,
            set: vec![SetOperation::AddCommunity(64512 << 16 | med)],
        };
        let policy = ExportPolicy(RuleSet { rules: vec![rule], accept_by_default: true });
        self.world.net.change_peer(a, b, |peer| peer.export = policy);
    }

    /// A speaker that dies in a world at rest and comes back: nobody's way to anything changes.
    fn graceful_restart(&mut self) {
        let node = self.some_node();
        let away = self.rng.random_range(1..60_000);
        self.log.push(format!("graceful restart of n{node} after {away} ms"));
        let before: Vec<usize> = self.world.net.nodes.iter().map(|node| node.ways_changed).collect();
        let fibs: Vec<BTreeSet<_>> =
            self.world.net.nodes.iter().map(|node| node.fib.keys().copied().collect()).collect();
        self.world.net.kill(node);
        self.pass(away);
        self.start(node, true);
        self.world.net.run(SETTLE);
        for (index, known) in self.world.net.nodes.iter().enumerate() {
            let changed = known.ways_changed - before[index];
            assert_eq!(changed, 0, "n{index} changed ways while n{node} restarted gracefully: {:#?}", self.log);
            assert!(known.fib.keys().eq(&fibs[index]), "n{index}'s table changed: {:#?}", self.log);
        }
        self.world.net.run(seconds(1));
        self.check();
    }
}
