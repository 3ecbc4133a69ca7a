//! What the tests say of pools, requests and holders.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use margay_api::kinds::{IpPool, IpPoolSpec, WorkloadEndpoint, WorkloadEndpointSpec};
use margay_api::{Labels, Object};
use margay_datastore::Datastore;
use margay_ipam_client::{AssignRequest, Assignment, CheckReport, IpamClient, IpamError};
use margay_net::{Cidr, Family};

pub(crate) const V4: &[Family] = &[Family::V4];
pub(crate) const BOTH: &[Family] = &[Family::V4, Family::V6];

pub(crate) fn pool(name: &str, cidr: &str, block_size: u8) -> IpPool {
    let cidr = cidr.parse().unwrap();
    Object::named(name, IpPoolSpec { cidr, block_size: Some(block_size), ..IpPoolSpec::default() })
}

/// A node of the test's cluster.
#[derive(Clone)]
pub(crate) struct TestNode {
    pub(crate) ipam: IpamClient,
    name: String,
    pools: Vec<IpPool>,
}

impl TestNode {
    pub(crate) fn new(store: Arc<dyn Datastore>, name: &str, pools: &[IpPool]) -> Self {
        Self { ipam: IpamClient::new(store, name), name: name.to_owned(), pools: pools.to_vec() }
    }

    pub(crate) fn request(&self, handle: &str, families: &[Family]) -> AssignRequest {
        let attributes = [("namespace", "default"), ("node", &*self.name), ("pod", handle)];
        AssignRequest {
            handle: handle.to_owned(),
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            families: families.to_vec(),
            pools: BTreeMap::new(),
        }
    }

    pub(crate) async fn try_assign(&self, handle: &str, families: &[Family]) -> Result<Vec<Assignment>, IpamError> {
        self.ipam.assign(self.request(handle, families), &self.pools, &Labels::new()).await
    }

    pub(crate) async fn assign(&self, handle: &str, families: &[Family]) -> Vec<Assignment> {
        let assigned = self.try_assign(handle, families).await.unwrap();
        let served: Vec<Family> = assigned.iter().map(|got| Family::of(got.address)).collect();
        assert_eq!(served, families);
        assigned
    }

    /// Assigns one IPv4 address.
    pub(crate) async fn assign_one(&self, handle: &str) -> Assignment {
        self.assign(handle, V4).await[0]
    }

    pub(crate) async fn release(&self, handle: &str) -> Vec<IpAddr> {
        self.ipam.release_by_handle(handle).await.unwrap()
    }
}

pub(crate) fn addresses<'a>(assigned: impl IntoIterator<Item = &'a Assignment>) -> BTreeSet<IpAddr> {
    assigned.into_iter().map(|got| got.address).collect()
}

/// Checks the cluster as if an endpoint had each of the addresses.
pub(crate) async fn check(store: &Arc<dyn Datastore>, in_use: &BTreeSet<IpAddr>) -> CheckReport {
    let endpoint = |address: &IpAddr| -> WorkloadEndpoint {
        let spec = WorkloadEndpointSpec { ip_networks: vec![Cidr::host(*address)], ..WorkloadEndpointSpec::default() };
        Object::namespaced("default", address.to_string(), spec)
    };
    let endpoints: Vec<WorkloadEndpoint> = in_use.iter().map(endpoint).collect();
    IpamClient::new(store.clone(), "").check(&endpoints).await.unwrap()
}

/// Asserts that just these addresses are assigned, and that nothing contradicts anything.
pub(crate) async fn assert_clean(store: &Arc<dyn Datastore>, in_use: &BTreeSet<IpAddr>) {
    let report = check(store, in_use).await;
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.addresses_assigned, in_use.len());
}
