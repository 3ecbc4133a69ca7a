//! Where the next address comes from: a block that the node owns, a new one, or another node's.

use std::collections::BTreeSet;

use margay_api::kinds::IpPool;
use margay_ipam_core::{BlockWalk, host_hash, keys};
use margay_net::{Cidr, Family};

use crate::store::{Versioned, decode_block};
use crate::{IpamClient, IpamError, MAX_BLOCKS_PER_HOST, Owned};

/// What IPAM needs of a pool that a request may use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    pool: String,
    cidr: Cidr,
    /// The prefix length of a new block.
    block_len: u8,
}

impl From<&IpPool> for Source {
    fn from(pool: &IpPool) -> Source {
        Source { pool: pool.name().to_owned(), cidr: pool.spec.cidr, block_len: pool.spec.block_size() }
    }
}

impl IpamClient {
    /// An owned block with space, else a new one, else another's.
    pub(crate) async fn block_with_space(&self, sources: &[Source], owned: &mut Owned) -> Result<Versioned, IpamError> {
        let has_space = |held: &Versioned| held.block.free() > 0 && is_usable(sources, held.block.cidr);
        if let Some(held) = owned.values().find(|held| has_space(held)) {
            return Ok(held.clone());
        }
        let family = sources.first().map_or(Family::V4, |source| source.cidr.family());
        while owned.keys().filter(|cidr| cidr.family() == family).count() < MAX_BLOCKS_PER_HOST
            && let Some(claimed) = self.claim_block(family, sources, owned).await?
        {
            tracing::info!(block = %claimed.block.cidr, node = %self.node, "claimed a block");
            owned.insert(claimed.block.cidr, claimed.clone());
            if has_space(&claimed) {
                return Ok(claimed);
            }
        }
        self.lender(family, sources).await
    }

    /// Claims a block that nobody has, or takes up one of this node's that its affinities don't show; None where all
    /// are taken.
    async fn claim_block(
        &self,
        family: Family,
        sources: &[Source],
        owned: &Owned,
    ) -> Result<Option<Versioned>, IpamError> {
        let listed = self.store.list(&keys::blocks(family)).await?.items;
        let mut taken = BTreeSet::new();
        let mark = format!("\"host:{}\"", self.node);
        for stored in &listed {
            let Some(cidr) = keys::cidr_of(&stored.key) else { continue };
            taken.insert(cidr);
            // Decoding thousands of blocks for the sake of a rare stray costs too much.
            let may_be_stray = !owned.contains_key(&cidr)
                && is_usable(sources, cidr)
                && std::str::from_utf8(&stored.value).is_ok_and(|json| json.contains(&mark));
            if may_be_stray
                && decode_block(stored).is_ok_and(|held| self.owns(&held))
                && let Some(claimed) = self.claim(cidr).await?
            {
                return Ok(Some(claimed));
            }
        }
        for source in sources {
            for cidr in BlockWalk::new(source.cidr, source.block_len, &self.node) {
                if !is_taken(&taken, cidr)
                    && let Some(claimed) = self.claim(cidr).await?
                {
                    return Ok(Some(claimed));
                }
            }
        }
        Ok(None)
    }

    /// Another's block with space; each node begins its search elsewhere.
    async fn lender(&self, family: Family, sources: &[Source]) -> Result<Versioned, IpamError> {
        let (mut blocks, corrupt) = self.scan_blocks(family).await?;
        blocks.retain(|held| held.block.free() > 0 && is_usable(sources, held.block.cidr));
        if !blocks.is_empty() {
            let held = blocks.swap_remove(host_hash(&self.node) as usize % blocks.len());
            let owner = held.block.host().unwrap_or("nobody");
            tracing::info!(block = %held.block.cidr, owner, "borrowing an address");
            return Ok(held);
        }
        let usable = |error: &IpamError| match error {
            IpamError::Corrupt { key, .. } => keys::cidr_of(key).is_some_and(|cidr| is_usable(sources, cidr)),
            _ => false,
        };
        Err(corrupt.into_iter().find(usable).unwrap_or_else(|| {
            let pools: Vec<&str> = sources.iter().map(|source| source.pool.as_str()).collect();
            IpamError::Exhausted { family, pools: pools.join(", ") }
        }))
    }
}

fn is_usable(sources: &[Source], block: Cidr) -> bool {
    sources.iter().any(|source| source.cidr.covers(block))
}

/// Tells whether a block overlaps one that is there: a pool may have been cut into blocks of another size before.
fn is_taken(taken: &BTreeSet<Cidr>, cidr: Cidr) -> bool {
    let before = taken.range(..=cidr).next_back();
    let after = taken.range(cidr..).next();
    before.is_some_and(|other| other.overlaps(cidr)) || after.is_some_and(|other| other.overlaps(cidr))
}
