//! What the routing tables say, on nodes and on ToRs, in the kernel and in the speakers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use margay_net::{Cidr, Family};
use serde_json::Value;

use crate::{Lab, Netns, Pod, Topology};

/// A route of the kernel's main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRoute {
    pub prefix: Cidr,
    /// The name or number that `ip` prints.
    pub protocol: String,
    /// Gateway and interface of each next hop; none for a blackhole.
    pub next_hops: BTreeSet<(String, String)>,
}

impl KernelRoute {
    fn shown(&self) -> String {
        let hops: Vec<String> = self.next_hops.iter().map(|(gateway, dev)| format!("via {gateway} {dev}")).collect();
        format!("{} proto {} {}", self.prefix, self.protocol, hops.join(" "))
    }
}

/// The unicast routes of a namespace's main table.
pub fn kernel_routes(netns: &Netns, family: Family) -> Result<Vec<KernelRoute>> {
    let flag = match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    };
    let text = netns.ip(&format!("{flag} -j route show"))?;
    let routes: Value = serde_json::from_str(&text).context("the output of ip -j route")?;
    routes.as_array().context("the output of ip -j route is no list")?.iter().map(|r| parse(r, family)).collect()
}

fn parse(route: &Value, family: Family) -> Result<KernelRoute> {
    let word = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let prefix = match route["dst"].as_str().context("a route without dst")? {
        "default" => Cidr::any(family),
        text if text.contains('/') => text.parse()?,
        text => Cidr::host(text.parse::<IpAddr>()?),
    };
    let single = [route.clone()];
    let hops = route["nexthops"].as_array().map_or(&single[..], Vec::as_slice);
    let mut next_hops = BTreeSet::new();
    for hop in hops {
        let gateway = hop["gateway"].as_str().or_else(|| hop["via"]["host"].as_str()).unwrap_or_default();
        if hop["dev"].is_string() && route["type"] != "blackhole" {
            next_hops.insert((gateway.to_owned(), word(hop, "dev")));
        }
    }
    Ok(KernelRoute { prefix, protocol: word(route, "protocol"), next_hops })
}

/// On every node each pod of another rack is behind a block's route with a next hop for each ToR, and that route bears
/// a protocol number that no other routing daemon uses. Shows one node's routes.
pub fn nodes_use_both_tors(lab: &Lab, family: Family) -> Result<String> {
    let mut shown = String::new();
    for node in lab.nodes() {
        let routes = kernel_routes(node.netns(), family)?;
        let mut used = BTreeSet::new();
        for pod in lab.pods() {
            if lab.node(&pod.node)?.spec().rack == node.spec().rack {
                continue;
            }
            let route = covering(&routes, pod, family).with_context(|| format!("on {}", node.name()))?;
            let tors = usize::from(lab.options.topology.tors_per_rack);
            if route.next_hops.len() != tors {
                bail!("{}: {} has not {tors} next hops", node.name(), route.shown());
            }
            if route.protocol.parse::<u8>().is_err() {
                bail!("{}: {} is not of a protocol of its own", node.name(), route.shown());
            }
            if route.prefix.is_host() {
                bail!("{}: {} is a pod's route, not a block's", node.name(), route.shown());
            }
            used.insert(route.shown());
        }
        if shown.is_empty() {
            shown = format!("on {}:\n{}", node.name(), used.into_iter().collect::<Vec<_>>().join("\n"));
        }
    }
    Ok(shown)
}

/// On every ToR each pod of its rack is behind one next hop, the pod's node, and each pod of another rack behind a next
/// hop for each spine. Shows one ToR's routes.
pub fn tors_use_all_spines(lab: &Lab, family: Family) -> Result<String> {
    let topology = &lab.options.topology;
    let mut shown = String::new();
    for tor in topology.tors() {
        let routes = kernel_routes(lab.router(&tor.name)?.netns(), family)?;
        let mut used = BTreeSet::new();
        for pod in lab.pods() {
            let route = covering(&routes, pod, family).with_context(|| format!("on {}", tor.name))?;
            let own = lab.node(&pod.node)?.spec().rack == tor.rack;
            let wanted = if own { 1 } else { usize::from(topology.spines) };
            if route.next_hops.len() != wanted {
                bail!("{}: {} has not {wanted} next hops", tor.name, route.shown());
            }
            used.insert(route.shown());
        }
        if shown.is_empty() {
            shown = format!("on {}:\n{}", tor.name, used.into_iter().collect::<Vec<_>>().join("\n"));
        }
    }
    Ok(shown)
}

fn covering<'a>(routes: &'a [KernelRoute], pod: &Pod, family: Family) -> Result<&'a KernelRoute> {
    let address = pod.address(family)?;
    routes
        .iter()
        .filter(|route| route.prefix.contains(address))
        .max_by_key(|route| route.prefix.len())
        .with_context(|| format!("no route to {} ({address})", pod.key()))
}

/// No router has learned a path through a node: a node is never the way to somewhere else.
pub fn no_node_gives_transit(lab: &Lab) -> Result<String> {
    let nodes: BTreeSet<String> = lab.options.topology.nodes().iter().map(|node| node.asn.to_string()).collect();
    let mut paths = 0;
    for router in lab.routers() {
        for line in router.birdc("show route all")?.lines() {
            let Some(path) = line.trim().strip_prefix("BGP.as_path:") else { continue };
            paths += 1;
            let asns: Vec<&str> = path.split_whitespace().collect();
            if let Some(node) = asns.iter().rev().skip(1).find(|asn| nodes.contains(**asn)) {
                bail!("{} has a path through node AS {node}: {}", router.name(), path.trim());
            }
        }
    }
    Ok(format!("{paths} paths on spines and ToRs, none through a node"))
}

/// No node has a default route: the fabric announces none, and none is needed.
pub fn no_default_route(lab: &Lab) -> Result<()> {
    for node in lab.nodes() {
        for &family in lab.families() {
            if let Some(route) = kernel_routes(node.netns(), family)?.iter().find(|route| route.prefix.len() == 0) {
                bail!("{} has a default route: {}", node.name(), route.shown());
            }
        }
    }
    Ok(())
}

/// Every node has a session with each ToR of its rack in each family, and all are established.
pub fn all_sessions_established(lab: &Lab) -> Result<String> {
    let wanted = usize::from(lab.options.topology.tors_per_rack) * lab.families().len();
    for node in lab.nodes() {
        let (up, all) = node.sessions()?;
        if (up, all) != (wanted, wanted) {
            bail!("{}: {up} of {all} sessions established, {wanted} wanted", node.name());
        }
    }
    let node = lab.nodes().next().context("a lab without nodes")?;
    Ok(format!("on {}:\n{}", node.name(), node.margayctl(&["bgp", "peers"])?.trim_end()))
}

/// `margayctl ipam show` has as many addresses allocated in each family's pool as there are pods.
pub fn ipam_shows_the_pods(lab: &Lab) -> Result<String> {
    let answer = lab.margayctl_json(&["ipam", "show"])?;
    let pools = answer["pools"].as_array().context("no list `pools`")?;
    for &family in lab.families() {
        let cidr = Topology::pool(family).to_string();
        let pool = pools.iter().find(|pool| pool["cidr"] == cidr.as_str());
        let pool = pool.with_context(|| format!("the pool {cidr} is not in {answer}"))?;
        let pods = lab.pods().count();
        if pool["used"].as_u64() != Some(u64::try_from(pods)?) {
            bail!("{} addresses of {cidr} are used, by {pods} pods", pool["used"]);
        }
    }
    Ok(lab.margayctl(&["ipam", "show"])?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_of_ip_is_read_with_all_its_next_hops() {
        let route = json!({ "dst": "10.65.0.64/26", "protocol": "98", "nhid": 7, "nexthops": [
            { "gateway": "10.101.1.1", "dev": "uplink1", "weight": 1, "flags": [] },
            { "via": { "family": "inet6", "host": "fe80::1" }, "dev": "uplink2", "weight": 1, "flags": [] },
        ]});
        let route = parse(&route, Family::V4).unwrap();
        assert_eq!(route.shown(), "10.65.0.64/26 proto 98 via 10.101.1.1 uplink1 via fe80::1 uplink2");
    }

    #[test]
    fn a_host_a_default_and_a_blackhole_are_read() {
        let host = parse(&json!({ "dst": "10.65.0.1", "dev": "cali1", "protocol": "97" }), Family::V4).unwrap();
        assert!(host.prefix.is_host());
        assert_eq!(host.next_hops.len(), 1);
        let default = parse(&json!({ "dst": "default", "gateway": "10.0.0.1", "dev": "x" }), Family::V4).unwrap();
        assert_eq!(default.prefix.len(), 0);
        let hole = parse(&json!({ "type": "blackhole", "dst": "10.65.0.0/26", "dev": "lo" }), Family::V4).unwrap();
        assert!(hole.next_hops.is_empty());
    }
}
