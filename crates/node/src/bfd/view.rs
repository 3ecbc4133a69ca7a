//! What is told of sessions, in the words of the control protocol.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use margay_bfd::{Diagnostic, Lateness, Reason, SessionView, State};
use margay_local_api::{BfdDiagnostic, BfdLateness, BfdSessionState, BfdSessionStatus};

use super::wanted::Name;

pub(super) fn session(view: &SessionView, (name, leaving): (&Name, bool), send_error: &str) -> BfdSessionStatus {
    let late_ms = match &view.reason {
        Reason::DetectionExpired { late, .. } | Reason::PeerDown { late, .. } => Some(ms(*late)),
        _ => None,
    };
    BfdSessionStatus {
        owner: name.owner.to_string(),
        id: name.id.to_string(),
        remote: view.key.remote,
        local: view.key.local,
        interface: view.key.interface.as_deref().map(str::to_owned),
        multihop: view.key.multihop,
        state: state(view.state),
        since_ms: since_epoch(view.since),
        reason: view.reason.to_string(),
        late_ms,
        diagnostic: diagnostic(view.diagnostic),
        remote_state: state(view.remote_state),
        remote_diagnostic: diagnostic(view.remote_diagnostic),
        control_plane_independent: view.control_plane_independent,
        discriminator: view.discriminator.0.get(),
        remote_discriminator: view.remote_discriminator.map_or(0, |discriminator| discriminator.0.get()),
        transmit_interval_ms: ms(view.transmit_interval),
        receive_interval_ms: ms(view.receive_interval),
        detection_time_ms: ms(view.detection_time),
        polling: view.polling,
        received: view.received,
        sent: view.sent,
        flaps: view.flaps,
        send_error: send_error.to_owned(),
        leaving,
    }
}

pub(super) fn lateness(lateness: Lateness) -> BfdLateness {
    BfdLateness {
        threshold_ms: ms(lateness.threshold),
        count: lateness.late,
        last_ms: ms(lateness.last),
        last_at_ms: lateness.last_at.map(since_epoch),
        max_ms: ms(lateness.max),
    }
}

fn state(state: State) -> BfdSessionState {
    match state {
        State::AdminDown => BfdSessionState::AdminDown,
        State::Down => BfdSessionState::Down,
        State::Init => BfdSessionState::Init,
        State::Up => BfdSessionState::Up,
    }
}

fn diagnostic(diagnostic: Diagnostic) -> BfdDiagnostic {
    BfdDiagnostic { code: diagnostic.code(), words: diagnostic.to_string() }
}

fn ms(span: Duration) -> u64 {
    span.as_millis().try_into().unwrap_or(u64::MAX)
}

fn since_epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, ms)
}
