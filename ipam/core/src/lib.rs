//! Address management without a datastore: blocks, affinities and handles in Calico's JSON, and what may be done to
//! them. Every function takes a value and gives a value; `margay-ipam-client` writes them by compare-and-swap.

mod affinity;
mod block;
mod handle;
pub mod keys;
mod pools;

pub use affinity::{AffinityState, BlockAffinity};
pub use block::{AllocationAttribute, Block, BlockError};
pub use handle::Handle;
pub use pools::{BlockWalk, eligible_pools, host_hash};
