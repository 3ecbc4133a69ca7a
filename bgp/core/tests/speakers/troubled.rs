//! Random things that operators, BFD and restarts do to sessions: whatever the order, it ends with the right routes.

use std::time::Duration;

use margay_bgp_core::{BfdConfig, BfdState, Drain, Input, MaxPrefixes, MaxPrefixesAction, RefreshDirection};
use margay_net::{Cidr, Family};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::network::{Network, name, prefix, seconds};

const NODES: usize = 4;
const BLOCKS: usize = 40;

fn blocks(node: usize) -> Vec<Cidr> {
    (0..BLOCKS).map(|block| prefix(&format!("10.{node}.{block}.0/26"))).collect()
}

/// A full mesh of external sessions, half of the links without graceful restart.
fn mesh() -> (Network, Vec<usize>) {
    let mut net = Network::new();
    let mut links = Vec::new();
    (0..NODES).for_each(|index| assert_eq!(net.node(65000 + index as u32), index));
    for a in 0..NODES {
        for b in a + 1..NODES {
            links.push(net.join_with(a, b, |peer| {
                peer.hold_time = seconds(9);
                peer.graceful_restart = (a + b) % 2 == 0;
                peer.bfd = Some(BfdConfig::default());
            }));
        }
    }
    net.configure_all();
    (0..NODES).for_each(|node| net.announce(node, blocks(node)));
    (net, links)
}

fn trouble(net: &mut Network, links: &[usize], rng: &mut SmallRng) {
    let node = rng.random_range(0..NODES);
    let other = (node + rng.random_range(1..NODES)) % NODES;
    match rng.random_range(0..10) {
        0 => net.input(node, Input::Reset { peer: name(other), reason: None }),
        1 => net.input(node, Input::Refresh { peer: name(other), direction: RefreshDirection::In }),
        2 => net.input(node, Input::Refresh { peer: name(other), direction: RefreshDirection::Out }),
        3 => net.change_peer(node, other, |peer| peer.hold_time = seconds(20) + peer.hold_time / 2),
        4 => {
            let independent = rng.random_range(0..2) == 0;
            let down = BfdState::Down { control_plane_independent: independent };
            for state in [BfdState::Up, down] {
                net.input(node, Input::Bfd { peer: name(other), state, reason: "test".to_owned() });
            }
        }
        5 => {
            let withdraw_after = Duration::from_millis(rng.random_range(0..5000));
            net.nodes[node].config.drain = Some(Drain { withdraw_after, began: None });
            net.configure(node);
            net.run(Duration::from_millis(rng.random_range(0..8000)));
            net.nodes[node].config.drain = None;
            net.configure(node);
        }
        6 => {
            net.change_peer(node, other, |peer| peer.admin_up = false);
            net.run(Duration::from_millis(rng.random_range(0..4000)));
            net.change_peer(node, other, |peer| peer.admin_up = true);
        }
        7 => {
            let max = MaxPrefixes { limit: 10, warning_percent: 50, action: MaxPrefixesAction::Restart(seconds(3)) };
            net.change_peer(node, other, |peer| peer.max_prefixes = [(Family::V4, max)].into());
            net.run(Duration::from_millis(rng.random_range(0..5000)));
            net.change_peer(node, other, |peer| peer.max_prefixes.clear());
        }
        8 => {
            let link = links[rng.random_range(0..links.len())];
            net.cut(link);
            net.run(Duration::from_millis(rng.random_range(0..20_000)));
            net.mend(link);
        }
        _ => {
            let some = blocks(node).into_iter().filter(|_| rng.random_range(0..2) == 0).collect::<Vec<_>>();
            net.withdraw(node, some.clone());
            net.run(Duration::from_millis(rng.random_range(0..1000)));
            net.announce(node, some);
        }
    }
}

fn assert_whole(net: &Network, seed: u64) {
    assert!(net.all_established(), "seed {seed}: {:#?}", net.states());
    for (index, node) in net.nodes.iter().enumerate() {
        assert_eq!(node.fib.len(), (NODES - 1) * BLOCKS, "seed {seed}: routes of n{index}");
        assert!(node.fib.values().all(|route| !route.stale), "seed {seed}: stale routes of n{index}");
        assert_eq!(node.speaker.counters().prefixes, (NODES * BLOCKS) as u64, "seed {seed}: n{index}");
        for peer in node.speaker.peers() {
            let other: usize = peer.name.as_str()[1..].parse().unwrap();
            let paths = |routes: Vec<margay_bgp_core::RouteView>| {
                routes
                    .into_iter()
                    .map(|route| (route.prefix, route.paths[0].attributes.as_path.clone()))
                    .collect::<Vec<_>>()
            };
            let told = paths(node.speaker.advertised(&peer.name));
            let has = paths(net.nodes[other].speaker.received(&name(index)));
            assert_eq!(told, has, "seed {seed}: n{index} to n{other}");
            let waits: Vec<_> = peer.waits.iter().map(|wait| wait.what.as_str()).collect();
            assert!(waits.iter().all(|wait| wait.starts_with("the peer takes")), "seed {seed}: {waits:?}");
        }
    }
}

#[test]
fn whatever_is_done_to_sessions_they_end_up_with_the_right_routes() {
    for seed in 0..15 {
        let (mut net, links) = mesh();
        let mut rng = SmallRng::seed_from_u64(seed);
        net.run(Duration::from_millis(rng.random_range(0..5000)));
        for _ in 0..25 {
            trouble(&mut net, &links, &mut rng);
            net.run(Duration::from_millis(rng.random_range(0..3000)));
        }
        net.run(seconds(600));
        assert_whole(&net, seed);
    }
}
