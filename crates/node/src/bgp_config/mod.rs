//! Resources in, speaker configuration out: what Calico's confd does with text templates, as one pure function.
//!
//! What can't be resolved (a secret that is missing, a filter that is not there, a selector that is not valid) leaves the
//! last good configuration of the peer in force, and is said as a [`PlanProblem`].

mod cluster;
mod export;
mod filters;
mod import;
mod peerings;
mod problem;
mod services;
mod session;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod shown;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_api::kinds::{
    BgpConfiguration, BgpConfigurationSpec, BgpFilter, BgpPeer, BgpPeerSpec, BindMode, CommunityValue, IpPool, Node,
    SecretKeyRef, WorkloadEndpoint,
};
use margay_api::kubernetes::{EndpointSlice, Service};
use margay_bgp_core::{DecisionConfig, Drain, GracefulRestartConfig, Multipath, PeerConfig, PeerName, SpeakerConfig};
use margay_felix_agent::HostRoutes;
use margay_net::{Asn, Cidr, Family};

pub(crate) use cluster::{addresses, node_asn, router_id};
use cluster::{cluster_id, listen_port};
use peerings::Peering;
pub(crate) use problem::{Cause, PlanProblem};

/// Reads the password that a reference names, or says why it can't.
pub(crate) type ReadSecret<'a> = &'a dyn Fn(&SecretKeyRef) -> Result<String, String>;

/// The greatest priority less one is the least LOCAL_PREF: LOCAL_PREF is 2^31-1 less the route's priority, as Calico has
/// it.
const MAX_PRIORITY: u32 = 2_147_483_647;

/// Everything that decides over this node's sessions. Maps are by name, those of namespaced kinds by key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BgpResources<'a> {
    pub(crate) node: &'a Node,
    /// All nodes of the cluster, this one included.
    pub(crate) nodes: &'a BTreeMap<String, Node>,
    pub(crate) peers: &'a BTreeMap<String, BgpPeer>,
    pub(crate) filters: &'a BTreeMap<String, BgpFilter>,
    pub(crate) configurations: &'a BTreeMap<String, BgpConfiguration>,
    pub(crate) pools: &'a BTreeMap<String, IpPool>,
    /// The endpoints of this node.
    pub(crate) workloads: &'a [&'a WorkloadEndpoint],
    pub(crate) services: &'a BTreeMap<String, Service>,
    pub(crate) slices: &'a BTreeMap<String, EndpointSlice>,
}

/// What the resources ask of this node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BgpPlan {
    pub(crate) config: SpeakerConfig,
    /// Where each peer of `config` comes from.
    pub(crate) sessions: BTreeMap<PeerName, SessionSource>,
    /// What felix has to do for BGP.
    pub(crate) routes: HostRoutes,
    /// `Trace`, `Debug`, `Info`, `Warning`, `Error` or `Fatal`.
    pub(crate) log_severity: Option<String>,
    /// In words: which object, what is wrong, what to do.
    pub(crate) problems: Vec<PlanProblem>,
    /// What `prefixAdvertisements` asked for when all of it could be resolved last.
    advertisements: Vec<Advertisement>,
}

/// Where a session comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionSource {
    /// The kind and name of the object, as in `BGPPeer tor-a1`.
    pub(crate) object: String,
    pub(crate) kind: SessionKind,
    /// The cluster's node at the other end.
    pub(crate) node: Option<String>,
}

/// A session by the way it is asked for, in the order in which it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SessionKind {
    /// By a BGPPeer of all nodes.
    Global,
    /// By a BGPPeer that names or selects this node, or the way back of another node's.
    Node,
    Mesh,
    LocalWorkload,
}

/// Communities for what is announced of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Advertisement {
    cidr: Cidr,
    communities: Vec<CommunityValue>,
}

/// Computes the plan. `last` is the one before, of which parts stay where the new ones can't be resolved.
pub(crate) fn plan(resources: BgpResources<'_>, secret: ReadSecret<'_>, last: Option<&BgpPlan>) -> BgpPlan {
    let default = BgpConfigurationSpec::default();
    let spec = |name: &str| resources.configurations.get(name).map(|object| &object.spec);
    let config = spec("default").unwrap_or(&default);
    let own = spec(&format!("node.{}", resources.node.name())).unwrap_or(&default);
    let mut planner = Planner {
        resources,
        secret,
        last,
        config,
        own_asn: node_asn(resources.node, config),
        services: services::Services::new(&resources, config),
        advertisements: Vec::new(),
        taken: BTreeMap::new(),
        peers: BTreeMap::new(),
        sessions: BTreeMap::new(),
        reachable_by: BTreeMap::new(),
        workload_peers: BTreeMap::new(),
        problems: Vec::new(),
    };
    planner.resolve_advertisements(own);
    let mesh = mesh_spec(config);
    let peerings = peerings::all(&resources, config, &mesh);
    for peering in &peerings.wanted {
        planner.add(peering);
    }
    planner.keep_unreadable(&peerings.unreadable);
    planner.finish(own)
}

struct Planner<'a> {
    resources: BgpResources<'a>,
    secret: ReadSecret<'a>,
    last: Option<&'a BgpPlan>,
    config: &'a BgpConfigurationSpec,
    own_asn: Asn,
    services: services::Services,
    advertisements: Vec<Advertisement>,
    /// The session of each address: the first that claims one has it.
    taken: BTreeMap<IpAddr, PeerName>,
    peers: BTreeMap<PeerName, PeerConfig>,
    sessions: BTreeMap<PeerName, SessionSource>,
    reachable_by: BTreeMap<IpAddr, IpAddr>,
    workload_peers: BTreeMap<String, BTreeSet<IpAddr>>,
    problems: Vec<PlanProblem>,
}

impl Planner<'_> {
    fn add(&mut self, peering: &Peering<'_>) {
        if let Some(name) = self.taken.get(&peering.address) {
            let known = &self.peers[name];
            if known.remote_port != peering.port && peering.kind != SessionKind::Mesh {
                let reason = format!(
                    "{} port {} is left out: '{name}' is a session with that address on port {}, and there is one session \
                     for each address; take one of them away",
                    peering.address, peering.port, known.remote_port
                );
                self.problem(&peering.object, Cause::AddressInUse, reason);
            }
            return;
        }
        let name = self.free_name(peering);
        match self.session(peering) {
            Ok(config) => {
                if let Some(gateway) = peering.reachable_by {
                    self.reachable_by.insert(peering.address, gateway);
                }
                if let Some(interface) = peering.interface {
                    let own = self.config.local_workload_peering_ip(Family::of(peering.address));
                    self.workload_peers.entry(interface.to_owned()).or_default().extend(own);
                }
                self.insert(name, config, peering.source());
            }
            Err(unresolved) => {
                let kept = self.last.and_then(|last| last.config.peers.get(&name)).cloned();
                let outcome = if kept.is_some() {
                    "the last good configuration of the session stays"
                } else {
                    "the session is left out until then"
                };
                self.problem(&peering.object, unresolved.cause, format!("{}; {outcome}", unresolved.reason));
                if let Some(config) = kept {
                    self.keep(name, config, peering.source());
                }
            }
        }
    }

    /// The sessions of objects that can't be read at all stay as they were.
    fn keep_unreadable(&mut self, unreadable: &[PlanProblem]) {
        let last = self.last;
        for problem in unreadable {
            let reason = format!("{}; its sessions stay as they are until then", problem.reason);
            self.problem(&problem.object, problem.cause, reason);
            for (name, source) in last.iter().flat_map(|last| &last.sessions) {
                let config = last.and_then(|last| last.config.peers.get(name)).cloned();
                if let Some(config) = config.filter(|_| source.object == problem.object) {
                    self.keep(name.clone(), config, source.clone());
                }
            }
        }
    }

    /// Takes over a session of the last plan, with the host route that it needs.
    fn keep(&mut self, name: PeerName, config: PeerConfig, source: SessionSource) {
        let gateway = self.last.and_then(|last| last.routes.reachable_by.get(&config.remote));
        if let Some(gateway) = gateway {
            self.reachable_by.insert(config.remote, *gateway);
        }
        self.insert(name, config, source);
    }

    fn insert(&mut self, name: PeerName, config: PeerConfig, source: SessionSource) {
        if self.taken.contains_key(&config.remote) || self.peers.contains_key(&name) {
            return;
        }
        self.taken.insert(config.remote, name.clone());
        self.sessions.insert(name.clone(), source);
        self.peers.insert(name, config);
    }

    /// The peering's name, with the address behind it where another session has it.
    fn free_name(&self, peering: &Peering<'_>) -> PeerName {
        let name = PeerName::new(peering.name.as_str());
        match self.peers.contains_key(&name) {
            false => name,
            true => PeerName::new(format!("{}-{}", peering.name, peering.address)),
        }
    }

    fn problem(&mut self, object: &str, cause: Cause, reason: String) {
        let problem = PlanProblem { object: object.to_owned(), cause, reason };
        // A selector that makes many sessions would say the same of each.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Those of the node's own object replace those of the cluster.
    fn resolve_advertisements(&mut self, own: &BgpConfigurationSpec) {
        let (spec, object) = match own.prefix_advertisements.is_empty() {
            true => (self.config, "BGPConfiguration default".to_owned()),
            false => (own, format!("BGPConfiguration node.{}", self.resources.node.name())),
        };
        let mut unknown = None;
        let mut resolved = Vec::new();
        for advertisement in &spec.prefix_advertisements {
            let Some(cidr) = advertisement.cidr else { continue };
            let mut communities = Vec::new();
            for name in &advertisement.communities {
                match spec.community(name) {
                    Some(community) => communities.push(community),
                    None => unknown = Some((cidr, name.clone())),
                }
            }
            resolved.push(Advertisement { cidr, communities });
        }
        if let Some((cidr, name)) = unknown {
            let outcome = match self.last {
                Some(_) => "the last good prefixAdvertisements stay",
                None => "the prefix is announced without it",
            };
            let reason = format!(
                "spec.prefixAdvertisements: '{name}' of {cidr} is neither a community nor a name of one in \
                 spec.communities; {outcome}"
            );
            self.problem(&object, Cause::Community, reason);
            if let Some(last) = self.last {
                resolved.clone_from(&last.advertisements);
            }
        }
        self.advertisements = resolved;
    }

    fn finish(self, own: &BgpConfigurationSpec) -> BgpPlan {
        let (node, config) = (self.resources.node, self.config);
        let mut speaker = SpeakerConfig::new(self.own_asn, router_id(node));
        speaker.listen_port = listen_port(&self.resources, node.name());
        speaker.cluster_id = cluster_id(node);
        speaker.graceful_restart = Some(GracefulRestartConfig::default());
        speaker.multipath = multipath(config);
        speaker.decision = decision(config);
        speaker.drain = node.spec.drain.then(|| Drain { withdraw_after: config.drain_time(), began: None });
        if config.bind_mode == Some(BindMode::NodeIP) {
            speaker.listen_addresses = addresses(node).chain(self.workload_peers.values().flatten().copied()).collect();
        }
        speaker.peers = self.peers;
        BgpPlan {
            config: speaker,
            sessions: self.sessions,
            routes: HostRoutes {
                services: self.services.announced,
                not_programmed: self.services.not_programmed,
                reachable_by: self.reachable_by,
                workload_peers: self.workload_peers,
                ignored_interfaces: config.ignored_interfaces.iter().cloned().collect(),
            },
            log_severity: own.log_severity_screen.clone().or_else(|| config.log_severity_screen.clone()),
            problems: self.problems,
            advertisements: self.advertisements,
        }
    }
}

/// The mesh's sessions as a BGPPeer would ask for them.
fn mesh_spec(config: &BgpConfigurationSpec) -> BgpPeerSpec {
    let own = config.node_mesh.clone().unwrap_or_default();
    BgpPeerSpec {
        password: config.node_mesh_password.clone(),
        max_restart_time: config.node_mesh_max_restart_time.clone(),
        bfd: own.bfd,
        hold_time: own.hold_time,
        connect_retry: own.connect_retry,
        add_path: own.add_path,
        ..BgpPeerSpec::default()
    }
}

fn multipath(config: &BgpConfigurationSpec) -> Multipath {
    let default = Multipath::default();
    let limits = config.maximum_paths.unwrap_or_default();
    Multipath {
        ebgp: limits.ebgp.map_or(default.ebgp, usize::from),
        ibgp: limits.ibgp.map_or(default.ibgp, usize::from),
        ..default
    }
}

fn decision(config: &BgpConfigurationSpec) -> DecisionConfig {
    let default = DecisionConfig::default();
    let switches = config.best_path.unwrap_or_default();
    DecisionConfig {
        default_local_pref: switches.default_local_pref.unwrap_or(default.default_local_pref),
        always_compare_med: switches.always_compare_med,
        med_missing_as_worst: switches.missing_med_as_worst,
        ignore_as_path_length: switches.ignore_as_path_length,
        compare_router_id: switches.compare_router_id.unwrap_or(default.compare_router_id),
    }
}
