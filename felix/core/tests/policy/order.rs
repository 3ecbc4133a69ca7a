//! What Calico's policies have beyond Kubernetes': order, Deny, Pass, Log, profiles with rules; and failing closed.

use margay_api::kinds::Action;
use margay_felix_core::policy::{Direction, IdentityId, PortMatch, ProtocolMatch};

use crate::tables;
use crate::world::{Cluster, NODE, connection, pod};

const OUTSIDE: &str = "198.51.100.1";

fn cluster() -> Cluster {
    let mut cluster = Cluster::with_namespaces(&[("ns", &[("team", "red")])]);
    cluster.local("ns/a", &["10.0.0.1", "fd00::1"], &[("app", "a")]);
    cluster.local("ns/b", &["10.0.0.2", "fd00::2"], &[("app", "b")]);
    cluster
}

#[test]
fn the_first_rule_that_matches_decides() {
    let mut cluster = cluster();
    cluster
        .calico("ns/p", "{selector: all(), ingress: [{action: Deny, source: {nets: [10.0.0.0/31]}}, {action: Allow}]}");
    assert!(!cluster.ingress("ns/b", "10.0.0.1", "TCP", 80) && cluster.ingress("ns/b", "10.0.0.2", "TCP", 80));
    assert!(cluster.ingress("ns/b", OUTSIDE, "ICMP", 0) && cluster.ingress("ns/b", "fd00::1", "TCP", 80));
    assert!(!cluster.kernel.allows.iter().any(|allow| allow.peer == IdentityId::ANYONE), "nothing passes for all");
    cluster
        .calico("ns/p", "{selector: all(), ingress: [{action: Allow}, {action: Deny, source: {nets: [10.0.0.0/31]}}]}");
    assert!(cluster.ingress("ns/b", "10.0.0.1", "TCP", 80));
    assert!(cluster.kernel.ranges.is_empty(), "the second rule never counts");
}

#[test]
fn a_denied_pod_keeps_what_stays_allowed_to_all() {
    let mut cluster = cluster();
    let spec = "{selector: all(), ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}, {action: Deny, source: {selector: app == 'a'}}, {action: Allow, protocol: UDP}]}";
    cluster.calico("ns/p", spec);
    assert!(cluster.ingress("ns/b", "10.0.0.1", "TCP", 80) && !cluster.ingress("ns/b", "10.0.0.1", "UDP", 53));
    assert!(cluster.ingress("ns/b", OUTSIDE, "UDP", 53) && cluster.ingress("ns/b", "10.0.0.2", "UDP", 53));
    assert!(!cluster.ingress("ns/b", OUTSIDE, "TCP", 81));
}

#[test]
fn a_deny_for_anyone_cuts_ports_out() {
    let mut cluster = cluster();
    cluster.calico("ns/p", "{selector: app == 'b', ingress: [{action: Deny, protocol: TCP, destination: {ports: [22]}}, {action: Allow, protocol: TCP}]}");
    assert!(!cluster.ingress("ns/b", OUTSIDE, "TCP", 22) && cluster.ingress("ns/b", OUTSIDE, "TCP", 23));
    let elements: Vec<_> =
        cluster.kernel.allows.iter().map(|allow| (allow.peer, allow.protocol, allow.ports)).collect();
    let tcp = |ports| (IdentityId::ANYONE, ProtocolMatch::Number(6), ports);
    assert_eq!(elements, [tcp(PortMatch::Range(0, 21)), tcp(PortMatch::Range(23, 65535))]);
}

#[test]
fn policies_go_by_order_then_name() {
    let mut cluster = cluster();
    let allow = |order: &str| format!("{{{order}selector: all(), types: [Ingress], ingress: [{{action: Allow}}]}}");
    let deny = |order: &str| format!("{{{order}selector: all(), types: [Ingress], ingress: [{{action: Deny}}]}}");
    cluster.calico("ns/z", &allow("order: 5, "));
    cluster.calico("ns/a", &deny("order: 10, "));
    assert!(cluster.ingress("ns/b", OUTSIDE, "TCP", 80));
    cluster.calico("ns/z", &allow("order: 10, "));
    assert!(!cluster.ingress("ns/b", OUTSIDE, "TCP", 80), "names break the tie");
    cluster.calico("ns/a", &deny(""));
    assert!(cluster.ingress("ns/b", OUTSIDE, "TCP", 80), "without an order it comes last");
}

#[test]
fn pass_goes_to_the_profiles_and_log_goes_on() {
    let mut cluster = cluster();
    let spec = "{selector: all(), ingress: [{action: Log}, {action: Pass, source: {selector: app == 'a'}}, {action: Deny, source: {nets: [198.51.100.0/24]}}]}";
    cluster.calico("ns/p", spec);
    assert!(cluster.ingress("ns/b", "10.0.0.1", "TCP", 80), "the namespace's profile allows all");
    assert!(!cluster.ingress("ns/b", OUTSIDE, "TCP", 80) && !cluster.ingress("ns/b", "10.0.0.2", "TCP", 80));
    cluster.profile("kns.ns", "{ingress: [{action: Deny, protocol: TCP}, {action: Allow}]}");
    assert!(!cluster.ingress("ns/b", "10.0.0.1", "TCP", 80) && cluster.ingress("ns/b", "10.0.0.1", "UDP", 80));
}

#[test]
fn a_pass_that_is_never_reached_opens_nothing() {
    for first in ["{action: Deny}", "{action: Deny, protocol: TCP}"] {
        let mut cluster = cluster();
        let pass = "{action: Pass, destination: {selector: app == 'x'}}";
        cluster.calico("ns/p", &format!("{{selector: all(), types: [Ingress], ingress: [{first}, {pass}]}}"));
        assert!(!cluster.ingress("ns/b", OUTSIDE, "TCP", 80) && !cluster.ingress("ns/b", OUTSIDE, "UDP", 80));
        assert!(cluster.kernel.allows.is_empty());
    }
}

#[test]
fn profiles_with_rules_isolate_where_no_policy_does() {
    let mut cluster = cluster();
    cluster.profile(
        "kns.ns",
        "{ingress: [{action: Allow, protocol: TCP, destination: {ports: ['80:90']}}], egress: [{action: Allow}]}",
    );
    assert!(cluster.ingress("ns/b", OUTSIDE, "TCP", 85) && !cluster.ingress("ns/b", OUTSIDE, "TCP", 91));
    assert!(cluster.egress("ns/b", OUTSIDE, "TCP", 91));
    assert_eq!(cluster.kernel.endpoints["cali-ns-b"].egress, None);
}

#[test]
fn a_missing_profile_denies_all() {
    let mut cluster = Cluster::default();
    cluster.local("ns/a", &["10.0.0.1"], &[]);
    assert!(!cluster.ingress("ns/a", OUTSIDE, "TCP", 80) && !cluster.egress("ns/a", OUTSIDE, "TCP", 80));
    cluster.namespace("ns", &[]);
    assert!(cluster.ingress("ns/a", OUTSIDE, "TCP", 80) && cluster.egress("ns/a", OUTSIDE, "TCP", 80));
    let mut endpoint = pod(NODE, "ns/a", &["10.0.0.1"]);
    endpoint.spec.profiles.clear();
    cluster.put_endpoint("ns/a", Some(endpoint));
    assert!(!cluster.ingress("ns/a", OUTSIDE, "TCP", 80), "no profile, nothing that allows");
}

#[test]
fn no_pod_can_claim_another_namespace_by_a_label() {
    let mut cluster = cluster();
    cluster.namespace("evil", &[]);
    cluster.calico("ns/p", "{selector: all(), ingress: [{action: Allow, source: {selector: app == 'a'}}]}");
    cluster.remote("evil/a", &["10.0.9.9"], &[("app", "a"), ("projectcalico.org/namespace", "ns")]);
    assert!(!cluster.ingress("ns/b", "10.0.9.9", "TCP", 80) && cluster.ingress("ns/b", "10.0.0.1", "TCP", 80));
}

#[test]
fn a_rule_honours_what_it_asks_of_the_pod_itself() {
    let mut cluster = cluster();
    let spec = "{selector: all(), ingress: [{action: Allow, destination: {selector: app == 'b', ports: [80]}, protocol: TCP}, {action: Allow, protocol: UDP, destination: {nets: [10.0.0.1/32]}}]}";
    cluster.calico("ns/p", spec);
    assert!(cluster.ingress("ns/b", OUTSIDE, "TCP", 80) && !cluster.ingress("ns/a", OUTSIDE, "TCP", 80));
    assert!(cluster.ingress("ns/a", OUTSIDE, "UDP", 80) && !cluster.ingress("ns/b", OUTSIDE, "UDP", 80));
    assert!(!cluster.ingress("ns/a", "2001:db8::9", "UDP", 80), "an IPv4 list is about IPv4");
    cluster.calico(
        "ns/p",
        "{selector: all(), types: [Egress], egress: [{action: Allow, source: {selector: app == 'a'}}]}",
    );
    assert!(cluster.egress("ns/a", OUTSIDE, "TCP", 80) && !cluster.egress("ns/b", OUTSIDE, "TCP", 80));
}

#[test]
fn what_cannot_be_programmed_fails_closed_for_its_own_pods_and_is_reported() {
    let mut cluster = cluster();
    cluster.calico(
        "ns/ports",
        "{selector: app == 'a', types: [Ingress], ingress: [{action: Allow, protocol: TCP, source: {ports: [1]}}]}",
    );
    assert!(!cluster.ingress("ns/a", OUTSIDE, "TCP", 80) && cluster.ingress("ns/b", OUTSIDE, "TCP", 80));
    cluster.calico("ns/ports", "{selector: app == 'a', types: [Ingress], ingress: [{action: Deny, protocol: TCP, source: {ports: [1]}}, {action: Allow}]}");
    assert!(!cluster.ingress("ns/a", OUTSIDE, "TCP", 80) && cluster.ingress("ns/a", OUTSIDE, "UDP", 80));
    cluster.calico("ns/tier", "{tier: security, selector: app == 'b', types: [Egress], egress: [{action: Allow}]}");
    assert!(!cluster.egress("ns/b", OUTSIDE, "TCP", 80) && cluster.egress("ns/a", OUTSIDE, "TCP", 80));
    let problems = cluster.core.problems();
    let named: Vec<&str> = problems.iter().map(|problem| problem.resource.as_str()).collect();
    assert_eq!(named, ["ns/ports", "ns/tier"]);
    assert_eq!(problems[0].problem, "ingress rule 1: source ports are not supported; it denies more");
}

#[test]
fn a_rule_for_some_of_a_pods_addresses_fails_closed_there() {
    let mut cluster = cluster();
    cluster.local("ns/two", &["10.0.0.3", "10.0.5.3"], &[("app", "two")]);
    let spec = "{selector: all(), types: [Ingress], ingress: [{action: Allow, destination: {nets: [10.0.0.0/24]}}]}";
    cluster.calico("ns/p", spec);
    assert!(cluster.ingress("ns/a", OUTSIDE, "TCP", 80) && !cluster.ingress("ns/two", OUTSIDE, "TCP", 80));
    let problems = cluster.core.problems();
    assert!(problems.len() == 1 && problems[0].problem.contains("pod two"), "{problems:?}");
}

#[test]
fn a_denial_for_some_of_a_pods_addresses_denies_all_of_them() {
    let mut cluster = cluster();
    cluster.local("ns/two", &["10.0.0.3", "10.0.5.3", "fd00::3"], &[("app", "two")]);
    let spec = "{selector: all(), types: [Ingress], ingress: [{action: Deny, protocol: TCP, destination: {nets: [10.0.5.0/24]}}, {action: Allow}]}";
    cluster.calico("ns/p", spec);
    for peer in [OUTSIDE, "2001:db8::9"] {
        assert!(!cluster.ingress("ns/two", peer, "TCP", 80) && cluster.ingress("ns/two", peer, "UDP", 80));
        assert!(cluster.ingress("ns/a", peer, "TCP", 80));
    }
}

#[test]
fn a_denial_by_named_port_stops_the_pods_that_declare_it() {
    let mut cluster = cluster();
    cluster.pod_with_ports("n2", "ns/c", &["10.0.0.3"], &[], &[("http", "TCP", 8080)]);
    let spec = "{selector: all(), types: [Egress], egress: [{action: Deny, protocol: TCP, destination: {ports: [http]}}, {action: Allow}]}";
    cluster.calico("ns/p", spec);
    assert!(!cluster.egress("ns/a", "10.0.0.3", "TCP", 8080) && cluster.egress("ns/a", "10.0.0.3", "TCP", 80));
    assert!(cluster.egress("ns/a", OUTSIDE, "TCP", 8080) && cluster.egress("ns/a", "10.0.0.2", "TCP", 8080));
}

#[test]
fn of_two_profiles_the_first_gives_the_label() {
    let mut cluster = cluster();
    cluster.profile("second", "{labelsToApply: {tier: two, zone: z}}");
    cluster.profile("first", "{labelsToApply: {tier: one}}");
    let mut endpoint = pod(NODE, "ns/both", &["10.0.0.5"]);
    endpoint.spec.profiles.extend(["first".to_owned(), "second".to_owned()]);
    cluster.put_endpoint("ns/both", Some(endpoint.clone()));
    cluster.calico(
        "ns/p",
        "{selector: app == 'a', ingress: [{action: Allow, source: {selector: tier == 'one' && zone == 'z'}}]}",
    );
    assert!(cluster.ingress("ns/a", "10.0.0.5", "TCP", 80));
    endpoint.metadata.labels.insert("tier".into(), "own".into());
    cluster.put_endpoint("ns/both", Some(endpoint));
    assert!(!cluster.ingress("ns/a", "10.0.0.5", "TCP", 80), "its own label wins");
}

#[test]
fn a_refused_policy_fails_closed_for_its_own_pods() {
    let mut cluster = cluster();
    cluster.calico("ns/p", "{order: 1, selector: app == 'a', types: [Ingress], ingress: [{action: Allow}]}");
    cluster.calico("ns/q", "{order: 2, selector: all(), types: [Ingress], ingress: [{action: Allow, protocol: UDP}]}");
    let judge = |cluster: &Cluster, pod: &str, protocol: &str| {
        let endpoint = &cluster.world.endpoints[pod];
        let connection = connection(Direction::Ingress, OUTSIDE, protocol, 80);
        tables::allows(cluster.core.tables(), &endpoint.spec.interface_name, &connection)
    };
    assert!(judge(&cluster, "ns/a", "TCP"));
    let mut policy = cluster.world.policies[&("ns".to_owned(), "p".to_owned())].clone();
    cluster.core.refuse_policy("ns", "p", &policy, "spec.ingress[0].notProtocol is not known");
    assert!(!judge(&cluster, "ns/a", "TCP"), "it allows nothing");
    assert!(judge(&cluster, "ns/a", "UDP"), "another policy still does");
    policy.spec.ingress[0].action = Action::Deny;
    cluster.core.refuse_policy("ns", "p", &policy, "spec.ingress[0].notProtocol is not known");
    assert!(!judge(&cluster, "ns/a", "UDP"), "it may have denied that");
    assert!(judge(&cluster, "ns/b", "UDP"));
    assert_eq!(
        cluster.core.problems()[0].to_string(),
        "ns/p: spec.ingress[0].notProtocol is not known; its pods are isolated, no rule allows anything"
    );
    cluster.core.update_policy("ns", "p", Some(&policy));
    assert!(cluster.core.problems().is_empty());
}

#[test]
fn a_denial_of_an_unknown_tier_comes_first() {
    let mut cluster = cluster();
    cluster.calico("ns/allow", "{order: 1, selector: all(), types: [Ingress], ingress: [{action: Allow}]}");
    cluster.calico(
        "ns/tier",
        "{tier: security, order: 9, selector: app == 'a', types: [Ingress], ingress: [{action: Deny, protocol: TCP}]}",
    );
    assert!(!cluster.ingress("ns/a", OUTSIDE, "UDP", 80) && cluster.ingress("ns/b", OUTSIDE, "TCP", 80));
}

#[test]
fn a_selector_that_does_not_parse_isolates_the_namespace() {
    let mut cluster = cluster();
    let mut policy = cluster.world.policies.clone();
    cluster.calico("ns/p", "{types: [Ingress], ingress: [{action: Allow}]}");
    policy.append(&mut cluster.world.policies.clone());
    let mut broken = policy.into_values().next().unwrap();
    broken.spec.selector = "app = 'a'".into();
    cluster.put_policy("ns", "p", Some(broken));
    assert!(!cluster.ingress("ns/a", OUTSIDE, "TCP", 80) && !cluster.ingress("ns/b", OUTSIDE, "TCP", 80));
    assert_eq!(cluster.core.problems().len(), 1);
}

#[test]
fn an_address_of_two_pods_counts_as_both_until_one_goes() {
    let mut cluster = cluster();
    cluster.calico("ns/p", "{selector: app == 'b', ingress: [{action: Allow, source: {selector: app == 'a'}}]}");
    cluster.remote("ns/late", &["10.0.0.1"], &[("app", "late")]);
    assert!(cluster.ingress("ns/b", "10.0.0.1", "TCP", 80));
    cluster.delete_pod("ns/a");
    assert!(!cluster.ingress("ns/b", "10.0.0.1", "TCP", 80));
}

#[test]
fn an_interface_of_two_endpoints_is_the_firsts() {
    let mut cluster = cluster();
    cluster.calico("ns/p", "{selector: app == 'a', types: [Ingress, Egress]}");
    let mut second = pod(NODE, "ns/b", &["10.0.0.7"]);
    second.spec.interface_name = "cali-ns-a".into();
    cluster.put_endpoint("ns/z", Some(second));
    assert!(cluster.kernel.endpoints["cali-ns-a"].ingress.is_some());
    cluster.delete_pod("ns/a");
    assert!(cluster.kernel.endpoints["cali-ns-a"].ingress.is_none());
}
