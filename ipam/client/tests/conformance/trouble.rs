//! Values that are not what they should be, and other writers' doings.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use margay_ipam_client::{IpamClient, IpamError};
use margay_ipam_core::keys;

use crate::backend::Backend;
use crate::cluster::{TestNode, V4, addresses, assert_clean, check, pool};

pub(crate) async fn a_block_that_is_not_valid_is_named_and_the_others_stay_usable(backend: &impl Backend) {
    let store = backend.open();
    let pools = [pool("pool", "10.65.0.0/29", 30)];
    let node = TestNode::new(store.clone(), "node-1", &pools);
    let first = node.assign_one("first").await;
    let key = keys::block(first.block);
    let good = store.get(&key).await.unwrap().unwrap();
    let contradicting =
        String::from_utf8(good.value.clone()).unwrap().replace("\"unallocated\":[", "\"unallocated\":[0,");
    let of_another = String::from_utf8(good.value.clone()).unwrap().replace("10.65.0.", "10.66.0.");
    for bad in ["not JSON", "{}", &contradicting, &of_another] {
        let present = store.get(&key).await.unwrap().unwrap();
        let corrupted = store.update(&key, bad.as_bytes(), present.revision).await.unwrap();
        let fresh = TestNode::new(store.clone(), "node-1", &pools);
        let second = fresh.assign_one("second").await;
        assert_ne!(second.block, first.block);
        for n in 0..3 {
            fresh.assign_one(&format!("pod-{n}")).await;
        }
        for error in [fresh.try_assign("more", V4).await.unwrap_err(), fresh.ipam.report(&pools).await.unwrap_err()] {
            assert!(matches!(&error, IpamError::Corrupt { key: named, .. } if *named == key), "{error}");
        }
        let error = fresh.ipam.release_by_handle("first").await.unwrap_err();
        assert!(matches!(error, IpamError::Corrupt { .. }), "{error}");
        let report = check(&store, &BTreeSet::new()).await;
        assert!(report.corrupt[0].contains(&key), "{report:?}");
        assert_eq!(fresh.ipam.held().await.unwrap().len(), 4);
        for handle in ["second", "pod-0", "pod-1", "pod-2"] {
            fresh.release(handle).await;
        }
        assert_eq!(store.get(&key).await.unwrap().unwrap().revision, corrupted, "it is left as it is");
    }
    let present = store.get(&key).await.unwrap().unwrap();
    store.update(&key, &good.value, present.revision).await.unwrap();
    assert_clean(&store, &addresses([&first])).await;
}

pub(crate) async fn a_handle_that_is_not_valid_fails_its_own_request_only(backend: &impl Backend) {
    let store = backend.open();
    let node = TestNode::new(store.clone(), "node-1", &[pool("pool", "10.65.0.0/28", 28)]);
    store.create(&keys::handle("bad"), b"[]").await.unwrap();
    let handles = ["pod-1", "bad", "pod-2"];
    let results = join_all(handles.iter().map(|handle| node.try_assign(handle, V4))).await;
    let error = results[1].as_ref().unwrap_err();
    assert!(matches!(error, IpamError::Corrupt { key, .. } if *key == keys::handle("bad")), "{error}");
    let in_use: BTreeSet<_> = [&results[0], &results[2]].map(|got| got.as_ref().unwrap()[0].address).into();
    assert!(matches!(node.ipam.release_by_handle("bad").await, Err(IpamError::Corrupt { .. })));
    assert_eq!(check(&store, &in_use).await.corrupt.len(), 1);
    store.delete(&keys::handle("bad"), None).await.unwrap();
    assert_clean(&store, &in_use).await;
}

pub(crate) async fn a_block_that_was_taken_away_is_not_written_again(backend: &impl Backend) {
    let store = backend.open();
    let pools = [pool("pool", "10.65.0.0/29", 30)];
    let [one, two] = ["one", "two"].map(|name| TestNode::new(store.clone(), name, &pools));
    let taken = one.assign_one("pod").await.block;
    one.release("pod").await;
    // As Calico's controllers take an empty block from a node, and give it to another.
    store.delete(&keys::block(taken), None).await.unwrap();
    store.delete(&keys::affinity("one", taken), None).await.unwrap();
    let mut in_use = BTreeSet::new();
    for n in 0..4 {
        in_use.insert(two.assign_one(&format!("two-{n}")).await.address);
        in_use.insert(one.assign_one(&format!("one-{n}")).await.address);
    }
    assert_eq!(in_use.len(), 8);
    assert_clean(&store, &in_use).await;
}

pub(crate) async fn a_block_without_affinity_is_taken_up_again(backend: &impl Backend) {
    let store = backend.open();
    let pools = [pool("pool", "10.65.0.0/29", 30)];
    let node = TestNode::new(store.clone(), "node-1", &pools);
    let first = node.assign_one("first").await;
    store.delete(&keys::affinity("node-1", first.block), None).await.unwrap();
    assert_eq!(check(&store, &addresses([&first])).await.affinities.len(), 1);
    let again = TestNode::new(store.clone(), "node-1", &pools);
    let second = again.assign_one("second").await;
    assert_eq!((second.block, second.borrowed), (first.block, false));
    assert_clean(&store, &addresses([&first, &second])).await;
}

pub(crate) async fn a_pending_release_of_an_own_block_is_undone(backend: &impl Backend) {
    let store = backend.open();
    let node = TestNode::new(store.clone(), "node-1", &[pool("pool", "10.65.0.0/29", 30)]);
    let first = node.assign_one("first").await;
    let key = keys::affinity("node-1", first.block);
    let affinity = store.get(&key).await.unwrap().unwrap();
    let pending = br#"{"state":"pendingDeletion","deleted":false}"#;
    let pending = store.update(&key, pending, affinity.revision).await.unwrap();
    let block = store.get(&keys::block(first.block)).await.unwrap().unwrap();
    node.ipam.repair_affinities().await.unwrap();
    assert_clean(&store, &addresses([&first])).await;
    // Whoever was releasing the block can't go on.
    assert!(store.delete(&keys::block(first.block), Some(block.revision)).await.is_err());
    assert!(store.delete(&key, Some(pending)).await.is_err());
}

pub(crate) async fn check_finds_what_does_not_agree(backend: &impl Backend) {
    let store = backend.open();
    let node = TestNode::new(store.clone(), "node-1", &[pool("pool", "10.65.0.0/29", 29)]);
    let got = node.assign_one("pod").await;
    let unassigned = "10.65.0.7".parse().unwrap();
    let report = check(&store, &[unassigned].into()).await;
    assert_eq!(report.leaked, [format!("{} held by pod", got.address)]);
    assert_eq!(report.unassigned, ["10.65.0.7 used by default/"]);
    assert_eq!((report.addresses_assigned, report.addresses_in_use), (1, 1));
    let in_use = addresses([&got]);
    // A count too much, as a crash of any IPAM of this kind leaves it; then none at all.
    let key = keys::handle("pod");
    let present = store.get(&key).await.unwrap().unwrap();
    let too_much = br#"{"block":{"10.65.0.0/29":2},"deleted":false}"#;
    let revision = store.update(&key, too_much, present.revision).await.unwrap();
    assert_eq!(check(&store, &in_use).await.handles, ["pod counts 2 in 10.65.0.0/29, which has 1"]);
    store.delete(&key, Some(revision)).await.unwrap();
    assert_eq!(check(&store, &in_use).await.handles, ["pod does not count 10.65.0.0/29, which has 1 of it"]);
    // Its node still finds it.
    assert_eq!(node.release("pod").await, [got.address]);
    assert_clean(&store, &BTreeSet::new()).await;
    store.create(&keys::affinity("node-2", got.block), b"").await.unwrap();
    store.create(&keys::affinity("node-3", "10.65.0.8/29".parse().unwrap()), b"{}").await.unwrap();
    let report = check(&store, &BTreeSet::new()).await;
    assert_eq!(report.affinities.len(), 2, "{report:?}");
    assert!(!report.is_clean());
    assert_eq!(IpamClient::new(store.clone(), "node-2").own_blocks().await.unwrap(), []);
}
