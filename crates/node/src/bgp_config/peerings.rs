//! Which sessions this node has: BGPPeers expanded over nodes, the ways back of other nodes' peerings, the node mesh, and
//! local workloads; in the order in which they count.

use std::net::IpAddr;

use margay_api::Labels;
use margay_api::kinds::{BgpConfigurationSpec, BgpPeer, BgpPeerSpec, Node, ReversePeering};
use margay_api::selector::Selector;
use margay_net::{Asn, Family};

use super::cluster::{addresses, cluster_id, listen_port, node_asn};
use super::{BgpResources, Cause, PlanProblem, SessionKind, SessionSource};

/// A session that is asked for.
pub(super) struct Peering<'a> {
    pub(super) name: String,
    pub(super) object: String,
    pub(super) kind: SessionKind,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) asn: Asn,
    /// What this node calls itself there.
    pub(super) local_asn: Option<Asn>,
    /// The cluster's node with that address.
    pub(super) node: Option<&'a Node>,
    /// Whether Calico lets one of the two sides wait for the other.
    pub(super) one_waits: bool,
    pub(super) reachable_by: Option<IpAddr>,
    /// The host's interface of a local workload.
    pub(super) interface: Option<&'a str>,
    pub(super) spec: &'a BgpPeerSpec,
}

impl Peering<'_> {
    pub(super) fn source(&self) -> SessionSource {
        let node = self.node.map(|node| node.name().to_owned());
        SessionSource { object: self.object.clone(), kind: self.kind, node }
    }
}

/// What the resources ask for.
pub(super) struct Peerings<'a> {
    pub(super) wanted: Vec<Peering<'a>>,
    /// BGPPeers that say nothing that could be followed, each with the reason and what to do.
    pub(super) unreadable: Vec<PlanProblem>,
}

/// All sessions that are asked for; of those with the same address the first counts. Calico's order: BGPPeers of all
/// nodes, those of this node, ways back, and then the mesh.
pub(super) fn all<'a>(
    resources: &BgpResources<'a>,
    config: &'a BgpConfigurationSpec,
    mesh: &'a BgpPeerSpec,
) -> Peerings<'a> {
    let mut expansion = Expansion { resources: *resources, config, peerings: Vec::new(), unreadable: Vec::new() };
    let mut explicit = Vec::new();
    for peer in resources.peers.values() {
        match Selectors::of(peer) {
            Ok(selectors) => explicit.push((peer, selectors)),
            Err(reason) => {
                expansion.unreadable.push(PlanProblem { object: object_of(peer), cause: Cause::Selector, reason });
            }
        }
    }
    for global in [true, false] {
        for (peer, selectors) in explicit.iter().filter(|(peer, _)| peer.spec.is_global() == global) {
            if selectors.has_node(peer, resources.node) {
                expansion.forward(peer, selectors);
            }
        }
    }
    for (peer, selectors) in &explicit {
        if peer.spec.reverse_peering() == ReversePeering::Auto {
            expansion.backward(peer, selectors);
        }
    }
    if config.mesh_enabled() && cluster_id(resources.node).is_none() {
        expansion.mesh(mesh);
    }
    for (peer, selectors) in &explicit {
        if selectors.has_node(peer, resources.node) {
            expansion.workloads(peer, selectors);
        }
    }
    Peerings { wanted: expansion.peerings, unreadable: expansion.unreadable }
}

fn object_of(peer: &BgpPeer) -> String {
    format!("BGPPeer {}", peer.name())
}

/// The selectors of a BGPPeer, parsed.
struct Selectors {
    nodes: Option<Selector>,
    peers: Option<Selector>,
    workloads: Option<Selector>,
}

impl Selectors {
    fn of(peer: &BgpPeer) -> Result<Selectors, String> {
        let parsed = |field: &str, text: &str| -> Result<Option<Selector>, String> {
            if text.is_empty() {
                return Ok(None);
            }
            text.parse().map(Some).map_err(|error| format!("spec.{field}: {error}"))
        };
        Ok(Selectors {
            nodes: parsed("nodeSelector", &peer.spec.node_selector)?,
            peers: parsed("peerSelector", &peer.spec.peer_selector)?,
            workloads: parsed("localWorkloadSelector", &peer.spec.local_workload_selector)?,
        })
    }

    /// Whether the peering is one of a node.
    fn has_node(&self, peer: &BgpPeer, node: &Node) -> bool {
        match &self.nodes {
            Some(selector) => selector.matches_labels(&node.metadata.labels),
            None => peer.spec.node.is_empty() || peer.spec.node == node.name(),
        }
    }
}

struct Expansion<'a> {
    resources: BgpResources<'a>,
    config: &'a BgpConfigurationSpec,
    peerings: Vec<Peering<'a>>,
    unreadable: Vec<PlanProblem>,
}

impl<'a> Expansion<'a> {
    /// The sessions that a BGPPeer of this node asks for.
    fn forward(&mut self, peer: &'a BgpPeer, selectors: &Selectors) {
        let spec = &peer.spec;
        let kind = if spec.is_global() { SessionKind::Global } else { SessionKind::Node };
        if let Some(selector) = &selectors.peers {
            let picked = self.resources.nodes.values().filter(|node| selector.matches_labels(&node.metadata.labels));
            for node in picked {
                self.node_sessions(&Family::ALL, node, peer, kind, (node_asn(node, self.config), spec.local_as_number));
            }
        } else if selectors.workloads.is_none() {
            let (Some((address, port)), Some(asn)) = (spec.peer_address(), spec.as_number) else {
                let reason =
                    "it needs spec.peerIP (an address, or one with a port) and spec.asNumber; repair it".to_owned();
                self.unreadable.push(PlanProblem { object: object_of(peer), cause: Cause::Incomplete, reason });
                return;
            };
            let node = self.resources.nodes.values().find(|node| addresses(node).any(|own| own == address));
            // Calico takes the node's port where the AS number is the node's, too.
            let listens = node.filter(|node| node_asn(node, self.config) == asn);
            let listens = listens.map(|node| listen_port(&self.resources, node.name()));
            self.push(Peering {
                name: peer.name().to_owned(),
                object: object_of(peer),
                kind,
                address,
                port: port.or(listens).unwrap_or(179),
                asn,
                local_asn: spec.local_as_number,
                node,
                one_waits: kind == SessionKind::Global,
                reachable_by: spec.reachable_by.parse().ok(),
                interface: None,
                spec,
            });
        }
    }

    /// The sessions that make a BGPPeer of other nodes symmetric, where this node is what they peer with.
    fn backward(&mut self, peer: &'a BgpPeer, selectors: &Selectors) {
        let (spec, own) = (&peer.spec, self.resources.node);
        let families: Vec<Family> = match (&selectors.peers, spec.peer_address()) {
            (Some(selector), _) if selector.matches_labels(&own.metadata.labels) => Family::ALL.to_vec(),
            (None, Some((address, port))) => {
                let asn = spec.as_number == Some(node_asn(own, self.config));
                let port = port.is_none_or(|port| port == listen_port(&self.resources, own.name()));
                let is_this = asn && port && addresses(own).any(|own| own == address);
                if is_this { vec![Family::of(address)] } else { return }
            }
            _ => return,
        };
        let resources = self.resources;
        for node in resources.nodes.values().filter(|node| selectors.has_node(peer, node)) {
            // What the other side calls itself is what this side must expect.
            let asn = spec.local_as_number.unwrap_or(node_asn(node, self.config));
            self.node_sessions(&families, node, peer, SessionKind::Node, (asn, None));
        }
    }

    fn mesh(&mut self, spec: &'a BgpPeerSpec) {
        let resources = self.resources;
        for node in resources.nodes.values().filter(|node| cluster_id(node).is_none()) {
            let asn = node_asn(node, self.config);
            for family in Family::ALL {
                let name = suffixed(format!("mesh-{}", node.name()), family);
                self.node_session(
                    family,
                    node,
                    name,
                    "BGPConfiguration default".to_owned(),
                    SessionKind::Mesh,
                    (asn, None),
                    spec,
                );
            }
        }
    }

    fn workloads(&mut self, peer: &'a BgpPeer, selectors: &Selectors) {
        let (Some(selector), Some(asn)) = (&selectors.workloads, peer.spec.as_number) else { return };
        for workload in self.resources.workloads {
            let namespace = workload.namespace().unwrap_or_default();
            if !selector.matches(&|key: &str| label(&workload.metadata.labels, namespace, key)) {
                continue;
            }
            for network in &workload.spec.ip_networks {
                let address = network.addr();
                self.push(Peering {
                    name: format!("{}-{address}", peer.name()),
                    object: object_of(peer),
                    kind: SessionKind::LocalWorkload,
                    address,
                    port: 179,
                    asn,
                    local_asn: peer.spec.local_as_number,
                    node: None,
                    one_waits: false,
                    reachable_by: None,
                    interface: Some(&workload.spec.interface_name),
                    spec: &peer.spec,
                });
            }
        }
    }

    fn node_sessions(
        &mut self,
        families: &[Family],
        node: &'a Node,
        peer: &'a BgpPeer,
        kind: SessionKind,
        asns: (Asn, Option<Asn>),
    ) {
        for &family in families {
            let name = suffixed(format!("{}-{}", peer.name(), node.name()), family);
            self.node_session(family, node, name, object_of(peer), kind, asns, &peer.spec);
        }
    }

    /// A session with another node, in a family in which both have an address. `asns`: the peer's, and what this node
    /// calls itself.
    #[allow(clippy::too_many_arguments)]
    fn node_session(
        &mut self,
        family: Family,
        node: &'a Node,
        name: String,
        object: String,
        kind: SessionKind,
        asns: (Asn, Option<Asn>),
        spec: &'a BgpPeerSpec,
    ) {
        let own = self.resources.node.spec.bgp_address(family);
        let (Some(address), Some(_)) = (node.spec.bgp_address(family), own) else { return };
        self.push(Peering {
            name,
            object,
            kind,
            address,
            port: listen_port(&self.resources, node.name()),
            asn: asns.0,
            local_asn: asns.1,
            node: Some(node),
            one_waits: kind == SessionKind::Mesh,
            reachable_by: None,
            interface: None,
            spec,
        });
    }

    /// A node does not peer with itself.
    fn push(&mut self, peering: Peering<'a>) {
        if addresses(self.resources.node).all(|own| own != peering.address) {
            self.peerings.push(peering);
        }
    }
}

fn suffixed(name: String, family: Family) -> String {
    match family {
        Family::V4 => name,
        Family::V6 => format!("{name}-v6"),
    }
}

/// The label of an endpoint; its namespace is one, too.
fn label<'a>(labels: &'a Labels, namespace: &'a str, key: &str) -> Option<&'a str> {
    match labels.get(key) {
        Some(value) => Some(value),
        None => (key == margay_api::selector::NAMESPACE_LABEL).then_some(namespace),
    }
}
