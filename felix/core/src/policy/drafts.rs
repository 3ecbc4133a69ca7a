//! From the policies and profiles of an endpoint to the rules of its program.

use std::net::IpAddr;

use margay_api::kinds::Action;
use margay_api::selector::Selector;
use margay_net::Family;

use super::addresses::{AddressSet, Families};
use super::connections::PortSet;
use super::endpoints::EndpointId;
use super::evaluate::Ports;
use super::labels::PairId;
use super::matchers::MatcherKey;
use super::rules::{Block, ParsedRule, slot};
use super::{Direction, PolicyCore};

/// What a program is made from. Equal keys have equal rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ProgramKey {
    pub(super) direction: Direction,
    /// The policies in their order.
    policies: Vec<Part>,
    /// The profiles in their order, where rules can get there.
    profiles: Option<Vec<Part>>,
}

/// A policy or profile in one version, as it looks from an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Part {
    version: u64,
    /// Of the rules that depend on the endpoint, in their order.
    views: Vec<RuleView>,
}

/// What a rule that depends on the endpoint comes to there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RuleView {
    /// The families in which the endpoint meets what the rule asks of it.
    pub(super) families: Families,
    /// Only some of the endpoint's addresses do, which a program can't tell apart.
    pub(super) closed: bool,
    /// The numbers of the ports that an ingress rule names.
    pub(super) ports: Vec<u16>,
}

impl RuleView {
    const INDEPENDENT: RuleView = RuleView { families: Families::BOTH, closed: false, ports: Vec::new() };
}

/// A rule whose matchers have no numbers yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) action: Action,
    pub(super) protocol: Option<u8>,
    pub(super) ports: Ports,
    pub(super) matchers: Vec<MatcherKey>,
}

impl PolicyCore {
    /// What isolates a local endpoint in a direction; `None` where nothing does, or another endpoint has its interface.
    pub(super) fn program_key(&self, id: EndpointId, direction: Direction) -> Option<ProgramKey> {
        if !self.endpoints.has_interface(id) {
            return None;
        }
        let blocks = self.blocks(id, direction);
        if blocks.policies.is_empty() && blocks.is_open() {
            return None;
        }
        let part = |(version, block): &(u64, Option<&Block>)| {
            let rules = block.iter().flat_map(|block| &block.rules);
            let dependent = rules.filter(|rule| rule.depends_on_endpoint(direction));
            Part { version: *version, views: dependent.map(|rule| self.view(rule, direction, id)).collect() }
        };
        Some(ProgramKey {
            direction,
            policies: blocks.policies.iter().map(|(version, block)| part(&(*version, Some(block)))).collect(),
            profiles: blocks.reach_profiles().then(|| blocks.profiles.iter().map(part).collect()),
        })
    }

    /// The blocks of rules that apply to an endpoint, in order.
    fn blocks(&self, id: EndpointId, direction: Direction) -> Blocks<'_> {
        let shape = self.shapes.shape(self.endpoints.endpoint(id).shape);
        let policies = self.in_order(shape.policies.iter().copied());
        let policies = policies
            .into_iter()
            .filter_map(|policy| policy.parsed.blocks[slot(direction)].as_ref().map(|block| (policy.version, block)));
        let profiles = shape.key.profiles.iter().map(|profile| match &self.profiles.profile(*profile).known {
            Some(known) => (known.version, Some(&known.blocks[slot(direction)])),
            None => (0, None),
        });
        Blocks { policies: policies.collect(), profiles: profiles.collect() }
    }

    pub(super) fn view(&self, rule: &ParsedRule, direction: Direction, id: EndpointId) -> RuleView {
        if !rule.depends_on_endpoint(direction) {
            return RuleView::INDEPENDENT;
        }
        let endpoint = self.endpoints.endpoint(id);
        let shape = self.shapes.shape(endpoint.shape);
        let selected = self.local_selector_matches(rule, &shape.labels);
        let (mut families, mut closed) = (if selected { Families::BOTH } else { Families::NONE }, false);
        if let Some(nets) = rule.local.nets.as_ref().filter(|_| selected) {
            (families, closed) = within(nets, &endpoint.addresses);
        }
        let mut ports = Vec::new();
        if let (Direction::Ingress, Some(protocol)) = (direction, rule.protocol) {
            ports.extend(rule.names.iter().flat_map(|name| shape.key.numbers(name, protocol)));
            ports.sort_unstable();
            ports.dedup();
        }
        RuleView { families, closed, ports }
    }

    fn local_selector_matches(&self, rule: &ParsedRule, labels: &[PairId]) -> bool {
        rule.local.selector.as_ref().is_none_or(|selector| self.labels.matches(selector, labels))
    }

    /// The rules of the policies (`None`: no policy applies) and of the profiles, as an endpoint sees them.
    pub(super) fn drafts(&self, id: EndpointId, direction: Direction) -> (Option<Vec<Draft>>, Vec<Draft>) {
        let blocks = self.blocks(id, direction);
        let mut tier = Vec::new();
        for rule in blocks.policies.iter().flat_map(|(_, block)| &block.rules) {
            draft(rule, &self.view(rule, direction, id), direction, &mut tier);
        }
        let tier = (!blocks.policies.is_empty()).then(|| simplified(tier));
        // A rule that passes on may not apply to this endpoint, or come behind one that decides everything.
        let reached = tier.as_ref().is_none_or(|tier| tier.iter().any(|draft| draft.action == Action::Pass));
        let mut profiles = Vec::new();
        for (_, block) in blocks.profiles.iter().filter(|_| reached) {
            let Some(block) = block else {
                // A profile that isn't known denies: it may yet turn out to.
                profiles.push(Draft { action: Action::Deny, protocol: None, ports: Ports::Any, matchers: Vec::new() });
                continue;
            };
            for rule in &block.rules {
                draft(rule, &self.view(rule, direction, id), direction, &mut profiles);
            }
        }
        (tier, simplified(profiles))
    }
}

/// What applies to an endpoint in one direction, with versions.
struct Blocks<'a> {
    policies: Vec<(u64, &'a Block)>,
    /// `None`: the profile isn't known.
    profiles: Vec<(u64, Option<&'a Block>)>,
}

impl Blocks<'_> {
    fn reach_profiles(&self) -> bool {
        self.policies.is_empty() || self.policies.iter().any(|(_, block)| block.passes)
    }

    /// Tells whether the profiles let everything pass.
    fn is_open(&self) -> bool {
        for (_, block) in &self.profiles {
            match block.map(|block| block.rules.first()) {
                Some(None) => {}
                Some(Some(rule)) => return rule.allows_everything(),
                None => return false,
            }
        }
        false
    }
}

/// The families of which all addresses are in `nets`, and whether there is one of which only some are.
fn within(nets: &AddressSet, addresses: &[IpAddr]) -> (Families, bool) {
    let (mut families, mut closed) = (Families::NONE, false);
    for family in Family::ALL {
        let mut inside = addresses.iter().filter(|address| Family::of(**address) == family).map(|a| nets.contains(*a));
        // An endpoint without addresses of a family has no connections in it: then the rule need not say so.
        let first = inside.next().unwrap_or(true);
        closed |= inside.any(|other| other != first);
        if first {
            families = families.or(Families::only(family));
        }
    }
    (families, closed)
}

/// Appends what a rule comes to where it is seen so.
fn draft(rule: &ParsedRule, view: &RuleView, direction: Direction, out: &mut Vec<Draft>) {
    let closed = rule.closed.is_some() || view.closed;
    let action = rule.action(closed);
    let families = if view.closed { rule.families } else { rule.families.and(view.families) };
    if (closed && action == Action::Allow) || families == Families::NONE {
        return;
    }
    let nets = match (&rule.peer.nets, families == Families::BOTH) {
        (None, true) => None,
        (Some(nets), _) => Some(nets.restricted(families)),
        (None, false) => Some(AddressSet::everyone().restricted(families)),
    };
    let nets = match nets {
        Some(nets) if nets.is_empty() => return,
        Some(nets) if nets == AddressSet::everyone() => None,
        other => other.map(MatcherKey::Net),
    };
    let mut push = |ports, selected: Option<MatcherKey>| {
        let matchers = selected.into_iter().chain(nets.clone()).collect();
        out.push(Draft { action, protocol: rule.protocol, ports, matchers });
    };
    let selected = || rule.peer.selector.clone().map(MatcherKey::Select);
    if rule.is_for_every_port() {
        push(Ports::Any, selected());
        return;
    }
    let numbers = rule.numbers.union(&PortSet::of(view.ports.iter().map(|port| (*port, *port))));
    if !numbers.is_empty() {
        push(Ports::Numbers(numbers), selected());
    }
    if let (Direction::Egress, Some(protocol)) = (direction, rule.protocol) {
        for name in &rule.names {
            let selector = rule.peer.selector.clone().unwrap_or_else(|| Selector::All.into());
            push(Ports::OfPeer, Some(MatcherKey::SelectPort(selector, name.clone(), protocol)));
        }
    }
}

/// The same effect with fewer rules, followed by nothing but a denial.
///
/// Rules in a row that do the same may change places: those that differ in nets alone become one, and one that matches
/// everything stands for all of them and ends the list.
fn simplified(drafts: Vec<Draft>) -> Vec<Draft> {
    let mut out: Vec<Draft> = Vec::new();
    let mut run = 0;
    for draft in drafts {
        if out.last().is_some_and(|before| before.action != draft.action) {
            run = out.len();
        }
        if draft.protocol.is_none() && draft.ports == Ports::Any && draft.matchers.is_empty() {
            out.truncate(run);
            out.push(draft);
            break;
        }
        let same = out[run..].iter_mut().find(|known| {
            (known.protocol, &known.ports) == (draft.protocol, &draft.ports)
                && (known.matchers == draft.matchers
                    || matches!(
                        (&known.matchers[..], &draft.matchers[..]),
                        ([MatcherKey::Net(_)], [MatcherKey::Net(_)])
                    ))
        });
        match same {
            None => out.push(draft),
            Some(known) => {
                if let ([MatcherKey::Net(nets)], [MatcherKey::Net(more)]) =
                    (&mut known.matchers[..], &draft.matchers[..])
                {
                    *nets = nets.union(more);
                }
            }
        }
    }
    while out.last().is_some_and(|last| last.action == Action::Deny) {
        out.pop();
    }
    out
}
