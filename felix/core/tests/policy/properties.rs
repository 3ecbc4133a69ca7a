//! Random lives of small clusters.

use margay_felix_core::policy::{Direction, Party, PolicyCore};
use proptest::prelude::*;

use crate::oracle::{self, Connection};
use crate::random::{ADDRESSES, PORTS, PROTOCOLS, Random, STRANGERS};
use crate::tables;
use crate::world::{Cluster, NODE};

type Update<'a> = Box<dyn Fn(&mut PolicyCore) + 'a>;

/// `MARGAY_SOAK=20` runs 20 times as many.
fn cases(count: u32) -> ProptestConfig {
    let times = std::env::var("MARGAY_SOAK").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(count * times) }
}

/// Every connection between a pod and an address that can make a difference.
fn connections() -> impl Iterator<Item = Connection> {
    let peers: Vec<_> = ADDRESSES.iter().chain(&STRANGERS).map(|address| address.parse().unwrap()).collect();
    peers.into_iter().flat_map(|peer| {
        [Direction::Ingress, Direction::Egress].into_iter().flat_map(move |direction| {
            PROTOCOLS.into_iter().flat_map(move |protocol| {
                let ports = if matches!(protocol, 6 | 17 | 132) { &PORTS[..] } else { &[0] };
                ports.iter().map(move |port| Connection { direction, peer, protocol, port: *port })
            })
        })
    })
}

/// The tables agree with the oracle for every local pod.
fn check_all(cluster: &Cluster) {
    let mut seen = std::collections::BTreeSet::new();
    for (key, endpoint) in &cluster.world.endpoints {
        // Of an interface that two endpoints name the first counts.
        if endpoint.spec.node == NODE && seen.insert(&endpoint.spec.interface_name) {
            connections().for_each(|connection| {
                cluster.judge(key, connection);
            });
        }
    }
    assert_eq!(seen.len(), cluster.kernel.endpoints.len());
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn the_tables_judge_every_connection_as_the_resources_say(seed: u64, steps in 1usize..40) {
        let (mut random, mut cluster) = (Random(seed), Cluster::default());
        for _ in 0..steps {
            random.step(&mut cluster);
        }
        check_all(&cluster);
        tables::canonical(&cluster.kernel);
    }
}

proptest! {
    #![proptest_config(cases(384))]

    #[test]
    fn step_by_step_leads_where_from_scratch_does(seed: u64, steps in 1usize..80) {
        let (mut random, mut cluster) = (Random(seed), Cluster::default());
        for step in 0..steps {
            random.step(&mut cluster);
            if step % 5 == 0 || step == steps - 1 {
                let fresh = cluster.world.compiled();
                prop_assert_eq!(tables::canonical(&cluster.kernel), tables::canonical(fresh.tables()));
            }
        }
    }

    #[test]
    fn the_order_of_updates_does_not_matter(seed: u64, steps in 1usize..40) {
        let (mut random, mut cluster) = (Random(seed), Cluster::default());
        for _ in 0..steps {
            random.step(&mut cluster);
        }
        let world = &cluster.world;
        let mut updates: Vec<Update<'_>> = Vec::new();
        for (key, endpoint) in &world.endpoints {
            updates.push(Box::new(move |core| core.update_endpoint(key, Some(endpoint))));
        }
        for ((namespace, name), policy) in &world.policies {
            updates.push(Box::new(move |core| core.update_policy(namespace, name, Some(policy))));
        }
        for (name, profile) in &world.profiles {
            updates.push(Box::new(move |core| core.update_profile(name, Some(profile))));
        }
        let expected = tables::canonical(&cluster.kernel);
        for _ in 0..3 {
            for index in (1..updates.len()).rev() {
                updates.swap(index, random.below(index + 1));
            }
            let mut core = PolicyCore::new(NODE);
            updates.iter().for_each(|update| update(&mut core));
            prop_assert_eq!(tables::canonical(core.tables()), expected.clone());
        }
    }

    #[test]
    fn nothing_is_left_of_a_world_that_is_gone(seed: u64, steps in 1usize..60) {
        let (mut random, mut cluster) = (Random(seed), Cluster::default());
        for _ in 0..steps {
            random.step(&mut cluster);
        }
        for key in cluster.world.endpoints.clone().into_keys() {
            cluster.put_endpoint(&key, None);
        }
        for (namespace, name) in cluster.world.policies.clone().into_keys() {
            cluster.put_policy(&namespace, &name, None);
        }
        for name in cluster.world.profiles.clone().into_keys() {
            cluster.put_profile(&name, None);
        }
        prop_assert_eq!(cluster.kernel, Default::default());
        // But for counters, free ids and capacities.
        let shape = |core: &PolicyCore| format!("{core:?}").replace(|c: char| c.is_ascii_digit() || ", ".contains(c), "");
        prop_assert_eq!(shape(&cluster.core), shape(&PolicyCore::new(NODE)));
    }

    #[test]
    fn an_update_that_says_the_same_again_changes_nothing(seed: u64, steps in 1usize..40) {
        let (mut random, mut cluster) = (Random(seed), Cluster::default());
        for _ in 0..steps {
            random.step(&mut cluster);
        }
        let world = cluster.world.clone();
        for (key, mut endpoint) in world.endpoints {
            endpoint.spec.container_id = "another".into();
            prop_assert!(cluster.put_endpoint(&key, Some(endpoint)).is_empty());
        }
        for ((namespace, name), policy) in world.policies {
            prop_assert!(cluster.put_policy(&namespace, &name, Some(policy)).is_empty());
        }
        for (name, profile) in world.profiles {
            prop_assert!(cluster.put_profile(&name, Some(profile)).is_empty());
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn explanations_agree_with_what_the_resources_say(seed: u64, steps in 1usize..40) {
        let (mut random, mut cluster) = (Random(seed), Cluster::default());
        for _ in 0..steps {
            random.step(&mut cluster);
        }
        let world = &cluster.world;
        let first_of = |address: std::net::IpAddr| {
            world.endpoints.values().find(|pod| pod.spec.ip_networks.iter().any(|net| net.addr() == address))
        };
        for pod in world.endpoints.values() {
            for own in pod.spec.ip_networks.iter().map(|network| network.addr()) {
                let same_family = |c: &Connection| c.peer.is_ipv4() == own.is_ipv4() && c.peer != own;
                for connection in connections().filter(same_family).filter(|c| matches!(c.port, 0 | 53 | 80 | 443)) {
                    if first_of(own).is_none_or(|first| first.name() != pod.name()) {
                        continue;
                    }
                    let (from, to) = match connection.direction {
                        Direction::Ingress => (connection.peer, own),
                        Direction::Egress => (own, connection.peer),
                    };
                    let explained = cluster
                        .core
                        .explain(&Party::Address(from), &Party::Address(to), connection.protocol, connection.port)
                        .unwrap();
                    let judgement = match connection.direction {
                        Direction::Ingress => &explained.ingress,
                        Direction::Egress => &explained.egress,
                    };
                    prop_assert_eq!(
                        judgement.is_allowed(), oracle::allows(world, pod, &connection), "{:?}\n{}", connection, explained
                    );
                }
            }
        }
    }
}
