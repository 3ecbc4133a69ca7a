//! What a node owns by its affinities and the blocks' own word, and bringing half-done claims to an end.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use margay_datastore::{Change, KeyValue, Revision, StoreError, update_with};
use margay_ipam_core::{AffinityState, Block, BlockAffinity, keys};
use margay_net::{Cidr, Family};

use crate::store::{MAX_ATTEMPTS, Versioned, contention, is_lost_race};
use crate::{IpamClient, IpamError, Owned};

impl IpamClient {
    /// The blocks that this node owns by the blocks' own word, found through its affinities. Claims and releases that
    /// an earlier run left half done are brought to their end; a block that can't be read is passed over.
    pub(crate) async fn load_owned(&self) -> Result<Owned, IpamError> {
        let mut owned = Owned::new();
        for family in Family::ALL {
            let affinities = self.store.list(&keys::affinities(&self.node, family)).await?.items;
            for held in join_all(affinities.iter().map(|affinity| self.block_of(affinity))).await {
                owned.extend(held?.map(|held| (held.block.cidr, held)));
            }
        }
        Ok(owned)
    }

    async fn block_of(&self, affinity: &KeyValue) -> Result<Option<Versioned>, IpamError> {
        let Some(cidr) = keys::cidr_of(&affinity.key) else { return Ok(None) };
        let state = match BlockAffinity::decode(&affinity.value) {
            Ok(affinity) => affinity.state,
            Err(error) => {
                tracing::warn!(key = affinity.key, %error, "an affinity is not valid; going by its block");
                AffinityState::Confirmed
            }
        };
        let found = if state == AffinityState::Confirmed {
            self.read_block(cidr).await
        } else {
            tracing::info!(block = %cidr, ?state, "finishing a claim that was interrupted");
            self.finish_claim(cidr, Some(affinity.revision), false).await
        };
        match found {
            Err(error @ IpamError::Corrupt { .. }) => {
                tracing::warn!(%error, "passing over a block of this node");
                Ok(None)
            }
            found => Ok(found?.filter(|held| self.owns(held))),
        }
    }

    /// Claims one block in two phases; None where another host was faster.
    pub(crate) async fn claim(&self, cidr: Cidr) -> Result<Option<Versioned>, IpamError> {
        let key = keys::affinity(&self.node, cidr);
        let pending = BlockAffinity::in_state(AffinityState::Pending).encode();
        let affinity = match self.store.create(&key, &pending).await {
            Ok(revision) => Some(revision),
            Err(StoreError::AlreadyExists { .. }) => self.store.get(&key).await?.map(|stored| stored.revision),
            Err(error) => return Err(error.into()),
        };
        self.finish_claim(cidr, affinity, true).await
    }

    /// Brings a pending claim to its end: confirmed where the block is, or with `create` can be made, this node's; else
    /// withdrawn, if the affinity is still at the revision that was seen before the block was looked at.
    async fn finish_claim(
        &self,
        cidr: Cidr,
        affinity: Option<Revision>,
        create: bool,
    ) -> Result<Option<Versioned>, IpamError> {
        for _ in 0..MAX_ATTEMPTS {
            let held = match self.read_block(cidr).await? {
                None if create => {
                    let block = Block::new(cidr, &self.node, nanoseconds());
                    match self.store.create(&keys::block(cidr), &block.encode()).await {
                        Ok(revision) => Versioned { block, revision },
                        Err(StoreError::AlreadyExists { .. }) => continue,
                        Err(error) => return Err(error.into()),
                    }
                }
                Some(mut held) if self.owns(&held) => {
                    // Whoever was about to release the block finds it changed and leaves it.
                    held.block.touch();
                    match self.write_block(&held).await? {
                        Some(revision) => Versioned { block: held.block, revision },
                        None => continue,
                    }
                }
                _ => {
                    self.withdraw_claim(cidr, affinity).await?;
                    return Ok(None);
                }
            };
            self.confirm_claim(cidr).await?;
            return Ok(Some(held));
        }
        Err(contention(format!("block {cidr}")))
    }

    async fn confirm_claim(&self, cidr: Cidr) -> Result<(), IpamError> {
        let confirmed = BlockAffinity::in_state(AffinityState::Confirmed).encode();
        let key = keys::affinity(&self.node, cidr);
        let written = update_with(&*self.store, &key, |found| match found {
            Some(stored) if stored.value == confirmed => Change::Keep,
            _ => Change::Put(confirmed.clone()),
        });
        Ok(written.await.map(drop)?)
    }

    async fn withdraw_claim(&self, cidr: Cidr, affinity: Option<Revision>) -> Result<(), IpamError> {
        if affinity.is_none() {
            return Ok(());
        }
        match self.store.delete(&keys::affinity(&self.node, cidr), affinity).await {
            Err(error) if !is_lost_race(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn nanoseconds() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}
