use margay_felix_core::policy::{Cause, Judgement, Party};

use crate::world::Cluster;

fn party(text: &str) -> Party {
    match text.split_once('/') {
        Some((namespace, name)) => Party::Pod { namespace: namespace.into(), name: name.into() },
        None => Party::Address(text.parse().unwrap()),
    }
}

fn explain(cluster: &Cluster, from: &str, to: &str, port: u16) -> String {
    cluster.core.explain(&party(from), &party(to), 6, port).unwrap().to_string()
}

fn shop() -> Cluster {
    let mut cluster = Cluster::with_namespaces(&[("shop", &[])]);
    cluster.local("shop/web", &["10.0.0.1"], &[("app", "web")]);
    cluster.remote("shop/db", &["10.0.1.1", "fd00::1"], &[("app", "db")]);
    cluster.kubernetes("shop/deny", "{podSelector: {}, policyTypes: [Ingress]}");
    cluster.kubernetes(
        "shop/db",
        "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}]}, \
         {from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]}",
    );
    cluster
}

#[test]
fn an_allowed_connection_names_the_rule_also_of_a_pod_elsewhere() {
    let text = explain(&shop(), "shop/web", "shop/db", 5432);
    let expected = "\
shop/web (10.0.0.1) -> shop/db (10.0.1.1), TCP/5432
egress  shop/web on n1: no policy isolates it, its profiles decide
        allowed by profile kns.shop rule 1
ingress shop/db on n2: isolated by shop/knp.default.db, shop/knp.default.deny
        policy shop/knp.default.db rule 1 doesn't match: needs a peer with projectcalico.org/namespace == 'shop' && projectcalico.org/orchestrator == 'k8s' && app == 'api'
        allowed by policy shop/knp.default.db rule 2
verdict ALLOW";
    assert_eq!(text, expected);
}

#[test]
fn a_denied_connection_says_what_each_rule_lacks() {
    let cluster = shop();
    let text = explain(&cluster, "shop/web", "shop/db", 80);
    assert!(
        text.contains(
            "rule 2 doesn't match: is about ports 5432\n        denied: no rule of the policies matches\nverdict DENY"
        ),
        "{text}"
    );
    let text = explain(&cluster, "198.51.100.1", "shop/db", 5432);
    assert!(text.contains("egress  198.51.100.1: not a pod, no policy\n"), "{text}");
    assert!(text.contains("rule 1 doesn't match: needs a pod with "), "{text}");
}

#[test]
fn a_pod_always_reaches_itself() {
    let mut cluster = shop();
    cluster.kubernetes("shop/all", "{podSelector: {}, policyTypes: [Ingress, Egress]}");
    let explained = cluster.core.explain(&party("shop/web"), &party("10.0.0.1"), 6, 80).unwrap();
    assert!(explained.is_allowed() && explained.ingress == Judgement::SamePod);
}

#[test]
fn a_missing_profile_is_named() {
    let mut cluster = Cluster::default();
    cluster.local("ns/a", &["10.0.0.1"], &[]);
    let explained = cluster.core.explain(&party("ns/a"), &party("198.51.100.1"), 17, 53).unwrap();
    let Judgement::Judged(verdict) = &explained.egress else { panic!("{explained}") };
    assert_eq!(verdict.cause, Cause::UnknownProfile("kns.ns".into()));
}

#[test]
fn questions_without_an_answer_say_why() {
    let cluster = shop();
    let error = cluster.core.explain(&party("shop/nobody"), &party("shop/db"), 6, 1).unwrap_err();
    assert!(error.to_string().starts_with("pod shop/nobody is not known"), "{error}");
    let error = cluster.core.explain(&party("shop/web"), &party("fd00::1"), 6, 1).unwrap_err();
    assert_eq!(String::from(error), "shop/web and fd00::1 have no address of the same family");
}
