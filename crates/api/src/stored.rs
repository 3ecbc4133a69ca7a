use serde::Serialize;
use serde_json::Value;

use crate::{Object, Spec};

/// A resource as the datastore holds it: the fields that Margay knows, typed, and those that it does not know, kept
/// so that they survive a read-modify-write.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<S> {
    pub object: Object<S>,
    unknown: Vec<(Vec<String>, Value)>,
}

/// A stored value that is not the resource its key says.
#[derive(Debug, thiserror::Error)]
#[error("{key} does not hold a valid {kind}: {reason}; repair or delete it")]
pub struct StoredError {
    pub key: String,
    pub kind: &'static str,
    pub reason: String,
}

impl<S: Spec> Stored<S> {
    /// A new object, with nothing unknown in it.
    pub fn new(object: Object<S>) -> Stored<S> {
        Stored { object, unknown: Vec::new() }
    }

    /// Reads the JSON under `key`.
    pub fn decode(key: &str, json: &[u8]) -> Result<Stored<S>, StoredError> {
        let error =
            |error: serde_json::Error| StoredError { key: key.to_owned(), kind: S::KIND, reason: error.to_string() };
        let mut ignored = Vec::new();
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let object: Object<S> =
            serde_ignored::deserialize(&mut deserializer, |path| ignored.push(segments(&path))).map_err(error)?;
        let mut unknown = Vec::new();
        if !ignored.is_empty() {
            let raw: Value = serde_json::from_slice(json).map_err(error)?;
            for path in ignored {
                if let Some(value) = at(&raw, &path) {
                    unknown.push((path, value.clone()));
                }
            }
        }
        Ok(Stored { object, unknown })
    }

    /// The JSON to store: the object with its unknown fields where they were, without `resourceVersion`.
    pub fn encode(&self) -> Vec<u8> {
        let mut object = self.object.clone();
        object.metadata.resource_version = None;
        let mut json = serde_json::to_value(&object).unwrap_or(Value::Null);
        for (path, value) in &self.unknown {
            put(&mut json, path, value);
        }
        json.to_string().into_bytes()
    }

    /// The paths of the fields that Margay does not know, as in `spec.ingress.0.notProtocol`. Whoever acts on the object
    /// must decide whether it can do so without them.
    pub fn unknown_fields(&self) -> impl Iterator<Item = String> {
        self.unknown.iter().map(|(path, _)| path.join("."))
    }

    /// Replaces what Margay knows by `object`, and keeps what it does not know.
    pub fn with(&self, object: Object<S>) -> Stored<S> {
        Stored { object, unknown: self.unknown.clone() }
    }
}

impl<S: Spec> Serialize for Stored<S> {
    fn serialize<Z: serde::Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let mut json = serde_json::to_value(&self.object).map_err(serde::ser::Error::custom)?;
        for (path, value) in &self.unknown {
            put(&mut json, path, value);
        }
        json.serialize(serializer)
    }
}

pub(crate) fn segments(path: &serde_ignored::Path<'_>) -> Vec<String> {
    fn walk(path: &serde_ignored::Path<'_>, out: &mut Vec<String>) {
        use serde_ignored::Path;
        match path {
            Path::Root => {}
            Path::Seq { parent, index } => {
                walk(parent, out);
                out.push(index.to_string());
            }
            Path::Map { parent, key } => {
                walk(parent, out);
                out.push(key.clone());
            }
            Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
                walk(parent, out);
            }
        }
    }
    let mut out = Vec::new();
    walk(path, &mut out);
    out
}

fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, segment| match value {
        Value::Object(map) => map.get(segment),
        Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Puts `value` at `path` if what should hold it is still there.
fn put(json: &mut Value, path: &[String], value: &Value) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let holder = parents.iter().try_fold(json, |json, segment| match json {
        Value::Object(map) => map.get_mut(segment),
        Value::Array(items) => items.get_mut(segment.parse::<usize>().ok()?),
        _ => None,
    });
    if let Some(Value::Object(map)) = holder {
        map.entry(last.clone()).or_insert_with(|| value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::NodeSpec;

    #[test]
    fn unknown_fields_survive_a_read_modify_write() {
        let json = br#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1","finalizers":["x"]},
            "spec":{"bgp":{"ipv4Address":"10.0.0.1/24","novel":{"deep":1}},"wireguard":{"interfaceIPv4Address":"10.0.0.9"}}}"#;
        let mut stored = Stored::<NodeSpec>::decode("key", json).expect("valid JSON");
        let unknown: Vec<String> = stored.unknown_fields().collect();
        assert_eq!(unknown, ["metadata.finalizers", "spec.bgp.novel", "spec.wireguard"]);
        stored.object.spec.bgp.as_mut().expect("bgp").as_number = Some(margay_net::Asn(64512));
        let back: Value = serde_json::from_slice(&stored.encode()).expect("JSON");
        assert_eq!(back["metadata"]["finalizers"][0], "x");
        assert_eq!(back["spec"]["bgp"]["novel"]["deep"], 1);
        assert_eq!(back["spec"]["wireguard"]["interfaceIPv4Address"], "10.0.0.9");
        assert_eq!(back["spec"]["bgp"]["asNumber"], 64512);
    }

    #[test]
    fn a_value_that_is_no_resource_names_its_key() {
        let error = Stored::<NodeSpec>::decode("/calico/x", b"{]").expect_err("not JSON");
        assert!(error.to_string().starts_with("/calico/x does not hold a valid Node"), "{error}");
    }
}
