//! What the end-to-end tests share: small clusters, and the plugin called as runtimes call it.

pub mod bgp;
pub mod datagrams;
pub mod evil;
pub mod lan;
pub mod live;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use margay_lab::cni::{self, CniCommand};
use margay_lab::{DatastoreKind, Families, Lab, LabOptions, Netns, Node, PodKey, Topology};
use serde_json::Value;

/// One node behind one ToR: enough for whatever concerns a node alone.
pub fn one_node(families: Families, datastore: DatastoreKind) -> LabOptions {
    let topology = Topology { racks: 1, tors_per_rack: 1, nodes_per_rack: 1, spines: 0, families, bfd: false };
    LabOptions::new(topology).datastore(datastore)
}

/// The only node of [`one_node`].
pub const NODE: &str = "node-a1";

/// A container as a runtime has it: its id, its namespace and the pod that it is.
#[derive(Debug, Clone)]
pub struct Container {
    pub id: String,
    pub netns: Netns,
    pub pod: PodKey,
    pub config: Value,
}

impl Container {
    /// Makes the container's namespace and the configuration that the runtime would give.
    pub fn create(lab: &Lab, id: &str, namespace: &str, name: &str) -> Result<Container> {
        let node = lab.node(NODE)?;
        let config = cni::network_config(node, &lab.options.topology, &BTreeMap::new());
        let pod = PodKey { namespace: namespace.to_owned(), name: name.to_owned() };
        Ok(Container { id: id.to_owned(), netns: Netns::create(&format!("cni-{id}"))?, pod, config })
    }

    /// Calls the plugin; the exit code and what it printed, as JSON where there is any.
    pub fn call(&self, node: &Node, command: CniCommand, config: &Value) -> Result<(i32, Value)> {
        let path = self.netns.path().display().to_string();
        self.call_in(node, command, &path, config)
    }

    /// The same with another `CNI_NETNS`, as in a second DEL, which has none.
    pub fn call_in(&self, node: &Node, command: CniCommand, netns: &str, config: &Value) -> Result<(i32, Value)> {
        let output = cni::call(node, command, &self.id, netns, &self.pod, config)?;
        let printed = match output.stdout.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).with_context(|| format!("{command} printed {text}"))?,
        };
        Ok((output.code, printed))
    }

    /// ADD that must succeed; its result.
    pub fn add(&self, node: &Node) -> Result<Value> {
        match self.call(node, CniCommand::Add, &self.config)? {
            (0, result) => Ok(result),
            (code, error) => bail!("ADD of {} exited with {code}: {error}", self.pod),
        }
    }

    /// DEL that must succeed, as the runtime calls it first: with the namespace and the result of ADD.
    pub fn del(&self, node: &Node, result: &Value) -> Result<()> {
        let mut config = self.config.clone();
        config["prevResult"] = result.clone();
        match self.call(node, CniCommand::Del, &config)? {
            (0, _) => Ok(()),
            (code, error) => bail!("DEL of {} exited with {code}: {error}", self.pod),
        }
    }
}

/// The address in a result of ADD, without its length.
pub fn address_of(result: &Value) -> Result<std::net::IpAddr> {
    let text = result["ips"][0]["address"].as_str().with_context(|| format!("no address in {result}"))?;
    Ok(text.split('/').next().unwrap_or(text).parse()?)
}

/// What `margayctl ipam check -o json` says, whether it passes or not.
pub fn ipam_check(lab: &Lab) -> Result<Value> {
    let mut command = std::process::Command::new(margay_lab::Binaries::locate()?.path("margayctl")?);
    command.args(["ipam", "check", "-o", "json"]).env("MARGAY_DATASTORE", lab.datastore_url());
    let output = lab.hub().enter(|| margay_lab::process::run_any(&mut command, &[]))?;
    serde_json::from_str(&output.stdout).with_context(|| format!("ipam check: {} {}", output.stdout, output.stderr))
}
