use std::time::SystemTime;

use margay_net::{Instant, Now};

/// The clock that the core's time is read from; its monotonic part counts from the speaker's start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: tokio::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { origin: tokio::time::Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: Instant(self.origin.elapsed()), wall: SystemTime::now() }
    }

    /// The runtime's time at which `instant` is reached.
    pub(crate) fn deadline(&self, instant: Instant) -> tokio::time::Instant {
        self.origin + instant.0
    }
}
