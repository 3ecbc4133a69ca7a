//! BGPConfiguration: the cluster's object and that of a node.

use anyhow::{Result, bail, ensure};
use margay_lab::isolation;
use margay_tests::live::{Effect, Live, SESSIONS};

use super::{MESH, ROUTERS, Row, both_have, from_both, goes_by, listens, nothing, object, warned};

/// The LOCAL_PREF of what the nodes tell each other of themselves, as priority.
fn priority(live: &Live, peer: &str, prefix: &str, priority: u32) -> Result<()> {
    let path = live.from_peer("node-a1", peer, prefix)?;
    ensure!(path.local_pref == Some(2_147_483_647 - priority), "{path:?}");
    Ok(())
}

fn hold_time(live: &Live, peer: &str, seconds: u64) -> Result<()> {
    let found = live.neighbor("node-a1", peer)?.hold_time_seconds;
    ensure!(found == Some(seconds), "{peer}: the hold time is {found:?}");
    Ok(())
}

/// Gives node-a1 something to log of level DEBUG, and looks for it.
fn logs_of_level_debug(live: &Live) -> Result<()> {
    let node = live.lab.node("node-a1")?;
    node.netns().ip("link add chatty up type veth peer name chatty-peer")?;
    node.netns().ip("link del chatty")?;
    let log = std::fs::read_to_string(node.log())?;
    if log.contains("DEBUG") { Ok(()) } else { bail!("nothing of level DEBUG in the log") }
}

/// Every field of BGPConfiguration, in place of what the one before set.
const CONFIGURATION: &[Row] = &[
    (&["logSeverityScreen: Debug"], Effect::NONE, logs_of_level_debug),
    (&["bindMode: NodeIP"], Effect::NONE, |live| {
        listens(live, "node-a1", "10.100.1.1:179")?;
        listens(live, "node-a2", "[fd00:100:1::2]:179")
    }),
    (&["serviceClusterIPs: [{cidr: 10.96.0.0/12}, {cidr: \"fd96::/108\"}]"], SERVICES, |live| {
        from_both(live, "10.96.0.0/12")?;
        from_both(live, "fd96::/108")
    }),
    (&["serviceLoadBalancerIPs: [{cidr: 198.51.100.0/24}]"], SERVICES, |live| from_both(live, "198.51.100.0/24")),
    (
        &["serviceLoadBalancerAggregation: Disabled", "serviceLoadBalancerIPs: [{cidr: 198.51.100.0/24}]"],
        SERVICES,
        |live| ROUTERS.iter().try_for_each(|router| live.no_route(router, "node-a1", "198.51.100.0/24")),
    ),
    (
        &[
            "communities: [{name: hosts, value: \"65001:100\"}, {name: large, value: \"65001:1:2\"}]",
            "prefixAdvertisements: [{cidr: 10.100.0.0/16, communities: [hosts, large, \"65001:7\"]}]",
        ],
        Effect::moves(&["10.100.0.0/16"]),
        |live| {
            for node in [("node-a1", "10.100.1.1/32"), ("node-a2", "10.100.1.2/32")] {
                both_have(live, node.0, node.1, "community", "(65001,7) (65001,100)")?;
                both_have(live, node.0, node.1, "large_community", "(65001, 1, 2)")?;
            }
            Ok(())
        },
    ),
    (&["ignoredInterfaces: [\"uplink*\"]"], Effect::NONE, nothing),
    (&["localWorkloadPeeringIPV4: 169.254.1.1", "localWorkloadPeeringIPV6: \"fd00::1\""], Effect::NONE, nothing),
    (&["ipv4NormalRoutePriority: 2000"], Effect::NONE, |live| {
        priority(live, "mesh-node-a2", "10.100.1.2/32", 2000)?;
        priority(live, "mesh-node-a2-v6", "fd00:100:1::2/128", 1024)
    }),
    (&["ipv6NormalRoutePriority: 3000"], Effect::NONE, |live| {
        priority(live, "mesh-node-a2", "10.100.1.2/32", 1024)?;
        priority(live, "mesh-node-a2-v6", "fd00:100:1::2/128", 3000)
    }),
    (&["programClusterRoutes: Disabled"], Effect::NONE, nothing),
    (&["maximumPaths: {ebgp: 1, ibgp: 1}"], Effect::NONE, |live| live.has_next_hops("node-a1", "198.18.0.0/24", 1)),
    (&["bestPath: {defaultLocalPref: 200, compareRouterID: false}"], Effect::NONE, |live| {
        live.has_next_hops("node-a1", "198.18.0.0/24", 2)?;
        live.has_next_hops("node-a1", "198.18.2.0/24", 2)
    }),
    (&["bestPath: {alwaysCompareMED: true}"], Effect::NONE, |live| goes_by(live, "198.18.2.0/24", &["10.101.1.2"])),
    (&["bestPath: {alwaysCompareMED: true, missingMEDAsWorst: true}"], Effect::NONE, |live| {
        goes_by(live, "198.18.3.0/24", &["10.101.1.1"])
    }),
    (&["bestPath: {ignoreASPathLength: true}"], Effect::NONE, |live| {
        goes_by(live, "198.18.4.0/24", &["10.101.1.1", "10.101.1.2"])
    }),
    (&["ownershipGuard: Disabled"], Effect::NONE, |live| live.has_next_hops("node-a1", "10.65.77.0/26", 2)),
    (&["drainTime: 5s"], Effect::NONE, |live| {
        // What the one before did is undone.
        let path = live.from_peer("node-a1", "tor-a1-ipv4", "10.65.77.0/26")?;
        ensure!(path.rejected, "{path:?}");
        Ok(())
    }),
    (&["nodeMesh: {connectRetry: 5s}"], Effect::NONE, nothing),
    (&["nodeMesh: {connectRetry: 3s, bfd: {}}"], Effect::NONE, |live| {
        let bfd = live.neighbor("node-a1", "mesh-node-a2")?.peer.bfd;
        if bfd.is_empty() { bail!("no BFD on the mesh") } else { Ok(()) }
    }),
    (&["ebgpRequiresPolicy: Enabled"], Effect::moves(&["0.0.0.0/0", "::/0"]), |live| {
        for router in ROUTERS {
            for (node, prefix) in [("node-a1", "10.100.1.1/32"), ("node-a2", "fd00:100:1::2/128")] {
                live.no_route(router, node, prefix)?;
            }
        }
        Ok(())
    }),
    (&["nodeMesh: {connectRetry: 3s, holdTime: 30s}"], Effect::resets(MESH), |live| {
        hold_time(live, "mesh-node-a2", 30)?;
        hold_time(live, "tor-a1-ipv4", 9)
    }),
    (&["nodeMesh: {connectRetry: 3s, addPath: {send: None}}"], Effect::resets(MESH), |live| {
        hold_time(live, "mesh-node-a2", 90)
    }),
    (&["nodeMeshMaxRestartTime: 60s"], Effect::resets(MESH), nothing),
    (&["nodeMeshPassword: {secretKeyRef: {name: mesh, key: password}}"], Effect::resets(MESH), |live| {
        let settings = live.neighbor("node-a1", "mesh-node-a2")?.settings;
        ensure!(settings.contains_key("password"), "{settings:?}");
        Ok(())
    }),
    // What can't be resolved leaves the sessions as they are: with the password.
    (&["nodeMeshPassword: {secretKeyRef: {name: nowhere, key: password}}"], Effect::NONE, |live| {
        warned(live, "nowhere")?;
        let settings = live.neighbor("node-a1", "mesh-node-a2")?.settings;
        ensure!(settings.contains_key("password"), "{settings:?}");
        Ok(())
    }),
    (&["nodeMeshPassword: {secretKeyRef: {name: mesh, key: password}}"], Effect::NONE, nothing),
    // The other node connects to that port.
    (&["listenPort: 1790"], Effect::resets(MESH), |live| {
        listens(live, "node-a1", "0.0.0.0:1790")?;
        listens(live, "node-a2", "[::]:1790")
    }),
    (&["nodeToNodeMeshEnabled: false"], Effect { sessions: SESSIONS - 4, ..Effect::resets(MESH) }, nothing),
    (&["asNumber: 64513"], Effect::resets(&["*"]), |live| {
        both_have(live, "node-a1", "10.100.1.1/32", "as_path", "64513")
    }),
    (&[], Effect::resets(&["*"]), |live| both_have(live, "node-a2", "fd00:100:1::2/128", "as_path", "64512")),
];

const SERVICES: Effect = Effect::moves(&["10.96.0.0/12", "fd96::/108", "198.51.100.0/24"]);

#[test]
fn an_edit_of_bgp_configuration_touches_what_it_must_field_by_field() {
    isolation::isolated("configuration::an_edit_of_bgp_configuration_touches_what_it_must_field_by_field", || {
        let mut live = Live::start()?;
        for node in live.lab.nodes() {
            std::fs::create_dir_all(node.secrets().join("mesh"))?;
            std::fs::write(node.secrets().join("mesh/password"), "of the mesh\n")?;
        }
        CONFIGURATION.iter().try_for_each(|(fields, effect, shows)| live.configure(fields, effect, shows))
    });
}

/// Fields of the object of one node.
const OF_NODE_A1: &[Row] = &[
    (
        &[
            "communities: [{name: own, value: \"65001:9\"}]",
            "prefixAdvertisements: [{cidr: 10.100.0.0/16, communities: [own]}]",
        ],
        Effect::moves(&["10.100.1.1/32"]),
        |live| both_have(live, "node-a1", "10.100.1.1/32", "community", "(65001,9)"),
    ),
    (&["logSeverityScreen: Debug"], Effect::NONE, |live| {
        both_have(live, "node-a1", "10.100.1.1/32", "community", "")?;
        logs_of_level_debug(live)
    }),
    (&["listenPort: 1790"], Effect::resets(MESH), |live| listens(live, "node-a1", "0.0.0.0:1790")),
];

#[test]
fn an_edit_of_one_nodes_bgp_configuration_touches_that_node() {
    isolation::isolated("configuration::an_edit_of_one_nodes_bgp_configuration_touches_that_node", || {
        let mut live = Live::start()?;
        for (fields, effect, shows) in OF_NODE_A1 {
            let fields = fields.join(", ");
            live.edit(&fields, &object("BGPConfiguration", "node.node-a1", &fields), effect, shows)?;
        }
        Ok(())
    });
}
