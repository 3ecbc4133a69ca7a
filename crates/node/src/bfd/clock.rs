use margay_net::{Instant, Now};

/// The present, counted from the start of the process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock { origin: std::time::Instant::now() }
    }

    pub(super) fn now(&self) -> Now {
        Now { mono: Instant(self.origin.elapsed()), wall: std::time::SystemTime::now() }
    }
}
