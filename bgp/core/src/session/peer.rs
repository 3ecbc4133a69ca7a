use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use margay_net::{Family, Instant, Now};

use super::connection::Connection;
use super::limit::EventLimit;
use crate::config::{PeerConfig, PeerName};
use crate::io::ConnectionId;
use crate::view::{BfdView, FsmState};

/// The shortest default of the send hold time (RFC 9687 section 4).
const SEND_HOLD_TIME: Duration = Duration::from_secs(8 * 60);
/// The waits between attempts, in seconds; the last one repeats, and none is longer than the configured retry time.
const BACK_OFF: [u64; 6] = [1, 2, 5, 10, 20, 30];

/// Which of a peer's two machines is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    Primary,
    /// The second connection while two compete (RFC 4271 section 6.8).
    Rival,
}

/// Paths kept over a restart of the peer (RFC 4724 section 4.2).
#[derive(Debug, Clone)]
pub(crate) struct Retained {
    /// Families with stale paths.
    pub(crate) families: BTreeSet<Family>,
    /// When they go at the latest.
    pub(crate) deadline: Instant,
}

/// There is no session before it ends.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) reason: String,
    /// Absent: until an operator resets the peer.
    pub(crate) until: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: PeerName,
    pub(crate) config: PeerConfig,
    pub(crate) primary: Connection,
    pub(crate) rival: Option<Connection>,
    /// Failed attempts since the last session.
    pub(crate) retries: usize,
    pub(crate) retained: Option<Retained>,
    /// Families whose End-of-RIB came on this session.
    pub(crate) end_of_rib: BTreeSet<Family>,
    /// Whether a KEEPALIVE came since the session is established.
    pub(crate) keepalive_seen: bool,
    pub(crate) since: SystemTime,
    pub(crate) last_error: Option<String>,
    pub(crate) messages_received: u64,
    pub(crate) messages_sent: u64,
    pub(crate) updates_received: u64,
    pub(crate) established_count: u64,
    /// The interface through which the peer is directly connected, once known.
    pub(crate) interface: Option<String>,
    /// The own address of the last session.
    pub(crate) local: Option<IpAddr>,
    pub(crate) last_error_at: Option<SystemTime>,
    /// What the last OPEN announced, in words.
    pub(crate) capabilities: Vec<String>,
    pub(crate) shutdown_message: Option<String>,
    /// The listen range that the peer was made from.
    pub(crate) range: Option<PeerName>,
    pub(crate) hold: Option<Hold>,
    /// Families whose prefix limit was warned of, and those that are known to be beyond it.
    pub(crate) warned: BTreeSet<Family>,
    pub(crate) exceeded: BTreeSet<Family>,
    /// What BFD said, since it was last asked for.
    pub(crate) bfd: BfdView,
    /// Families that the peer sends again, with the time at which what is missing goes.
    pub(crate) refreshing: BTreeMap<Family, Instant>,
    pub(crate) malformed_updates: u64,
    pub(crate) malformed_events: EventLimit,
    pub(crate) refreshes_received: u64,
    pub(crate) refreshes_sent: u64,
    /// When the peer is woken; never after [`Peer::next_deadline`].
    pub(crate) scheduled: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(name: PeerName, config: PeerConfig, now: Now) -> Peer {
        Peer {
            name,
            config,
            primary: Connection::new(now.mono),
            rival: None,
            retries: 0,
            retained: None,
            end_of_rib: BTreeSet::new(),
            keepalive_seen: false,
            since: now.wall,
            last_error: None,
            messages_received: 0,
            messages_sent: 0,
            updates_received: 0,
            established_count: 0,
            interface: None,
            local: None,
            last_error_at: None,
            capabilities: Vec::new(),
            shutdown_message: None,
            range: None,
            hold: None,
            warned: BTreeSet::new(),
            exceeded: BTreeSet::new(),
            bfd: BfdView { state: None, since: None, reason: None },
            refreshing: BTreeMap::new(),
            malformed_updates: 0,
            malformed_events: EventLimit::default(),
            refreshes_received: 0,
            refreshes_sent: 0,
            scheduled: None,
        }
    }

    pub(crate) fn connection(&mut self, slot: Slot) -> Option<&mut Connection> {
        match slot {
            Slot::Primary => Some(&mut self.primary),
            Slot::Rival => self.rival.as_mut(),
        }
    }

    /// Finds the machine that has a connection.
    pub(crate) fn slot_of(&self, id: ConnectionId) -> Option<Slot> {
        if self.primary.id == Some(id) {
            Some(Slot::Primary)
        } else if self.rival.as_ref().is_some_and(|rival| rival.id == Some(id)) {
            Some(Slot::Rival)
        } else {
            None
        }
    }

    /// Returns the state to show: that of the machine that is furthest.
    pub(crate) fn state(&self) -> FsmState {
        self.rival.as_ref().map_or(self.primary.state, |rival| rival.state.max(self.primary.state))
    }

    pub(crate) fn is_established(&self) -> bool {
        self.primary.state == FsmState::Established
    }

    /// Returns the wait before the next attempt, without jitter.
    pub(crate) fn back_off(&self) -> Duration {
        let seconds = BACK_OFF[self.retries.min(BACK_OFF.len() - 1)];
        let longest = self.config.connect_retry.max(Duration::from_secs(1));
        let wait = if self.retries < BACK_OFF.len() { Duration::from_secs(seconds) } else { longest };
        wait.min(longest)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let rival = self.rival.as_ref().and_then(Connection::next_deadline);
        let retained = self.retained.as_ref().map(|retained| retained.deadline);
        let refreshing = self.refreshing.values().min().copied();
        [self.primary.next_deadline(), rival, retained, refreshing].into_iter().flatten().min()
    }

    /// Returns how long sending may be blocked; `None`: for ever.
    pub(crate) fn send_hold_time(&self) -> Option<Duration> {
        let hold_time = self.primary.negotiated.as_ref().map(|agreed| agreed.hold_time).unwrap_or_default();
        let time = self.config.send_hold_time.unwrap_or(SEND_HOLD_TIME.max(hold_time * 2));
        (!time.is_zero()).then_some(time)
    }
}
