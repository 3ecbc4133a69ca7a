//! The finite state machine of one connection (RFC 4271 section 8), as a pure function from a state and an event to
//! the next state and what to do. One file per state.
//!
//! A peer has one machine, and a second one while two connections compete (section 6.8). Where this differs from the
//! letter of section 8.2.2:
//!
//! - There is no DelayOpen: OPEN is sent as soon as there is a connection.
//! - A failed attempt to connect leads to Active, where the next attempt is waited for, rather than to Idle.
//! - Idle after a failure waits for [`Timer::IdleHold`] (section 8.1.1, DampPeerOscillations), but takes a connection
//!   that the peer opens meanwhile, since a restarted peer is usually back before that.

mod active;
mod connect;
mod established;
mod idle;
mod open_confirm;
mod open_sent;

use smallvec::SmallVec;

use crate::view::FsmState;

/// The timers of a connection; each has one deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    ConnectRetry,
    /// The wait in Idle before the next start.
    IdleHold,
    Hold,
    Keepalive,
    /// How long bytes may wait to be sent (RFC 9687).
    SendHold,
}

impl Timer {
    pub(crate) const ALL: [Timer; 5] =
        [Timer::ConnectRetry, Timer::IdleHold, Timer::Hold, Timer::Keepalive, Timer::SendHold];
}

/// What happens to a connection. The numbers are those of RFC 4271 section 8.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FsmEvent {
    /// Events 1, 3 to 7.
    Start,
    /// Event 2; the caller knows which Cease it is.
    Stop,
    /// Event 8: BFD failed, or the peer announces more than it may. The caller has the Cease.
    AutomaticStop,
    /// Event 9.
    ConnectRetryExpired,
    /// Event 10.
    HoldExpired,
    /// Event 11.
    KeepaliveExpired,
    /// Event 13.
    IdleHoldExpired,
    /// The peer takes nothing any more (RFC 9687 section 4.3).
    SendHoldExpired,
    /// Events 16 and 17.
    Connected,
    /// Event 18.
    TransportFailed,
    /// Event 19.
    OpenReceived,
    /// Events 21, 22 and 28: the caller has the NOTIFICATION that the message calls for.
    MessageError,
    /// Event 23.
    CollisionDump,
    /// Events 24 and 25.
    NotificationReceived,
    /// Event 26.
    KeepaliveReceived,
    /// Event 27, and ROUTE-REFRESH (RFC 2918), which is allowed where UPDATE is.
    UpdateReceived,
}

/// Which NOTIFICATION is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notify {
    /// The one that the event came with: a Cease, or the error of a message.
    OfEvent,
    /// Hold Timer Expired.
    HoldTimerExpired,
    /// Send Hold Timer Expired (RFC 9687).
    SendHoldTimerExpired,
    /// Finite State Machine Error with the subcode of RFC 6608.
    FsmError(u8),
}

/// What graceful restart needs to hold for the routes of a session that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retain {
    /// No NOTIFICATION went either way: RFC 4724 is enough.
    Restart,
    /// One did: both sides must have announced the N bit (RFC 8538), and it must be no Hard Reset.
    Notified,
}

/// What is to be done, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    StartConnect,
    /// Closes the connection, or gives up the attempt.
    DropConnection,
    SendOpen,
    SendKeepalive,
    Notify(Notify),
    /// Starts a timer from its full time. Hold means the negotiated time, and nothing where that is zero.
    Arm(Timer),
    /// Starts Hold at the large value that is used before one is negotiated.
    ArmOpenHold,
    DisarmAll,
    SessionUp,
    /// The routes of the session go, or become stale where `retain` and the way in which it ended allow it.
    SessionDown {
        retain: Retain,
    },
    DeliverUpdate,
}

/// The outcome of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) next: FsmState,
    pub(crate) actions: SmallVec<[Action; 6]>,
}

impl Step {
    fn to(next: FsmState, actions: &[Action]) -> Step {
        Step { next, actions: SmallVec::from_slice(actions) }
    }
}

/// Returns what `event` does in `state`. `passive`: connections are only waited for.
pub(crate) fn step(state: FsmState, event: FsmEvent, passive: bool) -> Step {
    match state {
        FsmState::Idle => idle::on(event, passive),
        FsmState::Connect => connect::on(event),
        FsmState::Active => active::on(event, passive),
        FsmState::OpenSent => open_sent::on(event),
        FsmState::OpenConfirm => open_confirm::on(event),
        FsmState::Established => established::on(event),
    }
}

/// Starts on the way to a session: RFC 4271 section 8.2.2, Idle, events 1 and 4.
fn start(passive: bool) -> Step {
    if passive {
        Step::to(FsmState::Active, &[Action::DisarmAll])
    } else {
        Step::to(FsmState::Connect, &[Action::DisarmAll, Action::Arm(Timer::ConnectRetry), Action::StartConnect])
    }
}

/// Opens the session on a connection that is there.
fn open() -> Step {
    Step::to(FsmState::OpenSent, &[Action::DisarmAll, Action::SendOpen, Action::ArmOpenHold])
}

/// Gives up the connection without a session, with a NOTIFICATION where one is due.
fn give_up(notify: Option<Notify>) -> Step {
    let mut actions = SmallVec::new();
    actions.extend(notify.map(Action::Notify));
    actions.extend([Action::DropConnection, Action::DisarmAll, Action::Arm(Timer::IdleHold)]);
    Step { next: FsmState::Idle, actions }
}

#[cfg(test)]
mod tests;
