use super::*;

const KEY: &str = "/calico/resources/v3/projectcalico.org/workloadendpoints/shop/n1-k8s-web-eth0";

fn endpoint(container_id: &str, address: &str) -> WorkloadEndpoint {
    let spec = WorkloadEndpointSpec {
        orchestrator: "k8s".to_owned(),
        node: "n1".to_owned(),
        pod: "web".to_owned(),
        endpoint: "eth0".to_owned(),
        container_id: container_id.to_owned(),
        interface_name: "cali0123456789a".to_owned(),
        ip_networks: vec![address.parse().expect("a prefix")],
        ..WorkloadEndpointSpec::default()
    };
    Object::namespaced("shop", "n1-k8s-web-eth0", spec)
}

fn stored(revision: i64, endpoint: &WorkloadEndpoint) -> KeyValue {
    let value = Stored::new(endpoint.clone()).encode();
    KeyValue { key: KEY.to_owned(), value, revision: Revision::new(revision) }
}

/// The container that the cluster knows to have the endpoint.
fn owner(cluster: &Cluster) -> Option<&str> {
    cluster.local_endpoints.get(KEY).map(|(_, endpoint)| endpoint.spec.container_id.as_str())
}

#[test]
fn a_policy_with_a_field_that_is_not_known_is_refused_and_named() {
    let key = "/calico/resources/v3/projectcalico.org/networkpolicies/shop/p";
    let json = r#"{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"p","namespace":"shop"},
        "spec":{"ingress":[{"action":"Allow","notProtocol":"TCP"}]}}"#;
    let mut cluster = Cluster::new("n1");
    let value = json.as_bytes().to_vec();
    cluster.put(Watched::Policies, &KeyValue { key: key.to_owned(), value, revision: Revision::new(1) });
    let problems: Vec<String> = cluster.policy.problems().iter().map(ToString::to_string).collect();
    assert!(problems.iter().any(|problem| problem.contains("spec.ingress.0.notProtocol")), "{problems:?}");
}

#[test]
fn a_watch_that_lags_does_not_bring_back_what_was_deleted() {
    let mut cluster = Cluster::new("n1");
    let web = endpoint("c1", "10.65.0.1/32");
    cluster.put_local(KEY, Revision::new(7), web.clone());
    let interface = cluster.drop_local(KEY, "c1", Some(Revision::new(7)));
    assert_eq!(interface.as_deref(), Some("cali0123456789a"));
    cluster.put(Watched::Endpoints, &stored(7, &web));
    assert_eq!(owner(&cluster), None);
    cluster.delete(Watched::Endpoints, KEY, Revision::new(8));
    assert!(cluster.endpoints.is_empty() && cluster.written.is_empty());
    // The next life of the name comes from another writer.
    cluster.put(Watched::Endpoints, &stored(9, &endpoint("c2", "10.65.0.2/32")));
    assert_eq!(owner(&cluster), Some("c2"));
}

#[test]
fn a_watch_that_lags_does_not_take_away_what_was_written_since() {
    let mut cluster = Cluster::new("n1");
    cluster.put(Watched::Endpoints, &stored(5, &endpoint("c1", "10.65.0.1/32")));
    cluster.drop_local(KEY, "c1", Some(Revision::new(5)));
    cluster.put_local(KEY, Revision::new(7), endpoint("c2", "10.65.0.2/32"));
    cluster.put(Watched::Endpoints, &stored(5, &endpoint("c1", "10.65.0.1/32")));
    cluster.delete(Watched::Endpoints, KEY, Revision::new(6));
    assert_eq!(owner(&cluster), Some("c2"));
    cluster.put(Watched::Endpoints, &stored(7, &endpoint("c2", "10.65.0.2/32")));
    assert!(cluster.written.is_empty());
    cluster.delete(Watched::Endpoints, KEY, Revision::new(8));
    assert_eq!(owner(&cluster), None);
}

#[test]
fn the_del_of_an_old_container_leaves_the_endpoint_of_the_new_one() {
    let mut cluster = Cluster::new("n1");
    cluster.put_local(KEY, Revision::new(7), endpoint("new", "10.65.0.2/32"));
    assert_eq!(cluster.drop_local(KEY, "old", Some(Revision::new(5))), None);
    assert_eq!(owner(&cluster), Some("new"));
    assert_eq!(cluster.keys_of("new", "eth0"), BTreeSet::from([KEY.to_owned()]));
    assert!(cluster.keys_of("old", "eth0").is_empty());
}

#[test]
fn a_new_attachment_counts_whatever_revisions_a_store_had_before_it_was_set_back() {
    let mut cluster = Cluster::new("n1");
    cluster.put(Watched::Endpoints, &stored(900, &endpoint("c1", "10.65.0.1/32")));
    cluster.put_local(KEY, Revision::new(3), endpoint("c2", "10.65.0.2/32"));
    assert_eq!(owner(&cluster), Some("c2"));
    // But an edit of the same attachment that the watch told of first stays.
    cluster.put(Watched::Endpoints, &stored(5, &endpoint("c2", "10.65.0.3/32")));
    cluster.put_local(KEY, Revision::new(4), endpoint("c2", "10.65.0.2/32"));
    let addresses = &cluster.local_endpoints[KEY].1.spec.ip_networks;
    assert_eq!(addresses, &["10.65.0.3/32".parse().expect("a prefix")]);
}

#[test]
fn an_invalid_value_is_named_and_the_last_good_one_stays() {
    let mut cluster = Cluster::new("n1");
    let web = endpoint("c1", "10.65.0.1/32");
    cluster.put(Watched::Endpoints, &stored(1, &web));
    let broken = KeyValue { value: b"{".to_vec(), ..stored(2, &web) };
    cluster.put(Watched::Endpoints, &broken);
    assert!(cluster.invalid.contains_key(KEY));
    assert_eq!(owner(&cluster), Some("c1"));
    cluster.put(Watched::Endpoints, &stored(3, &web));
    assert!(cluster.invalid.is_empty());
}

#[test]
fn an_edit_of_what_decides_over_bgp_asks_for_a_new_plan() {
    let mut cluster = Cluster::new("n1");
    let resources = "/calico/resources/v3/projectcalico.org";
    let edits = [
        (
            Watched::Filters,
            format!("{resources}/bgpfilters/f"),
            r#"{"kind":"BGPFilter","apiVersion":"projectcalico.org/v3","metadata":{"name":"f"},"spec":{"importV4":[{"action":"Reject"}]}}"#,
        ),
        (
            Watched::Configurations,
            format!("{resources}/bgpconfigurations/node.n1"),
            r#"{"kind":"BGPConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"node.n1"},"spec":{"listenPort":1179}}"#,
        ),
        (
            Watched::Services,
            "/margay/kubernetes/services/shop/web".to_owned(),
            r#"{"kind":"Service","apiVersion":"v1","metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIP":"10.96.0.7"}}"#,
        ),
        (
            Watched::Slices,
            "/margay/kubernetes/endpointslices/shop/web-1".to_owned(),
            r#"{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"name":"web-1","namespace":"shop","labels":{"kubernetes.io/service-name":"web"}},"spec":{"addressType":"IPv4","endpoints":[]}}"#,
        ),
    ];
    for (watched, key, json) in edits {
        assert!(key.starts_with(&watched.prefix()), "{key}");
        cluster.dirty = Dirty::default();
        cluster.put(watched, &KeyValue { key: key.clone(), value: json.into(), revision: Revision::new(1) });
        assert!(cluster.dirty.bgp && cluster.invalid.is_empty(), "{key}: {:?}", cluster.invalid);
        cluster.dirty = Dirty::default();
        cluster.delete(watched, &key, Revision::new(2));
        assert!(cluster.dirty.bgp, "{key} goes");
    }
    assert!(cluster.filters.is_empty() && cluster.services.is_empty() && cluster.slices.is_empty());
}

#[test]
fn endpoints_ask_for_a_new_plan_where_a_peering_is_with_workloads() {
    let mut cluster = Cluster::new("n1");
    cluster.put_local(KEY, Revision::new(7), endpoint("c1", "10.65.0.1/32"));
    assert!(!cluster.dirty.bgp);
    let spec = BgpPeerSpec { local_workload_selector: "all()".to_owned(), ..BgpPeerSpec::default() };
    cluster.peers.insert("vms".to_owned(), BgpPeer::named("vms", spec));
    cluster.put_local(KEY, Revision::new(8), endpoint("c2", "10.65.0.2/32"));
    assert!(std::mem::take(&mut cluster.dirty).bgp);
    cluster.drop_local(KEY, "c2", Some(Revision::new(8)));
    assert!(cluster.dirty.bgp);
}

#[test]
fn the_secrets_that_resources_name_are_known() {
    let mut cluster = Cluster::new("n1");
    let password = |name: &str| {
        let reference = margay_api::kinds::SecretKeyRef { name: name.to_owned(), key: "k".to_owned() };
        Some(Password { secret_key_ref: Some(reference) })
    };
    let peer = BgpPeerSpec { password: password("tor"), ..BgpPeerSpec::default() };
    cluster.peers.insert("tor".to_owned(), BgpPeer::named("tor", peer));
    let mesh = BgpConfigurationSpec { node_mesh_password: password("mesh"), ..BgpConfigurationSpec::default() };
    cluster.configurations.insert("default".to_owned(), BgpConfiguration::named("default", mesh));
    let named: Vec<(String, String)> = cluster.secrets().into_iter().collect();
    assert_eq!(named, [("mesh".to_owned(), "k".to_owned()), ("tor".to_owned(), "k".to_owned())]);
}

#[test]
fn this_nodes_resource_is_followed_by_revision() {
    let mut cluster = Cluster::new("n1");
    let key = "/calico/resources/v3/projectcalico.org/nodes/n1".to_owned();
    let value = Stored::new(Node::named("n1", NodeSpec::default())).encode();
    cluster.put(Watched::Nodes, &KeyValue { key: key.clone(), value, revision: Revision::new(4) });
    assert_eq!(cluster.node_revision, Some(Revision::new(4)));
    assert!(cluster.node_addresses().is_empty());
    cluster.delete(Watched::Nodes, &key, Revision::new(5));
    assert_eq!(cluster.node_revision, None);
}
