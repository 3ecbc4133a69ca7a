//! Node: its labels, addresses and AS number, and whether it is a route reflector.

use anyhow::{Result, ensure};
use margay_lab::isolation;
use margay_tests::live::{Effect, Live, SESSIONS};

use super::{MESH, ROUTERS, Row, both_have, from_both, nothing};

/// Addresses that node-a2 has beside those that it begins with.
const MORE: [&str; 2] = ["10.100.1.102/32", "fd00:100:1::102/128"];

/// What the mesh's session to node-a2 is with.
fn peers_with(live: &Live, peer: &str, address: &str) -> Result<()> {
    let found = live.neighbor("node-a1", peer)?.peer.address;
    ensure!(found == address, "{peer} is with {found}");
    Ok(())
}

/// Labels and fields of node-a2, in place of those of the row before.
const NODE: &[Row] = &[
    (
        &[
            "rack: a, team: x, node.kubernetes.io/exclude-from-external-load-balancers: \"true\"",
            "ipv4Address: 10.100.1.2/32, ipv6Address: \"fd00:100:1::2/128\"",
            "orchRefs: [{nodeName: two, orchestrator: k8s}], interfaces: [{name: lo, addresses: [10.100.1.2]}]",
        ],
        Effect::NONE,
        |live| ROUTERS.iter().try_for_each(|router| live.no_route(router, "node-a2", "172.30.0.0/24")),
    ),
    (&["rack: a", "ipv4Address: 10.100.1.2/32, ipv6Address: \"fd00:100:1::2/128\""], Effect::NONE, |live| {
        from_both(live, "172.30.0.0/24")
    }),
    (
        &["rack: a", "ipv4Address: 10.100.1.2/32, ipv6Address: \"fd00:100:1::2/128\"", "drain: true"],
        Effect::moves(&["node-a2/* 0.0.0.0/0", "node-a2/* ::/0"]),
        |live| both_have(live, "node-a2", "fd00:100:1::2/128", "community", "(65535,0)"),
    ),
    (&["rack: a", "ipv4Address: 10.100.1.2/32, ipv6Address: \"fd00:100:1::2/128\""], Effect::NONE, |live| {
        both_have(live, "node-a2", "fd00:100:1::2/128", "community", "")
    }),
    (
        &["rack: b", "ipv4Address: 10.100.1.2/32, ipv6Address: \"fd00:100:1::2/128\""],
        Effect { sessions: SESSIONS - 4, ..Effect::resets(&["node-a2/tor-*"]) },
        nothing,
    ),
    (
        &["rack: a", "asNumber: 64520, ipv4Address: 10.100.1.2/32, ipv6Address: \"fd00:100:1::2/128\""],
        Effect::resets(&["node-a2/*", "node-a1/mesh-*"]),
        |live| both_have(live, "node-a2", "10.100.1.2/32", "as_path", "64520"),
    ),
    (
        &["rack: a", "ipv4Address: 10.100.1.2/32, ipv6Address: \"fd00:100:1::2/128\""],
        Effect::resets(&["node-a2/*", "node-a1/mesh-*"]),
        |live| both_have(live, "node-a2", "10.100.1.2/32", "as_path", "64512"),
    ),
    (
        &["rack: a", "ipv4Address: 10.100.1.2/32, ipv6Address: \"fd00:100:1::102/128\""],
        Effect { moves: &["fd00:100:1::2/128", "fd00:100:1::102/128"], ..Effect::resets(&["*/mesh-*-v6"]) },
        |live| {
            peers_with(live, "mesh-node-a2", "10.100.1.2")?;
            peers_with(live, "mesh-node-a2-v6", "fd00:100:1::102")
        },
    ),
    // The address is the BGP identifier as well.
    (
        &["rack: a", "ipv4Address: 10.100.1.102/32, ipv6Address: \"fd00:100:1::102/128\""],
        Effect::resets(&["node-a2/*", "node-a1/mesh-*"]),
        |live| peers_with(live, "mesh-node-a2", "10.100.1.102"),
    ),
    (
        &["rack: a", "ipv4Address: 10.100.1.2/32, ipv6Address: \"fd00:100:1::2/128\""],
        Effect::resets(&["node-a2/*", "node-a1/mesh-*"]),
        |live| peers_with(live, "mesh-node-a2", "10.100.1.2"),
    ),
    // A reflector is not part of the mesh.
    (
        &[
            "rack: a",
            "routeReflectorClusterID: 1.0.0.1, ipv4Address: 10.100.1.2/32, ipv6Address: \"fd00:100:1::2/128\"",
        ],
        Effect { sessions: SESSIONS - 4, ..Effect::resets(MESH) },
        nothing,
    ),
    (&["rack: a", "ipv4Address: 10.100.1.2/32, ipv6Address: \"fd00:100:1::2/128\""], Effect::NONE, nothing),
];

fn node(parts: &[&str]) -> String {
    let [labels, bgp, rest @ ..] = parts else { return String::new() };
    let rest: String = rest.iter().map(|more| format!(", {more}")).collect();
    format!(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: node-a2, labels: {{{labels}}}}}\n\
         spec: {{bgp: {{{bgp}}}{rest}}}\n"
    )
}

#[test]
fn an_edit_of_a_node_touches_its_sessions_and_those_of_others_with_it() {
    isolation::isolated("nodes::an_edit_of_a_node_touches_its_sessions_and_those_of_others_with_it", || {
        let mut live = Live::start()?;
        for more in MORE {
            let nodad = if more.contains(':') { " nodad" } else { "" };
            live.lab.node("node-a2")?.netns().ip(&format!("addr add {more} dev lo{nodad}"))?;
        }
        // The nodes reach each other without BGP as well, as in a cluster that has another network under it.
        for node in live.lab.nodes() {
            node.netns().ip("route add 10.100.0.0/16 via 10.101.1.1 dev uplink1 metric 9000")?;
            node.netns().ip("-6 route add fd00:100::/32 via fd00:101:1::1 dev uplink1 metric 9000")?;
        }
        for router in live.lab.routers() {
            router.netns().ip("route add 10.100.1.102/32 via 10.100.1.2 dev node2 metric 9000")?;
            router.netns().ip("-6 route add fd00:100:1::102/128 via fd00:100:1::2 dev node2 metric 9000")?;
        }
        for parts in NODE {
            let (parts, effect, shows) = parts;
            live.edit(&parts.join(", "), &node(parts), effect, shows)?;
        }
        Ok(())
    });
}
