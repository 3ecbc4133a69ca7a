//! What running flows lose when a link, a router or a daemon goes and comes back.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use margay_net::Family;

use super::RouteMonitor;
use super::routes::{all_sessions_established, nodes_use_both_tors, tors_use_all_spines};
use crate::bird::session_name;
use crate::traffic::{ECHO_PORT, Flow, FlowReport};
use crate::{Lab, Pod, until, wiring};

/// The flows of one measurement: enough that each equal path carries some.
const FLOWS: usize = 8;
/// How long the flows go on once everything is as it should be again.
const AFTERWARDS: Duration = Duration::from_secs(1);
const RECOVERY: Duration = Duration::from_secs(40);

/// Where the flows of a measurement run and what is broken there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    pub node: String,
    pub tor: String,
    pub family: Family,
}

/// Flows from a pod of the scene's node to a pod as far away as there is, over both racks where there are two.
pub fn flow(lab: &Lab, scene: &Scene) -> Result<Flow> {
    let from = lab.pods().find(|pod| pod.node == scene.node).with_context(|| format!("no pod on {}", scene.node))?;
    let rack = lab.node(&scene.node)?.spec().rack;
    let is_far = |pod: &&Pod| lab.node(&pod.node).is_ok_and(|node| node.spec().rack != rack);
    let to = lab.pods().find(is_far).or_else(|| lab.pods().find(|pod| pod.node != scene.node));
    let to = to.context("no pod on another node")?;
    Flow::start(&from.netns, SocketAddr::new(to.address(scene.family)?, ECHO_PORT), FLOWS)
}

/// One uplink of a node goes down, and comes up again. The losses of each.
pub fn uplink_down_and_up(lab: &mut Lab, scene: &Scene) -> Result<(FlowReport, FlowReport)> {
    let tors = lab.options.topology.tors();
    let tor = tors.iter().find(|tor| tor.name == scene.tor).with_context(|| format!("no ToR {}", scene.tor))?;
    let interface = wiring::uplink(tor);
    let flows = flow(lab, scene)?;
    lab.link_down(&scene.node, &interface)?;
    wait_for_session(lab, scene, false)?;
    sleep(AFTERWARDS);
    let down = flows.finish()?;
    let flows = flow(lab, scene)?;
    lab.link_up(&scene.node, &interface)?;
    wait_for_session(lab, scene, true)?;
    wait_until_whole(lab, scene.family)?;
    sleep(AFTERWARDS);
    Ok((down, flows.finish()?))
}

/// A ToR loses power, and comes back. The losses of each.
pub fn tor_dies_and_returns(lab: &mut Lab, scene: &Scene) -> Result<(FlowReport, FlowReport)> {
    let flows = flow(lab, scene)?;
    lab.router_mut(&scene.tor)?.power_off()?;
    until(RECOVERY, &format!("{} notices that {} is gone", scene.node, scene.tor), || {
        let (up, all) = lab.node(&scene.node)?.sessions()?;
        if up < all { Ok(()) } else { bail!("{up} of {all} sessions are established") }
    })?;
    sleep(AFTERWARDS);
    let dead = flows.finish()?;
    let flows = flow(lab, scene)?;
    lab.router_mut(&scene.tor)?.power_on()?;
    lab.wait_for_sessions(RECOVERY)?;
    wait_until_whole(lab, scene.family)?;
    sleep(AFTERWARDS);
    Ok((dead, flows.finish()?))
}

/// Fails unless every flow's longest outage and all that it lost are under a second's worth.
pub fn under_a_second(what: &str, report: &FlowReport) -> Result<String> {
    if report.longest_outage() >= Duration::from_secs(1) || report.worst().lost >= 100 {
        bail!("{what}: more than a second lost: {report}");
    }
    Ok(report.to_string())
}

/// What a killed daemon's restart did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartReport {
    pub flow: FlowReport,
    /// Changes of routes and nexthop objects that the kernel reported, on the node and on the ToR.
    pub node_changes: Vec<String>,
    pub tor_changes: Vec<String>,
    /// What BIRD logged about the session's graceful restart.
    pub graceful_restart: Vec<String>,
}

/// The daemon of a node is killed with SIGKILL and started again.
pub fn daemon_killed_and_restarted(lab: &mut Lab, scene: &Scene) -> Result<RestartReport> {
    wait_until_whole(lab, scene.family)?;
    let tor_log = lab.router(&scene.tor)?.log();
    let logged_before = std::fs::read_to_string(&tor_log)?.len();
    let node_monitor = RouteMonitor::start(lab.node(&scene.node)?.netns())?;
    let tor_monitor = RouteMonitor::start(lab.router(&scene.tor)?.netns())?;
    let flows = flow(lab, scene)?;
    lab.node_mut(&scene.node)?.kill_daemon()?;
    wait_for_session(lab, scene, false)?;
    lab.node_mut(&scene.node)?.start_daemon()?;
    wait_for_session(lab, scene, true)?;
    until(RECOVERY, &format!("{} has restarted", scene.node), || {
        all_sessions_established(lab)?;
        let status = lab.node(&scene.node)?.margayctl_json(&["status"])?;
        let waiting = status["waiting"].as_array().is_some_and(|waiting| !waiting.is_empty());
        if status["ready"] != true || waiting {
            bail!("its status: {status}");
        }
        let session = session_name(&scene.node, scene.family);
        let bird = lab.router(&scene.tor)?.birdc(&format!("show protocols all {session}"))?;
        if bird.contains("graceful restart active") { bail!("BIRD still waits for End-of-RIB") } else { Ok(()) }
    })?;
    sleep(AFTERWARDS);
    let flow = flows.finish()?;
    let log = std::fs::read_to_string(&tor_log)?;
    let session = session_name(&scene.node, scene.family);
    let graceful_restart = log[logged_before..]
        .lines()
        .filter(|line| line.contains(&session) && line.to_lowercase().contains("graceful restart"))
        .map(str::to_owned)
        .collect();
    Ok(RestartReport {
        flow,
        node_changes: node_monitor.finish()?,
        tor_changes: tor_monitor.finish()?,
        graceful_restart,
    })
}

/// Fails unless nothing was lost, no route changed, and BIRD saw a graceful restart.
pub fn restart_is_invisible(report: &RestartReport) -> Result<String> {
    if report.flow.lost() > 0 {
        bail!("packets were lost: {}", report.flow);
    }
    for (place, changes) in [("node", &report.node_changes), ("ToR", &report.tor_changes)] {
        if !changes.is_empty() {
            bail!("routes changed on the {place}:\n{}", changes.join("\n"));
        }
    }
    if report.graceful_restart.is_empty() {
        bail!("BIRD saw no graceful restart");
    }
    Ok(format!("{}; no route changed on node or ToR", report.flow))
}

/// Waits until the scene's ToR has, or hasn't, an established session with the scene's node.
fn wait_for_session(lab: &Lab, scene: &Scene, wanted: bool) -> Result<()> {
    let session = session_name(&scene.node, scene.family);
    let what = format!("{}'s session {session} is {}", scene.tor, if wanted { "established" } else { "down" });
    until(RECOVERY, &what, || {
        let up = lab.router(&scene.tor)?.established()?;
        if up.contains(&session) == wanted { Ok(()) } else { bail!("established: {}", up.join(", ")) }
    })
}

/// Waits until all sessions are up and every route has all its next hops again.
pub fn wait_until_whole(lab: &Lab, family: Family) -> Result<()> {
    until(RECOVERY, "every route has all its next hops", || {
        all_sessions_established(lab)?;
        nodes_use_both_tors(lab, family)?;
        tors_use_all_spines(lab, family)
    })?;
    Ok(())
}
