use super::*;
use FsmEvent as E;
use FsmState as S;

const STATES: [S; 6] = [S::Idle, S::Connect, S::Active, S::OpenSent, S::OpenConfirm, S::Established];

/// Every event with the state that follows it, by the state before: RFC 4271 section 8.2.2.
#[rustfmt::skip]
const TABLE: [(E, [S; 6]); 16] = [
    //                        Idle         Connect        Active         OpenSent        OpenConfirm     Established
    (E::Start,                [S::Connect,  S::Connect,  S::Active,   S::OpenSent,    S::OpenConfirm, S::Established]),
    (E::Stop,                 [S::Idle,     S::Idle,     S::Idle,     S::Idle,        S::Idle,        S::Idle]),
    (E::AutomaticStop,        [S::Idle,     S::Idle,     S::Idle,     S::Idle,        S::Idle,        S::Idle]),
    (E::ConnectRetryExpired,  [S::Idle,     S::Connect,  S::Connect,  S::Idle,        S::Idle,        S::Idle]),
    (E::HoldExpired,          [S::Idle,     S::Idle,     S::Idle,     S::Idle,        S::Idle,        S::Idle]),
    (E::KeepaliveExpired,     [S::Idle,     S::Idle,     S::Idle,     S::Idle,        S::OpenConfirm, S::Established]),
    (E::IdleHoldExpired,      [S::Connect,  S::Idle,     S::Idle,     S::Idle,        S::Idle,        S::Idle]),
    (E::SendHoldExpired,      [S::Idle,     S::Idle,     S::Idle,     S::Idle,        S::Idle,        S::Idle]),
    (E::Connected,            [S::OpenSent, S::OpenSent, S::OpenSent, S::OpenSent,    S::OpenConfirm, S::Established]),
    (E::TransportFailed,      [S::Idle,     S::Active,   S::Active,   S::Active,      S::Idle,        S::Idle]),
    (E::OpenReceived,         [S::Idle,     S::Idle,     S::Idle,     S::OpenConfirm, S::Idle,        S::Idle]),
    (E::MessageError,         [S::Idle,     S::Idle,     S::Idle,     S::Idle,        S::Idle,        S::Idle]),
    (E::CollisionDump,        [S::Idle,     S::Idle,     S::Idle,     S::Idle,        S::Idle,        S::Idle]),
    (E::NotificationReceived, [S::Idle,     S::Idle,     S::Idle,     S::Idle,        S::Idle,        S::Idle]),
    (E::KeepaliveReceived,    [S::Idle,     S::Idle,     S::Idle,     S::Idle,        S::Established, S::Established]),
    (E::UpdateReceived,       [S::Idle,     S::Idle,     S::Idle,     S::Idle,        S::Idle,        S::Established]),
];

#[test]
fn every_event_in_every_state_leads_where_the_table_says() {
    for (event, expected) in TABLE {
        for (state, next) in STATES.into_iter().zip(expected) {
            assert_eq!(step(state, event, false).next, next, "{event:?} in {state}");
        }
    }
}

#[test]
fn a_session_is_left_only_with_its_routes_released() {
    for (event, _) in TABLE {
        for state in STATES {
            let step = step(state, event, false);
            let released = step.actions.iter().any(|action| matches!(action, Action::SessionDown { .. }));
            assert_eq!(released, state == S::Established && step.next != S::Established, "{event:?} in {state}");
            let raised = step.actions.contains(&Action::SessionUp);
            assert_eq!(raised, state != S::Established && step.next == S::Established, "{event:?} in {state}");
        }
    }
}

#[test]
fn a_session_that_ends_without_notification_needs_no_n_bit_to_keep_its_routes() {
    for (event, _) in TABLE {
        let retain = step(S::Established, event, false).actions.into_iter().find_map(|action| match action {
            Action::SessionDown { retain } => Some(retain),
            _ => None,
        });
        assert_eq!(retain == Some(Retain::Restart), event == E::TransportFailed, "{event:?}");
    }
}

#[test]
fn a_connection_that_is_given_up_is_dropped_and_no_session_timer_runs_on() {
    for (event, _) in TABLE {
        for state in [S::Connect, S::Active, S::OpenSent, S::OpenConfirm, S::Established] {
            let step = step(state, event, false);
            if step.next == S::Idle {
                assert!(step.actions.contains(&Action::DropConnection), "{event:?} in {state}");
                assert!(step.actions.contains(&Action::DisarmAll), "{event:?} in {state}");
            }
        }
    }
}

#[test]
fn an_unexpected_message_is_answered_with_the_subcode_of_its_state() {
    let notified = |state, event| {
        step(state, event, false).actions.into_iter().find_map(|action| match action {
            Action::Notify(notify) => Some(notify),
            _ => None,
        })
    };
    assert_eq!(notified(S::OpenSent, E::KeepaliveReceived), Some(Notify::FsmError(1)));
    assert_eq!(notified(S::OpenSent, E::UpdateReceived), Some(Notify::FsmError(1)));
    assert_eq!(notified(S::OpenConfirm, E::OpenReceived), Some(Notify::FsmError(2)));
    assert_eq!(notified(S::OpenConfirm, E::UpdateReceived), Some(Notify::FsmError(2)));
    assert_eq!(notified(S::Established, E::OpenReceived), Some(Notify::FsmError(3)));
    for state in [S::OpenSent, S::OpenConfirm, S::Established] {
        assert_eq!(notified(state, E::HoldExpired), Some(Notify::HoldTimerExpired));
        assert_eq!(notified(state, E::SendHoldExpired), Some(Notify::SendHoldTimerExpired));
        assert_eq!(notified(state, E::Stop), Some(Notify::OfEvent));
        assert_eq!(notified(state, E::AutomaticStop), Some(Notify::OfEvent));
        assert_eq!(notified(state, E::NotificationReceived), None);
    }
}

#[test]
fn a_passive_peer_waits_for_the_connection() {
    for event in [E::Start, E::IdleHoldExpired] {
        let step = step(S::Idle, event, true);
        assert_eq!(step.next, S::Active);
        assert!(!step.actions.contains(&Action::StartConnect));
    }
    assert_eq!(step(S::Active, E::ConnectRetryExpired, true).next, S::Active);
    assert_eq!(step(S::Active, E::Connected, true).next, S::OpenSent);
}
