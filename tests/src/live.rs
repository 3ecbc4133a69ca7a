//! A cluster of two nodes behind two routers whose settings are edited while it runs: what each edit did to every session
//! and to every route that the routers hold, and what it left alone.

mod bird;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use margay_lab::bird::session_name;
use margay_lab::{Families, Lab, LabOptions, Topology, manifests, until};
use margay_local_api::Client;
use margay_local_api::{BgpNeighbor, BgpPeers, BgpRouteView, BgpRoutes, Status, path, with_query};
use margay_net::{Cidr, Family};

pub use bird::{Learned, Time};

/// How long an edit may take to arrive everywhere, a new session included.
pub const SOON: Duration = Duration::from_secs(60);

/// Sessions of the cluster as it begins: of each node one with each router and with the other node, in each family.
pub const SESSIONS: usize = 12;

/// What an edit may do: everything else must stay as it is.
#[derive(Debug, Clone)]
pub struct Effect {
    /// Sessions that are reset, made or ended, as `NODE/PEER`, in which `*` stands for anything.
    pub resets: &'static [&'static str],
    /// Routes that may change, as `ROUTER PREFIX` or `NODE/PEER PREFIX`: what lies within.
    pub moves: &'static [&'static str],
    /// Sessions of these that do not come back: the router's side is not told.
    pub ends: &'static [&'static str],
    /// How many sessions are established afterwards.
    pub sessions: usize,
}

impl Effect {
    /// No session is touched, and no route.
    pub const NONE: Effect = Effect { resets: &[], moves: &[], ends: &[], sessions: SESSIONS };

    /// No session is touched, and routes within these prefixes change.
    pub const fn moves(moves: &'static [&'static str]) -> Effect {
        Effect { moves, ..Effect::NONE }
    }

    /// These sessions are reset.
    pub const fn resets(resets: &'static [&'static str]) -> Effect {
        Effect { resets, ..Effect::NONE }
    }

    fn may_reset(&self, session: &str) -> bool {
        self.resets.iter().any(|pattern| is_like(pattern, session))
    }

    fn may_move(&self, route: &Learned) -> bool {
        self.may_reset(&route.session)
            || self.moves.iter().any(|moved| {
                let (place, prefix) = moved.split_once(' ').unwrap_or(("*", moved));
                let there = is_like(place, &route.router) || is_like(place, &route.session);
                there && prefix.parse::<Cidr>().is_ok_and(|within| within.covers(route.prefix))
            })
    }
}

/// Sessions and routes at one moment.
#[derive(Debug, Clone)]
struct Snapshot {
    /// Of each session that is established, by `NODE/PEER`, the daemon's process and how often it became so.
    sessions: BTreeMap<String, (Option<u32>, u64)>,
    /// Since when each has been established as the router says.
    since: BTreeMap<String, Time>,
    routes: BTreeSet<Learned>,
}

impl Snapshot {
    /// Takes times over from the one before where they are the same: BIRD prints them from a clock that runs on, and the
    /// last digit comes out differently.
    fn align(mut self, before: &Snapshot) -> Snapshot {
        for (session, since) in &mut self.since {
            *since = before.since.get(session).map_or(*since, |before| since.align(*before));
        }
        let known: BTreeMap<_, Time> = before.routes.iter().map(|route| (route.key(), route.since)).collect();
        let aligned = self.routes.into_iter().map(|mut route| {
            route.since = known.get(&route.key()).map_or(route.since, |before| route.since.align(*before));
            route
        });
        Snapshot { routes: aligned.collect(), ..self }
    }
}

/// The cluster, and how it was after the last edit.
#[derive(Debug)]
pub struct Live {
    pub lab: Lab,
    last: Snapshot,
    /// What the last edit did, which the next one undoes.
    undone: Effect,
    edits: u8,
}

impl Live {
    /// Brings up a dual-stack rack: a mesh of the nodes in the AS of BGPConfiguration, and routers that take every AS
    /// number and every prefix, honour GRACEFUL_SHUTDOWN, and announce some prefixes of
    /// their own.
    pub fn start() -> Result<Live> {
        let topology = Topology::one_rack().with_families(Families::Dual);
        let mut lab = Lab::fabric(LabOptions::new(topology))?;
        for router in lab.routers() {
            bird::open(router)?;
        }
        lab.apply(&resources(&lab.options.topology))?;
        lab.apply(&configuration(&[], 0))?;
        lab.start_daemons()?;
        let none = Snapshot { sessions: BTreeMap::new(), since: BTreeMap::new(), routes: BTreeSet::new() };
        let mut live = Live { lab, last: none, undone: Effect::NONE, edits: 0 };
        until(SOON, "all sessions are established", || live.whole(&Effect::NONE))?;
        until(SOON, "the routers hold the first ranges of both nodes", || live.has_followed(0))?;
        live.last = live.snapshot()?;
        Ok(live)
    }

    /// Takes what is there as the state that the next edit is compared with.
    pub fn settled(&mut self) -> Result<()> {
        self.undone = Effect::NONE;
        self.last = self.snapshot()?;
        Ok(())
    }

    /// Writes BGPConfiguration `default` with these fields (`KEY: VALUE`) in place of those that it begins with, waits
    /// until both nodes have followed and `shows` holds, and compares.
    pub fn configure(&mut self, fields: &[&str], effect: &Effect, shows: impl Fn(&Live) -> Result<()>) -> Result<()> {
        self.edits += 1;
        let edits = self.edits;
        // Without a filter an external peer is told nothing of it, either.
        let told = !fields.iter().any(|field| field.starts_with("ebgpRequiresPolicy"));
        self.edit(&fields.join(", "), &configuration(fields, edits), effect, |live| {
            if told {
                live.has_followed(edits)?;
            }
            shows(live)
        })
    }

    /// Writes resources, waits until `shows` holds, and compares.
    pub fn edit(&mut self, what: &str, yaml: &str, effect: &Effect, shows: impl Fn(&Live) -> Result<()>) -> Result<()> {
        self.lab.apply(yaml).with_context(|| what.to_owned())?;
        self.compare(what, effect, shows)
    }

    /// Waits until `shows` holds and the sessions that `effect` resets are new, and compares everything else.
    pub fn compare(&mut self, what: &str, effect: &Effect, shows: impl Fn(&Live) -> Result<()>) -> Result<()> {
        let began = Instant::now();
        until(SOON, &format!("`{what}` has its effect"), || shows(self))?;
        let now = until(SOON, &format!("the sessions are there after `{what}`"), || {
            self.whole(effect)?;
            let now = self.snapshot()?;
            let stale = self
                .last
                .sessions
                .iter()
                .find(|(session, count)| effect.may_reset(session) && now.sessions.get(*session) == Some(count));
            if let Some((session, (_, count))) = stale {
                bail!("{session} is not reset: established {count} times before and after");
            }
            Ok(now)
        })?;
        self.nothing_else_changed(&now, effect).with_context(|| format!("`{what}`"))?;
        println!(
            "{:5.1} s  {what}: resets {:?}, moves {:?}",
            began.elapsed().as_secs_f32(),
            effect.resets,
            effect.moves
        );
        self.last = now;
        self.undone = effect.clone();
        Ok(())
    }

    fn nothing_else_changed(&self, now: &Snapshot, effect: &Effect) -> Result<()> {
        let may_reset = |session: &str| effect.may_reset(session) || self.undone.may_reset(session);
        for (session, count) in self.last.sessions.iter().filter(|(session, _)| !may_reset(session)) {
            let found = now.sessions.get(session);
            ensure!(found == Some(count), "{session}: daemon and sessions {count:?} before, and after: {found:?}");
            let (before, after) = (self.last.since.get(session), now.since.get(session));
            ensure!(before == after, "{session}: the router has it since {before:?}, and afterwards since {after:?}");
        }
        let may_move = |route: &Learned| effect.may_move(route) || self.undone.may_move(route);
        let changed = |from: &BTreeSet<Learned>, to: &BTreeSet<Learned>| -> Vec<String> {
            from.difference(to).filter(|route| !may_move(route)).map(ToString::to_string).collect()
        };
        let (gone, new) = (changed(&self.last.routes, &now.routes), changed(&now.routes, &self.last.routes));
        ensure!(gone.is_empty() && new.is_empty(), "routes changed: {gone:#?} were there, and now {new:#?}");
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let mut sessions = BTreeMap::new();
        for (node, peer) in self.sessions()? {
            let view = self.neighbor(&node, &peer)?;
            if view.peer.state == "Established" {
                let daemon = self.lab.node(&node)?.daemon_pid();
                sessions.insert(format!("{node}/{peer}"), (daemon, view.established_count));
            }
        }
        let (mut since, mut routes) = (BTreeMap::new(), BTreeSet::new());
        for router in self.lab.routers() {
            since.extend(bird::sessions(router)?);
            routes.extend(bird::routes(router)?);
        }
        routes.retain(|route| !marker_range().iter().any(|range| range.covers(route.prefix)));
        Ok(Snapshot { sessions, since, routes }.align(&self.last))
    }

    /// Every session that the nodes have: node and peer.
    fn sessions(&self) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for node in self.lab.nodes() {
            let peers = self.peers(node.name())?.peers;
            found.extend(peers.into_iter().map(|peer| (node.name().to_owned(), peer.name)));
        }
        Ok(found)
    }

    /// Fails unless there are as many sessions as there should be, and all are established but those that end.
    fn whole(&self, effect: &Effect) -> Result<()> {
        let mut up = 0;
        for node in self.lab.nodes() {
            for peer in self.peers(node.name())?.peers {
                let session = format!("{}/{}", node.name(), peer.name);
                let ends = effect.ends.iter().any(|pattern| is_like(pattern, &session));
                ensure!((peer.state == "Established") != ends, "{session} is {}: {}", peer.state, peer.reason);
                up += usize::from(!ends);
            }
        }
        ensure!(up == effect.sessions, "{up} sessions are established instead of {}", effect.sessions);
        Ok(())
    }

    /// Fails unless both routers hold the range of an edit of BGPConfiguration from both nodes.
    fn has_followed(&self, edits: u8) -> Result<()> {
        for router in self.lab.routers() {
            for node in self.lab.nodes() {
                self.route(router.name(), node.name(), &marker(edits))?;
            }
        }
        Ok(())
    }

    /// What a router holds of a prefix from a node.
    pub fn route(&self, router: &str, node: &str, prefix: &str) -> Result<Learned> {
        let prefix: Cidr = prefix.parse()?;
        let session = session_name(node, prefix.family());
        let routes = bird::routes_of(self.lab.router(router)?, &session)?;
        let found = routes.iter().find(|route| route.prefix == prefix).cloned();
        found.with_context(|| format!("{router} has no {prefix} from {node}, but {routes:?}"))
    }

    /// Everything that the routers hold from a node.
    pub fn routes_from(&self, node: &str) -> Result<Vec<Learned>> {
        let mut found = Vec::new();
        for router in self.lab.routers() {
            found.extend(bird::routes(router)?);
        }
        found.retain(|route| route.session.split('/').next() == Some(node));
        Ok(found)
    }

    /// Fails if a router holds a prefix from a node.
    pub fn no_route(&self, router: &str, node: &str, prefix: &str) -> Result<()> {
        match self.route(router, node, prefix) {
            Ok(route) => bail!("{route} is there"),
            Err(_) => Ok(()),
        }
    }

    /// Everything that a node says of a peer.
    pub fn neighbor(&self, node: &str, peer: &str) -> Result<BgpNeighbor> {
        Ok(self.client(node)?.get(&with_query(path::BGP_NEIGHBOR, &[("peer", peer)]))?)
    }

    /// A node's peers.
    pub fn peers(&self, node: &str) -> Result<BgpPeers> {
        Ok(self.client(node)?.get(path::BGP_PEERS)?)
    }

    /// What a node says of itself.
    pub fn status(&self, node: &str) -> Result<Status> {
        Ok(self.client(node)?.get(path::STATUS)?)
    }

    /// What a node knows of a prefix.
    pub fn known(&self, node: &str, prefix: &str) -> Result<BgpRouteView> {
        let view: BgpRoutes = self.client(node)?.get(&with_query(path::BGP_ROUTES, &[("prefix", prefix)]))?;
        view.routes.into_iter().next().with_context(|| format!("{node} has no route for {prefix}"))
    }

    /// The path of a prefix that a node has from a peer.
    pub fn from_peer(&self, node: &str, peer: &str, prefix: &str) -> Result<margay_local_api::BgpPathView> {
        let route = self.known(node, prefix)?;
        let found = route.paths.iter().find(|path| path.from == peer).cloned();
        found.with_context(|| format!("{node} has no path for {prefix} from {peer}: {:?}", route.paths))
    }

    /// Fails unless a node sends packets for a prefix to so many next hops.
    pub fn has_next_hops(&self, node: &str, prefix: &str, count: usize) -> Result<()> {
        let hops = self.known(node, prefix)?.next_hops;
        ensure!(hops.len() == count, "{node} sends {prefix} to {hops:?}, not to {count}");
        Ok(())
    }

    fn client(&self, node: &str) -> Result<Client> {
        Ok(Client::new(self.lab.node(node)?.socket()))
    }
}

/// Whether a text is like a pattern, in which `*` stands for anything.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|&at| rest.is_char_boundary(at)).any(|at| is_like(after, &rest[at..]))
        }),
    }
}

/// Pools, peers, nodes and a filter that lets everything through.
fn resources(topology: &Topology) -> String {
    let mut parts: Vec<String> = Family::ALL.into_iter().map(manifests::ip_pool).collect();
    parts.extend(Family::ALL.into_iter().map(|family| peers(topology, family)));
    parts.push(nodes(topology));
    parts.push(manifests::namespace());
    parts.join("---\n")
}

/// The routers as peers. The nodes are of one AS, and hear of each other through them.
pub fn peers(topology: &Topology, family: Family) -> String {
    let plain = manifests::bgp_peers(topology, 1, family);
    plain.replace("  sourceAddress: None\n", "  sourceAddress: None\n  numAllowedLocalASNumbers: 1\n")
}

/// The nodes, with the AS number of BGPConfiguration.
pub fn nodes(topology: &Topology) -> String {
    let text = manifests::nodes(&topology.nodes(), topology.families);
    text.lines().filter(|line| !line.contains("asNumber")).map(|line| format!("{line}\n")).collect()
}

/// Sessions of the mesh are tried again soon, also after many resets.
const MESH: &str = "nodeMesh: {connectRetry: 3s}";

/// BGPConfiguration `default` with these fields in place of those that it begins with. Each edit has a range of its own,
/// by which it is known to have arrived.
fn configuration(fields: &[&str], edits: u8) -> String {
    let range = format!("[{{cidr: {}}}", marker(edits));
    let key = |field: &str| field.split_once(':').map_or(field, |(key, _)| key).to_owned();
    let begin = ["nodeToNodeMeshEnabled: true", MESH, "asNumber: 64512", &format!("serviceExternalIPs: {range}]")]
        .map(|field| (key(field), field.to_owned()));
    let mut spec = BTreeMap::from(begin);
    let with_range = |field: &str| field.replace("serviceExternalIPs: [", &format!("serviceExternalIPs: {range}, "));
    spec.extend(fields.iter().map(|field| (key(field), with_range(field))));
    let lines: String = spec.values().map(|field| format!("  {field}\n")).collect();
    format!("apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {{name: default}}\nspec:\n{lines}")
}

fn marker(edits: u8) -> String {
    format!("172.30.{edits}.0/24")
}

fn marker_range() -> Option<Cidr> {
    "172.30.0.0/16".parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, like) in [
            ("*", "node-a1/tor-a1-ipv4", true),
            ("*/mesh-*", "node-a1/mesh-node-a2-v6", true),
            ("node-a1/*", "node-a2/mesh-node-a1", false),
            ("*-ipv4", "node-a1/tor-a1-ipv4", true),
            ("*-ipv4", "node-a1/tor-a1-ipv6", false),
            ("node-a1/mesh-node-a2", "node-a1/mesh-node-a2-v6", false),
        ] {
            assert_eq!(is_like(pattern, text), like, "{pattern} {text}");
        }
    }
}
