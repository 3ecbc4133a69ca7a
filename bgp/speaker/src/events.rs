use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use margay_bgp_core::Event;

/// Events that are kept.
pub(crate) const KEPT: usize = 1024;

/// An event with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Grows by one from event to event, so that a reader knows what it has seen and what it has missed.
    pub number: u64,
    pub at: SystemTime,
    pub event: Event,
}

/// The last events, for those who ask later.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventLog(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    next: u64,
    events: VecDeque<RecordedEvent>,
}

impl EventLog {
    pub(crate) fn record(&self, event: Event) {
        let mut log = self.log();
        if log.events.len() == KEPT {
            log.events.pop_front();
        }
        let number = log.next;
        log.next += 1;
        log.events.push_back(RecordedEvent { number, at: SystemTime::now(), event });
    }

    pub(crate) fn recent(&self) -> Vec<RecordedEvent> {
        self.log().events.iter().cloned().collect()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // No code that could panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use margay_bgp_core::EventKind;

    use super::*;

    #[test]
    fn the_oldest_events_go_and_numbers_tell() {
        let log = EventLog::default();
        for n in 0..KEPT + 3 {
            log.record(Event { peer: None, kind: EventKind::Drain(n.to_string()) });
        }
        let recent = log.recent();
        assert_eq!(recent.len(), KEPT);
        assert_eq!((recent[0].number, recent[KEPT - 1].number), (3, KEPT as u64 + 2));
        assert_eq!(recent[0].event.kind, EventKind::Drain("3".to_owned()));
        assert!(recent.is_sorted_by_key(|event| event.at));
    }
}
