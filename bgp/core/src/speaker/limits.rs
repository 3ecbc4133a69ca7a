//! Limits on what a peer may announce, and holds.

use margay_net::{Family, Now};

use super::Speaker;
use super::drive::Cause;
use crate::config::{MaxPrefixes, MaxPrefixesAction};
use crate::fsm::FsmEvent;
use crate::io::EventKind;
use crate::session::{Hold, Slot};
use crate::wire::{AfiSafi, Cease, Notification};

impl Speaker {
    /// Looks whether an established peer has announced more than it may.
    pub(super) fn check_limits(&mut self, peer: usize, now: Now) {
        let known = &self.peers[peer];
        if known.config.max_prefixes.is_empty() || !known.is_established() {
            return;
        }
        let Some(routing) = &self.routing else { return };
        let limits: Vec<(Family, MaxPrefixes, u32)> = known
            .config
            .max_prefixes
            .iter()
            .map(|(&family, &max)| (family, max, routing.received_count(peer, family)))
            .collect();
        for (family, max, count) in limits {
            let limit = max.limit;
            let known = &mut self.peers[peer];
            if count > limit {
                if known.exceeded.insert(family) && self.exceeded(peer, family, max, count, now) {
                    return;
                }
                continue;
            }
            known.exceeded.remove(&family);
            let warn = u64::from(count) * 100 >= u64::from(limit) * u64::from(max.warning_percent);
            if warn && known.warned.insert(family) {
                self.event(Some(peer), EventKind::PrefixWarning { family, count, limit });
            }
        }
    }

    /// Does what is configured for a peer that announced too much; tells whether its session is over.
    fn exceeded(&mut self, peer: usize, family: Family, max: MaxPrefixes, count: u32, now: Now) -> bool {
        let limit = max.limit;
        let (action, until) = match max.action {
            MaxPrefixesAction::Warn => ("the session stays".to_owned(), None),
            MaxPrefixesAction::Restart(after) => {
                (format!("the session ends for {} s", after.as_secs()), Some(now.mono + after))
            }
            MaxPrefixesAction::Hold => ("the session ends until the peer is reset".to_owned(), None),
        };
        self.event(Some(peer), EventKind::PrefixLimitExceeded { family, count, limit, action });
        if max.action == MaxPrefixesAction::Warn {
            return false;
        }
        let reason = format!("it announced {count} {family} prefixes, the limit is {limit}");
        self.peers[peer].hold = Some(Hold { reason: reason.clone(), until });
        // RFC 4486 section 4: the family and the limit.
        let AfiSafi { afi, safi } = family.into();
        let mut data = afi.to_be_bytes().to_vec();
        data.push(safi);
        data.extend(limit.to_be_bytes());
        let cease = Notification::cease(Cease::MaximumPrefixesReached).with_data(data);
        self.drive(peer, Slot::Primary, FsmEvent::AutomaticStop, Cause::hard(cease, reason.clone()), now);
        self.event(Some(peer), EventKind::Held(reason));
        true
    }

    /// Lets a held peer have sessions again.
    pub(super) fn end_hold(&mut self, peer: usize, reason: &str) {
        if self.peers[peer].hold.take().is_some() {
            self.bfd_changed = true;
            self.event(Some(peer), EventKind::HoldEnded(reason.to_owned()));
        }
    }
}
