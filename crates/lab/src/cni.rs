//! Pods, wired as a container runtime does it: a network namespace, then the real `margay-cni` with its environment and
//! the network configuration on stdin.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use margay_net::Family;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use crate::{Netns, Node, Topology, process};

/// A pod's name within the cluster, shown as `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    pub key: PodKey,
    pub labels: BTreeMap<String, String>,
}

impl PodSpec {
    /// A pod without labels.
    pub fn new(namespace: &str, name: &str) -> PodSpec {
        PodSpec { key: PodKey { namespace: namespace.to_owned(), name: name.to_owned() }, labels: BTreeMap::new() }
    }

    /// The pod with one label more.
    pub fn label(mut self, key: &str, value: &str) -> PodSpec {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// A pod that has its network.
#[derive(Debug, Clone)]
pub struct Pod {
    pub spec: PodSpec,
    /// The node's name.
    pub node: String,
    pub container_id: String,
    pub netns: Netns,
    /// From the CNI result, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The whole CNI result.
    pub result: Value,
}

impl Pod {
    /// `namespace/name`.
    pub fn key(&self) -> &PodKey {
        &self.spec.key
    }

    /// Its address of a family.
    pub fn address(&self, family: Family) -> Result<IpAddr> {
        let found = self.addresses.iter().copied().find(|addr| Family::of(*addr) == family);
        found.ok_or_else(|| anyhow!("pod {} has no {family} address", self.spec.key))
    }
}

/// The command of a CNI call (`CNI_COMMAND`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CniCommand {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl fmt::Display for CniCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CniCommand::Add => "ADD",
            CniCommand::Del => "DEL",
            CniCommand::Check => "CHECK",
            CniCommand::Gc => "GC",
            CniCommand::Status => "STATUS",
            CniCommand::Version => "VERSION",
        })
    }
}

/// The network configuration of a node, as a runtime makes it from a conflist.
pub fn network_config(node: &Node, topology: &Topology, labels: &BTreeMap<String, String>) -> Value {
    let labels: Vec<Value> = labels.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    json!({
        "cniVersion": "1.1.0",
        "name": "margay",
        "type": "margay-cni",
        "socket": node.socket(),
        "ipam": {
            "assign_ipv4": topology.families.has(Family::V4),
            "assign_ipv6": topology.families.has(Family::V6),
        },
        "args": { "cni": { "labels": labels } },
    })
}

/// Calls the plugin once, on the node. `netns` may be empty, as in a second DEL.
pub fn call(
    node: &Node,
    command: CniCommand,
    container_id: &str,
    netns: &str,
    pod: &PodKey,
    config: &Value,
) -> Result<process::Output> {
    let mut plugin = Command::new(node.binaries().path("margay-cni")?);
    plugin
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("CNI_COMMAND", command.to_string())
        .env("CNI_CONTAINERID", container_id)
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", node.binaries().dir())
        .env("CNI_ARGS", arguments(container_id, pod));
    let config = config.to_string();
    node.netns().enter(|| process::run_any(&mut plugin, config.as_bytes()))
}

/// `CNI_ARGS` as containerd gives it: the same pairs in another order each time.
fn arguments(container_id: &str, pod: &PodKey) -> String {
    let mut pairs = [
        "IgnoreUnknown=1".to_owned(),
        format!("K8S_POD_INFRA_CONTAINER_ID={container_id}"),
        format!("K8S_POD_NAMESPACE={}", pod.namespace),
        format!("K8S_POD_NAME={}", pod.name),
        "RUNTIMES_OWN=x".to_owned(),
    ];
    pairs.shuffle(&mut SmallRng::from_os_rng());
    pairs.join(";")
}

/// ADD: makes the pod's namespace and has the plugin wire it.
pub fn add(node: &Node, topology: &Topology, spec: &PodSpec, container_id: &str) -> Result<Pod> {
    let netns = create_netns(container_id)?;
    let added = wire(node, topology, spec, container_id, &netns);
    if added.is_err() {
        let _ = netns.delete();
    }
    added
}

/// Makes the namespace of a pod, as a runtime does before ADD.
pub fn create_netns(container_id: &str) -> Result<Netns> {
    Netns::create(&format!("cni-{container_id}"))
}

/// ADD for a namespace that is there.
pub fn wire(node: &Node, topology: &Topology, spec: &PodSpec, container_id: &str, netns: &Netns) -> Result<Pod> {
    let config = network_config(node, topology, &spec.labels);
    let path = netns.path().display().to_string();
    let output = call(node, CniCommand::Add, container_id, &path, &spec.key, &config)?;
    if output.code != 0 {
        bail!(
            "margay-cni ADD of {} on {} exited with {}: {} {}",
            spec.key,
            node.name(),
            output.code,
            output.stdout.trim(),
            output.stderr.trim()
        );
    }
    let result: Value = serde_json::from_str(&output.stdout)
        .with_context(|| format!("the result of ADD of {} is not JSON: {}", spec.key, output.stdout))?;
    let addresses = addresses(&result).with_context(|| format!("the result of ADD of {}: {result}", spec.key))?;
    for &family in topology.families.each() {
        if !addresses.iter().any(|addr| Family::of(*addr) == family) {
            bail!("the result of ADD of {} has no {family} address: {result}", spec.key);
        }
    }
    Ok(Pod {
        spec: spec.clone(),
        node: node.name().to_owned(),
        container_id: container_id.to_owned(),
        netns: netns.clone(),
        addresses,
        result,
    })
}

/// DEL for a pod that ends; then the namespace goes.
pub fn del(node: &Node, topology: &Topology, pod: &Pod) -> Result<()> {
    unwire(node, topology, pod)?;
    pod.netns.delete()
}

/// DEL as a runtime calls it, with the result of ADD.
pub fn unwire(node: &Node, topology: &Topology, pod: &Pod) -> Result<()> {
    let mut config = network_config(node, topology, &pod.spec.labels);
    config["prevResult"] = pod.result.clone();
    let path = pod.netns.path().display().to_string();
    let output = call(node, CniCommand::Del, &pod.container_id, &path, pod.key(), &config)?;
    if output.code != 0 {
        bail!("margay-cni DEL of {} exited with {}: {}", pod.key(), output.code, output.stdout.trim());
    }
    Ok(())
}

fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    let ips = result["ips"].as_array().context("no list `ips`")?;
    let mut addresses = Vec::new();
    for ip in ips {
        let text = ip["address"].as_str().context("an entry of `ips` without `address`")?;
        let host = text.split('/').next().unwrap_or(text);
        addresses.push(host.parse().with_context(|| format!("'{text}' is no address"))?);
    }
    addresses.sort();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_come_from_the_result_ipv4_first() {
        let result = json!({ "ips": [{ "address": "fd65::1/128" }, { "address": "10.65.0.1/32" }] });
        let found: Vec<String> = addresses(&result).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.65.0.1", "fd65::1"]);
        assert!(addresses(&json!({})).is_err());
    }
}
