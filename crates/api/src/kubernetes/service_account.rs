use serde::{Deserialize, Serialize};

use crate::kinds::{Profile, ProfileSpec};
use crate::{Object, Spec};

/// A `v1` ServiceAccount; its labels count.
pub type ServiceAccount = Object<ServiceAccountSpec>;

/// A service account has no specification.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAccountSpec {}

impl Spec for ServiceAccountSpec {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "ServiceAccount";
    const PLURAL: &'static str = "serviceaccounts";
    const NAMESPACED: bool = true;
}

/// The profile `ksa.NAMESPACE.NAME` of a service account: its labels go to its endpoints behind `pcsa.`.
pub fn service_account_profile(account: &ServiceAccount) -> Profile {
    let mut labels_to_apply: crate::Labels =
        account.metadata.labels.iter().map(|(key, value)| (format!("pcsa.{key}"), value.clone())).collect();
    labels_to_apply.insert("pcsa.projectcalico.org/name".to_owned(), account.name().to_owned());
    let name = format!("ksa.{}.{}", account.namespace().unwrap_or("default"), account.name());
    Object::named(name, ProfileSpec { labels_to_apply, ..ProfileSpec::default() })
}
