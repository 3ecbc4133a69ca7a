//! What the daemon knows of the cluster, as the datastore last told.

use std::collections::{BTreeMap, BTreeSet};

use margay_api::kinds::{
    BgpConfiguration, BgpConfigurationSpec, BgpPeer, BgpPeerSpec, IpPool, IpPoolSpec, NetworkPolicySpec, Node,
    NodeSpec, ProfileSpec, WorkloadEndpoint, WorkloadEndpointSpec,
};
use margay_api::{Object, RESOURCE_PREFIX, Spec, Stored};
use margay_datastore::{KeyValue, Revision};
use margay_felix_core::policy::PolicyCore;
use margay_ipam_core::{AffinityState, BlockAffinity, keys};
use margay_net::{Cidr, Family};

/// The prefixes that are watched, each a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Watched {
    Nodes,
    Pools,
    Peers,
    Configurations,
    Policies,
    Profiles,
    Endpoints,
    /// This node's block affinities.
    Affinities(Family),
}

impl Watched {
    pub(crate) const ALL: [Watched; 9] = [
        Watched::Nodes,
        Watched::Pools,
        Watched::Peers,
        Watched::Configurations,
        Watched::Policies,
        Watched::Profiles,
        Watched::Endpoints,
        Watched::Affinities(Family::V4),
        Watched::Affinities(Family::V6),
    ];

    pub(crate) fn prefix(self, node: &str) -> String {
        let resources = |plural: &str| format!("{RESOURCE_PREFIX}{plural}/");
        match self {
            Watched::Nodes => resources(NodeSpec::PLURAL),
            Watched::Pools => resources(IpPoolSpec::PLURAL),
            Watched::Peers => resources(BgpPeerSpec::PLURAL),
            Watched::Configurations => resources(BgpConfigurationSpec::PLURAL),
            Watched::Policies => resources(NetworkPolicySpec::PLURAL),
            Watched::Profiles => resources(ProfileSpec::PLURAL),
            Watched::Endpoints => resources(WorkloadEndpointSpec::PLURAL),
            Watched::Affinities(family) => keys::affinities(node, family),
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
}

/// The caches.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) node_name: String,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) pools: BTreeMap<String, IpPool>,
    pub(crate) peers: BTreeMap<String, BgpPeer>,
    pub(crate) configurations: BTreeMap<String, BgpConfiguration>,
    pub(crate) policies: BTreeSet<String>,
    pub(crate) profiles: BTreeSet<String>,
    /// This node's endpoints, each with the revision that it was last seen or written at.
    pub(crate) local_endpoints: BTreeMap<String, (Revision, WorkloadEndpoint)>,
    pub(crate) endpoints: BTreeSet<String>,
    pub(crate) own_blocks: BTreeSet<Cidr>,
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
            configurations: BTreeMap::new(),
            policies: BTreeSet::new(),
            profiles: BTreeSet::new(),
            local_endpoints: BTreeMap::new(),
            endpoints: BTreeSet::new(),
            own_blocks: BTreeSet::new(),
            policy: PolicyCore::new(node_name),
            invalid: BTreeMap::new(),
            dirty: Dirty::default(),
        }
    }

    pub(crate) fn node(&self) -> Option<&Node> {
        self.nodes.get(&self.node_name)
    }

    pub(crate) fn bgp_configuration(&self) -> BgpConfigurationSpec {
        self.configurations.get("default").map(|object| object.spec.clone()).unwrap_or_default()
    }

    /// Takes over a stored value.
    pub(crate) fn put(&mut self, watched: Watched, stored: &KeyValue) {
        let problem = match watched {
            Watched::Nodes => self.put_named(stored, |cluster| {
                cluster.dirty.bgp = true;
                cluster.dirty.node = true;
                &mut cluster.nodes
            }),
            Watched::Pools => self.put_named(stored, |cluster| {
                cluster.dirty.bgp = true;
                &mut cluster.pools
            }),
            Watched::Peers => self.put_named(stored, |cluster| {
                cluster.dirty.bgp = true;
                &mut cluster.peers
            }),
            Watched::Configurations => self.put_named(stored, |cluster| {
                cluster.dirty.bgp = true;
                &mut cluster.configurations
            }),
            Watched::Policies => self.read::<NetworkPolicySpec>(stored).map(|policy| {
                let namespace = policy.namespace().unwrap_or_default().to_owned();
                self.policy.update_policy(&namespace, policy.name(), Some(&policy));
                self.policies.insert(stored.key.clone());
            }),
            Watched::Profiles => self.read::<ProfileSpec>(stored).map(|profile| {
                self.policy.update_profile(profile.name(), Some(&profile));
                self.profiles.insert(profile.name().to_owned());
            }),
            Watched::Endpoints => {
                if self.is_outdated(&stored.key, stored.revision) {
                    return;
                }
                self.read::<WorkloadEndpointSpec>(stored).map(|endpoint| {
                    self.put_endpoint(&stored.key, stored.revision, endpoint);
                })
            }
            Watched::Affinities(_) => self.put_affinity(stored),
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
    pub(crate) fn delete(&mut self, watched: Watched, key: &str, revision: Option<Revision>) {
        self.invalid.remove(key);
        let name = key.rsplit('/').next().unwrap_or_default();
        match watched {
            Watched::Nodes => {
                self.nodes.remove(name);
                self.dirty.bgp = true;
                self.dirty.node = true;
            }
            Watched::Pools => {
                self.pools.remove(name);
                self.dirty.bgp = true;
            }
            Watched::Peers => {
                self.peers.remove(name);
                self.dirty.bgp = true;
            }
            Watched::Configurations => {
                self.configurations.remove(name);
                self.dirty.bgp = true;
            }
            Watched::Policies => {
                let namespace = key.rsplit('/').nth(1).unwrap_or_default();
                self.policy.update_policy(namespace, name, None);
                self.policies.remove(key);
            }
            Watched::Profiles => {
                self.policy.update_profile(name, None);
                self.profiles.remove(name);
            }
            Watched::Endpoints => {
                if revision.is_some_and(|revision| self.is_outdated(key, revision)) {
                    return;
                }
                self.delete_endpoint(key);
            }
            Watched::Affinities(_) => {
                if let Some(cidr) = keys::cidr_of(key) {
                    self.dirty.blocks |= self.own_blocks.remove(&cidr);
                }
            }
        }
    }

    /// Takes over an endpoint that the datastore holds at `revision`.
    pub(crate) fn put_endpoint(&mut self, key: &str, revision: Revision, endpoint: WorkloadEndpoint) {
        self.policy.update_endpoint(key, Some(&endpoint));
        self.endpoints.insert(key.to_owned());
        if endpoint.spec.node == self.node_name {
            let known = self.local_endpoints.insert(key.to_owned(), (revision, endpoint.clone()));
            if known.is_none_or(|(_, known)| known.spec != endpoint.spec) {
                self.dirty.endpoints.insert(key.to_owned());
            }
        } else if self.local_endpoints.remove(key).is_some() {
            self.dirty.endpoints.insert(key.to_owned());
        }
    }

    pub(crate) fn delete_endpoint(&mut self, key: &str) {
        self.policy.update_endpoint(key, None);
        self.endpoints.remove(key);
        if self.local_endpoints.remove(key).is_some() {
            self.dirty.endpoints.insert(key.to_owned());
        }
    }

    /// The daemon writes its own endpoints and applies them at once; the watch tells of them again, later.
    fn is_outdated(&self, key: &str, revision: Revision) -> bool {
        self.local_endpoints.get(key).is_some_and(|(known, _)| revision < *known)
    }

    fn put_affinity(&mut self, stored: &KeyValue) -> Result<(), String> {
        let affinity = BlockAffinity::decode(&stored.value).map_err(|error| error.to_string())?;
        let Some(cidr) = keys::cidr_of(&stored.key) else { return Err("the key does not end in a CIDR".to_owned()) };
        self.dirty.blocks |= match affinity.state {
            AffinityState::Confirmed => self.own_blocks.insert(cidr),
            AffinityState::Pending | AffinityState::PendingDeletion => self.own_blocks.remove(&cidr),
        };
        Ok(())
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
