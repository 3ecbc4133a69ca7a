//! Typed reads and writes of IPAM's objects.

use margay_datastore::{Change, KeyValue, Revision, StoreError, update_with};
use margay_ipam_core::{Block, Handle, keys};
use margay_net::{Cidr, Family};

use crate::{IpamClient, IpamError};

/// A block as it was read, with the revision to compare a write against.
#[derive(Debug, Clone)]
pub(crate) struct Versioned {
    pub(crate) block: Block,
    pub(crate) revision: Revision,
}

/// More conflicts in a row than this mean that something is wrong.
pub(crate) const MAX_ATTEMPTS: usize = 100;

impl IpamClient {
    pub(crate) async fn read_block(&self, cidr: Cidr) -> Result<Option<Versioned>, IpamError> {
        self.store.get(&keys::block(cidr)).await?.as_ref().map(decode_block).transpose()
    }

    /// Writes a block over the revision that it was read at; None where another was faster.
    pub(crate) async fn write_block(&self, held: &Versioned) -> Result<Option<Revision>, IpamError> {
        let key = keys::block(held.block.cidr);
        match self.store.update(&key, &held.block.encode(), held.revision).await {
            Ok(revision) => Ok(Some(revision)),
            Err(error) if is_lost_race(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// All blocks of a family, and why some could not be read.
    pub(crate) async fn scan_blocks(&self, family: Family) -> Result<(Vec<Versioned>, Vec<IpamError>), IpamError> {
        let (mut blocks, mut corrupt) = (Vec::new(), Vec::new());
        for stored in self.store.list(&keys::blocks(family)).await?.items {
            match decode_block(&stored) {
                Ok(held) => blocks.push(held),
                Err(error) => corrupt.push(error),
            }
        }
        Ok((blocks, corrupt))
    }

    /// Tells whether a block is this node's.
    pub(crate) fn owns(&self, held: &Versioned) -> bool {
        held.block.host() == Some(&*self.node)
    }

    pub(crate) async fn read_handle(&self, id: &str) -> Result<Option<(Handle, Revision)>, IpamError> {
        let Some(stored) = self.store.get(&keys::handle(id)).await? else { return Ok(None) };
        Ok(Some((decode_handle(&stored)?, stored.revision)))
    }

    /// Changes a handle by compare-and-swap; an empty one is deleted.
    pub(crate) async fn change_handle(
        &self,
        id: &str,
        change: impl Fn(&mut Handle) + Send + Sync,
    ) -> Result<(), IpamError> {
        let mut corrupt = None;
        let written =
            update_with(&*self.store, &keys::handle(id), |found| match found.as_ref().map(decode_handle).transpose() {
                Ok(handle) => {
                    let mut handle = handle.unwrap_or_default();
                    change(&mut handle);
                    if handle.is_empty() { Change::Delete } else { Change::Put(handle.encode()) }
                }
                Err(error) => {
                    corrupt = Some(error);
                    Change::Keep
                }
            })
            .await;
        match (written, corrupt) {
            (_, Some(error)) => Err(error),
            (Err(error), None) if is_lost_race(&error) => Err(contention(format!("handle {id}"))),
            (written, None) => written.map(drop).map_err(IpamError::from),
        }
    }
}

/// Tells whether a compare-and-swap failed because another writer was faster.
pub(crate) fn is_lost_race(error: &StoreError) -> bool {
    matches!(error, StoreError::Conflict { .. } | StoreError::NotFound { .. } | StoreError::AlreadyExists { .. })
}

pub(crate) fn contention(what: String) -> IpamError {
    IpamError::Contention { what, attempts: MAX_ATTEMPTS }
}

pub(crate) fn decode_block(stored: &KeyValue) -> Result<Versioned, IpamError> {
    let corrupt = |reason: String| IpamError::Corrupt { key: stored.key.clone(), reason };
    let block = Block::decode(&stored.value).map_err(|error| corrupt(error.to_string()))?;
    block.check().map_err(|error| corrupt(error.to_string()))?;
    if keys::cidr_of(&stored.key) != Some(block.cidr) {
        return Err(corrupt(format!("its value is block {}", block.cidr)));
    }
    Ok(Versioned { block, revision: stored.revision })
}

pub(crate) fn decode_handle(stored: &KeyValue) -> Result<Handle, IpamError> {
    Handle::decode(&stored.value)
        .map_err(|error| IpamError::Corrupt { key: stored.key.clone(), reason: error.to_string() })
}
