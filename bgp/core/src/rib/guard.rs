//! The ownership guard in the tables.

use std::sync::Arc;

use super::Routing;
use crate::config::OwnershipCheck;
use crate::ownership::{Guard, Ownership};

impl Routing {
    /// Takes the table of owners; the paths that a difference concerns are judged anew on a walk
    /// through the prefixes.
    pub(crate) fn set_ownership(&mut self, table: Arc<Ownership>) {
        let first = self.guard.is_none();
        let affected = self.guard.get_or_insert_with(Guard::default).replace(table);
        if !first && affected.is_empty() {
            return;
        }
        if first {
            self.guarded().into_iter().for_each(|peer| self.import_again(peer));
        } else {
            self.judge_owned(&affected);
        }
    }

    /// Whether routes of some peer would be guarded if there were a table of owners.
    pub(super) fn lacks_owners(&self) -> bool {
        let checks = || self.peers.values().any(|peer| peer.profile.settings.ownership != OwnershipCheck::Off);
        self.guard.is_none() && checks()
    }
}
