//! Active: a connection of the peer is waited for, and the time to try again.

use super::{Action, FsmEvent, Step, Timer, give_up, open, start};
use crate::view::FsmState;

pub(super) fn on(event: FsmEvent, passive: bool) -> Step {
    match event {
        FsmEvent::Start => Step::to(FsmState::Active, &[]),
        FsmEvent::Stop => Step::to(FsmState::Idle, &[Action::DropConnection, Action::DisarmAll]),
        FsmEvent::ConnectRetryExpired => start(passive),
        FsmEvent::Connected => open(),
        FsmEvent::TransportFailed => {
            Step::to(FsmState::Active, &[Action::DropConnection, Action::Arm(Timer::ConnectRetry)])
        }
        _ => give_up(None),
    }
}
