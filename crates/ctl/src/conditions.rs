//! What nodes say of objects that they can't follow, beside the objects.

use std::collections::BTreeMap;

use margay_api::{Condition, ConditionKey, KINDS_WITH_CONDITIONS, add_conditions, condition_prefix};
use margay_datastore::{Datastore, KeyValue};
use serde_json::Value;

use crate::kinds::Kind;

/// The conditions of objects of one kind, by name; `None`: they could not be read.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Option<BTreeMap<String, Vec<Condition>>>);

/// Whether objects of the kind can have conditions.
pub(crate) fn has(kind: &Kind) -> bool {
    KINDS_WITH_CONDITIONS.iter().any(|(plural, _)| *plural == kind.plural)
}

/// Reads the conditions of one object, or of all objects of the kind. Whoever may read the objects alone sees them all
/// the same: that the conditions can't be read is said on standard error.
pub(crate) async fn read(datastore: &dyn Datastore, kind: &Kind, name: Option<&str>) -> Conditions {
    if !has(kind) {
        return Conditions::default();
    }
    match datastore.list(&condition_prefix(kind.plural, name)).await {
        Ok(listed) => Conditions::of(&listed.items),
        Err(error) => {
            eprintln!("margayctl: what nodes say of {} could not be read, and is left out: {error}", kind.plural);
            Conditions::default()
        }
    }
}

impl Conditions {
    /// What can't be read is passed over: its node writes it anew.
    pub(crate) fn of(stored: &[KeyValue]) -> Conditions {
        let mut conditions: BTreeMap<String, Vec<Condition>> = BTreeMap::new();
        for stored in stored {
            if let Some(key) = ConditionKey::parse(&stored.key)
                && let Ok(condition) = serde_json::from_slice(&stored.value)
            {
                conditions.entry(key.name).or_default().push(condition);
            }
        }
        Conditions(Some(conditions))
    }

    fn of_object(&self, name: &str) -> &[Condition] {
        self.0.as_ref().and_then(|known| known.get(name)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds those of the object to its JSON.
    pub(crate) fn add_to(&self, name: &str, object: &mut Value) {
        add_conditions(object, self.of_object(name));
    }

    /// The reasons, `ok` where there is none, or `unknown` where none could be read.
    pub(crate) fn cell(&self, name: &str) -> String {
        if self.0.is_none() {
            return "unknown".to_owned();
        }
        let reasons: Vec<&str> = self.of_object(name).iter().map(|condition| condition.reason.as_str()).collect();
        if reasons.is_empty() { "ok".to_owned() } else { reasons.join(",") }
    }
}

#[cfg(test)]
mod tests {
    use margay_datastore::Revision;
    use serde_json::json;

    use super::*;

    fn stored(path: &str, reason: &str) -> KeyValue {
        let condition = json!({
            "type": "ResolvedRefs", "status": "False", "reason": reason, "message": "create it",
            "lastTransitionTime": "2024-01-01T00:00:00Z", "node": "n1",
        });
        let key = format!("{}{path}", margay_api::CONDITION_PREFIX);
        KeyValue { key, value: condition.to_string().into(), revision: Revision::new(7) }
    }

    #[test]
    fn conditions_that_cannot_be_read_are_not_said_to_be_none() {
        assert_eq!(Conditions::default().cell("a"), "unknown");
    }

    #[test]
    fn reasons_are_a_cell_and_conditions_a_status() {
        let broken = KeyValue { value: b"{".into(), ..stored("bgppeers/b/Invalid", "Invalid") };
        let conditions = Conditions::of(&[
            stored("bgppeers/a/FilterNotFound", "FilterNotFound"),
            stored("bgppeers/a/Invalid", "Invalid"),
            broken,
        ]);
        assert_eq!([conditions.cell("a"), conditions.cell("b")], ["FilterNotFound,Invalid", "ok"]);
        let (mut a, mut b) = (json!({}), json!({}));
        conditions.add_to("a", &mut a);
        conditions.add_to("b", &mut b);
        assert_eq!((&a["status"]["conditions"][1]["reason"], b), (&json!("Invalid"), json!({})));
    }
}
