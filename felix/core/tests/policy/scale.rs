//! What one change costs in a large cluster, in elements; `examples/policy_figures.rs` measures the time.

use margay_felix_core::policy::PolicyChanges;

use crate::tables::elements;
use crate::world::{Cluster, NODE};

const NAMESPACES: usize = 20;
const APPS: usize = 10;
const PODS: usize = 5;

fn address(index: usize) -> String {
    std::net::Ipv4Addr::from_bits(0x0a00_0000 + index as u32).to_string()
}

/// 20 namespaces of 10 applications, each with a policy of its own, and 5 pods of each application.
fn large() -> Cluster {
    let mut cluster = Cluster::default();
    for ns in 0..NAMESPACES {
        cluster.namespace(&format!("ns{ns}"), &[("team", &format!("t{}", ns % 4))]);
        for app in 0..APPS {
            policy(&mut cluster, ns, app, "p", 80);
            for pod in 0..PODS {
                put_pod(&mut cluster, (ns * APPS + app) * PODS + pod, ns, app);
            }
        }
    }
    cluster
}

fn put_pod(cluster: &mut Cluster, index: usize, ns: usize, app: usize) -> PolicyChanges {
    cluster.pod(NODE, &format!("ns{ns}/pod{index}"), &[&address(index)], &[("app", &format!("app{app}"))])
}

fn policy(cluster: &mut Cluster, ns: usize, app: usize, name: &str, port: u16) -> PolicyChanges {
    let next = (app + 1) % APPS;
    cluster.kubernetes(
        &format!("ns{ns}/{name}{app}"),
        &format!(
            "{{podSelector: {{matchLabels: {{app: app{app}}}}}, policyTypes: [Ingress, Egress], \
             ingress: [{{from: [{{podSelector: {{matchLabels: {{app: app{next}}}}}}}, {{ipBlock: {{cidr: 192.0.2.0/24}}}}], ports: [{{port: {port}}}]}}], \
             egress: [{{to: [{{namespaceSelector: {{matchLabels: {{team: t{}}}}}}}]}}, {{ports: [{{port: 53, protocol: UDP}}]}}]}}",
            ns % 4
        ),
    )
}

#[test]
fn a_change_in_a_large_cluster_is_a_few_elements() {
    let mut cluster = large();
    let at_most = |what: &str, changes: PolicyChanges, most: usize| {
        let count = elements(&changes);
        assert!((1..=most).contains(&count), "{what}: {count} elements, {changes:#?}");
    };
    at_most("a new pod", put_pod(&mut cluster, 5000, 3, 4), 5);
    at_most("other labels", put_pod(&mut cluster, 5000, 3, 5), 12);
    // A class that is new costs an element for each program that lets it pass: here all 50 of the team.
    at_most("labels as no other pod has", put_pod(&mut cluster, 5000, 3, 99), 60);
    at_most("the last of a class that goes", cluster.delete_pod("ns3/pod5000"), 60);
    at_most("another port", policy(&mut cluster, 3, 4, "p", 81), 8);
    at_most("one more policy", policy(&mut cluster, 3, 4, "q", 90), 20);
    at_most("one policy less", cluster.put_policy("ns3", "knp.default.q4", None), 20);
    at_most("the policy goes", cluster.put_policy("ns3", "knp.default.p4", None), 100);
    at_most("the policy comes", policy(&mut cluster, 3, 4, "p", 80), 100);
    let fresh = cluster.world.compiled();
    assert_eq!(crate::tables::canonical(&cluster.kernel), crate::tables::canonical(fresh.tables()));
}

#[test]
fn a_selector_that_all_of_a_class_meets_moves_nobody() {
    let mut cluster = large();
    let changes = cluster.kubernetes(
        "ns0/more",
        "{podSelector: {matchLabels: {app: app0}}, ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [app1, app2]}]}}], ports: [{port: 1}]}]}",
    );
    assert!(changes.removed.identities.is_empty() && changes.added.identities.is_empty(), "{changes:?}");
    assert!(changes.added.endpoints.is_empty(), "the program keeps its number: {changes:?}");
    assert_eq!(changes.added.allows.len(), 2);
}
