use std::sync::Arc;

use margay_datastore::StoreError;
use margay_net::Family;

/// Why IPAM could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IpamError {
    /// The datastore is away or refused.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    /// No pool of the family is enabled and selects this node.
    #[error("no {family} pool may be used: {reason}; see `margayctl get ippools -o yaml`")]
    NoPool { family: Family, reason: String },
    /// Every block of every pool that may be used is full.
    #[error(
        "no free {family} address in pools {pools}: every block is full; add a pool, or look for leaked addresses with \
         `margayctl ipam check`"
    )]
    Exhausted { family: Family, pools: String },
    /// A value in the datastore is not what its key says.
    #[error("{key} is not valid: {reason}; repair or delete it")]
    Corrupt { key: String, reason: String },
    /// Other writers were faster too many times in a row.
    #[error("gave up on {what} after {attempts} conflicts with other writers; try again")]
    Contention { what: String, attempts: usize },
    /// The request was broken off before its end, as when the program stops.
    #[error("the request was broken off; try again")]
    Interrupted,
}

impl From<StoreError> for IpamError {
    fn from(error: StoreError) -> Self {
        IpamError::Store(Arc::new(error))
    }
}

impl IpamError {
    /// Tells whether the same request may succeed later without anybody's help.
    pub fn is_retryable(&self) -> bool {
        match self {
            IpamError::Store(error) => error.is_retryable(),
            IpamError::Contention { .. } | IpamError::Interrupted => true,
            _ => false,
        }
    }
}
