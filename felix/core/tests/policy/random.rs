//! Random worlds: small enough that everything meets everything, from a seed.

use margay_api::kinds::{
    Action, EntityRule, NetworkPolicy, NetworkPolicySpec, PolicyType, Port, Profile, ProfileSpec, Protocol, Rule,
    WorkloadEndpoint,
};
use margay_api::{Object, kubernetes};

use crate::world::{Cluster, labels, pod, port};

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

pub(crate) const NAMESPACES: [&str; 3] = ["a", "b", "c"];
pub(crate) const ADDRESSES: [&str; 12] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.1.1",
    "10.0.1.2",
    "10.1.0.1",
    "192.0.2.1",
    "fd00::1",
    "fd00::2",
    "fd00:0:0:1::1",
    "fd00:0:0:1::2",
    "2001:db8::1",
];
/// Addresses that no pod ever has.
pub(crate) const STRANGERS: [&str; 9] = [
    "0.0.0.0",
    "9.255.255.255",
    "10.0.0.0",
    "10.0.0.77",
    "10.255.0.1",
    "198.51.100.1",
    "255.255.255.255",
    "fd00::77",
    "2001:db8:1::1",
];
const SELECTORS: [&str; 14] = [
    "",
    "",
    "all()",
    "app == 'web'",
    "app == 'db'",
    "app != 'web'",
    "has(role)",
    "!has(role)",
    "app in {'web', 'db'}",
    "role not in {'x'}",
    "global()",
    "app == 'web' || env == 'prod'",
    "app contains 'e' && !has(env)",
    "projectcalico.org/serviceaccount == 'robot'",
];
const NAMESPACE_SELECTORS: [&str; 9] =
    ["", "", "", "all()", "team == 'red'", "team != 'red'", "!has(team)", "global()", "projectcalico.org/name == 'a'"];
const NETS: [&str; 14] = [
    "10.0.0.0/8",
    "10.0.0.0/16",
    "10.0.0.0/24",
    "10.0.1.0/24",
    "10.0.0.1/32",
    "0.0.0.0/0",
    "192.0.2.0/24",
    "255.255.255.255/32",
    "0.0.0.0/1",
    "fd00::/16",
    "fd00::/64",
    "::/0",
    "fd00::1/128",
    "2001:db8::/32",
];
const PORT_NAMES: [(&str, &str); 4] = [("http", "TCP"), ("http", "UDP"), ("dns", "UDP"), ("sigtran", "SCTP")];
const NUMBERS: [u16; 6] = [53, 80, 81, 443, 8080, 65535];
pub(crate) const PORTS: [u16; 12] = [0, 1, 52, 53, 79, 80, 81, 82, 443, 8080, 65534, 65535];
pub(crate) const PROTOCOLS: [u8; 6] = [1, 6, 17, 58, 132, 200];

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn some<T: Copy>(&mut self, from: &[T], most: usize) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| self.pick(from)).collect()
    }

    fn pairs(&mut self) -> Vec<(&'static str, &'static str)> {
        let choices =
            [("app", "web"), ("app", "db"), ("role", "x"), ("role", "y"), ("env", "prod"), ("pcns.team", "red")];
        self.some(&choices, 3)
    }

    /// One step of a cluster's life.
    pub(crate) fn step(&mut self, cluster: &mut Cluster) {
        match self.below(10) {
            0..4 => {
                let key = format!("pod{}", self.below(8));
                let gone = self.one_in(5);
                let endpoint = (!gone).then(|| self.endpoint(&key));
                cluster.put_endpoint(&key, endpoint);
            }
            4..8 => {
                let (namespace, name) = (self.pick(&NAMESPACES), format!("p{}", self.below(3)));
                let gone = self.one_in(4);
                let policy = (!gone).then(|| self.policy(namespace, &name));
                cluster.put_policy(namespace, &name, policy);
            }
            _ => {
                let name = match self.below(5) {
                    0 => "ksa.a.robot".to_owned(),
                    _ => format!("kns.{}", self.pick(&NAMESPACES)),
                };
                let gone = self.one_in(6);
                let profile = (!gone).then(|| self.profile(&name));
                cluster.put_profile(&name, profile);
            }
        }
    }

    pub(crate) fn endpoint(&mut self, key: &str) -> WorkloadEndpoint {
        let (node, namespace) = (self.pick(&["n1", "n1", "n2"]), self.pick(&NAMESPACES));
        let addresses = self.some(&ADDRESSES, 3);
        let mut endpoint = pod(node, &format!("{namespace}/{key}"), &addresses);
        endpoint.metadata.labels = labels(&self.pairs());
        if self.one_in(4) {
            endpoint.spec.service_account_name = "robot".into();
            endpoint.spec.profiles.push("ksa.a.robot".into());
        }
        if self.one_in(10) {
            endpoint.spec.profiles.clear();
        }
        if self.one_in(10) {
            endpoint.spec.interface_name = "cali-shared".into();
        }
        for (name, protocol) in self.some(&PORT_NAMES, 3) {
            endpoint.spec.ports.push(port(name, protocol, self.pick(&NUMBERS)));
        }
        endpoint
    }

    fn profile(&mut self, name: &str) -> Profile {
        let mut spec = ProfileSpec::default();
        if let Some(namespace) = name.strip_prefix("kns.") {
            spec.labels_to_apply = labels(&[("pcns.projectcalico.org/name", namespace)]);
            if self.one_in(2) {
                spec.labels_to_apply.insert("pcns.team".into(), self.pick(&["red", "blue"]).into());
            }
            if !self.one_in(4) {
                spec.ingress = vec![Rule::allow_all()];
                spec.egress = vec![Rule::allow_all()];
            }
        }
        if !name.starts_with("kns.") {
            let team = self.pick(&["red", "green"]);
            spec.labels_to_apply = labels(&[("pcns.team", team), ("app", "web"), ("pcsa.kind", "robot")]);
        }
        if spec.ingress.is_empty() && self.one_in(2) {
            spec.ingress = self.rules(2, true);
            spec.egress = self.rules(2, true);
        }
        Object::named(name, spec)
    }

    fn policy(&mut self, namespace: &str, name: &str) -> NetworkPolicy {
        let kubernetes_like = self.one_in(2);
        let types = match self.below(4) {
            0 => vec![PolicyType::Ingress],
            1 => vec![PolicyType::Egress],
            2 => vec![PolicyType::Ingress, PolicyType::Egress],
            _ => Vec::new(),
        };
        let spec = NetworkPolicySpec {
            tier: Some(if self.one_in(20) { "other" } else { "default" }.to_owned()),
            order: self.pick(&[None, Some(1.0), Some(10.0), Some(10.0)]),
            ingress: self.rules(4, !kubernetes_like),
            egress: self.rules(4, !kubernetes_like),
            selector: if self.one_in(30) { "app = 'x'" } else { self.pick(&SELECTORS) }.to_owned(),
            types,
            service_account_selector: if self.one_in(10) { "all()" } else { "" }.to_owned(),
        };
        let policy = Object::namespaced(namespace, name, spec);
        // A policy without any rule is as a Kubernetes default deny.
        if self.one_in(8) {
            let empty = Object::namespaced(namespace, name, kubernetes::NetworkPolicySpec::default());
            return Object { metadata: policy.metadata, ..kubernetes::network_policy(&empty) };
        }
        policy
    }

    fn rules(&mut self, most: usize, any_action: bool) -> Vec<Rule> {
        (0..self.below(most + 1)).map(|_| self.rule(any_action)).collect()
    }

    fn rule(&mut self, any_action: bool) -> Rule {
        let mut rule = Rule::allow_all();
        if any_action {
            rule.action = self.pick(&[Action::Allow, Action::Allow, Action::Deny, Action::Pass, Action::Log]);
            rule.ip_version = if self.one_in(8) { Some(self.pick(&[4, 6])) } else { None };
        }
        rule.protocol = match self.below(8) {
            0..3 => None,
            3..5 => Some(Protocol::Tcp),
            5 => Some(Protocol::Udp),
            6 => Some(Protocol::Sctp),
            _ => Some(self.pick(&[1, 58, 200]).to_string().parse().unwrap()),
        };
        let (side, chances) = (self.below(2), if any_action { 3 } else { 6 });
        for (index, entity) in [&mut rule.source, &mut rule.destination].into_iter().enumerate() {
            if index == side || self.one_in(chances) {
                *entity = self.entity();
            }
        }
        if rule.protocol.as_ref().is_some_and(Protocol::has_ports) && !self.one_in(3) {
            rule.destination.ports = (0..=self.below(3)).map(|_| self.port()).collect();
        }
        if self.one_in(25) {
            rule.source.ports.push(Port::Number(80));
        }
        rule
    }

    fn entity(&mut self) -> EntityRule {
        let mut entity = EntityRule::default();
        match self.below(5) {
            0 => {}
            1 | 2 => {
                entity.selector = if self.one_in(30) { "has(" } else { self.pick(&SELECTORS) }.to_owned();
                entity.namespace_selector = self.pick(&NAMESPACE_SELECTORS).to_owned();
            }
            3 => {
                entity.nets = self.some(&NETS, 3).iter().map(|net| net.parse().unwrap()).collect();
                entity.not_nets = self.some(&NETS, 2).iter().map(|net| net.parse().unwrap()).collect();
            }
            _ => {
                entity.selector = self.pick(&SELECTORS).to_owned();
                entity.nets = self.some(&NETS, 2).iter().map(|net| net.parse().unwrap()).collect();
            }
        }
        entity
    }

    fn port(&mut self) -> Port {
        match self.below(4) {
            0 => Port::Named(self.pick(&["http", "dns", "sigtran", "nobody"]).to_owned()),
            1 => {
                let (a, b) = (self.pick(&PORTS), self.pick(&PORTS));
                Port::Range(a.min(b), a.max(b))
            }
            _ => Port::Number(self.pick(&NUMBERS)),
        }
    }
}
