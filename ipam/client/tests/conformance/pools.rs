//! Which pool and which block an address comes from, and how it goes back.

use std::collections::BTreeSet;

use margay_api::Labels;
use margay_api::kinds::IpPool;
use margay_ipam_client::{IpamClient, IpamError};
use margay_net::Family;

use crate::backend::Backend;
use crate::cluster::{BOTH, TestNode, V4, addresses, assert_clean, pool};

pub(crate) async fn dual_stack_is_all_or_nothing(backend: &impl Backend) {
    let store = backend.open();
    // Two addresses of IPv6, plenty of IPv4; then the other way round.
    for pools in [
        [pool("pool-4", "10.65.0.0/24", 26), pool("pool-6", "fd65::/127", 127)],
        [pool("pool-4", "10.66.0.0/31", 31), pool("pool-6", "fd66::/120", 122)],
    ] {
        let node = TestNode::new(store.clone(), "node-1", &pools);
        let mut in_use = addresses(&node.assign("one", BOTH).await);
        in_use.extend(addresses(&node.assign("two", BOTH).await));
        let error = node.try_assign("three", BOTH).await.unwrap_err();
        assert!(matches!(error, IpamError::Exhausted { .. }), "{error}");
        assert_clean(&store, &in_use).await;
        assert!(node.release("three").await.is_empty());
        node.release("one").await;
        node.assign("three", BOTH).await;
        for handle in ["two", "three"] {
            assert_eq!(node.release(handle).await.len(), 2);
        }
        assert_clean(&store, &BTreeSet::new()).await;
    }
    let node = TestNode::new(store.clone(), "node-1", &[pool("pool-4", "10.65.0.0/24", 26)]);
    let error = node.try_assign("four", BOTH).await.unwrap_err();
    assert!(matches!(error, IpamError::NoPool { family: Family::V6, .. }), "{error}");
    assert_clean(&store, &BTreeSet::new()).await;
}

pub(crate) async fn a_full_pool_says_so_and_serves_again_after_a_release(backend: &impl Backend) {
    let store = backend.open();
    let node = TestNode::new(store.clone(), "node-1", &[pool("small", "10.65.0.0/30", 31)]);
    let mut in_use = BTreeSet::new();
    for n in 0..4 {
        in_use.insert(node.assign_one(&format!("pod-{n}")).await.address);
    }
    let error = node.try_assign("more", V4).await.unwrap_err();
    assert!(matches!(&error, IpamError::Exhausted { family: Family::V4, pools } if pools == "small"), "{error}");
    assert!(!error.is_retryable());
    assert_clean(&store, &in_use).await;
    let freed = node.release("pod-2").await;
    assert_eq!(node.assign_one("more").await.address, freed[0]);
    assert_clean(&store, &in_use).await;
}

pub(crate) async fn pools_are_chosen_by_request_selector_and_state(backend: &impl Backend) {
    let store = backend.open();
    let changed = |name, cidr, change: fn(&mut IpPool)| {
        let mut pool = pool(name, cidr, 26);
        change(&mut pool);
        pool
    };
    let pools = [
        changed("a-rack", "10.1.0.0/24", |pool| pool.spec.node_selector = "rack == 'a'".into()),
        changed("b-disabled", "10.2.0.0/24", |pool| pool.spec.disabled = true),
        changed("c-manual", "10.3.0.0/24", |pool| pool.spec.assignment_mode = Some("Manual".into())),
        pool("d-open", "10.4.0.0/24", 26),
    ];
    let node = TestNode::new(store.clone(), "node-1", &pools);
    let assign = async |labels: &[(&str, &str)], requested: &[&str]| {
        let labels: Labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let mut request = node.request("pod", V4);
        request.pools.insert(Family::V4, requested.iter().map(|name| (*name).to_owned()).collect());
        let assigned = node.ipam.assign(request, &pools, &labels).await;
        assigned.map(|got| got[0].block.to_string().split(".0").next().unwrap_or_default().to_owned())
    };
    assert_eq!(assign(&[], &[]).await.unwrap(), "10.4");
    assert_eq!(assign(&[("rack", "a")], &["c-manual"]).await.unwrap(), "10.3");
    assert_eq!(assign(&[], &["10.1.0.0/24"]).await.unwrap(), "10.1", "a pool that is asked for needs no selector");
    let error = assign(&[], &["b-disabled"]).await.unwrap_err();
    assert!(matches!(error, IpamError::NoPool { .. }) && error.to_string().contains("b-disabled"), "{error}");
    let error = node.ipam.assign(node.request("pod", V4), &pools[..3], &Labels::new()).await.unwrap_err();
    assert!(matches!(error, IpamError::NoPool { .. }), "{error}");
    assert!(error.to_string().contains("none of the 3"), "{error}");
    let error = node.ipam.assign(node.request("pod", V4), &[], &Labels::new()).await.unwrap_err();
    assert!(error.to_string().contains("there is no IPPool of that family"), "{error}");
    // The block of a pool that was disabled meanwhile gives nothing more, and takes back.
    let mut pools = vec![pool("e", "10.5.0.0/24", 26)];
    let before = TestNode::new(store.clone(), "node-1", &pools);
    before.assign_one("stays").await;
    pools[0].spec.disabled = true;
    let after = TestNode::new(store.clone(), "node-1", &pools);
    assert!(matches!(after.try_assign("more", V4).await, Err(IpamError::NoPool { .. })));
    assert_eq!(after.release("stays").await.len(), 1);
}

pub(crate) async fn blocks_of_an_earlier_size_stay_in_use_and_are_not_overlapped(backend: &impl Backend) {
    let store = backend.open();
    let mut in_use = BTreeSet::new();
    let before = TestNode::new(store.clone(), "node-1", &[pool("pool", "10.65.0.0/28", 30)]);
    for n in 0..5 {
        in_use.insert(before.assign_one(&format!("before-{n}")).await.address);
    }
    // Larger blocks where there is room, then smaller ones: what is left is cut anew, the old blocks are filled up.
    for (size, node) in [(29, "node-2"), (31, "node-3"), (31, "node-1")] {
        let after = TestNode::new(store.clone(), node, &[pool("pool", "10.65.0.0/28", size)]);
        let mut got = 0;
        while let Ok(assigned) = after.try_assign(&format!("{node}-{size}-{got}"), V4).await {
            assert!(in_use.insert(assigned[0].address), "{} twice", assigned[0].address);
            got += 1;
            if node != "node-1" && got == 2 {
                break;
            }
        }
    }
    assert_eq!(in_use.len(), 16, "every address of the pool");
    assert_clean(&store, &in_use).await;
    let pools = [pool("pool", "10.65.0.0/28", 29)];
    let report = IpamClient::new(store.clone(), "").report(&pools).await.unwrap();
    assert_eq!((report.pools[0].used, report.strays.len()), (16, 0));
}

pub(crate) async fn a_borrowed_address_is_released_by_its_holder(backend: &impl Backend) {
    let store = backend.open();
    let pools = [pool("pool", "10.65.0.0/29", 29)];
    let [owner, guest] = ["owner", "guest"].map(|name| TestNode::new(store.clone(), name, &pools));
    let own = owner.assign_one("own").await;
    let borrowed = guest.assign_one("borrowed").await;
    assert!(!own.borrowed && borrowed.borrowed && own.block == borrowed.block);
    assert_clean(&store, &addresses([&own, &borrowed])).await;
    assert!(guest.ipam.own_blocks().await.unwrap().is_empty());
    assert_eq!(owner.ipam.own_blocks().await.unwrap(), [(own.block, 2, 8)]);
    let held = guest.ipam.held_by_this_node().await.unwrap();
    assert_eq!((held.len(), held[0].address, held[0].owner.as_deref()), (1, borrowed.address, Some("owner")));
    let report = owner.ipam.report(&pools).await.unwrap();
    assert_eq!((report.pools[0].blocks[0].borrowed, report.pools[0].used), (1, 2));
    assert_eq!(guest.release("borrowed").await, [borrowed.address]);
    assert_clean(&store, &addresses([&own])).await;
}

pub(crate) async fn a_freed_address_is_the_last_to_be_assigned_again(backend: &impl Backend) {
    let store = backend.open();
    let node = TestNode::new(store.clone(), "node-1", &[pool("pool", "10.65.0.0/29", 29)]);
    let first = node.assign_one("first").await.address;
    node.assign_one("second").await;
    node.release("first").await;
    let mut order = Vec::new();
    for n in 0..7 {
        order.push(node.assign_one(&format!("pod-{n}")).await.address);
    }
    assert_eq!(order.last(), Some(&first));
    assert!(order[..6].is_sorted());
}

pub(crate) async fn releasing_twice_is_no_error(backend: &impl Backend) {
    let store = backend.open();
    let pools = [pool("pool-4", "10.65.0.0/29", 29), pool("pool-6", "fd65::/125", 125)];
    let node = TestNode::new(store.clone(), "node-1", &pools);
    let assigned = node.assign("pod", BOTH).await;
    let stays = node.assign("other", BOTH).await;
    let released: BTreeSet<_> = node.release("pod").await.into_iter().collect();
    assert_eq!(released, addresses(&assigned));
    assert!(node.release("pod").await.is_empty());
    assert!(node.release("never-was").await.is_empty());
    assert_clean(&store, &addresses(&stays)).await;
}

pub(crate) async fn one_address_is_released_whoever_holds_it(backend: &impl Backend) {
    let store = backend.open();
    let pools = [pool("pool-4", "10.65.0.0/29", 29), pool("pool-6", "fd65::/125", 125)];
    let node = TestNode::new(store.clone(), "node-1", &pools);
    let assigned = node.assign("pod", BOTH).await;
    let operator = IpamClient::new(store.clone(), "");
    assert!(operator.release_address(assigned[0].address).await.unwrap());
    assert_clean(&store, &addresses(&assigned[1..])).await;
    assert!(!operator.release_address(assigned[0].address).await.unwrap(), "it is free");
    assert!(!operator.release_address("192.0.2.1".parse().unwrap()).await.unwrap(), "it is of no block");
    assert!(operator.release_address(assigned[1].address).await.unwrap());
    assert_clean(&store, &BTreeSet::new()).await;
    assert!(store.list("/calico/ipam/v2/handle/").await.unwrap().items.is_empty());
    node.assign("pod", BOTH).await;
}
