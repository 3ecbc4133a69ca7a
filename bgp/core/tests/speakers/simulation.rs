//! Random trouble in a small fabric: whatever happens, it ends with the right routes.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use margay_bgp_core::RouteView;

use crate::network::{Network, name, prefix, seconds};

const SPINES: usize = 2;
const TORS: usize = 4;
const NODES: usize = 4;

/// Two spines, two racks of two routers each, four nodes each with both routers of its rack.
fn fabric() -> (Network, Vec<usize>) {
    let mut net = Network::new();
    let mut links = Vec::new();
    let all: Vec<usize> = (0..SPINES + TORS + NODES).map(|index| net.node(65000 + index as u32)).collect();
    let (spines, rest) = all.split_at(SPINES);
    let (tors, nodes) = rest.split_at(TORS);
    let quick = |peer: &mut margay_bgp_core::PeerConfig| peer.hold_time = seconds(9);
    for &tor in tors {
        for &spine in spines {
            links.push(net.join_with(spine, tor, quick));
        }
    }
    for (index, &node) in nodes.iter().enumerate() {
        let rack = index / 2 * 2;
        for &tor in &tors[rack..rack + 2] {
            links.push(net.join_with(tor, node, quick));
        }
    }
    net.configure_all();
    for index in 0..SPINES + TORS {
        net.announce(index, []);
    }
    for (index, &node) in nodes.iter().enumerate() {
        net.announce(node, [block(index)]);
    }
    (net, links)
}

fn block(node: usize) -> margay_net::Cidr {
    prefix(&format!("10.{node}.0.0/26"))
}

/// Panics unless what each node believes to have told another is what that one has.
fn assert_told(net: &Network) {
    for (index, node) in net.nodes.iter().enumerate() {
        for peer in node.speaker.peers() {
            let other = peer.name.as_str()[1..].parse::<usize>().expect("a number");
            let paths = |routes: Vec<RouteView>| {
                let path = |route: RouteView| (route.prefix, route.paths[0].attributes.as_path.clone());
                routes.into_iter().map(path).collect::<Vec<_>>()
            };
            let told = paths(node.speaker.advertised(&peer.name));
            let has = paths(net.nodes[other].speaker.received(&name(index)));
            assert_eq!(told, has, "n{index} to n{other}");
        }
    }
}

/// Panics unless each node reaches each other's block over all shortest ways.
fn assert_whole(net: &Network) {
    assert!(net.all_established(), "{:#?}", net.states());
    for from in 0..NODES {
        for to in (0..NODES).filter(|&to| to != from) {
            let node = SPINES + TORS + from;
            let hops = net.next_hops(node, &block(to).to_string());
            assert_eq!(hops.len(), 2, "from {from} to {to}: {hops:?}");
            assert!(!net.nodes[node].fib[&block(to)].stale);
        }
        assert_eq!(net.nodes[SPINES + TORS + from].fib.len(), NODES - 1);
    }
}

#[test]
fn a_fabric_converges() {
    let (mut net, _) = fabric();
    net.run(seconds(30));
    assert_whole(&net);
    assert!(net.nodes.iter().all(|node| node.complete));
}

#[test]
fn whatever_breaks_the_fabric_ends_whole() {
    for seed in 0..12 {
        let (mut net, links) = fabric();
        let mut rng = SmallRng::seed_from_u64(seed);
        net.run(Duration::from_millis(rng.random_range(0..8000)));
        for _ in 0..15 {
            match rng.random_range(0..5) {
                0 | 1 => {
                    let link = links[rng.random_range(0..links.len())];
                    net.cut(link);
                    net.run(Duration::from_millis(rng.random_range(1..15_000)));
                    net.mend(link);
                }
                2 => {
                    let node = rng.random_range(0..net.nodes.len());
                    net.kill(node);
                    net.run(Duration::from_millis(rng.random_range(1..10_000)));
                    restart(&mut net, node, true);
                }
                3 => {
                    let node = rng.random_range(0..net.nodes.len());
                    net.power_off(node);
                    net.run(Duration::from_millis(rng.random_range(1..20_000)));
                    restart(&mut net, node, rng.random_range(0..2) == 0);
                }
                _ => {
                    let node = SPINES + TORS + rng.random_range(0..NODES);
                    let own = block(node - SPINES - TORS);
                    net.withdraw(node, [own]);
                    net.run(Duration::from_millis(rng.random_range(1..3000)));
                    net.announce(node, [own]);
                }
            }
            net.run(Duration::from_millis(rng.random_range(0..5000)));
        }
        net.run(seconds(500));
        assert_whole(&net);
        assert_told(&net);
        let leaked = net.nodes.iter().map(|node| node.speaker.counters().prefixes).max();
        assert_eq!(leaked, Some(NODES as u64), "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let (mut net, links) = fabric();
        net.run(seconds(3));
        net.cut(links[0]);
        net.run(seconds(20));
        net.mend(links[0]);
        net.run(seconds(20));
        net.nodes.iter().map(|node| (node.sent_bytes, node.events.len())).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

fn restart(net: &mut Network, node: usize, restarting: bool) {
    net.restart(node, restarting);
    match node.checked_sub(SPINES + TORS) {
        Some(index) => net.announce(node, [block(index)]),
        None => net.announce(node, []),
    }
}
