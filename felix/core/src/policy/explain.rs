//! Says why a connection passes or not, in the words of the resources.

use std::fmt;
use std::net::IpAddr;

use margay_api::kinds::{Action, Protocol};
use margay_api::selector::NAMESPACE_LABEL;
use margay_net::Family;

use super::drafts::RuleView;
use super::endpoints::EndpointId;
use super::rules::{Block, ParsedRule, slot};
use super::{Direction, PolicyCore};

/// One end of a connection, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Party {
    Pod { namespace: String, name: String },
    Address(IpAddr),
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    #[error("pod {namespace}/{name} is not known; `margayctl get workloadendpoints -A` lists those that are")]
    UnknownPod { namespace: String, name: String },
    #[error("{from} and {to} have no address of the same family")]
    NoCommonFamily { from: String, to: String },
}

impl From<ExplainError> for String {
    fn from(error: ExplainError) -> String {
        error.to_string()
    }
}

/// What happens to a new connection, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub from: End,
    pub to: End,
    /// The IP protocol number.
    pub protocol: u8,
    /// The destination port; means nothing for protocols without ports.
    pub port: u16,
    /// The judgement where the connection starts.
    pub egress: Judgement,
    /// The judgement where it arrives.
    pub ingress: Judgement,
}

/// One end of a connection, as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// `NAMESPACE/NAME`, where the address is a pod's.
    pub pod: Option<String>,
    pub address: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// No pod is at that end: nothing judges there.
    NotAPod,
    /// Both ends are the same pod: the connection never leaves it.
    SamePod,
    Judged(Box<Verdict>),
}

/// What the rules for a pod make of a connection in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub direction: Direction,
    /// `NAMESPACE/NAME` of the pod.
    pub pod: String,
    pub node: String,
    /// The policies that isolate it, in order, each as `NAMESPACE/NAME`; none: its profiles decide.
    pub isolated_by: Vec<String>,
    /// The rules that were looked at before the one that decides, and why they don't match.
    pub misses: Vec<Miss>,
    /// The rule that passed the connection on to the profiles.
    pub passed_by: Option<RuleRef>,
    pub cause: Cause,
}

/// A rule of a policy or a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRef {
    /// `policy NAMESPACE/NAME` or `profile NAME`.
    pub resource: String,
    /// Its place in the list for the direction, from 1.
    pub number: usize,
}

/// What decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    AllowedBy(RuleRef),
    DeniedBy(RuleRef),
    /// Policies isolate the pod and no rule of them matches.
    NoRuleMatches,
    /// No policy isolates the pod, and no rule of its profiles matches.
    NoProfileAllows,
    /// A profile that isn't known, by name, comes before any rule that matches.
    UnknownProfile(String),
}

/// A rule that doesn't match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    pub rule: RuleRef,
    pub reason: MissReason,
}

/// Why a rule doesn't match; the first thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissReason {
    /// The rule can't be programmed and allows nothing, for this reason.
    NotSupported(String),
    /// It is about the other address family.
    IpVersion,
    /// What it asks of the judged pod itself isn't so.
    Endpoint,
    /// It is about another protocol.
    Protocol(String),
    /// It is about other ports, these.
    Ports(String),
    /// It has this selector, and the peer is no known pod.
    NotAPod(String),
    /// It has this selector, which the peer doesn't match.
    Selector(String),
    /// The peer's address isn't in its nets.
    Nets,
}

impl Explanation {
    /// Tells whether both ends let the connection pass.
    pub fn is_allowed(&self) -> bool {
        self.egress.is_allowed() && self.ingress.is_allowed()
    }
}

impl Judgement {
    pub fn is_allowed(&self) -> bool {
        match self {
            Judgement::NotAPod | Judgement::SamePod => true,
            Judgement::Judged(verdict) => matches!(verdict.cause, Cause::AllowedBy(_)),
        }
    }
}

/// The far end of a connection, seen from a judged pod.
struct Peer {
    address: IpAddr,
    owners: Vec<EndpointId>,
}

impl PolicyCore {
    /// Explains what happens to a new connection, by the resources as they are known.
    ///
    /// Works for pods of all nodes. Where both parties have addresses of both families, it speaks of IPv4.
    pub fn explain(&self, from: &Party, to: &Party, protocol: u8, port: u16) -> Result<Explanation, ExplainError> {
        let (from_addresses, to_addresses) = (self.addresses(from)?, self.addresses(to)?);
        let address = |addresses: &[IpAddr], family| addresses.iter().copied().find(|a| Family::of(*a) == family);
        let pair = Family::ALL
            .into_iter()
            .find_map(|family| Some((address(&from_addresses, family)?, address(&to_addresses, family)?)));
        let Some((source, destination)) = pair else {
            return Err(ExplainError::NoCommonFamily { from: from.to_string(), to: to.to_string() });
        };
        let (source_owners, destination_owners) = (self.owners(source), self.owners(destination));
        let same = source == destination && !source_owners.is_empty();
        let judge = |direction, owners: &[EndpointId], address, peers: &[EndpointId]| match owners.first() {
            None => Judgement::NotAPod,
            Some(_) if same => Judgement::SamePod,
            Some(pod) => {
                let peer = Peer { address, owners: peers.to_vec() };
                Judgement::Judged(Box::new(self.judge(*pod, direction, &peer, protocol, port)))
            }
        };
        let end = |address, owners: &[EndpointId]| End { pod: owners.first().map(|pod| self.pod_name(*pod)), address };
        Ok(Explanation {
            egress: judge(Direction::Egress, &source_owners, destination, &destination_owners),
            ingress: judge(Direction::Ingress, &destination_owners, source, &source_owners),
            from: end(source, &source_owners),
            to: end(destination, &destination_owners),
            protocol,
            port,
        })
    }

    fn addresses(&self, party: &Party) -> Result<Vec<IpAddr>, ExplainError> {
        let (namespace, name) = match party {
            Party::Address(address) => return Ok(vec![*address]),
            Party::Pod { namespace, name } => (namespace, name),
        };
        let mut found: Vec<_> = self
            .endpoints
            .iter()
            .filter(|(id, endpoint)| *endpoint.pod == **name && self.namespace(*id) == *namespace)
            .map(|(_, endpoint)| endpoint)
            .collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        match found.first() {
            Some(endpoint) => Ok(endpoint.addresses.to_vec()),
            None => Err(ExplainError::UnknownPod { namespace: namespace.clone(), name: name.clone() }),
        }
    }

    /// The endpoints of an address in order of key.
    fn owners(&self, address: IpAddr) -> Vec<EndpointId> {
        let mut owners = self.endpoints.owners(address).to_vec();
        owners.sort_by(|a, b| self.endpoints.endpoint(*a).key.cmp(&self.endpoints.endpoint(*b).key));
        owners
    }

    fn namespace(&self, id: EndpointId) -> &str {
        let shape = self.shapes.shape(self.endpoints.endpoint(id).shape);
        self.labels.value(&shape.labels, NAMESPACE_LABEL).unwrap_or_default()
    }

    fn pod_name(&self, id: EndpointId) -> String {
        format!("{}/{}", self.namespace(id), self.endpoints.endpoint(id).pod)
    }

    fn judge(&self, pod: EndpointId, direction: Direction, peer: &Peer, protocol: u8, port: u16) -> Verdict {
        let endpoint = self.endpoints.endpoint(pod);
        let shape = self.shapes.shape(endpoint.shape);
        // Also of pods of other nodes, for which the index of policies isn't kept.
        let selecting = self
            .policies_of(self.namespace(pod))
            .filter(|(_, policy)| self.labels.matches(&policy.parsed.selector, &shape.labels))
            .map(|(id, _)| id);
        let isolating: Vec<(String, &Block)> = self
            .in_order(selecting)
            .into_iter()
            .filter_map(|policy| {
                let block = policy.parsed.blocks[slot(direction)].as_ref()?;
                Some((format!("{}/{}", policy.namespace, policy.name), block))
            })
            .collect();
        let mut misses = Vec::new();
        let mut evaluate = |resource: String, block: &Block| -> Option<(Action, RuleRef)> {
            for rule in &block.rules {
                let reference = RuleRef { resource: resource.clone(), number: rule.index + 1 };
                let view = self.view(rule, direction, pod);
                match self.miss(rule, &view, direction, peer, protocol, port) {
                    Some(reason) => misses.push(Miss { rule: reference, reason }),
                    None => return Some((rule.action(rule.closed.is_some() || view.closed), reference)),
                }
            }
            None
        };
        let mut passed_by = None;
        let mut decide = || {
            for (name, block) in &isolating {
                match evaluate(format!("policy {name}"), block) {
                    Some((Action::Allow, rule)) => return Cause::AllowedBy(rule),
                    Some((Action::Pass, rule)) => {
                        passed_by = Some(rule);
                        break;
                    }
                    Some((_, rule)) => return Cause::DeniedBy(rule),
                    None => {}
                }
            }
            if !isolating.is_empty() && passed_by.is_none() {
                return Cause::NoRuleMatches;
            }
            for profile in shape.key.profiles.iter().map(|id| self.profiles.profile(*id)) {
                let Some(known) = &profile.known else {
                    return Cause::UnknownProfile(profile.name.to_string());
                };
                match evaluate(format!("profile {}", profile.name), &known.blocks[slot(direction)]) {
                    Some((Action::Allow, rule)) => return Cause::AllowedBy(rule),
                    Some((_, rule)) => return Cause::DeniedBy(rule),
                    None => {}
                }
            }
            Cause::NoProfileAllows
        };
        let cause = decide();
        Verdict {
            direction,
            pod: self.pod_name(pod),
            node: endpoint.node.to_string(),
            isolated_by: isolating.iter().map(|(name, _)| name.clone()).collect(),
            misses,
            passed_by,
            cause,
        }
    }

    /// Why a rule doesn't match a connection; `None` where it does.
    fn miss(
        &self,
        rule: &ParsedRule,
        view: &RuleView,
        direction: Direction,
        peer: &Peer,
        protocol: u8,
        port: u16,
    ) -> Option<MissReason> {
        if rule.rule.action == Action::Allow {
            if let Some(reason) = &rule.closed {
                return Some(MissReason::NotSupported(reason.clone()));
            }
            if view.closed {
                let reason = "its nets hold some of the pod's own addresses only";
                return Some(MissReason::NotSupported(reason.to_owned()));
            }
        }
        let family = Family::of(peer.address);
        if !rule.families.has(family) {
            return Some(MissReason::IpVersion);
        }
        if !view.closed && !view.families.has(family) {
            return Some(MissReason::Endpoint);
        }
        if rule.protocol.is_some_and(|wanted| wanted != protocol) {
            return Some(MissReason::Protocol(
                rule.rule.protocol.as_ref().map_or_else(String::new, ToString::to_string),
            ));
        }
        let selected: Vec<EndpointId> = match &rule.peer.selector {
            None => peer.owners.clone(),
            Some(selector) => {
                let labels = |id: &EndpointId| &self.shapes.shape(self.endpoints.endpoint(*id).shape).labels;
                let selected: Vec<EndpointId> =
                    peer.owners.iter().copied().filter(|id| self.labels.matches(selector, labels(id))).collect();
                match (selected.is_empty(), peer.owners.is_empty()) {
                    (_, true) => return Some(MissReason::NotAPod(selector.to_string())),
                    (true, false) => return Some(MissReason::Selector(selector.to_string())),
                    (false, false) => selected,
                }
            }
        };
        if rule.peer.nets.as_ref().is_some_and(|nets| !nets.contains(peer.address)) {
            return Some(MissReason::Nets);
        }
        let declared = |id: &EndpointId| {
            let ports = &self.shapes.shape(self.endpoints.endpoint(*id).shape).key;
            rule.names.iter().any(|name| ports.numbers(name, protocol).contains(&port))
        };
        let port_matches = rule.is_for_every_port()
            || rule.numbers.contains(port)
            || view.ports.contains(&port)
            || (direction == Direction::Egress && selected.iter().any(declared));
        let ports = || rule.rule.destination.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        (!port_matches).then(|| MissReason::Ports(ports()))
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
            Party::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pod {
            Some(pod) => write!(f, "{pod} ({})", self.address),
            None => self.address.fmt(f),
        }
    }
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}", self.resource, self.number)
    }
}

impl fmt::Display for MissReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MissReason::NotSupported(reason) => write!(f, "not supported: {reason}"),
            MissReason::IpVersion => f.write_str("is about the other IP version"),
            MissReason::Endpoint => f.write_str("is not about this pod"),
            MissReason::Protocol(protocol) => write!(f, "is about protocol {protocol}"),
            MissReason::Ports(ports) => write!(f, "is about ports {ports}"),
            MissReason::NotAPod(selector) => write!(f, "needs a pod with {selector}"),
            MissReason::Selector(selector) => write!(f, "needs a peer with {selector}"),
            MissReason::Nets => f.write_str("the peer is not in its nets"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::AllowedBy(rule) => write!(f, "allowed by {rule}"),
            Cause::DeniedBy(rule) => write!(f, "denied by {rule}"),
            Cause::NoRuleMatches => f.write_str("denied: no rule of the policies matches"),
            Cause::NoProfileAllows => f.write_str("denied: no rule of the profiles matches"),
            Cause::UnknownProfile(name) => write!(f, "denied: profile {name} is not known"),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            1 => Protocol::Icmp,
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            58 => Protocol::Icmpv6,
            132 => Protocol::Sctp,
            136 => Protocol::UdpLite,
            number => Protocol::Number(number),
        };
        write!(f, "{} -> {}, {protocol}", self.from, self.to)?;
        if protocol.has_ports() {
            write!(f, "/{}", self.port)?;
        }
        writeln!(f)?;
        for (name, judgement, end) in [("egress", &self.egress, &self.from), ("ingress", &self.ingress, &self.to)] {
            match judgement {
                Judgement::NotAPod => writeln!(f, "{name:<8}{end}: not a pod, no policy")?,
                Judgement::SamePod => writeln!(f, "{name:<8}{end}: stays inside the pod, no policy")?,
                Judgement::Judged(verdict) => {
                    write!(f, "{name:<8}{} on {}: ", verdict.pod, verdict.node)?;
                    match verdict.isolated_by.as_slice() {
                        [] => writeln!(f, "no policy isolates it, its profiles decide")?,
                        policies => writeln!(f, "isolated by {}", policies.join(", "))?,
                    }
                    for Miss { rule, reason } in &verdict.misses {
                        writeln!(f, "        {rule} doesn't match: {reason}")?;
                    }
                    if let Some(rule) = &verdict.passed_by {
                        writeln!(f, "        {rule} passes it on to the profiles")?;
                    }
                    writeln!(f, "        {}", verdict.cause)?;
                }
            }
        }
        write!(f, "verdict {}", if self.is_allowed() { "ALLOW" } else { "DENY" })
    }
}
