use margay_local_api::{ApiError, CheckRequest, path};
use serde_json::Value;

use crate::config::NetworkConfig;
use crate::environment::Environment;
use crate::error::CniError;
use crate::link;
use crate::result::Expected;

/// Holds the pod's side against the result of ADD, and has the daemon do so with the host's side.
pub(crate) fn check(environment: &Environment, config: &NetworkConfig) -> Result<(), CniError> {
    let Some(previous) = &config.prev_result else {
        let message = "CHECK needs 'prevResult' in the configuration";
        return Err(CniError::new(CniError::INVALID_CONFIG, message, ""));
    };
    let interface = &environment.interface;
    let Some(expected) = Expected::read(previous, interface) else {
        let message = format!("prevResult does not speak of interface {interface}");
        return Err(CniError::new(CniError::INVALID_CONFIG, message, previous));
    };
    let netns = environment.netns.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    let problems = link::inspect(netns, interface, &expected)?;
    if !problems.is_empty() {
        let message = format!("{interface} of container {} is not as ADD left it", environment.container_id);
        return Err(CniError::new(ApiError::CHECK_FAILED, message, problems.join("; ")));
    }
    let request = CheckRequest {
        attachment: config.attachment(environment),
        pod: config.pod(environment),
        host_interface: expected.host_interface,
        addresses: expected.addresses,
    };
    config.client().post::<Value>(path::CNI_CHECK, &request)?;
    Ok(())
}
