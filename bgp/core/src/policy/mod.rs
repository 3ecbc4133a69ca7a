//! Import and export policy: what an operator writes (here) and how it is evaluated ([`Policy`]).

mod evaluate;
mod index;

use margay_net::{Asn, Cidr, LocalRouteSource};
use serde::Serialize;

pub(crate) use evaluate::{Changes, Policy, Route, Verdict};

/// Prefixes within `covering`, by length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PrefixMatch {
    pub covering: Cidr,
    /// The least length, both ends included.
    pub min_len: u8,
    pub max_len: u8,
}

impl PrefixMatch {
    /// Matches `cidr` alone.
    pub fn exact(cidr: Cidr) -> PrefixMatch {
        PrefixMatch { covering: cidr, min_len: cidr.len(), max_len: cidr.len() }
    }

    /// Matches `cidr` and everything in it.
    pub fn within(cidr: Cidr) -> PrefixMatch {
        PrefixMatch { covering: cidr, min_len: cidr.len(), max_len: cidr.family().bits() }
    }

    /// Whether `prefix` is one of those meant.
    pub fn matches(&self, prefix: Cidr) -> bool {
        (self.min_len..=self.max_len).contains(&prefix.len()) && self.covering.covers(prefix)
    }
}

/// Where a route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum RouteOrigin {
    Local(LocalRouteSource),
    Ebgp,
    Ibgp,
}

/// What a rule matches: all conditions that are not empty must hold; an empty one always does.
///
/// Every rule sees the route as it came to the policy, whatever rules before it change: on import as the peer sent it,
/// on export as import policy left it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct RouteMatch {
    /// One of these matches the prefix.
    pub prefixes: Vec<PrefixMatch>,
    /// The route comes from one of these.
    pub origins: Vec<RouteOrigin>,
    /// The route carries each of these communities (RFC 1997: AS in the upper half).
    pub communities: Vec<u32>,
    /// None of these matches the prefix.
    pub not_prefixes: Vec<PrefixMatch>,
    /// The route carries each of these large communities (RFC 8092).
    pub large_communities: Vec<[u32; 3]>,
    /// The route carries each of these extended communities (RFC 4360), as they are on the wire.
    pub extended_communities: Vec<u64>,
    /// AS_PATH begins with these numbers, in sequence, before what export itself prepends.
    pub as_path_prefix: Vec<Asn>,
    /// The interface that the route leaves by has a name that one of these matches (`*` stands for any characters, `?`
    /// for one). That of a node's own route is not known, nor is that of a next hop that is not connected: they match
    /// none.
    pub interfaces: Vec<String>,
    /// LOCAL_PREF is this; a route without one has [`crate::DecisionConfig::default_local_pref`].
    pub local_pref: Option<u32>,
}

/// What becomes of a matched route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum RuleAction {
    Accept,
    Reject,
    /// Only the rule's changes are made; the next rules decide.
    Next,
}

/// A change of an accepted route's attributes.
///
/// LOCAL_PREF is not told to external peers, whatever export policy sets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum SetOperation {
    LocalPref(u32),
    Med(u32),
    AddCommunity(u32),
    RemoveCommunity(u32),
    AddLargeCommunity([u32; 3]),
    AddExtendedCommunity(u64),
    /// Puts an AS number before the AS_PATH, `count` times.
    Prepend {
        asn: Asn,
        count: u8,
    },
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Rule {
    pub matches: RouteMatch,
    pub action: RuleAction,
    /// Made in order, unless the action is `Reject`.
    pub set: Vec<SetOperation>,
}

/// Ordered rules; the first that accepts or rejects decides, `default` where none does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RuleSet {
    pub rules: Vec<Rule>,
    /// Whether a route is accepted that no rule decided.
    pub accept_by_default: bool,
}

/// What is announced to a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ExportPolicy(pub RuleSet);

/// What is taken from a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ImportPolicy(pub RuleSet);

impl ExportPolicy {
    /// Announces everything.
    pub fn accept_all() -> ExportPolicy {
        ExportPolicy(RuleSet { rules: Vec::new(), accept_by_default: true })
    }
}

impl ImportPolicy {
    /// Takes everything.
    pub fn accept_all() -> ImportPolicy {
        ImportPolicy(RuleSet { rules: Vec::new(), accept_by_default: true })
    }
}
