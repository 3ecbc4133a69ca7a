use serde::Serialize;
use serde_json::Value;

use crate::fold::{self, OWN_FIELDS_ANNOTATION, folded_fields};
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
        if !S::OWN_FIELDS.is_empty() {
            let mut raw: Value = serde_json::from_slice(json).map_err(error)?;
            fold::unfold(&mut raw, S::OWN_FIELDS).map_err(|broken| error(serde::de::Error::custom(broken)))?;
            return Stored::read(&raw, Some(&raw)).map_err(error);
        }
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let read = Stored::read(&mut deserializer, None).map_err(error)?;
        match read.unknown.is_empty() {
            true => Ok(read),
            false => {
                let raw: Value = serde_json::from_slice(json).map_err(error)?;
                Stored::read(&raw, Some(&raw)).map_err(error)
            }
        }
    }

    /// Reads the object; the fields that are not known are taken from `raw`, and are empty without it.
    fn read<'de, D: serde::Deserializer<'de>>(from: D, raw: Option<&Value>) -> Result<Stored<S>, D::Error> {
        let mut ignored = Vec::new();
        let object: Object<S> = serde_ignored::deserialize(from, |path| ignored.push(segments(&path)))?;
        let value = |path: Vec<String>| {
            let value = raw.and_then(|raw| at(raw, &path)).cloned().unwrap_or_default();
            (path, value)
        };
        Ok(Stored { object, unknown: ignored.into_iter().map(value).collect() })
    }

    /// The JSON to store: the object with its unknown fields where they were, without `resourceVersion`.
    pub fn encode(&self) -> Vec<u8> {
        let mut object = self.object.clone();
        object.metadata.resource_version = None;
        let mut json = serde_json::to_value(&object).unwrap_or(Value::Null);
        for (path, value) in &self.unknown {
            put(&mut json, path, value);
        }
        fold::fold(&mut json, S::OWN_FIELDS);
        json.to_string().into_bytes()
    }

    /// The paths of the fields that Margay does not know, as in `spec.ingress.0.notProtocol`. Whoever acts on the object
    /// must decide whether it can do so without them.
    pub fn unknown_fields(&self) -> impl Iterator<Item = String> {
        let own = if S::OWN_FIELDS.is_empty() { Vec::new() } else { folded_fields(&self.object.metadata.annotations) };
        let folded = own.into_iter().map(|field| format!("metadata.annotations.{OWN_FIELDS_ANNOTATION}.{field}"));
        self.unknown.iter().map(|(path, _)| path.join(".")).chain(folded).collect::<Vec<_>>().into_iter()
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
    use crate::kinds::{BgpPeerSpec, NodeSpec};

    #[test]
    fn unknown_fields_survive_a_read_modify_write() {
        let json = br#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1","finalizers":["x"]},
            "spec":{"bgp":{"ipv4Address":"10.0.0.1/24","novel":{"deep":1}},"alien":{"address":"10.0.0.9"}}}"#;
        let mut stored = Stored::<NodeSpec>::decode("key", json).expect("valid JSON");
        let unknown: Vec<String> = stored.unknown_fields().collect();
        assert_eq!(unknown, ["metadata.finalizers", "spec.bgp.novel", "spec.alien"]);
        stored.object.spec.bgp.as_mut().expect("bgp").as_number = Some(margay_net::Asn(64512));
        let back: Value = serde_json::from_slice(&stored.encode()).expect("JSON");
        assert_eq!(back["metadata"]["finalizers"][0], "x");
        assert_eq!(back["spec"]["bgp"]["novel"]["deep"], 1);
        assert_eq!(back["spec"]["alien"]["address"], "10.0.0.9");
        assert_eq!(back["spec"]["bgp"]["asNumber"], 64512);
    }

    /// A client with types of Calico's: it reads what it knows, changes it, and writes that back.
    fn as_calicos_typed_client(json: &[u8], change: impl Fn(&mut Value)) -> Vec<u8> {
        let mut object: Value = serde_json::from_slice(json).expect("JSON");
        let known = ["peerIP", "asNumber", "nodeSelector", "keepaliveTime"];
        let spec = object["spec"].as_object_mut().expect("a spec");
        spec.retain(|field, _| known.contains(&field.as_str()));
        change(&mut object);
        object.to_string().into_bytes()
    }

    #[test]
    fn fields_of_our_own_survive_a_client_that_does_not_know_them() {
        let yaml = "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 10.0.0.1, \
                    asNumber: 65001, holdTime: 9s, bfd: {minTx: 100ms, minRx: 100ms}, description: rack a}\n";
        let peer = crate::parse_documents(yaml).expect("YAML")[0].object::<BgpPeerSpec>().expect("a peer");
        let stored = Stored::new(peer.clone()).encode();
        let written = as_calicos_typed_client(&stored, |object| object["spec"]["asNumber"] = 65002.into());
        let back = Stored::<BgpPeerSpec>::decode("key", &written).expect("a peer");
        assert_eq!(back.unknown_fields().next(), None);
        let mut expected = peer;
        expected.spec.as_number = Some(margay_net::Asn(65002));
        assert_eq!(back.object, expected);
        assert!(back.object.metadata.annotations.is_empty());
    }

    #[test]
    fn a_field_of_a_newer_version_is_kept_in_the_annotation_and_named() {
        let json = br#"{"kind":"BGPPeer","apiVersion":"projectcalico.org/v3","metadata":{"name":"tor",
            "annotations":{"margay.io/spec":"{\"novel\":7,\"holdTime\":\"9s\"}"}},"spec":{"peerIP":"10.0.0.1","alien":1}}"#;
        let stored = Stored::<BgpPeerSpec>::decode("key", json).expect("a peer");
        let unknown: Vec<String> = stored.unknown_fields().collect();
        assert_eq!(unknown, ["spec.alien", "metadata.annotations.margay.io/spec.novel"]);
        let back: Value = serde_json::from_slice(&stored.encode()).expect("JSON");
        assert_eq!(back["metadata"]["annotations"]["margay.io/spec"], r#"{"novel":7,"holdTime":"9s"}"#);
        assert_eq!(back["spec"]["alien"], 1);
    }

    #[test]
    fn a_broken_annotation_makes_the_value_invalid() {
        let json = br#"{"kind":"BGPPeer","apiVersion":"projectcalico.org/v3","metadata":{"name":"tor",
            "annotations":{"margay.io/spec":"{"}},"spec":{"peerIP":"10.0.0.1"}}"#;
        let error = Stored::<BgpPeerSpec>::decode("key", json).expect_err("broken");
        assert!(error.to_string().contains("margay.io/spec"), "{error}");
    }

    #[test]
    fn a_value_that_is_no_resource_names_its_key() {
        let error = Stored::<NodeSpec>::decode("/calico/x", b"{]").expect_err("not JSON");
        assert!(error.to_string().starts_with("/calico/x does not hold a valid Node"), "{error}");
    }
}
