use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use margay_net::{Instant, Now};

/// How late this process itself was at its own timers: what tells a flap from a starved machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lateness {
    /// A wake-up later than this counts as late.
    pub threshold: Duration,
    /// How many wake-ups were late.
    pub late: u64,
    /// How late the last of them was, and when it ended.
    pub last: Duration,
    pub last_at: Option<SystemTime>,
    /// The worst, and when it ended.
    pub max: Duration,
    pub max_at: Option<SystemTime>,
}

/// Beyond this nobody asks back.
const REMEMBERED: Duration = Duration::from_secs(30);
const MOST_REMEMBERED: usize = 64;

/// Keeps the figures, and the worst of the last seconds.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) figures: Lateness,
    /// The lateness of the wake-up under way.
    wake: Option<Duration>,
    /// Late wake-ups by their end, each one later than all after it: the first that is young enough is the worst.
    recent: VecDeque<(Instant, Duration)>,
}

impl Watch {
    pub(crate) fn new(threshold: Duration) -> Watch {
        Watch { figures: Lateness { threshold, ..Lateness::default() }, wake: None, recent: VecDeque::new() }
    }

    /// Notes that the process runs at `now`, where it had asked to be woken at `due`. A wake-up counts once, with the
    /// worst that is told of it: it may be kept from running in its midst.
    pub(crate) fn woken(&mut self, due: Option<Instant>, now: Now) {
        let late = due.map_or(Duration::ZERO, |due| now.mono.since(due));
        let known = self.wake.unwrap_or_default();
        if late <= known {
            return;
        }
        self.wake = Some(late);
        self.remember(now.mono, late);
        let figures = &mut self.figures;
        if late > figures.threshold {
            figures.late += u64::from(known <= figures.threshold);
            (figures.last, figures.last_at) = (late, Some(now.wall));
        }
        if late > figures.max {
            (figures.max, figures.max_at) = (late, Some(now.wall));
        }
    }

    /// Ends the wake-up: the next one is measured anew.
    pub(crate) fn asleep(&mut self) {
        self.wake = None;
    }

    /// The worst lateness of a wake-up that ended at `from` or after it.
    pub(crate) fn worst_since(&self, from: Instant) -> Duration {
        self.recent.iter().find(|(when, _)| *when >= from).map_or(Duration::ZERO, |(_, late)| *late)
    }

    fn remember(&mut self, now: Instant, late: Duration) {
        while self.recent.back().is_some_and(|(_, earlier)| *earlier <= late) {
            self.recent.pop_back();
        }
        self.recent.push_back((now, late));
        while self.recent.len() > MOST_REMEMBERED
            || self.recent.front().is_some_and(|(when, _)| now.since(*when) > REMEMBERED)
        {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_wake_up_is_counted_once_and_the_worst_of_a_span_is_known() {
        let mut watch = Watch::new(ms(10));
        let mut wake = |due: u64, now: u64| {
            watch.woken(Some(Instant(ms(due))), Now::at(ms(now)));
            watch.woken(Some(Instant(ms(due))), Now::at(ms(now)));
            watch.asleep();
        };
        wake(100, 100);
        wake(200, 205);
        wake(1000, 1140);
        wake(2000, 2020);
        wake(3000, 3015);
        let figures = watch.figures;
        assert_eq!((figures.late, figures.last, figures.max), (3, ms(15), ms(140)));
        assert_eq!(figures.max_at, Some(SystemTime::UNIX_EPOCH + ms(1140)));
        assert_eq!(watch.worst_since(Instant(ms(1140))), ms(140));
        assert_eq!(watch.worst_since(Instant(ms(1141))), ms(20));
        assert_eq!(watch.worst_since(Instant(ms(2500))), ms(15));
        assert_eq!(watch.worst_since(Instant(ms(3016))), ms(0));
    }

    #[test]
    fn a_stall_in_the_midst_of_a_wake_up_makes_it_worse() {
        let mut watch = Watch::new(ms(10));
        watch.woken(Some(Instant(ms(100))), Now::at(ms(120)));
        watch.woken(Some(Instant(ms(100))), Now::at(ms(300)));
        watch.asleep();
        assert_eq!((watch.figures.late, watch.figures.last, watch.figures.max), (1, ms(200), ms(200)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut watch = Watch::new(ms(10));
        for n in 0..1000u64 {
            let due = ms(n * 100);
            watch.woken(Some(Instant(due)), Now::at(due + Duration::from_micros(90_000 - n)));
            watch.asleep();
        }
        assert!(watch.recent.len() <= MOST_REMEMBERED);
        assert_eq!(watch.figures.late, 1000);
    }
}
