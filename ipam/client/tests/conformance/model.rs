//! Random work of three nodes at once on a store that interleaves and, in bad weather, fails; against a model that
//! knows only who was told what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use margay_datastore::Datastore;
use margay_ipam_client::IpamError;
use margay_net::Family;
use proptest::prelude::*;

use crate::cluster::{BOTH, TestNode, V4, addresses, assert_clean, check, pool};
use crate::memory::{Memory, Weather};

#[derive(Debug, Clone)]
enum Step {
    Assign {
        node: usize,
        handle: usize,
        families: &'static [Family],
    },
    Release {
        node: usize,
        handle: usize,
    },
    /// The node's process ends and begins again.
    Restart {
        node: usize,
    },
}

impl Step {
    /// What steps of one round must not share.
    fn subject(&self) -> String {
        match self {
            Step::Assign { handle, .. } | Step::Release { handle, .. } => format!("handle-{handle}"),
            Step::Restart { node } => format!("node-{node}"),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let families = prop_oneof![Just(V4), Just(BOTH)];
    prop_oneof![
        6 => (0..3usize, 0..8usize, families)
            .prop_map(|(node, handle, families)| Step::Assign { node, handle, families }),
        4 => (0..3usize, 0..8usize).prop_map(|(node, handle)| Step::Release { node, handle }),
        1 => (0..3usize).prop_map(|node| Step::Restart { node }),
    ]
}

/// What is known of a handle: what it holds, or after a failure nothing.
type Model = BTreeMap<usize, Option<BTreeSet<IpAddr>>>;

async fn run(rounds: Vec<Vec<Step>>, weather: Weather, seed: u64) {
    let memory = Arc::new(Memory::new(seed));
    let store: Arc<dyn Datastore> = memory.clone();
    // Ten addresses for eight handles, in blocks for two nodes of three.
    let pools = [pool("pool-4", "10.65.0.0/29", 30), pool("pool-6", "fd65::/126", 127)];
    let start = |node: usize| TestNode::new(store.clone(), &format!("node-{node}"), &pools);
    let mut nodes: Vec<TestNode> = (0..3).map(start).collect();
    let mut model = Model::new();
    for round in rounds {
        let mut seen = BTreeSet::new();
        let steps: Vec<Step> = round.into_iter().filter(|step| seen.insert(step.subject())).collect();
        memory.turn(weather);
        let outcomes = join_all(steps.iter().map(async |step| match step {
            Step::Assign { node, handle, families } => {
                let assigned = nodes[*node].try_assign(&format!("pod-{handle}"), families).await;
                Some((*handle, assigned.map(|got| addresses(&got))))
            }
            Step::Release { node, handle } => {
                let released = nodes[*node].ipam.release_by_handle(&format!("pod-{handle}")).await;
                Some((*handle, released.map(|_| BTreeSet::new())))
            }
            Step::Restart { .. } => None,
        }))
        .await;
        for (handle, outcome) in outcomes.into_iter().flatten() {
            let known = match outcome {
                Ok(addresses) => Some(addresses),
                // All or nothing; but another may have had the handle before.
                Err(IpamError::Exhausted { .. }) if weather.is_fair() => Some(BTreeSet::new()),
                Err(error) => {
                    assert!(!weather.is_fair(), "{error}");
                    None
                }
            };
            model.insert(handle, known);
        }
        for step in &steps {
            if let Step::Restart { node } = step {
                nodes[*node] = start(*node);
                let repaired = nodes[*node].ipam.repair_affinities().await;
                assert!(repaired.is_ok() || !weather.is_fair());
            }
        }
        memory.turn(Weather::default());
        compare(&store, &model, weather).await;
    }
    memory.deliver(true);
    for handle in 0..8 {
        nodes[handle % 3].release(&format!("pod-{handle}")).await;
    }
    let mut report = check(&store, &BTreeSet::new()).await;
    // The creation of a block that arrived after its claim was given up: its node takes it up at its next claim.
    report.affinities.retain(|line| weather.delayed == 0 || !line.contains("no affinity"));
    for node in &nodes {
        node.ipam.repair_affinities().await.unwrap();
    }
    if !report.affinities.is_empty() {
        report.affinities = check(&store, &BTreeSet::new()).await.affinities;
        report.affinities.retain(|line| weather.delayed == 0 || !line.contains("no affinity"));
    }
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.addresses_assigned, 0);
}

/// Every address has at most one holder, and who was told of addresses has them and no others.
async fn compare(store: &Arc<dyn Datastore>, model: &Model, weather: Weather) {
    let mut holders: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let held = nodes_view(store).await;
    let all: BTreeSet<IpAddr> = held.iter().map(|(_, address)| *address).collect();
    assert_eq!(all.len(), held.len(), "an address with two holders");
    for (handle, address) in held {
        holders.entry(handle).or_default().insert(address);
    }
    for (handle, known) in model {
        if let Some(known) = known {
            let found = holders.remove(&format!("pod-{handle}")).unwrap_or_default();
            assert_eq!(found, *known, "pod-{handle}");
        }
    }
    if weather.is_fair() {
        assert!(holders.is_empty(), "{holders:?} was never told of");
        assert_clean(store, &all).await;
    }
}

async fn nodes_view(store: &Arc<dyn Datastore>) -> Vec<(String, IpAddr)> {
    let held = margay_ipam_client::IpamClient::new(store.clone(), "").held().await.unwrap();
    held.into_iter().map(|held| (held.handle, held.address)).collect()
}

fn simulate(rounds: Vec<Vec<Step>>, weather: Weather, seed: u64) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(run(rounds, weather, seed));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_fair_weather_the_store_says_what_callers_were_told(
        rounds in proptest::collection::vec(proptest::collection::vec(step(), 1..8), 1..12),
        seed in any::<u64>(),
    ) {
        simulate(rounds, Weather::default(), seed);
    }

    #[test]
    fn whatever_fails_no_address_has_two_holders_and_none_is_lost_for_good(
        rounds in proptest::collection::vec(proptest::collection::vec(step(), 1..8), 1..12),
        (read_fails, lost, applied, delayed) in (0..5u32, 0..10u32, 0..10u32, 0..10u32),
        seed in any::<u64>(),
    ) {
        simulate(rounds, Weather { read_fails, lost, applied, delayed }, seed);
    }
}
