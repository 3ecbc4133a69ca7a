//! What must hold of a world at rest.

use std::collections::BTreeSet;

use margay_bgp_core::RouteView;
use margay_net::Cidr;

use crate::network::name;
use crate::world::{Shape, World};

/// Checks that every session is up, every node reaches every block without a loop and over as many ways as there are,
/// nothing is stale or left over, and what one side believes to have told is what the other one has.
pub(crate) fn whole(world: &World) -> Result<(), String> {
    if !world.net.all_established() {
        return Err("a session is not established".to_owned());
    }
    let announced: BTreeSet<Cidr> = world.blocks.values().flatten().copied().collect();
    for (index, node) in world.net.nodes.iter().enumerate() {
        if !node.complete {
            return Err(format!("n{index} waits for routes still"));
        }
        let own = world.blocks.get(&index).cloned().unwrap_or_default();
        let wanted: BTreeSet<Cidr> = announced.difference(&own).copied().collect();
        let has: BTreeSet<Cidr> = node.fib.keys().copied().collect();
        if has != wanted {
            let missing: Vec<_> = wanted.difference(&has).collect();
            let extra: Vec<_> = has.difference(&wanted).collect();
            return Err(format!("n{index} lacks {missing:?} and has {extra:?}"));
        }
        if let Some((prefix, _)) = node.fib.iter().find(|(_, route)| route.stale) {
            return Err(format!("n{index}: {prefix} is stale"));
        }
        let held = node.speaker.counters().prefixes;
        if held != announced.len() as u64 {
            return Err(format!("n{index} holds {held} prefixes of {}", announced.len()));
        }
    }
    for (&owner, blocks) in &world.blocks {
        for &prefix in blocks {
            no_loop(world, prefix, owner)?;
        }
    }
    ways(world)?;
    told(world)
}

/// Walks every way of every node to a prefix.
fn no_loop(world: &World, prefix: Cidr, owner: usize) -> Result<(), String> {
    for start in 0..world.net.nodes.len() {
        let mut reached = BTreeSet::from([start]);
        let mut frontier = vec![start];
        // No way in a world is longer than it has nodes.
        for _ in 0..=world.net.nodes.len() {
            let mut next = BTreeSet::new();
            for at in frontier.drain(..).filter(|&at| at != owner) {
                let Some(route) = world.net.nodes[at].fib.get(&prefix) else {
                    return Err(format!("from n{start} to {prefix} of n{owner}: n{at} has no route"));
                };
                for hop in route.next_hops.iter() {
                    let Some(&to) = world.owners.get(&hop.addr) else {
                        return Err(format!("n{at}'s next hop {} to {prefix} is nobody's", hop.addr));
                    };
                    next.insert(to);
                }
            }
            reached.extend(next.iter().copied());
            frontier = next.into_iter().collect();
        }
        if !frontier.is_empty() {
            return Err(format!("from n{start} to {prefix} of n{owner}: a loop among {reached:?}"));
        }
    }
    Ok(())
}

/// In a fabric, a node has both routers of its rack as next hops.
fn ways(world: &World) -> Result<(), String> {
    let Shape::Fabric { .. } = world.shape else { return Ok(()) };
    for &node in world.blocks.keys() {
        for (prefix, route) in &world.net.nodes[node].fib {
            if route.next_hops.len() != 2 {
                return Err(format!("n{node} has the ways {:?} to {prefix}", route.next_hops));
            }
        }
    }
    Ok(())
}

/// In a world with more sessions, only so many are compared from both ends.
const COMPARED: usize = 1000;

/// What each node believes to have told another is what that one has.
fn told(world: &World) -> Result<(), String> {
    let paths = |routes: Vec<RouteView>| {
        let path = |route: RouteView| {
            let attributes = route.paths[0].attributes.clone();
            (route.prefix, attributes.as_path, attributes.communities, attributes.next_hop)
        };
        routes.into_iter().map(path).collect::<Vec<_>>()
    };
    let step = world.sessions.len().div_ceil(COMPARED).max(1);
    for (a, b) in world.sessions.iter().step_by(step).flat_map(|&(a, b)| [(a, b), (b, a)]) {
        let told = paths(world.net.nodes[a].speaker.advertised(&name(b)));
        let has = paths(world.net.nodes[b].speaker.received(&name(a)));
        if told != has {
            return Err(format!("n{a} told n{b} {told:?}, which has {has:?}"));
        }
    }
    Ok(())
}
