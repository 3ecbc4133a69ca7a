use std::time::Duration;

use margay_net::Instant;

const WINDOW: Duration = Duration::from_secs(60);
/// Events of a kind in that time.
const MOST: u32 = 20;

/// Bounds how often the same trouble is told, so that a peer can't fill the log.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EventLimit {
    began: Instant,
    told: u32,
}

/// Whether something is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    Yes,
    /// It is, and the next ones of this minute are not.
    Last,
    No,
}

impl EventLimit {
    pub(crate) fn tell(&mut self, now: Instant) -> Telling {
        if self.told == 0 || now.since(self.began) >= WINDOW {
            *self = EventLimit { began: now, told: 0 };
        }
        self.told = self.told.saturating_add(1);
        match self.told {
            ..MOST => Telling::Yes,
            MOST => Telling::Last,
            _ => Telling::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twentieth_of_a_minute_is_the_last_that_is_told() {
        let mut limit = EventLimit::default();
        let at = |seconds| Instant(Duration::from_secs(seconds));
        for _ in 1..MOST {
            assert_eq!(limit.tell(at(5)), Telling::Yes);
        }
        assert_eq!(limit.tell(at(6)), Telling::Last);
        assert_eq!(limit.tell(at(64)), Telling::No);
        assert_eq!(limit.tell(at(65)), Telling::Yes);
    }
}
