use std::time::{Duration, Instant};

use margay_felix_core::policy::{PolicyChanges, PolicyTables};

use crate::policy::{PolicyDataplane, PolicyError};

const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// The policy tables that were told, and the kernel's copy.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    tables: PolicyTables,
    dataplane: Option<PolicyDataplane>,
    /// The kernel's copy was made equal once, and is to follow.
    started: bool,
    trouble: Option<Trouble>,
    last_change: Duration,
}

#[derive(Debug)]
struct Trouble {
    reason: String,
    pause: Duration,
    retry_at: Instant,
}

impl Policies {
    /// Takes a change in, and into the kernel once [`start`](Self::start)ed.
    pub(crate) fn change(&mut self, changes: &PolicyChanges) {
        step(&mut self.tables, changes);
        if !self.started {
            return;
        }
        match &mut self.dataplane {
            Some(dataplane) if self.trouble.is_none() => match dataplane.apply(changes) {
                Ok(applied) => self.last_change = applied.duration,
                Err(error) => {
                    tracing::warn!(%error, "a policy change was refused; comparing all of it");
                    self.resync();
                }
            },
            _ => self.resync(),
        }
    }

    /// Makes the kernel's copy equal to the tables, and has it follow them.
    pub(crate) fn start(&mut self) {
        self.started = true;
        self.resync();
    }

    /// Tries again what was refused, if it is time.
    pub(crate) fn retry(&mut self) {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.retry_at <= Instant::now()) {
            self.resync();
        }
    }

    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.trouble.as_ref().map(|trouble| trouble.retry_at)
    }

    /// Why the kernel does not have the tables; `None`: it has them.
    pub(crate) fn error(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.reason.as_str())
    }

    pub(crate) fn elements(&self) -> u64 {
        let tables = &self.tables;
        let addresses: usize = tables.endpoints.values().map(|endpoint| endpoint.addresses.len()).sum();
        let all =
            tables.endpoints.len() + addresses + tables.identities.len() + tables.ranges.len() + tables.allows.len();
        all as u64
    }

    pub(crate) fn last_change(&self) -> Duration {
        self.last_change
    }

    fn resync(&mut self) {
        let begin = Instant::now();
        match self.try_resync() {
            Ok(()) => {
                self.trouble = None;
                self.last_change = begin.elapsed();
            }
            Err(error) => {
                let before = self.trouble.as_ref().map(|trouble| trouble.pause);
                let pause = before.map_or(FIRST_RETRY, |pause| (pause * 2).min(LAST_RETRY));
                if before.is_none() {
                    tracing::error!(%error, "the policy is not in the kernel");
                }
                let retry_at = Instant::now() + pause;
                self.trouble = Some(Trouble { reason: format!("policy: {error}"), pause, retry_at });
            }
        }
    }

    fn try_resync(&mut self) -> Result<(), PolicyError> {
        let dataplane = match &mut self.dataplane {
            Some(dataplane) => dataplane,
            None => self.dataplane.insert(PolicyDataplane::open()?),
        };
        let report = dataplane.resync(&self.tables)?;
        if !report.is_clean() {
            tracing::info!(repaired = ?report.repaired, took = ?report.duration, "the policy was brought into the kernel");
        }
        Ok(())
    }
}

/// Does a step of the tables as [`PolicyChanges`] defines it.
fn step(tables: &mut PolicyTables, changes: &PolicyChanges) {
    let PolicyChanges { removed, added } = changes;
    tables.endpoints.retain(|interface, _| !removed.endpoints.contains_key(interface));
    tables.identities.retain(|addr, _| !removed.identities.contains_key(addr));
    tables.ranges.retain(|first, _| !removed.ranges.contains_key(first));
    for allow in &removed.allows {
        tables.allows.remove(allow);
    }
    tables.endpoints.extend(added.endpoints.iter().map(|(name, programs)| (name.clone(), programs.clone())));
    tables.identities.extend(&added.identities);
    tables.ranges.extend(&added.ranges);
    tables.allows.extend(&added.allows);
}

#[cfg(test)]
mod tests {
    use super::*;
    use margay_felix_core::policy::{EndpointPrograms, IdentityId};
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn a_step_removes_then_adds() {
        let addr = |last| IpAddr::V4(Ipv4Addr::new(10, 65, 0, last));
        let mut tables = PolicyTables::default();
        tables.endpoints.insert("cali1".into(), EndpointPrograms::default());
        tables.identities.extend([(addr(1), IdentityId(1)), (addr(2), IdentityId(2))]);
        let mut changes = PolicyChanges::default();
        changes.removed.identities.extend([(addr(1), IdentityId(1)), (addr(2), IdentityId(2))]);
        changes.removed.endpoints.insert("cali1".into(), EndpointPrograms::default());
        changes.added.identities.insert(addr(2), IdentityId(3));
        step(&mut tables, &changes);
        let expected = PolicyTables { identities: [(addr(2), IdentityId(3))].into(), ..PolicyTables::default() };
        assert_eq!(tables, expected);
    }
}
