//! Requests of one client that come at once, and what it remembers between them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use margay_ipam_client::IpamClient;

use crate::backend::Backend;
use crate::cluster::{BOTH, TestNode, V4, addresses, assert_clean, pool};
use crate::faulty::Faulty;

pub(crate) async fn an_assignment_from_an_owned_block_is_one_handle_and_one_block_write(backend: &impl Backend) {
    let store = backend.open();
    let counting = Faulty::new(store.clone(), None);
    let pools = [pool("pool-4", "10.65.0.0/24", 26), pool("pool-6", "fd65::/120", 122)];
    let node = TestNode::new(counting.clone(), "node-1", &pools);
    let first = node.assign("first", BOTH).await;
    assert_eq!(counting.writes(), 2 * (3 + 2), "for each family a claim of three writes, a handle and a block");
    counting.restart(None);
    node.assign("second", V4).await;
    assert_eq!((counting.writes(), counting.block_updates()), (2, 1));
    counting.restart(None);
    assert_eq!(node.release("second").await.len(), 1);
    assert_eq!((counting.writes(), counting.block_updates()), (2, 1));
    assert_clean(&store, &addresses(&first)).await;
}

pub(crate) async fn fifty_assignments_at_once_share_the_writes_of_blocks(backend: &impl Backend) {
    let store = backend.open();
    let counting = Faulty::new(store.clone(), None);
    let node = TestNode::new(counting.clone(), "node-1", &[pool("pool", "10.65.0.0/24", 26)]);
    node.assign_one("before").await;
    counting.restart(None);
    let handles: Vec<String> = (0..50).map(|n| format!("pod-{n}")).collect();
    let assigned = join_all(handles.iter().map(|handle| node.assign_one(handle))).await;
    let in_use = addresses(&assigned);
    assert_eq!(in_use.len(), 50);
    assert!(counting.block_updates() <= 5, "{} block writes for 50 assignments", counting.block_updates());
    assert_eq!(counting.writes(), 50 + counting.block_updates(), "a handle each, and no more");
    counting.restart(None);
    let released = join_all(handles.iter().map(|handle| node.release(handle))).await;
    assert_eq!(released.into_iter().flatten().collect::<BTreeSet<_>>(), in_use);
    assert!(counting.block_updates() <= 5, "{} block writes for 50 releases", counting.block_updates());
    node.release("before").await;
    assert_clean(&store, &BTreeSet::new()).await;
}

pub(crate) async fn a_caller_that_goes_away_leaves_nothing_behind_and_nobody_unserved(backend: &impl Backend) {
    let store = backend.open();
    let node = TestNode::new(store.clone(), "node-1", &[pool("pool", "10.65.0.0/24", 26)]);
    let mut in_use = BTreeSet::new();
    for round in 0..20u64 {
        let calls = (0..6).map(|n| {
            let node = node.clone();
            tokio::spawn(async move { node.assign_one(&format!("pod-{round}-{n}")).await })
        });
        let mut calls: Vec<_> = calls.collect();
        // Another moment in each round, from before the first write to after the last.
        tokio::time::sleep(Duration::from_micros(150 * round)).await;
        let goes_away = calls.remove(0);
        goes_away.abort();
        in_use.extend(goes_away.await.ok().map(|got| got.address));
        for call in calls {
            assert!(in_use.insert(call.await.unwrap().address));
        }
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let observer = IpamClient::new(store.clone(), "");
    while observer.held().await.unwrap().len() != in_use.len() {
        assert!(Instant::now() < deadline, "what nobody took is not freed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The handle goes after the address.
    node.assign_one("last").await;
    node.release("last").await;
    assert_clean(&store, &in_use).await;
}

pub(crate) async fn an_answer_that_nobody_takes_is_freed(backend: &impl Backend) {
    let store = backend.open();
    let node = TestNode::new(store.clone(), "node-1", &[pool("pool", "10.65.0.0/24", 26)]);
    let mut call = Box::pin(node.assign_one("pod"));
    while call.as_mut().now_or_never().is_some() {
        // A slow poll: it was served within.
        call = Box::pin(node.assign_one("pod"));
    }
    // Served after the first, whose answer waits to be taken from here on.
    let other = node.assign_one("other").await;
    drop(call);
    // Served after the release that the drop asks for.
    let last = node.assign_one("last").await;
    assert_clean(&store, &addresses([&other, &last])).await;
}

pub(crate) async fn a_copy_of_a_block_that_is_old_costs_a_conflict_and_no_more(backend: &impl Backend) {
    let store = backend.open();
    let pools = [pool("pool", "10.65.0.0/28", 28)];
    let one = TestNode::new(store.clone(), "node-1", &pools);
    let again = TestNode::new(store.clone(), "node-1", &pools);
    let other = TestNode::new(store.clone(), "node-2", &pools);
    let mut in_use = BTreeSet::new();
    for round in 0..4 {
        for (name, node) in [("one", &one), ("again", &again), ("other", &other)] {
            let got = node.assign_one(&format!("{name}-{round}")).await;
            assert!(in_use.insert(got.address), "{} twice", got.address);
            assert_eq!(got.borrowed, name == "other");
        }
    }
    // Each releases what another assigned.
    for round in 0..4 {
        for (name, node) in [("one", &again), ("again", &other), ("other", &one)] {
            assert_eq!(node.release(&format!("{name}-{round}")).await.len(), 1);
        }
    }
    assert_clean(&store, &BTreeSet::new()).await;
}

pub(crate) async fn a_handle_that_is_asked_for_again_gives_back_what_it_had(backend: &impl Backend) {
    let store = backend.open();
    let pools = [pool("pool-4", "10.65.0.0/24", 26), pool("pool-6", "fd65::/120", 122)];
    let node = TestNode::new(store.clone(), "node-1", &pools);
    node.assign("pod", BOTH).await;
    let second = node.assign("pod", BOTH).await;
    assert_clean(&store, &addresses(&second)).await;
    let third = node.assign("pod", V4).await;
    assert_clean(&store, &addresses(&third)).await;
    // At once: the last one holds.
    let all = join_all((0..5).map(|_| node.assign("pod", V4))).await;
    let last = IpamClient::new(store.clone(), "").held().await.unwrap();
    assert_eq!(last.len(), 1);
    assert!(all.iter().any(|got| got[0].address == last[0].address));
    assert_clean(&store, &last.iter().map(|held| held.address).collect()).await;
}
