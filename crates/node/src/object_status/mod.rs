//! Says in the `status` of BGP's objects what of them this node can't follow.
//!
//! ```text
//!  actor: problems of the plan,      +- writes -+     +- schedule -+     create, update, delete of
//!  values that can't be read ------->|  wanted  |---->| when: each |---> /calico/margay/v1/status/KIND/NAME/REASON
//!  watch: what is said by all ------>|  - said  |     | at a random|
//!  look: nodes and objects gone ---->|          |     |    time    |
//!                                    +----------+     +------------+
//! ```
//!
//! There is one key for each object and reason, whatever the number of nodes that see it: who finds it taken is content.
//! A node takes back what it said itself; when it does, the others that still see the same hear of it, and one of them
//! says it again.

mod reporter;
mod schedule;
mod writes;

use std::collections::BTreeMap;

use margay_api::{ConditionKey, KINDS_WITH_CONDITIONS, RESOURCE_PREFIX};

use crate::bgp_config::{Cause, PlanProblem};
use crate::cluster::Cluster;

pub(crate) use reporter::{Pace, Reporter};

/// What this node can't follow.
pub(crate) type Findings = BTreeMap<ConditionKey, Finding>;

/// One thing that can't be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The condition's type.
    pub(crate) kind: &'static str,
    /// With advice.
    pub(crate) message: String,
}

/// The Gateway API's words: what the object says by itself, and what it refers to.
const ACCEPTED: &str = "Accepted";
const RESOLVED_REFS: &str = "ResolvedRefs";

/// The reason of an object that can't be read, or that its kind's validation refuses.
const INVALID: &str = "Invalid";

impl Cause {
    /// The type and the reason of the condition.
    fn condition(self) -> (&'static str, &'static str) {
        match self {
            Cause::Secret => (RESOLVED_REFS, "SecretUnavailable"),
            Cause::Filter => (RESOLVED_REFS, "FilterNotFound"),
            Cause::Community => (RESOLVED_REFS, "CommunityNotFound"),
            Cause::Selector => (ACCEPTED, "InvalidSelector"),
            Cause::Incomplete => (ACCEPTED, "Incomplete"),
            Cause::AddressInUse => (ACCEPTED, "AddressInUse"),
        }
    }
}

/// The findings of a plan's problems and of stored values, by key, that are not valid. Of several with one reason the
/// first counts.
pub(crate) fn findings(problems: &[PlanProblem], invalid: &BTreeMap<String, String>) -> Findings {
    let mut findings = Findings::new();
    for problem in problems {
        let Some((kind, name)) = problem.object.split_once(' ') else { continue };
        let Some((plural, _)) = KINDS_WITH_CONDITIONS.into_iter().find(|(_, known)| *known == kind) else { continue };
        let (kind, reason) = problem.cause.condition();
        let key = ConditionKey { plural, name: name.to_owned(), reason: reason.to_owned() };
        findings.entry(key).or_insert_with(|| Finding { kind, message: problem.reason.clone() });
    }
    for (key, reason) in invalid {
        let Some((plural, name)) = object_in(key) else { continue };
        let key = ConditionKey { plural, name: name.to_owned(), reason: INVALID.to_owned() };
        let message = format!("{reason}; the last good value stays in force");
        findings.insert(key, Finding { kind: ACCEPTED, message });
    }
    findings
}

/// The plural and name of an object that can have conditions.
fn object_in(key: &str) -> Option<(&'static str, &str)> {
    let (plural, name) = key.strip_prefix(RESOURCE_PREFIX)?.split_once('/')?;
    let (plural, _) = KINDS_WITH_CONDITIONS.into_iter().find(|(known, _)| *known == plural)?;
    Some((plural, name))
}

/// Whether nobody is left to take a condition back: the node that said it is gone (None: it can't be read who it was), or
/// the object is.
fn is_gone(cluster: &Cluster, key: &ConditionKey, node: Option<&str>) -> bool {
    let node_is_there = node.is_some_and(|node| cluster.nodes.contains_key(node));
    let name = &key.name;
    let object_is_there = match key.plural {
        "bgpconfigurations" => cluster.configurations.contains_key(name),
        "bgpfilters" => cluster.filters.contains_key(name),
        "bgppeers" => cluster.peers.contains_key(name),
        "ippools" => cluster.pools.contains_key(name),
        _ => cluster.nodes.contains_key(name),
    };
    let unreadable = || cluster.invalid.contains_key(&format!("{RESOURCE_PREFIX}{}/{name}", key.plural));
    !node_is_there || !(object_is_there || unreadable())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Watched;
    use margay_api::kinds::{Node, NodeSpec};
    use margay_api::{Stored, resource_key};
    use margay_datastore::{KeyValue, Revision};

    fn problem(object: &str, cause: Cause, reason: &str) -> PlanProblem {
        PlanProblem { object: object.to_owned(), cause, reason: reason.to_owned() }
    }

    #[test]
    fn problems_become_conditions_of_their_objects_one_for_each_reason() {
        let problems = [
            problem("BGPPeer tor", Cause::Filter, "there is no BGPFilter 'a'"),
            problem("BGPPeer tor", Cause::Filter, "there is no BGPFilter 'b'"),
            problem("BGPPeer tor", Cause::AddressInUse, "left out"),
            problem("BGPConfiguration node.n1", Cause::Community, "unknown"),
        ];
        let invalid = BTreeMap::from([
            (format!("{RESOURCE_PREFIX}bgpfilters/broken"), "not JSON".to_owned()),
            (format!("{RESOURCE_PREFIX}networkpolicies/shop/db"), "not JSON".to_owned()),
        ]);
        let shown: Vec<String> = findings(&problems, &invalid)
            .into_iter()
            .map(|(key, finding)| {
                format!("{} {} {} {}: {}", key.plural, key.name, finding.kind, key.reason, finding.message)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "bgpconfigurations node.n1 ResolvedRefs CommunityNotFound: unknown",
                "bgpfilters broken Accepted Invalid: not JSON; the last good value stays in force",
                "bgppeers tor Accepted AddressInUse: left out",
                "bgppeers tor ResolvedRefs FilterNotFound: there is no BGPFilter 'a'",
            ]
        );
    }

    #[test]
    fn a_condition_outlives_neither_its_node_nor_its_object() {
        let mut cluster = Cluster::new("n1");
        let put = |cluster: &mut Cluster, watched, key: String, value: Vec<u8>| {
            cluster.put(watched, &KeyValue { key, value, revision: Revision::new(1) });
        };
        let node = Stored::new(Node::named("n2", NodeSpec::default())).encode();
        put(&mut cluster, Watched::Nodes, resource_key::<NodeSpec>(None, "n2"), node);
        put(&mut cluster, Watched::Filters, format!("{RESOURCE_PREFIX}bgpfilters/broken"), b"{".into());
        let gone = |plural: &'static str, name: &str, node: Option<&str>| {
            is_gone(&cluster, &ConditionKey { plural, name: name.to_owned(), reason: INVALID.to_owned() }, node)
        };
        for (plural, name, node, expected) in [
            ("nodes", "n2", Some("n2"), false),
            ("nodes", "n2", Some("n3"), true),
            ("nodes", "n2", None, true),
            ("nodes", "n3", Some("n2"), true),
            ("bgpfilters", "broken", Some("n2"), false),
            ("bgpfilters", "other", Some("n2"), true),
            ("bgppeers", "broken", Some("n2"), true),
        ] {
            assert_eq!(gone(plural, name, node), expected, "{plural} {name} {node:?}");
        }
    }
}
