use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fold;

/// Labels or annotations, in order of key.
pub type Labels = BTreeMap<String, String>;

/// Where Calico's etcd driver keeps its v3 resources.
pub const RESOURCE_PREFIX: &str = "/calico/resources/v3/projectcalico.org/";

/// The metadata of a resource, as Kubernetes defines them (`ObjectMeta`), as far as Margay uses them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The datastore's revision of the object, opaque; never stored, filled in when the object is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
}

/// What is wrong with a field, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field's path, as in `spec.peerIP`.
    pub field: String,
    pub reason: String,
}

impl Problem {
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Problem {
        Problem { field: field.into(), reason: reason.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

/// The specification of a kind of resource.
pub trait Spec:
    Serialize + DeserializeOwned + Clone + fmt::Debug + Default + PartialEq + Send + Sync + 'static
{
    /// `projectcalico.org/v3`, or the Kubernetes group and version.
    const API_VERSION: &'static str = "projectcalico.org/v3";
    const KIND: &'static str;
    /// The lower-case plural, as in keys and URLs.
    const PLURAL: &'static str;
    const NAMESPACED: bool;
    /// Where the kind's objects are kept, with the slash at the end.
    const PREFIX: &'static str = RESOURCE_PREFIX;
    /// The fields of `spec` that are Margay's own, in a kind of Calico's: stored as an annotation (see [`crate::fold`]).
    const OWN_FIELDS: &'static [&'static str] = &[];
    /// Whether `status` is what the author of the object wrote: nobody else fills it in.
    const STATUS_IS_AUTHORED: bool = false;

    /// Everything that is wrong with the object beyond its types.
    fn validate(&self, _metadata: &Metadata) -> Vec<Problem> {
        Vec::new()
    }

    /// What of a change from `before` is not allowed; the object has to be deleted and created for it.
    fn validate_change(&self, _before: &Self) -> Option<Problem> {
        None
    }
}

/// A resource: kind, metadata, specification and whatever status its controllers wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", bound = "S: Spec")]
pub struct Object<S> {
    pub kind: String,
    pub api_version: String,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub spec: S,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
}

impl<S: Spec> Object<S> {
    /// A cluster-scoped object.
    pub fn named(name: impl Into<String>, spec: S) -> Object<S> {
        let metadata = Metadata { name: name.into(), ..Metadata::default() };
        Object { kind: S::KIND.to_owned(), api_version: S::API_VERSION.to_owned(), metadata, spec, status: None }
    }

    /// An object in a namespace.
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>, spec: S) -> Object<S> {
        let mut object = Object::named(name, spec);
        object.metadata.namespace = Some(namespace.into());
        object
    }

    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// The namespace, `default` where a namespaced object names none.
    pub fn namespace(&self) -> Option<&str> {
        S::NAMESPACED.then(|| self.metadata.namespace.as_deref().unwrap_or("default"))
    }

    /// The key under which the object is stored.
    pub fn key(&self) -> String {
        resource_key::<S>(self.namespace(), self.name())
    }

    /// Everything that is wrong with the object: its name, its scope and its specification.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !is_dns_subdomain(&self.metadata.name) {
            problems.push(Problem::new(
                "metadata.name",
                format!(
                    "'{}' is not a DNS-1123 subdomain: lower-case letters, digits, '-' and '.', at most 253 of them",
                    self.metadata.name
                ),
            ));
        }
        if !S::NAMESPACED && self.metadata.namespace.is_some() {
            problems.push(Problem::new("metadata.namespace", format!("{} has no namespace", S::KIND)));
        }
        problems.extend(self.spec.validate(&self.metadata));
        problems
    }

    /// Moves fields of Margay's own from the annotation, where another client printed it so, to `spec`. What the
    /// annotation holds beyond them is a problem.
    pub(crate) fn unfolded(self) -> Result<Object<S>, Problem> {
        if S::OWN_FIELDS.is_empty() || !self.metadata.annotations.contains_key(fold::OWN_FIELDS_ANNOTATION) {
            return Ok(self);
        }
        let problem = |reason: String| Problem::new("metadata.annotations", reason);
        let mut json = serde_json::to_value(&self).map_err(|error| problem(error.to_string()))?;
        fold::unfold(&mut json, S::OWN_FIELDS).map_err(|error| problem(error.to_string()))?;
        let mut ignored = Vec::new();
        let object: Object<S> = serde_ignored::deserialize(json, |path| ignored.push(path.to_string()))
            .map_err(|error| problem(format!("'{}': {error}", fold::OWN_FIELDS_ANNOTATION)))?;
        ignored.extend(fold::folded_fields(&object.metadata.annotations));
        match ignored.first() {
            None => Ok(object),
            Some(field) => Err(problem(format!("'{}': unknown field '{field}'", fold::OWN_FIELDS_ANNOTATION))),
        }
    }
}

/// What the keys of all objects of a kind begin with.
pub fn resource_prefix<S: Spec>() -> String {
    format!("{}{}/", S::PREFIX, S::PLURAL)
}

/// The key of a resource by namespace (for namespaced kinds) and name.
pub fn resource_key<S: Spec>(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) if S::NAMESPACED => {
            format!("{}{}/{namespace}/{name}", S::PREFIX, S::PLURAL)
        }
        _ => format!("{}{}/{name}", S::PREFIX, S::PLURAL),
    }
}

fn is_dns_subdomain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{BgpPeerSpec, NetworkPolicySpec};

    #[test]
    fn keys_are_calicos() {
        assert_eq!(
            resource_key::<BgpPeerSpec>(None, "tor-a1"),
            "/calico/resources/v3/projectcalico.org/bgppeers/tor-a1"
        );
        assert_eq!(
            resource_key::<NetworkPolicySpec>(Some("shop"), "knp.default.db"),
            "/calico/resources/v3/projectcalico.org/networkpolicies/shop/knp.default.db"
        );
    }

    #[test]
    fn a_name_must_be_a_dns_subdomain() {
        for (name, good) in [("a", true), ("a-1.b", true), ("", false), ("A", false), ("-a", false), ("a..b", false)] {
            let object = Object::<BgpPeerSpec>::named(name, BgpPeerSpec::default());
            assert_eq!(!object.problems().iter().any(|problem| problem.field == "metadata.name"), good, "{name}");
        }
    }
}
