//! Measures a datastore: `cargo run --release -p margay-datastore --example figures -- URL`.
//!
//! Prints writes per second (one caller, and 50 at once), reads per second, and the time from a write's start to its
//! event at a watcher that has opened the store by itself. Leaves its keys below `/figures/` behind.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use margay_datastore::{Datastore, Revision};

const WRITES: usize = 500;
const CALLERS: usize = 50;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("usage: figures URL")?;
    let store = margay_datastore::open(&url)?;
    let watching = margay_datastore::open(&url)?;
    let run = std::process::id();
    let value = vec![b'x'; 700];

    let begin = Instant::now();
    let mut times = Vec::new();
    let mut revision = store.create(&format!("/figures/{run}/one"), &value).await?;
    for _ in 1..WRITES {
        let start = Instant::now();
        revision = store.update(&format!("/figures/{run}/one"), &value, revision).await?;
        times.push(start.elapsed());
    }
    report("write, one caller", WRITES, begin.elapsed(), &mut times);

    let begin = Instant::now();
    let callers: Vec<_> =
        (0..CALLERS).map(|caller| tokio::spawn(writes(store.clone(), run, caller, value.clone()))).collect();
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await??);
    }
    report("write, 50 callers", times.len(), begin.elapsed(), &mut times);

    let begin = Instant::now();
    let mut times = Vec::new();
    for _ in 0..WRITES {
        let start = Instant::now();
        store.get(&format!("/figures/{run}/one")).await?;
        times.push(start.elapsed());
    }
    report("read, one caller", WRITES, begin.elapsed(), &mut times);

    let mut stream = watching.watch(&format!("/figures/{run}/"), revision_now(&*store).await?).await?;
    let begin = Instant::now();
    let mut times = Vec::new();
    for n in 0..WRITES {
        let start = Instant::now();
        store.create(&format!("/figures/{run}/watched-{n}"), &value).await?;
        stream.next().await?;
        times.push(start.elapsed());
    }
    report("write to event", WRITES, begin.elapsed(), &mut times);
    Ok(())
}

async fn writes(
    store: Arc<dyn Datastore>,
    run: u32,
    caller: usize,
    value: Vec<u8>,
) -> Result<Vec<Duration>, margay_datastore::StoreError> {
    let mut times = Vec::new();
    for n in 0..WRITES / 10 {
        let start = Instant::now();
        store.create(&format!("/figures/{run}/{caller}-{n}"), &value).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

async fn revision_now(store: &dyn Datastore) -> Result<Revision, margay_datastore::StoreError> {
    Ok(store.list("/figures/none/").await?.revision)
}

fn report(what: &str, count: usize, total: Duration, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
    let rate = count as f64 / total.as_secs_f64();
    println!("{what:20} {rate:8.0}/s   p50 {:7.3} ms   p99 {:7.3} ms   max {:7.3} ms", at(50), at(99), at(100));
}
