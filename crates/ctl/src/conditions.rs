//! What nodes say of objects that they can't follow, beside the objects.

use std::collections::BTreeMap;

use margay_api::{Condition, ConditionKey, KINDS_WITH_CONDITIONS, add_conditions, condition_prefix};
use margay_datastore::{Datastore, KeyValue};
use serde_json::Value;

use crate::Failure;
use crate::kinds::Kind;

/// The conditions of objects of one kind, by name.
#[derive(Debug, Default)]
pub(crate) struct Conditions(BTreeMap<String, Vec<Condition>>);

/// Whether objects of the kind can have conditions.
pub(crate) fn has(kind: &Kind) -> bool {
    KINDS_WITH_CONDITIONS.iter().any(|(plural, _)| *plural == kind.plural)
}

/// Reads the conditions of one object, or of all objects of the kind.
pub(crate) async fn read(datastore: &dyn Datastore, kind: &Kind, name: Option<&str>) -> Result<Conditions, Failure> {
    match has(kind) {
        true => Ok(Conditions::of(&datastore.list(&condition_prefix(kind.plural, name)).await?.items)),
        false => Ok(Conditions::default()),
    }
}

impl Conditions {
    /// What can't be read is passed over: its node writes it anew.
    fn of(stored: &[KeyValue]) -> Conditions {
        let mut conditions = Conditions::default();
        for stored in stored {
            if let Some(key) = ConditionKey::parse(&stored.key)
                && let Ok(condition) = serde_json::from_slice(&stored.value)
            {
                conditions.0.entry(key.name).or_default().push(condition);
            }
        }
        conditions
    }

    fn of_object(&self, name: &str) -> &[Condition] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds those of the object to its JSON.
    pub(crate) fn add_to(&self, name: &str, object: &mut Value) {
        add_conditions(object, self.of_object(name));
    }

    /// The reasons, or `ok` where there is none.
    pub(crate) fn cell(&self, name: &str) -> String {
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
