use std::collections::BTreeMap;
use std::time::Duration;

use margay_net::Instant;

/// The first retry comes after this, each later one after twice the time.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// What the kernel refused, and when it is tried again. `K` names what the kernel lacks.
#[derive(Debug)]
pub(super) struct Failures<K> {
    by_key: BTreeMap<K, Failure>,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    pause: Duration,
    retry_at: Instant,
    due: bool,
}

impl<K> Default for Failures<K> {
    fn default() -> Failures<K> {
        Failures { by_key: BTreeMap::new() }
    }
}

impl<K: Copy + Ord> Failures<K> {
    /// Notes a refusal and returns whether it is the first in a row.
    pub(super) fn note(&mut self, key: K, reason: String, now: Instant) -> bool {
        let before = self.by_key.get(&key).map(|failure| failure.pause);
        let pause = before.map_or(FIRST_RETRY, |pause| (pause * 2).min(LAST_RETRY));
        self.by_key.insert(key, Failure { reason, pause, retry_at: now + pause, due: false });
        before.is_none()
    }

    pub(super) fn clear(&mut self, key: K) {
        self.by_key.remove(&key);
    }

    pub(super) fn reason(&self, key: K) -> Option<&str> {
        self.by_key.get(&key).map(|failure| failure.reason.as_str())
    }

    pub(super) fn reasons(&self) -> impl Iterator<Item = &str> {
        self.by_key.values().map(|failure| failure.reason.as_str())
    }

    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.by_key.values().filter(|failure| !failure.due).map(|failure| failure.retry_at).min()
    }

    /// What to try again at `now`; `all`: whatever the time, since something changed that may help.
    pub(super) fn take_due(&mut self, now: Instant, all: bool) -> Vec<K> {
        let due = self.by_key.iter_mut().filter(|(_, failure)| !failure.due && (all || failure.retry_at <= now));
        due.map(|(key, failure)| {
            failure.due = true;
            *key
        })
        .collect()
    }
}
