//! Known endpoints, and the shapes that they share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use margay_api::kinds::WorkloadEndpoint;
use margay_api::selector::NAMESPACE_LABEL;
use slab::Slab;
use smallvec::SmallVec;

use super::labels::{LabelIndex, PairId, ShapeId};
use super::profiles::{ProfileId, Profiles};
use super::rules::SERVICE_ACCOUNT_LABEL;
use super::{ProgramId, sets::SetId};

pub(super) type EndpointId = u32;
pub(super) type PolicyId = u32;

/// Calico's label for what manages the endpoint: `k8s` for pods.
const ORCHESTRATOR_LABEL: &str = "projectcalico.org/orchestrator";

#[derive(Debug, Default)]
pub(super) struct Endpoints {
    all: Slab<Endpoint>,
    by_key: HashMap<Arc<str>, EndpointId>,
    /// Mostly one; more while an address changes hands.
    owners: HashMap<IpAddr, SmallVec<[EndpointId; 2]>>,
    /// Local endpoints by interface and key; the first of an interface counts.
    pub(super) interfaces: BTreeMap<String, BTreeMap<Arc<str>, EndpointId>>,
    nodes: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) key: Arc<str>,
    pub(super) pod: Box<str>,
    pub(super) node: Arc<str>,
    pub(super) shape: ShapeId,
    pub(super) addresses: Box<[IpAddr]>,
    pub(super) local: Option<Box<Local>>,
}

/// What an endpoint of this node has.
#[derive(Debug, Default)]
pub(super) struct Local {
    pub(super) interface: String,
    pub(super) programs: [Option<ProgramId>; 2],
}

impl Endpoints {
    pub(super) fn find(&self, key: &str) -> Option<EndpointId> {
        self.by_key.get(key).copied()
    }

    pub(super) fn endpoint(&self, id: EndpointId) -> &Endpoint {
        &self.all[id as usize]
    }

    pub(super) fn local_mut(&mut self, id: EndpointId) -> Option<&mut Local> {
        self.all.get_mut(id as usize)?.local.as_deref_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (EndpointId, &Endpoint)> {
        self.all.iter().map(|(id, endpoint)| (id as EndpointId, endpoint))
    }

    pub(super) fn owners(&self, address: IpAddr) -> &[EndpointId] {
        self.owners.get(&address).map_or(&[], |owners| owners)
    }

    /// Tells whether an endpoint is local and the first that names its interface.
    pub(super) fn has_interface(&self, id: EndpointId) -> bool {
        let interface = self.endpoint(id).local.as_ref().and_then(|local| self.interfaces.get(&local.interface));
        interface.is_some_and(|named| named.values().next() == Some(&id))
    }

    /// The shared copy of a node's name.
    pub(super) fn node_name(&mut self, node: &str) -> Arc<str> {
        if let Some(known) = self.nodes.get(node) {
            return known.clone();
        }
        let name: Arc<str> = node.into();
        self.nodes.insert(name.clone());
        name
    }

    pub(super) fn insert(&mut self, endpoint: Endpoint) -> EndpointId {
        let key = endpoint.key.clone();
        let id = self.all.insert(endpoint) as EndpointId;
        self.by_key.insert(key, id);
        self.link(id);
        id
    }

    /// Puts another value for an endpoint of the same key, and returns the earlier one.
    pub(super) fn replace(&mut self, id: EndpointId, endpoint: Endpoint) -> Endpoint {
        self.unlink(id);
        let before = std::mem::replace(&mut self.all[id as usize], endpoint);
        self.link(id);
        self.forget_node_without(&before);
        before
    }

    pub(super) fn remove(&mut self, id: EndpointId) -> Endpoint {
        self.unlink(id);
        let endpoint = self.all.remove(id as usize);
        self.by_key.remove(&endpoint.key);
        self.forget_node_without(&endpoint);
        endpoint
    }

    /// Drops the shared copy of a node's name where an endpoint that is gone was the last to use it.
    fn forget_node_without(&mut self, gone: &Endpoint) {
        if Arc::strong_count(&gone.node) == 2 {
            self.nodes.remove(&gone.node);
        }
    }

    fn link(&mut self, id: EndpointId) {
        let endpoint = &self.all[id as usize];
        for address in &endpoint.addresses {
            self.owners.entry(*address).or_default().push(id);
        }
        if let Some(local) = &endpoint.local {
            self.interfaces.entry(local.interface.clone()).or_default().insert(endpoint.key.clone(), id);
        }
    }

    fn unlink(&mut self, id: EndpointId) {
        let endpoint = &self.all[id as usize];
        for address in &endpoint.addresses {
            if let Some(owners) = self.owners.get_mut(address) {
                owners.retain(|owner| *owner != id);
                if owners.is_empty() {
                    self.owners.remove(address);
                }
            }
        }
        if let Some(local) = &endpoint.local
            && let Some(of_interface) = self.interfaces.get_mut(&local.interface)
        {
            of_interface.remove(&endpoint.key);
            if of_interface.is_empty() {
                self.interfaces.remove(&local.interface);
            }
        }
    }
}

/// A port that a workload declares by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NamedPort {
    pub(super) name: Box<str>,
    pub(super) protocol: u8,
    pub(super) port: u16,
}

/// All of an endpoint that selectors and named ports can tell apart.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ShapeKey {
    /// The endpoint's own labels.
    own: Box<[PairId]>,
    pub(super) profiles: Box<[ProfileId]>,
    pub(super) ports: Box<[NamedPort]>,
}

impl ShapeKey {
    /// The numbers, ascending, that a name of a port stands for.
    pub(super) fn numbers(&self, name: &str, protocol: u8) -> Vec<u16> {
        // The ports are in order of name, protocol and number.
        self.ports
            .iter()
            .filter(|port| *port.name == *name && port.protocol == protocol)
            .map(|port| port.port)
            .collect()
    }
}

#[derive(Debug)]
pub(super) struct Shape {
    pub(super) key: Arc<ShapeKey>,
    /// Own and inherited labels.
    pub(super) labels: Box<[PairId]>,
    pub(super) endpoints: BTreeSet<EndpointId>,
    pub(super) locals: usize,
    /// The active selectors that match.
    pub(super) set: SetId,
    /// The policies that select it, where some endpoint is local.
    pub(super) policies: BTreeSet<PolicyId>,
}

#[derive(Debug, Default)]
pub(super) struct Shapes {
    all: Slab<Shape>,
    by_key: HashMap<Arc<ShapeKey>, ShapeId>,
}

impl Shapes {
    pub(super) fn shape(&self, id: ShapeId) -> &Shape {
        &self.all[id as usize]
    }

    pub(super) fn shape_mut(&mut self, id: ShapeId) -> &mut Shape {
        &mut self.all[id as usize]
    }

    pub(super) fn ids(&self) -> Vec<ShapeId> {
        self.all.iter().map(|(id, _)| id as ShapeId).collect()
    }

    /// The shape of an endpoint, and whether it is new: then it has no labels yet.
    pub(super) fn of(
        &mut self,
        object: &WorkloadEndpoint,
        labels: &mut LabelIndex,
        profiles: &mut Profiles,
    ) -> (ShapeId, bool) {
        let key = shape_key(object, labels, profiles);
        if let Some(id) = self.by_key.get(&key) {
            key.own.iter().for_each(|pair| labels.release(*pair));
            return (*id, false);
        }
        let key = Arc::new(key);
        let shape = Shape {
            key: key.clone(),
            labels: Box::default(),
            endpoints: BTreeSet::new(),
            locals: 0,
            set: SetId::EMPTY,
            policies: BTreeSet::new(),
        };
        let id = self.all.insert(shape) as ShapeId;
        for profile in &key.profiles {
            profiles.profile_mut(*profile).shapes.insert(id);
        }
        self.by_key.insert(key, id);
        (id, true)
    }

    /// Own labels and those of the profiles, an own one and an earlier profile's first, in order of key.
    pub(super) fn inherited(&self, id: ShapeId, labels: &LabelIndex, profiles: &Profiles) -> Box<[PairId]> {
        let key = &self.shape(id).key;
        let of_profiles = key.profiles.iter().flat_map(|profile| profiles.profile(*profile).labels());
        let mut all: Vec<PairId> = key.own.iter().chain(of_profiles).copied().collect();
        // The sort is stable, so that of equal keys the first to come stays.
        all.sort_by(|a, b| labels.label(*a).0.cmp(labels.label(*b).0));
        all.dedup_by(|later, kept| labels.label(*later).0 == labels.label(*kept).0);
        all.into()
    }

    /// Forgets a shape without endpoints.
    pub(super) fn remove(&mut self, id: ShapeId, labels: &mut LabelIndex, profiles: &mut Profiles) {
        let shape = self.all.remove(id as usize);
        self.by_key.remove(&shape.key);
        labels.remove_shape(&shape.labels, id);
        shape.key.own.iter().for_each(|pair| labels.release(*pair));
        for profile in &shape.key.profiles {
            profiles.profile_mut(*profile).shapes.remove(&id);
            profiles.drop_if_unused(*profile);
        }
    }
}

fn shape_key(object: &WorkloadEndpoint, labels: &mut LabelIndex, profiles: &mut Profiles) -> ShapeKey {
    let spec = &object.spec;
    let mut own: BTreeMap<&str, &str> =
        object.metadata.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    // Calico sets these over whatever the object says, so that no pod can claim another's namespace.
    own.insert(NAMESPACE_LABEL, object.namespace().unwrap_or("default"));
    for (key, value) in [(ORCHESTRATOR_LABEL, &spec.orchestrator), (SERVICE_ACCOUNT_LABEL, &spec.service_account_name)]
    {
        if !value.is_empty() {
            own.insert(key, value);
        }
    }
    let mut ports: Vec<NamedPort> = spec
        .ports
        .iter()
        .filter(|port| !port.name.is_empty())
        .map(|port| NamedPort { name: port.name.as_str().into(), protocol: port.protocol.number(), port: port.port })
        .collect();
    ports.sort();
    ports.dedup();
    let mut named = Vec::new();
    for id in spec.profiles.iter().map(|name| profiles.id(name)) {
        if !named.contains(&id) {
            named.push(id);
        }
    }
    ShapeKey {
        own: own.into_iter().map(|(key, value)| labels.acquire(key, value)).collect(),
        profiles: named.into(),
        ports: ports.into(),
    }
}
