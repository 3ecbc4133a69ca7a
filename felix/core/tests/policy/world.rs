//! The resources of a cluster, and shorthand to write them.

use std::collections::BTreeMap;

use margay_api::kinds::{
    NetworkPolicy, NetworkPolicySpec, Profile, ProfileSpec, WorkloadEndpoint, WorkloadEndpointPort,
    WorkloadEndpointSpec,
};
use margay_api::kubernetes::{self, NamespaceSpec};
use margay_api::{Labels, Object, parse_documents};
use margay_felix_core::policy::{Direction, PolicyChanges, PolicyCore, PolicyTables};

use crate::oracle::{self, Connection};
use crate::tables;

/// The node whose tables are compiled.
pub(crate) const NODE: &str = "n1";

/// What is in the datastore.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) endpoints: BTreeMap<String, WorkloadEndpoint>,
    pub(crate) policies: BTreeMap<(String, String), NetworkPolicy>,
    pub(crate) profiles: BTreeMap<String, Profile>,
}

/// A world together with a compiler that hears of every change, and the kernel's copy of the tables.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) core: PolicyCore,
    pub(crate) kernel: PolicyTables,
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// An endpoint of a pod `NAMESPACE/NAME`, without labels or ports.
pub(crate) fn pod(node: &str, pod: &str, addresses: &[&str]) -> WorkloadEndpoint {
    let (namespace, name) = pod.split_once('/').unwrap();
    let spec = WorkloadEndpointSpec {
        orchestrator: "k8s".into(),
        node: node.into(),
        pod: name.into(),
        endpoint: "eth0".into(),
        ip_networks: addresses.iter().map(|address| address.parse::<std::net::IpAddr>().unwrap().into()).collect(),
        profiles: vec![format!("kns.{namespace}")],
        interface_name: format!("cali-{namespace}-{name}"),
        ..WorkloadEndpointSpec::default()
    };
    Object::namespaced(namespace, format!("{node}-k8s-{name}-eth0"), spec)
}

pub(crate) fn port(name: &str, protocol: &str, port: u16) -> WorkloadEndpointPort {
    WorkloadEndpointPort {
        name: name.into(),
        protocol: protocol.parse().unwrap(),
        port,
        host_port: None,
        host_ip: None,
    }
}

impl World {
    /// A compiler that heard of everything in order of key.
    pub(crate) fn compiled(&self) -> PolicyCore {
        let mut core = PolicyCore::new(NODE);
        self.profiles.iter().for_each(|(name, profile)| core.update_profile(name, Some(profile)));
        self.policies.iter().for_each(|((ns, name), policy)| core.update_policy(ns, name, Some(policy)));
        self.endpoints.iter().for_each(|(key, endpoint)| core.update_endpoint(key, Some(endpoint)));
        core
    }
}

impl Default for Cluster {
    fn default() -> Self {
        let core = PolicyCore::new(NODE);
        Cluster { world: World::default(), core, kernel: PolicyTables::default() }
    }
}

impl Cluster {
    /// A cluster of namespaces, each with labels.
    pub(crate) fn with_namespaces(namespaces: &[(&str, &[(&str, &str)])]) -> Cluster {
        let mut cluster = Cluster::default();
        for (name, pairs) in namespaces {
            cluster.namespace(name, pairs);
        }
        cluster
    }

    pub(crate) fn namespace(&mut self, name: &str, pairs: &[(&str, &str)]) -> PolicyChanges {
        let mut namespace = Object::named(name, NamespaceSpec::default());
        namespace.metadata.labels = labels(pairs);
        let profile = kubernetes::namespace_profile(&namespace);
        self.put_profile(profile.name().to_owned().as_str(), Some(profile))
    }

    /// A pod of this node with labels.
    pub(crate) fn local(&mut self, name: &str, addresses: &[&str], pairs: &[(&str, &str)]) -> PolicyChanges {
        self.pod(NODE, name, addresses, pairs)
    }

    /// A pod of another node with labels.
    pub(crate) fn remote(&mut self, name: &str, addresses: &[&str], pairs: &[(&str, &str)]) -> PolicyChanges {
        self.pod("n2", name, addresses, pairs)
    }

    pub(crate) fn pod(&mut self, node: &str, name: &str, addresses: &[&str], pairs: &[(&str, &str)]) -> PolicyChanges {
        let mut endpoint = pod(node, name, addresses);
        endpoint.metadata.labels = labels(pairs);
        self.put_endpoint(name, Some(endpoint))
    }

    pub(crate) fn pod_with_ports(
        &mut self,
        node: &str,
        name: &str,
        addresses: &[&str],
        pairs: &[(&str, &str)],
        ports: &[(&str, &str, u16)],
    ) -> PolicyChanges {
        let mut endpoint = pod(node, name, addresses);
        endpoint.metadata.labels = labels(pairs);
        endpoint.spec.ports = ports.iter().map(|(name, protocol, number)| port(name, protocol, *number)).collect();
        self.put_endpoint(name, Some(endpoint))
    }

    pub(crate) fn delete_pod(&mut self, name: &str) -> PolicyChanges {
        self.put_endpoint(name, None)
    }

    /// A Kubernetes NetworkPolicy `NAMESPACE/NAME` with this specification in YAML, as it is stored.
    pub(crate) fn kubernetes(&mut self, name: &str, spec: &str) -> PolicyChanges {
        let (namespace, name) = name.split_once('/').unwrap();
        let text = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
        );
        let policy = parse_documents(&text).unwrap()[0].object::<kubernetes::NetworkPolicySpec>().unwrap();
        let stored = kubernetes::network_policy(&policy);
        self.put_policy(namespace, stored.name().to_owned().as_str(), Some(stored))
    }

    /// A Calico NetworkPolicy `NAMESPACE/NAME` with this specification in YAML.
    pub(crate) fn calico(&mut self, name: &str, spec: &str) -> PolicyChanges {
        let (namespace, name) = name.split_once('/').unwrap();
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
        );
        let policy = parse_documents(&text).unwrap()[0].object::<NetworkPolicySpec>().unwrap();
        self.put_policy(namespace, name, Some(policy))
    }

    /// A profile with this specification in YAML.
    pub(crate) fn profile(&mut self, name: &str, spec: &str) -> PolicyChanges {
        let text =
            format!("apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {{name: {name}}}\nspec: {spec}\n");
        let profile = parse_documents(&text).unwrap()[0].object::<ProfileSpec>().unwrap();
        self.put_profile(name, Some(profile))
    }

    pub(crate) fn put_endpoint(&mut self, key: &str, endpoint: Option<WorkloadEndpoint>) -> PolicyChanges {
        self.core.update_endpoint(key, endpoint.as_ref());
        put(&mut self.world.endpoints, key.to_owned(), endpoint);
        self.hand_over()
    }

    pub(crate) fn put_policy(&mut self, namespace: &str, name: &str, policy: Option<NetworkPolicy>) -> PolicyChanges {
        self.core.update_policy(namespace, name, policy.as_ref());
        put(&mut self.world.policies, (namespace.to_owned(), name.to_owned()), policy);
        self.hand_over()
    }

    pub(crate) fn put_profile(&mut self, name: &str, profile: Option<Profile>) -> PolicyChanges {
        self.core.update_profile(name, profile.as_ref());
        put(&mut self.world.profiles, name.to_owned(), profile);
        self.hand_over()
    }

    fn hand_over(&mut self) -> PolicyChanges {
        let changes = self.core.changes();
        tables::fold(&mut self.kernel, &changes);
        assert_eq!(&self.kernel, self.core.tables(), "the changes lead to the tables");
        changes
    }

    /// Judges a connection of a local pod, by tables and oracle, which must agree.
    pub(crate) fn judge(&self, pod: &str, connection: Connection) -> bool {
        let endpoint = &self.world.endpoints[pod];
        let expected = oracle::allows(&self.world, endpoint, &connection);
        let found = tables::allows(&self.kernel, &endpoint.spec.interface_name, &connection);
        assert_eq!(found, expected, "{pod} {connection:?}: the tables say {found}");
        found
    }

    /// Tells whether a local pod may be reached from an address.
    pub(crate) fn ingress(&self, pod: &str, peer: &str, protocol: &str, port: u16) -> bool {
        self.judge(pod, connection(Direction::Ingress, peer, protocol, port))
    }

    /// Tells whether a local pod may reach an address.
    pub(crate) fn egress(&self, pod: &str, peer: &str, protocol: &str, port: u16) -> bool {
        self.judge(pod, connection(Direction::Egress, peer, protocol, port))
    }
}

pub(crate) fn connection(direction: Direction, peer: &str, protocol: &str, port: u16) -> Connection {
    let protocol = protocol.parse::<margay_api::kinds::Protocol>().unwrap().number();
    Connection { direction, peer: peer.parse().unwrap(), protocol, port }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}
