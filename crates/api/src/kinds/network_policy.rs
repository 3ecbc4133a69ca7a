use std::fmt;
use std::str::FromStr;

use margay_net::Cidr;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Metadata, Object, Problem, Spec, selector};

/// Who may talk to, and be talked to by, the endpoints of a namespace that a selector picks.
///
/// A Kubernetes NetworkPolicy `NAME` is stored as `knp.default.NAME` of its namespace.
pub type NetworkPolicy = Object<NetworkPolicySpec>;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Lower comes first; absent comes last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// The endpoints of the namespace that the policy applies to; all where empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<PolicyType>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_selector: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PolicyType {
    Ingress,
    Egress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    Allow,
    Deny,
    Log,
    Pass,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    pub action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_version: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "EntityRule::is_empty")]
    pub source: EntityRule,
    #[serde(default, skip_serializing_if = "EntityRule::is_empty")]
    pub destination: EntityRule,
}

/// One side of a connection as a rule sees it; all that is given must match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EntityRule {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<Cidr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_nets: Vec<Cidr>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace_selector: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

impl EntityRule {
    pub fn is_empty(&self) -> bool {
        *self == EntityRule::default()
    }
}

impl Rule {
    /// A rule that lets everything pass.
    pub fn allow_all() -> Rule {
        Rule {
            action: Action::Allow,
            ip_version: None,
            protocol: None,
            source: EntityRule::default(),
            destination: EntityRule::default(),
        }
    }

    pub(crate) fn problems(&self, path: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (side, entity) in [("source", &self.source), ("destination", &self.destination)] {
            for (field, text) in [("selector", &entity.selector), ("namespaceSelector", &entity.namespace_selector)] {
                if let Err(error) = selector::check(text) {
                    problems.push(Problem::new(format!("{path}.{side}.{field}"), error.to_string()));
                }
            }
            if !entity.ports.is_empty() && !self.protocol.as_ref().is_some_and(Protocol::has_ports) {
                problems.push(Problem::new(format!("{path}.{side}.ports"), "need protocol TCP, UDP or SCTP"));
            }
        }
        problems
    }
}

impl Spec for NetworkPolicySpec {
    const KIND: &'static str = "NetworkPolicy";
    const PLURAL: &'static str = "networkpolicies";
    const NAMESPACED: bool = true;

    fn validate(&self, _metadata: &Metadata) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(error) = selector::check(&self.selector) {
            problems.push(Problem::new("spec.selector", error.to_string()));
        }
        for (direction, rules) in [("ingress", &self.ingress), ("egress", &self.egress)] {
            for (index, rule) in rules.iter().enumerate() {
                problems.extend(rule.problems(&format!("spec.{direction}[{index}]")));
            }
        }
        problems
    }
}

impl NetworkPolicySpec {
    /// The directions that the policy isolates: `types`, or what the rules imply (Calico: no egress rule, Ingress;
    /// only egress rules, Egress; both, both).
    pub fn types(&self) -> Vec<PolicyType> {
        if !self.types.is_empty() {
            return self.types.clone();
        }
        match (self.ingress.is_empty(), self.egress.is_empty()) {
            (_, true) => vec![PolicyType::Ingress],
            (true, false) => vec![PolicyType::Egress],
            (false, false) => vec![PolicyType::Ingress, PolicyType::Egress],
        }
    }
}

/// An IP protocol, by name or by number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Icmpv6,
    UdpLite,
    Number(u8),
}

impl Protocol {
    const NAMES: [(&'static str, Protocol); 6] = [
        ("TCP", Protocol::Tcp),
        ("UDP", Protocol::Udp),
        ("SCTP", Protocol::Sctp),
        ("ICMP", Protocol::Icmp),
        ("ICMPv6", Protocol::Icmpv6),
        ("UDPLite", Protocol::UdpLite),
    ];

    /// The number in the IP header (IANA protocol numbers).
    pub fn number(&self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
            Protocol::Icmp => 1,
            Protocol::Icmpv6 => 58,
            Protocol::UdpLite => 136,
            Protocol::Number(number) => *number,
        }
    }

    /// Tells whether rules may give ports with it.
    pub fn has_ports(&self) -> bool {
        matches!(self.number(), 6 | 17 | 132)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Protocol::NAMES.iter().find(|(_, protocol)| protocol == self) {
            Some((name, _)) => f.write_str(name),
            None => self.number().fmt(f),
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((_, protocol)) = Protocol::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Ok(protocol.clone());
        }
        match text.parse::<u8>() {
            Ok(number) if number > 0 => Ok(Protocol::Number(number)),
            _ => Err(format!("'{text}' is not a protocol: expected TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite or 1 to 255")),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Protocol::Number(number) => serializer.serialize_u8(*number),
            named => serializer.collect_str(named),
        }
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_string(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A port, a range of ports, or the name of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    Number(u16),
    /// Both ends inclusive.
    Range(u16, u16),
    Named(String),
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Number(number) => number.fmt(f),
            Port::Range(first, last) => write!(f, "{first}:{last}"),
            Port::Named(name) => f.write_str(name),
        }
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(number) = text.parse() {
            return Ok(Port::Number(number));
        }
        if let Some((first, last)) = text.split_once(':') {
            return match (first.parse::<u16>(), last.parse::<u16>()) {
                (Ok(first), Ok(last)) if first <= last => Ok(Port::Range(first, last)),
                _ => Err(format!("'{text}' is not a range of ports such as 8000:8080")),
            };
        }
        let name = !text.is_empty()
            && text.len() <= 128
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if name && !text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Port::Named(text.to_owned()))
        } else {
            Err(format!("'{text}' is not a port, a range of ports or the name of a port"))
        }
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Port::Number(number) => serializer.serialize_u16(*number),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_string(deserializer)?.parse().map_err(de::Error::custom)
    }
}

pub(crate) fn number_or_string<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number or a string")
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<String, E> {
            Ok(value.to_string())
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<String, E> {
            Ok(value.to_string())
        }
        fn visit_str<E: de::Error>(self, value: &str) -> Result<String, E> {
            Ok(value.to_owned())
        }
    }
    deserializer.deserialize_any(Visitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_ranges_or_names() {
        for (text, port) in
            [("80", Port::Number(80)), ("8000:8080", Port::Range(8000, 8080)), ("http", Port::Named("http".to_owned()))]
        {
            assert_eq!(text.parse(), Ok(port));
        }
        for bad in ["", "65536", "90:80", "a b"] {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
    }

    #[test]
    fn types_follow_from_the_rules_where_absent() {
        let spec = |ingress: usize, egress: usize| NetworkPolicySpec {
            ingress: vec![Rule::allow_all(); ingress],
            egress: vec![Rule::allow_all(); egress],
            ..NetworkPolicySpec::default()
        };
        assert_eq!(spec(0, 0).types(), [PolicyType::Ingress]);
        assert_eq!(spec(0, 1).types(), [PolicyType::Egress]);
        assert_eq!(spec(1, 1).types(), [PolicyType::Ingress, PolicyType::Egress]);
    }

    #[test]
    fn json_is_calicos() {
        let json = r#"{"action":"Allow","protocol":"TCP","source":{"selector":"a == 'b'"},"destination":{"ports":[80,"90:99","http"]}}"#;
        let rule: Rule = serde_json::from_str(json).expect("a rule");
        assert_eq!(serde_json::to_string(&rule).expect("JSON"), json);
    }
}
