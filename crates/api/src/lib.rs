//! Margay's resources: Calico's `projectcalico.org/v3` kinds, the Kubernetes kinds that are accepted beside them, the
//! selector language, strict YAML, and the keys under which everything is stored.
//!
//! Keys and JSON follow Calico's etcd v3 layout, so that `calicoctl` and Calico's own nodes can share a datastore.

mod condition;
pub mod fold;
pub mod kinds;
pub mod kubernetes;
mod object;
pub mod selector;
mod stored;
mod yaml;

pub use condition::{
    CONDITION_PREFIX, Condition, ConditionKey, KINDS_WITH_CONDITIONS, add_conditions, condition_prefix,
};
pub use object::{Labels, Metadata, Object, Problem, RESOURCE_PREFIX, Spec, resource_key, resource_prefix};
pub use stored::{Stored, StoredError};
pub use yaml::{Document, DocumentError, parse_documents};
