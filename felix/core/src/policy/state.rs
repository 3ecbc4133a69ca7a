use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_api::Labels;
use margay_api::kinds::{NetworkPolicy, Profile, WorkloadEndpoint};
use margay_net::Family;

use super::flatten::Program;
use super::identity::{self, Class};
use super::ids::Ids;
use super::rules::{Matcher, ParsedPolicy, ParsedProfile};
use super::tables::{
    Allow, Direction, EndpointPrograms, IdentityId, PolicyChanges, PolicyTables, ProgramId,
};

/// An endpoint of any node, as far as policy cares.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Endpoint {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) node: String,
    pub(super) interface: String,
    pub(super) labels: Labels,
    pub(super) profiles: Vec<String>,
    pub(super) addresses: BTreeSet<IpAddr>,
    ports: Vec<(String, u8, u16)>,
}

impl Endpoint {
    fn new(endpoint: &WorkloadEndpoint) -> Endpoint {
        let spec = &endpoint.spec;
        Endpoint {
            namespace: endpoint.namespace().unwrap_or_default().to_owned(),
            pod: spec.pod.clone(),
            node: spec.node.clone(),
            interface: spec.interface_name.clone(),
            labels: endpoint.metadata.labels.clone(),
            profiles: spec.profiles.clone(),
            addresses: spec.ip_networks.iter().map(|network| network.addr()).collect(),
            ports: spec.ports.iter().map(|port| (port.name.clone(), port.protocol.number(), port.port)).collect(),
        }
    }

    /// The numbers of the ports that the endpoint declares under one of the names for the protocol.
    pub(super) fn named_ports<'a>(&'a self, protocol: u8, names: &'a [String]) -> impl Iterator<Item = u16> + 'a {
        let declared = self.ports.iter().filter(move |(name, of, _)| *of == protocol && names.contains(name));
        declared.map(|(_, _, number)| *number)
    }
}

/// The policies, profiles and endpoints of the cluster, and the tables that this node needs because of them.
#[derive(Debug)]
pub struct PolicyCore {
    node: String,
    pub(super) endpoints: BTreeMap<String, Endpoint>,
    pub(super) policies: BTreeMap<(String, String), ParsedPolicy>,
    pub(super) profiles: BTreeMap<String, ParsedProfile>,
    programs: Ids<(Direction, Program)>,
    identities: Ids<Class>,
    tables: PolicyTables,
    told: PolicyTables,
    dirty: bool,
}

impl PolicyCore {
    /// Knows nothing yet; `node` tells which endpoints are local.
    pub fn new(node: &str) -> PolicyCore {
        PolicyCore {
            node: node.to_owned(),
            endpoints: BTreeMap::new(),
            policies: BTreeMap::new(),
            profiles: BTreeMap::new(),
            programs: Ids::default(),
            identities: Ids::default(),
            tables: PolicyTables::default(),
            told: PolicyTables::default(),
            dirty: false,
        }
    }

    /// Takes over an endpoint of any node, or that it is gone.
    pub fn update_endpoint(&mut self, key: &str, endpoint: Option<&WorkloadEndpoint>) {
        self.dirty |= replace(&mut self.endpoints, key.to_owned(), endpoint.map(Endpoint::new));
    }

    /// Takes over a policy, or that it is gone.
    pub fn update_policy(&mut self, namespace: &str, name: &str, policy: Option<&NetworkPolicy>) {
        let parsed = policy.map(|policy| ParsedPolicy::new(namespace, policy));
        self.dirty |= replace(&mut self.policies, (namespace.to_owned(), name.to_owned()), parsed);
    }

    /// Takes over a profile, or that it is gone.
    pub fn update_profile(&mut self, name: &str, profile: Option<&Profile>) {
        self.dirty |= replace(&mut self.profiles, name.to_owned(), profile.map(ParsedProfile::new));
    }

    /// The whole desired state, as of the last call of [`PolicyCore::changes`].
    pub fn tables(&self) -> &PolicyTables {
        &self.tables
    }

    /// What differs from the last call.
    pub fn changes(&mut self) -> PolicyChanges {
        if !self.dirty {
            return PolicyChanges::default();
        }
        self.dirty = false;
        self.compile();
        let changes = difference(&self.told, &self.tables);
        self.told = self.tables.clone();
        changes
    }

    fn compile(&mut self) {
        let mut programs: BTreeMap<String, (Option<Program>, Option<Program>)> = BTreeMap::new();
        let mut local: BTreeMap<String, EndpointPrograms> = BTreeMap::new();
        for endpoint in self.endpoints.values().filter(|endpoint| endpoint.node == self.node) {
            let program = |direction| Some(self.program(endpoint, direction)).filter(|program| !program.is_open());
            let both = (program(Direction::Ingress), program(Direction::Egress));
            programs.insert(endpoint.interface.clone(), both);
            let addresses = endpoint.addresses.clone();
            local.insert(endpoint.interface.clone(), EndpointPrograms { addresses, ..EndpointPrograms::default() });
        }
        let active: BTreeSet<(Direction, Program)> = programs
            .values()
            .flat_map(|(ingress, egress)| {
                let ingress = ingress.iter().map(|program| (Direction::Ingress, program.clone()));
                ingress.chain(egress.iter().map(|program| (Direction::Egress, program.clone())))
            })
            .collect();
        self.programs.retain(&active);
        for (interface, (ingress, egress)) in programs {
            let mut id = |direction, program: Option<Program>| {
                program.map(|program| ProgramId(self.programs.of(&(direction, program))))
            };
            let (ingress, egress) = (id(Direction::Ingress, ingress), id(Direction::Egress, egress));
            if let Some(endpoint) = local.get_mut(&interface) {
                (endpoint.ingress, endpoint.egress) = (ingress, egress);
            }
        }
        self.tables = PolicyTables { endpoints: local, ..PolicyTables::default() };
        self.compile_identities(&active);
    }

    fn compile_identities(&mut self, active: &BTreeSet<(Direction, Program)>) {
        let matchers: BTreeSet<Matcher> = active.iter().flat_map(|(_, program)| program.matchers()).cloned().collect();
        // Where rules deny, what anyone may do depends on who it is: then every address has an identity.
        let all = active.iter().any(|(_, program)| !program.is_additive());
        let mut by_address: BTreeMap<IpAddr, Class> = BTreeMap::new();
        for endpoint in self.endpoints.values() {
            let labels = self.labels(endpoint);
            for addr in &endpoint.addresses {
                let class = identity::of_pod(&matchers, endpoint, &labels, *addr);
                if class.keys().any(Matcher::is_for_pods) {
                    by_address.insert(*addr, class);
                }
            }
        }
        let ranges: Vec<(IpAddr, IpAddr, Class)> =
            Family::ALL.into_iter().flat_map(|family| identity::ranges(&matchers, family, all)).collect();
        let classes: BTreeSet<Class> =
            by_address.values().cloned().chain(ranges.iter().map(|(_, _, class)| class.clone())).collect();
        self.identities.retain(&classes);
        for (addr, class) in &by_address {
            self.tables.identities.insert(*addr, IdentityId(self.identities.of(class)));
        }
        for (first, last, class) in &ranges {
            self.tables.ranges.insert(*first, (*last, IdentityId(self.identities.of(class))));
        }
        for (direction, program) in active {
            let id = ProgramId(self.programs.of(&(*direction, program.clone())));
            let mut allow = |peer, allowed: BTreeSet<_>| {
                let allows = allowed.into_iter().map(|(protocol, ports)| Allow { program: id, peer, protocol, ports });
                self.tables.allows.extend(allows);
            };
            let anyone = program.allowed(None);
            let additive = program.is_additive();
            if additive {
                allow(IdentityId::ANYONE, anyone.clone());
            }
            for class in &classes {
                let mut allowed = program.allowed(Some(class));
                if additive {
                    allowed.retain(|element| !anyone.contains(element));
                }
                allow(IdentityId(self.identities.of(class)), allowed);
            }
        }
    }

    /// The rules that judge an endpoint in one direction.
    pub(super) fn program(&self, endpoint: &Endpoint, direction: Direction) -> Program {
        let labels = self.labels(endpoint);
        let policies = self.policies_of(&labels, direction);
        let rules = policies.iter().flat_map(|(_, policy)| policy.rules(direction));
        let resolved = rules.filter_map(|rule| rule.resolve(endpoint, &labels, direction)).collect();
        let mut profiles = Vec::new();
        for name in &endpoint.profiles {
            // A profile that nobody has told of denies everything: nothing after it is looked at.
            let Some(profile) = self.profiles.get(name) else { break };
            profiles.extend(profile.rules(direction).iter().filter_map(|rule| rule.resolve(endpoint, &labels, direction)));
        }
        Program { policies: resolved, profiles, isolated: !policies.is_empty() }
    }

    /// The policies that apply, in order.
    pub(super) fn policies_of(&self, labels: &Labels, direction: Direction) -> Vec<(&(String, String), &ParsedPolicy)> {
        let applies = |policy: &ParsedPolicy| policy.applies(direction) && policy.selector.matches_labels(labels);
        let mut found: Vec<_> = self.policies.iter().filter(|(_, policy)| applies(policy)).collect();
        found.sort_by(|(a_name, a), (b_name, b)| a.order.total_cmp(&b.order).then_with(|| a_name.1.cmp(&b_name.1)));
        found
    }

    /// The endpoint's own labels over those of its profiles.
    pub(super) fn labels(&self, endpoint: &Endpoint) -> Labels {
        let mut labels = Labels::new();
        for profile in endpoint.profiles.iter().filter_map(|name| self.profiles.get(name)) {
            labels.extend(profile.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        labels.extend(endpoint.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
        labels
    }
}

/// Puts, changes or removes; tells whether anything is different now.
fn replace<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> bool {
    match value {
        None => map.remove(&key).is_some(),
        Some(value) if map.get(&key) == Some(&value) => false,
        Some(value) => {
            map.insert(key, value);
            true
        }
    }
}

fn difference(before: &PolicyTables, after: &PolicyTables) -> PolicyChanges {
    let mut changes = PolicyChanges::default();
    split(&before.endpoints, &after.endpoints, &mut changes.removed.endpoints, &mut changes.added.endpoints);
    split(&before.identities, &after.identities, &mut changes.removed.identities, &mut changes.added.identities);
    split(&before.ranges, &after.ranges, &mut changes.removed.ranges, &mut changes.added.ranges);
    changes.removed.allows = before.allows.difference(&after.allows).copied().collect();
    changes.added.allows = after.allows.difference(&before.allows).copied().collect();
    changes
}

fn split<K: Ord + Clone, V: PartialEq + Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    removed: &mut BTreeMap<K, V>,
    added: &mut BTreeMap<K, V>,
) {
    let gone = before.iter().filter(|(key, value)| after.get(key) != Some(value));
    removed.extend(gone.map(|(key, value)| (key.clone(), value.clone())));
    let new = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    added.extend(new.map(|(key, value)| (key.clone(), value.clone())));
}
