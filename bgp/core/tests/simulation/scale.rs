//! Large worlds of 500 speakers; `MARGAY_MESH=N` makes the mesh one of so many, which takes time and memory by its square.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::invariants;
use crate::network::{Network, seconds};
use crate::world::{Shape, World, block};

fn world(shape: Shape) -> World {
    let mut world = World::new(shape, &mut SmallRng::seed_from_u64(500));
    world.net.disorder(500, Duration::from_millis(5), Duration::from_millis(50));
    world
}

fn sends(net: &Network) -> usize {
    net.nodes.iter().map(|node| node.sends).sum()
}

/// Runs until every node has `prefixes` routes; the virtual time that it took.
fn converge(net: &mut Network, limit: Duration, what: &str, done: impl Fn(&Network) -> bool) -> Duration {
    let began = net.now;
    while !done(net) {
        assert!(net.now - began < limit, "{what}: not within {limit:?}");
        net.run(Duration::from_millis(1));
    }
    net.now - began
}

fn check(world: &World) {
    if let Err(wrong) = invariants::whole(world) {
        panic!("{:?}: {wrong}", world.shape);
    }
}

#[test]
fn a_fabric_of_five_hundred_speakers_converges_and_loses_nothing_when_a_spine_restarts() {
    let began = Instant::now();
    let mut world = world(Shape::Fabric { spines: 4, racks: 16, nodes_per_rack: 29 });
    let count = world.net.nodes.len();
    assert_eq!(count, 500);
    let all = 16 * 29 * 2;
    let nodes: Vec<usize> = world.blocks.keys().copied().collect();
    let time = converge(&mut world.net, seconds(60), "a fabric", |net| {
        nodes.iter().all(|&node| net.nodes[node].fib.len() == all - 2)
    });
    world.net.run(seconds(30));
    check(&world);
    println!("a fabric of {count} speakers converges in {time:?}; computed in {:?}", began.elapsed());
    let before: Vec<usize> = world.net.nodes.iter().map(|node| node.ways_changed).collect();
    world.net.kill(0);
    world.net.run(seconds(10));
    world.net.restart(0, true);
    world.announce_all(0);
    world.net.run(seconds(120));
    check(&world);
    let after: Vec<usize> = world.net.nodes.iter().map(|node| node.ways_changed).collect();
    assert_eq!(before, after);
}

#[test]
fn five_hundred_clients_of_two_reflectors_have_each_others_blocks() {
    let began = Instant::now();
    let mut world = world(Shape::Reflectors { reflectors: 2, clients: 498 });
    let clients: Vec<usize> = world.blocks.keys().copied().collect();
    let time = converge(&mut world.net, seconds(60), "reflectors", |net| {
        clients.iter().all(|&node| net.nodes[node].fib.len() == 497 * 2)
    });
    world.net.run(seconds(30));
    check(&world);
    println!("two reflectors and 498 clients converge in {time:?}; computed in {:?}", began.elapsed());
    let before = sends(&world.net);
    let prefix = block(clients[0], 2);
    world.blocks.get_mut(&clients[0]).unwrap().insert(prefix);
    world.net.announce(clients[0], [prefix]);
    let time = converge(&mut world.net, seconds(5), "a new block", |net| {
        clients[1..].iter().all(|&node| net.nodes[node].fib.contains_key(&prefix))
    });
    println!("a new block is everywhere in {time:?} after {} messages", sends(&world.net) - before);
    // The other reflector's word may still be on its way.
    world.net.run(seconds(1));
    check(&world);
}

#[test]
fn a_new_node_of_a_mesh_has_everything_in_a_moment() {
    let began = Instant::now();
    let nodes = crate::number("MARGAY_MESH").map_or(500, |nodes| nodes as usize);
    let mut world = world(Shape::Mesh { nodes });
    // The last node comes when the others have had their time.
    let last = nodes - 1;
    world.net.kill(last);
    let time = converge(&mut world.net, seconds(60), "a mesh", |net| {
        net.nodes[..last].iter().all(|node| node.fib.len() == (last - 1) * 2)
    });
    println!("a mesh of {last} converges in {time:?}; computed in {:?}", began.elapsed());
    world.net.run(seconds(20));
    let before = sends(&world.net);
    let began = Instant::now();
    world.net.restart(last, false);
    world.announce_all(last);
    let time = converge(&mut world.net, seconds(60), "a new node", |net| {
        net.nodes.iter().all(|node| node.fib.len() == last * 2)
    });
    let messages = sends(&world.net) - before;
    println!(
        "a node new in a mesh of {nodes} has all routes, and all have its, in {time:?} after {messages} messages; \
         computed in {:?}",
        began.elapsed()
    );
    check(&world);
}
