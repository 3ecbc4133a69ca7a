//! Takes in resources and keeps the tables up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use margay_api::kinds::{NetworkPolicy, NetworkPolicySpec, Profile, ProfileSpec, WorkloadEndpoint};
use slab::Slab;

use super::changelog::Changelog;
use super::drafts::ProgramKey;
use super::endpoints::{Endpoint, EndpointId, Endpoints, Local, PolicyId, Shapes};
use super::identities::Identities;
use super::labels::{LabelIndex, ShapeId, Watcher};
use super::matchers::Matchers;
use super::profiles::{KnownProfile, Profiles};
use super::programs::Programs;
use super::rules::{DIRECTIONS, ParsedPolicy, parse_policy, parse_profile, slot};
use super::sets::FactSets;
use super::{Direction, EndpointPrograms, IdentityId, PolicyChanges, PolicyTables, ProgramId};

/// Compiles policies, profiles and endpoints to the tables that a node's kernel evaluates, one update at a time.
///
/// In come the resources of the whole cluster (`update_*`, in any order; an update that changes nothing costs
/// nothing), out come [`tables`](Self::tables), the whole desired state, and [`changes`](Self::changes), what is
/// different since it was last asked. [`explain`](Self::explain) says why a connection passes or not.
///
/// The semantics are Calico's, of NetworkPolicies in the default tier: policies of the endpoint's namespace that select
/// it, by order and name; the first rule that matches decides; what none matches is dropped. Where no policy applies,
/// or a rule says Pass, the endpoint's profiles decide likewise. What can't be expressed fails closed for the pods of
/// that policy only, and is listed in [`problems`](Self::problems).
///
/// An address that several endpoints claim counts as all of them.
#[derive(Debug)]
pub struct PolicyCore {
    node: String,
    pub(super) labels: LabelIndex,
    pub(super) shapes: Shapes,
    pub(super) endpoints: Endpoints,
    pub(super) profiles: Profiles,
    policies: Slab<Policy>,
    by_name: BTreeMap<(String, String), PolicyId>,
    pub(super) matchers: Matchers,
    pub(super) selector_sets: FactSets,
    pub(super) net_sets: FactSets,
    pub(super) identities: Identities,
    pub(super) programs: Programs,
    pub(super) log: Changelog,
    /// Programs and identities whose allows may be out of date.
    pub(super) pairs: BTreeSet<(ProgramId, IdentityId)>,
    /// Local endpoints whose programs may be.
    unsettled: BTreeSet<EndpointId>,
    /// Interfaces whose entry may be.
    interfaces: BTreeSet<String>,
    /// Shapes that lost an endpoint and may have none left.
    fading: BTreeSet<ShapeId>,
    /// The last version of rules that was given out; 0 is a profile that isn't known.
    version: u64,
}

#[derive(Debug)]
pub(super) struct Policy {
    pub(super) namespace: String,
    pub(super) name: String,
    spec: NetworkPolicySpec,
    /// Why its rules can't be relied on.
    refused: Option<String>,
    pub(super) parsed: ParsedPolicy,
    pub(super) version: u64,
    /// The shapes with local endpoints that it selects.
    shapes: BTreeSet<ShapeId>,
}

impl Policy {
    fn order(&self) -> f64 {
        if self.parsed.first {
            return f64::NEG_INFINITY;
        }
        // Minus zero is zero.
        self.spec.order.map_or(f64::INFINITY, |order| order + 0.0)
    }
}

/// Something in a policy or profile that can't be done as it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyProblem {
    /// `NAMESPACE/POLICY`, or a profile's name.
    pub resource: String,
    /// What is wrong, and what is done instead.
    pub problem: String,
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resource, self.problem)
    }
}

impl PolicyCore {
    /// A compiler for the endpoints of that node.
    pub fn new(node: &str) -> PolicyCore {
        PolicyCore {
            node: node.to_owned(),
            labels: LabelIndex::default(),
            shapes: Shapes::default(),
            endpoints: Endpoints::default(),
            profiles: Profiles::default(),
            policies: Slab::new(),
            by_name: BTreeMap::new(),
            matchers: Matchers::default(),
            selector_sets: FactSets::default(),
            net_sets: FactSets::default(),
            identities: Identities::default(),
            programs: Programs::default(),
            log: Changelog::default(),
            pairs: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            interfaces: BTreeSet::new(),
            fading: BTreeSet::new(),
            version: 0,
        }
    }

    /// Takes over an endpoint of any node, or that the key has none any more.
    pub fn update_endpoint(&mut self, key: &str, endpoint: Option<&WorkloadEndpoint>) {
        match (self.endpoints.find(key), endpoint) {
            (None, None) => return,
            (Some(id), None) => self.remove_endpoint(id),
            (known, Some(object)) => self.put_endpoint(key, known, object),
        }
        self.settle();
    }

    /// Takes over a policy, or that there is none of that name.
    pub fn update_policy(&mut self, namespace: &str, name: &str, policy: Option<&NetworkPolicy>) {
        self.put_policy(namespace, name, policy, None);
    }

    /// Takes over a policy whose rules can't be relied on, such as one with fields that aren't known.
    ///
    /// It fails closed: it isolates the pods that it selects, allows nothing, and denies everything where it has a
    /// rule that denies or passes. [`problems`](Self::problems) lists it with the reason.
    pub fn refuse_policy(&mut self, namespace: &str, name: &str, policy: &NetworkPolicy, reason: &str) {
        self.put_policy(namespace, name, Some(policy), Some(reason));
    }

    fn put_policy(&mut self, namespace: &str, name: &str, policy: Option<&NetworkPolicy>, refused: Option<&str>) {
        let key = (namespace.to_owned(), name.to_owned());
        let known = self.by_name.get(&key).copied();
        let before =
            known.map(|id| &self.policies[id as usize]).map(|policy| (&policy.spec, policy.refused.as_deref()));
        if before == policy.map(|policy| (&policy.spec, refused)) {
            return;
        }
        if let Some(id) = known {
            self.labels.unwatch(Watcher::Policy(id));
            self.by_name.remove(&key);
            for shape in self.policies.remove(id as usize).shapes {
                self.shapes.shape_mut(shape).policies.remove(&id);
                self.unsettle(shape);
            }
        }
        if let Some(policy) = policy {
            self.version += 1;
            let parsed = parse_policy(namespace, &policy.spec, refused);
            let id = self.policies.insert(Policy {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                spec: policy.spec.clone(),
                refused: refused.map(str::to_owned),
                parsed,
                version: self.version,
                shapes: BTreeSet::new(),
            }) as PolicyId;
            self.by_name.insert(key, id);
            let selector = &self.policies[id as usize].parsed.selector;
            self.labels.watch(Watcher::Policy(id), selector);
            let candidates =
                self.labels.shapes(selector).map_or_else(|| self.shapes.ids(), |s| s.into_iter().collect());
            let selected = candidates.into_iter().filter(|shape| {
                let shape = self.shapes.shape(*shape);
                shape.locals > 0 && self.labels.matches(selector, &shape.labels)
            });
            let selected: BTreeSet<ShapeId> = selected.collect();
            for shape in &selected {
                self.shapes.shape_mut(*shape).policies.insert(id);
                self.unsettle(*shape);
            }
            self.policies[id as usize].shapes = selected;
        }
        self.settle();
    }

    /// Takes over a profile, or that there is none of that name.
    pub fn update_profile(&mut self, name: &str, profile: Option<&Profile>) {
        let id = self.profiles.id(name);
        let known = self.profiles.profile(id).known.as_ref().map(|known| &known.spec);
        if known == profile.map(|profile| &profile.spec) {
            self.profiles.drop_if_unused(id);
            return;
        }
        let known = profile.map(|profile| self.parse_profile(&profile.spec, self.profiles.profile(id).known.as_ref()));
        let known = known.map(|(spec, version)| {
            let labels = spec.labels_to_apply.iter().map(|(key, value)| self.labels.acquire(key, value)).collect();
            let (blocks, problems) = parse_profile(&spec);
            KnownProfile { spec, labels, blocks, problems, version }
        });
        self.version = self.version.max(known.as_ref().map_or(0, |known| known.version));
        let before = std::mem::replace(&mut self.profiles.profile_mut(id).known, known);
        let shapes: Vec<ShapeId> = self.profiles.profile(id).shapes.iter().copied().collect();
        if before.as_ref().map_or(&[][..], |known| &known.labels) != self.profiles.profile(id).labels() {
            self.relabel(&shapes);
        }
        shapes.into_iter().for_each(|shape| self.unsettle(shape));
        for pair in before.iter().flat_map(|known| known.labels.iter()) {
            self.labels.release(*pair);
        }
        self.profiles.drop_if_unused(id);
        self.settle();
    }

    /// The difference since the last call; empty if there is none.
    pub fn changes(&mut self) -> PolicyChanges {
        self.identities.hand_over();
        self.programs.hand_over();
        self.log.take()
    }

    /// The whole desired state.
    pub fn tables(&self) -> &PolicyTables {
        self.log.tables()
    }

    /// What can't be done as it is written, and fails closed.
    pub fn problems(&self) -> Vec<PolicyProblem> {
        let mut out = Vec::new();
        for policy in self.by_name.values().map(|id| &self.policies[*id as usize]) {
            let resource = format!("{}/{}", policy.namespace, policy.name);
            let mut push = |problem| out.push(PolicyProblem { resource: resource.clone(), problem });
            policy.parsed.problems.iter().cloned().for_each(&mut push);
            for direction in DIRECTIONS {
                let rules = policy.parsed.blocks[slot(direction)].iter().flat_map(|block| &block.rules);
                for rule in rules.filter(|rule| rule.local.nets.is_some()) {
                    let mut endpoints = policy.shapes.iter().flat_map(|shape| &self.shapes.shape(*shape).endpoints);
                    let split = endpoints.find(|endpoint| self.view(rule, direction, **endpoint).closed);
                    if let Some(endpoint) = split {
                        let (pod, number) = (&self.endpoints.endpoint(*endpoint).pod, rule.index + 1);
                        push(format!(
                            "rule {number}: nets that hold some of the addresses of pod {pod} only are not supported; it fails closed there"
                        ));
                    }
                }
            }
        }
        for profile in self.profiles.iter() {
            let problems = profile.known.iter().flat_map(|known| &known.problems);
            out.extend(
                problems.map(|problem| PolicyProblem { resource: profile.name.to_string(), problem: problem.clone() }),
            );
        }
        out.sort();
        out
    }

    /// Policies in the order in which they are evaluated.
    pub(super) fn in_order(&self, ids: impl Iterator<Item = PolicyId>) -> Vec<&Policy> {
        let mut policies: Vec<&Policy> = ids.map(|id| &self.policies[id as usize]).collect();
        policies.sort_by(|a, b| a.order().total_cmp(&b.order()).then_with(|| a.name.cmp(&b.name)));
        policies
    }

    /// The policies of a namespace.
    pub(super) fn policies_of(&self, namespace: &str) -> impl Iterator<Item = (PolicyId, &Policy)> {
        self.by_name
            .range((namespace.to_owned(), String::new())..)
            .take_while(move |((of, _), _)| of == namespace)
            .map(|(_, id)| (*id, &self.policies[*id as usize]))
    }

    fn parse_profile(&self, spec: &ProfileSpec, before: Option<&KnownProfile>) -> (ProfileSpec, u64) {
        let same = before.filter(|known| (&known.spec.ingress, &known.spec.egress) == (&spec.ingress, &spec.egress));
        (spec.clone(), same.map_or(self.version + 1, |known| known.version))
    }

    fn put_endpoint(&mut self, key: &str, known: Option<EndpointId>, object: &WorkloadEndpoint) {
        let spec = &object.spec;
        let (shape, new) = self.shapes.of(object, &mut self.labels, &mut self.profiles);
        if new {
            self.relabel(&[shape]);
        }
        let addresses: BTreeSet<IpAddr> = spec.ip_networks.iter().map(|network| network.addr()).collect();
        let is_local = spec.node == self.node && !spec.interface_name.is_empty();
        let interface = is_local.then_some(spec.interface_name.as_str());
        let pod = if spec.pod.is_empty() { object.name() } else { &spec.pod };
        if let Some(id) = known {
            let endpoint = self.endpoints.endpoint(id);
            let same = endpoint.shape == shape
                && endpoint.addresses.iter().eq(&addresses)
                && endpoint.local.as_ref().map(|local| local.interface.as_str()) == interface
                && *endpoint.pod == *pod
                && *endpoint.node == *spec.node;
            if same {
                return;
            }
        }
        let local = interface.map(|interface| Local { interface: interface.to_owned(), programs: [None; 2] });
        let mut endpoint = Endpoint {
            key: key.into(),
            pod: pod.into(),
            node: self.endpoints.node_name(&spec.node),
            shape,
            addresses: addresses.iter().copied().collect(),
            local: local.map(Box::new),
        };
        let (id, before) = match known {
            None => (self.endpoints.insert(endpoint), None),
            Some(id) => {
                endpoint.key = self.endpoints.endpoint(id).key.clone();
                let mut before = self.endpoints.replace(id, endpoint);
                match (self.endpoints.local_mut(id), &mut before.local) {
                    (Some(after), Some(before)) => after.programs = std::mem::take(&mut before.programs),
                    (None, Some(before)) => self.leave_programs(id, before),
                    (_, None) => {}
                }
                (id, Some(before))
            }
        };
        // The new shape first: its policies stay in force without a gap.
        let entered = self.shapes.shape_mut(shape);
        entered.endpoints.insert(id);
        if is_local {
            entered.locals += 1;
            if entered.locals == 1 {
                self.select_policies(shape);
            }
        }
        if let Some(before) = &before {
            self.leave_shape(before, before.shape != shape, id);
        }
        if let Some(local) = before.as_ref().and_then(|before| before.local.as_deref()) {
            self.interface_changed(&local.interface);
        }
        if let Some(interface) = interface {
            self.interface_changed(interface);
        }
        let claimed = before.iter().flat_map(|before| before.addresses.iter().copied()).chain(addresses);
        claimed.collect::<BTreeSet<IpAddr>>().into_iter().for_each(|address| self.claims_changed(address));
    }

    fn remove_endpoint(&mut self, id: EndpointId) {
        let mut before = self.endpoints.remove(id);
        self.unsettled.remove(&id);
        self.leave_shape(&before, true, id);
        if let Some(local) = &mut before.local {
            self.interface_changed(&local.interface);
            self.leave_programs(id, local);
        }
        before.addresses.iter().for_each(|address| self.claims_changed(*address));
    }

    /// Notes an interface and all endpoints that name it: which of them is the first may be another.
    fn interface_changed(&mut self, interface: &str) {
        self.unsettled.extend(self.endpoints.interfaces.get(interface).into_iter().flat_map(|named| named.values()));
        self.interfaces.insert(interface.to_owned());
    }

    fn leave_shape(&mut self, before: &Endpoint, gone: bool, id: EndpointId) {
        let shape = self.shapes.shape_mut(before.shape);
        if gone {
            shape.endpoints.remove(&id);
            self.fading.insert(before.shape);
        }
        if before.local.is_some() {
            shape.locals -= 1;
            if shape.locals == 0 {
                for policy in std::mem::take(&mut shape.policies) {
                    self.policies[policy as usize].shapes.remove(&before.shape);
                }
            }
        }
    }

    fn leave_programs(&mut self, id: EndpointId, local: &Local) {
        local.programs.iter().flatten().for_each(|program| self.programs.remove_endpoint(*program, id));
    }

    /// Works out anew which policies select a shape.
    fn select_policies(&mut self, id: ShapeId) {
        let shape = self.shapes.shape(id);
        let watchers = if shape.locals > 0 { self.labels.watchers(&shape.labels) } else { BTreeSet::new() };
        let selecting = watchers.into_iter().filter_map(|watcher| match watcher {
            Watcher::Policy(policy) => {
                let selector = &self.policies[policy as usize].parsed.selector;
                self.labels.matches(selector, &shape.labels).then_some(policy)
            }
            Watcher::Matcher(_) => None,
        });
        let selecting: BTreeSet<PolicyId> = selecting.collect();
        let before = std::mem::replace(&mut self.shapes.shape_mut(id).policies, selecting.clone());
        for policy in before.difference(&selecting) {
            self.policies[*policy as usize].shapes.remove(&id);
        }
        for policy in selecting.difference(&before) {
            self.policies[*policy as usize].shapes.insert(id);
        }
    }

    /// Works out anew what labels shapes have, and all that follows from it.
    fn relabel(&mut self, shapes: &[ShapeId]) {
        for id in shapes {
            let labels = self.shapes.inherited(*id, &self.labels, &self.profiles);
            self.labels.add_shape(&labels, *id);
            let before = std::mem::replace(&mut self.shapes.shape_mut(*id).labels, labels);
            let after = &self.shapes.shape(*id).labels;
            let dropped: Vec<_> = before.iter().filter(|pair| !after.contains(pair)).copied().collect();
            self.labels.remove_shape(&dropped, *id);
            self.select_policies(*id);
        }
        let moves = shapes.iter().map(|id| (*id, self.facts(*id))).collect();
        self.set_facts(moves);
    }

    fn unsettle(&mut self, shape: ShapeId) {
        let endpoints = self.shapes.shape(shape).endpoints.iter();
        let local = endpoints.filter(|endpoint| self.endpoints.endpoint(**endpoint).local.is_some());
        self.unsettled.extend(local);
    }

    /// Brings the tables up to date with all that was noted.
    fn settle(&mut self) {
        for id in std::mem::take(&mut self.fading) {
            let shape = self.shapes.shape(id);
            if shape.endpoints.is_empty() {
                self.selector_sets.remove_shape(shape.set, id);
                self.shapes.remove(id, &mut self.labels, &mut self.profiles);
            }
        }
        self.settle_programs();
        self.collect_programs();
        self.collect_matchers();
        self.settle_shared();
        self.collect_identities();
        self.settle_allows();
        self.settle_interfaces();
    }

    fn settle_programs(&mut self) {
        let mut moves: Vec<(EndpointId, Direction, Option<ProgramKey>)> = Vec::new();
        let mut leaving: BTreeMap<ProgramId, Vec<usize>> = BTreeMap::new();
        for id in std::mem::take(&mut self.unsettled) {
            for direction in DIRECTIONS {
                let key = self.program_key(id, direction);
                let current = self.program_of(id, direction);
                if current.and_then(|current| self.programs.key(current)) != key.as_ref() {
                    if let Some(current) = current {
                        leaving.entry(current).or_default().push(moves.len());
                    }
                    moves.push((id, direction, key));
                }
            }
        }
        let mut renamed = BTreeSet::new();
        for (program, leavers) in leaving {
            let (like, _, key) = &moves[leavers[0]];
            let Some(key) = key.as_ref().filter(|key| self.programs.find(key).is_none()) else { continue };
            // Where all of a program's endpoints go to the same new one, the program itself changes.
            if leavers.len() == self.programs.endpoint_count(program)
                && leavers.iter().all(|index| moves[*index].2.as_ref() == Some(key))
            {
                self.rename_program(program, key.clone(), *like);
                renamed.extend(leavers);
            }
        }
        for (index, (id, direction, key)) in moves.into_iter().enumerate() {
            if renamed.contains(&index) {
                continue;
            }
            let after = key.map(|key| match self.programs.find(&key) {
                Some(program) => program,
                None => self.create_program(key, id),
            });
            if let Some(program) = after {
                self.programs.add_endpoint(program, id);
            }
            if let Some(local) = self.endpoints.local_mut(id) {
                self.interfaces.insert(local.interface.clone());
                let before = std::mem::replace(&mut local.programs[slot(direction)], after);
                if let Some(before) = before {
                    self.programs.remove_endpoint(before, id);
                }
            }
        }
    }

    fn program_of(&self, id: EndpointId, direction: Direction) -> Option<ProgramId> {
        self.endpoints.endpoint(id).local.as_ref().and_then(|local| local.programs[slot(direction)])
    }

    fn settle_interfaces(&mut self) {
        for interface in std::mem::take(&mut self.interfaces) {
            let first = self.endpoints.interfaces.get(&interface).and_then(|of_interface| of_interface.values().next());
            let programs = first.map(|id| EndpointPrograms {
                addresses: self.endpoints.endpoint(*id).addresses.iter().copied().collect(),
                ingress: self.program_of(*id, Direction::Ingress),
                egress: self.program_of(*id, Direction::Egress),
            });
            self.log.set_endpoint(&interface, programs);
        }
    }
}
