//! Meshes, reflectors, fabrics and random graphs of speakers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use margay_net::Cidr;
use rand::Rng;
use rand::rngs::SmallRng;

use crate::network::{Network, seconds};

/// How a world is built, and with that what it must end as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One AS, everybody with everybody.
    Mesh { nodes: usize },
    /// One AS; clients with each of the reflectors, which are of one cluster and have sessions with each other.
    Reflectors { reflectors: usize, clients: usize },
    /// An AS per router and per node: spines, racks of two routers, nodes with both of their rack.
    Fabric { spines: usize, racks: usize, nodes_per_rack: usize },
    /// An AS each, joined at random.
    Graph { nodes: usize, extra: usize },
}

impl Shape {
    pub(crate) fn random(rng: &mut SmallRng) -> Shape {
        match rng.random_range(0..4) {
            0 => Shape::Mesh { nodes: rng.random_range(2..=6) },
            1 => Shape::Reflectors { reflectors: rng.random_range(1..=3), clients: rng.random_range(2..=6) },
            2 => Shape::Fabric {
                spines: rng.random_range(1..=2),
                racks: rng.random_range(1..=2),
                nodes_per_rack: rng.random_range(1..=2),
            },
            _ => Shape::Graph { nodes: rng.random_range(3..=8), extra: rng.random_range(0..=6) },
        }
    }
}

pub(crate) struct World {
    pub(crate) shape: Shape,
    pub(crate) net: Network,
    /// Links that trouble may cut.
    pub(crate) links: Vec<usize>,
    /// What each node announces at present, where it is one that announces.
    pub(crate) blocks: BTreeMap<usize, BTreeSet<Cidr>>,
    /// Sessions, by both ends.
    pub(crate) sessions: Vec<(usize, usize)>,
    /// Where an address is.
    pub(crate) owners: BTreeMap<IpAddr, usize>,
}

impl World {
    pub(crate) fn new(shape: Shape, rng: &mut SmallRng) -> World {
        let mut world = World {
            shape,
            net: Network::new(),
            links: Vec::new(),
            blocks: BTreeMap::new(),
            sessions: Vec::new(),
            owners: BTreeMap::new(),
        };
        match shape {
            Shape::Mesh { nodes } => world.mesh(nodes),
            Shape::Reflectors { reflectors, clients } => world.reflectors(reflectors, clients),
            Shape::Fabric { spines, racks, nodes_per_rack } => world.fabric(spines, racks, nodes_per_rack),
            Shape::Graph { nodes, extra } => world.graph(nodes, extra, rng),
        }
        let large = world.sessions.len() > 100;
        for peer in world.net.nodes.iter_mut().flat_map(|node| node.config.peers.values_mut()) {
            // With a short one, most of what a large world does is to send keepalives.
            peer.hold_time = if large { seconds(90) } else { seconds(9) };
            peer.connect_retry = seconds(10);
        }
        world.net.configure_all();
        for node in 0..world.net.nodes.len() {
            world.announce_all(node);
        }
        world
    }

    /// Tells a node's speaker its blocks, as felix does after each start.
    pub(crate) fn announce_all(&mut self, node: usize) {
        let blocks = self.blocks.get(&node).cloned().unwrap_or_default();
        self.net.announce(node, blocks);
    }

    fn mesh(&mut self, nodes: usize) {
        let all: Vec<usize> = (0..nodes).map(|_| self.net.node(64512)).collect();
        for (index, &a) in all.iter().enumerate() {
            all[index + 1..].iter().for_each(|&b| self.join_on_segment(a, b));
        }
        self.give_blocks(&all);
    }

    fn reflectors(&mut self, reflectors: usize, clients: usize) {
        let reflectors: Vec<usize> = (0..reflectors).map(|_| self.net.node(64512)).collect();
        let clients: Vec<usize> = (0..clients).map(|_| self.net.node(64512)).collect();
        for (index, &reflector) in reflectors.iter().enumerate() {
            self.net.nodes[reflector].config.cluster_id = Some(Ipv4Addr::new(1, 0, 0, 1));
            reflectors[index + 1..].iter().for_each(|&other| self.join_on_segment(reflector, other));
            for &client in &clients {
                self.join_on_segment(reflector, client);
                let peers = &mut self.net.nodes[reflector].config.peers;
                peers.get_mut(&crate::network::name(client)).unwrap().route_reflector_client = true;
            }
        }
        self.give_blocks(&clients);
    }

    fn fabric(&mut self, spines: usize, racks: usize, nodes_per_rack: usize) {
        let mut next = 0;
        let mut router = |net: &mut Network| {
            next += 1;
            net.node(65000 + next)
        };
        let spines: Vec<usize> = (0..spines).map(|_| router(&mut self.net)).collect();
        let mut nodes = Vec::new();
        for _ in 0..racks {
            let tors = [router(&mut self.net), router(&mut self.net)];
            for &tor in &tors {
                spines.iter().for_each(|&spine| self.join(spine, tor));
            }
            for _ in 0..nodes_per_rack {
                let node = router(&mut self.net);
                tors.iter().for_each(|&tor| self.join(tor, node));
                nodes.push(node);
            }
        }
        self.give_blocks(&nodes);
    }

    fn graph(&mut self, nodes: usize, extra: usize, rng: &mut SmallRng) {
        let all: Vec<usize> = (0..nodes).map(|index| self.net.node(65001 + index as u32)).collect();
        for (index, &node) in all.iter().enumerate().skip(1) {
            self.join(all[rng.random_range(0..index)], node);
        }
        for _ in 0..extra {
            let (a, b) = (rng.random_range(0..nodes), rng.random_range(0..nodes));
            let (a, b) = (a.min(b), a.max(b));
            if a != b && !self.sessions.contains(&(all[a], all[b])) {
                self.join(all[a], all[b]);
            }
        }
        self.give_blocks(&all);
    }

    /// Joins two nodes by a cable of their own.
    fn join(&mut self, a: usize, b: usize) {
        let link = self.net.join(a, b);
        let addresses = [a, b].map(|node| {
            let other = if node == a { b } else { a };
            self.net.nodes[other].config.peers[&crate::network::name(node)].remote
        });
        self.owners.insert(addresses[0], a);
        self.owners.insert(addresses[1], b);
        self.links.push(link);
        self.sessions.push((a, b));
    }

    /// Joins two nodes on a segment that all share, where each has one address.
    fn join_on_segment(&mut self, a: usize, b: usize) {
        let [of_a, of_b] = [a, b].map(|node| IpAddr::V4(Ipv4Addr::from_bits(0x0ac8_0001 + node as u32)));
        let link = self.net.join_at(a, b, &of_a.to_string(), &of_b.to_string());
        self.owners.insert(of_a, a);
        self.owners.insert(of_b, b);
        self.links.push(link);
        self.sessions.push((a, b));
    }

    fn give_blocks(&mut self, nodes: &[usize]) {
        for &node in nodes {
            self.blocks.insert(node, BTreeSet::from([block(node, 0), block(node, 1)]));
        }
    }
}

/// The blocks that a node may announce.
pub(crate) fn block(node: usize, index: usize) -> Cidr {
    let base = 0x0a80_0000 + node as u32 * 0x400 + index as u32 * 0x40;
    Cidr::new(Ipv4Addr::from_bits(base).into(), 26).unwrap()
}
