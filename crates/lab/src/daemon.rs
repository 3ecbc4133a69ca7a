use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use margay_net::Family;

use crate::{Binaries, Families, Netns, NodeSpec, Process, isolation, places, process, until};

/// A node of the cluster: a namespace with its uplinks, and the `margayd node` that runs in it.
#[derive(Debug)]
pub struct Node {
    spec: NodeSpec,
    netns: Netns,
    dir: PathBuf,
    datastore: String,
    families: Families,
    binaries: Binaries,
    daemon: Option<Process>,
    /// `margayd bfd`, which outlives the daemon.
    bfd: Option<Process>,
}

impl Node {
    pub(crate) fn new(spec: NodeSpec, families: Families, datastore: &str, binaries: &Binaries) -> Result<Node> {
        let netns = Netns::open(&spec.name)?;
        let dir = Path::new(isolation::LAB_DIR).join(&spec.name);
        for part in ["run", "state"] {
            std::fs::create_dir_all(dir.join(part)).with_context(|| dir.display().to_string())?;
        }
        let datastore = datastore.to_owned();
        let node = Node { spec, netns, dir, datastore, families, binaries: binaries.clone(), daemon: None, bfd: None };
        places::write(&node.spec.name, &node.spec.name, &node.environment())?;
        Ok(node)
    }

    /// Its place in the topology.
    pub fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("run/margayd.sock")
    }

    /// The daemon's log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("margayd.log")
    }

    /// The folder that the daemon reads passwords from, as NAME/KEY.
    pub fn secrets(&self) -> PathBuf {
        self.dir.join("secrets")
    }

    /// The environment that tells Margay's programs which node they are on.
    pub fn environment(&self) -> BTreeMap<String, String> {
        // The management network is no address of the cluster.
        let method = |family| if self.families.has(family) { "autodetect" } else { "none" }.to_owned();
        [
            ("MARGAY_IP", method(Family::V4)),
            ("MARGAY_IP6", method(Family::V6)),
            ("MARGAY_NODE", self.spec.name.clone()),
            ("MARGAY_DATASTORE", self.datastore.clone()),
            ("MARGAY_STATE", self.dir.join("state").display().to_string()),
            ("MARGAY_RUN", self.dir.join("run").display().to_string()),
            ("MARGAY_SECRETS", self.secrets().display().to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// Starts the daemon and waits until it answers and can serve pods.
    pub fn start_daemon(&mut self) -> Result<()> {
        self.launch_daemon()?;
        self.wait_for_daemon()
    }

    /// Starts the daemon without waiting for it.
    pub fn launch_daemon(&mut self) -> Result<()> {
        if self.daemon.is_some() {
            bail!("margayd of {} runs already", self.spec.name);
        }
        let mut command = Command::new(self.binaries.path("margayd")?);
        command.arg("node").envs(self.environment());
        let name = format!("margayd of {}", self.spec.name);
        self.daemon = Some(Process::start(&name, &self.netns, &mut command, &self.log())?);
        Ok(())
    }

    /// Waits until a launched daemon answers and can serve pods.
    pub fn wait_for_daemon(&mut self) -> Result<()> {
        until(Duration::from_secs(20), &format!("margayd of {} is ready", self.spec.name), || {
            self.check_daemon()?;
            let status = self.margayctl_json(&["status"])?;
            if status["ready"] != true {
                bail!("it waits for {}", status["waiting"]);
            }
            Ok(())
        })
    }

    /// Starts `margayd bfd`.
    pub fn start_bfd(&mut self) -> Result<()> {
        if self.bfd.is_some() {
            bail!("margayd bfd of {} runs already", self.spec.name);
        }
        let mut command = Command::new(self.binaries.path("margayd")?);
        command.arg("bfd").envs(self.environment());
        let name = format!("margayd bfd of {}", self.spec.name);
        self.bfd = Some(Process::start(&name, &self.netns, &mut command, &self.dir.join("bfd.log"))?);
        Ok(())
    }

    /// Fails if the daemon isn't running, with the end of its log.
    pub fn check_daemon(&mut self) -> Result<()> {
        match &mut self.daemon {
            Some(daemon) => daemon.check_running(),
            None => bail!("margayd of {} isn't started", self.spec.name),
        }
    }

    /// The daemon's process id, if it was started.
    pub fn daemon_pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Process::pid)
    }

    /// Ends the daemon with SIGKILL.
    pub fn kill_daemon(&mut self) -> Result<()> {
        self.daemon.take().with_context(|| format!("margayd of {} isn't started", self.spec.name))?.kill()
    }

    /// Ends the daemon with SIGTERM; its exit code.
    pub fn stop_daemon(&mut self) -> Result<i32> {
        let daemon = self.daemon.take().with_context(|| format!("margayd of {} isn't started", self.spec.name))?;
        daemon.terminate(Duration::from_secs(10))
    }

    /// Runs `margayctl` on the node; its stdout.
    pub fn margayctl(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(self.binaries.path("margayctl")?);
        command.args(args).envs(self.environment());
        let output = self.netns.enter(|| process::run(&mut command)).with_context(|| format!("on {}", self.name()))?;
        Ok(output.stdout)
    }

    /// Runs `margayctl ... -o json` on the node.
    pub fn margayctl_json(&self, args: &[&str]) -> Result<serde_json::Value> {
        let text = self.margayctl(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("margayctl {} -o json printed:\n{text}", args.join(" ")))
    }

    /// How many of its BGP sessions are established, and how many there are.
    pub fn sessions(&self) -> Result<(usize, usize)> {
        let answer = self.margayctl_json(&["bgp", "peers"])?;
        let peers = answer["peers"].as_array().or_else(|| answer.as_array());
        let peers = peers.with_context(|| format!("no list of peers in {answer}"))?;
        Ok((peers.iter().filter(|peer| peer["state"] == "Established").count(), peers.len()))
    }

    pub(crate) fn binaries(&self) -> &Binaries {
        &self.binaries
    }
}
