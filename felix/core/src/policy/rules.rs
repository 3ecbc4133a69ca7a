//! Policies and profiles, parsed once; and the rules that apply to one endpoint, resolved for it.

use std::collections::BTreeSet;

use margay_api::Labels;
use margay_api::kinds::{Action, EntityRule, NetworkPolicy, PolicyType, Port, Profile, Rule};
use margay_api::selector::{NAMESPACE_LABEL, Selector};
use margay_net::{Cidr, Family};

use super::state::Endpoint;
use super::tables::Direction;

/// The other side of a connection as a rule sees it. All that is given must match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Matcher {
    /// Matches known pods only.
    pub(super) selector: Option<Selector>,
    pub(super) nets: Vec<Cidr>,
    pub(super) not_nets: Vec<Cidr>,
    pub(super) family: Option<Family>,
    /// The pod must declare a port of this protocol and one of these names; its numbers are the ports of the rule.
    pub(super) named: Option<(u8, Vec<String>)>,
}

impl Matcher {
    pub(super) fn is_anyone(&self) -> bool {
        self.selector.is_none()
            && self.nets.is_empty()
            && self.not_nets.is_empty()
            && self.family.is_none()
            && self.named.is_none()
    }

    /// Tells whether only pods can match, so that addresses that nobody knows need not be looked at.
    pub(super) fn is_for_pods(&self) -> bool {
        self.selector.is_some() || self.named.is_some()
    }

    pub(super) fn holds_for_address(&self, addr: std::net::IpAddr) -> bool {
        (self.nets.is_empty() || self.nets.iter().any(|net| net.contains(addr)))
            && !self.not_nets.iter().any(|net| net.contains(addr))
            && self.family.is_none_or(|family| Family::of(addr) == family)
    }
}

/// A rule as it applies to one endpoint: whom it is about, and the destination ports by number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ResolvedRule {
    pub(super) verdict: RuleVerdict,
    /// None: whoever the other side is.
    pub(super) peer: Option<Matcher>,
    /// None: every protocol.
    pub(super) protocol: Option<u8>,
    /// None: every port. With a named matcher, the peer's own numbers come on top.
    pub(super) ports: Option<BTreeSet<(u16, u16)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RuleVerdict {
    Allow,
    Deny,
    /// The profiles decide.
    Pass,
}

/// A policy, its selectors parsed. One that does not parse applies with no rule: fail closed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ParsedPolicy {
    pub(super) order: f64,
    pub(super) selector: Selector,
    pub(super) types: Vec<PolicyType>,
    pub(super) ingress: Vec<ParsedRule>,
    pub(super) egress: Vec<ParsedRule>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ParsedProfile {
    pub(super) labels: Labels,
    pub(super) ingress: Vec<ParsedRule>,
    pub(super) egress: Vec<ParsedRule>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ParsedRule {
    verdict: RuleVerdict,
    family: Option<Family>,
    protocol: Option<u8>,
    source: ParsedEntity,
    destination: ParsedEntity,
    source_ports: bool,
    ports: Vec<Port>,
}

#[derive(Debug, Clone, PartialEq)]
struct ParsedEntity {
    selector: Option<Selector>,
    nets: Vec<Cidr>,
    not_nets: Vec<Cidr>,
}

impl ParsedPolicy {
    pub(super) fn new(namespace: &str, policy: &NetworkPolicy) -> ParsedPolicy {
        let own_namespace = Selector::Equals(NAMESPACE_LABEL.to_owned(), namespace.to_owned());
        // What does not parse selects everything and lets nothing pass.
        let selector = policy.spec.selector.parse::<Selector>().unwrap_or(Selector::All);
        let rules = |rules: &[Rule]| rules.iter().filter_map(|rule| ParsedRule::new(rule, Some(namespace))).collect();
        ParsedPolicy {
            order: policy.spec.order.unwrap_or(f64::INFINITY),
            selector: Selector::And(vec![own_namespace, selector]),
            types: policy.spec.types(),
            ingress: rules(&policy.spec.ingress),
            egress: rules(&policy.spec.egress),
        }
    }

    pub(super) fn applies(&self, direction: Direction) -> bool {
        self.types.contains(&match direction {
            Direction::Ingress => PolicyType::Ingress,
            Direction::Egress => PolicyType::Egress,
        })
    }

    pub(super) fn rules(&self, direction: Direction) -> &[ParsedRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl ParsedProfile {
    pub(super) fn new(profile: &Profile) -> ParsedProfile {
        let rules = |rules: &[Rule]| rules.iter().filter_map(|rule| ParsedRule::new(rule, None)).collect();
        ParsedProfile {
            labels: profile.spec.labels_to_apply.clone(),
            ingress: rules(&profile.spec.ingress),
            egress: rules(&profile.spec.egress),
        }
    }

    pub(super) fn rules(&self, direction: Direction) -> &[ParsedRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl ParsedRule {
    /// None for a Log rule, which decides nothing, and for an Allow that cannot be understood, which allows nothing.
    fn new(rule: &Rule, namespace: Option<&str>) -> Option<ParsedRule> {
        let verdict = match rule.action {
            Action::Allow => RuleVerdict::Allow,
            Action::Deny => RuleVerdict::Deny,
            Action::Pass => RuleVerdict::Pass,
            Action::Log => return None,
        };
        let entities = ParsedEntity::new(&rule.source, namespace).zip(ParsedEntity::new(&rule.destination, namespace));
        let (source, destination) = match (entities, verdict) {
            (Some(entities), _) => entities,
            (None, RuleVerdict::Deny) => (ParsedEntity::anyone(), ParsedEntity::anyone()),
            (None, _) => return None,
        };
        Some(ParsedRule {
            verdict,
            family: match rule.ip_version {
                Some(4) => Some(Family::V4),
                Some(6) => Some(Family::V6),
                _ => None,
            },
            protocol: rule.protocol.as_ref().map(margay_api::kinds::Protocol::number),
            source,
            destination,
            source_ports: !rule.source.ports.is_empty(),
            ports: rule.destination.ports.clone(),
        })
    }

    /// The rule as it applies to `endpoint`; None where it says nothing about it.
    pub(super) fn resolve(&self, endpoint: &Endpoint, labels: &Labels, direction: Direction) -> Option<ResolvedRule> {
        let (own, other) = match direction {
            Direction::Ingress => (&self.destination, &self.source),
            Direction::Egress => (&self.source, &self.destination),
        };
        if !own.holds_for_endpoint(endpoint, labels) {
            return None;
        }
        // Source ports are not told apart: an Allow with them allows nothing, a Deny denies all.
        if self.source_ports && self.verdict != RuleVerdict::Deny {
            return None;
        }
        let named: Vec<String> = self.ports.iter().filter_map(name_of).collect();
        let mut ports: BTreeSet<(u16, u16)> = self.ports.iter().filter_map(range_of).collect();
        let mut peer = Matcher {
            selector: other.selector.clone(),
            nets: other.nets.clone(),
            not_nets: other.not_nets.clone(),
            family: self.family,
            named: None,
        };
        if !named.is_empty() {
            let protocol = self.protocol.unwrap_or(6);
            match direction {
                Direction::Ingress => ports.extend(endpoint.named_ports(protocol, &named).map(|port| (port, port))),
                Direction::Egress => peer.named = Some((protocol, named)),
            }
        }
        let ports = (!self.ports.is_empty()).then_some(ports);
        if peer.named.is_none() && ports.as_ref().is_some_and(BTreeSet::is_empty) {
            return None;
        }
        let peer = (!peer.is_anyone()).then_some(peer);
        Some(ResolvedRule { verdict: self.verdict, peer, protocol: self.protocol, ports })
    }
}

impl ParsedEntity {
    fn anyone() -> ParsedEntity {
        ParsedEntity { selector: None, nets: Vec::new(), not_nets: Vec::new() }
    }

    /// A rule's selector alone means pods of the policy's namespace; with a namespace selector, pods of those
    /// namespaces. Selectors match pods that are known, never other addresses.
    fn new(entity: &EntityRule, namespace: Option<&str>) -> Option<ParsedEntity> {
        let mut parts = Vec::new();
        if !entity.namespace_selector.is_empty() {
            parts.push(match entity.namespace_selector.parse::<Selector>().ok()? {
                Selector::All => Selector::Has(NAMESPACE_LABEL.to_owned()),
                selector => selector.with_keys(&|key| match key {
                    "projectcalico.org/name" => "pcns.projectcalico.org/name".to_owned(),
                    key => format!("pcns.{key}"),
                }),
            });
        } else if let (Some(namespace), false) = (namespace, entity.selector.is_empty()) {
            parts.push(Selector::Equals(NAMESPACE_LABEL.to_owned(), namespace.to_owned()));
        }
        if !entity.selector.is_empty() {
            parts.push(entity.selector.parse().ok()?);
        }
        let selector = match parts.len() {
            0 => None,
            1 => parts.pop(),
            _ => Some(Selector::And(parts)),
        };
        Some(ParsedEntity { selector, nets: entity.nets.clone(), not_nets: entity.not_nets.clone() })
    }

    fn holds_for_endpoint(&self, endpoint: &Endpoint, labels: &Labels) -> bool {
        let address = |net: &Cidr| endpoint.addresses.iter().any(|addr| net.contains(*addr));
        self.selector.as_ref().is_none_or(|selector| selector.matches_labels(labels))
            && (self.nets.is_empty() || self.nets.iter().any(address))
            && !self.not_nets.iter().any(address)
    }
}

fn name_of(port: &Port) -> Option<String> {
    match port {
        Port::Named(name) => Some(name.clone()),
        Port::Number(_) | Port::Range(..) => None,
    }
}

fn range_of(port: &Port) -> Option<(u16, u16)> {
    match port {
        Port::Number(number) => Some((*number, *number)),
        Port::Range(first, last) => Some((*first, *last)),
        Port::Named(_) => None,
    }
}
