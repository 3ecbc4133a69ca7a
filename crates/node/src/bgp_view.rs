//! The speaker's views in the words of the local API.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use margay_bgp_core::{
    AdvertisementView, AttributesView, BfdState, BfdView, DrainView, FsmState, PathSource, PathView, PeerView,
    PrefixCounts, RouteView, WaitView, WhyView,
};
use margay_bgp_speaker::{ListenStatus, ListenerState};
use margay_local_api::{BgpAdvertisement, BgpPathView, BgpPeerView, BgpRouteView, BgpWait, BgpWhy};
use margay_net::{Cidr, NextHop};

mod neighbor;

pub(crate) use neighbor::neighbor;

pub(crate) fn peer(view: &PeerView, now: SystemTime) -> BgpPeerView {
    let sum = |count: fn(&PrefixCounts) -> usize| view.counts.values().map(count).sum::<usize>() as u64;
    let received = sum(|counts| counts.received);
    let rejected = sum(|counts| counts.rejected).min(received);
    let last_error = view.last_error.clone().unwrap_or_default();
    BgpPeerView {
        name: view.name.to_string(),
        address: view.remote.to_string(),
        asn: view.asn,
        state: format!("{:?}", view.state),
        since_seconds: seconds(now, view.since),
        reason: reason(view, now),
        received,
        accepted: received - rejected,
        advertised: sum(|counts| counts.advertised),
        graceful_restart: match (view.graceful_restart, view.restarting) {
            (_, true) => "peer is restarting".to_owned(),
            (true, false) => "agreed".to_owned(),
            (false, false) => "not offered by the peer".to_owned(),
        },
        last_error,
        rejected,
        description: view.description.clone().unwrap_or_default(),
        ibgp: view.ibgp,
        dynamic: view.dynamic,
        draining: view.draining,
        bfd: view.bfd.as_ref().map(bfd).unwrap_or_default(),
        bfd_reason: view.bfd.as_ref().and_then(|bfd| bfd.reason.clone()).unwrap_or_default(),
        last_error_seconds: view.last_error_at.map(|at| seconds(now, at)),
        capabilities: view.capabilities.clone(),
        waits: view.waits.iter().map(|view| wait(view, now)).collect(),
    }
}

/// Why a session is not up: what it waits for, else what ended it.
fn reason(view: &PeerView, now: SystemTime) -> String {
    if view.state == FsmState::Established {
        return String::new();
    }
    if !view.admin_up {
        return "shut down by configuration".to_owned();
    }
    let last_error = view.last_error.as_deref().unwrap_or_default();
    let mut words = match (view.restarting, last_error.is_empty()) {
        (true, _) => format!("restarting; its routes are kept. {last_error}"),
        (false, true) => "no connection yet".to_owned(),
        (false, false) => last_error.to_owned(),
    };
    for wait in view.waits.iter().map(|view| wait(view, now)) {
        words.push_str("; ");
        words.push_str(&wait.what);
        if let Some(left) = wait.until_seconds {
            words.push_str(&format!(" ({left}s)"));
        }
    }
    words
}

pub(crate) fn wait(view: &WaitView, now: SystemTime) -> BgpWait {
    let left = |until: SystemTime| until.duration_since(now).unwrap_or_default().as_secs_f64().ceil() as u64;
    BgpWait { what: view.what.clone(), until_seconds: view.until.map(left) }
}

/// The state in a word.
pub(crate) fn bfd(view: &BfdView) -> String {
    match view.state {
        None => "not running",
        Some(BfdState::AdminDown) => "admin down",
        Some(BfdState::Down { .. }) => "down",
        Some(BfdState::Init) => "init",
        Some(BfdState::Up) => "up",
    }
    .to_owned()
}

pub(crate) fn route(view: &RouteView) -> BgpRouteView {
    BgpRouteView {
        prefix: view.prefix.to_string(),
        paths: view.paths.iter().map(path).collect(),
        next_hops: view.next_hops.iter().map(next_hop).collect(),
    }
}

fn next_hop(hop: &NextHop) -> String {
    match &hop.interface {
        Some(interface) => format!("{}%{interface}", hop.addr),
        None => hop.addr.to_string(),
    }
}

fn path(view: &PathView) -> BgpPathView {
    BgpPathView {
        from: match &view.source {
            PathSource::Local(source) => format!("{source:?}").to_lowercase(),
            PathSource::Peer(name) => name.to_string(),
        },
        best: view.best,
        multipath: view.multipath,
        stale: view.stale,
        reason: view.reason.clone().unwrap_or_default(),
        rejected: view.rejected.is_some(),
        ..attributes(&view.attributes)
    }
}

fn attributes(view: &AttributesView) -> BgpPathView {
    BgpPathView {
        next_hop: view.next_hop.map_or_else(|| "here".to_owned(), |address: IpAddr| address.to_string()),
        as_path: view.as_path.clone(),
        origin: view.origin.clone(),
        local_pref: view.local_pref,
        med: view.med,
        communities: view.communities.clone(),
        originator_id: view.originator_id.map(|id| id.to_string()),
        cluster_list: view.cluster_list.iter().map(ToString::to_string).collect(),
        ..BgpPathView::default()
    }
}

pub(crate) fn why(prefix: Cidr, view: &WhyView, now: SystemTime) -> BgpWhy {
    BgpWhy {
        prefix: prefix.to_string(),
        route: view.route.as_ref().map(route),
        covered_by: view.covered_by.map(|cidr| cidr.to_string()),
        advertisements: view.advertisements.iter().map(advertisement).collect(),
        waits: view.waits.iter().map(|view| wait(view, now)).collect(),
    }
}

fn advertisement(view: &AdvertisementView) -> BgpAdvertisement {
    BgpAdvertisement {
        peer: view.peer.to_string(),
        advertised: view.advertised.is_some(),
        reason: view.words.clone(),
        path: view.advertised.as_ref().map(attributes),
    }
}

/// Since when the node is drained, and what comes next.
pub(crate) fn drain(view: &DrainView, now: SystemTime) -> String {
    let span = |seconds: u64| humantime::format_duration(Duration::from_secs(seconds)).to_string();
    let since = span(seconds(now, view.began));
    match view.withdraws {
        Some(at) => {
            let left = at.duration_since(now).unwrap_or_default().as_secs_f64().ceil() as u64;
            format!("since {since}: routes carry GRACEFUL_SHUTDOWN, and are withdrawn in {}", span(left))
        }
        None => format!("since {since}: all routes are withdrawn, until `undrain`"),
    }
}

/// Why nothing can connect to the speaker; empty where it listens.
pub(crate) fn listener(state: &ListenerState) -> String {
    let failed = state.sockets.iter().filter(|socket| socket.status != ListenStatus::Listening);
    failed.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

pub(crate) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn seconds(now: SystemTime, then: SystemTime) -> u64 {
    now.duration_since(then).unwrap_or_default().as_secs()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::{BTreeMap, BTreeSet};

    use margay_bgp_core::PeerName;
    use margay_net::{Asn, Family};

    use super::*;

    /// A peer that waits for its next attempt to connect.
    pub(crate) fn view(name: &str, now: SystemTime) -> PeerView {
        PeerView {
            name: PeerName::from(name),
            description: Some("rack a".to_owned()),
            remote: "192.0.2.2".parse().unwrap(),
            asn: Asn(65001),
            local_asn: Asn(64512),
            ibgp: false,
            admin_up: true,
            state: FsmState::Active,
            since: now - Duration::from_secs(192),
            last_error: Some("connection refused".to_owned()),
            local_address: None,
            remote_address: None,
            router_id: None,
            hold_time: None,
            keepalive: None,
            families: BTreeSet::new(),
            graceful_restart: false,
            restarting: false,
            end_of_rib: BTreeSet::new(),
            counts: BTreeMap::from([(
                Family::V4,
                PrefixCounts { received: 10, rejected: 3, advertised: 4, ..PrefixCounts::default() },
            )]),
            messages_received: 0,
            messages_sent: 0,
            updates_received: 0,
            established_count: 2,
            unsent_bytes: 0,
            last_error_at: Some(now - Duration::from_secs(5)),
            capabilities: vec!["route refresh".to_owned()],
            waits: vec![WaitView {
                what: "next attempt to connect".to_owned(),
                until: Some(now + Duration::from_millis(6200)),
            }],
            bfd: None,
            dynamic: false,
            draining: false,
            add_path_receive: BTreeSet::new(),
            add_path_send: BTreeSet::new(),
            refreshes_received: 0,
            refreshes_sent: 0,
            shutdown_message: None,
            malformed_updates: 0,
        }
    }

    #[test]
    fn a_session_that_is_not_up_says_why_and_what_it_waits_for() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut peer_view = view("tor", now);
        let shown = peer(&peer_view, now);
        assert_eq!(shown.reason, "connection refused; next attempt to connect (7s)");
        assert_eq!((shown.received, shown.accepted, shown.rejected, shown.advertised), (10, 7, 3, 4));
        assert_eq!((shown.since_seconds, shown.last_error_seconds), (192, Some(5)));
        peer_view.state = FsmState::Established;
        assert_eq!(peer(&peer_view, now).reason, "");
        peer_view.state = FsmState::Idle;
        peer_view.admin_up = false;
        assert_eq!(peer(&peer_view, now).reason, "shut down by configuration");
    }

    #[test]
    fn a_drain_says_since_when_and_what_comes_next() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut view =
            DrainView { began: now - Duration::from_secs(125), withdraws: Some(now + Duration::from_millis(4_200)) };
        assert_eq!(drain(&view, now), "since 2m 5s: routes carry GRACEFUL_SHUTDOWN, and are withdrawn in 5s");
        view.withdraws = None;
        assert_eq!(drain(&view, now), "since 2m 5s: all routes are withdrawn, until `undrain`");
    }
}
