//! Policies and profiles in the form that programs are made from: selectors parsed and scoped, nets and ports as sets.

use std::sync::Arc;

use margay_api::kinds::{Action, EntityRule, NetworkPolicySpec, PolicyType, Port, ProfileSpec, Rule};
use margay_api::selector::{NAMESPACE_LABEL, Selector};
use margay_net::Family;

use super::Direction;
use super::addresses::{AddressSet, Families};
use super::connections::PortSet;

/// The label that tells an endpoint's service account.
pub(super) const SERVICE_ACCOUNT_LABEL: &str = "projectcalico.org/serviceaccount";
/// What the labels of a namespace are prefixed with on its endpoints.
const NAMESPACE_PREFIX: &str = "pcns.";
/// What the labels of a service account are prefixed with on its endpoints.
const SERVICE_ACCOUNT_PREFIX: &str = "pcsa.";

/// The rules of a policy or profile for one direction.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    pub(super) rules: Vec<ParsedRule>,
    /// Some rule passes to the profiles.
    pub(super) passes: bool,
}

/// A rule with what it asks of either side.
#[derive(Debug, Clone)]
pub(super) struct ParsedRule {
    /// Its place in the list that it comes from, from 0.
    pub(super) index: usize,
    /// As it was written.
    pub(super) rule: Rule,
    pub(super) families: Families,
    pub(super) protocol: Option<u8>,
    /// Destination ports given as numbers.
    pub(super) numbers: PortSet,
    /// Destination ports given by name.
    pub(super) names: Vec<Arc<str>>,
    pub(super) peer: Side,
    pub(super) local: Side,
    /// Why the rule can't be programmed as it is written; it fails closed then: an Allow matches nothing, anything else
    /// denies whatever the rest of it matches.
    pub(super) closed: Option<String>,
}

/// What a rule asks of one side of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    pub(super) selector: Option<Arc<Selector>>,
    pub(super) nets: Option<AddressSet>,
}

impl ParsedRule {
    /// What the rule does where it matches.
    pub(super) fn action(&self, closed: bool) -> Action {
        match self.rule.action {
            Action::Deny | Action::Pass if closed => Action::Deny,
            action => action,
        }
    }

    /// Tells whether the rule lets everything pass, whoever the endpoint and its peer are.
    pub(super) fn allows_everything(&self) -> bool {
        self.rule.action == Action::Allow
            && self.closed.is_none()
            && self.families == Families::BOTH
            && self.protocol.is_none()
            && self.is_for_every_port()
            && [&self.peer, &self.local].iter().all(|side| side.selector.is_none() && side.nets.is_none())
    }

    pub(super) fn is_for_every_port(&self) -> bool {
        self.numbers.is_empty() && self.names.is_empty()
    }

    /// Tells whether the rule's meaning depends on the endpoint that it is applied to.
    pub(super) fn depends_on_endpoint(&self, direction: Direction) -> bool {
        self.local.selector.is_some()
            || self.local.nets.is_some()
            || (direction == Direction::Ingress && !self.names.is_empty())
    }
}

/// A policy as the compiler holds it.
#[derive(Debug)]
pub(super) struct ParsedPolicy {
    /// With the scope of the policy's namespace and its service accounts.
    pub(super) selector: Selector,
    /// Ingress, egress: `None` where the policy doesn't isolate.
    pub(super) blocks: [Option<Block>; 2],
    /// It is of a tier that isn't known, whose denials count before all else.
    pub(super) first: bool,
    pub(super) problems: Vec<String>,
}

/// The place of a direction in an array of two.
pub(super) fn slot(direction: Direction) -> usize {
    match direction {
        Direction::Ingress => 0,
        Direction::Egress => 1,
    }
}

pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// Parses a policy; with `refused`, a reason why its rules can't be relied on, it fails closed.
pub(super) fn parse_policy(namespace: &str, spec: &NetworkPolicySpec, refused: Option<&str>) -> ParsedPolicy {
    let mut terms = vec![in_namespace(namespace)];
    let mut problems: Vec<String> =
        refused.iter().map(|reason| format!("{reason}; its pods are isolated, no rule allows anything")).collect();
    let mut broken = refused.is_some();
    match spec.selector.parse() {
        Ok(Selector::All) => {}
        Ok(selector) => terms.push(selector),
        Err(error) => {
            broken = true;
            problems.push(format!("{error}; all pods of the namespace are isolated, no rule allows anything"));
        }
    }
    match prefixed(&spec.service_account_selector, SERVICE_ACCOUNT_PREFIX, SERVICE_ACCOUNT_LABEL) {
        Ok(selector) => terms.extend(selector),
        Err(error) => {
            broken = true;
            problems.push(format!("{error}; pods of every service account are isolated, no rule allows anything"));
        }
    }
    let foreign_tier = spec.tier.as_deref().filter(|tier| !matches!(*tier, "" | "default"));
    if let Some(tier) = foreign_tier {
        broken = true;
        problems.push(format!("tier '{tier}' is not supported; its pods are isolated, no rule allows anything"));
    }
    let types = spec.types();
    let blocks = DIRECTIONS.map(|direction| {
        let (isolates, rules) = match direction {
            Direction::Ingress => (PolicyType::Ingress, &spec.ingress),
            Direction::Egress => (PolicyType::Egress, &spec.egress),
        };
        if !types.contains(&isolates) {
            return None;
        }
        Some(if broken {
            closed_block(direction, rules)
        } else {
            parse_block(Some(namespace), direction, rules, &mut problems)
        })
    });
    ParsedPolicy { selector: conjunction(terms), blocks, first: foreign_tier.is_some(), problems }
}

/// What is left of rules that can't be relied on: they allow nothing, and deny everything where they deny at all.
fn closed_block(direction: Direction, rules: &[Rule]) -> Block {
    let denying = rules.iter().position(|rule| matches!(rule.action, Action::Deny | Action::Pass));
    let rules = denying.map(|index| {
        let deny_all = Rule { action: Action::Deny, ..Rule::allow_all() };
        parse_rule(None, direction, index, &deny_all)
    });
    Block { rules: rules.into_iter().collect(), passes: false }
}

/// The rules of a profile, and what is wrong with them.
pub(super) fn parse_profile(spec: &ProfileSpec) -> ([Block; 2], Vec<String>) {
    let mut problems = Vec::new();
    let blocks = DIRECTIONS.map(|direction| {
        let rules = match direction {
            Direction::Ingress => &spec.ingress,
            Direction::Egress => &spec.egress,
        };
        parse_block(None, direction, rules, &mut problems)
    });
    (blocks, problems)
}

fn parse_block(namespace: Option<&str>, direction: Direction, rules: &[Rule], problems: &mut Vec<String>) -> Block {
    let mut block = Block::default();
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.action != Action::Log) {
        let parsed = parse_rule(namespace, direction, index, rule);
        if let Some(reason) = &parsed.closed {
            let direction = match direction {
                Direction::Ingress => "ingress",
                Direction::Egress => "egress",
            };
            let effect = if rule.action == Action::Allow { "it allows nothing" } else { "it denies more" };
            problems.push(format!("{direction} rule {}: {reason}; {effect}", index + 1));
        }
        block.passes |= parsed.action(parsed.closed.is_some()) == Action::Pass;
        block.rules.push(parsed);
    }
    block
}

fn parse_rule(namespace: Option<&str>, direction: Direction, index: usize, rule: &Rule) -> ParsedRule {
    let mut closed = None;
    let mut side = |entity: &EntityRule| {
        let selector = scoped(namespace, entity).unwrap_or_else(|error| {
            closed.get_or_insert(error);
            None
        });
        Side { selector: selector.map(Arc::new), nets: AddressSet::of_nets(&entity.nets, &entity.not_nets) }
    };
    let (source, destination) = (side(&rule.source), side(&rule.destination));
    let (peer, local) = match direction {
        Direction::Ingress => (source, destination),
        Direction::Egress => (destination, source),
    };
    let families = match rule.ip_version {
        None => Families::BOTH,
        Some(4) => Families::only(Family::V4),
        Some(6) => Families::only(Family::V6),
        Some(other) => {
            closed.get_or_insert(format!("IP version {other} is not 4 or 6"));
            Families::BOTH
        }
    };
    if !rule.source.ports.is_empty() {
        closed.get_or_insert("source ports are not supported".to_owned());
    }
    let protocol = rule.protocol.as_ref().map(margay_api::kinds::Protocol::number);
    let with_ports = rule.protocol.as_ref().is_some_and(margay_api::kinds::Protocol::has_ports);
    let mut ports = rule.destination.ports.as_slice();
    if !ports.is_empty() && !with_ports {
        closed.get_or_insert("ports need protocol TCP, UDP or SCTP".to_owned());
        ports = &[];
    }
    let numbers = PortSet::of(ports.iter().filter_map(|port| match port {
        Port::Number(number) => Some((*number, *number)),
        Port::Range(first, last) => Some((*first, *last)),
        Port::Named(_) => None,
    }));
    let mut names: Vec<Arc<str>> = ports
        .iter()
        .filter_map(|port| match port {
            Port::Named(name) => Some(name.as_str().into()),
            Port::Number(_) | Port::Range(..) => None,
        })
        .collect();
    names.sort();
    names.dedup();
    ParsedRule { index, rule: rule.clone(), families, protocol, numbers, names, peer, local, closed }
}

/// The selector of one side of a rule: in a policy without namespaceSelector it speaks of the policy's namespace.
fn scoped(namespace: Option<&str>, entity: &EntityRule) -> Result<Option<Selector>, String> {
    let mut terms = Vec::new();
    if !entity.namespace_selector.trim().is_empty() {
        terms.extend(prefixed(&entity.namespace_selector, NAMESPACE_PREFIX, NAMESPACE_LABEL)?);
    } else if !entity.selector.trim().is_empty() {
        terms.extend(namespace.map(in_namespace));
    }
    if !entity.selector.trim().is_empty() {
        match entity.selector.parse().map_err(|error| format!("{error}"))? {
            Selector::All if !terms.is_empty() => {}
            selector => terms.push(selector),
        }
    }
    Ok((!terms.is_empty()).then(|| conjunction(terms)))
}

/// A selector over a namespace's or service account's own labels as one over those that its endpoints inherit:
/// `all()` asks that the endpoint has one at all.
fn prefixed(text: &str, prefix: &str, presence: &str) -> Result<Option<Selector>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    Ok(Some(match text.parse().map_err(|error| format!("{error}"))? {
        Selector::All => Selector::Has(presence.to_owned()),
        Selector::Global => Selector::Not(Box::new(Selector::Has(presence.to_owned()))),
        selector => selector.with_keys(&|key| format!("{prefix}{key}")),
    }))
}

fn in_namespace(namespace: &str) -> Selector {
    Selector::Equals(NAMESPACE_LABEL.to_owned(), namespace.to_owned())
}

/// All of these, nested conjunctions made flat.
fn conjunction(terms: Vec<Selector>) -> Selector {
    let mut flat = Vec::new();
    for term in terms {
        match term {
            Selector::And(parts) => flat.extend(parts),
            other => flat.push(other),
        }
    }
    if flat.len() == 1 { flat.remove(0) } else { Selector::And(flat) }
}
