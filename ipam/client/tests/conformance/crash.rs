//! A fault at each write in turn: nobody gets another's address, and nothing stays behind.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use margay_api::kinds::IpPool;
use margay_datastore::Datastore;
use margay_ipam_client::IpamClient;

use crate::backend::{Backend, wipe};
use crate::cluster::{BOTH, TestNode, addresses, check, pool};
use crate::faulty::{Fate, Fault, Faulty};

const NODE: &str = "node-1";
const POD: &str = "pod";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    ClaimAndAssign,
    Assign,
    Release,
}

pub(crate) async fn a_fault_at_any_write_of_an_assignment_and_its_claims_leaves_no_address_with_two_owners(
    backend: &impl Backend,
) {
    every_fault(backend, Work::ClaimAndAssign, 10).await;
}

pub(crate) async fn a_fault_at_any_write_of_an_assignment_from_owned_blocks_leaves_nothing_leaked(
    backend: &impl Backend,
) {
    every_fault(backend, Work::Assign, 4).await;
}

pub(crate) async fn a_fault_at_any_write_of_a_release_leaves_nothing_leaked(backend: &impl Backend) {
    every_fault(backend, Work::Release, 3).await;
}

async fn every_fault(backend: &impl Backend, work: Work, writes: usize) {
    let store = backend.open();
    for dies in [true, false] {
        for fate in [Fate::Lost, Fate::Applied, Fate::Delayed] {
            // A delayed write arrives before, between or after what follows.
            let arrivals = if fate == Fate::Delayed { 0..4 } else { 0..1 };
            for arrival in arrivals {
                let mut at = 1;
                while one_fault(&store, work, Fault { at, fate, dies }, arrival).await {
                    at += 1;
                    wipe(&*store).await;
                }
                assert_eq!(at - 1, writes, "the writes of {work:?}");
                wipe(&*store).await;
            }
        }
    }
}

/// Lets the work run into a fault, then others and a restarted node do theirs; false if there was no such write.
async fn one_fault(store: &Arc<dyn Datastore>, work: Work, fault: Fault, arrival: usize) -> bool {
    let context = format!("{work:?} with {fault:?}, arrival {arrival}");
    let pools = [pool("pool-4", "10.65.0.0/28", 29), pool("pool-6", "fd65::/124", 125)];
    let faulty = Faulty::new(store.clone(), None);
    let node = TestNode::new(faulty.clone(), NODE, &pools);
    if work != Work::ClaimAndAssign {
        node.assign("before", BOTH).await;
        node.release("before").await;
    }
    if work == Work::Release {
        node.assign(POD, BOTH).await;
    }
    faulty.restart(Some(fault));
    let result = match work {
        Work::Release => node.ipam.release_by_handle(POD).await.map(drop),
        _ => node.try_assign(POD, BOTH).await.map(drop),
    };
    if faulty.writes() < fault.at {
        result.unwrap_or_else(|error| panic!("{context}: {error}"));
        return false;
    }
    // An undisturbed handle survives whatever was left.
    let other = addresses(&TestNode::new(store.clone(), "node-2", &pools).assign("other", BOTH).await);
    let deliver = async |step: usize| {
        if arrival == step {
            faulty.deliver().await;
        }
    };
    deliver(0).await;
    // A process that did not die goes on by itself.
    let after = if fault.dies { TestNode::new(store.clone(), NODE, &pools) } else { node };
    if fault.dies {
        after.ipam.repair_affinities().await.unwrap();
    }
    if work == Work::Release {
        after.release(POD).await;
        expect(store, &pools, &other, &context).await;
    }
    deliver(1).await;
    let again = addresses(&after.assign(POD, BOTH).await);
    assert!(again.is_disjoint(&other), "{context}: {again:?} and {other:?}");
    deliver(2).await;
    expect(store, &pools, &again.union(&other).copied().collect(), &context).await;
    let released: BTreeSet<IpAddr> = after.release(POD).await.into_iter().collect();
    assert_eq!(released, again, "{context}");
    deliver(3).await;
    // What arrives so late may be the count of a handle; the handle's next release takes it away.
    let report = check(store, &other).await;
    assert!(report.leaked.is_empty() && report.unassigned.is_empty(), "{context}: {report:#?}");
    after.release(POD).await;
    expect(store, &pools, &other, &context).await;
    true
}

async fn expect(store: &Arc<dyn Datastore>, pools: &[IpPool], in_use: &BTreeSet<IpAddr>, context: &str) {
    let report = check(store, in_use).await;
    assert!(report.is_clean(), "{context}: {report:#?}");
    assert_eq!(report.addresses_assigned, in_use.len(), "{context}");
    let report = IpamClient::new(store.clone(), "").report(pools).await.unwrap();
    let used: u128 = report.pools.iter().map(|pool| pool.used).sum();
    assert_eq!(used, in_use.len() as u128, "{context}");
}
