//! A second and a third process: this test program, started again with a task in its environment.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use margay_api::kinds::IpPool;
use tokio::process::{Child, Command};

use crate::backend::Backend;
use crate::cluster::{TestNode, assert_clean, pool};

const TASK: &str = "MARGAY_TEST_IPAM_TASK";
const NODE: &str = "MARGAY_TEST_IPAM_NODE";
const URL: &str = "MARGAY_TEST_IPAM_URL";
const RESULT: &str = "assigned: ";
const DEADLINE: Duration = Duration::from_secs(60);
const TASKS: &str = "/test/task/";

pub(crate) async fn of_two_processes_that_race_for_the_only_block_one_owns_it_and_one_borrows(backend: &impl Backend) {
    let store = backend.open();
    let mut workers = Pair::spawn(backend, "race");
    for round in 0..RACES {
        let got = workers.go(&*store, round).await;
        let owners: Vec<bool> = got.iter().map(|(_, borrowed)| !borrowed).collect();
        assert_eq!(owners.iter().filter(|owns| **owns).count(), 1, "round {round}: {got:?}");
        assert_ne!(got[0].0, got[1].0, "round {round}");
        let in_use = got.iter().map(|(address, _)| *address).collect();
        assert_clean(&store, &in_use).await;
        let block = store.get("/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-29").await.unwrap().unwrap();
        let owner = if owners[0] { "\"host:one\"" } else { "\"host:two\"" };
        assert!(String::from_utf8(block.value).unwrap().contains(owner));
        for item in store.list("/calico/").await.unwrap().items {
            store.delete(&item.key, None).await.unwrap();
        }
    }
    workers.end().await;
}

pub(crate) async fn two_processes_with_a_hundred_assignments_each_share_no_address(backend: &impl Backend) {
    let store = backend.open();
    let mut workers = Pair::spawn(backend, "many");
    let got = workers.go(&*store, 0).await;
    assert_eq!(got.len(), 200);
    let in_use: BTreeSet<IpAddr> = got.iter().map(|(address, _)| *address).collect();
    assert_eq!(in_use.len(), 200, "an address twice");
    assert_clean(&store, &in_use).await;
    workers.go(&*store, 1).await;
    workers.end().await;
    assert_clean(&store, &BTreeSet::new()).await;
    assert!(store.list("/calico/ipam/v2/handle/").await.unwrap().items.is_empty());
}

const RACES: usize = 10;

fn pools(task: &str) -> Vec<IpPool> {
    match task {
        // One block for both.
        "race" => vec![pool("pool", "10.65.0.0/29", 29)],
        // Too few blocks for both to have their own all the time: the last are borrowed.
        _ => vec![pool("pool", "10.65.0.0/24", 27)],
    }
}

struct Pair {
    children: Vec<Child>,
}

impl Pair {
    fn spawn(backend: &impl Backend, task: &str) -> Self {
        let spawn = |node: &str| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "processes::a_process_does_what_its_environment_says", "--nocapture"])
                .envs([(TASK, task), (NODE, node), (URL, &backend.url())])
                .stdout(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        };
        Self { children: ["one", "two"].map(spawn).into() }
    }

    /// Lets both begin a round at once, and returns what they got.
    async fn go(&mut self, store: &dyn margay_datastore::Datastore, round: usize) -> Vec<(IpAddr, bool)> {
        let work = async {
            wait_for(store, &format!("{TASKS}ready/{round}/"), 2).await;
            store.create(&format!("{TASKS}go/{round}"), b"").await.unwrap();
            wait_for(store, &format!("{TASKS}done/{round}/"), 2).await
        };
        let done = tokio::time::timeout(DEADLINE, work).await.expect("the processes end within the deadline");
        let text = done.join("\n");
        let parse = |line: &str| {
            let (address, borrowed) = line.strip_prefix(RESULT)?.split_once(' ')?;
            Some((address.parse().unwrap(), borrowed.parse().unwrap()))
        };
        text.lines().filter_map(parse).collect()
    }

    async fn end(self) {
        for mut child in self.children {
            let status = tokio::time::timeout(DEADLINE, child.wait()).await.expect("the process ends").unwrap();
            assert!(status.success());
        }
    }
}

/// Waits for this many keys, and returns their values.
async fn wait_for(store: &dyn margay_datastore::Datastore, prefix: &str, count: usize) -> Vec<String> {
    loop {
        let items = store.list(prefix).await.unwrap().items;
        if items.len() >= count {
            return items.into_iter().map(|item| String::from_utf8(item.value).unwrap()).collect();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Does nothing unless another test has started it as a process of its own.
#[tokio::test]
async fn a_process_does_what_its_environment_says() {
    let Ok(task) = std::env::var(TASK) else { return };
    let name = std::env::var(NODE).unwrap();
    let store = margay_datastore::open(&std::env::var(URL).unwrap()).unwrap();
    let (rounds, count) = if task == "race" { (RACES, 1) } else { (2, 100) };
    let mut node = TestNode::new(store.clone(), &name, &pools(&task));
    for round in 0..rounds {
        store.create(&format!("{TASKS}ready/{round}/{name}"), b"").await.unwrap();
        while store.get(&format!("{TASKS}go/{round}")).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        let mut lines = String::new();
        if task == "race" {
            node = TestNode::new(store.clone(), &name, &pools(&task));
        }
        for n in 0..count {
            let handle = format!("{name}-{n}");
            if task == "many" && round == 1 {
                assert_eq!(node.release(&handle).await.len(), 1);
            } else {
                let got = node.assign_one(&handle).await;
                lines.push_str(&format!("{RESULT}{} {}\n", got.address, got.borrowed));
            }
        }
        store.create(&format!("{TASKS}done/{round}/{name}"), lines.as_bytes()).await.unwrap();
    }
}
