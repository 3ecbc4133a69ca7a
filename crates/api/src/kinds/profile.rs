use serde::{Deserialize, Serialize};

use super::Rule;
use crate::{Labels, Metadata, Object, Problem, Spec};

/// What a namespace (`kns.NAME`) or a service account (`ksa.NAMESPACE.NAME`) gives to its endpoints: labels, and the
/// rules that count where no policy applies.
pub type Profile = Object<ProfileSpec>;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileSpec {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels_to_apply: Labels,
}

impl Spec for ProfileSpec {
    const KIND: &'static str = "Profile";
    const PLURAL: &'static str = "profiles";
    const NAMESPACED: bool = false;

    fn validate(&self, _metadata: &Metadata) -> Vec<Problem> {
        let ingress =
            self.ingress.iter().enumerate().flat_map(|(i, rule)| rule.problems(&format!("spec.ingress[{i}]")));
        let egress = self.egress.iter().enumerate().flat_map(|(i, rule)| rule.problems(&format!("spec.egress[{i}]")));
        ingress.chain(egress).collect()
    }
}
