//! The kinds that can be written and read, each with its names and columns.

use margay_api::kinds::{
    AdminState, BgpConfigurationSpec, BgpFilterSpec, BgpPeerSpec, CalicoNodeStatusSpec, IpPool, IpPoolSpec,
    NetworkPolicySpec, NodeSpec, NodeStatusReport, ProfileSpec, WorkloadEndpointSpec,
};
use margay_api::kubernetes::{EndpointSlice, EndpointSliceDocument, EndpointSliceSpec, Service, ServiceSpec};
use margay_api::{Document, DocumentError, Object, Spec, Stored, kubernetes};
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
    /// The pool, if it is one: it must overlap with no other.
    pub(crate) pool: Option<IpPool>,
}

type Encoder = Box<dyn Fn(Option<&KeyValue>) -> Result<Vec<u8>, Failure>>;
type Reader<T> = Box<dyn Fn(&KeyValue) -> Result<T, Failure>>;

/// A kind as it is stored and shown.
pub(crate) struct Kind {
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    /// What the keys of its objects begin with.
    pub(crate) prefix: String,
    /// Other names that people use.
    pub(crate) aliases: &'static [&'static str],
    pub(crate) namespaced: bool,
    pub(crate) header: &'static [&'static str],
    pub(crate) wide: &'static [&'static str],
    /// The cells of a row after name and namespace, the wide ones included.
    pub(crate) row: Reader<Vec<String>>,
    pub(crate) json: Reader<Value>,
}

/// The kinds that `get` shows.
pub(crate) fn stored_kinds() -> Vec<Kind> {
    vec![
        kind::<BgpConfigurationSpec>(
            &["bgpconfig", "bgpconfigs"],
            &["MESH", "AS"],
            &["PORT", "CLUSTERIPS", "EXTERNALIPS", "LOADBALANCERIPS"],
            |spec| {
                let mut cells =
                    vec![spec.mesh_enabled().to_string(), spec.as_number().to_string(), spec.listen_port().to_string()];
                for ranges in [&spec.service_cluster_ips, &spec.service_external_ips, &spec.service_load_balancer_ips] {
                    let shown: Vec<String> = ranges.iter().filter_map(|range| Some(range.cidr?.to_string())).collect();
                    cells.push(shown.join(","));
                }
                cells
            },
        ),
        Kind {
            row: Box::new(|stored| {
                let object = store::decode::<CalicoNodeStatusSpec>(stored)?.object;
                let report = object.status.and_then(|json| serde_json::from_value::<NodeStatusReport>(json).ok());
                let report = report.unwrap_or_default();
                let classes: Vec<String> = object.spec.classes.iter().map(|class| format!("{class:?}")).collect();
                let established = report.bgp.number_established_v4 + report.bgp.number_established_v6;
                let other = report.bgp.number_not_established_v4 + report.bgp.number_not_established_v6;
                let sessions = format!("{established}/{}", established + other);
                Ok(vec![object.spec.node, classes.join(","), sessions, report.last_updated])
            }),
            ..kind::<CalicoNodeStatusSpec>(
                &["caliconodestatus"],
                &["NODE", "CLASSES", "ESTABLISHED"],
                &["UPDATED"],
                |_| Vec::new(),
            )
        },
        Kind {
            row: Box::new(|stored| Ok(service_cells(&store::decode::<ServiceSpec>(stored)?.object))),
            ..kind::<ServiceSpec>(
                &["service", "svc"],
                &["TYPE", "CLUSTERIPS", "EXTERNAL"],
                &["LOADBALANCER", "TRAFFICPOLICY"],
                |_| Vec::new(),
            )
        },
        Kind {
            row: Box::new(|stored| Ok(slice_cells(&store::decode::<EndpointSliceSpec>(stored)?.object))),
            json: Box::new(|stored| {
                let slice = EndpointSliceDocument::from(store::decode::<EndpointSliceSpec>(stored)?.object);
                serde_json::to_value(slice).map_err(|error| Failure::Failed(error.to_string()))
            }),
            ..kind::<EndpointSliceSpec>(
                &["endpointslice"],
                &["SERVICE", "ENDPOINTS", "READY"],
                &["TYPE", "NODES"],
                |_| Vec::new(),
            )
        },
        kind::<BgpFilterSpec>(
            &["bgpfilter"],
            &["IMPORTV4", "EXPORTV4", "IMPORTV6", "EXPORTV6"],
            &["COMMUNITIES", "ASPATHS"],
            |spec| {
                let lists = [&spec.import_v4, &spec.export_v4, &spec.import_v6, &spec.export_v6];
                let rules = || lists.iter().flat_map(|list| list.iter());
                let communities = rules().filter(|rule| rule.communities.is_some()).count();
                let paths = rules().filter(|rule| !rule.as_path_prefix.is_empty()).count();
                let lengths = lists.iter().map(|list| list.len());
                lengths.chain([communities, paths]).map(|count| count.to_string()).collect()
            },
        ),
        kind::<BgpPeerSpec>(&["bgppeer"], &["PEER", "NODES", "AS"], PEER_WIDE, |spec| {
            let nodes = match (spec.node.as_str(), spec.node_selector.as_str()) {
                ("", "") => "all()".to_owned(),
                ("", selector) => selector.to_owned(),
                (node, _) => node.to_owned(),
            };
            let asn = spec.as_number.map(|asn| asn.to_string()).unwrap_or_default();
            let source = spec.source_address.map(|source| format!("{source:?}")).unwrap_or_default();
            let peer = [&spec.peer_ip, &spec.peer_selector, &spec.local_workload_selector];
            let peer = peer.into_iter().find(|text| !text.is_empty()).cloned().unwrap_or_default();
            let admin = if spec.admin_state == Some(AdminState::Down) { "Down" } else { "Up" };
            let bfd = spec.bfd.as_ref().filter(|bfd| bfd.is_enabled());
            let bfd = bfd.map(|bfd| format!("{:?}x{}", bfd.min_tx(), bfd.multiplier())).unwrap_or_default();
            let hold = spec.hold_time.clone().unwrap_or_default();
            vec![
                peer,
                nodes,
                asn,
                admin.to_owned(),
                source,
                bfd,
                hold,
                spec.filters.join(","),
                spec.description.clone(),
            ]
        }),
        kind::<IpPoolSpec>(&["ippool", "pool", "pools"], &["CIDR", "BLOCKSIZE", "SELECTOR"], POOL_WIDE, |spec| {
            let selector = if spec.node_selector.is_empty() { "all()" } else { &spec.node_selector };
            let block_size = spec.block_size().to_string();
            let uses =
                if spec.allowed_uses.is_empty() { "Workload,Tunnel".to_owned() } else { spec.allowed_uses.join(",") };
            let exported = (!spec.disable_bgp_export).to_string();
            vec![spec.cidr.to_string(), block_size, selector.to_owned(), spec.disabled.to_string(), exported, uses]
        }),
        kind::<NodeSpec>(&["node", "no"], &["AS", "IPV4"], &["IPV6", "CLUSTERID", "DRAIN"], |spec| {
            let bgp = spec.bgp.clone().unwrap_or_default();
            let asn = bgp.as_number.map(|asn| asn.to_string()).unwrap_or_default();
            let cluster_id = bgp.route_reflector_cluster_id.unwrap_or_default();
            let addresses = [bgp.ipv4_address.unwrap_or_default(), bgp.ipv6_address.unwrap_or_default()];
            let [v4, v6] = addresses;
            vec![asn, v4, v6, cluster_id, spec.drain.to_string()]
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

const PEER_WIDE: &[&str] = &["ADMIN", "SOURCE", "BFD", "HOLDTIME", "FILTERS", "DESCRIPTION"];
const POOL_WIDE: &[&str] = &["DISABLED", "EXPORTED", "USES"];

fn service_cells(service: &Service) -> Vec<String> {
    let spec = &service.spec;
    let shown =
        |addresses: Vec<std::net::IpAddr>| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let policy = if spec.is_local() { "Local" } else { "Cluster" };
    vec![
        format!("{:?}", spec.kind()),
        shown(spec.cluster_addresses()),
        spec.external_ips.join(","),
        shown(kubernetes::load_balancer_addresses(service)),
        policy.to_owned(),
    ]
}

fn slice_cells(slice: &EndpointSlice) -> Vec<String> {
    let endpoints = &slice.spec.endpoints;
    let ready = endpoints.iter().filter(|endpoint| endpoint.is_ready()).count();
    let nodes: std::collections::BTreeSet<&str> =
        endpoints.iter().filter_map(|endpoint| endpoint.node_name.as_deref()).collect();
    vec![
        slice.metadata.labels.get(kubernetes::SERVICE_NAME_LABEL).cloned().unwrap_or_default(),
        endpoints.len().to_string(),
        ready.to_string(),
        format!("{:?}", slice.spec.address_type),
        nodes.into_iter().collect::<Vec<_>>().join(","),
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
        prefix: margay_api::resource_prefix::<S>(),
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
        ("projectcalico.org/v3", "BGPFilter") => prepared::<BgpFilterSpec>(document, namespace),
        ("projectcalico.org/v3", "CalicoNodeStatus") => prepared::<CalicoNodeStatusSpec>(document, namespace),
        ("projectcalico.org/v3", "BGPPeer") => prepared::<BgpPeerSpec>(document, namespace),
        ("projectcalico.org/v3", "IPPool") => {
            let pool = document.object::<IpPoolSpec>()?;
            Ok(Prepared { pool: Some(pool.clone()), ..stored_as(IpPoolSpec::KIND, &pool.clone(), pool) })
        }
        ("projectcalico.org/v3", "Node") => prepared::<NodeSpec>(document, namespace),
        ("projectcalico.org/v3", "NetworkPolicy") => prepared::<NetworkPolicySpec>(document, namespace),
        ("projectcalico.org/v3", "Profile") => prepared::<ProfileSpec>(document, namespace),
        ("projectcalico.org/v3", "WorkloadEndpoint") => prepared::<WorkloadEndpointSpec>(document, namespace),
        ("networking.k8s.io/v1", "NetworkPolicy") => {
            let policy = placed::<kubernetes::NetworkPolicySpec>(document, namespace)?;
            Ok(stored_as("NetworkPolicy", &policy, kubernetes::network_policy(&policy)))
        }
        ("v1", "Service") => prepared::<ServiceSpec>(document, namespace),
        ("discovery.k8s.io/v1", "EndpointSlice") => {
            let mut slice = EndpointSlice::from(document.strict::<EndpointSliceDocument>()?);
            if let Some(problem) = slice.problems().first() {
                return Err(document.problem(problem));
            }
            slice.metadata.namespace.get_or_insert_with(|| namespace.unwrap_or("default").to_owned());
            Ok(stored_as(EndpointSliceSpec::KIND, &slice.clone(), slice))
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
            "{api_version} {kind} is not a kind that Margay stores; it takes projectcalico.org/v3 BGPConfiguration, BGPFilter, \
             BGPPeer, CalicoNodeStatus, IPPool, Node, NetworkPolicy, Profile, WorkloadEndpoint, networking.k8s.io/v1 \
             NetworkPolicy, discovery.k8s.io/v1 EndpointSlice, v1 Namespace, v1 Service and v1 ServiceAccount"
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
        pool: None,
        encode: Box::new(move |present| encode(&stored, present)),
    }
}

/// The JSON to store: over what is there, its identity, status and unknown fields stay. A status that others write is
/// not taken from the author, who may have copied it with the rest.
fn encode<S: Spec>(object: &Object<S>, present: Option<&KeyValue>) -> Result<Vec<u8>, Failure> {
    let mut object = object.clone();
    let Some(present) = present else {
        if !S::STATUS_IS_AUTHORED {
            object.status = None;
        }
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
    if !S::STATUS_IS_AUTHORED || object.status.is_none() {
        object.status.clone_from(&stored.object.status);
    }
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
    fn every_kind_that_is_shown_has_cells_for_its_columns() {
        let objects = [
            ("bgpfilter", "projectcalico.org/v3", "BGPFilter", "spec: {importV4: [{action: Reject}]}"),
            (
                "bgppeer",
                "projectcalico.org/v3",
                "BGPPeer",
                "spec: {peerIP: 10.0.0.1, asNumber: 1, bfd: {minTx: 100ms}}",
            ),
            (
                "bgpconfig",
                "projectcalico.org/v3",
                "BGPConfiguration",
                "spec: {serviceClusterIPs: [{cidr: 10.96.0.0/12}]}",
            ),
            ("caliconodestatus", "projectcalico.org/v3", "CalicoNodeStatus", "spec: {node: n1, classes: [BGP]}"),
            ("pool", "projectcalico.org/v3", "IPPool", "spec: {cidr: 10.65.0.0/16}"),
            ("node", "projectcalico.org/v3", "Node", "spec: {drain: true}"),
            ("svc", "v1", "Service", "spec: {clusterIP: 10.96.0.1, externalTrafficPolicy: Local}"),
            (
                "endpointslice",
                "discovery.k8s.io/v1",
                "EndpointSlice",
                "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]",
            ),
        ];
        for (word, api_version, kind_name, rest) in objects {
            let text = format!(
                "apiVersion: {api_version}\nkind: {kind_name}\nmetadata: {{name: default, labels: {{kubernetes.io/service-name: web}}}}\n{rest}\n"
            );
            let prepared = prepare(&parse_documents(&text).expect("YAML")[0], None).expect(kind_name);
            let value = (prepared.encode)(None).map_err(|error| error.message().to_owned()).expect("JSON");
            let stored = KeyValue { key: prepared.key, value, revision: margay_datastore::Revision::new(1) };
            let kind = find(word).map_err(|error| error.message().to_owned()).expect(word);
            assert!(stored.key.starts_with(&kind.prefix), "{}", stored.key);
            let row = (kind.row)(&stored).map_err(|error| error.message().to_owned()).expect("a row");
            assert_eq!(row.len(), kind.header.len() + kind.wide.len(), "{word}: {row:?}");
            // What `get -o yaml` prints is taken back as it is.
            let json = (kind.json)(&stored).map_err(|error| error.message().to_owned()).expect("JSON");
            let again = prepare(&parse_documents(&json.to_string()).expect("YAML")[0], None).expect(kind_name);
            let value = (again.encode)(Some(&stored)).map_err(|error| error.message().to_owned()).expect("JSON");
            assert_eq!(String::from_utf8(value), String::from_utf8(stored.value), "{word}");
        }
    }

    #[test]
    fn fields_of_our_own_are_stored_in_an_annotation_and_shown_as_fields() {
        let text = "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 10.0.0.1, \
                    asNumber: 65001, holdTime: 9s}\n";
        let prepared = prepare(&parse_documents(text).expect("YAML")[0], None).expect("a peer");
        let value = (prepared.encode)(None).map_err(|error| error.message().to_owned()).expect("JSON");
        let raw: Value = serde_json::from_slice(&value).expect("JSON");
        assert_eq!(raw["metadata"]["annotations"]["margay.io/spec"], r#"{"holdTime":"9s"}"#);
        let stored = KeyValue { key: prepared.key, value, revision: margay_datastore::Revision::new(1) };
        let kind = find("bgppeer").map_err(|error| error.message().to_owned()).expect("a kind");
        let shown = (kind.json)(&stored).map_err(|error| error.message().to_owned()).expect("JSON");
        assert_eq!(shown["spec"]["holdTime"], "9s");
        assert!(shown["metadata"].get("annotations").is_none(), "{shown}");
    }

    #[test]
    fn the_status_of_a_service_is_its_authors() {
        let service = |status: &str| {
            let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{}}\n{status}");
            prepare(&parse_documents(&text).expect("YAML")[0], None).expect("a service")
        };
        let first = service("status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}\n");
        let value = (first.encode)(None).map_err(|error| error.message().to_owned()).expect("JSON");
        let stored = KeyValue { key: first.key, value, revision: margay_datastore::Revision::new(1) };
        for (status, ip) in [("", "192.0.2.1"), ("status: {loadBalancer: {ingress: [{ip: 192.0.2.2}]}}\n", "192.0.2.2")]
        {
            let value = (service(status).encode)(Some(&stored)).map_err(|error| error.message().to_owned());
            let json: Value = serde_json::from_slice(&value.expect("JSON")).expect("JSON");
            assert_eq!(json["status"]["loadBalancer"]["ingress"][0]["ip"], ip);
        }
    }

    #[test]
    fn the_status_of_a_peer_is_never_its_authors() {
        let peer = |status: &str| {
            let text = format!(
                "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{name: tor}}\nspec: {{peerIP: 10.0.0.1, \
                 asNumber: 65001}}\n{status}"
            );
            prepare(&parse_documents(&text).expect("YAML")[0], None).expect("a peer")
        };
        let copied = "status: {conditions: [{type: ResolvedRefs, status: 'False', reason: FilterNotFound}]}\n";
        let first = peer(copied);
        let value = (first.encode)(None).map_err(|error| error.message().to_owned()).expect("JSON");
        let json: Value = serde_json::from_slice(&value).expect("JSON");
        assert!(json.get("status").is_none(), "{json}");
        let stored = KeyValue { key: first.key, value, revision: margay_datastore::Revision::new(1) };
        for status in ["", copied] {
            let again = (peer(status).encode)(Some(&stored)).map_err(|error| error.message().to_owned());
            assert_eq!(String::from_utf8(again.expect("JSON")), String::from_utf8(stored.value.clone()), "{status}");
        }
    }

    #[test]
    fn an_unknown_kind_names_the_known_ones() {
        let error = prepared_key("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", None).expect_err("no pods");
        assert!(error.to_string().contains("v1 Pod is not a kind that Margay stores"), "{error}");
        assert!(find("BGPPeers").is_ok() && find("np").is_ok() && find("nonsense").is_err());
    }
}
