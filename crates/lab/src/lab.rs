use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use margay_net::Family;

use crate::bird::{self, Fault, Router};
use crate::datastore::Datastore;
use crate::traffic::parallel;
use crate::{Binaries, DatastoreKind, Netns, Node, Pod, PodKey, PodSpec, Process, Topology};
use crate::{cni, isolation, manifests, netns, places, process, until, wiring};

/// What kind of lab to bring up.
#[derive(Debug, Clone)]
pub struct LabOptions {
    pub topology: Topology,
    pub datastore: DatastoreKind,
    /// A mistake to build in.
    pub fault: Option<Fault>,
}

impl LabOptions {
    /// A lab on one SQLite file, without a mistake.
    pub fn new(topology: Topology) -> LabOptions {
        LabOptions { topology, datastore: DatastoreKind::Sqlite, fault: None }
    }

    /// The same on another datastore.
    pub fn datastore(self, datastore: DatastoreKind) -> LabOptions {
        LabOptions { datastore, ..self }
    }

    /// The same with a mistake.
    pub fn fault(self, fault: Option<Fault>) -> LabOptions {
        LabOptions { fault, ..self }
    }
}

/// A cluster that is up. It ends with the process that it lives in ([`isolation`]).
#[derive(Debug)]
pub struct Lab {
    pub options: LabOptions,
    hub: Netns,
    binaries: Binaries,
    routers: BTreeMap<String, Router>,
    nodes: BTreeMap<String, Node>,
    pods: BTreeMap<PodKey, Pod>,
    datastore: Datastore,
    containers: usize,
}

impl Lab {
    /// Brings up fabric, datastore, resources and daemons, in this order. Pods come with [`Lab::add_pod`].
    ///
    /// Call it inside namespaces made by [`isolation`].
    pub fn start(options: LabOptions) -> Result<Lab> {
        let mut lab = Lab::fabric(options)?;
        lab.apply(&manifests::cluster(&lab.options.topology))?;
        lab.start_daemons()?;
        Ok(lab)
    }

    /// Brings up the fabric and the datastore alone: routers run, nodes are namespaces with uplinks and addresses.
    pub fn fabric(options: LabOptions) -> Result<Lab> {
        if !isolation::inside() {
            bail!("a lab runs only inside namespaces of its own; see margay_lab::isolation");
        }
        let hub = Netns::open(isolation::HUB)?;
        let binaries = Binaries::locate()?;
        wiring::build(&options.topology, &hub)?;
        let mut routers = BTreeMap::new();
        for mut router in bird::routers(&options.topology, options.fault)? {
            router.start()?;
            routers.insert(router.name().to_owned(), router);
        }
        let datastore = Datastore::start(options.datastore, &hub, &options.topology)?;
        let environment = BTreeMap::from([("MARGAY_DATASTORE".to_owned(), datastore.url.clone())]);
        places::write(isolation::HUB, isolation::HUB, &environment)?;
        let mut nodes = BTreeMap::new();
        for spec in options.topology.nodes() {
            nodes.insert(spec.name.clone(), Node::new(spec, options.topology.families, &datastore.url, &binaries)?);
        }
        Ok(Lab { options, hub, binaries, routers, nodes, pods: BTreeMap::new(), datastore, containers: 0 })
    }

    /// Starts the daemons of all nodes and waits until each answers.
    pub fn start_daemons(&mut self) -> Result<()> {
        for node in self.nodes.values_mut() {
            if self.options.topology.bfd {
                node.start_bfd()?;
            }
            node.launch_daemon()?;
        }
        self.nodes.values_mut().try_for_each(Node::wait_for_daemon)
    }

    /// Waits until every BGP session of every router is established.
    pub fn wait_for_sessions(&self, limit: Duration) -> Result<()> {
        for router in self.routers.values() {
            until(limit, &format!("all BGP sessions of {} are established", router.name()), || {
                let up = router.established()?;
                if up.len() < router.sessions() {
                    bail!("{} of {} are: {}", up.len(), router.sessions(), up.join(", "));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Applies resources, given as YAML.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        let mut command = self.margayctl_command(&["apply", "-f", "-"])?;
        Ok(self.hub.enter(|| process::run_with_stdin(&mut command, yaml.as_bytes()))?.stdout)
    }

    /// Applies a file.
    pub fn apply_file(&self, path: &Path) -> Result<String> {
        let path = path.to_str().context("the path is not UTF-8")?;
        self.margayctl(&["apply", "-f", path])
    }

    /// Runs `margayctl` outside the nodes: it sees the datastore, no daemon.
    pub fn margayctl(&self, args: &[&str]) -> Result<String> {
        let mut command = self.margayctl_command(args)?;
        Ok(self.hub.enter(|| process::run(&mut command))?.stdout)
    }

    /// Runs `margayctl ... -o json` outside the nodes.
    pub fn margayctl_json(&self, args: &[&str]) -> Result<serde_json::Value> {
        let text = self.margayctl(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("margayctl {} -o json printed:\n{text}", args.join(" ")))
    }

    fn margayctl_command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(self.binaries.path("margayctl")?);
        command.args(args).env("MARGAY_DATASTORE", &self.datastore.url);
        Ok(command)
    }

    /// Wires a new pod on a node.
    pub fn add_pod(&mut self, node: &str, spec: &PodSpec) -> Result<PodKey> {
        let mut added = self.add_pods(&[(node.to_owned(), spec.clone())], 1);
        added.pop().context("one pod was asked for")?
    }

    /// Wires new pods, up to `workers` of them at the same time; the outcomes are in the order of the pods.
    pub fn add_pods(&mut self, pods: &[(String, PodSpec)], workers: usize) -> Vec<Result<PodKey>> {
        let first = self.containers;
        self.containers += pods.len();
        let numbered: Vec<(usize, &(String, PodSpec))> = pods.iter().enumerate().collect();
        let added = parallel(&numbered, workers, |(index, (node, spec))| {
            let container_id = format!("{:08x}", first + index + 1);
            let pod = cni::add(self.node(node)?, &self.options.topology, spec, &container_id)?;
            places::write(&pod.key().name, pod.netns.name(), &BTreeMap::new())?;
            Ok(pod)
        });
        let keep = |pod: Pod| {
            let key = pod.key().clone();
            self.pods.insert(key.clone(), pod);
            key
        };
        added.into_iter().scan(keep, |keep, pod| Some(pod.map(keep))).collect()
    }

    /// Takes a pod away.
    pub fn delete_pod(&mut self, key: &PodKey) -> Result<()> {
        let pod = self.pods.remove(key).with_context(|| format!("there is no pod {key}"))?;
        cni::del(self.node(&pod.node)?, &self.options.topology, &pod)
    }

    /// A pod.
    pub fn pod(&self, key: &PodKey) -> Result<&Pod> {
        self.pods.get(key).with_context(|| format!("there is no pod {key}"))
    }

    /// All pods, by name.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// A node.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.get(name).with_context(|| format!("there is no node {name}"))
    }

    /// A node, to start and stop its daemon.
    pub fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        self.nodes.get_mut(name).with_context(|| format!("there is no node {name}"))
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Turns a node's interface on, with what an operator's network configuration restores then.
    pub fn link_up(&self, node: &str, interface: &str) -> Result<()> {
        self.node(node)?.netns().ip_batch(&wiring::link_up(&self.options.topology, node, interface))
    }

    /// Turns a node's interface off.
    pub fn link_down(&self, node: &str, interface: &str) -> Result<()> {
        self.node(node)?.netns().ip(&format!("link set {interface} down"))?;
        Ok(())
    }

    /// A spine or ToR.
    pub fn router(&self, name: &str) -> Result<&Router> {
        self.routers.get(name).with_context(|| format!("there is no router {name}"))
    }

    /// A spine or ToR, to switch off and on.
    pub fn router_mut(&mut self, name: &str) -> Result<&mut Router> {
        self.routers.get_mut(name).with_context(|| format!("there is no router {name}"))
    }

    /// All spines and ToRs, by name.
    pub fn routers(&self) -> impl Iterator<Item = &Router> {
        self.routers.values()
    }

    /// The families in use.
    pub fn families(&self) -> &'static [Family] {
        self.options.topology.families.each()
    }

    /// The namespace that holds the datastore's server, outside all nodes.
    pub fn hub(&self) -> &Netns {
        &self.hub
    }

    /// The URL of the datastore, as in `MARGAY_DATASTORE`.
    pub fn datastore_url(&self) -> &str {
        &self.datastore.url
    }

    /// Takes the etcd server's process out, to end it; none with SQLite.
    pub fn take_etcd(&mut self) -> Option<Process> {
        self.datastore.etcd.take()
    }

    /// Starts etcd again on its data.
    pub fn restart_etcd(&mut self) -> Result<()> {
        self.datastore.etcd = Some(crate::datastore::start_etcd(&self.hub)?);
        Ok(())
    }

    /// Fails if the daemon of any node has ended.
    pub fn check_daemons(&mut self) -> Result<()> {
        self.nodes.values_mut().try_for_each(Node::check_daemon)
    }

    /// Ends all processes and takes all namespaces but the hub away, so that another lab can be brought up in the same
    /// place.
    pub fn end(self) -> Result<()> {
        drop(self);
        for name in netns::names()?.iter().filter(|name| *name != isolation::HUB) {
            Netns::open(name)?.delete()?;
        }
        std::fs::remove_dir_all(isolation::LAB_DIR).context(isolation::LAB_DIR)?;
        std::fs::create_dir_all(isolation::LAB_DIR).context(isolation::LAB_DIR)
    }

    /// The log files of all daemons and routers, by name.
    pub fn logs(&self) -> BTreeMap<String, PathBuf> {
        let nodes = self.nodes.values().map(|node| (node.name().to_owned(), node.log()));
        nodes.chain(self.routers.values().map(|router| (router.name().to_owned(), router.log()))).collect()
    }
}
