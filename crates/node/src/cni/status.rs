//! STATUS: could ADD be served? Answered from the caches alone, for runtimes ask every few seconds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use margay_api::kinds::IpPool;
use margay_ipam_core::eligible_pools;
use margay_local_api::ApiError;
use margay_net::{Cidr, Family};
use serde::Deserialize;

use super::Cni;
use crate::cluster::Cluster;

/// What the network's configuration would have ADD ask for; without it any family will do.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct StatusQuery {
    ipv4: Option<bool>,
    ipv6: Option<bool>,
    /// Names or CIDRs, with commas between them.
    #[serde(default)]
    ipv4_pools: String,
    #[serde(default)]
    ipv6_pools: String,
}

impl StatusQuery {
    fn pools(&self, family: Family) -> Vec<String> {
        let list = match family {
            Family::V4 => &self.ipv4_pools,
            Family::V6 => &self.ipv6_pools,
        };
        list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    fn wants(&self, family: Family) -> bool {
        let said = match family {
            Family::V4 => self.ipv4,
            Family::V6 => self.ipv6,
        };
        said.unwrap_or(false)
    }
}

/// The families in which the last ADD found no free address. Old news counts no longer: addresses may have been freed by
/// others, and a node that says it can't serve is asked no more.
#[derive(Debug, Clone, Default)]
pub(super) struct Exhausted(Arc<Mutex<BTreeMap<Family, Instant>>>);

/// How long the word of the last ADD counts.
const MEMORY: Duration = Duration::from_secs(30);

impl Exhausted {
    pub(super) fn note(&self, family: Family) {
        self.families().insert(family, Instant::now());
    }

    pub(super) fn forget(&self) {
        self.families().clear();
    }

    fn is(&self, family: Family) -> bool {
        self.families().get(&family).is_some_and(|since| since.elapsed() < MEMORY)
    }

    fn families(&self) -> MutexGuard<'_, BTreeMap<Family, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cni {
    /// Tells whether ADD can be served: in sync, and a pool with space that this node may use in each family wanted.
    pub(crate) async fn status(&self, query: &StatusQuery) -> Result<(), ApiError> {
        let shared = self.ready().map_err(|error| ApiError { code: ApiError::NOT_AVAILABLE, ..error })?;
        if query.ipv4.is_none() && query.ipv6.is_none() {
            return if shared.pools.is_empty() { Err(no_pool("IPPool")) } else { Ok(()) };
        }
        for family in Family::ALL.into_iter().filter(|family| query.wants(*family)) {
            let pools = eligible_pools(&shared.pools, family, &query.pools(family), &shared.node_labels);
            if pools.is_empty() {
                return Err(no_pool(&format!("{family} IPPool for this node")));
            }
            let names = pools.iter().map(|pool| pool.name()).collect::<Vec<_>>().join(", ");
            let cidrs: Vec<Cidr> = pools.iter().map(|pool: &&IpPool| pool.spec.cidr).collect();
            // An endpoint has one address of a family: counting is needed only where there are enough of them.
            let may_be_full =
                cidrs.iter().fold(0u128, |sum, cidr| sum.saturating_add(cidr.size())) <= shared.endpoints as u128;
            if self.exhausted.is(family) || may_be_full && self.ask(move |cluster| is_full(cluster, &cidrs)).await? {
                let details = format!("every address of {names} is in use; add a pool, or see `margayctl ipam check`");
                return Err(ApiError::new(ApiError::NOT_AVAILABLE, format!("no {family} address is free"), details));
            }
        }
        Ok(())
    }
}

fn no_pool(what: &str) -> ApiError {
    let details = "apply one with `margayctl apply -f`, or see `margayctl get ippools -o yaml`";
    ApiError::new(ApiError::NOT_AVAILABLE, format!("there is no {what} to assign addresses from"), details)
}

/// Tells whether endpoints use every address of the pools.
fn is_full(cluster: &Cluster, pools: &[Cidr]) -> bool {
    let size = pools.iter().fold(0u128, |sum, cidr| sum.saturating_add(cidr.size()));
    let addresses = cluster.endpoints.values().flat_map(|place| &place.addresses);
    addresses.filter(|address| pools.iter().any(|pool| pool.contains(**address))).count() as u128 >= size
}
