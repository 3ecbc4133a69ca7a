//! What the daemon knows of the cluster, as the datastore last told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use margay_api::kinds::{
    BgpConfiguration, BgpConfigurationSpec, BgpFilter, BgpFilterSpec, BgpPeer, BgpPeerSpec, IpPool, IpPoolSpec,
    NetworkPolicySpec, Node, NodeSpec, Password, ProfileSpec, WorkloadEndpoint, WorkloadEndpointSpec,
};
use margay_api::kubernetes::{EndpointSlice, EndpointSliceSpec, Service, ServiceSpec};
use margay_api::{Object, Spec, Stored, resource_prefix};
use margay_datastore::{KeyValue, Revision};
use margay_felix_core::policy::PolicyCore;
use margay_ipam_core::{AffinityState, BlockAffinity, keys};
use margay_net::{Cidr, Family, PrefixMap};

/// The prefixes that are watched, each a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Watched {
    Nodes,
    Pools,
    Peers,
    Filters,
    Configurations,
    Services,
    Slices,
    Policies,
    Profiles,
    Endpoints,
    /// The block affinities of all nodes.
    Affinities,
}

impl Watched {
    pub(crate) const ALL: [Watched; 11] = [
        Watched::Nodes,
        Watched::Pools,
        Watched::Peers,
        Watched::Filters,
        Watched::Configurations,
        Watched::Services,
        Watched::Slices,
        Watched::Policies,
        Watched::Profiles,
        Watched::Endpoints,
        Watched::Affinities,
    ];

    pub(crate) fn prefix(self) -> String {
        match self {
            Watched::Nodes => resource_prefix::<NodeSpec>(),
            Watched::Pools => resource_prefix::<IpPoolSpec>(),
            Watched::Peers => resource_prefix::<BgpPeerSpec>(),
            Watched::Filters => resource_prefix::<BgpFilterSpec>(),
            Watched::Configurations => resource_prefix::<BgpConfigurationSpec>(),
            Watched::Services => resource_prefix::<ServiceSpec>(),
            Watched::Slices => resource_prefix::<EndpointSliceSpec>(),
            Watched::Policies => resource_prefix::<NetworkPolicySpec>(),
            Watched::Profiles => resource_prefix::<ProfileSpec>(),
            Watched::Endpoints => resource_prefix::<WorkloadEndpointSpec>(),
            Watched::Affinities => keys::HOSTS.to_owned(),
        }
    }
}

/// What has to be looked at after changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dirty {
    pub(crate) bgp: bool,
    pub(crate) blocks: bool,
    /// Keys of local endpoints.
    pub(crate) endpoints: BTreeSet<String>,
    pub(crate) node: bool,
    /// Policies or profiles: what of them can't be followed may be different.
    pub(crate) policies: bool,
    /// Who owns which part of the pools.
    pub(crate) owners: bool,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) node: Arc<str>,
    pub(crate) addresses: Box<[IpAddr]>,
}

/// A write of the daemon's own to an endpoint, applied at once. The watch, which is behind, tells of what was before it
/// and of the write itself; both are old news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Put(Revision),
    /// Gone; the value that was deleted was of this revision.
    Deleted(Revision),
}

/// The caches.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) node_name: String,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) pools: BTreeMap<String, IpPool>,
    pub(crate) peers: BTreeMap<String, BgpPeer>,
    pub(crate) filters: BTreeMap<String, BgpFilter>,
    pub(crate) configurations: BTreeMap<String, BgpConfiguration>,
    /// By key, as all that has a namespace.
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) slices: BTreeMap<String, EndpointSlice>,
    pub(crate) policies: BTreeSet<String>,
    pub(crate) profiles: Arc<BTreeSet<String>>,
    /// The revision of this node's resource as last seen; None where there is none.
    pub(crate) node_revision: Option<Revision>,
    /// This node's endpoints, each with the revision that it was last seen or written at.
    pub(crate) local_endpoints: BTreeMap<String, (Revision, WorkloadEndpoint)>,
    /// Every endpoint of the cluster.
    pub(crate) endpoints: BTreeMap<String, Place>,
    /// The node that each block is affine to.
    pub(crate) blocks: PrefixMap<Arc<str>>,
    /// The nodes' names, each held once.
    names: BTreeSet<Arc<str>>,
    /// What the daemon wrote itself and the watch has not told of yet.
    written: BTreeMap<String, Written>,
    pub(crate) own_blocks: Arc<BTreeSet<Cidr>>,
    pub(crate) policy: PolicyCore,
    /// What could not be read, by key: the last good value stays.
    pub(crate) invalid: BTreeMap<String, String>,
    pub(crate) dirty: Dirty,
}

impl Cluster {
    pub(crate) fn new(node_name: &str) -> Cluster {
        Cluster {
            node_name: node_name.to_owned(),
            nodes: BTreeMap::new(),
            pools: BTreeMap::new(),
            peers: BTreeMap::new(),
            filters: BTreeMap::new(),
            configurations: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            policies: BTreeSet::new(),
            profiles: Arc::default(),
            node_revision: None,
            local_endpoints: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            blocks: PrefixMap::new(),
            names: BTreeSet::new(),
            written: BTreeMap::new(),
            own_blocks: Arc::default(),
            policy: PolicyCore::new(node_name),
            invalid: BTreeMap::new(),
            dirty: Dirty::default(),
        }
    }

    pub(crate) fn node(&self) -> Option<&Node> {
        self.nodes.get(&self.node_name)
    }

    /// This node's addresses as its resource has them.
    pub(crate) fn node_addresses(&self) -> Vec<IpAddr> {
        let node = self.node();
        Family::ALL.iter().filter_map(|family| node.and_then(|node| node.spec.bgp_address(*family))).collect()
    }

    /// The names and keys of the secrets that resources name.
    pub(crate) fn secrets(&self) -> BTreeSet<(String, String)> {
        let peers = self.peers.values().filter_map(|peer| peer.spec.password.as_ref());
        let mesh = self.configurations.values().filter_map(|object| object.spec.node_mesh_password.as_ref());
        let named = |password: &Password| {
            let reference = password.secret_key_ref.as_ref()?;
            Some((reference.name.clone(), reference.key.clone()))
        };
        peers.chain(mesh).filter_map(named).collect()
    }

    /// Whether which local endpoints there are decides over sessions.
    fn peers_with_workloads(&self) -> bool {
        self.peers.values().any(|peer| !peer.spec.local_workload_selector.is_empty())
    }

    /// Takes over a stored value.
    pub(crate) fn put(&mut self, watched: Watched, stored: &KeyValue) {
        if watched == Watched::Nodes && name_in(&stored.key) == self.node_name {
            self.node_revision = Some(stored.revision);
        }
        let problem = match watched {
            Watched::Nodes => self.put_named(stored, |cluster| {
                cluster.dirty.bgp = true;
                cluster.dirty.node = true;
                cluster.dirty.owners = true;
                &mut cluster.nodes
            }),
            Watched::Pools => self.put_named(stored, |cluster| {
                cluster.dirty.bgp = true;
                cluster.dirty.owners = true;
                &mut cluster.pools
            }),
            Watched::Peers => self.put_named(stored, |cluster| {
                cluster.dirty.bgp = true;
                &mut cluster.peers
            }),
            Watched::Filters => self.put_named(stored, |cluster| {
                cluster.dirty.bgp = true;
                &mut cluster.filters
            }),
            Watched::Configurations => self.put_named(stored, |cluster| {
                cluster.dirty.bgp = true;
                cluster.dirty.owners = true;
                &mut cluster.configurations
            }),
            Watched::Services => self.read::<ServiceSpec>(stored).map(|service| {
                let before = self.services.insert(stored.key.clone(), service);
                self.dirty.bgp |= before.as_ref() != self.services.get(&stored.key);
            }),
            Watched::Slices => self.read::<EndpointSliceSpec>(stored).map(|slice| {
                let before = self.slices.insert(stored.key.clone(), slice);
                self.dirty.bgp |= before.as_ref() != self.slices.get(&stored.key);
            }),
            Watched::Policies => self.read::<NetworkPolicySpec>(stored).map(|policy| {
                self.dirty.policies = true;
                let namespace = policy.namespace().unwrap_or_default().to_owned();
                match unknown_rules(stored) {
                    None => self.policy.update_policy(&namespace, policy.name(), Some(&policy)),
                    Some(reason) => self.policy.refuse_policy(&namespace, policy.name(), &policy, &reason),
                }
                self.policies.insert(stored.key.clone());
            }),
            Watched::Profiles => self.read::<ProfileSpec>(stored).map(|profile| {
                self.dirty.policies = true;
                self.policy.update_profile(profile.name(), Some(&profile));
                Arc::make_mut(&mut self.profiles).insert(profile.name().to_owned());
            }),
            Watched::Endpoints => {
                if self.is_old_news(&stored.key, stored.revision) {
                    return;
                }
                self.read::<WorkloadEndpointSpec>(stored).map(|endpoint| {
                    self.set_endpoint(&stored.key, stored.revision, endpoint);
                })
            }
            Watched::Affinities => self.put_affinity(stored),
        };
        match problem {
            Ok(()) => {
                self.invalid.remove(&stored.key);
            }
            Err(reason) => {
                tracing::warn!(key = stored.key, reason, "a stored value is not valid; the last good one stays");
                self.invalid.insert(stored.key.clone(), reason);
            }
        }
    }

    /// Forgets a stored value that is gone.
    pub(crate) fn delete(&mut self, watched: Watched, key: &str, revision: Revision) {
        self.invalid.remove(key);
        let name = name_in(key);
        match watched {
            Watched::Nodes => {
                self.nodes.remove(name);
                if name == self.node_name {
                    self.node_revision = None;
                }
                self.dirty.bgp = true;
                self.dirty.node = true;
                self.dirty.owners = true;
            }
            Watched::Pools => {
                self.pools.remove(name);
                self.dirty.bgp = true;
                self.dirty.owners = true;
            }
            Watched::Peers => {
                self.peers.remove(name);
                self.dirty.bgp = true;
            }
            Watched::Filters => {
                self.filters.remove(name);
                self.dirty.bgp = true;
            }
            Watched::Configurations => {
                self.configurations.remove(name);
                self.dirty.bgp = true;
                self.dirty.owners = true;
            }
            Watched::Services => self.dirty.bgp |= self.services.remove(key).is_some(),
            Watched::Slices => self.dirty.bgp |= self.slices.remove(key).is_some(),
            Watched::Policies => {
                let namespace = key.rsplit('/').nth(1).unwrap_or_default();
                self.dirty.policies = true;
                self.policy.update_policy(namespace, name, None);
                self.policies.remove(key);
            }
            Watched::Profiles => {
                self.dirty.policies = true;
                self.policy.update_profile(name, None);
                Arc::make_mut(&mut self.profiles).remove(name);
            }
            Watched::Endpoints => {
                if !self.is_old_news(key, revision) {
                    self.forget_endpoint(key);
                }
            }
            Watched::Affinities => {
                if let Some((host, cidr)) = keys::host_of_affinity(key) {
                    self.forget_affinity(host, cidr);
                }
            }
        }
    }

    /// Takes over an endpoint that the daemon itself wrote at `revision`, before the watch tells of it.
    pub(crate) fn put_local(&mut self, key: &str, revision: Revision, endpoint: WorkloadEndpoint) {
        let overtaken = self
            .local_endpoints
            .get(key)
            .is_some_and(|(known, by)| *known > revision && by.spec.container_id == endpoint.spec.container_id);
        // Somebody changed the very same attachment since, and the watch was faster than this.
        if overtaken {
            return;
        }
        self.written.insert(key.to_owned(), Written::Put(revision));
        self.invalid.remove(key);
        self.set_endpoint(key, revision, endpoint);
    }

    /// Forgets an endpoint that the daemon itself deleted, unless it is another container's by now; returns the interface
    /// of what went. `deleted` is the revision of the value that was deleted, None where there was none.
    pub(crate) fn drop_local(&mut self, key: &str, container_id: &str, deleted: Option<Revision>) -> Option<String> {
        let known = self.local_endpoints.get(key);
        if known.is_some_and(|(_, endpoint)| endpoint.spec.container_id != container_id) {
            return None;
        }
        let interface = known.map(|(_, endpoint)| endpoint.spec.interface_name.clone());
        if let Some(last) = known.map(|(revision, _)| *revision).max(deleted) {
            self.written.insert(key.to_owned(), Written::Deleted(last));
        }
        self.forget_endpoint(key);
        interface
    }

    /// The keys of this node's endpoints of a container's interface.
    pub(crate) fn keys_of(&self, container_id: &str, interface: &str) -> BTreeSet<String> {
        let is_of = |spec: &WorkloadEndpointSpec| spec.container_id == container_id && spec.endpoint == interface;
        let local = self.local_endpoints.iter().filter(|(_, (_, endpoint))| is_of(&endpoint.spec));
        local.map(|(key, _)| key.clone()).collect()
    }

    fn set_endpoint(&mut self, key: &str, revision: Revision, endpoint: WorkloadEndpoint) {
        self.policy.update_endpoint(key, Some(&endpoint));
        let addresses = endpoint.spec.ip_networks.iter().map(|network| network.addr()).collect();
        let place = Place { node: self.name(&endpoint.spec.node), addresses };
        self.dirty.owners |= self.borrows(&place);
        if let Some(before) = self.endpoints.insert(key.to_owned(), place) {
            self.dirty.owners |= self.borrows(&before);
        }
        self.dirty.bgp |= self.peers_with_workloads()
            && (endpoint.spec.node == self.node_name || self.local_endpoints.contains_key(key));
        if endpoint.spec.node == self.node_name {
            let dirty = self.local_endpoints.get(key).is_none_or(|(_, known)| known.spec != endpoint.spec);
            self.local_endpoints.insert(key.to_owned(), (revision, endpoint));
            if dirty {
                self.dirty.endpoints.insert(key.to_owned());
            }
        } else if self.local_endpoints.remove(key).is_some() {
            self.dirty.endpoints.insert(key.to_owned());
        }
    }

    fn forget_endpoint(&mut self, key: &str) {
        self.policy.update_endpoint(key, None);
        if let Some(before) = self.endpoints.remove(key) {
            self.dirty.owners |= self.borrows(&before);
        }
        if self.local_endpoints.remove(key).is_some() {
            self.dirty.bgp |= self.peers_with_workloads();
            self.dirty.endpoints.insert(key.to_owned());
        }
    }

    /// Tells whether the watch speaks of the time before a write of the daemon's own, or of that write.
    fn is_old_news(&mut self, key: &str, revision: Revision) -> bool {
        match self.written.get(key) {
            Some(Written::Put(at)) if revision < *at => true,
            Some(Written::Deleted(at)) if revision <= *at => true,
            Some(Written::Put(at)) if revision == *at => {
                self.written.remove(key);
                true
            }
            Some(_) => {
                self.written.remove(key);
                false
            }
            None => false,
        }
    }

    fn put_affinity(&mut self, stored: &KeyValue) -> Result<(), String> {
        let affinity = BlockAffinity::decode(&stored.value).map_err(|error| error.to_string())?;
        let Some((host, cidr)) = keys::host_of_affinity(&stored.key) else {
            return Err("the key is none of a host's block".to_owned());
        };
        match affinity.state {
            AffinityState::Confirmed => {
                let host = self.name(host);
                if *host == *self.node_name {
                    self.dirty.blocks |= Arc::make_mut(&mut self.own_blocks).insert(cidr);
                }
                self.dirty.owners |= self.blocks.insert(cidr, host.clone()) != Some(host);
            }
            AffinityState::Pending | AffinityState::PendingDeletion => self.forget_affinity(host, cidr),
        }
        Ok(())
    }

    fn forget_affinity(&mut self, host: &str, cidr: Cidr) {
        if host == self.node_name {
            self.dirty.blocks |= Arc::make_mut(&mut self.own_blocks).remove(&cidr);
        }
        if self.blocks.exact(cidr).is_some_and(|known| **known == *host) {
            self.blocks.remove(cidr);
            self.dirty.owners = true;
        }
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        match self.names.get(name) {
            Some(known) => known.clone(),
            None => {
                let name: Arc<str> = name.into();
                self.names.insert(name.clone());
                name
            }
        }
    }

    /// Whether an endpoint has an address that is not of its node's own blocks, and so is that node's by itself.
    fn borrows(&self, place: &Place) -> bool {
        let home = |address: &IpAddr| self.blocks.lookup(*address).is_some_and(|(_, owner)| *owner == place.node);
        !place.addresses.iter().all(home)
    }

    fn put_named<S: Spec>(
        &mut self,
        stored: &KeyValue,
        field: impl FnOnce(&mut Cluster) -> &mut BTreeMap<String, Object<S>>,
    ) -> Result<(), String> {
        let object = self.read::<S>(stored)?;
        field(self).insert(object.name().to_owned(), object);
        Ok(())
    }

    fn read<S: Spec>(&self, stored: &KeyValue) -> Result<Object<S>, String> {
        let object = Stored::<S>::decode(&stored.key, &stored.value).map_err(|error| error.to_string())?.object;
        match object.problems().first() {
            None => Ok(object),
            Some(problem) => Err(problem.to_string()),
        }
    }
}

/// Says which parts of a policy are not known here: a rule without them would be wider than it was written.
fn unknown_rules(stored: &KeyValue) -> Option<String> {
    let policy = Stored::<NetworkPolicySpec>::decode(&stored.key, &stored.value).ok()?;
    let unknown: Vec<String> = policy.unknown_fields().filter(|field| field.starts_with("spec.")).collect();
    (!unknown.is_empty()).then(|| format!("it has fields that are not known here: {}", unknown.join(", ")))
}

/// The last part of a key: the object's name.
fn name_in(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
