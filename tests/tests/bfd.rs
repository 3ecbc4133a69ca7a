//! What dies without a sign: BFD finds it, and outlives the daemon.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use margay_lab::checks::{self, failover};
use margay_lab::{DatastoreKind, Families, Lab, LabOptions, Netns, Topology, isolation, until, wiring};
use margay_net::Family;

const SETTLE: Duration = Duration::from_secs(40);

/// The bound of three packets at 100 ms, and as much again for the machine: detection, withdrawal, the kernel.
const DETECTED: Duration = Duration::from_millis(400);

/// The default fabric with pods and servers, sessions and BFD up.
fn fabric(families: Families) -> Result<(Lab, Vec<margay_lab::traffic::Servers>)> {
    let topology = Topology::default().with_families(families).with_bfd();
    let mut lab = Lab::start(LabOptions::new(topology).datastore(DatastoreKind::Sqlite))?;
    lab.wait_for_sessions(SETTLE)?;
    for (node, spec) in checks::demo_pods(&lab) {
        lab.add_pod(&node, &spec)?;
    }
    let servers = checks::serve(&lab)?;
    for router in lab.routers().filter(|router| router.name().starts_with("tor")) {
        until(SETTLE, &format!("BFD of {} is up with every node", router.name()), || {
            let shown = router.birdc("show bfd sessions")?;
            let up = shown.lines().filter(|line| line.split_whitespace().any(|word| word == "Up")).count();
            let wanted = (2 + lab.options.topology.spines().len()) * lab.families().len();
            if up == wanted { Ok(()) } else { bail!("{up} of {wanted}:\n{shown}") }
        })?;
    }
    for &family in lab.families() {
        failover::wait_until_whole(&lab, family)?;
    }
    // The kernel adds routes of its own when a link-local address has been found to be unique.
    let spaces = lab.nodes().map(|node| node.netns()).chain(lab.routers().map(|router| router.netns()));
    for netns in spaces {
        until(SETTLE, &format!("{} has no tentative address", netns.name()), || {
            let shown = netns.ip("-6 addr show tentative")?;
            if shown.trim().is_empty() { Ok(()) } else { bail!("{shown}") }
        })?;
    }
    Ok((lab, servers))
}

/// Makes a machine silent as a power cut does when a switch between keeps the carrier: nothing goes in or out.
fn silence(netns: &Netns) -> Result<()> {
    for hook in ["input", "output", "forward"] {
        let chain = format!("{{ type filter hook {hook} priority -500; policy drop; }}");
        netns.run("nft", &["add", "table", "inet", "power"])?;
        netns.run("nft", &["add", "chain", "inet", "power", hook, &chain])?;
    }
    Ok(())
}

fn node_goes_silent(families: Families) -> Result<()> {
    let (lab, _servers) = fabric(families)?;
    let node = lab.node("node-a1")?;
    let pod = lab.pods().find(|pod| pod.node == "node-a1").context("a pod of node-a1")?;
    let address = pod.address(lab.families()[0])?;
    let downlink = format!("dev {}", wiring::downlink(node.spec()));
    let through_node = |tor: &str| -> Result<bool> {
        let found = lab.router(tor)?.netns().ip(&format!("route get {address}"));
        // Where there is no route, `ip` fails.
        Ok(found.is_ok_and(|route| route.contains(&downlink)))
    };
    for tor in ["tor-a1", "tor-a2"] {
        ensure!(through_node(tor)?, "{tor} does not send to node-a1 before");
    }
    silence(node.netns())?;
    let began = Instant::now();
    while through_node("tor-a1")? || through_node("tor-a2")? {
        ensure!(began.elapsed() < Duration::from_secs(5), "a ToR still sends to node-a1");
    }
    let took = began.elapsed();
    println!("node-a1 is out of every path {took:?} after it fell silent");
    ensure!(took <= DETECTED, "it took {took:?}");
    Ok(())
}

fn router_goes_silent(families: Families) -> Result<()> {
    let (lab, _servers) = fabric(families)?;
    let scene = failover::Scene { node: "node-a1".to_owned(), tor: "tor-a1".to_owned(), family: lab.families()[0] };
    let flow = failover::flow(&lab, &scene)?;
    silence(lab.router("tor-a1")?.netns())?;
    until(SETTLE, "node-a1 gives up tor-a1", || {
        let (up, all) = lab.node("node-a1")?.sessions()?;
        if up < all { Ok(()) } else { bail!("{up} of {all} sessions are established") }
    })?;
    std::thread::sleep(Duration::from_secs(1));
    let report = flow.finish()?;
    println!("tor-a1 fell silent: {report}");
    // The flow's packets are 10 ms apart.
    ensure!(report.longest_outage() <= DETECTED + Duration::from_millis(10), "{report}");
    Ok(())
}

#[test]
fn a_node_that_falls_silent_is_out_of_every_path_within_400_ms() {
    isolation::isolated("a_node_that_falls_silent_is_out_of_every_path_within_400_ms", || {
        node_goes_silent(Families::V4)
    });
}

#[test]
fn a_router_that_falls_silent_is_out_of_every_path_within_400_ms() {
    isolation::isolated("a_router_that_falls_silent_is_out_of_every_path_within_400_ms", || {
        router_goes_silent(Families::Dual)
    });
}

#[test]
fn bfd_stays_up_and_no_packet_is_lost_when_the_daemon_is_killed() {
    isolation::isolated("bfd_stays_up_and_no_packet_is_lost_when_the_daemon_is_killed", || {
        let (mut lab, _servers) = fabric(Families::V4)?;
        let scene = failover::Scene { node: "node-a1".to_owned(), tor: "tor-a1".to_owned(), family: Family::V4 };
        let bfd_lines = |lab: &Lab| -> Result<usize> {
            let log = std::fs::read_to_string(lab.router("tor-a1")?.log())?;
            Ok(log.lines().filter(|line| line.contains("bfd") && line.contains("Session")).count())
        };
        let before = bfd_lines(&lab)?;
        let report = failover::daemon_killed_and_restarted(&mut lab, &scene)?;
        println!("{}", failover::restart_is_invisible(&report)?);
        ensure!(bfd_lines(&lab)? == before, "BFD's state changed on tor-a1");
        let shown = lab.router("tor-a1")?.birdc("show bfd sessions")?;
        ensure!(!shown.contains("Down"), "{shown}");
        Ok(())
    });
}
