//! Connect: an attempt to connect is under way.

use super::{Action, FsmEvent, Step, Timer, give_up, open};
use crate::view::FsmState;

pub(super) fn on(event: FsmEvent) -> Step {
    match event {
        FsmEvent::Start => Step::to(FsmState::Connect, &[]),
        FsmEvent::Stop => Step::to(FsmState::Idle, &[Action::DropConnection, Action::DisarmAll]),
        FsmEvent::ConnectRetryExpired => Step::to(
            FsmState::Connect,
            &[Action::DropConnection, Action::Arm(Timer::ConnectRetry), Action::StartConnect],
        ),
        FsmEvent::Connected => open(),
        FsmEvent::TransportFailed => {
            Step::to(FsmState::Active, &[Action::DropConnection, Action::Arm(Timer::ConnectRetry)])
        }
        _ => give_up(None),
    }
}
