use margay_local_api::{AddRequest, AddResponse, DelRequest, path};
use serde_json::Value;

use crate::config::NetworkConfig;
use crate::environment::Environment;
use crate::error::CniError;
use crate::link;
use crate::result::Added;

/// Makes the link, has the daemon program the host's side, and sets up the pod's side.
pub(crate) fn add(environment: &Environment, config: &NetworkConfig) -> Result<Value, CniError> {
    let netns = environment.netns.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    let pod = config.pod(environment);
    let host_interface = link::host_interface(&pod.namespace, &pod.name, &environment.interface);
    let mac = link::pod_mac(&environment.container_id, &environment.interface);
    let mtu = link::create(netns, &environment.interface, &host_interface, mac, config.mtu)?;
    let (ipv4, ipv6) = config.families();
    let request = AddRequest {
        attachment: config.attachment(environment),
        pod,
        host_interface: host_interface.clone(),
        mac,
        ipv4,
        ipv6,
        ipv4_pools: config.ipam.ipv4_pools.clone(),
        ipv6_pools: config.ipam.ipv6_pools.clone(),
    };
    let added =
        config.client().post::<AddResponse>(path::CNI_ADD, &request).map_err(CniError::from).and_then(|answer| {
            let added = Added {
                host_interface,
                interface: environment.interface.clone(),
                mac,
                sandbox: netns.display().to_string(),
                mtu,
                addresses: answer.addresses,
                ipv4_gateway: answer.ipv4_gateway,
                ipv6_gateway: answer.ipv6_gateway,
            };
            link::configure(netns, &added)?;
            Ok(added)
        });
    match added {
        Ok(added) => Ok(added.to_json(config.version, config.prev_result.as_ref())),
        Err(error) => {
            undo(environment, config);
            Err(error)
        }
    }
}

/// Gives back what a failed ADD took. What fails here too is freed by the runtime's DEL or GC.
fn undo(environment: &Environment, config: &NetworkConfig) {
    let request = DelRequest { attachment: config.attachment(environment), pod: config.pod(environment) };
    if let Err(error) = config.client().post::<Value>(path::CNI_DEL, &request) {
        eprintln!("margay-cni: after a failed ADD: {error}");
    }
    if let Some(netns) = environment.netns.as_deref()
        && let Err(error) = link::delete(netns, &environment.interface)
    {
        eprintln!("margay-cni: after a failed ADD: {error}");
    }
}
