//! The kinds that can be written and read, each with its names and columns.

use margay_api::kinds::{
    BgpConfigurationSpec, BgpPeerSpec, IpPoolSpec, NetworkPolicySpec, NodeSpec, ProfileSpec, WorkloadEndpointSpec,
};
use margay_api::{Document, DocumentError, Object, RESOURCE_PREFIX, Spec, Stored, kubernetes};
use margay_datastore::KeyValue;
use serde_json::Value;

use crate::{Failure, store};

/// What a document asks to be stored.
pub(crate) struct Prepared {
    pub(crate) kind: &'static str,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) key: String,
    /// The JSON to store over what is there.
    pub(crate) encode: Encoder,
}

type Encoder = Box<dyn Fn(Option<&KeyValue>) -> Result<Vec<u8>, Failure>>;
type Reader<T> = Box<dyn Fn(&KeyValue) -> Result<T, Failure>>;

/// A kind as it is stored and shown.
pub(crate) struct Kind {
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    /// Other names that people use.
    pub(crate) aliases: &'static [&'static str],
    pub(crate) namespaced: bool,
    pub(crate) header: &'static [&'static str],
    pub(crate) wide: &'static [&'static str],
    /// The cells of a row after name and namespace, the wide ones included.
    pub(crate) row: Reader<Vec<String>>,
    pub(crate) json: Reader<Value>,
}

impl Kind {
    pub(crate) fn prefix(&self) -> String {
        format!("{RESOURCE_PREFIX}{}/", self.plural)
    }
}

/// The kinds that `get` shows.
pub(crate) fn stored_kinds() -> Vec<Kind> {
    vec![
        kind::<BgpConfigurationSpec>(&["bgpconfig", "bgpconfigs"], &["MESH", "AS"], &["PORT"], |spec| {
            vec![spec.mesh_enabled().to_string(), spec.as_number().to_string(), spec.listen_port().to_string()]
        }),
        kind::<BgpPeerSpec>(&["bgppeer"], &["PEERIP", "NODES", "AS"], &["SOURCE"], |spec| {
            let nodes = match (spec.node.as_str(), spec.node_selector.as_str()) {
                ("", "") => "all()".to_owned(),
                ("", selector) => selector.to_owned(),
                (node, _) => node.to_owned(),
            };
            let asn = spec.as_number.map(|asn| asn.to_string()).unwrap_or_default();
            let source = spec.source_address.map(|source| format!("{source:?}")).unwrap_or_default();
            let peer = if spec.peer_ip.is_empty() { spec.peer_selector.clone() } else { spec.peer_ip.clone() };
            vec![peer, nodes, asn, source]
        }),
        kind::<IpPoolSpec>(&["ippool", "pool", "pools"], &["CIDR", "BLOCKSIZE", "SELECTOR"], &["DISABLED"], |spec| {
            let selector = if spec.node_selector.is_empty() { "all()" } else { &spec.node_selector };
            let block_size = spec.block_size().to_string();
            vec![spec.cidr.to_string(), block_size, selector.to_owned(), spec.disabled.to_string()]
        }),
        kind::<NodeSpec>(&["node", "no"], &["AS", "IPV4"], &["IPV6"], |spec| {
            let bgp = spec.bgp.clone().unwrap_or_default();
            let asn = bgp.as_number.map(|asn| asn.to_string()).unwrap_or_default();
            vec![asn, bgp.ipv4_address.unwrap_or_default(), bgp.ipv6_address.unwrap_or_default()]
        }),
        kind::<NetworkPolicySpec>(&["networkpolicy", "policy", "np"], &["SELECTOR", "TYPES"], &["ORDER"], |spec| {
            let types: Vec<String> = spec.types().iter().map(|kind| format!("{kind:?}")).collect();
            let order = spec.order.map(|order| order.to_string()).unwrap_or_default();
            vec![spec.selector.clone(), types.join(","), order]
        }),
        kind::<ProfileSpec>(&["profile"], &["LABELS"], &[], |spec| {
            let labels: Vec<String> =
                spec.labels_to_apply.iter().map(|(key, value)| format!("{key}={value}")).collect();
            vec![labels.join(",")]
        }),
        kind::<WorkloadEndpointSpec>(
            &["workloadendpoint", "wep", "weps"],
            &["POD", "NODE", "NETWORKS"],
            &["INTERFACE"],
            |spec| {
                let networks: Vec<String> = spec.ip_networks.iter().map(ToString::to_string).collect();
                vec![spec.pod.clone(), spec.node.clone(), networks.join(","), spec.interface_name.clone()]
            },
        ),
    ]
}

fn kind<S: Spec>(
    aliases: &'static [&'static str],
    header: &'static [&'static str],
    wide: &'static [&'static str],
    cells: fn(&S) -> Vec<String>,
) -> Kind {
    Kind {
        kind: S::KIND,
        plural: S::PLURAL,
        aliases,
        namespaced: S::NAMESPACED,
        header,
        wide,
        row: Box::new(move |stored| Ok(cells(&store::decode::<S>(stored)?.object.spec))),
        json: Box::new(|stored| {
            serde_json::to_value(store::decode::<S>(stored)?).map_err(|error| Failure::Failed(error.to_string()))
        }),
    }
}

/// The kind that people mean by a word: plural, kind or alias, in any case.
pub(crate) fn find(word: &str) -> Result<Kind, Failure> {
    let word = word.to_ascii_lowercase();
    let known = stored_kinds();
    let names = known.iter().map(|kind| kind.plural).collect::<Vec<_>>().join(", ");
    known
        .into_iter()
        .find(|kind| {
            kind.plural == word || kind.kind.to_ascii_lowercase() == word || kind.aliases.contains(&word.as_str())
        })
        .ok_or_else(|| Failure::Usage(format!("there is no kind '{word}'; known are {names}")))
}

/// Reads a document as the kind it says it is. Kubernetes kinds become what Calico's controllers store for them.
pub(crate) fn prepare(document: &Document, namespace: Option<&str>) -> Result<Prepared, DocumentError> {
    match (document.api_version.as_str(), document.kind.as_str()) {
        ("projectcalico.org/v3", "BGPConfiguration") => prepared::<BgpConfigurationSpec>(document, namespace),
        ("projectcalico.org/v3", "BGPPeer") => prepared::<BgpPeerSpec>(document, namespace),
        ("projectcalico.org/v3", "IPPool") => prepared::<IpPoolSpec>(document, namespace),
        ("projectcalico.org/v3", "Node") => prepared::<NodeSpec>(document, namespace),
        ("projectcalico.org/v3", "NetworkPolicy") => prepared::<NetworkPolicySpec>(document, namespace),
        ("projectcalico.org/v3", "Profile") => prepared::<ProfileSpec>(document, namespace),
        ("projectcalico.org/v3", "WorkloadEndpoint") => prepared::<WorkloadEndpointSpec>(document, namespace),
        ("networking.k8s.io/v1", "NetworkPolicy") => {
            let policy = placed::<kubernetes::NetworkPolicySpec>(document, namespace)?;
            Ok(stored_as("NetworkPolicy", &policy, kubernetes::network_policy(&policy)))
        }
        ("v1", "Namespace") => {
            let namespace = document.object::<kubernetes::NamespaceSpec>()?;
            Ok(stored_as("Namespace", &namespace, kubernetes::namespace_profile(&namespace)))
        }
        ("v1", "ServiceAccount") => {
            let account = placed::<kubernetes::ServiceAccountSpec>(document, namespace)?;
            Ok(stored_as("ServiceAccount", &account, kubernetes::service_account_profile(&account)))
        }
        (api_version, kind) => Err(DocumentError::Nowhere(format!(
            "{api_version} {kind} is not a kind that Margay stores; it takes projectcalico.org/v3 BGPConfiguration, BGPPeer, \
             IPPool, Node, NetworkPolicy, Profile, WorkloadEndpoint, networking.k8s.io/v1 NetworkPolicy, v1 Namespace and \
             v1 ServiceAccount"
        ))),
    }
}

/// Reads a namespaced object and puts it where the command line says, unless it says so itself.
fn placed<S: Spec>(document: &Document, namespace: Option<&str>) -> Result<Object<S>, DocumentError> {
    let mut object = document.object::<S>()?;
    if S::NAMESPACED {
        object.metadata.namespace.get_or_insert_with(|| namespace.unwrap_or("default").to_owned());
    }
    Ok(object)
}

fn prepared<S: Spec>(document: &Document, namespace: Option<&str>) -> Result<Prepared, DocumentError> {
    let object = placed::<S>(document, namespace)?;
    Ok(stored_as(S::KIND, &object.clone(), object))
}

/// `shown` is the object as its author knows it, `stored` what goes to the datastore.
fn stored_as<A: Spec, S: Spec>(kind: &'static str, shown: &Object<A>, stored: Object<S>) -> Prepared {
    Prepared {
        kind,
        namespace: shown.namespace().map(str::to_owned),
        name: shown.name().to_owned(),
        key: stored.key(),
        encode: Box::new(move |present| encode(&stored, present)),
    }
}

/// The JSON to store: over what is there, its identity, status and unknown fields stay.
fn encode<S: Spec>(object: &Object<S>, present: Option<&KeyValue>) -> Result<Vec<u8>, Failure> {
    let mut object = object.clone();
    let Some(present) = present else {
        object.metadata.uid = Some(uuid::Uuid::new_v4().to_string());
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
        object.metadata.creation_timestamp = Some(now.to_string());
        return Ok(Stored::new(object).encode());
    };
    let stored = store::decode::<S>(present)?;
    if let Some(problem) = object.spec.validate_change(&stored.object.spec) {
        return Err(Failure::Failed(format!("{}/{}: {problem}", S::KIND, object.name())));
    }
    object.metadata.uid = stored.object.metadata.uid.clone();
    object.metadata.creation_timestamp = stored.object.metadata.creation_timestamp.clone();
    object.status = stored.object.status.clone();
    Ok(stored.with(object).encode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use margay_api::parse_documents;

    fn prepared_key(text: &str, namespace: Option<&str>) -> Result<String, DocumentError> {
        prepare(&parse_documents(text)?[0], namespace).map(|prepared| prepared.key)
    }

    #[test]
    fn kubernetes_objects_are_stored_as_calicos_controllers_do() {
        let policy =
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: db}\nspec: {podSelector: {}}\n";
        assert_eq!(
            prepared_key(policy, Some("shop")).as_deref(),
            Ok("/calico/resources/v3/projectcalico.org/networkpolicies/shop/knp.default.db")
        );
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n";
        assert_eq!(
            prepared_key(namespace, None).as_deref(),
            Ok("/calico/resources/v3/projectcalico.org/profiles/kns.shop")
        );
    }

    #[test]
    fn an_unknown_kind_names_the_known_ones() {
        let error = prepared_key("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", None).expect_err("no pods");
        assert!(error.to_string().contains("v1 Pod is not a kind that Margay stores"), "{error}");
        assert!(find("BGPPeers").is_ok() && find("np").is_ok() && find("nonsense").is_err());
    }
}
