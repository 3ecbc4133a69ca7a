//! Messages of peers.

use bytes::Bytes;
use margay_net::Now;

use super::Speaker;
use super::drive::Cause;
use crate::fsm::FsmEvent;
use crate::io::{ConnectionId, EventKind};
use crate::session::{Slot, Telling};
use crate::view::FsmState;
use crate::wire::{
    Announcement, Cease, DecodeContext, HEADER_LEN, MAX_MESSAGE, Message, Notification, Open, Update, decode, frame,
};

impl Speaker {
    pub(super) fn received_bytes(&mut self, connection: ConnectionId, bytes: Bytes, now: Now) {
        let Some(&peer) = self.connections.get(&connection) else { return };
        let Some(slot) = self.peers[peer].slot_of(connection) else { return };
        let Some(machine) = self.peers[peer].connection(slot) else { return };
        let buffer = machine.received(bytes);
        let mut rest = &buffer[..];
        // A message may end the connection, or move it to the other slot.
        while let Some(slot) = self.peers[peer].slot_of(connection) {
            match frame(rest, MAX_MESSAGE) {
                Ok(Some(len)) if len <= rest.len() => {
                    let (message, after) = rest.split_at(len);
                    rest = after;
                    self.received_message(peer, slot, message, now);
                }
                Ok(_) => {
                    if let Some(machine) = self.peers[peer].connection(slot) {
                        machine.keep_undecoded(rest);
                    }
                    return;
                }
                Err(notification) => return self.message_error(peer, slot, notification, now),
            }
        }
    }

    fn received_message(&mut self, peer: usize, slot: Slot, message: &[u8], now: Now) {
        let ibgp = self.config.as_ref().is_some_and(|config| self.peers[peer].config.is_ibgp(config.asn));
        let known = &mut self.peers[peer];
        known.messages_received += 1;
        let Some(machine) = known.connection(slot) else { return };
        let state = machine.state;
        if let Some((event, what)) = unexpected(message, state) {
            return self.drive(peer, slot, event, Cause::because(format!("unexpected {what}")), now);
        }
        let context = machine.negotiated.as_ref().map_or_else(DecodeContext::default, |agreed| agreed.context(ibgp));
        match decode(message, &context) {
            Ok(Message::Open(open)) => self.received_open(peer, slot, &open, now),
            Ok(Message::Keepalive) => self.received_keepalive(peer, slot, state, now),
            Ok(Message::Update(update)) => {
                self.drive(peer, slot, FsmEvent::UpdateReceived, Cause::because("unexpected UPDATE"), now);
                if state == FsmState::Established {
                    self.received_update(peer, update, now);
                }
            }
            Ok(Message::RouteRefresh(refresh)) => {
                self.drive(peer, slot, FsmEvent::UpdateReceived, Cause::because("unexpected ROUTE-REFRESH"), now);
                if state == FsmState::Established {
                    self.received_refresh(peer, refresh, now);
                }
            }
            Ok(Message::Notification(notification)) => {
                self.counters.notifications_received += 1;
                let words = notification.to_string();
                self.event(Some(peer), EventKind::NotificationReceived(words.clone()));
                self.peers[peer].shutdown_message = notification.communication();
                let flush = notification.is_hard_reset();
                let cause = Cause { flush, ..Cause::because(format!("received NOTIFICATION: {words}")) };
                self.drive(peer, slot, FsmEvent::NotificationReceived, cause, now);
            }
            Err(notification) => match (notification.code, state) {
                // RFC 4271 section 8.2.2: where the message itself is out of place, its errors are of no interest.
                (Notification::OPEN_MESSAGE_ERROR, FsmState::Established) => {
                    self.drive(peer, slot, FsmEvent::OpenReceived, Cause::because("unexpected OPEN"), now);
                }
                (
                    Notification::UPDATE_MESSAGE_ERROR | Notification::ROUTE_REFRESH_MESSAGE_ERROR,
                    FsmState::OpenSent | FsmState::OpenConfirm,
                ) => {
                    let cause = Cause::because("unexpected UPDATE or ROUTE-REFRESH");
                    self.drive(peer, slot, FsmEvent::UpdateReceived, cause, now);
                }
                _ => self.message_error(peer, slot, notification, now),
            },
        }
    }

    fn message_error(&mut self, peer: usize, slot: Slot, notification: Notification, now: Now) {
        let cause = Cause::notify(notification.clone(), format!("error in a message: {notification}"));
        self.drive(peer, slot, FsmEvent::MessageError, cause, now);
    }

    fn received_open(&mut self, peer: usize, slot: Slot, open: &Open, now: Now) {
        self.learn_asn(peer, open.asn);
        let known = &mut self.peers[peer];
        known.capabilities = open.capabilities.iter().map(ToString::to_string).collect();
        let (peer_asn, keepalive) = (known.config.asn, known.config.keepalive);
        let state = known.connection(slot).map(|connection| connection.state);
        if state != Some(FsmState::OpenSent) {
            return self.drive(peer, slot, FsmEvent::OpenReceived, Cause::because("unexpected OPEN"), now);
        }
        let Some(ours) = self.local_open(peer) else { return };
        let agreed = match ours.negotiate(open, peer_asn, keepalive) {
            Ok(agreed) => agreed,
            Err(refused) => {
                let cause = Cause::notify(refused.notification, refused.reason);
                return self.drive(peer, slot, FsmEvent::MessageError, cause, now);
            }
        };
        if let Some(slot) = self.resolve_collision(peer, slot, &agreed, now) {
            let cause = Cause { negotiated: Some(agreed), ..Cause::because("received OPEN") };
            self.drive(peer, slot, FsmEvent::OpenReceived, cause, now);
        }
    }

    fn received_keepalive(&mut self, peer: usize, mut slot: Slot, state: FsmState, now: Now) {
        if state == FsmState::Established {
            self.peers[peer].keepalive_seen = true;
        }
        if slot == Slot::Rival && state == FsmState::OpenConfirm {
            // This connection becomes the session, so that the other one ends and leaves it its place.
            let collision = Notification::cease(Cease::ConnectionCollisionResolution);
            let cause = Cause::notify(collision, "the other connection became the session");
            self.drive(peer, Slot::Primary, FsmEvent::CollisionDump, cause, now);
            slot = Slot::Primary;
        }
        self.drive(peer, slot, FsmEvent::KeepaliveReceived, Cause::because("received KEEPALIVE"), now);
    }

    /// Says what was wrong with an UPDATE, but not for ever: who sends nothing else must not fill the log.
    fn tell_problems(&mut self, peer: usize, update: &Update, now: Now) {
        let more = match self.peers[peer].malformed_events.tell(now.mono) {
            Telling::Yes => "",
            Telling::Last => "; further ones within a minute are only counted",
            Telling::No => return,
        };
        for problem in &update.problems {
            self.event(Some(peer), EventKind::MalformedUpdate(format!("{problem}{more}")));
        }
    }

    fn received_update(&mut self, peer: usize, update: Update, now: Now) {
        self.counters.updates_received += 1;
        self.peers[peer].updates_received += 1;
        if !update.problems.is_empty() {
            self.counters.malformed_updates += 1;
            self.peers[peer].malformed_updates += 1;
            self.tell_problems(peer, &update, now);
        }
        if let Some(routing) = &mut self.routing {
            for withdrawal in &update.withdrawn {
                routing.withdraw(peer, withdrawal.family, &withdrawal.prefixes, &withdrawal.path_ids);
            }
            for Announcement { family, prefixes, path_ids, attributes } in update.announced {
                routing.announce(peer, family, &prefixes, &path_ids, attributes);
            }
        }
        if let Some(family) = update.end_of_rib {
            self.end_of_rib(peer, family);
        }
        self.check_limits(peer, now);
    }
}

/// Finds a message that has no place in the state, whatever is in it: RFC 4271 section 8.2.2 answers it by a Finite State
/// Machine Error, not by what else may be wrong with it.
fn unexpected(message: &[u8], state: FsmState) -> Option<(FsmEvent, &'static str)> {
    match (message.get(HEADER_LEN - 1)?, state) {
        (1, FsmState::Established) => Some((FsmEvent::OpenReceived, "OPEN")),
        (_, FsmState::Established) => None,
        (2, _) => Some((FsmEvent::UpdateReceived, "UPDATE")),
        (5, _) => Some((FsmEvent::UpdateReceived, "ROUTE-REFRESH")),
        _ => None,
    }
}
