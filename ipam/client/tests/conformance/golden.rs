//! The stored keys and JSON, against files that hold Calico's.

use std::fmt::Write as _;
use std::path::PathBuf;

use margay_datastore::Datastore;
use serde_json::Value;

use crate::backend::Backend;
use crate::cluster::{BOTH, TestNode, V4, pool};

/// Set to write the files anew from what is stored.
const REWRITE: &str = "MARGAY_REWRITE_GOLDEN";

/// Every key with its JSON as it is stored, field for field in order; sequence numbers, which begin with the time, are
/// told as their distance from the block's.
async fn stored(store: &dyn Datastore) -> String {
    let mut text = String::new();
    for item in store.list("/").await.unwrap().items {
        let mut value: Value = serde_json::from_slice(&item.value).unwrap();
        if let Some(last) = value.get("sequenceNumber").and_then(Value::as_u64) {
            value["sequenceNumber"] = "S".into();
            for (_, number) in value["sequenceNumberForAllocation"].as_object_mut().unwrap() {
                *number = format!("S-{}", last - number.as_u64().unwrap()).into();
            }
        }
        writeln!(text, "{}\n{value}\n", item.key).unwrap();
    }
    text
}

async fn compare(store: &dyn Datastore, name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let found = stored(store).await;
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{} differs; {REWRITE}=1 writes it anew", path.display());
}

pub(crate) async fn keys_and_json_are_calicos(backend: &impl Backend) {
    let store = backend.open();
    let pools = [pool("pool-4", "10.65.0.0/29", 29), pool("pool-6", "fd65::/125", 125)];
    let one = TestNode::new(store.clone(), "node-1", &pools);
    one.assign("k8s-pod-network.c1", BOTH).await;
    one.assign("k8s-pod-network.c2", V4).await;
    compare(&*store, "assigned.txt").await;
    let two = TestNode::new(store.clone(), "node-2", &pools);
    assert!(two.assign_one("k8s-pod-network.c3").await.borrowed);
    compare(&*store, "borrowed.txt").await;
    one.release("k8s-pod-network.c1").await;
    compare(&*store, "released.txt").await;
}

pub(crate) async fn a_block_of_another_writer_keeps_the_fields_that_we_do_not_know(backend: &impl Backend) {
    let store = backend.open();
    let block = r#"{"cidr":"10.65.0.0/30","affinity":"host:node-1","affinityClaimTime":"2026-01-02T03:04:05Z",
        "allocations":[0,null,null,null],"unallocated":[2,3,1],"strictAffinity":false,
        "attributes":[{"handle_id":"ipip-tunnel-addr-node-1","secondary":{"node":"node-1","type":"ipipTunnelAddress"},
        "alternateOwnerAttrs":{"a":"b"}}],"sequenceNumber":5,"sequenceNumberForAllocation":{"0":1},"deleted":false}"#;
    let key = "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-30";
    store.create(key, block.as_bytes()).await.unwrap();
    store.create("/calico/ipam/v2/host/node-1/ipv4/block/10.65.0.0-30", b"").await.unwrap();
    let handle = "/calico/ipam/v2/handle/ipip-tunnel-addr-node-1";
    store.create(handle, br#"{"block":{"10.65.0.0/30":1},"deleted":false}"#).await.unwrap();
    let node = TestNode::new(store.clone(), "node-1", &[pool("pool", "10.65.0.0/29", 30)]);
    assert_eq!(node.assign_one("pod").await.address.to_string(), "10.65.0.2", "the longest free");
    let value = store.get(key).await.unwrap().unwrap().value;
    let value: Value = serde_json::from_slice(&value).unwrap();
    assert_eq!(value["affinityClaimTime"], "2026-01-02T03:04:05Z");
    assert_eq!(value["strictAffinity"], false);
    assert_eq!(value["attributes"][0]["alternateOwnerAttrs"]["a"], "b");
    node.release("pod").await;
    node.release("ipip-tunnel-addr-node-1").await;
    let value = store.get(key).await.unwrap().unwrap().value;
    let value: Value = serde_json::from_slice(&value).unwrap();
    assert_eq!(value["affinityClaimTime"], "2026-01-02T03:04:05Z");
    assert_eq!(value["unallocated"].to_string(), "[3,1,2,0]");
}
