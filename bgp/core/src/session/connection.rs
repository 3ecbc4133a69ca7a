use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use margay_net::Instant;

use super::open::Negotiated;
use crate::fsm::Timer;
use crate::io::ConnectionId;
use crate::view::FsmState;

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Outbound,
    Inbound,
}

/// One machine with its TCP connection, its timers and the bytes not yet decoded.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) state: FsmState,
    pub(crate) id: Option<ConnectionId>,
    pub(crate) direction: Direction,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) negotiated: Option<Negotiated>,
    /// When the state was entered.
    pub(crate) since: Instant,
    deadlines: [Option<Instant>; Timer::ALL.len()],
    undecoded: BytesMut,
}

impl Connection {
    pub(crate) fn new(now: Instant) -> Connection {
        Connection {
            state: FsmState::Idle,
            id: None,
            direction: Direction::Outbound,
            local: None,
            remote: None,
            negotiated: None,
            since: now,
            deadlines: [None; Timer::ALL.len()],
            undecoded: BytesMut::new(),
        }
    }

    /// Takes hold of a connection that is there.
    pub(crate) fn attach(&mut self, id: ConnectionId, direction: Direction, local: SocketAddr, remote: SocketAddr) {
        self.id = Some(id);
        self.direction = direction;
        self.local = Some(local);
        self.remote = Some(remote);
        self.negotiated = None;
        self.undecoded = BytesMut::new();
    }

    /// Lets go of the connection and returns its number.
    pub(crate) fn detach(&mut self) -> Option<ConnectionId> {
        self.local = None;
        self.remote = None;
        self.undecoded = BytesMut::new();
        self.id.take()
    }

    /// Joins new bytes to the undecoded ones and returns all; what stays undecoded comes back by
    /// [`Connection::keep_undecoded`].
    pub(crate) fn received(&mut self, bytes: Bytes) -> Bytes {
        if self.undecoded.is_empty() {
            return bytes;
        }
        self.undecoded.extend_from_slice(&bytes);
        self.undecoded.split().freeze()
    }

    /// Keeps the beginning of a message until the rest comes.
    pub(crate) fn keep_undecoded(&mut self, rest: &[u8]) {
        self.undecoded.extend_from_slice(rest);
    }

    pub(crate) fn arm(&mut self, timer: Timer, deadline: Instant) {
        self.deadlines[timer as usize] = Some(deadline);
    }

    pub(crate) fn disarm_all(&mut self) {
        self.deadlines = [None; Timer::ALL.len()];
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = None;
    }

    pub(crate) fn deadline(&self, timer: Timer) -> Option<Instant> {
        self.deadlines[timer as usize]
    }

    /// Takes a timer that is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let due = |timer: &Timer| self.deadlines[*timer as usize].is_some_and(|deadline| deadline <= now);
        let timer = Timer::ALL.into_iter().find(due)?;
        self.deadlines[timer as usize] = None;
        Some(timer)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }
}
