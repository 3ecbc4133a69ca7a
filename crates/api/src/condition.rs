//! What nodes say of objects that they can't follow: conditions in Kubernetes' manner, each under a key of its own.
//!
//! They are no part of the object as it is stored: who writes one neither competes with the object's author nor changes
//! the object, Calico's clients never meet one, and an object that can't even be read can have one. Readers put them
//! into `status.conditions`.
//!
//! ```text
//! /calico/margay/v1/status/bgppeers/tor-a1/SecretUnavailable
//!                          plural   name   reason: one node says it for all that see the same
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Spec;
use crate::kinds::{BgpConfigurationSpec, BgpFilterSpec, BgpPeerSpec, IpPoolSpec, NodeSpec};

/// What the keys of all conditions begin with.
pub const CONDITION_PREFIX: &str = "/calico/margay/v1/status/";

/// The plurals and kinds whose objects can have conditions.
pub const KINDS_WITH_CONDITIONS: [(&str, &str); 5] = [
    (BgpConfigurationSpec::PLURAL, BgpConfigurationSpec::KIND),
    (BgpFilterSpec::PLURAL, BgpFilterSpec::KIND),
    (BgpPeerSpec::PLURAL, BgpPeerSpec::KIND),
    (IpPoolSpec::PLURAL, IpPoolSpec::KIND),
    (NodeSpec::PLURAL, NodeSpec::KIND),
];

/// A condition of an object, with Kubernetes' fields (`metav1.Condition`) and the node that says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Accepted` or `ResolvedRefs`, as in the Gateway API.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// In CamelCase; the last part of the key.
    pub reason: String,
    /// With advice.
    pub message: String,
    /// RFC 3339.
    pub last_transition_time: String,
    /// The first node that met it; there may be others.
    pub node: String,
}

/// Which condition of which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConditionKey {
    /// The plural of the object's kind.
    pub plural: &'static str,
    pub name: String,
    pub reason: String,
}

impl ConditionKey {
    /// The condition under a key of the datastore; None where the key is none of a condition.
    pub fn parse(key: &str) -> Option<ConditionKey> {
        let mut parts = key.strip_prefix(CONDITION_PREFIX)?.split('/');
        let (plural, name, reason) = (parts.next()?, parts.next()?, parts.next()?);
        let (plural, _) = KINDS_WITH_CONDITIONS.into_iter().find(|(known, _)| *known == plural)?;
        let whole = parts.next().is_none() && !name.is_empty() && !reason.is_empty();
        whole.then(|| ConditionKey { plural, name: name.to_owned(), reason: reason.to_owned() })
    }
}

impl fmt::Display for ConditionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CONDITION_PREFIX}{}/{}/{}", self.plural, self.name, self.reason)
    }
}

/// What the keys of the conditions of one object begin with, or (without a name) of all objects of a kind.
pub fn condition_prefix(plural: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{CONDITION_PREFIX}{plural}/{name}/"),
        None => format!("{CONDITION_PREFIX}{plural}/"),
    }
}

/// Puts conditions into the `status` of an object's JSON, behind those that it has.
pub fn add_conditions(object: &mut Value, conditions: &[Condition]) {
    let Some(root) = object.as_object_mut().filter(|_| !conditions.is_empty()) else { return };
    let status = root.entry("status").or_insert_with(|| json!({}));
    if !status.is_object() {
        *status = json!({});
    }
    let Some(status) = status.as_object_mut() else { return };
    let listed = status.entry("conditions").or_insert_with(|| json!([]));
    if !listed.is_array() {
        *listed = json!([]);
    }
    if let Some(listed) = listed.as_array_mut() {
        listed.extend(conditions.iter().map(|condition| json!(condition)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition() -> Condition {
        Condition {
            kind: "ResolvedRefs".to_owned(),
            status: "False".to_owned(),
            reason: "FilterNotFound".to_owned(),
            message: "there is no BGPFilter 'a'; create it".to_owned(),
            last_transition_time: "2024-01-01T00:00:00Z".to_owned(),
            node: "n1".to_owned(),
        }
    }

    #[test]
    fn a_key_says_which_condition_of_which_object_it_is() {
        let key = ConditionKey { plural: "bgppeers", name: "tor.a1".to_owned(), reason: "FilterNotFound".to_owned() };
        assert_eq!(key.to_string(), "/calico/margay/v1/status/bgppeers/tor.a1/FilterNotFound");
        assert!(key.to_string().starts_with(&condition_prefix("bgppeers", Some("tor.a1"))));
        assert!(key.to_string().starts_with(&condition_prefix("bgppeers", None)));
        assert_eq!(ConditionKey::parse(&key.to_string()), Some(key));
        for other in ["bgppeers/tor", "bgppeers/tor/", "bgppeers//X", "bgppeers/tor/X/Y", "profiles/a/X", ""] {
            assert_eq!(ConditionKey::parse(&format!("{CONDITION_PREFIX}{other}")), None, "{other}");
        }
        assert_eq!(ConditionKey::parse("/calico/resources/v3/projectcalico.org/bgppeers/tor"), None);
    }

    #[test]
    fn conditions_are_shown_beside_the_status_that_is_there() {
        let shown = serde_json::to_value(condition()).expect("JSON");
        assert_eq!(
            (&shown["type"], &shown["lastTransitionTime"]),
            (&json!("ResolvedRefs"), &json!("2024-01-01T00:00:00Z"))
        );
        for (before, after) in [
            (json!({}), json!({"status": {"conditions": [shown]}})),
            (json!({"status": null}), json!({"status": {"conditions": [shown]}})),
            (
                json!({"status": {"podCIDRs": ["10.0.0.0/24"], "conditions": [{"type": "Allocatable"}]}}),
                json!({"status": {"podCIDRs": ["10.0.0.0/24"], "conditions": [{"type": "Allocatable"}, shown]}}),
            ),
        ] {
            let mut object = before.clone();
            add_conditions(&mut object, &[]);
            assert_eq!(object, before);
            add_conditions(&mut object, &[condition()]);
            assert_eq!(object, after);
        }
    }
}
