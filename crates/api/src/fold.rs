//! Fields of Margay's own in Calico's kinds: in YAML they are fields of `spec` as any other; in the datastore they are
//! one annotation, since Calico's typed clients drop fields that they don't know and keep annotations.

use serde_json::{Map, Value};

/// The annotation that holds the fields of Margay's own, as a JSON object by field name.
pub const OWN_FIELDS_ANNOTATION: &str = "margay.io/spec";

/// An annotation that does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("metadata.annotations '{OWN_FIELDS_ANNOTATION}' is not a JSON object of fields ({0}); repair or delete it")]
pub struct FoldError(String);

/// Moves the fields `own` from `spec` into the annotation. Fields that the annotation holds already and that are not
/// in `own` stay there: a newer version wrote them.
pub fn fold(object: &mut Value, own: &[&str]) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let moved: Vec<(String, Value)> =
        own.iter().filter_map(|field| spec.remove(*field).map(|value| ((*field).to_owned(), value))).collect();
    let mut fields = annotations(object).and_then(|all| parsed(all).ok()).unwrap_or_default();
    fields.retain(|field, _| !own.contains(&field.as_str()));
    fields.extend(moved);
    write(object, fields);
}

/// Moves the fields `own` from the annotation back into `spec`; one that `spec` has itself counts before. What of the
/// annotation is not in `own` stays in it.
pub fn unfold(object: &mut Value, own: &[&str]) -> Result<(), FoldError> {
    let Some(mut fields) = annotations(object).map(parsed).transpose()? else { return Ok(()) };
    let Some(root) = object.as_object_mut() else { return Ok(()) };
    let spec = root.entry("spec").or_insert_with(|| Value::Object(Map::new()));
    let Some(spec) = spec.as_object_mut() else { return Ok(()) };
    for field in own {
        if let Some(value) = fields.remove(*field) {
            spec.entry(*field).or_insert(value);
        }
    }
    write(object, fields);
    Ok(())
}

/// The fields that the annotation holds; none where there is no annotation, or it cannot be read.
pub fn folded_fields(annotations: &crate::Labels) -> Vec<String> {
    let Some(text) = annotations.get(OWN_FIELDS_ANNOTATION) else { return Vec::new() };
    let fields: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    fields.keys().cloned().collect()
}

/// The annotations, where the one with the fields is among them.
fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    let annotations = object.get("metadata")?.get("annotations")?.as_object()?;
    annotations.contains_key(OWN_FIELDS_ANNOTATION).then_some(annotations)
}

fn parsed(annotations: &Map<String, Value>) -> Result<Map<String, Value>, FoldError> {
    let text = annotations.get(OWN_FIELDS_ANNOTATION).and_then(Value::as_str);
    let text = text.ok_or_else(|| FoldError("not a string".to_owned()))?;
    serde_json::from_str(text).map_err(|error| FoldError(error.to_string()))
}

fn write(object: &mut Value, fields: Map<String, Value>) {
    let Some(root) = object.as_object_mut() else { return };
    let metadata = root.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    let Some(metadata) = metadata.as_object_mut() else { return };
    if fields.is_empty() {
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(OWN_FIELDS_ANNOTATION);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
        return;
    }
    let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(OWN_FIELDS_ANNOTATION.to_owned(), Value::Object(fields).to_string().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OWN: &[&str] = &["bfd", "holdTime"];

    #[test]
    fn own_fields_go_into_the_annotation_and_come_back() {
        let object = json!({"metadata": {"name": "tor", "annotations": {"a": "b"}},
            "spec": {"peerIP": "10.0.0.1", "bfd": {"multiplier": 3}, "holdTime": "9s"}});
        let mut stored = object.clone();
        fold(&mut stored, OWN);
        assert_eq!(stored["spec"], json!({"peerIP": "10.0.0.1"}));
        assert_eq!(
            stored["metadata"]["annotations"],
            json!({"a": "b", OWN_FIELDS_ANNOTATION: r#"{"bfd":{"multiplier":3},"holdTime":"9s"}"#})
        );
        unfold(&mut stored, OWN).expect("a good annotation");
        assert_eq!(stored, object);
    }

    #[test]
    fn an_object_without_own_fields_gets_no_annotation() {
        let object = json!({"metadata": {"name": "tor"}, "spec": {"peerIP": "10.0.0.1"}});
        let mut stored = object.clone();
        fold(&mut stored, OWN);
        assert_eq!(stored, object);
        unfold(&mut stored, OWN).expect("nothing to unfold");
        assert_eq!(stored, object);
    }

    #[test]
    fn what_a_newer_version_wrote_stays_in_the_annotation() {
        let annotations = json!({OWN_FIELDS_ANNOTATION: r#"{"novel":1,"holdTime":"9s"}"#});
        let mut object = json!({"metadata": {"annotations": annotations}, "spec": {}});
        unfold(&mut object, OWN).expect("a good annotation");
        assert_eq!(object["spec"], json!({"holdTime": "9s"}));
        object["spec"]["holdTime"] = json!("30s");
        fold(&mut object, OWN);
        assert_eq!(object["metadata"]["annotations"][OWN_FIELDS_ANNOTATION], r#"{"novel":1,"holdTime":"30s"}"#);
    }

    #[test]
    fn a_field_that_was_taken_out_leaves_the_annotation() {
        let mut object =
            json!({"metadata": {"annotations": {OWN_FIELDS_ANNOTATION: r#"{"holdTime":"9s"}"#}}, "spec": {}});
        fold(&mut object, OWN);
        assert_eq!(object, json!({"metadata": {}, "spec": {}}));
    }

    #[test]
    fn a_broken_annotation_is_said_to_be_so() {
        for broken in [json!("{"), json!("[1]"), json!(5)] {
            let mut object = json!({"metadata": {"annotations": {OWN_FIELDS_ANNOTATION: broken}}, "spec": {}});
            let error = unfold(&mut object, OWN).expect_err("broken");
            assert!(error.to_string().contains("margay.io/spec"), "{error}");
        }
    }
}
