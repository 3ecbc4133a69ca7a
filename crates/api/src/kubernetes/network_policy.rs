use std::fmt::Write;

use margay_net::Cidr;
use serde::{Deserialize, Serialize};

use crate::kinds::{self, Action, EntityRule, PolicyType, Port, Protocol, Rule};
use crate::{Labels, Metadata, Object, Problem, Spec};

/// A `networking.k8s.io/v1` NetworkPolicy.
pub type NetworkPolicy = Object<NetworkPolicySpec>;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySpec {
    /// The pods that the policy isolates; all of the namespace where empty or absent.
    pub pod_selector: LabelSelector,
    pub ingress: Option<Vec<NetworkPolicyIngressRule>>,
    pub egress: Option<Vec<NetworkPolicyEgressRule>>,
    pub policy_types: Option<Vec<PolicyType>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    pub match_labels: Labels,
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelSelectorRequirement {
    pub key: String,
    pub operator: String,
    #[serde(default)]
    pub values: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkPolicyIngressRule {
    pub ports: Option<Vec<NetworkPolicyPort>>,
    pub from: Option<Vec<NetworkPolicyPeer>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkPolicyEgressRule {
    pub ports: Option<Vec<NetworkPolicyPort>>,
    pub to: Option<Vec<NetworkPolicyPeer>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyPort {
    pub protocol: Option<Protocol>,
    pub port: Option<Port>,
    pub end_port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyPeer {
    pub pod_selector: Option<LabelSelector>,
    pub namespace_selector: Option<LabelSelector>,
    pub ip_block: Option<IpBlock>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpBlock {
    pub cidr: Cidr,
    #[serde(default)]
    pub except: Vec<Cidr>,
}

impl Spec for NetworkPolicySpec {
    const API_VERSION: &'static str = "networking.k8s.io/v1";
    const KIND: &'static str = "NetworkPolicy";
    const PLURAL: &'static str = "networkpolicies";
    const NAMESPACED: bool = true;

    fn validate(&self, _metadata: &Metadata) -> Vec<Problem> {
        let mut problems = self.pod_selector.problems("spec.podSelector");
        for (index, rule) in self.ingress.iter().flatten().enumerate() {
            rule_problems(&format!("spec.ingress[{index}]"), "from", &rule.from, &rule.ports, &mut problems);
        }
        for (index, rule) in self.egress.iter().flatten().enumerate() {
            rule_problems(&format!("spec.egress[{index}]"), "to", &rule.to, &rule.ports, &mut problems);
        }
        problems
    }
}

fn rule_problems(
    path: &str,
    peers_field: &str,
    peers: &Option<Vec<NetworkPolicyPeer>>,
    ports: &Option<Vec<NetworkPolicyPort>>,
    problems: &mut Vec<Problem>,
) {
    for (index, peer) in peers.iter().flatten().enumerate() {
        let path = format!("{path}.{peers_field}[{index}]");
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match (&peer.ip_block, selects) {
            (None, false) => {
                problems.push(Problem::new(&path, "needs a podSelector, a namespaceSelector or an ipBlock"));
            }
            (Some(_), true) => problems.push(Problem::new(&path, "ipBlock is exclusive with the selectors")),
            _ => {}
        }
        if let Some(selector) = &peer.pod_selector {
            problems.extend(selector.problems(&format!("{path}.podSelector")));
        }
        if let Some(selector) = &peer.namespace_selector {
            problems.extend(selector.problems(&format!("{path}.namespaceSelector")));
        }
        for except in peer.ip_block.iter().flat_map(|block| &block.except) {
            if let Some(block) = &peer.ip_block
                && (!block.cidr.covers(*except) || block.cidr == *except)
            {
                let reason = format!("{except} is not strictly within {}", block.cidr);
                problems.push(Problem::new(format!("{path}.ipBlock.except"), reason));
            }
        }
    }
    for (index, port) in ports.iter().flatten().enumerate() {
        let path = format!("{path}.ports[{index}]");
        if !port.protocol.as_ref().is_none_or(Protocol::has_ports) {
            problems.push(Problem::new(format!("{path}.protocol"), "must be TCP, UDP or SCTP"));
        }
        match (&port.port, port.end_port) {
            (Some(Port::Number(first)), Some(last)) if last < *first => {
                problems.push(Problem::new(format!("{path}.endPort"), format!("{last} is below port {first}")));
            }
            (Some(Port::Number(_)) | None, None) | (Some(Port::Number(_) | Port::Named(_)), _) => {
                if let (Some(Port::Named(_)), Some(_)) = (&port.port, port.end_port) {
                    problems.push(Problem::new(format!("{path}.endPort"), "needs a numeric port"));
                }
            }
            (None, Some(_)) => problems.push(Problem::new(format!("{path}.endPort"), "needs a port")),
            (Some(Port::Range(..)), _) => {
                problems.push(Problem::new(format!("{path}.port"), "is one number or a name; use endPort for a range"));
            }
        }
    }
}

impl LabelSelector {
    fn problems(&self, path: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut check = |path: &str, key: &str, values: &[String]| {
            if !is_label_key(key) {
                problems.push(Problem::new(path, format!("'{key}' is not a label key")));
            }
            if let Some(value) = values.iter().find(|value| !is_label_value(value)) {
                problems.push(Problem::new(path, format!("'{value}' is not a label value")));
            }
        };
        for (key, value) in &self.match_labels {
            check(&format!("{path}.matchLabels"), key, std::slice::from_ref(value));
        }
        for (index, requirement) in self.match_expressions.iter().enumerate() {
            let path = format!("{path}.matchExpressions[{index}]");
            check(&path, &requirement.key, &requirement.values);
        }
        for (index, requirement) in self.match_expressions.iter().enumerate() {
            let path = format!("{path}.matchExpressions[{index}]");
            match (requirement.operator.as_str(), requirement.values.is_empty()) {
                ("In" | "NotIn", false) | ("Exists" | "DoesNotExist", true) => {}
                ("In" | "NotIn", true) => problems.push(Problem::new(format!("{path}.values"), "must not be empty")),
                ("Exists" | "DoesNotExist", false) => {
                    problems.push(Problem::new(format!("{path}.values"), "must be empty with this operator"));
                }
                (other, _) => problems.push(Problem::new(
                    format!("{path}.operator"),
                    format!("'{other}' is not one of In, NotIn, Exists, DoesNotExist"),
                )),
            }
        }
        problems
    }

    /// The selector in Calico's language; None where it matches everything.
    fn expression(&self) -> Option<String> {
        let mut terms: Vec<String> =
            self.match_labels.iter().map(|(key, value)| format!("{key} == '{value}'")).collect();
        for LabelSelectorRequirement { key, operator, values } in &self.match_expressions {
            let quoted: Vec<String> = values.iter().map(|value| format!("'{value}'")).collect();
            let set = format!("{{ {} }}", quoted.join(", "));
            terms.push(match operator.as_str() {
                "In" => format!("{key} in {set}"),
                "NotIn" => format!("{key} not in {set}"),
                "Exists" => format!("has({key})"),
                _ => format!("! has({key})"),
            });
        }
        (!terms.is_empty()).then(|| terms.join(" && "))
    }
}

/// A label's name behind an optional `PREFIX/`, as far as selectors care: letters, digits, `-`, `_`, `.`, `/`.
fn is_label_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/'))
}

/// At most 63 letters, digits, `-`, `_` and `.`.
fn is_label_value(value: &str) -> bool {
    value.len() <= 63 && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// What Calico's controllers store for a Kubernetes NetworkPolicy: `knp.default.NAME` in its namespace, order 1000,
/// one rule for each pair of protocol and peer.
pub fn network_policy(policy: &NetworkPolicy) -> kinds::NetworkPolicy {
    let spec = &policy.spec;
    let ingress = spec.ingress.iter().flatten().flat_map(|rule| rules(&rule.from, &rule.ports, Side::Source));
    let egress = spec.egress.iter().flatten().flat_map(|rule| rules(&rule.to, &rule.ports, Side::Destination));
    // The API server fills in absent policyTypes: Ingress always, Egress where there is an egress rule.
    let types = spec.policy_types.clone().unwrap_or_else(|| match spec.egress.as_deref() {
        None | Some([]) => vec![PolicyType::Ingress],
        Some(_) => vec![PolicyType::Ingress, PolicyType::Egress],
    });
    let kept = |direction: PolicyType, rules: Vec<Rule>| {
        if types.contains(&direction) { rules } else { Vec::new() }
    };
    let converted = kinds::NetworkPolicySpec {
        tier: Some("default".to_owned()),
        order: Some(1000.0),
        ingress: kept(PolicyType::Ingress, ingress.collect()),
        egress: kept(PolicyType::Egress, egress.collect()),
        selector: pods(&spec.pod_selector),
        types,
        service_account_selector: String::new(),
    };
    let namespace = policy.namespace().unwrap_or("default");
    Object::namespaced(namespace, format!("knp.default.{}", policy.name()), converted)
}

/// Which side of the connection a rule's peers stand on.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

fn pods(selector: &LabelSelector) -> String {
    let mut text = "projectcalico.org/orchestrator == 'k8s'".to_owned();
    if let Some(expression) = selector.expression() {
        // Writing to a String cannot fail.
        let _ = write!(text, " && {expression}");
    }
    text
}

fn rules(peers: &Option<Vec<NetworkPolicyPeer>>, ports: &Option<Vec<NetworkPolicyPort>>, side: Side) -> Vec<Rule> {
    let entities: Vec<EntityRule> = match peers.as_deref() {
        None | Some([]) => vec![EntityRule::default()],
        Some(peers) => peers.iter().map(entity).collect(),
    };
    let mut by_protocol: Vec<(Option<Protocol>, Vec<Port>)> = Vec::new();
    for port in ports.iter().flatten() {
        let protocol = port.protocol.clone().unwrap_or(Protocol::Tcp);
        let port = match (&port.port, port.end_port) {
            (Some(Port::Number(first)), Some(last)) if last > *first => Some(Port::Range(*first, last)),
            (port, _) => port.clone(),
        };
        // A port entry without a port opens the whole protocol, whatever other entries say.
        match (by_protocol.iter_mut().find(|(known, _)| known.as_ref() == Some(&protocol)), port) {
            (None, port) => by_protocol.push((Some(protocol), port.into_iter().collect())),
            (Some((_, known)), None) => known.clear(),
            (Some((_, known)), Some(port)) => {
                if !known.is_empty() {
                    known.push(port);
                }
            }
        }
    }
    if by_protocol.is_empty() {
        by_protocol.push((None, Vec::new()));
    }
    let mut rules = Vec::new();
    for (protocol, ports) in &by_protocol {
        for entity in &entities {
            let mut rule = Rule { protocol: protocol.clone(), ..Rule::allow_all() };
            debug_assert_eq!(rule.action, Action::Allow);
            match side {
                Side::Source => rule.source = entity.clone(),
                Side::Destination => rule.destination = entity.clone(),
            }
            rule.destination.ports = ports.clone();
            rules.push(rule);
        }
    }
    rules
}

fn entity(peer: &NetworkPolicyPeer) -> EntityRule {
    if let Some(block) = &peer.ip_block {
        return EntityRule { nets: vec![block.cidr], not_nets: block.except.clone(), ..EntityRule::default() };
    }
    let selector = pods(peer.pod_selector.as_ref().unwrap_or(&LabelSelector::default()));
    let namespace_selector = match &peer.namespace_selector {
        None => String::new(),
        Some(selector) => selector.expression().unwrap_or_else(|| "all()".to_owned()),
    };
    EntityRule { selector, namespace_selector, ..EntityRule::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_documents;

    fn converted(spec: &str) -> serde_json::Value {
        let text = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n{spec}"
        );
        let policy = parse_documents(&text).expect("YAML")[0].object::<NetworkPolicySpec>().expect("a policy");
        serde_json::to_value(network_policy(&policy)).expect("JSON")
    }

    #[test]
    fn default_deny_isolates_without_rules() {
        let policy = converted("  podSelector: {}\n  policyTypes: [Ingress, Egress]\n");
        assert_eq!(policy["metadata"]["name"], "knp.default.p");
        assert_eq!(policy["metadata"]["namespace"], "shop");
        assert_eq!(policy["spec"]["types"], serde_json::json!(["Ingress", "Egress"]));
        assert_eq!(policy["spec"]["selector"], "projectcalico.org/orchestrator == 'k8s'");
        assert!(policy["spec"].get("ingress").is_none() && policy["spec"].get("egress").is_none());
    }

    #[test]
    fn a_rule_becomes_one_for_each_protocol_and_peer() {
        let policy = converted(
            "  podSelector: {matchLabels: {app: db}}\n  ingress:\n  - from:\n    - podSelector: {matchLabels: {app: web}}\n    \
             - namespaceSelector: {}\n    ports:\n    - {port: 5432}\n    - {port: 8000, endPort: 8010}\n    - {protocol: UDP, port: dns}\n",
        );
        let rules = policy["spec"]["ingress"].as_array().expect("rules");
        assert_eq!(rules.len(), 4);
        assert_eq!(rules[0]["destination"]["ports"], serde_json::json!([5432, "8000:8010"]));
        assert_eq!(rules[0]["source"]["selector"], "projectcalico.org/orchestrator == 'k8s' && app == 'web'");
        assert_eq!(rules[1]["source"]["namespaceSelector"], "all()");
        assert_eq!(rules[2]["protocol"], "UDP");
        assert_eq!(policy["spec"]["types"], serde_json::json!(["Ingress"]));
    }

    #[test]
    fn an_entry_without_a_port_opens_the_protocol() {
        let policy = converted(
            "  podSelector: {}\n  ingress:\n  - ports:\n    - {port: 80}\n    - {protocol: TCP}\n    - {port: 90}\n",
        );
        assert!(policy["spec"]["ingress"][0]["destination"].get("ports").is_none());
        assert_eq!(policy["spec"]["ingress"][0]["protocol"], "TCP");
    }

    #[test]
    fn mistakes_are_named() {
        for (spec, field) in [
            ("  ingress: [{from: [{}]}]\n", "spec.ingress[0].from[0]"),
            ("  ingress: [{ports: [{port: 80, endPort: 70}]}]\n", "spec.ingress[0].ports[0].endPort"),
            (
                "  podSelector: {matchExpressions: [{key: a, operator: Near}]}\n",
                "spec.podSelector.matchExpressions[0].operator",
            ),
            (
                "  egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]\n",
                "spec.egress[0].to[0].ipBlock.except",
            ),
        ] {
            let text =
                format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\nspec:\n{spec}");
            let error = parse_documents(&text).expect("YAML")[0].object::<NetworkPolicySpec>().expect_err(spec);
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}
