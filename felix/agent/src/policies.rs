use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use margay_felix_core::policy::{PolicyChanges, PolicyTables};
use margay_net::Cidr;
use margay_netlink::nft::AsyncTableMonitor;

use crate::policy::{HostRules, PolicyDataplane, PolicyError};

const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// The least time between two comparisons that others cause.
const COMPARISONS: Duration = Duration::from_millis(50);

/// The policy tables that were told, and the kernel's copy.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    tables: PolicyTables,
    host: HostRules,
    /// The services that the kernel guards, as far as it was said.
    guarded: BTreeSet<Cidr>,
    dataplane: Option<PolicyDataplane>,
    /// The kernel's copy was made equal once, and is to follow.
    started: bool,
    trouble: Option<Trouble>,
    last_change: Duration,
    monitor: Option<AsyncTableMonitor>,
    /// Somebody else changed the table: when it is compared, and not before.
    compare_at: Option<Instant>,
    compared: Option<Instant>,
    drift: u64,
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
            _ => {
                self.resync();
            }
        }
    }

    /// Has these interfaces' pods alone reach the node's BGP port.
    pub(crate) fn set_bgp_peers(&mut self, bgp_peers: BTreeSet<String>) {
        self.change_host(HostRules { bgp_peers, ..self.host.clone() });
    }

    /// Has what is forwarded to these services dropped.
    pub(crate) fn set_services(&mut self, services: BTreeSet<Cidr>) {
        self.change_host(HostRules { services, ..self.host.clone() });
    }

    /// The services that the kernel guards, if it has guarded others the last time that this was asked.
    pub(crate) fn newly_guarded(&mut self) -> Option<BTreeSet<Cidr>> {
        let is_news = self.started && self.trouble.is_none() && self.guarded != self.host.services;
        is_news.then(|| {
            self.guarded.clone_from(&self.host.services);
            self.guarded.clone()
        })
    }

    /// Makes the kernel's copy equal to the tables, and has it follow them.
    pub(crate) fn start(&mut self) {
        self.started = true;
        self.resync();
        if let Some(dataplane) = &self.dataplane {
            let monitor = dataplane.monitor().and_then(AsyncTableMonitor::new);
            match monitor {
                Ok(monitor) => self.monitor = Some(monitor),
                Err(error) => tracing::error!(%error, "changes that others make to the policy are not seen"),
            }
            // What changed before the watch began.
            self.compare_at = Some(Instant::now());
        }
    }

    /// Waits until somebody else has changed the table. Safe to cancel.
    pub(crate) async fn foreign_change(&mut self) {
        let Some(monitor) = &mut self.monitor else { return std::future::pending().await };
        if let Err(error) = monitor.changed().await {
            tracing::error!(%error, "changes that others make to the policy are not seen any more");
            self.monitor = None;
        }
        let earliest = self.compared.map_or_else(Instant::now, |compared| compared + COMPARISONS);
        self.compare_at.get_or_insert(earliest.max(Instant::now()));
    }

    /// Compares the table with what it should be, if somebody changed it and it is time.
    pub(crate) fn repair(&mut self) {
        if self.compare_at.is_some_and(|at| at <= Instant::now()) {
            self.compare_at = None;
            self.compared = Some(Instant::now());
            self.drift += self.resync();
        }
    }

    /// How many objects of the table others changed and the agent put right.
    pub(crate) fn drift(&self) -> u64 {
        self.drift
    }

    /// Tries again what was refused, if it is time.
    pub(crate) fn retry(&mut self) {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.retry_at <= Instant::now()) {
            self.resync();
        }
    }

    /// When [`retry`](Self::retry) or [`repair`](Self::repair) has something to do.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        let retry_at = self.trouble.as_ref().map(|trouble| trouble.retry_at);
        retry_at.into_iter().chain(self.compare_at).min()
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

    fn change_host(&mut self, host: HostRules) {
        if self.host == host {
            return;
        }
        self.host = host;
        if !self.started {
            return;
        }
        match &mut self.dataplane {
            Some(dataplane) if self.trouble.is_none() => {
                if let Err(error) = dataplane.apply_host(&self.host) {
                    tracing::warn!(%error, "a change of the host's own rules was refused; comparing all of it");
                    self.resync();
                }
            }
            _ => {
                self.resync();
            }
        }
    }

    /// Makes the kernel's copy equal to the tables; how many objects differed.
    fn resync(&mut self) -> u64 {
        let begin = Instant::now();
        match self.try_resync() {
            Ok(repaired) => {
                self.trouble = None;
                self.last_change = begin.elapsed();
                repaired
            }
            Err(error) => {
                let before = self.trouble.as_ref().map(|trouble| trouble.pause);
                let pause = before.map_or(FIRST_RETRY, |pause| (pause * 2).min(LAST_RETRY));
                if before.is_none() {
                    tracing::error!(%error, "the policy is not in the kernel");
                }
                let retry_at = Instant::now() + pause;
                self.trouble = Some(Trouble { reason: format!("policy: {error}"), pause, retry_at });
                0
            }
        }
    }

    fn try_resync(&mut self) -> Result<u64, PolicyError> {
        let dataplane = match &mut self.dataplane {
            Some(dataplane) => dataplane,
            None => self.dataplane.insert(PolicyDataplane::open()?),
        };
        dataplane.set_host(self.host.clone());
        let report = dataplane.resync(&self.tables)?;
        if !report.is_clean() {
            tracing::info!(repaired = ?report.repaired, took = ?report.duration, "the policy was brought into the kernel");
        }
        Ok(report.repaired.values().map(|count| *count as u64).sum())
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
