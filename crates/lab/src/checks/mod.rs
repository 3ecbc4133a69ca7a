//! The facts that a user of the cluster relies on, each a function that fails naming what isn't so.

pub mod failover;
pub mod policy;
pub mod reach;
pub mod routes;

mod monitor;
mod report;

pub use monitor::RouteMonitor;
pub use report::{Found, Report};

use anyhow::Result;

use crate::manifests::BACKEND_PORT;
use crate::traffic::{ECHO_PORT, Servers};
use crate::{Lab, PodSpec, manifests};

/// The two pods of each node of the demo: `frontend-a1` and `backend-a1` on `node-a1`, and so on.
pub fn demo_pods(lab: &Lab) -> Vec<(String, PodSpec)> {
    let mut pods = Vec::new();
    for node in lab.options.topology.nodes() {
        for app in ["frontend", "backend"] {
            let spec = PodSpec::new(manifests::NAMESPACE, &format!("{app}-{}", node.short())).label("app", app);
            pods.push((node.name.clone(), spec));
        }
    }
    pods
}

/// Servers in every pod and on every node, until dropped: TCP on [`ECHO_PORT`] and, in pods, on [`BACKEND_PORT`];
/// UDP echo on [`ECHO_PORT`].
pub fn serve(lab: &Lab) -> Result<Vec<Servers>> {
    let mut servers = Vec::new();
    for pod in lab.pods() {
        servers.push(Servers::start(&pod.netns, &[ECHO_PORT, BACKEND_PORT], &[ECHO_PORT])?);
    }
    for node in lab.nodes() {
        servers.push(Servers::start(node.netns(), &[ECHO_PORT], &[ECHO_PORT])?);
    }
    Ok(servers)
}
