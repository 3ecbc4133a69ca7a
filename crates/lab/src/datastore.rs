use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Netns, NodeSpec, Process, Topology, isolation, until};

/// Where the lab's cluster keeps its resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DatastoreKind {
    /// One SQLite file that all nodes share.
    #[default]
    Sqlite,
    /// An etcd server in the hub, reached by the nodes over a management network that BGP doesn't use.
    Etcd,
}

/// A datastore that is up.
#[derive(Debug)]
pub(crate) struct Datastore {
    pub(crate) url: String,
    pub(crate) etcd: Option<Process>,
}

const BRIDGE: &str = "mgmt";
const HUB_ADDRESS: &str = "172.31.255.1";
const PORT: u16 = 2379;

impl Datastore {
    pub(crate) fn start(kind: DatastoreKind, hub: &Netns, topology: &Topology) -> Result<Datastore> {
        match kind {
            DatastoreKind::Sqlite => {
                let path = Path::new(isolation::LAB_DIR).join("cluster.db");
                Ok(Datastore { url: format!("sqlite://{}", path.display()), etcd: None })
            }
            DatastoreKind::Etcd => {
                management_network(hub, &topology.nodes())?;
                let etcd = start_etcd(hub)?;
                Ok(Datastore { url: format!("etcd://{HUB_ADDRESS}:{PORT}"), etcd: Some(etcd) })
            }
        }
    }
}

/// A bridge in the hub with one port for each node, whose interface there is `mgmt0`.
fn management_network(hub: &Netns, nodes: &[NodeSpec]) -> Result<()> {
    let mut lines = vec![format!("link add {BRIDGE} type bridge"), format!("addr add {HUB_ADDRESS}/16 dev {BRIDGE}")];
    for (index, node) in nodes.iter().enumerate() {
        lines.push(format!("link add name m{index} type veth peer name mgmt0 netns {}", node.name));
        lines.push(format!("link set m{index} master {BRIDGE} up"));
    }
    lines.push(format!("link set {BRIDGE} up"));
    hub.ip_batch(&lines)?;
    for node in nodes {
        let lines =
            [format!("addr add 172.31.{}.{}/16 dev mgmt0", node.rack, node.index), "link set mgmt0 up".to_owned()];
        Netns::open(&node.name)?.ip_batch(&lines)?;
    }
    Ok(())
}

/// Starts one etcd member without a second one to lose: data in the lab's tmpfs.
pub(crate) fn start_etcd(hub: &Netns) -> Result<Process> {
    let dir = Path::new(isolation::LAB_DIR).join("etcd");
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let clients = format!("http://127.0.0.1:{PORT},http://{HUB_ADDRESS}:{PORT}");
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(dir.join("data"));
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:2380", "--logger", "zap", "--log-level", "warn"]);
    command.args(["--initial-advertise-peer-urls", "http://127.0.0.1:2380"]);
    command.args(["--initial-cluster", "default=http://127.0.0.1:2380"]);
    let mut etcd = Process::start("etcd", hub, &mut command, &dir.join("etcd.log"))?;
    until(Duration::from_secs(20), "etcd answers", || {
        etcd.check_running()?;
        hub.enter(|| healthy(&format!("{HUB_ADDRESS}:{PORT}")))
    })?;
    Ok(etcd)
}

fn healthy(server: &str) -> Result<()> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(server).context("connect")?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    anyhow::ensure!(answer.contains("\"true\""), "etcd says: {}", answer.lines().last().unwrap_or_default());
    Ok(())
}
