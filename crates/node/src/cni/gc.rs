//! GC: frees what no attachment that the runtime knows holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_local_api::{Attachment, GcRequest, GcResponse, Pod};

use super::errors::ipam_error;
use super::{ApiError, Cni, endpoint};
use crate::cluster::Cluster;

impl Cni {
    /// Goes on past what can't be freed, and says what that was.
    pub(crate) async fn gc(&self, request: GcRequest) -> Result<GcResponse, ApiError> {
        self.ready()?;
        let valid: BTreeSet<Attachment> = request.valid.iter().cloned().collect();
        let (network, kept) = (request.network.clone(), valid.clone());
        let mut stale = self.ask(move |cluster| stale_attachments(cluster, &network, &kept)).await?;
        for noted in self.notes.of_network(&request.network) {
            if !valid.contains(&noted) {
                stale.entry(noted).or_default();
            }
        }
        // Addresses without an endpoint: left by an ADD that did not come to its end.
        let kept: BTreeSet<String> = valid.iter().map(endpoint::handle).collect();
        let held = self.ipam.held_by_this_node().await.map_err(ipam_error)?;
        let known: BTreeSet<String> = stale.keys().map(endpoint::handle).collect();
        let orphans: BTreeSet<String> = held
            .into_iter()
            .filter(|held| endpoint::is_of_network(held, &request.network))
            .map(|held| held.handle)
            .filter(|handle| !kept.contains(handle) && !known.contains(handle))
            .collect();
        let mut response = GcResponse::default();
        while let Some((attachment, pod)) = stale.pop_first() {
            let shown = format!("{}/{} of container {}", pod.namespace, pod.name, attachment.container_id);
            let _alone = self.lock(&attachment, &pod).await;
            match self.free(&attachment, &pod).await {
                Ok(addresses) => response.freed.push(format!("{shown}: {addresses:?}")),
                Err(error) => response.errors.push(format!("{shown}: {error}")),
            }
        }
        for handle in orphans {
            let _alone = self.locks.lock([handle.clone()]).await;
            match self.free_handle(&handle).await {
                Ok(addresses) => response.freed.push(format!("{handle}: {addresses:?}")),
                Err(error) => response.errors.push(format!("{handle}: {error}")),
            }
        }
        if !response.freed.is_empty() {
            self.exhausted.forget();
            tracing::info!(network = request.network, freed = ?response.freed, "garbage is collected");
        }
        Ok(response)
    }

    /// Frees what a handle holds, with the endpoint that an ADD may have made for it meanwhile.
    async fn free_handle(&self, handle: &str) -> Result<Vec<IpAddr>, ApiError> {
        let wanted = handle.to_owned();
        let is_wanted = move |(attachment, _): &(Attachment, Pod)| endpoint::handle(attachment) == wanted;
        match self.ask(move |cluster| attachments(cluster).find(is_wanted)).await? {
            Some((attachment, pod)) => self.free(&attachment, &pod).await,
            None => self.ipam.release_by_handle(handle).await.map_err(ipam_error),
        }
    }
}

/// The attachments that this node has endpoints of, each with its pod.
fn attachments(cluster: &Cluster) -> impl Iterator<Item = (Attachment, Pod)> {
    cluster.local_endpoints.values().filter_map(|(_, endpoint)| {
        let namespace = endpoint.namespace().unwrap_or_default().to_owned();
        let pod = Pod { namespace, name: endpoint.spec.pod.clone(), ..Pod::default() };
        Some((endpoint::attachment_of(endpoint)?, pod))
    })
}

/// The attachments to a network that this node has endpoints of and that are not valid.
fn stale_attachments(cluster: &Cluster, network: &str, valid: &BTreeSet<Attachment>) -> BTreeMap<Attachment, Pod> {
    let is_stale = |attachment: &Attachment| attachment.network == network && !valid.contains(attachment);
    attachments(cluster).filter(|(attachment, _)| is_stale(attachment)).collect()
}
