//! Measures assignments on a datastore that is empty: `assign_rate URL [COUNT]`.
//!
//! Prints the time of an assignment alone from an owned block (median and 99th percentile), and how many a second 50
//! callers at once get and give back.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use margay_api::kinds::{IpPool, IpPoolSpec};
use margay_api::{Labels, Object};
use margay_ipam_client::{AssignRequest, Assignment, IpamClient, IpamError};
use margay_net::Family;

const AT_ONCE: usize = 50;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: assign_rate URL [COUNT]")?;
    let count: usize = arguments.next().map_or(Ok(500), |count| count.parse())?;
    let ipam = IpamClient::new(margay_datastore::open(&url)?, "rate");
    let pools = [Object::named("rate", IpPoolSpec { cidr: "10.65.0.0/20".parse()?, ..IpPoolSpec::default() })];
    assign(&ipam, &pools, "first".to_owned()).await?;

    let mut times = Vec::new();
    for n in 0..count {
        let handle = format!("alone-{n}");
        let began = Instant::now();
        assign(&ipam, &pools, handle.clone()).await?;
        times.push(began.elapsed());
        ipam.release_by_handle(&handle).await?;
    }
    times.sort_unstable();
    println!("alone: p50 {:.2?}, p99 {:.2?}", times[count / 2], times[count * 99 / 100]);

    let (mut assigning, mut releasing) = (Duration::ZERO, Duration::ZERO);
    let rounds = count.div_ceil(AT_ONCE);
    for round in 0..rounds {
        let handles: Vec<String> = (0..AT_ONCE).map(|n| format!("at-once-{round}-{n}")).collect();
        let began = Instant::now();
        for assigned in join_all(handles.iter().map(|handle| assign(&ipam, &pools, handle.clone()))).await {
            assigned?;
        }
        assigning += began.elapsed();
        let began = Instant::now();
        for released in join_all(handles.iter().map(|handle| ipam.release_by_handle(handle))).await {
            released?;
        }
        releasing += began.elapsed();
    }
    let rate = |time: Duration| (rounds * AT_ONCE) as f64 / time.as_secs_f64();
    println!("{AT_ONCE} at once: {:.0} assigned a second, {:.0} released a second", rate(assigning), rate(releasing));
    ipam.release_by_handle("first").await?;
    Ok(())
}

async fn assign(ipam: &IpamClient, pools: &[IpPool], handle: String) -> Result<Vec<Assignment>, IpamError> {
    let families = vec![Family::V4];
    let request = AssignRequest { handle, attributes: BTreeMap::new(), families, pools: BTreeMap::new() };
    ipam.assign(request, pools, &Labels::new()).await
}
