//! A node goes out of service and comes back: what its routers are told, what traffic sees, what it says of itself.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use margay_lab::bird::session_name;
use margay_lab::traffic::{ECHO_PORT, Flow, Servers};
use margay_lab::{PodSpec, isolation, manifests, until};
use margay_net::Family;
use margay_tests::live::{self, Effect, Live, SESSIONS, SOON};

const NODE: &str = "node-a1";
const OTHER: &str = "node-a2";
const GRACEFUL_SHUTDOWN: &str = "(65535,0)";

/// An address that both nodes announce, and that both answer at.
const ANYCAST: &str = "192.0.2.7";

/// Only routes of the drained node change. There is no mesh.
const OF_NODE: Effect = Effect { sessions: SESSIONS - 4, ..Effect::moves(&["node-a1/* 0.0.0.0/0", "node-a1/* ::/0"]) };

/// The drained node's daemon is another one.
const RESTART: Effect = Effect { sessions: SESSIONS - 4, ..Effect::resets(&["node-a1/*"]) };

/// A cluster without a mesh, in which a drained node withdraws after 8 s.
fn start() -> Result<Live> {
    let mut live = Live::start()?;
    let fields = ["nodeToNodeMeshEnabled: false", "drainTime: 8s", "serviceExternalIPs: [{cidr: 192.0.2.0/24}]"];
    let effect = Effect { sessions: SESSIONS - 4, resets: &["*/mesh-*"], ..Effect::moves(&["192.0.2.0/24"]) };
    live.configure(&fields, &effect, |live| live.route("tor-a1", NODE, "192.0.2.0/24").map(drop))?;
    live.settled()?;
    Ok(live)
}

/// A service with that address, and endpoints on both nodes.
fn anycast_service() -> String {
    let endpoints = [NODE, OTHER].map(|node| format!("{{addresses: [10.65.0.9], nodeName: {node}}}")).join(", ");
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{clusterIP: 10.96.0.7, externalIPs: [{ANYCAST}], externalTrafficPolicy: Local, ports: [{{port: 80}}]}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}\n\
         addressType: IPv4\nendpoints: [{endpoints}]\n"
    )
}

/// Fails unless the first router sends packets to the anycast address to these nodes.
fn anycast_goes_to(live: &Live, nodes: &[&str]) -> Result<()> {
    let shown = live.lab.router("tor-a1")?.netns().ip(&format!("route show {ANYCAST}"))?;
    for (node, interface) in [(NODE, "dev node1"), (OTHER, "dev node2")] {
        ensure!(shown.contains(interface) == nodes.contains(&node), "{node}: {shown}");
    }
    Ok(())
}

/// Fails unless the routers hold routes of the node, and all carry GRACEFUL_SHUTDOWN.
fn all_leave(live: &Live) -> Result<()> {
    let routes = live.routes_from(NODE)?;
    ensure!(!routes.is_empty(), "there are no routes of {NODE}");
    routes.iter().try_for_each(|route| route.has("community", GRACEFUL_SHUTDOWN))
}

/// Fails unless the routers hold nothing of the node.
fn none_left(live: &Live) -> Result<()> {
    let routes = live.routes_from(NODE)?;
    ensure!(routes.is_empty(), "there are routes of {NODE}: {routes:?}");
    Ok(())
}

/// Fails unless the daemon waits for nothing and its routers for no more of its routes after the restart.
fn has_restarted(live: &Live) -> Result<()> {
    let waiting = live.status(NODE)?.waiting;
    ensure!(waiting.is_empty(), "{waiting:?}");
    for (router, family) in live.lab.routers().flat_map(|router| Family::ALL.map(|family| (router, family))) {
        let shown = router.birdc(&format!("show protocols all {}", session_name(NODE, family)))?;
        ensure!(shown.contains("Established") && !shown.contains("graceful restart active"), "{shown}");
    }
    Ok(())
}

/// Fails unless the routers hold so many routes of the node, none with GRACEFUL_SHUTDOWN.
fn all_are_back(live: &Live, count: usize) -> Result<()> {
    let routes = live.routes_from(NODE)?;
    ensure!(routes.len() == count, "{} instead of {count}: {routes:?}", routes.len());
    routes.iter().try_for_each(|route| route.has("community", ""))
}

/// Fails unless `status` and `bgp peers` say all of these words of the drain.
fn says(live: &Live, words: &[&str]) -> Result<()> {
    for question in [&["status"][..], &["bgp", "peers"]] {
        let printed = live.lab.node(NODE)?.margayctl(question)?;
        for words in words {
            ensure!(printed.contains(words), "{question:?} does not say '{words}':\n{printed}");
        }
    }
    Ok(())
}

/// Fails if `status` or `bgp peers` speak of a drain.
fn says_nothing(live: &Live) -> Result<()> {
    let drain = live.status(NODE)?.bgp.drain;
    ensure!(drain.is_empty() && live.peers(NODE)?.peers.iter().all(|peer| !peer.draining), "{drain}");
    Ok(())
}

#[test]
fn a_drained_node_hands_its_traffic_over_without_loss_and_stays_drained_over_a_restart() {
    let name = "a_drained_node_hands_its_traffic_over_without_loss_and_stays_drained_over_a_restart";
    isolation::isolated(name, || {
        let mut live = start()?;
        let mut servers = Vec::new();
        for node in [NODE, OTHER] {
            let netns = live.lab.node(node)?.netns().clone();
            netns.ip(&format!("addr add {ANYCAST}/32 dev lo"))?;
            servers.push(Servers::start(&netns, &[], &[ECHO_PORT])?);
            let pod = live.lab.add_pod(node, &PodSpec::new(manifests::NAMESPACE, &format!("pod-{node}")))?;
            servers.push(Servers::start(&live.lab.pod(&pod)?.netns, &[], &[ECHO_PORT])?);
        }
        live.lab.apply(&anycast_service())?;
        until(SOON, "the anycast address is behind both nodes", || anycast_goes_to(&live, &[NODE, OTHER]))?;
        let [here, there] = [NODE, OTHER].map(|node| live.lab.pods().find(|pod| pod.node == node).cloned());
        let (here, there) = (here.context("a pod")?, there.context("a pod")?);
        let anycast: SocketAddr = format!("{ANYCAST}:{ECHO_PORT}").parse()?;
        let of_service = Flow::start(live.lab.router("tor-a1")?.netns(), anycast, 8)?;
        let of_pod = Flow::start(&here.netns, SocketAddr::new(there.address(Family::V4)?, ECHO_PORT), 4)?;
        live.settled()?;
        let count = live.routes_from(NODE)?.len();

        let done = live.lab.margayctl(&["bgp", "drain", "--node", NODE])?;
        ensure!(done.contains("Node/node-a1 drained"), "{done}");
        live.compare("bgp drain", &OF_NODE, |live| {
            all_leave(live)?;
            anycast_goes_to(live, &[OTHER])
        })?;
        says(&live, &["drained by configuration since", "routes carry GRACEFUL_SHUTDOWN, and are withdrawn in"])?;
        // What has no other way goes on by this one.
        until(SOON, "3 s of the time are over", || says(&live, &["and are withdrawn in 5s"]))?;
        let report = of_pod.finish()?;
        println!("the pod of the drained node: {report}");
        ensure!(report.lost() == 0, "the pod of the drained node: {report}");
        all_leave(&live).context("the routes went before the time")?;

        live.compare("the end of drainTime", &OF_NODE, none_left)?;
        says(&live, &["drained by configuration since", "all routes are withdrawn"])?;
        let events = live.lab.node(NODE)?.margayctl(&["bgp", "events"])?;
        ensure!(events.contains("drain: all routes are withdrawn"), "{events}");

        let node = live.lab.node_mut(NODE)?;
        let code = node.stop_daemon()?;
        ensure!(code == 0, "the daemon exited with {code}");
        node.start_daemon()?;
        live.compare("a restart of the daemon", &RESTART, has_restarted)?;
        none_left(&live).context("after the restart")?;
        says(&live, &["drained by configuration since", "all routes are withdrawn"])?;
        anycast_goes_to(&live, &[OTHER])?;

        let done = live.lab.margayctl(&["bgp", "undrain", "--node", NODE])?;
        ensure!(done.contains("Node/node-a1 not drained"), "{done}");
        live.compare("bgp undrain", &OF_NODE, |live| {
            all_are_back(live, count)?;
            anycast_goes_to(live, &[NODE, OTHER])?;
            says_nothing(live)
        })?;
        let report = of_service.finish()?;
        println!("the anycast address: {report}");
        ensure!(report.lost() == 0, "the anycast address: {report}");
        let back = Flow::start(&here.netns, SocketAddr::new(there.address(Family::V4)?, ECHO_PORT), 4)?.finish()?;
        ensure!(back.lost() == 0, "the pod of the node that is back: {back}");
        Ok(())
    });
}

/// Asks the node's daemon, and not the datastore.
fn of_daemon(live: &Live, words: &[&str]) -> Result<String> {
    let node = live.lab.node(NODE)?;
    let socket = node.socket().display().to_string();
    node.margayctl(&[&["--socket", &socket, "bgp"], words].concat())
}

#[test]
fn a_drain_that_the_daemon_was_asked_for_ends_with_undrain_or_the_daemon() {
    isolation::isolated("a_drain_that_the_daemon_was_asked_for_ends_with_undrain_or_the_daemon", || {
        let mut live = start()?;
        let count = live.routes_from(NODE)?.len();
        of_daemon(&live, &["drain", "--withdraw-after", "1h"])?;
        live.compare("bgp drain --withdraw-after 1h", &OF_NODE, all_leave)?;
        says(&live, &["drained on request, until undrain or a restart, since", "and are withdrawn in"])?;
        // A shorter time counts from the beginning.
        of_daemon(&live, &["drain", "--withdraw-after", "1s"])?;
        live.compare("bgp drain --withdraw-after 1s", &OF_NODE, none_left)?;
        says(&live, &["drained on request, until undrain or a restart, since", "all routes are withdrawn"])?;
        of_daemon(&live, &["undrain"])?;
        live.compare("bgp undrain", &OF_NODE, |live| {
            says_nothing(live)?;
            all_are_back(live, count)
        })?;

        of_daemon(&live, &["drain", "--withdraw-after", "1h"])?;
        live.compare("bgp drain once more", &OF_NODE, all_leave)?;
        let node = live.lab.node_mut(NODE)?;
        node.kill_daemon()?;
        node.start_daemon()?;
        live.compare("a new daemon", &RESTART, |live| {
            has_restarted(live)?;
            says_nothing(live)?;
            all_are_back(live, count)
        })
    });
}

#[test]
fn graceful_shutdown_of_a_peer_marks_what_that_peer_is_told_alone() {
    isolation::isolated("graceful_shutdown_of_a_peer_marks_what_that_peer_is_told_alone", || {
        let mut live = Live::start()?;
        let peers = live::peers(&live.lab.options.topology, Family::V4);
        let first = peers.split("---\n").next().context("a BGPPeer")?.to_owned();
        let effect = Effect::moves(&["tor-a1 0.0.0.0/0"]);
        live.edit("gracefulShutdown", &format!("{first}  gracefulShutdown: true\n"), &effect, |live| {
            for (node, prefix) in [(NODE, "10.100.1.1/32"), (OTHER, "10.100.1.2/32")] {
                live.route("tor-a1", node, prefix)?.has("community", GRACEFUL_SHUTDOWN)?;
                ensure!(live.neighbor(node, "tor-a1-ipv4")?.peer.draining, "{node} does not say so");
                ensure!(!live.neighbor(node, "tor-a1-ipv6")?.peer.draining, "{node} says so of another peer");
            }
            Ok(())
        })?;
        let printed = live.lab.node(NODE)?.margayctl(&["bgp", "peers"])?;
        let line = printed.lines().find(|line| line.starts_with("tor-a1-ipv4")).context("the peer's line")?;
        ensure!(line.contains("draining") && !live.status(NODE)?.bgp.drain.contains("drained"), "{printed}");
        live.edit("no gracefulShutdown", &first, &effect, |live| {
            match live.route("tor-a1", NODE, "10.100.1.1/32")?.attribute("community") {
                "" => Ok(()),
                communities => bail!("{communities}"),
            }
        })
    });
}
