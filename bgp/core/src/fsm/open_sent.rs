//! OpenSent: our OPEN is sent, the peer's is waited for.

use super::{Action, FsmEvent, Notify, Step, Timer, give_up};
use crate::view::FsmState;

/// Receive Unexpected Message in OpenSent State (RFC 6608 section 3).
const UNEXPECTED_IN_OPEN_SENT: u8 = 1;

pub(super) fn on(event: FsmEvent) -> Step {
    match event {
        FsmEvent::Start | FsmEvent::Connected => Step::to(FsmState::OpenSent, &[]),
        FsmEvent::Stop => {
            Step::to(FsmState::Idle, &[Action::Notify(Notify::OfEvent), Action::DropConnection, Action::DisarmAll])
        }
        FsmEvent::HoldExpired => give_up(Some(Notify::HoldTimerExpired)),
        FsmEvent::SendHoldExpired => give_up(Some(Notify::SendHoldTimerExpired)),
        FsmEvent::TransportFailed => {
            Step::to(FsmState::Active, &[Action::DropConnection, Action::DisarmAll, Action::Arm(Timer::ConnectRetry)])
        }
        FsmEvent::OpenReceived => Step::to(
            FsmState::OpenConfirm,
            &[Action::DisarmAll, Action::SendKeepalive, Action::Arm(Timer::Keepalive), Action::Arm(Timer::Hold)],
        ),
        FsmEvent::MessageError | FsmEvent::CollisionDump | FsmEvent::AutomaticStop => give_up(Some(Notify::OfEvent)),
        FsmEvent::NotificationReceived => give_up(None),
        FsmEvent::ConnectRetryExpired
        | FsmEvent::KeepaliveExpired
        | FsmEvent::IdleHoldExpired
        | FsmEvent::KeepaliveReceived
        | FsmEvent::UpdateReceived => give_up(Some(Notify::FsmError(UNEXPECTED_IN_OPEN_SENT))),
    }
}
