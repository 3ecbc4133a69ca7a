use crate::packet::{Diagnostic, State};

/// What moves the state machine of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsmEvent {
    /// A packet that no rule discards says that the peer is in this state.
    Received(State),
    /// The detection time passed without a packet.
    DetectionExpired,
    /// The session is taken out of service here.
    Disable,
    /// The session is put into service again.
    Enable,
}

/// Tells the state that follows, with the diagnostic of the change; `None` where nothing changes (RFC 5880 section 6.2
/// and the end of section 6.8.6).
///
/// A peer that is administratively down takes the session down, but not one that is down already. Coming up clears the
/// diagnostic; `Init` keeps that of the failure before, so that the peer may read it.
pub fn transition(state: State, event: FsmEvent) -> Option<(State, Option<Diagnostic>)> {
    use FsmEvent::{DetectionExpired, Disable, Enable, Received};
    use State::{AdminDown, Down, Init, Up};
    match (state, event) {
        (AdminDown, Enable) => Some((Down, Some(Diagnostic::NONE))),
        (AdminDown, _) => None,
        (_, Disable) => Some((AdminDown, Some(Diagnostic::ADMINISTRATIVELY_DOWN))),
        (_, Enable) => None,
        (Init | Up, DetectionExpired) => Some((Down, Some(Diagnostic::DETECTION_TIME_EXPIRED))),
        (Init | Up, Received(AdminDown)) | (Up, Received(Down)) => {
            Some((Down, Some(Diagnostic::NEIGHBOR_SIGNALED_DOWN)))
        }
        (Down, Received(Down)) => Some((Init, None)),
        (Down, Received(Init)) | (Init, Received(Init | Up)) => Some((Up, Some(Diagnostic::NONE))),
        (Down, DetectionExpired | Received(AdminDown | Up)) | (Init, Received(Down)) | (Up, Received(Init | Up)) => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_answer_to_every_event() {
        use FsmEvent::{DetectionExpired, Disable, Enable, Received};
        use State::{AdminDown, Down, Init, Up};
        let none = Some(Diagnostic::NONE);
        let expired = Some(Diagnostic::DETECTION_TIME_EXPIRED);
        let signaled = Some(Diagnostic::NEIGHBOR_SIGNALED_DOWN);
        let admin = Some(Diagnostic::ADMINISTRATIVELY_DOWN);
        let events =
            [Received(AdminDown), Received(Down), Received(Init), Received(Up), DetectionExpired, Disable, Enable];
        #[rustfmt::skip]
        let table = [
            (AdminDown, [None, None, None, None, None, None, Some((Down, none))]),
            (Down, [None, Some((Init, None)), Some((Up, none)), None, None, Some((AdminDown, admin)), None]),
            (Init, [
                Some((Down, signaled)), None, Some((Up, none)), Some((Up, none)), Some((Down, expired)),
                Some((AdminDown, admin)), None,
            ]),
            (Up, [
                Some((Down, signaled)), Some((Down, signaled)), None, None, Some((Down, expired)),
                Some((AdminDown, admin)), None,
            ]),
        ];
        for (state, answers) in table {
            for (event, answer) in events.into_iter().zip(answers) {
                assert_eq!(transition(state, event), answer, "{state} {event:?}");
            }
        }
    }
}
