//! A second and a third process: this test program, started again with a task in its environment.

use std::process::Stdio;
use std::time::Duration;

use margay_datastore::{Change, Datastore, StoreError, Updated, update_with};
use tokio::process::{Child, Command};

const TASK: &str = "MARGAY_TEST_WORKER_TASK";
const NAME: &str = "MARGAY_TEST_WORKER_NAME";
const URL: &str = "MARGAY_TEST_WORKER_URL";
const RESULT: &str = "worker result: ";
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Worker {
    child: Child,
}

impl Worker {
    pub(crate) const RACES: usize = 50;

    /// Creates each of [`Self::RACES`] keys if it is the first; its result is how many it won.
    pub(crate) fn race(url: &str, name: &str) -> Self {
        Self::spawn("race", url, name)
    }

    /// Increments one counter 200 times; its result is how often it did.
    pub(crate) fn count(url: &str, name: &str) -> Self {
        Self::spawn("count", url, name)
    }

    fn spawn(task: &str, url: &str, name: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker::a_worker_process_does_what_its_environment_says", "--nocapture"])
            .envs([(TASK, task), (NAME, name), (URL, url)])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child }
    }

    /// Waits until both are ready, lets them go at once and returns their results.
    pub(crate) async fn run_together(workers: [Self; 2], store: &dyn Datastore) -> [usize; 2] {
        let work = async {
            while store.list("/ready/").await.unwrap().items.len() < 2 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            store.create("/go", b"").await.unwrap();
            let [one, two] = workers;
            [one.result().await, two.result().await]
        };
        tokio::time::timeout(DEADLINE, work).await.expect("the workers end within the deadline")
    }

    async fn result(self) -> usize {
        let output = self.child.wait_with_output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "a worker failed: {text}");
        let line = text.lines().find_map(|line| line.split_once(RESULT)).expect("the worker tells its result");
        line.1.trim().parse().unwrap()
    }
}

/// Does nothing unless another test has started it as a process of its own.
#[tokio::test]
async fn a_worker_process_does_what_its_environment_says() {
    let Ok(task) = std::env::var(TASK) else { return };
    let name = std::env::var(NAME).unwrap();
    let store = margay_datastore::open(&std::env::var(URL).unwrap()).unwrap();
    store.create(&format!("/ready/{name}"), b"").await.unwrap();
    while store.get("/go").await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let result = match task.as_str() {
        "race" => race(&*store, &name).await,
        "count" => count(&*store).await,
        other => panic!("unknown task {other}"),
    };
    println!("{RESULT}{result}");
}

async fn race(store: &dyn Datastore, name: &str) -> usize {
    let mut won = 0;
    for n in 0..Worker::RACES {
        match store.create(&format!("/race/{n}"), name.as_bytes()).await {
            Ok(_) => won += 1,
            Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    won
}

async fn count(store: &dyn Datastore) -> usize {
    let mut done = 0;
    for _ in 0..200 {
        let increment = |found: Option<margay_datastore::KeyValue>| {
            let present: u32 = found.map_or(0, |item| String::from_utf8(item.value).unwrap().parse().unwrap());
            Change::Put((present + 1).to_string().into_bytes())
        };
        assert!(matches!(update_with(store, "/counter", increment).await, Ok(Updated::Put(_))));
        done += 1;
    }
    done
}
