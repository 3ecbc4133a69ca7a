//! CHECK: the attachment as ADD left it, as far as the host knows.

use std::collections::BTreeSet;
use std::net::IpAddr;

use margay_felix_agent::WORKLOAD_PROTOCOL;
use margay_ipam_core::{Block, keys};
use margay_local_api::{ApiError, CheckRequest};
use margay_net::Cidr;
use margay_netlink::NetlinkError;
use margay_netlink::rtnl::{RouteFilter, Rtnl};

use super::errors::{ipam_error, store_error};
use super::{Cni, endpoint};

impl Cni {
    pub(crate) async fn check(&self, request: CheckRequest) -> Result<(), ApiError> {
        self.ready()?;
        let problems = self.problems_of(&request).await?;
        if problems.is_empty() {
            return Ok(());
        }
        let message = format!("container {} is not as ADD left it", request.attachment.container_id);
        Err(ApiError::new(ApiError::CHECK_FAILED, message, problems.join("; ")))
    }

    async fn problems_of(&self, request: &CheckRequest) -> Result<Vec<String>, ApiError> {
        let key = endpoint::key(&self.node, &request.attachment, &request.pod);
        let wanted = key.clone();
        let found = self.ask(move |cluster| cluster.local_endpoints.get(&wanted).cloned()).await?;
        let Some((_, endpoint)) = found else { return Ok(vec![format!("{key} is not there")]) };
        if endpoint.spec.container_id != request.attachment.container_id {
            return Ok(vec![format!("{key} belongs to container {}", endpoint.spec.container_id)]);
        }
        let mut problems = Vec::new();
        let addresses: BTreeSet<IpAddr> = endpoint.spec.ip_networks.iter().map(|network| network.addr()).collect();
        if addresses != request.addresses.iter().copied().collect() {
            problems.push(format!("{key} has {addresses:?}, ADD gave {:?}", request.addresses));
        }
        if endpoint.spec.interface_name != request.host_interface {
            problems.push(format!("{key} has interface {}", endpoint.spec.interface_name));
        }
        let handle = endpoint::handle(&request.attachment);
        for address in &addresses {
            if self.holder(*address).await?.as_deref() != Some(&handle) {
                problems.push(format!("{address} is not assigned to {handle}"));
            }
        }
        let (interface, expected) = (request.host_interface.clone(), addresses);
        let inspected = tokio::task::spawn_blocking(move || inspect(&interface, &expected)).await;
        let failed = |error: String| ApiError::new(ApiError::INTERNAL, "the kernel could not be read", error);
        let inspected = inspected.map_err(|error| failed(error.to_string()))?;
        problems.extend(inspected.map_err(|error| failed(error.to_string()))?);
        Ok(problems)
    }

    /// The handle that an address is assigned to: one read where the block is this node's.
    async fn holder(&self, address: IpAddr) -> Result<Option<String>, ApiError> {
        let own = self.shared.borrow().own_blocks.iter().find(|block| block.contains(address)).copied();
        if let Some(cidr) = own
            && let Some(stored) = self.store.get(&keys::block(cidr)).await.map_err(|error| store_error(&error))?
        {
            let corrupt = |error: String| {
                let details = format!("{}: {error}; repair or delete it", stored.key);
                ApiError::new(ApiError::INTERNAL, "a block in the datastore is not valid", details)
            };
            let block = Block::decode(&stored.value).map_err(|error| corrupt(error.to_string()))?;
            let holder = block.assigned().find(|(assigned, _)| *assigned == address);
            return Ok(holder.and_then(|(_, of)| of.handle_id.clone()));
        }
        let held = self.ipam.held_by_this_node().await.map_err(ipam_error)?;
        Ok(held.into_iter().find(|held| held.address == address).map(|held| held.handle))
    }
}

/// What of the host's side is not as it should be, in words.
fn inspect(interface: &str, addresses: &BTreeSet<IpAddr>) -> Result<Vec<String>, NetlinkError> {
    let mut rtnl = Rtnl::open()?;
    let Some(link) = rtnl.link(interface)? else {
        return Ok(vec![format!("the host has no interface {interface}")]);
    };
    let mut problems = Vec::new();
    if !link.is_up() {
        problems.push(format!("{interface} is down on the host"));
    } else if !link.has_carrier() {
        problems.push(format!("{interface} has no carrier on the host: its other end is down or gone"));
    }
    let filter = RouteFilter { interface: Some(link.index), protocol: Some(WORKLOAD_PROTOCOL) };
    let routes: BTreeSet<Cidr> = rtnl.routes(&filter)?.into_iter().map(|route| route.prefix).collect();
    let missing = addresses.iter().filter(|address| !routes.contains(&Cidr::host(**address)));
    problems.extend(missing.map(|address| format!("the host has no route to {address} over {interface}")));
    Ok(problems)
}
