//! Whether IPAM contradicts itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_api::kinds::WorkloadEndpoint;
use margay_ipam_core::{AffinityState, BlockAffinity, keys};
use margay_net::{Cidr, Family};
use serde::Serialize;

use crate::release::{Held, held_in};
use crate::store::decode_handle;
use crate::{IpamClient, IpamError};

/// Contradictions between blocks, handles, affinities and endpoints.
///
/// These are read one after the other: what changes meanwhile may show as a contradiction that a second check doesn't
/// find.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CheckReport {
    pub addresses_assigned: usize,
    pub addresses_in_use: usize,
    /// Assigned, but no endpoint has it.
    pub leaked: Vec<String>,
    /// An endpoint has it, but it is not assigned.
    pub unassigned: Vec<String>,
    /// More than one endpoint has it.
    pub duplicates: Vec<String>,
    /// Handles whose count differs from what blocks say.
    pub handles: Vec<String>,
    /// Affinities and blocks that do not agree.
    pub affinities: Vec<String>,
    /// Values that are not what their key says; what they would tell is missing from the rest of the report.
    pub corrupt: Vec<String>,
}

impl CheckReport {
    pub fn is_clean(&self) -> bool {
        self.leaked.is_empty()
            && self.unassigned.is_empty()
            && self.duplicates.is_empty()
            && self.handles.is_empty()
            && self.affinities.is_empty()
            && self.corrupt.is_empty()
    }
}

impl IpamClient {
    /// Holds blocks, handles, affinities and the cluster's endpoints against each other.
    pub async fn check(&self, endpoints: &[WorkloadEndpoint]) -> Result<CheckReport, IpamError> {
        let mut report = CheckReport::default();
        let mut held = Vec::new();
        let mut owners = BTreeMap::new();
        for family in Family::ALL {
            let (blocks, corrupt) = self.scan_blocks(family).await?;
            report.corrupt.extend(corrupt.iter().map(IpamError::to_string));
            for versioned in blocks {
                held.extend(held_in(&versioned));
                owners.insert(versioned.block.cidr, versioned.block.host().map(str::to_owned));
            }
        }
        compare_endpoints(&mut report, &held, endpoints);
        self.compare_handles(&mut report, &held).await?;
        self.compare_affinities(&mut report, owners).await?;
        Ok(report)
    }

    async fn compare_handles(&self, report: &mut CheckReport, held: &[Held]) -> Result<(), IpamError> {
        let mut counted: BTreeMap<(&str, Cidr), u64> = BTreeMap::new();
        for held in held.iter().filter(|held| !held.handle.is_empty()) {
            *counted.entry((&held.handle, held.block)).or_default() += 1;
        }
        let listed = self.store.list(keys::HANDLES).await?.items;
        for stored in &listed {
            let id = stored.key.strip_prefix(keys::HANDLES).unwrap_or(&stored.key);
            let handle = match decode_handle(stored) {
                Ok(handle) => handle,
                Err(error) => {
                    report.corrupt.push(error.to_string());
                    continue;
                }
            };
            for (block, count) in handle.block {
                let found = counted.remove(&(id, block)).unwrap_or_default();
                if found != count {
                    report.handles.push(format!("{id} counts {count} in {block}, which has {found}"));
                }
            }
        }
        let missing = |((id, block), count)| format!("{id} does not count {block}, which has {count} of it");
        report.handles.extend(counted.into_iter().map(missing));
        Ok(())
    }

    async fn compare_affinities(
        &self,
        report: &mut CheckReport,
        mut owners: BTreeMap<Cidr, Option<String>>,
    ) -> Result<(), IpamError> {
        for stored in self.store.list(keys::HOSTS).await?.items {
            let Some((host, cidr)) = keys::host_of_affinity(&stored.key) else { continue };
            let state = match BlockAffinity::decode(&stored.value) {
                Ok(affinity) => affinity.state,
                Err(error) => {
                    let error = IpamError::Corrupt { key: stored.key.clone(), reason: error.to_string() };
                    report.corrupt.push(error.to_string());
                    continue;
                }
            };
            let owner = owners.get(&cidr).map(Option::as_deref);
            if state != AffinityState::Confirmed {
                report.affinities.push(format!("{host}'s affinity for {cidr} is {state:?}: it was interrupted"));
            } else if owner != Some(Some(host)) {
                let truth = match owner {
                    None => "which is not there".to_owned(),
                    Some(owner) => format!("which {} owns", owner.unwrap_or("nobody")),
                };
                report.affinities.push(format!("{host} has an affinity for {cidr}, {truth}"));
            }
            if owner == Some(Some(host)) {
                owners.remove(&cidr);
            }
        }
        for (cidr, owner) in owners {
            if let Some(host) = owner {
                report.affinities.push(format!("{cidr} is owned by {host}, which has no affinity"));
            }
        }
        Ok(())
    }
}

fn compare_endpoints(report: &mut CheckReport, held: &[Held], endpoints: &[WorkloadEndpoint]) {
    let mut users: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for endpoint in endpoints {
        let name = format!("{}/{}", endpoint.namespace().unwrap_or_default(), endpoint.spec.pod);
        for network in &endpoint.spec.ip_networks {
            users.entry(network.addr()).or_default().push(name.clone());
        }
    }
    report.addresses_assigned = held.len();
    report.addresses_in_use = users.len();
    let assigned: BTreeSet<IpAddr> = held.iter().map(|held| held.address).collect();
    let leaked = held.iter().filter(|held| !users.contains_key(&held.address));
    report.leaked.extend(leaked.map(|held| format!("{} held by {}", held.address, held.handle)));
    for (address, names) in &users {
        let used_by = format!("{address} used by {}", names.join(", "));
        if !assigned.contains(address) {
            report.unassigned.push(used_by.clone());
        }
        if names.len() > 1 {
            report.duplicates.push(used_by);
        }
    }
}
