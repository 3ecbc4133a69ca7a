//! The resources of a topology as YAML: what an operator of such a cluster writes. `config/examples/` holds those of the
//! default topology, made by `margay-lab manifests config/examples`.

use std::fmt::Write as _;

use margay_net::Family;

use crate::{Families, NodeSpec, Topology};

/// The namespace of the demo's pods.
pub const NAMESPACE: &str = "shop";

/// The port that `frontend` pods reach `backend` pods on.
pub const BACKEND_PORT: u16 = 5432;

/// Everything that a cluster needs before its first pod, for the topology's families.
pub fn cluster(topology: &Topology) -> String {
    let mut parts: Vec<String> = topology.families.each().iter().map(|&family| ip_pool(family)).collect();
    parts.push(bgp_configuration());
    for rack in 1..=topology.racks {
        parts.extend(topology.families.each().iter().map(|&family| bgp_peers(topology, rack, family)));
    }
    parts.push(nodes(&topology.nodes(), topology.families));
    parts.push(namespace());
    parts.join("---\n")
}

/// The files of `config/examples/`, by name.
pub fn examples() -> Vec<(String, String)> {
    let topology = Topology::default();
    let mut files = vec![
        ("bgpconfiguration.yaml".to_owned(), bgp_configuration()),
        ("ippool.yaml".to_owned(), ip_pool(Family::V4)),
        ("ippool-ipv6.yaml".to_owned(), ip_pool(Family::V6)),
        ("nodes.yaml".to_owned(), nodes(&topology.nodes(), Families::V4)),
        ("nodes-dual-stack.yaml".to_owned(), nodes(&topology.nodes(), Families::Dual)),
        ("namespace.yaml".to_owned(), namespace()),
        ("policy-default-deny.yaml".to_owned(), default_deny()),
        ("policy-frontend-to-backend.yaml".to_owned(), frontend_to_backend()),
    ];
    for rack in 1..=topology.racks {
        let letter = topology.tors_of(rack)[0].rack_name();
        files.push((format!("bgppeers-rack-{letter}.yaml"), bgp_peers(&topology, rack, Family::V4)));
        files.push((format!("bgppeers-rack-{letter}-ipv6.yaml"), bgp_peers(&topology, rack, Family::V6)));
    }
    files.sort();
    files
}

/// The files of `config/examples/` that bring up the default topology in IPv4, in the order in which one applies them.
pub const DEFAULT_FILES: [&str; 6] = [
    "ippool.yaml",
    "bgpconfiguration.yaml",
    "bgppeers-rack-a.yaml",
    "bgppeers-rack-b.yaml",
    "nodes.yaml",
    "namespace.yaml",
];

/// The pool of a family: blocks of 64 addresses, plain routing.
pub fn ip_pool(family: Family) -> String {
    let cidr = Topology::pool(family);
    let size = match family {
        Family::V4 => 26,
        Family::V6 => 122,
    };
    format!(
        "\
# The addresses of all pods. Each node claims blocks of 64 and announces them as one route.
apiVersion: projectcalico.org/v3
kind: IPPool
metadata:
  name: pods-{family}
spec:
  cidr: {cidr}
  blockSize: {size}
  ipipMode: Never
  vxlanMode: Never
  natOutgoing: false
  nodeSelector: all()
"
    )
}

/// No mesh between nodes: they peer with their ToRs alone.
pub fn bgp_configuration() -> String {
    "\
# Nodes peer with the ToR routers of their rack, not with each other.
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata:
  name: default
spec:
  nodeToNodeMeshEnabled: false
  # For nodes whose Node resource names no AS number of their own.
  asNumber: 64512
"
    .to_owned()
}

/// The ToRs of a rack, peers of every node with the rack's label.
pub fn bgp_peers(topology: &Topology, rack: u8, family: Family) -> String {
    let mut text = String::new();
    for tor in topology.tors_of(rack) {
        let separator = if text.is_empty() { "" } else { "---\n" };
        let (letter, index, address, asn) = (tor.rack_name(), tor.index, tor.address(family), tor.asn);
        let _ = write!(
            text,
            "{separator}\
# ToR {index} of rack {letter}. It has the same address on each of its links to nodes.
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata:
  name: {name}-{family}
spec:
  nodeSelector: rack == '{letter}'
  peerIP: \"{address}\"
  asNumber: {asn}
  # The address of the uplink, not necessarily the node's.
  sourceAddress: None
",
            name = tor.name,
        );
        if topology.bfd {
            text.push_str("  bfd:\n    minTx: 100ms\n    minRx: 100ms\n    multiplier: 3\n");
        }
    }
    text
}

/// The nodes: rack, AS number and own addresses.
pub fn nodes(nodes: &[NodeSpec], families: Families) -> String {
    let mut text = String::new();
    for node in nodes {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        let (name, letter, asn) = (&node.name, node.rack_name(), node.asn);
        let _ = write!(
            text,
            "\
apiVersion: projectcalico.org/v3
kind: Node
metadata:
  name: {name}
  labels:
    rack: {letter}
spec:
  bgp:
    asNumber: {asn}
"
        );
        for &family in families.each() {
            let (key, address, bits) = (field(family), node.address(family), family.bits());
            let _ = writeln!(text, "    {key}: {address}/{bits}");
        }
    }
    text
}

fn field(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4Address",
        Family::V6 => "ipv6Address",
    }
}

/// The namespace that the demo's pods are in.
pub fn namespace() -> String {
    format!(
        "\
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    team: {NAMESPACE}
"
    )
}

/// Nothing may reach a pod of the namespace.
pub fn default_deny() -> String {
    format!(
        "\
# Nothing reaches a pod of this namespace unless another policy allows it.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: default-deny
  namespace: {NAMESPACE}
spec:
  podSelector: {{}}
  policyTypes: [Ingress]
"
    )
}

/// `frontend` may reach `backend` on one TCP port.
pub fn frontend_to_backend() -> String {
    format!(
        "\
# The pods labelled app=frontend may open TCP connections to port {BACKEND_PORT} of those labelled app=backend.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: frontend-to-backend
  namespace: {NAMESPACE}
spec:
  podSelector:
    matchLabels:
      app: backend
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector:
            matchLabels:
              app: frontend
      ports:
        - protocol: TCP
          port: {BACKEND_PORT}
"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    #[test]
    fn the_examples_folder_holds_what_the_generator_makes() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/examples");
        for (name, text) in examples() {
            let found = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
            assert_eq!(
                found, text,
                "config/examples/{name} differs; make it again: cargo run -p margay-lab -- manifests config/examples"
            );
        }
    }

    #[test]
    fn the_files_of_the_default_topology_are_its_resources() {
        let examples = examples();
        let text = |name: &&str| examples.iter().find(|(n, _)| n == name).unwrap().1.clone();
        let parts: Vec<String> = DEFAULT_FILES.iter().map(text).collect();
        assert_eq!(parts.join("---\n"), cluster(&Topology::default()));
    }
}
