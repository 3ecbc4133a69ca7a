//! What happened to the sessions: kept for a while, told to who follows, and counted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use margay_bgp_core::{Event, EventKind, FsmState};
use margay_bgp_speaker::{SpeakerGone, SpeakerHandle};
use margay_local_api::BgpEvent;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::bgp_view::rfc3339;
use crate::metrics;

/// How many events are kept.
const KEPT: usize = 1000;
/// How far a follower may fall behind before it is told that it missed some.
const FOLLOWED: usize = 256;

/// The events since start, as far as they are kept; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct EventLog {
    log: Arc<Mutex<Log>>,
    /// The sender is the recording task's, so that followers end with it.
    live: broadcast::WeakSender<BgpEvent>,
}

#[derive(Debug, Default)]
struct Log {
    kept: VecDeque<BgpEvent>,
    counts: EventCounts,
}

/// Counts since start that only events tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EventCounts {
    /// NOTIFICATIONs by direction (`sent`, `received`) and code.
    pub(crate) notifications: BTreeMap<(&'static str, String), u64>,
    /// Connections refused.
    pub(crate) refused: u64,
}

impl EventLog {
    /// Records the events of `speaker` from here on; the future is to be run, and ends with the speaker.
    pub(crate) fn record(
        speaker: &SpeakerHandle,
    ) -> Result<(EventLog, impl Future<Output = ()> + Send + 'static), SpeakerGone> {
        let mut events = speaker.events()?;
        let live = broadcast::Sender::new(FOLLOWED);
        let log = EventLog { log: Arc::default(), live: live.downgrade() };
        let recorder = log.clone();
        let recording = async move {
            loop {
                let event = match events.recv().await {
                    Ok(event) => shown(&event, SystemTime::now()),
                    Err(RecvError::Lagged(count)) => lost(count),
                    Err(RecvError::Closed) => return,
                };
                recorder.lock().take(event.clone());
                // Nobody has to follow.
                let _ = live.send(event);
            }
        };
        Ok((log, recording))
    }

    /// The recent events, the oldest first; of one peer if it is named.
    pub(crate) fn recent(&self, peer: Option<&str>) -> Vec<BgpEvent> {
        self.lock().kept.iter().filter(|event| concerns(event, peer)).cloned().collect()
    }

    /// The recent events, and those that come; None where none can come.
    pub(crate) fn follow(&self, peer: Option<&str>) -> Option<(Vec<BgpEvent>, broadcast::Receiver<BgpEvent>)> {
        let log = self.lock();
        let live = self.live.upgrade()?.subscribe();
        Some((log.kept.iter().filter(|event| concerns(event, peer)).cloned().collect(), live))
    }

    /// The last event of a kind that concerns a peer.
    pub(crate) fn last(&self, peer: &str, kind: &str) -> Option<BgpEvent> {
        let log = self.lock();
        log.kept.iter().rev().find(|event| event.kind == kind && event.peer.as_deref() == Some(peer)).cloned()
    }

    pub(crate) fn counts(&self) -> EventCounts {
        self.lock().counts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // Nothing in here panics half way through a change.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn take(&mut self, event: BgpEvent) {
        match event.kind.as_str() {
            "notification_sent" | "notification_received" => {
                let direction = if event.kind == "notification_sent" { "sent" } else { "received" };
                *self.counts.notifications.entry((direction, code(&event.message))).or_default() += 1;
            }
            "connection_refused" => self.counts.refused += 1,
            _ => {}
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(event);
    }
}

/// Tells whether an event is of the peer; every event is of no one in particular.
pub(crate) fn concerns(event: &BgpEvent, peer: Option<&str>) -> bool {
    peer.is_none_or(|peer| event.peer.as_deref() == Some(peer))
}

/// That events were lost, as an event.
pub(crate) fn lost(count: u64) -> BgpEvent {
    let message = format!("{count} events were not recorded: they came faster than they were read");
    BgpEvent { time: rfc3339(SystemTime::now()), peer: None, kind: "events_lost".to_owned(), message }
}

fn shown(event: &Event, at: SystemTime) -> BgpEvent {
    BgpEvent {
        time: rfc3339(at),
        peer: event.peer.as_ref().map(ToString::to_string),
        kind: kind(&event.kind),
        message: event.kind.to_string(),
    }
}

/// The variant's name in snake case; the end of an established session has a kind of its own.
fn kind(kind: &EventKind) -> String {
    match kind {
        EventKind::StateChanged { from: FsmState::Established, .. } => return "session_lost".to_owned(),
        EventKind::StateChanged { to: FsmState::Established, .. } => return "session_established".to_owned(),
        _ => {}
    }
    metrics::snake(&format!("{kind:?}"))
}

/// The error code of a NOTIFICATION in words, as in `Cease: Administrative Reset (6/4)`: the number before the stroke, of
/// those that RFCs define, else `other`.
fn code(message: &str) -> String {
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let number = message.split('(').skip(1).find_map(|rest| {
        let (code, rest) = rest.split_once('/')?;
        let (subcode, _) = rest.split_once(')')?;
        (digits(code) && digits(subcode)).then_some(code)
    });
    match number {
        Some(code @ ("1" | "2" | "3" | "4" | "5" | "6" | "7" | "8")) => code.to_owned(),
        _ => "other".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_one_word_and_notifications_are_counted_by_code() {
        let mut log = Log::default();
        for event in [
            EventKind::NotificationSent("Cease: Administrative Reset (6/4)".to_owned()),
            EventKind::NotificationReceived("Hold Timer Expired (4/0)".to_owned()),
            EventKind::NotificationReceived("Unknown Error (99/7)".to_owned()),
            EventKind::StateChanged { from: FsmState::Established, to: FsmState::Idle, reason: "x (1/2)".to_owned() },
            EventKind::GracefulRestartBegan { paths: 3 },
        ] {
            log.take(shown(&Event { peer: Some("tor".into()), kind: event }, SystemTime::UNIX_EPOCH));
        }
        let kinds: Vec<&str> = log.kept.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(
            kinds,
            [
                "notification_sent",
                "notification_received",
                "notification_received",
                "session_lost",
                "graceful_restart_began"
            ]
        );
        let count = |direction, code: &str| log.counts.notifications.get(&(direction, code.to_owned())).copied();
        assert_eq!(count("sent", "6"), Some(1));
        assert_eq!(count("received", "4"), Some(1));
        assert_eq!(count("received", "other"), Some(1));
    }

    #[test]
    fn only_the_last_events_are_kept() {
        let mut log = Log::default();
        for number in 0..=KEPT {
            let kind = EventKind::ConfigRefused(number.to_string());
            log.take(shown(&Event { peer: None, kind }, SystemTime::UNIX_EPOCH));
        }
        assert_eq!(log.kept.len(), KEPT);
        assert_eq!(log.kept[0].message, "configuration refused: 1");
    }
}
