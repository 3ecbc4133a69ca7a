//! Address management over a datastore, with nothing stronger than compare-and-swap of one key.
//!
//! Writes are ordered so that a crash between any two of them leaves no address with two owners: a handle is counted
//! up before a block gives an address and down after it took it back; a block is claimed in two phases, pending
//! affinity, block, confirmed affinity. What a crash leaves behind counts too much, never too little, and the next
//! request for the same handle, or the next look at the node's affinities, takes it away.
//!
//! ```text
//!  assign, release_by_handle --> waiting --> one batch at a time --> handles, all at once
//!                                            (a task of its own)     one write of each block
//! ```
//!
//! An answer of the datastore may be lost after the write was applied, or before it is. So a failed write is never
//! taken for one that did not happen: the address is freed by a write of the block that it may be in, which an
//! earlier write that is still under way loses against.

mod affinity;
mod assign;
mod check;
mod claim;
mod error;
mod queue;
mod release;
mod report;
mod serve;
mod store;

pub use assign::{AssignRequest, Assignment};
pub use check::CheckReport;
pub use error::IpamError;
pub use release::Held;
pub use report::{BlockReport, PoolReport, Report};

use std::collections::BTreeMap;
use std::sync::Arc;

use margay_datastore::Datastore;
use margay_net::Cidr;
use tokio::sync::Mutex;

use queue::Waiting;
use store::Versioned;

/// How many blocks a node may own in a family (Calico's effective default).
const MAX_BLOCKS_PER_HOST: usize = 20;

/// The blocks that a node owns, as last seen; a stale one costs a conflict, no more.
type Owned = BTreeMap<Cidr, Versioned>;

/// The IPAM of one node; clones share what they know and what they do.
///
/// Requests that come at once share one write of their block. [`assign`](IpamClient::assign) and
/// [`release_by_handle`](IpamClient::release_by_handle) must be called within a tokio runtime.
#[derive(Debug, Clone)]
pub struct IpamClient {
    store: Arc<dyn Datastore>,
    node: Arc<str>,
    waiting: Arc<std::sync::Mutex<Vec<Waiting>>>,
    /// Absent where it must be read first, as after every failure; whoever works with it takes it out, so that work
    /// that is broken off leaves nothing half true behind.
    owned: Arc<Mutex<Option<Owned>>>,
}

impl IpamClient {
    /// Makes the IPAM of `node`, by the name of its Node resource; reads nothing yet.
    pub fn new(store: Arc<dyn Datastore>, node: &str) -> IpamClient {
        IpamClient { store, node: node.into(), waiting: Arc::default(), owned: Arc::default() }
    }

    /// The blocks that this node owns, each with how many addresses are used and how many there are; reads the
    /// datastore.
    pub async fn own_blocks(&self) -> Result<Vec<(Cidr, usize, usize)>, IpamError> {
        let mut cache = self.owned.lock().await;
        *cache = None;
        let owned = self.load_owned().await?;
        let summary = owned.values().map(|held| (held.block.cidr, held.block.used(), held.block.allocations.len()));
        let summary = summary.collect();
        *cache = Some(owned);
        Ok(summary)
    }

    /// Ends what an earlier run of this node left half done: pending claims and pending releases of blocks.
    pub async fn repair_affinities(&self) -> Result<(), IpamError> {
        self.own_blocks().await.map(drop)
    }
}
