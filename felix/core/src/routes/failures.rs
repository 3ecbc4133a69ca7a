use std::collections::BTreeMap;
use std::time::Duration;

use margay_net::{Cidr, Instant};

/// The first retry comes after this, each later one after twice the time.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// What the kernel refused, and when it is tried again.
#[derive(Debug, Default)]
pub(super) struct Failures {
    by_prefix: BTreeMap<Cidr, Failure>,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    pause: Duration,
    retry_at: Instant,
    due: bool,
}

impl Failures {
    /// Notes a refusal and returns whether it is the first in a row.
    pub(super) fn note(&mut self, prefix: Cidr, reason: String, now: Instant) -> bool {
        let before = self.by_prefix.get(&prefix).map(|failure| failure.pause);
        let pause = before.map_or(FIRST_RETRY, |pause| (pause * 2).min(LAST_RETRY));
        self.by_prefix.insert(prefix, Failure { reason, pause, retry_at: now + pause, due: false });
        before.is_none()
    }

    pub(super) fn clear(&mut self, prefix: Cidr) {
        self.by_prefix.remove(&prefix);
    }

    pub(super) fn reason(&self, prefix: Cidr) -> Option<&str> {
        self.by_prefix.get(&prefix).map(|failure| failure.reason.as_str())
    }

    pub(super) fn reasons(&self) -> impl Iterator<Item = &str> {
        self.by_prefix.values().map(|failure| failure.reason.as_str())
    }

    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.by_prefix.values().filter(|failure| !failure.due).map(|failure| failure.retry_at).min()
    }

    /// The prefixes to try again at `now`; `all`: whatever the time, since something changed that may help.
    pub(super) fn take_due(&mut self, now: Instant, all: bool) -> Vec<Cidr> {
        let due = self.by_prefix.iter_mut().filter(|(_, failure)| !failure.due && (all || failure.retry_at <= now));
        due.map(|(prefix, failure)| {
            failure.due = true;
            *prefix
        })
        .collect()
    }
}
