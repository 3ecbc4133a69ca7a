//! What an assignment is asked with, and what it gives.

use std::collections::BTreeMap;
use std::net::IpAddr;

use margay_api::Labels;
use margay_api::kinds::IpPool;
use margay_ipam_core::eligible_pools;
use margay_net::{Cidr, Family};

use crate::claim::Source;
use crate::serve::Job;
use crate::{IpamClient, IpamError};

/// Who wants addresses, and of what kind: one of each family asked for.
#[derive(Debug, Clone)]
pub struct AssignRequest {
    /// What the addresses are given back by; Calico's CNI has `NETWORK.CONTAINERID`.
    pub handle: String,
    /// What Calico's tools show of the holder: `pod`, `namespace`, `node`, `timestamp`.
    pub attributes: BTreeMap<String, String>,
    pub families: Vec<Family>,
    /// Names or CIDRs of the only pools to use, by family; any where absent.
    pub pools: BTreeMap<Family, Vec<String>>,
}

/// An address and the block that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    pub address: IpAddr,
    pub block: Cidr,
    /// The block is another node's.
    pub borrowed: bool,
}

impl IpamClient {
    /// Assigns an address of each family asked for, IPv4 first; all or nothing.
    ///
    /// A handle that holds addresses from an earlier request gives them back first: a handle is one caller's at a time.
    /// When the future is dropped, what was assigned meanwhile is freed.
    pub async fn assign(
        &self,
        request: AssignRequest,
        pools: &[IpPool],
        node_labels: &Labels,
    ) -> Result<Vec<Assignment>, IpamError> {
        let mut sources: BTreeMap<Family, Vec<Source>> = BTreeMap::new();
        for family in &request.families {
            let requested = request.pools.get(family).map_or(&[][..], Vec::as_slice);
            let eligible = eligible_pools(pools, *family, requested, node_labels);
            if eligible.is_empty() {
                return Err(no_pool(pools, *family, requested));
            }
            sources.insert(*family, eligible.into_iter().map(Source::from).collect());
        }
        self.submit_assignment(Job { request, sources, result: Ok(Vec::new()) }).await
    }
}

fn no_pool(pools: &[IpPool], family: Family, requested: &[String]) -> IpamError {
    let of_family = pools.iter().filter(|pool| pool.spec.cidr.family() == family).count();
    let reason = if !requested.is_empty() {
        format!("the pools asked for ({}) are not there or disabled", requested.join(", "))
    } else if of_family == 0 {
        "there is no IPPool of that family".to_owned()
    } else {
        format!("none of the {of_family} is enabled, automatic and selects this node")
    };
    IpamError::NoPool { family, reason }
}
