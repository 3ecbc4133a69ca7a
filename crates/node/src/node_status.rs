//! What CalicoNodeStatus reports of a node: the speaker, its peers and its routes, in Calico's names.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::SystemTime;

use margay_bgp_core::{FsmState, PathSource, PathView, PeerView, RouteView, SpeakerConfig};
use margay_net::{Family, LocalRouteSource, NextHop};
use serde_json::{Value, json};

mod reporter;

pub(crate) use reporter::Reporter;

/// The part of the status that is asked for (`spec.classes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Agent,
    Bgp,
    Routes,
}

/// What a report is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeView<'a> {
    pub(crate) classes: &'a BTreeSet<Class>,
    /// None before the speaker is configured.
    pub(crate) config: Option<&'a SpeakerConfig>,
    pub(crate) peers: &'a [PeerView],
    pub(crate) routes: &'a [RouteView],
    /// Whether best routes are in the kernel as soon as they are chosen.
    pub(crate) kernel_in_sync: bool,
    pub(crate) started: SystemTime,
    /// When the configuration in force was applied.
    pub(crate) configured: SystemTime,
    pub(crate) now: SystemTime,
}

/// Whose peering a peer is, for `type`: by the name that the node's configuration gives it, and what BGPPeers are global.
pub(crate) type Kind<'a> = &'a dyn Fn(&PeerView) -> PeerKind;

/// Calico's kinds of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerKind {
    Mesh,
    Node,
    Global,
}

/// Returns the `status` of a CalicoNodeStatus. Parts that are not asked for are absent. Calico has a daemon for each
/// family; here both are the one speaker.
pub(crate) fn report(view: NodeView<'_>, kind: Kind<'_>) -> Value {
    let mut status = json!({ "lastUpdated": time(view.now) });
    if view.classes.contains(&Class::Agent) {
        status["agent"] = json!({ "birdV4": agent(view), "birdV6": agent(view) });
    }
    if view.classes.contains(&Class::Bgp) {
        let mut bgp = json!({});
        for (family, suffix) in [(Family::V4, "V4"), (Family::V6, "V6")] {
            let of_family = || view.peers.iter().filter(|peer| Family::of(peer.remote) == family);
            let up = of_family().filter(|peer| peer.state == FsmState::Established).count();
            bgp[format!("numberEstablished{suffix}")] = up.into();
            bgp[format!("numberNotEstablished{suffix}")] = (of_family().count() - up).into();
            bgp[format!("peers{suffix}")] = of_family().map(|view| peer(view, kind)).collect();
        }
        status["bgp"] = bgp;
    }
    if view.classes.contains(&Class::Routes) {
        let mut routes = json!({});
        for (family, suffix) in [(Family::V4, "V4"), (Family::V6, "V6")] {
            let of_family = view.routes.iter().filter(|route| route.prefix.family() == family);
            let entries: Vec<Value> = of_family.flat_map(|route| entries(route, view, kind)).collect();
            routes[format!("routes{suffix}")] = entries.into();
        }
        status["routes"] = routes;
    }
    status
}

fn agent(view: NodeView<'_>) -> Value {
    json!({
        "state": if view.config.is_some() { "Ready" } else { "NotReady" },
        "version": format!("margay {}", env!("CARGO_PKG_VERSION")),
        "routerID": view.config.map(|config| config.router_id.to_string()).unwrap_or_default(),
        "lastBootTime": time(view.started),
        "lastReconfigurationTime": time(view.configured),
    })
}

fn peer(view: &PeerView, kind: Kind<'_>) -> Value {
    json!({
        "peerIP": view.remote.to_string(),
        "type": match kind(view) {
            PeerKind::Mesh => "NodeMesh",
            PeerKind::Node => "NodePeer",
            PeerKind::Global => "GlobalPeer",
        },
        "state": format!("{:?}", view.state),
        "since": time(view.since),
    })
}

/// An entry for each next hop of the best paths, which are in the kernel, and for each other path that could be used.
fn entries(route: &RouteView, view: NodeView<'_>, kind: Kind<'_>) -> Vec<Value> {
    let usable = route.paths.iter().filter(|path| path.rejected.is_none());
    let entry = |path: &PathView| {
        let used = path.best || path.multipath;
        let learned = matches!(path.source, PathSource::Peer(_));
        let in_kernel = used && (!learned || view.kernel_in_sync);
        let hop = path.attributes.next_hop.filter(|_| learned);
        json!({
            "type": if in_kernel { "FIB" } else { "RIB" },
            "destination": route.prefix.to_string(),
            "gateway": hop.map_or_else(|| "N/A".to_owned(), |hop: IpAddr| hop.to_string()),
            "interface": interface(route, hop),
            "learnedFrom": learned_from(&path.source, view.peers, kind),
        })
    };
    usable.map(entry).collect()
}

/// The interface of a next hop, where the kernel was told one.
fn interface(route: &RouteView, hop: Option<IpAddr>) -> String {
    let through = |candidate: &&NextHop| Some(candidate.addr) == hop;
    route.next_hops.iter().find(through).and_then(|hop| hop.interface.clone()).unwrap_or_default()
}

fn learned_from(source: &PathSource, peers: &[PeerView], kind: Kind<'_>) -> Value {
    match source {
        PathSource::Local(LocalRouteSource::Workload) => json!({ "sourceType": "Kernel" }),
        PathSource::Local(LocalRouteSource::Loopback | LocalRouteSource::Connected) => {
            json!({ "sourceType": "Direct" })
        }
        PathSource::Local(LocalRouteSource::Block | LocalRouteSource::Static | LocalRouteSource::Service) => {
            json!({ "sourceType": "Static" })
        }
        PathSource::Peer(name) => {
            let Some(peer) = peers.iter().find(|peer| peer.name == *name) else {
                return json!({ "sourceType": "BGPPeer" });
            };
            let source_type = if kind(peer) == PeerKind::Mesh { "NodeMesh" } else { "BGPPeer" };
            json!({ "sourceType": source_type, "peerIP": peer.remote.to_string() })
        }
    }
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv4Addr;
    use std::time::Duration;

    use margay_bgp_core::{AttributesView, RejectReason};
    use margay_net::Asn;

    use super::*;
    use crate::bgp_view::tests::view;

    fn path(source: PathSource, hop: Option<&str>, best: bool, rejected: Option<RejectReason>) -> PathView {
        let attributes = AttributesView {
            origin: "igp".to_owned(),
            as_path: "65001".to_owned(),
            next_hop: hop.map(|hop| hop.parse().unwrap()),
            med: None,
            local_pref: None,
            communities: Vec::new(),
            originator_id: None,
            cluster_list: Vec::new(),
        };
        PathView {
            source,
            path_id: None,
            attributes,
            best,
            multipath: false,
            stale: false,
            lost: None,
            rejected,
            reason: None,
        }
    }

    #[test]
    fn a_report_has_calicos_words() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut up = view("mesh-n2", now);
        up.state = FsmState::Established;
        let mut v6 = view("tor-v6", now);
        v6.remote = "2001:db8::1".parse().unwrap();
        let peer = PathSource::Peer(up.name.clone());
        let peers = [up, v6];
        let hop = NextHop { addr: "192.0.2.2".parse().unwrap(), interface: Some("eth0".to_owned()) };
        let routes = [
            RouteView {
                prefix: "10.65.0.0/26".parse().unwrap(),
                next_hops: BTreeSet::new(),
                discard: false,
                paths: vec![path(PathSource::Local(LocalRouteSource::Block), None, true, None)],
            },
            RouteView {
                prefix: "10.65.1.0/26".parse().unwrap(),
                next_hops: BTreeSet::from([hop]),
                discard: false,
                paths: vec![
                    path(peer.clone(), Some("192.0.2.2"), true, None),
                    path(peer.clone(), Some("192.0.2.3"), false, None),
                    path(peer, Some("192.0.2.4"), false, Some(RejectReason::AsPathLoop)),
                ],
            },
        ];
        let config = SpeakerConfig::new(Asn(64512), Ipv4Addr::new(192, 0, 2, 1));
        let all = BTreeSet::from([Class::Agent, Class::Bgp, Class::Routes]);
        let node = NodeView {
            classes: &all,
            config: Some(&config),
            peers: &peers,
            routes: &routes,
            kernel_in_sync: true,
            started: now - Duration::from_secs(60),
            configured: now - Duration::from_secs(30),
            now,
        };
        let kind = |peer: &PeerView| {
            if peer.name.as_str().starts_with("mesh-") { PeerKind::Mesh } else { PeerKind::Global }
        };
        let agent = json!({
            "state": "Ready", "version": format!("margay {}", env!("CARGO_PKG_VERSION")), "routerID": "192.0.2.1",
            "lastBootTime": "1970-01-12T13:45:40Z", "lastReconfigurationTime": "1970-01-12T13:46:10Z",
        });
        let learned = json!({ "sourceType": "NodeMesh", "peerIP": "192.0.2.2" });
        let expected = json!({
            "lastUpdated": "1970-01-12T13:46:40Z",
            "agent": { "birdV4": agent, "birdV6": agent },
            "bgp": {
                "numberEstablishedV4": 1, "numberNotEstablishedV4": 0,
                "peersV4": [{
                    "peerIP": "192.0.2.2", "type": "NodeMesh", "state": "Established", "since": "1970-01-12T13:43:28Z",
                }],
                "numberEstablishedV6": 0, "numberNotEstablishedV6": 1,
                "peersV6": [{
                    "peerIP": "2001:db8::1", "type": "GlobalPeer", "state": "Active", "since": "1970-01-12T13:43:28Z",
                }],
            },
            "routes": {
                "routesV4": [
                    {
                        "type": "FIB", "destination": "10.65.0.0/26", "gateway": "N/A", "interface": "",
                        "learnedFrom": { "sourceType": "Static" },
                    },
                    {
                        "type": "FIB", "destination": "10.65.1.0/26", "gateway": "192.0.2.2", "interface": "eth0",
                        "learnedFrom": learned,
                    },
                    {
                        "type": "RIB", "destination": "10.65.1.0/26", "gateway": "192.0.2.3", "interface": "",
                        "learnedFrom": learned,
                    },
                ],
                "routesV6": [],
            },
        });
        assert_eq!(report(node, &kind), expected);
        let bgp = BTreeSet::from([Class::Bgp]);
        let part = report(NodeView { classes: &bgp, config: None, ..node }, &kind);
        assert!(part.get("agent").is_none() && part.get("routes").is_none() && part.get("bgp").is_some());
    }
}
