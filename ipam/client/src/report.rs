//! How full IPAM is.

use margay_api::kinds::IpPool;
use margay_net::{Cidr, Family};
use serde::Serialize;

use crate::{IpamClient, IpamError};

/// Pools and their blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub pools: Vec<PoolReport>,
    /// Blocks outside all pools.
    pub strays: Vec<BlockReport>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolReport {
    pub name: String,
    pub cidr: Cidr,
    /// Addresses in the pool, in blocks or not.
    pub size: u128,
    pub used: u128,
    pub blocks: Vec<BlockReport>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockReport {
    pub cidr: Cidr,
    pub node: Option<String>,
    pub used: usize,
    pub free: usize,
    /// Addresses that pods of other nodes hold.
    pub borrowed: usize,
}

impl IpamClient {
    /// How full each pool is, by block.
    pub async fn report(&self, pools: &[IpPool]) -> Result<Report, IpamError> {
        let mut reports: Vec<PoolReport> = pools
            .iter()
            .map(|pool| PoolReport {
                name: pool.name().to_owned(),
                cidr: pool.spec.cidr,
                size: pool.spec.cidr.size(),
                used: 0,
                blocks: Vec::new(),
            })
            .collect();
        let mut strays = Vec::new();
        for family in Family::ALL {
            let (blocks, corrupt) = self.scan_blocks(family).await?;
            if let Some(error) = corrupt.into_iter().next() {
                return Err(error);
            }
            for held in blocks {
                let block = &held.block;
                let borrowed = block
                    .assigned()
                    .filter(|(_, attribute)| {
                        let node = attribute.secondary.as_ref().and_then(|secondary| secondary.get("node"));
                        node.is_some_and(|node| Some(node.as_str()) != block.host())
                    })
                    .count();
                let report = BlockReport {
                    cidr: block.cidr,
                    node: block.host().map(str::to_owned),
                    used: block.used(),
                    free: block.free(),
                    borrowed,
                };
                match reports.iter_mut().find(|pool| pool.cidr.covers(block.cidr)) {
                    Some(pool) => {
                        pool.used += block.used() as u128;
                        pool.blocks.push(report);
                    }
                    None => strays.push(report),
                }
            }
        }
        Ok(Report { pools: reports, strays })
    }
}
