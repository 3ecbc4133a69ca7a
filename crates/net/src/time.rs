use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime};

/// A point on a monotonic clock, counted from an origin that the shell chooses (process start, or zero in a test).
///
/// It is a plain value, so that a core can be run on a virtual clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub Duration);

impl Instant {
    pub const ZERO: Instant = Instant(Duration::ZERO);

    /// The time from `earlier` to `self`; zero where `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, span: Duration) -> Instant {
        Instant(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, span: Duration) -> Instant {
        Instant(self.0.saturating_sub(span))
    }
}

/// The present as an input: `mono` drives timers, `wall` is only shown to people and stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub mono: Instant,
    pub wall: SystemTime,
}

impl Now {
    /// A virtual present: `mono` after the origin, and the same span after the Unix epoch.
    pub fn at(mono: Duration) -> Now {
        Now { mono: Instant(mono), wall: SystemTime::UNIX_EPOCH + mono }
    }
}
