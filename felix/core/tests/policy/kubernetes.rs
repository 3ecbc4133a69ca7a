//! Kubernetes NetworkPolicy, rule by rule, as it arrives in Calico's form. Every judgement is also the oracle's.

use crate::tables::elements;
use crate::world::{Cluster, NODE};

const WEB: &str = "10.0.0.1";
const DB: &str = "10.0.0.2";
const OTHER: &str = "10.0.1.1";
const OUTSIDE: &str = "198.51.100.1";

/// Namespace `shop` (team red) with `web` and `db` here, namespace `ops` (team blue) with `tool` elsewhere.
fn shop() -> Cluster {
    let mut cluster = Cluster::with_namespaces(&[("shop", &[("team", "red")]), ("ops", &[("team", "blue")])]);
    cluster.local("shop/web", &[WEB, "fd00::1"], &[("app", "web")]);
    cluster.local("shop/db", &[DB, "fd00::2"], &[("app", "db")]);
    cluster.remote("ops/tool", &[OTHER, "fd00::1:1"], &[("app", "web"), ("job", "tool")]);
    cluster
}

fn reaches(cluster: &Cluster, pod: &str, port: u16) -> Vec<&'static str> {
    [("web", WEB), ("db", DB), ("tool", OTHER), ("outside", OUTSIDE)]
        .into_iter()
        .filter(|(_, address)| cluster.ingress(pod, address, "TCP", port))
        .map(|(name, _)| name)
        .collect()
}

const ALL: [&str; 4] = ["web", "db", "tool", "outside"];
const NOBODY: [&str; 0] = [];

#[test]
fn without_a_policy_everything_passes() {
    let cluster = shop();
    assert_eq!(reaches(&cluster, "shop/web", 80), ALL);
    assert!(cluster.egress("shop/web", OUTSIDE, "ICMP", 0));
    assert!(
        cluster.kernel.allows.is_empty() && cluster.kernel.identities.is_empty() && cluster.kernel.ranges.is_empty()
    );
}

#[test]
fn an_empty_pod_selector_takes_all_pods_of_the_namespace_and_no_other() {
    for selector in ["", "podSelector: {}, ", "podSelector: {matchLabels: {}}, "] {
        let mut cluster = shop();
        cluster.local("ops/here", &["10.0.1.2"], &[]);
        cluster.kubernetes("shop/deny", &format!("{{{selector}policyTypes: [Ingress]}}"));
        assert_eq!(reaches(&cluster, "shop/web", 80), NOBODY);
        assert_eq!(reaches(&cluster, "shop/db", 80), NOBODY);
        assert_eq!(reaches(&cluster, "ops/here", 80), ALL);
    }
}

#[test]
fn isolation_is_per_direction() {
    let mut cluster = shop();
    cluster.kubernetes("shop/in", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}");
    assert!(!cluster.ingress("shop/web", DB, "TCP", 80) && cluster.egress("shop/web", DB, "TCP", 80));
    cluster.kubernetes("shop/out", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}");
    assert!(!cluster.egress("shop/web", DB, "TCP", 80) && !cluster.egress("shop/web", DB, "ICMP", 0));
    assert!(cluster.ingress("shop/db", WEB, "TCP", 80), "the other end judges by itself");
}

#[test]
fn absent_types_are_ingress_and_egress_where_there_is_an_egress_rule() {
    let mut cluster = shop();
    cluster.kubernetes("shop/p", "{podSelector: {}}");
    assert!(!cluster.ingress("shop/web", DB, "TCP", 80) && cluster.egress("shop/web", DB, "TCP", 80));
    cluster.kubernetes("shop/p", "{podSelector: {}, egress: [{ports: [{port: 53, protocol: UDP}]}]}");
    assert!(!cluster.ingress("shop/web", DB, "TCP", 80) && !cluster.egress("shop/web", DB, "TCP", 80));
    assert!(cluster.egress("shop/web", OUTSIDE, "UDP", 53));
}

#[test]
fn rules_of_a_type_that_is_not_listed_are_ignored() {
    let mut cluster = shop();
    cluster.kubernetes("shop/p", "{podSelector: {}, policyTypes: [Ingress], egress: [{ports: [{port: 1}]}]}");
    assert!(cluster.egress("shop/web", OUTSIDE, "TCP", 80));
}

#[test]
fn no_rules_allow_nothing_and_an_empty_rule_allows_everything() {
    for rules in ["", "ingress: [], ", "ingress: null, "] {
        let mut cluster = shop();
        cluster.kubernetes("shop/p", &format!("{{podSelector: {{}}, {rules}policyTypes: [Ingress]}}"));
        assert_eq!(reaches(&cluster, "shop/web", 80), NOBODY, "{rules}");
    }
    let mut cluster = shop();
    cluster.kubernetes("shop/p", "{podSelector: {}, ingress: [{}]}");
    assert_eq!(reaches(&cluster, "shop/web", 80), ALL);
    assert!(cluster.ingress("shop/web", "fd00::77", "ICMPv6", 0));
    assert_eq!(cluster.kernel.allows.len(), 1, "one element for anyone");
}

#[test]
fn policies_add_up() {
    let mut cluster = shop();
    cluster.kubernetes("shop/deny", "{podSelector: {}, policyTypes: [Ingress]}");
    cluster.kubernetes(
        "shop/a",
        "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}",
    );
    cluster.kubernetes("shop/b", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24}}]}]}");
    assert_eq!(reaches(&cluster, "shop/db", 80), ["web", "outside"]);
    assert_eq!(reaches(&cluster, "shop/web", 80), ["outside"]);
    cluster.put_policy("shop", "knp.default.a", None);
    assert_eq!(reaches(&cluster, "shop/db", 80), ["outside"]);
}

#[test]
fn missing_or_empty_peers_are_anyone() {
    for from in ["", "from: [], ", "from: null, "] {
        let mut cluster = shop();
        cluster.kubernetes("shop/p", &format!("{{podSelector: {{}}, ingress: [{{{from}ports: [{{port: 80}}]}}]}}"));
        assert_eq!(reaches(&cluster, "shop/web", 80), ALL, "{from}");
        assert_eq!(reaches(&cluster, "shop/web", 81), NOBODY, "{from}");
    }
}

#[test]
fn peers_by_pod_and_namespace_selector() {
    let peers = |from: &str| {
        let mut cluster = shop();
        cluster.kubernetes("shop/p", &format!("{{podSelector: {{}}, ingress: [{{from: [{from}]}}]}}"));
        reaches(&cluster, "shop/db", 80)
    };
    assert_eq!(peers("{podSelector: {matchLabels: {app: web}}}"), ["web"], "of the policy's namespace");
    assert_eq!(peers("{podSelector: {}}"), ["web", "db"]);
    assert_eq!(peers("{namespaceSelector: {}}"), ["web", "db", "tool"], "never an address outside");
    assert_eq!(peers("{namespaceSelector: {matchLabels: {team: blue}}}"), ["tool"]);
    assert_eq!(peers("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ops}}}"), ["tool"]);
    let both = "{namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchLabels: {app: web}}}";
    assert_eq!(peers(both), ["web"], "both in one element");
    let either = "{namespaceSelector: {matchLabels: {team: blue}}}, {podSelector: {matchLabels: {app: db}}}";
    assert_eq!(peers(either), ["db", "tool"], "two elements");
    let not_in = "{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [red]}]}}";
    assert_eq!(peers(not_in), ["tool"]);
    let absent = "{podSelector: {matchExpressions: [{key: job, operator: NotIn, values: [x]}, {key: zone, operator: DoesNotExist}]}}";
    assert_eq!(peers(absent), ["web", "db"], "true where the key is absent");
    let and = "{podSelector: {matchLabels: {app: web}, matchExpressions: [{key: app, operator: In, values: [db]}]}}";
    assert_eq!(peers(and), NOBODY);
}

#[test]
fn an_ip_block_matches_pods_too_and_families_are_separate() {
    let mut cluster = shop();
    cluster.kubernetes("shop/p", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/24}}]}]}");
    assert_eq!(reaches(&cluster, "shop/db", 80), ["web", "db"]);
    cluster.kubernetes("shop/p", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}");
    assert_eq!(reaches(&cluster, "shop/db", 80), ALL);
    assert!(!cluster.ingress("shop/db", "fd00::1", "TCP", 80));
    cluster.kubernetes("shop/p", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '::/0'}}]}]}");
    assert_eq!(reaches(&cluster, "shop/db", 80), NOBODY);
    assert!(cluster.ingress("shop/db", "fd00::1", "TCP", 80) && cluster.ingress("shop/db", "ffff::", "TCP", 80));
    cluster.kubernetes(
        "shop/p",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.1/32}}, {ipBlock: {cidr: 'fd00::2/128'}}]}]}",
    );
    assert_eq!(reaches(&cluster, "shop/db", 80), ["web"]);
    assert!(!cluster.ingress("shop/db", "fd00::1", "TCP", 80) && cluster.ingress("shop/db", "fd00::2", "TCP", 80));
}

#[test]
fn a_pod_that_a_selector_matches_keeps_what_blocks_give_it() {
    let mut cluster = shop();
    cluster.kubernetes(
        "shop/p",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 80}]}, \
         {from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 443}]}]}",
    );
    assert!(cluster.ingress("shop/db", WEB, "TCP", 80) && cluster.ingress("shop/db", WEB, "TCP", 443));
    assert!(cluster.ingress("shop/db", DB, "TCP", 80) && !cluster.ingress("shop/db", DB, "TCP", 443));
    assert!(cluster.kernel.identities.contains_key(&WEB.parse().unwrap()));
    assert!(!cluster.kernel.identities.contains_key(&DB.parse().unwrap()), "the range says enough");
}

#[test]
fn an_exception_subtracts_from_its_own_block_only() {
    let mut cluster = shop();
    let spec = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.1.0/24]}}, {ipBlock: {cidr: 10.0.1.0/24}}]}]}";
    cluster.kubernetes("shop/p", spec);
    assert_eq!(reaches(&cluster, "shop/db", 80), ["web", "db", "tool"]);
    cluster.kubernetes(
        "shop/p",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.1.0/24]}}]}]}",
    );
    assert_eq!(reaches(&cluster, "shop/db", 80), ["web", "db"]);
    cluster.kubernetes(
        "shop/q",
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]}",
    );
    assert_eq!(reaches(&cluster, "shop/db", 80), ["web", "db", "tool"], "another policy allows it again");
}

#[test]
fn overlapping_and_repeated_blocks_are_one_disjoint_set_of_ranges() {
    let mut cluster = shop();
    cluster.kubernetes(
        "shop/p",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}, {ipBlock: {cidr: 10.0.0.0/16}}, \
         {ipBlock: {cidr: 10.0.0.0/8}}, {ipBlock: {cidr: 198.51.0.0/16}}, {ipBlock: {cidr: 198.51.100.0/24}}], ports: [{port: 80}]}]}",
    );
    assert_eq!(reaches(&cluster, "shop/db", 80), ALL);
    crate::tables::canonical(&cluster.kernel);
    assert_eq!(cluster.kernel.ranges.len(), 2);
}

#[test]
fn the_protocol_is_tcp_by_default_and_sctp_stays_sctp() {
    let mut cluster = shop();
    cluster.kubernetes("shop/p", "{podSelector: {}, ingress: [{ports: [{port: 80}, {port: 90, protocol: SCTP}]}]}");
    let allowed = |protocol, port| cluster.ingress("shop/db", WEB, protocol, port);
    assert!(allowed("TCP", 80) && !allowed("UDP", 80) && !allowed("SCTP", 80) && !allowed("ICMP", 80));
    assert!(allowed("SCTP", 90) && !allowed("TCP", 90));
    let mut cluster = shop();
    cluster.kubernetes("shop/p", "{podSelector: {}, ingress: [{ports: [{port: 53, protocol: UDP}]}]}");
    assert!(!cluster.ingress("shop/db", WEB, "TCP", 53) && cluster.ingress("shop/db", WEB, "UDP", 53));
}

#[test]
fn ports_absent_single_and_in_ranges() {
    let mut cluster = shop();
    cluster.kubernetes(
        "shop/p",
        "{podSelector: {}, ingress: [{ports: [{protocol: UDP}, {port: 80, endPort: 90}, {port: 91}]}]}",
    );
    let allowed = |protocol, port| cluster.ingress("shop/db", WEB, protocol, port);
    assert!(allowed("UDP", 0) && allowed("UDP", 65535), "every port of the protocol");
    assert!(!allowed("TCP", 79) && allowed("TCP", 80) && allowed("TCP", 91) && !allowed("TCP", 92));
    assert_eq!(cluster.kernel.allows.len(), 2, "80 to 91, and UDP, in one program for both pods");
}

#[test]
fn icmp_follows_the_peers_where_no_ports_are_given() {
    let mut cluster = shop();
    cluster.kubernetes("shop/p", "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}");
    assert!(cluster.ingress("shop/db", WEB, "ICMP", 0) && !cluster.ingress("shop/db", OTHER, "ICMP", 0));
}

/// `a` has http on 80, `b` on 8080 (and, in a second container, 8081), `c` declares it for UDP only.
fn named() -> Cluster {
    let mut cluster = Cluster::with_namespaces(&[("ns", &[])]);
    let app = [("app", "x")];
    cluster.pod_with_ports(NODE, "ns/a", &["10.0.0.1"], &app, &[("http", "TCP", 80)]);
    cluster.pod_with_ports(NODE, "ns/b", &["10.0.0.2"], &app, &[("http", "TCP", 8080), ("http", "TCP", 8081)]);
    cluster.pod_with_ports(NODE, "ns/c", &["10.0.0.3"], &app, &[("http", "UDP", 80)]);
    cluster
}

#[test]
fn a_named_port_of_an_ingress_rule_is_each_pods_own() {
    let mut cluster = named();
    cluster.kubernetes("ns/p", "{podSelector: {}, ingress: [{ports: [{port: http}]}]}");
    let open = |pod: &str| -> Vec<u16> {
        [80, 8080, 8081, 8082].into_iter().filter(|port| cluster.ingress(pod, OUTSIDE, "TCP", *port)).collect()
    };
    assert_eq!(open("ns/a"), [80]);
    assert_eq!(open("ns/b"), [8080, 8081]);
    assert!(open("ns/c").is_empty(), "declared for another protocol");
    let program = |pod: &str| cluster.kernel.endpoints[&format!("cali-ns-{pod}")].ingress;
    assert!(program("a") != program("b") && program("a") != program("c"));
}

#[test]
fn a_named_port_of_an_egress_rule_is_the_peers() {
    let mut cluster = named();
    cluster.kubernetes("ns/p", "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: x}}}], ports: [{port: http}]}]}");
    for (address, ports) in
        [("10.0.0.1", vec![80]), ("10.0.0.2", vec![8080, 8081]), ("10.0.0.3", vec![]), (OUTSIDE, vec![])]
    {
        let open: Vec<u16> =
            [80, 8080, 8081].into_iter().filter(|port| cluster.egress("ns/a", address, "TCP", *port)).collect();
        assert_eq!(open, ports, "{address}");
    }
    let identities = &cluster.kernel.identities;
    assert_ne!(identities[&"10.0.0.1".parse().unwrap()], identities[&"10.0.0.2".parse().unwrap()]);
}

#[test]
fn an_unknown_name_matches_nothing() {
    let mut cluster = named();
    cluster.kubernetes("ns/p", "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{ports: [{port: grpc}]}], egress: [{ports: [{port: grpc}]}]}");
    assert!(!cluster.ingress("ns/a", OUTSIDE, "TCP", 80) && !cluster.egress("ns/a", "10.0.0.2", "TCP", 8080));
    assert!(cluster.kernel.allows.is_empty());
}

#[test]
fn a_named_port_to_anyone_or_to_a_block_is_for_pods_that_declare_it() {
    for to in [
        "",
        "to: [{ipBlock: {cidr: 10.0.0.0/31}}, {ipBlock: {cidr: 198.51.100.0/24}}], ",
        "to: [{ipBlock: {cidr: 0.0.0.0/0}}], ",
    ] {
        let mut cluster = named();
        let spec = format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{{to}ports: [{{port: http}}]}}]}}");
        cluster.kubernetes("ns/p", &spec);
        assert!(cluster.egress("ns/b", "10.0.0.1", "TCP", 80), "{to}");
        assert!(!cluster.egress("ns/b", "10.0.0.1", "TCP", 8080), "{to}");
        assert_eq!(cluster.egress("ns/b", "10.0.0.2", "TCP", 8080), !to.contains("/31"), "{to}");
        assert!(!cluster.egress("ns/b", OUTSIDE, "TCP", 80), "{to}: not the number to anyone");
    }
}

#[test]
fn a_pod_that_is_gone_leaves_all_sets_and_its_address_starts_anew() {
    let mut cluster = shop();
    cluster.kubernetes(
        "shop/p",
        "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}",
    );
    assert_eq!(reaches(&cluster, "shop/db", 80), ["web"]);
    cluster.delete_pod("shop/web");
    assert_eq!(reaches(&cluster, "shop/db", 80), NOBODY);
    cluster.remote("shop/batch", &[WEB], &[("app", "batch")]);
    assert_eq!(reaches(&cluster, "shop/db", 80), NOBODY, "the address is another pod's");
    cluster.local("shop/web", &["10.0.0.9"], &[("app", "web")]);
    assert!(cluster.ingress("shop/db", "10.0.0.9", "TCP", 80), "the same name with another address");
    assert_eq!(reaches(&cluster, "shop/db", 80), NOBODY);
}

#[test]
fn labels_of_pods_take_effect_at_once() {
    let mut cluster = shop();
    cluster.kubernetes(
        "shop/p",
        "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}",
    );
    cluster.local("shop/web", &[WEB, "fd00::1"], &[("app", "other")]);
    assert_eq!(reaches(&cluster, "shop/db", 80), NOBODY, "the peer's labels changed");
    cluster.local("shop/db", &[DB, "fd00::2"], &[("app", "open")]);
    assert_eq!(reaches(&cluster, "shop/db", 80), ALL, "the pod is isolated no more");
    assert!(cluster.kernel.allows.is_empty() && cluster.kernel.identities.is_empty());
}

#[test]
fn labels_of_namespaces_take_effect_at_once() {
    let mut cluster = shop();
    cluster.kubernetes(
        "shop/p",
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]}",
    );
    assert_eq!(reaches(&cluster, "shop/db", 80), ["tool"]);
    cluster.namespace("ops", &[("team", "green")]);
    assert_eq!(reaches(&cluster, "shop/db", 80), NOBODY);
    cluster.namespace("shop", &[("team", "blue")]);
    assert_eq!(reaches(&cluster, "shop/db", 80), ["web", "db"]);
    cluster.put_profile("kns.shop", None);
    assert_eq!(reaches(&cluster, "shop/db", 80), NOBODY, "policies stay, the namespace's labels go");
    assert!(!cluster.egress("shop/db", OUTSIDE, "TCP", 80), "without its profile nothing says that it may send");
    cluster.namespace("shop", &[("team", "blue")]);
    assert!(cluster.egress("shop/db", OUTSIDE, "TCP", 80));
}

#[test]
fn all_addresses_of_a_pod_count() {
    let mut cluster = shop();
    cluster.kubernetes(
        "shop/p",
        "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}",
    );
    assert!(cluster.ingress("shop/db", WEB, "TCP", 80) && cluster.ingress("shop/db", "fd00::1", "TCP", 80));
}

#[test]
fn a_new_pod_is_isolated_with_its_first_tables() {
    let mut cluster = shop();
    cluster.kubernetes("shop/deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}");
    let changes = cluster.local("shop/new", &["10.0.0.9"], &[("app", "new")]);
    let programs = &changes.added.endpoints["cali-shop-new"];
    assert!(programs.ingress.is_some() && programs.egress.is_some());
    assert_eq!(elements(&changes), 4, "interface, address, two programs");
}

#[test]
fn a_policy_renamed_or_written_again_changes_nothing() {
    let mut cluster = shop();
    let spec = "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}";
    cluster.kubernetes("shop/p", spec);
    assert!(cluster.kubernetes("shop/p", spec).is_empty());
    assert!(cluster.kubernetes("shop/q", spec).is_empty(), "the same twice");
    assert!(cluster.put_policy("shop", "knp.default.p", None).is_empty());
    assert_eq!(reaches(&cluster, "shop/db", 80), ["web"]);
}

#[test]
fn policies_without_local_pods_program_nothing() {
    let mut cluster = shop();
    let changes = cluster.kubernetes(
        "ops/p",
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}]}]}",
    );
    assert!(changes.is_empty());
}
