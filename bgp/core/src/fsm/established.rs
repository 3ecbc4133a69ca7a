//! Established: routes are exchanged.

use super::{Action, FsmEvent, Notify, Step, Timer};
use crate::view::FsmState;

/// Receive Unexpected Message in Established State (RFC 6608 section 3).
const UNEXPECTED_IN_ESTABLISHED: u8 = 3;

pub(super) fn on(event: FsmEvent) -> Step {
    match event {
        FsmEvent::Start | FsmEvent::Connected => Step::to(FsmState::Established, &[]),
        FsmEvent::Stop => Step::to(
            FsmState::Idle,
            &[
                Action::Notify(Notify::OfEvent),
                Action::DropConnection,
                Action::DisarmAll,
                Action::SessionDown { retain: false },
            ],
        ),
        FsmEvent::KeepaliveExpired => {
            Step::to(FsmState::Established, &[Action::SendKeepalive, Action::Arm(Timer::Keepalive)])
        }
        FsmEvent::KeepaliveReceived => Step::to(FsmState::Established, &[Action::Arm(Timer::Hold)]),
        FsmEvent::UpdateReceived => Step::to(FsmState::Established, &[Action::Arm(Timer::Hold), Action::DeliverUpdate]),
        FsmEvent::HoldExpired => end(Some(Notify::HoldTimerExpired), false),
        FsmEvent::MessageError | FsmEvent::CollisionDump => end(Some(Notify::OfEvent), false),
        FsmEvent::NotificationReceived => end(None, false),
        FsmEvent::TransportFailed => end(None, true),
        FsmEvent::ConnectRetryExpired | FsmEvent::IdleHoldExpired | FsmEvent::OpenReceived => {
            end(Some(Notify::FsmError(UNEXPECTED_IN_ESTABLISHED)), false)
        }
    }
}

/// Ends the session. Its routes can be retained only where no NOTIFICATION went either way (RFC 4724 section 4.2).
fn end(notify: Option<Notify>, retain: bool) -> Step {
    let mut step = super::give_up(notify);
    step.actions.push(Action::SessionDown { retain });
    step
}
