use margay_local_api::{DelRequest, path};

use crate::config::NetworkConfig;
use crate::environment::Environment;
use crate::error::CniError;
use crate::link;

/// Frees the attachment. Succeeds where the link, the namespace or the attachment is gone already.
pub(crate) fn del(environment: &Environment, config: &NetworkConfig) -> Result<(), CniError> {
    let attachment = config.attachment(environment);
    let request = DelRequest { attachment, pod: config.pod(environment) };
    let freed: Result<serde_json::Value, _> = config.client().post(path::CNI_DEL, &request);
    // The link goes even where the daemon is away: the runtime comes back for the addresses.
    let unlinked = environment.netns.as_deref().map_or(Ok(()), |netns| link::delete(netns, &environment.interface));
    freed?;
    unlinked
}
