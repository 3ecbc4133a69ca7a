use serde::{Deserialize, Serialize};

use crate::kinds::{Profile, ProfileSpec, Rule};
use crate::{Object, Spec};

/// A `v1` Namespace; its labels count.
pub type Namespace = Object<NamespaceSpec>;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceSpec {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
}

impl Spec for NamespaceSpec {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "Namespace";
    const PLURAL: &'static str = "namespaces";
    const NAMESPACED: bool = false;
}

/// The profile `kns.NAME` of a namespace, as Calico's controllers write it: everything passes where no policy
/// applies, and the namespace's labels go to its endpoints behind `pcns.`. Kubernetes puts
/// `kubernetes.io/metadata.name` on every namespace, and so does this.
pub fn namespace_profile(namespace: &Namespace) -> Profile {
    let mut labels = namespace.metadata.labels.clone();
    labels.insert("kubernetes.io/metadata.name".to_owned(), namespace.name().to_owned());
    let mut labels_to_apply: crate::Labels =
        labels.into_iter().map(|(key, value)| (format!("pcns.{key}"), value)).collect();
    labels_to_apply.insert("pcns.projectcalico.org/name".to_owned(), namespace.name().to_owned());
    let spec = ProfileSpec { ingress: vec![Rule::allow_all()], egress: vec![Rule::allow_all()], labels_to_apply };
    Object::named(format!("kns.{}", namespace.name()), spec)
}
