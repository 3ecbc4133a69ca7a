//! What the policy compiler costs in time, elements and memory: `cargo run --release --example policy_figures`.
//!
//! The cluster has 100 namespaces; the policies of each let an application receive from the next one, from the
//! namespaces of a team and from a block, and send to a database by a named port and to the resolver.

use std::time::{Duration, Instant};

use margay_api::kinds::{NetworkPolicy, Profile, WorkloadEndpoint, WorkloadEndpointPort, WorkloadEndpointSpec};
use margay_api::kubernetes::{self, NamespaceSpec, NetworkPolicySpec};
use margay_api::{Object, parse_documents};
use margay_felix_core::policy::{PolicyChanges, PolicyCore, PolicyTables};

const NAMESPACES: usize = 100;
const APPS: usize = 10;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("memory") => memory(100_000, false),
        Some("memory-unique") => memory(100_000, true),
        _ => {
            println!("10,000 endpoints and 1,000 policies, all of this node:");
            single_changes(10_000, 10_000);
            println!("100,000 pods and 1,000 policies, 250 of the pods here:");
            single_changes(100_000, 250);
            // Each in a process of its own, so that it finds no memory that an earlier one left free.
            for what in ["memory", "memory-unique"] {
                let program = std::env::current_exe().expect("this program has a path");
                let status = std::process::Command::new(program).arg(what).status();
                assert!(status.is_ok_and(|status| status.success()), "{what}");
            }
        }
    }
}

/// An update, ready to be given to the compiler.
enum Update {
    Endpoint(String, Option<WorkloadEndpoint>),
    Policy(NetworkPolicy, bool),
    Profile(Profile),
}

impl Update {
    fn apply(&self, core: &mut PolicyCore) {
        match self {
            Update::Endpoint(key, endpoint) => core.update_endpoint(key, endpoint.as_ref()),
            Update::Policy(policy, present) => {
                let namespace = policy.namespace().unwrap_or("default");
                core.update_policy(namespace, policy.name(), present.then_some(policy));
            }
            Update::Profile(profile) => core.update_profile(profile.name(), Some(profile)),
        }
    }
}

fn single_changes(pods: usize, local: usize) {
    let mut core = PolicyCore::new("here");
    let mut measure = |what: &str, count: usize, update: &dyn Fn(usize) -> Update| {
        let (mut times, mut most) = (Vec::new(), 0);
        for update in (0..count).map(update).collect::<Vec<_>>() {
            let start = Instant::now();
            update.apply(&mut core);
            let changes = core.changes();
            times.push(start.elapsed());
            most = most.max(elements(&changes));
        }
        report(what, times, most);
    };
    // Off the grid of namespaces and applications, so that this node has pods of every kind.
    let stride = if local == pods { 1 } else { pods / local + 1 };
    let node = |index: usize| if index.is_multiple_of(stride) { "here" } else { "elsewhere" };
    let key = |index: usize| format!("/calico/resources/v3/projectcalico.org/workloadendpoints/pod{index}");
    let put = |index: usize, app: usize| Update::Endpoint(key(index), Some(pod(index, app, node(index), false)));
    let here = |n: usize| n * stride;
    measure("first, the namespaces", NAMESPACES, &|n| Update::Profile(namespace(n, n % 10)));
    measure("and service accounts", NAMESPACES, &|n| Update::Profile(account(n)));
    measure("then the endpoints", pods, &|n| put(n, app_of(n)));
    measure("then the policies", NAMESPACES * APPS, &|n| Update::Policy(policy(n, 5432), true));
    measure("a local pod goes", 200, &|n| Update::Endpoint(key(here(n)), None));
    measure("a local pod comes", 200, &|n| put(here(n), app_of(here(n))));
    measure("it changes its application", 200, &|n| put(here(n), app_of(here(n)) + 1));
    measure("and back", 200, &|n| put(here(n), app_of(here(n))));
    measure("a policy's port changes", 200, &|n| Update::Policy(policy(n, 5433), true));
    measure("a policy goes", 200, &|n| Update::Policy(policy(n, 5433), false));
    measure("a policy comes", 200, &|n| Update::Policy(policy(n, 5433), true));
    measure("a namespace changes team", 50, &|n| Update::Profile(namespace(n, n % 10 + 1)));
    let tables = core.tables();
    println!(
        "  tables: {} endpoints, {} identities, {} ranges, {} allows",
        tables.endpoints.len(),
        tables.identities.len(),
        tables.ranges.len(),
        tables.allows.len()
    );
}

fn memory(pods: usize, unique: bool) {
    let before = resident();
    let mut core = PolicyCore::new("here");
    for number in 0..NAMESPACES {
        Update::Profile(namespace(number, number % 10)).apply(&mut core);
        Update::Profile(account(number)).apply(&mut core);
    }
    for index in 0..NAMESPACES * APPS {
        Update::Policy(policy(index, 5432), true).apply(&mut core);
    }
    let start = Instant::now();
    for index in 0..pods {
        let node = if index % 400 == 0 { "here" } else { "elsewhere" };
        core.update_endpoint(&format!("pod{index}"), Some(&pod(index, app_of(index), node, unique)));
    }
    let took = start.elapsed();
    drop(core.changes());
    let labels = if unique { "each with a label of its own" } else { "labels shared by application" };
    println!("{pods} pods, {labels}: {} MiB more, {:?} each", (resident() - before) >> 20, took / pods as u32);
}

fn report(what: &str, mut times: Vec<Duration>, most: usize) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
    println!(
        "  {what:<28} p50 {:>8.1} us  p99 {:>8.1} us  max {:>8.1} us  at most {most} elements",
        at(50),
        at(99),
        at(100)
    );
}

fn elements(changes: &PolicyChanges) -> usize {
    let count = |t: &PolicyTables| {
        let of_endpoints = t.endpoints.values().map(|endpoint| 3 + endpoint.addresses.len()).sum::<usize>();
        of_endpoints + t.identities.len() + t.ranges.len() + t.allows.len()
    };
    count(&changes.removed) + count(&changes.added)
}

fn app_of(index: usize) -> usize {
    index / NAMESPACES % APPS
}

fn pod(index: usize, app: usize, node: &str, unique: bool) -> WorkloadEndpoint {
    let namespace = index % NAMESPACES;
    let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + index as u32);
    let name = format!("app{}-6d4cf56db6-{index:05}", app % APPS);
    let spec = WorkloadEndpointSpec {
        orchestrator: "k8s".to_owned(),
        node: node.to_owned(),
        pod: name.clone(),
        endpoint: "eth0".to_owned(),
        service_account_name: "default".to_owned(),
        ip_networks: vec![std::net::IpAddr::V4(address).into()],
        profiles: vec![format!("kns.ns{namespace}"), format!("ksa.ns{namespace}.default")],
        interface_name: format!("cali{index:011x}"),
        ports: vec![WorkloadEndpointPort {
            name: "sql".to_owned(),
            protocol: margay_api::kinds::Protocol::Tcp,
            port: 5432,
            host_port: None,
            host_ip: None,
        }],
        ..WorkloadEndpointSpec::default()
    };
    let mut endpoint = Object::namespaced(format!("ns{namespace}"), name.clone(), spec);
    let labels = &mut endpoint.metadata.labels;
    labels.insert("app.kubernetes.io/name".to_owned(), format!("app{}", app % APPS));
    labels.insert("pod-template-hash".to_owned(), format!("6d4cf56db{}", app % APPS));
    if unique {
        labels.insert("statefulset.kubernetes.io/pod-name".to_owned(), name);
    }
    endpoint
}

fn namespace(number: usize, team: usize) -> Profile {
    let mut namespace = Object::named(format!("ns{number}"), NamespaceSpec::default());
    namespace.metadata.labels.insert("team".to_owned(), format!("team{team}"));
    kubernetes::namespace_profile(&namespace)
}

fn account(number: usize) -> Profile {
    let spec = kubernetes::ServiceAccountSpec::default();
    kubernetes::service_account_profile(&Object::namespaced(format!("ns{number}"), "default", spec))
}

fn policy(index: usize, port: u16) -> NetworkPolicy {
    let (namespace, app) = (index % NAMESPACES, index / NAMESPACES);
    let (next, database, team) = ((app + 1) % APPS, (app + 5) % APPS, namespace % 10);
    let text = format!(
        "apiVersion: networking.k8s.io/v1\n\
         kind: NetworkPolicy\n\
         metadata: {{name: p{app}, namespace: ns{namespace}}}\n\
         spec:\n\
         \x20 podSelector: {{matchLabels: {{app.kubernetes.io/name: app{app}}}}}\n\
         \x20 policyTypes: [Ingress, Egress]\n\
         \x20 ingress:\n\
         \x20 - from: [{{podSelector: {{matchLabels: {{app.kubernetes.io/name: app{next}}}}}}}, {{ipBlock: {{cidr: 192.0.2.0/24}}}}]\n\
         \x20   ports: [{{port: {port}}}, {{port: 9000, endPort: 9010}}]\n\
         \x20 - from: [{{namespaceSelector: {{matchLabels: {{team: team{team}}}}}, podSelector: {{matchLabels: {{app.kubernetes.io/name: app{next}}}}}}}]\n\
         \x20   ports: [{{port: 8080}}]\n\
         \x20 egress:\n\
         \x20 - to: [{{podSelector: {{matchLabels: {{app.kubernetes.io/name: app{database}}}}}}}]\n\
         \x20   ports: [{{port: sql}}]\n\
         \x20 - ports: [{{port: 53, protocol: UDP}}]\n"
    );
    let documents = parse_documents(&text).expect("YAML");
    kubernetes::network_policy(&documents[0].object::<NetworkPolicySpec>().expect("a policy"))
}

/// The resident set in bytes, from /proc/self/statm (proc(5)).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4096
}
