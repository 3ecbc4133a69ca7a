//! Giving addresses back, and who holds which.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::future::join_all;
use margay_datastore::Revision;
use margay_ipam_core::{AllocationAttribute, keys};
use margay_net::{Cidr, Family};

use crate::queue::Waiting;
use crate::store::{MAX_ATTEMPTS, Versioned, contention, is_lost_race};
use crate::{IpamClient, IpamError, Owned};

type Released = Result<Vec<IpAddr>, IpamError>;

/// An address that is assigned, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub address: IpAddr,
    pub block: Cidr,
    /// The node that owns the block.
    pub owner: Option<String>,
    pub handle: String,
    pub attributes: BTreeMap<String, String>,
}

impl IpamClient {
    /// Frees everything that a handle holds, and says what that was; nothing where there is no such handle.
    pub async fn release_by_handle(&self, handle: &str) -> Result<Vec<IpAddr>, IpamError> {
        self.submit(|answer| Waiting::Release(handle.to_owned(), answer)).await
    }

    /// Frees everything that different handles hold; one write of each block.
    pub(crate) async fn release_all(&self, ids: &[String], owned: &mut Owned) -> Vec<Released> {
        let mut results: Vec<Released> = ids.iter().map(|_| Ok(Vec::new())).collect();
        let mut open: Vec<usize> = (0..ids.len()).collect();
        for _ in 0..MAX_ATTEMPTS {
            if open.is_empty() {
                return results;
            }
            open = self.release_round(ids, &open, &mut results, owned).await;
        }
        for index in open {
            results[index] = Err(contention(format!("handle {}", ids[index])));
        }
        results
    }

    /// Reads handles, frees what they count, deletes them; returns those that somebody changed meanwhile.
    async fn release_round(
        &self,
        ids: &[String],
        open: &[usize],
        results: &mut [Released],
        owned: &mut Owned,
    ) -> Vec<usize> {
        let mut by_block: BTreeMap<Cidr, BTreeSet<usize>> = BTreeMap::new();
        let mut counted: Vec<(usize, Revision)> = Vec::new();
        let handles = join_all(open.iter().map(|index| self.read_handle(&ids[*index]))).await;
        for (index, handle) in open.iter().copied().zip(handles) {
            let blocks: Vec<Cidr> = match handle {
                Ok(Some((handle, revision))) => {
                    counted.push((index, revision));
                    handle.block.into_keys().collect()
                }
                // Somebody may have deleted a handle that still holds addresses.
                Ok(None) => {
                    let is_holder = |held: &&Versioned| held.block.assigned().any(|(_, of)| is_of(of, &ids[index]));
                    owned.values().filter(is_holder).map(|held| held.block.cidr).collect()
                }
                Err(error) => {
                    results[index] = Err(error);
                    continue;
                }
            };
            for cidr in blocks {
                by_block.entry(cidr).or_default().insert(index);
            }
        }
        for (cidr, indexes) in by_block {
            let holders: BTreeMap<&str, usize> = indexes.iter().map(|index| (ids[*index].as_str(), *index)).collect();
            match self.release_in(cidr, &holders, owned).await {
                Ok(freed) => {
                    for (index, address) in freed {
                        if let Ok(addresses) = &mut results[index] {
                            addresses.push(address);
                        }
                    }
                }
                Err(error) => indexes.iter().for_each(|index| results[*index] = Err(error.clone())),
            }
        }
        // Only as it was read: another may have counted it up for a new address.
        counted.retain(|(index, _)| results[*index].is_ok());
        let delete = async |(index, revision): &(usize, Revision)| {
            (*index, self.store.delete(&keys::handle(&ids[*index]), Some(*revision)).await)
        };
        let mut again = Vec::new();
        for (index, deleted) in join_all(counted.iter().map(delete)).await {
            match deleted {
                Ok(()) => {}
                Err(error) if is_lost_race(&error) => again.push(index),
                Err(error) => results[index] = Err(error.into()),
            }
        }
        again
    }

    /// Frees what the holders have in a block, and says of which of them each address was.
    ///
    /// The block is written even where a holder has nothing in it: a write that gave it an address may still be under
    /// way, as after a lost answer or a crash, and must not come true once its handle is gone.
    async fn release_in(
        &self,
        cidr: Cidr,
        holders: &BTreeMap<&str, usize>,
        owned: &mut Owned,
    ) -> Result<Vec<(usize, IpAddr)>, IpamError> {
        let mut known = owned.remove(&cidr);
        for _ in 0..MAX_ATTEMPTS {
            let held = match known.take() {
                Some(held) => Some(held),
                None => self.read_block(cidr).await?,
            };
            let Some(mut held) = held else { return Ok(Vec::new()) };
            let holder = |of: &AllocationAttribute| holders.get(of.handle_id.as_deref()?).copied();
            let freed: Vec<_> =
                held.block.assigned().filter_map(|(address, of)| Some((holder(of)?, address))).collect();
            if held.block.release(|_, of| holder(of).is_some()).is_empty() {
                held.block.touch();
            }
            if let Some(revision) = self.write_block(&held).await? {
                if self.owns(&held) {
                    owned.insert(cidr, Versioned { revision, block: held.block });
                }
                return Ok(freed);
            }
        }
        Err(contention(format!("block {cidr}")))
    }

    /// Frees one address, whoever holds it, and counts its handle down; false where it was free.
    pub async fn release_address(&self, address: IpAddr) -> Result<bool, IpamError> {
        let mut cache = self.owned.lock().await;
        *cache = None;
        let listed = self.store.list(&keys::blocks(Family::of(address))).await?.items;
        let mut blocks = listed.iter().filter_map(|stored| keys::cidr_of(&stored.key));
        let Some(cidr) = blocks.find(|cidr| cidr.contains(address)) else { return Ok(false) };
        for _ in 0..MAX_ATTEMPTS {
            let Some(mut held) = self.read_block(cidr).await? else { return Ok(false) };
            let holder = held.block.assigned().find(|(assigned, _)| *assigned == address);
            let handle = holder.and_then(|(_, of)| of.handle_id.clone());
            if held.block.release(|assigned, _| assigned == address).is_empty() {
                return Ok(false);
            }
            if self.write_block(&held).await?.is_some() {
                if let Some(handle) = handle {
                    self.change_handle(&handle, |handle| handle.decrement(cidr, 1)).await?;
                }
                return Ok(true);
            }
        }
        Err(contention(format!("block {cidr}")))
    }

    /// Everything that is assigned in the cluster and whose attributes name this node.
    pub async fn held_by_this_node(&self) -> Result<Vec<Held>, IpamError> {
        let all = self.held().await?;
        Ok(all
            .into_iter()
            .filter(|held| held.attributes.get("node").map(String::as_str) == Some(&*self.node))
            .collect())
    }

    /// Everything that is assigned in the cluster; a block that can't be read is passed over with a warning.
    pub async fn held(&self) -> Result<Vec<Held>, IpamError> {
        let mut all = Vec::new();
        for family in Family::ALL {
            let (blocks, corrupt) = self.scan_blocks(family).await?;
            for error in corrupt {
                tracing::warn!(%error, "passing over a block");
            }
            blocks.iter().for_each(|held| all.extend(held_in(held)));
        }
        Ok(all)
    }
}

/// Everything that is assigned in a block.
pub(crate) fn held_in(versioned: &Versioned) -> impl Iterator<Item = Held> {
    let block = &versioned.block;
    block.assigned().map(|(address, of)| Held {
        address,
        block: block.cidr,
        owner: block.host().map(str::to_owned),
        handle: of.handle_id.clone().unwrap_or_default(),
        attributes: of.secondary.clone().unwrap_or_default(),
    })
}

fn is_of(attribute: &AllocationAttribute, handle: &str) -> bool {
    attribute.handle_id.as_deref() == Some(handle)
}
