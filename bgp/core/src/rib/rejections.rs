//! Rejected paths, counted.

use std::collections::BTreeMap;

use margay_net::Family;

use super::Routing;
use crate::view::RejectReason;

impl Routing {
    /// Returns how many paths of each peer (by index) are rejected, by family and reason.
    pub(crate) fn rejections(&self) -> BTreeMap<(usize, Family, RejectReason), usize> {
        let mut all = BTreeMap::new();
        for table in &self.tables {
            for path in table.prefixes.iter().flat_map(|(_, entry)| &entry.paths) {
                if let (Some(peer), Some(reason)) = (path.source.as_peer(), path.rejected) {
                    *all.entry((peer, table.family, reason)).or_default() += 1;
                }
            }
        }
        all
    }
}
