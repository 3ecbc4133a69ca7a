//! The ownership guard against a node that somebody has taken over: over the node mesh, at a route reflector, and through
//! a router that believes everything. The honest nodes are real; the evil one was, until its daemon was killed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path as FilePath;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use margay_datastore::Datastore;
use margay_ipam_core::{AffinityState, Block, BlockAffinity, keys};
use margay_lab::checks::RouteMonitor;
use margay_lab::traffic::{self, ECHO_PORT, Flow, Servers};
use margay_lab::{Lab, LabOptions, Pod, PodKey, PodSpec, Topology, isolation, manifests, until};
use margay_net::{Cidr, Family};
use margay_tests::evil::{Evil, Identity, Path};
use margay_tests::lan;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
const QUICK: Duration = Duration::from_secs(2);
const INTERNAL: Path<'static> = Path::Internal { originator: None };

fn prefix(text: &str) -> Cidr {
    text.parse().expect("the constants are prefixes")
}

/// Three nodes with a pod each; the daemon of the third is killed.
struct Scene {
    lab: Lab,
    pods: Vec<PodKey>,
    /// By node.
    blocks: [Cidr; 3],
    addresses: [IpAddr; 3],
}

const NODES: [&str; 3] = ["node-a1", "node-a2", "node-a3"];
const EVIL: &str = NODES[2];

impl Scene {
    fn new(mut lab: Lab) -> Result<Scene> {
        let specs = NODES.map(|node| (node.to_owned(), PodSpec::new(manifests::NAMESPACE, &format!("on-{node}"))));
        let pods = lab.add_pods(&specs, 3).into_iter().collect::<Result<Vec<_>>>()?;
        let mut scene =
            Scene { lab, pods, blocks: [prefix("0.0.0.0/0"); 3], addresses: [Ipv4Addr::UNSPECIFIED.into(); 3] };
        for at in 0..3 {
            scene.addresses[at] = scene.pod(at)?.address(Family::V4)?;
            scene.blocks[at] = Cidr::truncated(scene.addresses[at], 26)?;
        }
        until(SOON, "the honest nodes know all blocks", || {
            for (at, node) in NODES.iter().enumerate().take(2) {
                let known = scene.kernel(node)?;
                let missing =
                    scene.blocks.iter().enumerate().find(|(of, block)| *of != at && !known.contains_key(block));
                if let Some((_, block)) = missing {
                    bail!("{node} has no route to {block}: {known:?}");
                }
            }
            Ok(())
        })?;
        scene.lab.node_mut(EVIL)?.kill_daemon()?;
        Ok(scene)
    }

    fn pod(&self, at: usize) -> Result<&Pod> {
        self.lab.pod(&self.pods[at])
    }

    /// An address of the evil node's own block, which it may announce: what it announced before that has been judged.
    fn marker(&self) -> Cidr {
        Cidr::host(self.blocks[2].last())
    }

    /// Speaks for the evil node.
    fn evil(&self, identity: Identity, to: Ipv4Addr) -> Result<Evil> {
        let netns = self.lab.node(EVIL)?.netns();
        until(SOON, &format!("the evil node has a session with {to}"), || Evil::connect(netns, identity, to))
    }

    /// The routes of BGP in a node's kernel.
    fn kernel(&self, node: &str) -> Result<BTreeMap<Cidr, String>> {
        let shown = self.lab.node(node)?.netns().ip("-oneline route show proto 79")?;
        let route = |line: &str| {
            let (to, rest) = line.split_once(' ')?;
            let to = match to {
                "default" => prefix("0.0.0.0/0"),
                to => to.parse().or_else(|_| to.parse().map(Cidr::host)).ok()?,
            };
            Some((to, rest.trim().to_owned()))
        };
        shown.lines().map(|line| route(line).with_context(|| format!("not a route: {line}"))).collect()
    }

    /// All routes of a node's kernel.
    fn all_routes(&self, node: &str) -> Result<Vec<String>> {
        Ok(self.lab.node(node)?.netns().ip("route show")?.lines().map(str::to_owned).collect())
    }

    fn wait_for_route(&self, node: &str, to: Cidr, via: &str) -> Result<()> {
        until(SOON, &format!("{node} reaches {to} {via}"), || {
            let known = self.kernel(node)?;
            if known.get(&to).is_some_and(|route| route.contains(via)) { Ok(()) } else { bail!("{known:?}") }
        })
    }

    fn wait_for_no_route(&self, node: &str, to: Cidr) -> Result<()> {
        until(SOON, &format!("{node} has no route to {to}"), || match self.kernel(node)?.get(&to) {
            Some(route) => bail!("{route}"),
            None => Ok(()),
        })
    }

    /// Fails unless all that a kernel's routes saw since the monitor's start is that the marker came and went.
    fn only_the_marker_changed(&self, monitor: RouteMonitor, times: usize) -> Result<()> {
        let (changes, marker) = (monitor.finish()?, self.marker().addr().to_string());
        let ours = |line: &String| line.split(' ').any(|word| word == marker);
        // New links come by their IPv6 addresses meanwhile.
        let changes: Vec<String> = changes.into_iter().filter(|line| !line.contains("::")).collect();
        ensure!(changes.iter().all(ours) && changes.len() >= 2 * times, "the kernel's routes changed: {changes:#?}");
        Ok(())
    }

    /// What a node refused of a peer, each with the reason in words.
    fn rejected(&self, node: &str, peer: &str) -> Result<BTreeMap<Cidr, String>> {
        let view = self.lab.node(node)?.margayctl_json(&["bgp", "routes", "--rejected"])?;
        let mut rejected = BTreeMap::new();
        for route in view["routes"].as_array().context("routes")? {
            for path in route["paths"].as_array().context("paths")? {
                if path["from"] == peer && path["rejected"] == true {
                    let to = route["prefix"].as_str().context("a prefix")?.parse()?;
                    rejected.insert(to, path["reason"].as_str().context("a reason")?.to_owned());
                }
            }
        }
        Ok(rejected)
    }

    /// Waits until a node refuses just this of a peer, with these reasons, and counts it as that peer's.
    fn wait_for_refusals(&self, node: &str, peer: &str, expected: &BTreeMap<Cidr, String>) -> Result<()> {
        until(SOON, &format!("{node} says why it refuses routes of {peer}"), || {
            let rejected = self.rejected(node, peer)?;
            let differs = |(to, why): &(&Cidr, &String)| expected.get(*to) != Some(*why);
            if let Some(other) = rejected.iter().find(differs) {
                bail!("{other:?} instead of {:?}", expected.get(other.0));
            }
            if let Some(missing) = expected.keys().find(|to| !rejected.contains_key(to)) {
                bail!("{missing} is not refused");
            }
            let peers = self.lab.node(node)?.margayctl_json(&["bgp", "peers"])?;
            for view in peers["peers"].as_array().context("peers")? {
                let refused = if view["name"] == peer { expected.len() } else { 0 };
                ensure!(view["rejected"] == refused, "{refused} are refused, and the count is: {view}");
            }
            Ok(())
        })
    }

    /// How many routes of a peer a node refuses by which reason.
    fn counted(&self, node: &str, peer: &str) -> Result<BTreeMap<String, u64>> {
        let neighbor = self.neighbor(node, peer)?;
        Ok(serde_json::from_value(neighbor["families"]["ipv4"]["rejected_by"].clone()).unwrap_or_default())
    }

    /// The metric of a node's refusals of a peer for a reason, as its socket gives it to a scraper.
    fn metric(&self, node: &str, peer: &str, reason: &str) -> Result<f64> {
        let mut stream = UnixStream::connect(self.lab.node(node)?.socket())?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: margayd\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let name = format!("margay_bgp_peer_prefixes_rejected{{peer=\"{peer}\",family=\"ipv4\",reason=\"{reason}\"}} ");
        let value = answer.lines().find_map(|line| line.strip_prefix(&name));
        Ok(value.with_context(|| format!("no {name}in {answer}"))?.parse()?)
    }

    fn neighbor(&self, node: &str, peer: &str) -> Result<Value> {
        self.lab.node(node)?.margayctl_json(&["bgp", "neighbor", peer])
    }

    /// What the evil node has no right to, and why it is refused where it comes from the node's own session.
    fn attempts(&self) -> Vec<(Cidr, String)> {
        let [a, b, c] = self.blocks;
        let pool = Topology::pool(Family::V4);
        let half = |block: Cidr| Cidr::truncated(block.addr(), 27).expect("27 is a length");
        let twice = Cidr::truncated(b.addr(), 25).expect("25 is a length");
        let free = (0..1024).filter_map(|index| Cidr::truncated(pool.nth(64 * index)?, 26).ok());
        let free = free.into_iter().find(|block| ![a, b, c].contains(block)).expect("1,024 blocks are more than three");
        let of = |node: usize, to: Cidr| {
            let block = self.blocks[node];
            let what = if to == block { "belongs".to_owned() } else { format!("lies in {block}, which belongs") };
            let evil = lan::address(3);
            (to, format!("{to} {what} to node {}, and it comes from {evil}, node {EVIL}", NODES[node]))
        };
        let nobodys =
            |to: Cidr| (to, format!("{to} in pool {pool} is neither a block nor a borrowed address of any node"));
        let covers =
            |to: Cidr| (to, format!("{to} covers pool {pool}, which only routers outside the cluster may announce"));
        let of_node = |to: Cidr, what: &str, node: usize| {
            let evil = lan::address(3);
            (to, format!("{to} {what} of node {}, and it comes from {evil}, node {EVIL}", NODES[node]))
        };
        vec![
            of_node(prefix("10.50.0.2/32"), "is the address", 1),
            of_node(prefix("10.50.0.0/25"), "covers 10.50.0.1, the address", 0),
            of(0, a),
            of(0, Cidr::host(self.addresses[0])),
            of(1, b),
            of(1, Cidr::host(self.addresses[1])),
            of(1, half(b)),
            nobodys(pool),
            nobodys(twice),
            nobodys(free),
            covers(prefix("0.0.0.0/0")),
            covers(prefix("10.0.0.0/8")),
        ]
    }
}

/// Announces the prefixes, then the marker, waits until that is in the kernel of `node`, and takes it back.
fn announce_and_see(scene: &Scene, evil: &Evil, node: &str, prefixes: &[Cidr], path: Path<'_>) -> Result<()> {
    evil.announce(prefixes, path)?;
    let marker = scene.marker();
    evil.announce(&[marker], INTERNAL)?;
    scene.wait_for_route(node, marker, "via 10.50.0.3")?;
    evil.withdraw(&[marker])?;
    scene.wait_for_no_route(node, marker)
}

fn evil_on_lan() -> Identity {
    Identity { address: lan::address(3), identifier: lan::address(3), asn: lan::ASN }
}

#[test]
fn over_the_mesh_an_evil_node_gets_its_own_block_and_nothing_else() {
    isolation::isolated("over_the_mesh_an_evil_node_gets_its_own_block_and_nothing_else", || {
        let scene = Scene::new(lan::mesh(3)?)?;
        let victims = [(NODES[0], 1), (NODES[1], 2)];
        let sessions = victims.map(|(_, number)| scene.evil(evil_on_lan(), lan::address(number)));
        let [first, second] = sessions;
        let evils = [first?, second?];
        let own = scene.blocks[2];
        let peer = "mesh-node-a3";
        for ((node, _), evil) in victims.iter().zip(&evils) {
            evil.announce(&[own, Cidr::host(scene.addresses[2])], INTERNAL)?;
            scene.wait_for_route(node, Cidr::host(scene.addresses[2]), "via 10.50.0.3")?;
            scene.wait_for_route(node, own, "via 10.50.0.3")?;
        }
        let before = [scene.all_routes(NODES[0])?, scene.all_routes(NODES[1])?];
        let _servers = Servers::start(&scene.pod(1)?.netns, &[], &[ECHO_PORT])?;
        let flow = Flow::start(&scene.pod(0)?.netns, SocketAddr::new(scene.addresses[1], ECHO_PORT), 2)?;
        let attempts = scene.attempts();
        let prefixes: Vec<Cidr> = attempts.iter().map(|(to, _)| *to).collect();
        let all_for =
            |why: &str| -> BTreeMap<Cidr, String> { prefixes.iter().map(|to| (*to, why.to_owned())).collect() };
        for (at, ((node, number), evil)) in victims.iter().zip(&evils).enumerate() {
            let monitor = RouteMonitor::start(scene.lab.node(node)?.netns())?;
            announce_and_see(&scene, evil, node, &prefixes, INTERNAL)?;
            scene.wait_for_refusals(node, peer, &attempts.iter().cloned().collect())?;
            let counted = scene.counted(node, peer)?;
            let expected = [
                ("belongs to another node", 7),
                ("covers a pool", 2),
                ("in a pool, but neither a block nor a borrowed address", 3),
            ];
            ensure!(counted == expected.map(|(why, count)| (why.to_owned(), count)).into(), "{counted:?}");
            for (reason, count) in [("not_owner", 7.0), ("covers_pool", 2.0), ("not_allocated", 3.0)] {
                let metric = scene.metric(node, peer, reason)?;
                ensure!(metric == count, "{reason}: {metric} by the metrics");
            }

            // As if it were a reflector: for itself, then for the owner of the other honest block.
            let other = lan::address(3 - number);
            for originator in [lan::address(3), other] {
                announce_and_see(&scene, evil, node, &prefixes, Path::Internal { originator: Some(originator) })?;
                let why = format!("ORIGINATOR_ID {originator} from 10.50.0.3, which is a node and no reflector");
                scene.wait_for_refusals(node, peer, &all_for(&why))?;
            }
            // And for the node itself.
            let itself = Path::Internal { originator: Some(lan::address(*number)) };
            announce_and_see(&scene, evil, node, &prefixes, itself)?;
            scene.wait_for_refusals(node, peer, &all_for("ORIGINATOR_ID is our router id"))?;

            scene.only_the_marker_changed(monitor, 4)?;
            ensure!(
                scene.all_routes(node)? == before[at],
                "{:#?}\ninstead of {:#?}",
                scene.all_routes(node)?,
                before[at]
            );
        }
        let report = flow.finish()?;
        ensure!(report.lost() == 0 && report.sent() > 0, "traffic between honest pods: {report}");

        // Its own block, with an ORIGINATOR_ID and without again.
        announce_and_see(&scene, &evils[0], NODES[0], &[own], Path::Internal { originator: Some(lan::address(3)) })?;
        scene.wait_for_no_route(NODES[0], own)?;
        ensure!(scene.rejected(NODES[0], peer)?.contains_key(&own), "the own block with an ORIGINATOR_ID");
        evils[0].announce(&[own], INTERNAL)?;
        scene.wait_for_route(NODES[0], own, "via 10.50.0.3")?;
        ensure!(traffic::ping(&scene.pod(0)?.netns, scene.addresses[2], QUICK)?.reached(), "the evil node's own pod");

        drop(evils);
        for node in &NODES[..2] {
            scene.wait_for_no_route(node, own)?;
            scene.wait_for_refusals(node, peer, &BTreeMap::new())?;
        }
        Ok(())
    });
}

#[test]
fn without_the_guard_the_same_node_gets_a_pods_traffic_and_with_it_again_nothing() {
    let test = "without_the_guard_the_same_node_gets_a_pods_traffic_and_with_it_again_nothing";
    isolation::isolated(test, || {
        let scene = Scene::new(lan::mesh(3)?)?;
        let (victim, stolen) = (NODES[0], Cidr::host(scene.addresses[1]));
        scene.lab.node(EVIL)?.netns().ip(&format!("route add blackhole {stolen}"))?;
        let evil = scene.evil(evil_on_lan(), lan::address(1))?;
        evil.announce(&[stolen], INTERNAL)?;
        let lies = format!("{stolen} lies in {}, which belongs to node {}", scene.blocks[1], NODES[1]);
        let refused = [(stolen, format!("{lies}, and it comes from 10.50.0.3, node {EVIL}"))].into();
        let guard =
            |setting: &str| scene.lab.apply(&lan::bgp_configuration(true, &format!("ownershipGuard: {setting}")));
        let reached =
            || Ok::<_, anyhow::Error>(traffic::ping(&scene.pod(0)?.netns, scene.addresses[1], QUICK)?.reached());
        scene.wait_for_refusals(victim, "mesh-node-a3", &refused)?;
        ensure!(reached()?, "a pod that is announced by another node as well");
        guard("Disabled")?;
        scene.wait_for_route(victim, stolen, "via 10.50.0.3")?;
        ensure!(!reached()?, "the evil node was believed, and traffic went its right way all the same");
        guard("Enabled")?;
        scene.wait_for_no_route(victim, stolen)?;
        scene.wait_for_refusals(victim, "mesh-node-a3", &refused)?;
        ensure!(reached()?, "the guard is on again");
        Ok(())
    });
}

/// Writes to the cluster's datastore as Calico's IPAM does.
fn with_datastore(scene: &Scene, work: impl AsyncFnOnce(&dyn Datastore) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = margay_datastore::open(scene.lab.datastore_url())?;
    runtime.block_on(work(&*store))
}

async fn mark(store: &dyn Datastore, node: &str, block: Cidr, state: AffinityState) -> Result<()> {
    let value = BlockAffinity::in_state(state).encode();
    let key = keys::affinity(node, block);
    margay_datastore::update_with(store, &key, |_| margay_datastore::Change::Put(value.clone())).await?;
    Ok(())
}

async fn give(store: &dyn Datastore, block: Cidr, to: Option<&str>) -> Result<()> {
    let stored = store.get(&keys::block(block)).await?.context("the block")?;
    let mut changed = Block::decode(&stored.value)?;
    changed.affinity = to.map(|node| format!("host:{node}"));
    store.update(&stored.key, &changed.encode(), stored.revision).await?;
    Ok(())
}

/// A node lets go of a block in which addresses are still used.
async fn release(store: &dyn Datastore, node: &str, block: Cidr) -> Result<()> {
    mark(store, node, block, AffinityState::PendingDeletion).await?;
    give(store, block, None).await?;
    Ok(store.delete(&keys::affinity(node, block), None).await?)
}

/// A node takes a block that nobody owns.
async fn claim(store: &dyn Datastore, node: &str, block: Cidr) -> Result<()> {
    mark(store, node, block, AffinityState::Pending).await?;
    give(store, block, Some(node)).await?;
    mark(store, node, block, AffinityState::Confirmed).await
}

#[test]
fn a_refused_path_is_taken_while_its_block_is_the_announcers_without_a_new_announcement() {
    let test = "a_refused_path_is_taken_while_its_block_is_the_announcers_without_a_new_announcement";
    isolation::isolated(test, || {
        let scene = Scene::new(lan::mesh(3)?)?;
        let (judge, owner, peer) = (NODES[0], NODES[1], "mesh-node-a3");
        let (block, used) = (scene.blocks[1], scene.addresses[1]);
        let evil = scene.evil(evil_on_lan(), lan::address(1))?;
        evil.announce(&[block, Cidr::host(used)], INTERNAL)?;
        let refused = |to: Cidr, what: &str| (to, format!("{to} {what}, and it comes from 10.50.0.3, node {EVIL}"));
        let whole = refused(block, &format!("belongs to node {owner}"));
        let single = refused(Cidr::host(used), &format!("lies in {block}, which belongs to node {owner}"));
        let lent = refused(Cidr::host(used), &format!("belongs to node {owner}"));
        scene.wait_for_refusals(judge, peer, &[whole.clone(), single.clone()].into())?;
        let told = scene.neighbor(judge, peer)?["updates_received"].clone();

        with_datastore(&scene, async |store| release(store, owner, block).await)?;
        let nobodys = format!("{block} in pool 10.65.0.0/16 is neither a block nor a borrowed address of any node");
        scene.wait_for_route(judge, Cidr::host(used), "via 10.50.0.2")?;
        scene.wait_for_no_route(judge, block)?;
        scene.wait_for_refusals(judge, peer, &[(block, nobodys), lent.clone()].into())?;

        with_datastore(&scene, async |store| claim(store, EVIL, block).await)?;
        scene.wait_for_route(judge, block, "via 10.50.0.3")?;
        scene.wait_for_refusals(judge, peer, &[lent].into())?;
        // The address in it that is in use stays its user's.
        let ping = || traffic::ping(&scene.pod(0)?.netns, used, QUICK);
        ensure!(ping()?.reached(), "a pod whose block another node owns");

        with_datastore(&scene, async |store| release(store, EVIL, block).await)?;
        scene.wait_for_no_route(judge, block)?;
        with_datastore(&scene, async |store| claim(store, owner, block).await)?;
        scene.wait_for_route(judge, block, "via 10.50.0.2")?;
        scene.wait_for_no_route(judge, Cidr::host(used))?;
        scene.wait_for_refusals(judge, peer, &[whole, single].into())?;
        ensure!(ping()?.reached(), "a pod whose block came back");
        let neighbor = scene.neighbor(judge, peer)?;
        ensure!(neighbor["updates_received"] == told, "it was announced anew: {told} updates, then {neighbor}");
        Ok(())
    });
}

#[test]
fn a_reflector_refuses_at_its_door_and_passes_nothing_of_it_to_its_clients() {
    isolation::isolated("a_reflector_refuses_at_its_door_and_passes_nothing_of_it_to_its_clients", || {
        let scene = Scene::new(lan::reflected(3)?)?;
        let [reflector, client, _] = NODES;
        let (from_evil, from_reflector) = ("reflectors-node-a3", "reflectors-node-a1");
        let own = scene.blocks[2];
        let evil = scene.evil(evil_on_lan(), lan::address(1))?;
        evil.announce(&[own], INTERNAL)?;
        scene.wait_for_route(client, own, "via 10.50.0.3")?;
        let received = || -> Result<BTreeMap<Cidr, Value>> {
            let view = scene.lab.node(client)?.margayctl_json(&["bgp", "routes", "--received", from_reflector])?;
            let routes = view["routes"].as_array().context("routes")?.iter();
            routes
                .map(|route| Ok((route["prefix"].as_str().context("a prefix")?.parse()?, route["paths"][0].clone())))
                .collect()
        };
        let before = received()?;
        let routes = scene.all_routes(client)?;
        ensure!(before[&own]["originator_id"] == "10.50.0.3", "{before:?}");
        let monitor = RouteMonitor::start(scene.lab.node(client)?.netns())?;
        let _servers = Servers::start(&scene.pod(1)?.netns, &[], &[ECHO_PORT])?;
        let flow = Flow::start(&scene.pod(0)?.netns, SocketAddr::new(scene.addresses[1], ECHO_PORT), 2)?;

        let attempts = scene.attempts();
        let prefixes: Vec<Cidr> = attempts.iter().map(|(to, _)| *to).collect();
        // A reflector tells its clients in the order in which it was told.
        announce_and_see(&scene, &evil, client, &prefixes, INTERNAL)?;
        scene.wait_for_refusals(reflector, from_evil, &attempts.iter().cloned().collect())?;
        for originator in [lan::address(3), lan::address(2)] {
            announce_and_see(&scene, &evil, client, &prefixes, Path::Internal { originator: Some(originator) })?;
            let why = format!("ORIGINATOR_ID {originator} from 10.50.0.3, which is a node and no reflector");
            let all = prefixes.iter().map(|to| (*to, why.clone())).collect();
            scene.wait_for_refusals(reflector, from_evil, &all)?;
            scene.wait_for_refusals(client, from_reflector, &BTreeMap::new())?;
        }

        ensure!(received()? == before, "{:?}\ninstead of {before:?}", received()?);
        ensure!(scene.all_routes(client)? == routes, "{:?}\ninstead of {routes:?}", scene.all_routes(client)?);
        scene.only_the_marker_changed(monitor, 3)?;
        let report = flow.finish()?;
        ensure!(report.lost() == 0 && report.sent() > 0, "traffic between honest pods: {report}");

        // No client is a peer of another one.
        let direct = Evil::connect(scene.lab.node(EVIL)?.netns(), evil_on_lan(), lan::address(2));
        ensure!(direct.is_err(), "a client took a session with another client");

        // A BGP identifier of another's becomes the ORIGINATOR_ID of what is reflected: that harms its own block alone.
        drop(evil);
        scene.wait_for_no_route(client, own)?;
        let posing = Identity { identifier: Ipv4Addr::new(10, 50, 0, 77), ..evil_on_lan() };
        let evil = scene.evil(posing, lan::address(1))?;
        evil.announce(&[own], INTERNAL)?;
        evil.announce(&prefixes, INTERNAL)?;
        let why = format!("{own} belongs to node {EVIL}, and it comes from ORIGINATOR_ID 10.50.0.77");
        scene.wait_for_refusals(client, from_reflector, &[(own, why)].into())?;
        scene.wait_for_refusals(reflector, from_evil, &attempts.into_iter().collect())
    });
}

const TORS: [&str; 2] = ["tor-a1", "tor-a2"];
/// The AS numbers of the nodes.
const NODE_ASNS: [u32; 3] = [4_200_001_001, 4_200_001_002, 4_200_001_003];

/// Gives the first router another configuration, made from the one that it has.
fn reconfigure(scene: &Scene, change: impl FnOnce(&str) -> Result<String>) -> Result<()> {
    let file = FilePath::new(isolation::LAB_DIR).join(TORS[0]).join("bird.conf");
    let text = change(&std::fs::read_to_string(&file)?)?;
    std::fs::write(&file, &text)?;
    let answer = scene.lab.router(TORS[0])?.birdc("configure")?;
    ensure!(answer.contains("Reconfigur"), "{answer}\n{text}");
    Ok(())
}

/// The prefixes that the first router holds from its session with the evil node.
fn held(scene: &Scene, session: &str) -> Result<Vec<Cidr>> {
    let shown = scene.lab.router(TORS[0])?.birdc(&format!("show route protocol {session}"))?;
    let mut held: Vec<Cidr> = shown.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
    held.sort();
    Ok(held)
}

#[test]
fn what_an_evil_node_tells_a_router_is_refused_behind_it_but_for_ways_out_of_the_cluster() {
    let test = "what_an_evil_node_tells_a_router_is_refused_behind_it_but_for_ways_out_of_the_cluster";
    isolation::isolated(test, || {
        let topology = Topology { racks: 1, nodes_per_rack: 3, spines: 0, ..Topology::default() };
        let scene = Scene::new(Lab::start(LabOptions::new(topology))?)?;
        let (judge, peer, router) = (NODES[0], "tor-a1-ipv4", Ipv4Addr::new(10, 101, 1, 1));
        let [_, block, own] = scene.blocks;
        let address = Cidr::host(scene.addresses[1]);
        reconfigure(&scene, |text| {
            let open = text.replace("import where net ~ CLUSTER_ipv4", "import all");
            let open =
                open.replace("export where source = RTS_BGP && net ~ CLUSTER_ipv4", "export where source = RTS_BGP");
            ensure!(!open.contains("net ~ CLUSTER"), "a filter is left: {open}");
            Ok(open)
        })?;
        // Of paths that are alike BIRD takes that of the lowest identifier.
        let identity = Identity {
            address: Ipv4Addr::new(10, 100, 1, 3),
            identifier: Ipv4Addr::new(0, 0, 0, 1),
            asn: NODE_ASNS[2],
        };
        let evil = scene.evil(identity, router)?;
        let pool = Topology::pool(Family::V4);
        let half = Cidr::truncated(block.addr(), 27)?;
        let (anywhere, wide) = (prefix("0.0.0.0/0"), prefix("10.0.0.0/8"));
        let honest = Path::External(&NODE_ASNS[2..]);
        evil.announce(&[block, address, half, pool, anywhere, wide, own], honest)?;

        let inside = |to: Cidr| {
            let lies = format!("it lies in {block} of node {}", NODES[1]);
            (to, format!("{to} in pool {pool} is neither a block nor a borrowed address; {lies}"))
        };
        let [_, right, wrong] = NODE_ASNS;
        let foreign = format!("{block} belongs to node {} of AS {right}, and originates in AS {wrong}", NODES[1]);
        let of_pool = format!("{pool} in pool {pool} is neither a block nor a borrowed address of any node");
        let refusals = BTreeMap::from([(block, foreign), inside(address), inside(half), (pool, of_pool)]);
        scene.wait_for_refusals(judge, peer, &refusals)?;
        let counted = scene.counted(judge, peer)?;
        ensure!(counted["originated by another AS than the owner's"] == 1 && counted.len() == 2, "{counted:?}");
        // The router answers for what leads out of the cluster. It believes the evil node; the other one does not.
        for to in [anywhere, wide, own] {
            scene.wait_for_route(judge, to, "via 10.101.1.1")?;
        }
        until(SOON, "the other block is reached by the other router alone", || {
            let known = scene.kernel(judge)?;
            let way = known.get(&block).context("no way at all")?;
            let unknown = [address, half, pool].iter().all(|to| !known.contains_key(to));
            if way.contains("via 10.101.1.2") && !way.contains("10.101.1.1") && unknown {
                Ok(())
            } else {
                bail!("{known:?}")
            }
        })?;
        let _servers = Servers::start(&scene.pod(1)?.netns, &[], &[ECHO_PORT])?;
        let flow = Flow::start(&scene.pod(0)?.netns, SocketAddr::new(scene.addresses[1], ECHO_PORT), 4)?;
        for _ in 0..3 {
            ensure!(traffic::ping(&scene.pod(0)?.netns, scene.addresses[1], QUICK)?.reached(), "another block's pod");
        }
        let report = flow.finish()?;
        ensure!(report.lost() == 0 && report.sent() > 0, "traffic between honest pods: {report}");

        // Who claims to pass on what the owner originated is the owner to a router that does not look who says so.
        let forged = Path::External(&NODE_ASNS[1..2]);
        evil.announce(&[block], forged)?;
        let others: BTreeMap<Cidr, String> = refusals.iter().filter(|(to, _)| **to != block).map(owned).collect();
        scene.wait_for_refusals(judge, peer, &others)?;
        drop(evil);

        // The router gets the filter that is printed for it.
        let filter = scene.lab.margayctl(&["bgp", "tor-config", "--vendor", "bird", "--tor", "10.101.1.1"])?;
        reconfigure(&scene, |text| {
            let (head, _) = text.split_once("protocol bgp ").context("a session")?;
            Ok(format!("{head}\n{filter}"))
        })?;
        let evil = scene.evil(identity, router)?;
        evil.announce(&[half, pool, anywhere, wide, own], honest)?;
        evil.announce(&[block], forged)?;
        evil.announce(&[address], honest)?;
        until(SOON, "the router takes blocks and addresses from the evil node, and nothing else", || {
            let held = held(&scene, "margay_node_a3")?;
            let mut expected = [own, address];
            expected.sort();
            if held == expected { Ok(()) } else { bail!("{held:?}") }
        })?;
        let only = BTreeMap::from([inside(address)]);
        scene.wait_for_refusals(judge, peer, &only)?;
        for to in [anywhere, wide] {
            scene.wait_for_no_route(judge, to)?;
        }
        until(SOON, "the other block is reached by both routers", || {
            let known = scene.kernel(judge)?;
            let way = known.get(&block).context("no way at all")?;
            if way.contains("10.101.1.2") && way.contains("10.101.1.1") { Ok(()) } else { bail!("{known:?}") }
        })
    });
}

fn owned((to, why): (&Cidr, &String)) -> (Cidr, String) {
    (*to, why.clone())
}
