//! Idle: no connection, and none wanted yet.

use super::{FsmEvent, Step, open, start};
use crate::view::FsmState;

pub(super) fn on(event: FsmEvent, passive: bool) -> Step {
    match event {
        FsmEvent::Start | FsmEvent::IdleHoldExpired => start(passive),
        FsmEvent::Connected => open(),
        FsmEvent::Stop => Step::to(FsmState::Idle, &[super::Action::DisarmAll]),
        _ => Step::to(FsmState::Idle, &[]),
    }
}
