use std::collections::BTreeMap;

use margay_net::{Cidr, LocalRoute, LocalRouteChange, LocalRouteSource};

/// What the speaker was told to announce.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    told: BTreeMap<Cidr, LocalRouteSource>,
}

impl Announcements {
    /// Forgets what isn't wanted any longer and returns it as withdrawals.
    pub(super) fn withdraw(&mut self, wanted: &BTreeMap<Cidr, LocalRouteSource>) -> Vec<LocalRouteChange> {
        let gone: Vec<_> = self.told.keys().filter(|prefix| !wanted.contains_key(prefix)).copied().collect();
        for prefix in &gone {
            self.told.remove(prefix);
        }
        gone.into_iter().map(LocalRouteChange::Withdraw).collect()
    }

    /// Notes what the kernel is ready for and returns what is new in it.
    pub(super) fn announce(&mut self, ready: &BTreeMap<Cidr, LocalRouteSource>) -> Vec<LocalRouteChange> {
        let mut changes = Vec::new();
        for (&prefix, &source) in ready {
            if self.told.insert(prefix, source) != Some(source) {
                changes.push(LocalRouteChange::Announce(LocalRoute { prefix, source }));
            }
        }
        changes
    }

    /// What was told, by prefix.
    pub(super) fn told(&self) -> &BTreeMap<Cidr, LocalRouteSource> {
        &self.told
    }
}
