//! Connections that come and go, and which of two is kept (RFC 4271 section 6.8).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use margay_net::Now;

use super::Speaker;
use super::drive::Cause;
use crate::fsm::FsmEvent;
use crate::io::{ConnectionId, EventKind, Output};
use crate::session::{Connection, Direction, Negotiated, Slot, Telling};
use crate::view::FsmState;
use crate::wire::{Cease, Notification, encode_notification};

/// A session younger than this isn't given up for a new connection whose OPEN doesn't say that the peer restarted: the
/// two may have crossed.
const SETTLED: Duration = Duration::from_secs(3);

impl Speaker {
    pub(super) fn accepted(&mut self, connection: ConnectionId, local: SocketAddr, remote: SocketAddr, now: Now) {
        let (local, remote) = (canonical(local), canonical(remote));
        let peer = match self.peer_at(remote).map_or_else(|| self.make_dynamic(remote.ip(), now), Ok) {
            Ok(peer) => peer,
            Err(reason) => return self.refuse(None, connection, remote, &reason),
        };
        let known = &self.peers[peer];
        if !known.config.admin_up {
            return self.refuse(Some(peer), connection, remote, "the peer is administratively down");
        }
        if let Some(hold) = &known.hold {
            let reason = format!("the peer is held: {}", hold.reason);
            return self.refuse(Some(peer), connection, remote, &reason);
        }
        if known.config.source.is_some_and(|source| source != local.ip()) {
            return self.refuse(Some(peer), connection, remote, "it came to another address than the session's own");
        }
        self.connections.insert(connection, peer);
        if matches!(known.primary.state, FsmState::Idle | FsmState::Active) {
            self.peers[peer].primary.attach(connection, Direction::Inbound, local, remote);
            self.drive(peer, Slot::Primary, FsmEvent::Connected, Cause::because("accepted a connection"), now);
            return;
        }
        if known.rival.is_some() {
            // The peer would not connect again if it still had the other one.
            let cause =
                Cause::notify(Notification::cease(Cease::ConnectionCollisionResolution), "the peer connected again");
            self.drive(peer, Slot::Rival, FsmEvent::CollisionDump, cause, now);
        }
        let mut rival = Connection::new(now.mono);
        rival.attach(connection, Direction::Inbound, local, remote);
        self.peers[peer].rival = Some(rival);
        self.drive(peer, Slot::Rival, FsmEvent::Connected, Cause::because("accepted a connection"), now);
    }

    fn refuse(&mut self, peer: Option<usize>, connection: ConnectionId, remote: SocketAddr, reason: &str) {
        self.counters.notifications_sent += 1;
        self.outputs.push_back(Output::Send {
            connection,
            bytes: encode_notification(&Notification::cease(Cease::ConnectionRejected)),
        });
        self.outputs.push_back(Output::Close { connection });
        // A flood of strangers must not fill the log.
        let more = match self.refused_events.tell(self.now.mono) {
            Telling::Yes => "",
            Telling::Last => "; further ones within a minute are not told",
            Telling::No => return,
        };
        self.event(peer, EventKind::ConnectionRefused { remote, reason: format!("{reason}{more}") });
    }

    /// Finds the peer with a remote address. A link-local one must be of one peer alone: the caller's scope is not
    /// known here.
    fn peer_at(&self, remote: SocketAddr) -> Option<usize> {
        self.names.values().copied().find(|&peer| self.peers[peer].config.remote == remote.ip())
    }

    pub(super) fn connected(&mut self, connection: ConnectionId, local: SocketAddr, remote: SocketAddr, now: Now) {
        let Some(&peer) = self.connections.get(&connection) else { return };
        let known = &mut self.peers[peer];
        if known.primary.id != Some(connection) || known.primary.state != FsmState::Connect {
            return;
        }
        known.primary.attach(connection, Direction::Outbound, local, remote);
        self.drive(peer, Slot::Primary, FsmEvent::Connected, Cause::because("connected"), now);
    }

    pub(super) fn transport_failed(&mut self, connection: ConnectionId, reason: String, now: Now) {
        let Some(peer) = self.connections.remove(&connection) else { return };
        if let Some(slot) = self.peers[peer].slot_of(connection) {
            self.drive(peer, slot, FsmEvent::TransportFailed, Cause::because(reason), now);
        }
    }

    /// Decides, when an OPEN came on `slot`, whether that connection goes on, and ends the other one where it loses.
    /// Returns the slot at which the connection then is, or `None` where it is the one that goes.
    pub(super) fn resolve_collision(&mut self, peer: usize, slot: Slot, open: &Negotiated, now: Now) -> Option<Slot> {
        let config = self.config.as_ref()?;
        let known = &self.peers[peer];
        let Some(rival) = &known.rival else { return Some(slot) };
        let (this, other, other_slot) = match slot {
            Slot::Primary => (&known.primary, rival, Slot::Rival),
            Slot::Rival => (rival, &known.primary, Slot::Primary),
        };
        let collision =
            Cause::notify(Notification::cease(Cease::ConnectionCollisionResolution), "connection collision");
        match other.state {
            FsmState::OpenConfirm => {
                let own = (config.router_id.to_bits(), known.config.own_asn(config.asn).0);
                // The connection that the side with the higher identifier opened is kept (RFC 6286 section 2.3).
                let ours_wins = own > (open.router_id.to_bits(), known.config.asn.0);
                let wanted = if ours_wins { Direction::Outbound } else { Direction::Inbound };
                if this.direction == wanted || other.direction == this.direction {
                    self.drive(peer, other_slot, FsmEvent::CollisionDump, collision, now);
                    // Where the primary went, the rival took its place.
                    return Some(Slot::Primary);
                }
            }
            FsmState::Established => {
                let old = other.negotiated.as_ref();
                let graceful = old.is_some_and(|old| old.graceful_restart.is_some());
                let settled = now.mono.since(other.since) >= SETTLED;
                let restarted = open.graceful_restart.as_ref().is_some_and(|restart| restart.restarting);
                if graceful && (restarted || settled) {
                    let cause = Cause::because("the peer restarted: it opened a new connection (RFC 4724)");
                    self.drive(peer, other_slot, FsmEvent::TransportFailed, cause, now);
                    return Some(Slot::Primary);
                }
            }
            _ => return Some(slot),
        }
        self.drive(peer, slot, FsmEvent::CollisionDump, collision, now);
        None
    }
}

/// Takes an IPv4 address out of the IPv6 one that a dual-stack listener shows it as.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}
