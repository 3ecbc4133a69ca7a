//! The speaker's views in the words of the local API.

use std::time::SystemTime;

use margay_bgp_core::{FsmState, PathSource, PathView, PeerView, RouteView};
use margay_bgp_speaker::{ListenStatus, ListenerState};
use margay_local_api::{BgpPathView, BgpPeerView, BgpRouteView};

pub(crate) fn peer(view: &PeerView, now: SystemTime) -> BgpPeerView {
    let established = view.state == FsmState::Established;
    let sum =
        |count: fn(&margay_bgp_core::PrefixCounts) -> usize| view.counts.values().map(count).sum::<usize>() as u64;
    let received = sum(|counts| counts.received);
    let last_error = view.last_error.clone().unwrap_or_default();
    let reason = match (established, view.admin_up, view.restarting) {
        (true, _, _) => String::new(),
        (false, false, _) => "shut down by configuration".to_owned(),
        (false, true, true) => format!("restarting; its routes are kept. {last_error}"),
        (false, true, false) if last_error.is_empty() => "no connection yet".to_owned(),
        (false, true, false) => last_error.clone(),
    };
    BgpPeerView {
        name: view.name.to_string(),
        address: view.remote.to_string(),
        asn: view.asn,
        state: format!("{:?}", view.state),
        since_seconds: now.duration_since(view.since).unwrap_or_default().as_secs(),
        reason,
        received,
        accepted: received - sum(|counts| counts.rejected).min(received),
        advertised: sum(|counts| counts.advertised),
        graceful_restart: match (view.graceful_restart, view.restarting) {
            (_, true) => "peer is restarting".to_owned(),
            (true, false) => "agreed".to_owned(),
            (false, false) => "not offered by the peer".to_owned(),
        },
        last_error,
    }
}

pub(crate) fn route(view: &RouteView) -> BgpRouteView {
    BgpRouteView { prefix: view.prefix.to_string(), paths: view.paths.iter().map(path).collect() }
}

fn path(view: &PathView) -> BgpPathView {
    let attributes = &view.attributes;
    BgpPathView {
        from: match &view.source {
            PathSource::Local(source) => format!("{source:?}").to_lowercase(),
            PathSource::Peer(name) => name.to_string(),
        },
        next_hop: attributes.next_hop.map(|addr| addr.to_string()).unwrap_or_else(|| "here".to_owned()),
        as_path: attributes.as_path.clone(),
        origin: attributes.origin.clone(),
        local_pref: attributes.local_pref,
        med: attributes.med,
        best: view.best,
        multipath: view.multipath,
        stale: view.stale,
        reason: view.reason.clone().unwrap_or_default(),
    }
}

/// Why nothing can connect to the speaker; empty where it listens.
pub(crate) fn listener(state: &ListenerState) -> String {
    let failed = state.sockets.iter().filter(|socket| socket.status != ListenStatus::Listening);
    failed.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
