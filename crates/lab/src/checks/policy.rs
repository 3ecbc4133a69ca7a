//! The two policies of everyday life: default-deny, then one thing allowed.

use std::time::Duration;

use anyhow::Result;
use margay_net::Family;

use super::reach::{self, Attempt, By};
use crate::manifests::BACKEND_PORT;
use crate::traffic::ECHO_PORT;
use crate::{Lab, Pod};

/// Under default-deny no pod gets any answer from another, by ping or by TCP.
pub fn default_deny(lab: &Lab, family: Family, limit: Duration) -> Result<String> {
    let mut attempts = reach::pod_pairs(lab, family, By::Ping)?;
    attempts.extend(reach::pod_pairs(lab, family, By::Tcp(ECHO_PORT))?);
    attempts.extend(reach::pod_pairs(lab, family, By::Tcp(BACKEND_PORT))?);
    reach::none_answers(&attempts, limit)
}

/// Every `frontend` reaches every `backend` on its port.
pub fn frontend_reaches_backend(lab: &Lab, family: Family, limit: Duration) -> Result<String> {
    reach::all_reach(&backend_attempts(lab, family, true)?, limit)
}

/// Nothing but `frontend` to `backend` on its port gets any answer.
pub fn all_else_is_denied(lab: &Lab, family: Family, limit: Duration) -> Result<String> {
    let mut attempts = backend_attempts(lab, family, false)?;
    attempts.extend(reach::pod_pairs(lab, family, By::Ping)?);
    attempts.extend(reach::pod_pairs(lab, family, By::Tcp(ECHO_PORT))?);
    reach::none_answers(&attempts, limit)
}

/// The pairs by TCP on the backend's port that the policy allows, or the others.
fn backend_attempts(lab: &Lab, family: Family, allowed: bool) -> Result<Vec<Attempt>> {
    let is = |name: &str, app: &str| {
        lab.pods().any(|pod: &Pod| pod.key().name == name && pod.spec.labels.get("app").is_some_and(|a| a == app))
    };
    let mut attempts = reach::pod_pairs(lab, family, By::Tcp(BACKEND_PORT))?;
    attempts.retain(|attempt| (is(&attempt.from.name, "frontend") && is(&attempt.to.name, "backend")) == allowed);
    Ok(attempts)
}
