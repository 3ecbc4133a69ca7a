//! Would a connection pass, and why?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::identity::{self, Class};
use super::rules::Matcher;
use super::state::{Endpoint, PolicyCore};
use super::tables::{Direction, PortMatch, ProtocolMatch};

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Party {
    Pod { namespace: String, name: String },
    Address(IpAddr),
}

/// The judgement of one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub direction: Direction,
    /// `NAMESPACE/POD`, or the address of an end that is no pod, which no policy judges.
    pub end: String,
    pub allowed: bool,
    /// The policies that isolate the end, in order, as `NAMESPACE/NAME`.
    pub policies: Vec<String>,
    /// The first of them that lets the connection pass.
    pub by: Option<String>,
}

/// The judgement of a connection: it passes if both ends let it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub egress: Verdict,
    pub ingress: Verdict,
}

impl Explanation {
    pub fn is_allowed(&self) -> bool {
        self.egress.allowed && self.ingress.allowed
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress ",
        };
        let verdict = if self.allowed { "ALLOW" } else { "DENY" };
        write!(f, "{direction} {verdict:5} at {}: ", self.end)?;
        match (&self.by, self.policies.is_empty(), self.allowed) {
            (Some(policy), ..) => write!(f, "{policy} lets it pass"),
            (None, true, true) => write!(f, "no policy isolates it"),
            (None, true, false) => write!(f, "its profile is missing or denies it"),
            (None, false, _) => write!(f, "isolated by {}, and no rule matches", self.policies.join(", ")),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_allowed() { "ALLOW" } else { "DENY" };
        write!(f, "{}\n{}\nverdict {verdict}", self.egress, self.ingress)
    }
}

impl PolicyCore {
    /// Judges a connection from the policies as they are known here; the protocol by number.
    pub fn explain(&self, from: &Party, to: &Party, protocol: u8, port: u16) -> Result<Explanation, String> {
        let (from_pod, from_addr) = self.party(from, to)?;
        let (to_pod, to_addr) = self.party(to, from)?;
        Ok(Explanation {
            egress: self.verdict(from_pod, (to_pod, to_addr), Direction::Egress, from, (protocol, port)),
            ingress: self.verdict(to_pod, (from_pod, from_addr), Direction::Ingress, to, (protocol, port)),
        })
    }

    /// The pod, if it is one, and the address to judge it by: of the other end's family where that is an address.
    fn party(&self, party: &Party, other: &Party) -> Result<(Option<&Endpoint>, IpAddr), String> {
        match party {
            Party::Address(addr) => {
                let pod = self.endpoints.values().find(|endpoint| endpoint.addresses.contains(addr));
                Ok((pod, *addr))
            }
            Party::Pod { namespace, name } => {
                let found = self.endpoints.values().find(|e| e.namespace == *namespace && e.pod == *name);
                let endpoint = found.ok_or_else(|| format!("there is no pod {namespace}/{name}"))?;
                let fits = |addr: &&IpAddr| match other {
                    Party::Address(other) => other.is_ipv4() == addr.is_ipv4(),
                    Party::Pod { .. } => true,
                };
                let addr = endpoint.addresses.iter().find(fits);
                let addr = addr.ok_or_else(|| format!("pod {namespace}/{name} has no address of that family"))?;
                Ok((Some(endpoint), *addr))
            }
        }
    }

    fn verdict(
        &self,
        judged: Option<&Endpoint>,
        other: (Option<&Endpoint>, IpAddr),
        direction: Direction,
        party: &Party,
        connection: (u8, u16),
    ) -> Verdict {
        let Some(endpoint) = judged else {
            let end = match party {
                Party::Address(addr) => addr.to_string(),
                Party::Pod { namespace, name } => format!("{namespace}/{name}"),
            };
            return Verdict { direction, end, allowed: true, policies: Vec::new(), by: None };
        };
        let labels = self.labels(endpoint);
        let applied = self.policies_of(&labels, direction);
        let shown = |(namespace, name): &(String, String)| format!("{namespace}/{name}");
        let passes = |program: &super::flatten::Program| {
            let matchers: BTreeSet<Matcher> = program.matchers().cloned().collect();
            let class = self.class(&matchers, other);
            covers(&program.allowed(Some(&class)), connection)
        };
        let program = self.program(endpoint, direction);
        let by = applied.iter().find(|(_, policy)| {
            let rules = policy.rules(direction).iter().filter_map(|rule| rule.resolve(endpoint, &labels, direction));
            let alone = super::flatten::Program { policies: rules.collect(), profiles: Vec::new(), isolated: true };
            passes(&alone)
        });
        let allowed = passes(&program);
        Verdict {
            direction,
            end: format!("{}/{}", endpoint.namespace, endpoint.pod),
            allowed,
            policies: applied.iter().map(|(key, _)| shown(key)).collect(),
            by: by.filter(|_| allowed).map(|(key, _)| shown(key)),
        }
    }

    fn class(&self, matchers: &BTreeSet<Matcher>, (pod, addr): (Option<&Endpoint>, IpAddr)) -> Class {
        match pod {
            Some(endpoint) => identity::of_pod(matchers, endpoint, &self.labels(endpoint), addr),
            None => {
                let holding = matchers.iter().filter(|matcher| !matcher.is_for_pods() && matcher.holds_for_address(addr));
                holding.map(|matcher| (matcher.clone(), BTreeSet::new())).collect::<BTreeMap<_, _>>()
            }
        }
    }
}

fn covers(allowed: &BTreeSet<(ProtocolMatch, PortMatch)>, (protocol, port): (u8, u16)) -> bool {
    allowed.iter().any(|(protocols, ports)| {
        let protocol = matches!(protocols, ProtocolMatch::Any) || *protocols == ProtocolMatch::Number(protocol);
        let port = match ports {
            PortMatch::Any => true,
            PortMatch::One(one) => *one == port,
            PortMatch::Range(first, last) => (*first..=*last).contains(&port),
        };
        protocol && port
    })
}
