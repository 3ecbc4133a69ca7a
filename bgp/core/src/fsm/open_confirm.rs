//! OpenConfirm: both OPENs are there, the peer's KEEPALIVE is waited for.

use super::{Action, FsmEvent, Notify, Step, Timer, give_up};
use crate::view::FsmState;

/// Receive Unexpected Message in OpenConfirm State (RFC 6608 section 3).
const UNEXPECTED_IN_OPEN_CONFIRM: u8 = 2;

pub(super) fn on(event: FsmEvent) -> Step {
    match event {
        FsmEvent::Start | FsmEvent::Connected => Step::to(FsmState::OpenConfirm, &[]),
        FsmEvent::Stop => {
            Step::to(FsmState::Idle, &[Action::Notify(Notify::OfEvent), Action::DropConnection, Action::DisarmAll])
        }
        FsmEvent::HoldExpired => give_up(Some(Notify::HoldTimerExpired)),
        FsmEvent::SendHoldExpired => give_up(Some(Notify::SendHoldTimerExpired)),
        FsmEvent::KeepaliveExpired => {
            Step::to(FsmState::OpenConfirm, &[Action::SendKeepalive, Action::Arm(Timer::Keepalive)])
        }
        FsmEvent::KeepaliveReceived => Step::to(FsmState::Established, &[Action::Arm(Timer::Hold), Action::SessionUp]),
        FsmEvent::MessageError | FsmEvent::CollisionDump | FsmEvent::AutomaticStop => give_up(Some(Notify::OfEvent)),
        FsmEvent::NotificationReceived | FsmEvent::TransportFailed => give_up(None),
        FsmEvent::ConnectRetryExpired
        | FsmEvent::IdleHoldExpired
        | FsmEvent::OpenReceived
        | FsmEvent::UpdateReceived => give_up(Some(Notify::FsmError(UNEXPECTED_IN_OPEN_CONFIRM))),
    }
}
