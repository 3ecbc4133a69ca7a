//! What the API's handlers read of the daemon's state without asking the actor.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use margay_api::Labels;
use margay_api::kinds::IpPool;
use margay_bgp_core::{Drain, SpeakerConfig};
use margay_datastore::Revision;
use margay_local_api::Wait;
use margay_net::Cidr;

/// A copy of what matters, made whenever the actor took something in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared {
    /// Everything that is watched has been read once.
    pub(crate) in_sync: bool,
    pub(crate) pools: Arc<Vec<IpPool>>,
    pub(crate) node_labels: Arc<Labels>,
    /// The revision of this node's resource; None where it is not there.
    pub(crate) node_revision: Option<Revision>,
    pub(crate) own_blocks: Arc<BTreeSet<Cidr>>,
    pub(crate) profiles: Arc<BTreeSet<String>>,
    /// The speaker's configuration, as it is in force.
    pub(crate) bgp: Option<Arc<SpeakerConfig>>,
    /// When it was put into force.
    pub(crate) bgp_since: Option<SystemTime>,
    /// What the local API asked for.
    pub(crate) drain: Option<Drain>,
    pub(crate) policies: usize,
    pub(crate) local_endpoints: usize,
    pub(crate) endpoints: usize,
    /// Why the datastore can't be followed, and since when.
    pub(crate) datastore_error: Option<(String, SystemTime)>,
    pub(crate) waits: Vec<Waiting>,
    pub(crate) warnings: Vec<String>,
}

/// Something that the daemon waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) what: &'static str,
    pub(crate) reason: String,
    pub(crate) since: SystemTime,
}

impl Waiting {
    pub(crate) const DATASTORE: &str = "the datastore";
    pub(crate) const FIRST_READ: &str = "the first read of the datastore";
    pub(crate) const REGISTRATION: &str = "registration of this node";

    pub(crate) fn view(&self) -> Wait {
        let since_seconds = self.since.elapsed().unwrap_or_default().as_secs();
        Wait { what: self.what.to_owned(), reason: self.reason.clone(), since_seconds }
    }
}
