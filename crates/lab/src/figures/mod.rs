//! What pods and daemons cost, measured in the lab: CNI calls, the time until a new pod is reachable from the other
//! rack, and memory.

mod pods;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::measure::{Load, Machine, memory};
use crate::{Lab, LabOptions, Topology, manifests};
use pods::Pods;
use report::Reach;
pub use report::{Burst, Calls, DaemonMemory, Figures, ReachTimings};

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct FiguresOptions {
    /// The folder with the resources to apply, as for the demo.
    pub config: PathBuf,
    /// ADDs and DELs one after the other.
    pub calls: usize,
    /// ADDs at once.
    pub burst: usize,
    /// How many times so many at once.
    pub bursts: usize,
    /// New pods that are reached from the other rack, of each kind.
    pub reached: usize,
    /// Pods on one node when the daemons' memory is looked at again.
    pub pods: usize,
    /// Where `ptp` and `host-local` of the CNI project are, to call them in the same run.
    pub plugins: PathBuf,
}

/// How long the sessions of a lab may take to come up.
const SETTLE: Duration = Duration::from_secs(30);

/// The node on which pods are counted and timed.
const NODE: &str = "node-a1";
/// A node of the other rack.
const FAR_NODE: &str = "node-b2";

/// Measures everything. Call it inside namespaces made by [`crate::isolation`].
pub fn run(options: &FiguresOptions) -> Result<Figures> {
    let before = Load::now()?;
    let first_pod = first_pods(options)?;

    let lab = bring_up(options)?;
    let mut pods = Pods::new(&lab);
    progress("memory of the daemons");
    let idle = daemons(&lab, memory)?;
    let many = pods.add_at_once(NODE, options.pods, pods::FEW)?;
    let loaded = daemons(&lab, memory)?;
    pods.delete_all(many)?;
    let memory =
        idle.into_iter().zip(loaded).map(|((node, idle), (_, loaded))| DaemonMemory { node, idle, loaded }).collect();

    progress("CNI calls, one after the other");
    let client = pods.add(FAR_NODE)?;
    let warm = pods.add(NODE)?;
    let (calls, peer_calls) = pods.calls(NODE, options.calls, &options.plugins)?;
    progress("CNI calls at once");
    let burst = pods.bursts(NODE, options.burst, options.bursts)?;
    progress("pods of an announced block, reached from the other rack");
    let mut announced = Reach::default();
    for _ in 0..options.reached {
        let pod = pods.reach(NODE, &client.netns, &mut announced)?;
        pods.delete(pod)?;
    }
    pods.delete_all(vec![client, warm])?;
    lab.end()?;
    Ok(Figures {
        machine: Machine::new(before, Load::now()?),
        calls,
        peer_calls,
        burst,
        announced_block: announced.timings(),
        first_pod: first_pod.timings(),
        pods: options.pods,
        memory,
    })
}

/// Brings up labs and reaches the first pod of each of three nodes; the fourth node has the pod that reaches for them.
fn first_pods(options: &FiguresOptions) -> Result<Reach> {
    let mut reach = Reach::default();
    while reach.len() < options.reached {
        progress(&format!("first pods of nodes, reached from the other rack: {} of {}", reach.len(), options.reached));
        let lab = bring_up(options)?;
        let mut pods = Pods::new(&lab);
        let far = pods.add(FAR_NODE)?;
        let near = pods.reach(NODE, &far.netns, &mut reach)?;
        let second = pods.reach("node-a2", &far.netns, &mut reach)?;
        let third = pods.reach("node-b1", &near.netns, &mut reach)?;
        pods.delete_all(vec![far, near, second, third])?;
        lab.end()?;
    }
    Ok(reach)
}

fn bring_up(options: &FiguresOptions) -> Result<Lab> {
    let mut lab = Lab::fabric(LabOptions::new(Topology::default()))?;
    for name in manifests::DEFAULT_FILES {
        lab.apply_file(&options.config.join(name))?;
    }
    lab.start_daemons()?;
    lab.wait_for_sessions(SETTLE)?;
    Ok(lab)
}

/// Asks something of every node's daemon.
fn daemons<T>(lab: &Lab, ask: impl Fn(u32) -> Result<T>) -> Result<Vec<(String, T)>> {
    let ask = |node: &crate::Node| {
        let pid = node.daemon_pid().with_context(|| format!("no daemon on {}", node.name()))?;
        Ok((node.name().to_owned(), ask(pid)?))
    };
    lab.nodes().map(ask).collect()
}

fn progress(what: &str) {
    eprintln!("{what} ...");
}
