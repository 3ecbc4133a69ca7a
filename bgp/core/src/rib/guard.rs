//! The ownership guard in the tables.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Routing;
use super::prefixes::{Path, PrefixId};
use crate::config::OwnershipCheck;
use crate::ownership::{Guard, Ownership};

impl Routing {
    /// Takes the table of owners; the paths that a difference concerns are judged anew, in one walk over the prefixes.
    pub(crate) fn set_ownership(&mut self, table: Arc<Ownership>) {
        let first = self.guard.is_none();
        let affected = self.guard.get_or_insert_with(Guard::default).replace(table);
        if !first && affected.is_empty() {
            return;
        }
        let guarded: BTreeSet<usize> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.profile.settings.ownership != OwnershipCheck::Off)
            .map(|(index, _)| index)
            .collect();
        if guarded.is_empty() {
            return;
        }
        for at in 0..self.tables.len() {
            let is_guarded = |path: &&Path| path.source.as_peer().is_some_and(|peer| guarded.contains(&peer));
            let concerned: Vec<(PrefixId, Path)> = self.tables[at]
                .prefixes
                .iter()
                .filter(|(_, entry)| first || affected.contains(entry.cidr))
                .flat_map(|(id, entry)| entry.paths.iter().filter(is_guarded).map(move |path| (id, *path)))
                .collect();
            for (id, path) in concerned {
                self.import_path_again(at, id, path);
            }
        }
    }

    /// Whether routes of some peer would be guarded if there were a table of owners.
    pub(super) fn lacks_owners(&self) -> bool {
        let checks = || self.peers.values().any(|peer| peer.profile.settings.ownership != OwnershipCheck::Off);
        self.guard.is_none() && checks()
    }
}
