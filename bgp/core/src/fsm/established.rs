//! Established: routes are exchanged.

use super::{Action, FsmEvent, Notify, Retain, Step, Timer};
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
                Action::SessionDown { retain: Retain::Notified },
            ],
        ),
        FsmEvent::KeepaliveExpired => {
            Step::to(FsmState::Established, &[Action::SendKeepalive, Action::Arm(Timer::Keepalive)])
        }
        FsmEvent::KeepaliveReceived => Step::to(FsmState::Established, &[Action::Arm(Timer::Hold)]),
        FsmEvent::UpdateReceived => Step::to(FsmState::Established, &[Action::Arm(Timer::Hold), Action::DeliverUpdate]),
        FsmEvent::HoldExpired => end(Some(Notify::HoldTimerExpired), Retain::Notified),
        FsmEvent::SendHoldExpired => end(Some(Notify::SendHoldTimerExpired), Retain::Notified),
        FsmEvent::MessageError | FsmEvent::CollisionDump | FsmEvent::AutomaticStop => {
            end(Some(Notify::OfEvent), Retain::Notified)
        }
        FsmEvent::NotificationReceived => end(None, Retain::Notified),
        FsmEvent::TransportFailed => end(None, Retain::Restart),
        FsmEvent::ConnectRetryExpired | FsmEvent::IdleHoldExpired | FsmEvent::OpenReceived => {
            end(Some(Notify::FsmError(UNEXPECTED_IN_ESTABLISHED)), Retain::Notified)
        }
    }
}

/// Ends the session.
fn end(notify: Option<Notify>, retain: Retain) -> Step {
    let mut step = super::give_up(notify);
    step.actions.push(Action::SessionDown { retain });
    step
}
