//! Clusters whose nodes share one Ethernet and one AS, without routers: the node mesh, and a route reflector.

use std::net::Ipv4Addr;

use anyhow::Result;
use margay_lab::{Lab, LabOptions, Topology, manifests};
use margay_net::Family;

/// The AS number of every node.
pub const ASN: u32 = 64512;

/// Node N's address.
pub fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 50, 0, number)
}

/// Nodes `node-a1`, `node-a2`, ..., each the peer of every other.
pub fn mesh(nodes: u8) -> Result<Lab> {
    start(nodes, false)
}

/// The same nodes without a mesh: `node-a1` is a route reflector, the others are its clients.
pub fn reflected(nodes: u8) -> Result<Lab> {
    start(nodes, true)
}

fn start(nodes: u8, reflected: bool) -> Result<Lab> {
    let topology = Topology { racks: 1, tors_per_rack: 0, nodes_per_rack: nodes, spines: 0, ..Topology::default() };
    let mut lab = Lab::fabric(LabOptions::new(topology))?;
    let mut lines = vec!["link add lan type bridge".to_owned(), "link set lan up".to_owned()];
    for node in lab.nodes() {
        let (name, number) = (node.name(), node.spec().index);
        lines.push(format!("link add name lan{number} type veth peer name lan0 netns {name}"));
        lines.push(format!("link set lan{number} master lan up"));
    }
    lab.hub().ip_batch(&lines)?;
    for node in lab.nodes() {
        let (spec, netns) = (node.spec(), node.netns());
        // The address of a node of racks, for which there is no use here.
        netns.ip(&format!("addr del {}/32 dev lo", spec.address(Family::V4)))?;
        netns.ip(&format!("addr add {}/24 dev lan0", address(spec.index)))?;
        netns.ip("link set lan0 up")?;
    }
    lab.apply(&resources(nodes, reflected))?;
    lab.start_daemons()?;
    Ok(lab)
}

/// The cluster's BGPConfiguration, with a further setting.
pub fn bgp_configuration(mesh: bool, setting: &str) -> String {
    let spec = format!("spec:\n  asNumber: {ASN}\n  nodeToNodeMeshEnabled: {mesh}\n  {setting}\n");
    head("BGPConfiguration", "default") + &spec
}

fn resources(nodes: u8, reflected: bool) -> String {
    let mut parts = vec![manifests::ip_pool(Family::V4), manifests::namespace(), bgp_configuration(!reflected, "")];
    if reflected {
        let selectors = "spec: {nodeSelector: \"!has(reflector)\", peerSelector: has(reflector)}\n";
        parts.push(head("BGPPeer", "reflectors") + selectors);
    }
    for number in 1..=nodes {
        let address = address(number);
        let (label, cluster) = match reflected && number == 1 {
            true => ("  labels: {reflector: \"yes\"}\n", ", routeReflectorClusterID: 10.50.0.255"),
            false => ("", ""),
        };
        let node = head("Node", &format!("node-a{number}"));
        parts.push(format!("{node}{label}spec:\n  bgp: {{ipv4Address: {address}/24{cluster}}}\n"));
    }
    parts.join("---\n")
}

fn head(kind: &str, name: &str) -> String {
    format!("apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata:\n  name: {name}\n")
}
