//! An edit of a peer touches that peer's session at most, field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use margay_bgp_core::{
    AddPath, AddPathSend, BfdConfig, ExportPolicy, FsmState, ImportPolicy, LocalAsMode, MaxPrefixes, MaxPrefixesAction,
    NextHopMode, OwnershipCheck, PeerConfig, PeerView, PrefixMatch, RemovePrivateAs, RouteMatch, Rule, RuleAction,
    RuleSet, Secret,
};
use margay_net::{Asn, Family};

use crate::network::{Network, name, prefix, seconds};

/// What an edit does to the session of its own peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Keeps,
    Resets,
}
use Own::{Keeps, Resets};

type Edit = (&'static str, Own, fn(&mut PeerConfig));

fn rules() -> RuleSet {
    let matches = RouteMatch { prefixes: vec![PrefixMatch::within(prefix("192.0.2.0/24"))], ..RouteMatch::default() };
    RuleSet { rules: vec![Rule { matches, action: RuleAction::Reject, set: Vec::new() }], accept_by_default: true }
}

fn limit() -> BTreeMap<Family, MaxPrefixes> {
    BTreeMap::from([(Family::V4, MaxPrefixes { limit: 9, warning_percent: 80, action: MaxPrefixesAction::Warn })])
}

/// An edit of each field, and what it does.
fn edits() -> Vec<Edit> {
    // A new field must be given its place in the table.
    let PeerConfig {
        remote: _,
        remote_port: _,
        asn: _,
        local_asn: _,
        source: _,
        interface: _,
        passive: _,
        hold_time: _,
        keepalive: _,
        connect_retry: _,
        families: _,
        allow_own_as: _,
        next_hop: _,
        ttl_security: _,
        multihop: _,
        password: _,
        route_reflector_client: _,
        graceful_restart: _,
        restart_time: _,
        admin_up: _,
        description: _,
        export: _,
        import: _,
        bfd: _,
        add_path: _,
        max_prefixes: _,
        local_as_mode: _,
        as_override: _,
        remove_private_as: _,
        enforce_first_as: _,
        send_hold_time: _,
        honour_graceful_shutdown: _,
        honour_blackhole: _,
        graceful_shutdown: _,
        ownership: _,
    } = PeerConfig::new("192.0.2.1".parse().unwrap(), Asn(1));
    vec![
        ("remote", Resets, |peer| peer.remote = "203.0.113.1".parse().unwrap()),
        ("remote_port", Resets, |peer| peer.remote_port = 1179),
        ("asn", Resets, |peer| peer.asn = Asn(65099)),
        ("local_asn", Resets, |peer| peer.local_asn = Some(Asn(65098))),
        ("source", Resets, |peer| peer.source = Some("203.0.113.2".parse().unwrap())),
        ("interface", Resets, |peer| peer.interface = Some("eth9".to_owned())),
        ("passive", Keeps, |peer| peer.passive = true),
        ("hold_time", Resets, |peer| peer.hold_time = seconds(30)),
        ("keepalive", Keeps, |peer| peer.keepalive = Some(seconds(5))),
        ("connect_retry", Keeps, |peer| peer.connect_retry = seconds(5)),
        ("families", Resets, |peer| peer.families = BTreeSet::from(Family::ALL)),
        ("allow_own_as", Keeps, |peer| peer.allow_own_as = 1),
        ("next_hop", Keeps, |peer| peer.next_hop = NextHopMode::SelfAddress),
        ("ttl_security", Resets, |peer| peer.ttl_security = Some(1)),
        ("multihop", Resets, |peer| peer.multihop = true),
        ("password", Resets, |peer| peer.password = Some(Secret::new("new"))),
        ("route_reflector_client", Resets, |peer| peer.route_reflector_client = true),
        ("graceful_restart", Resets, |peer| peer.graceful_restart = false),
        ("restart_time", Resets, |peer| peer.restart_time = Some(seconds(77))),
        ("admin_up", Resets, |peer| peer.admin_up = false),
        ("description", Keeps, |peer| peer.description = Some("rack a".to_owned())),
        ("export", Keeps, |peer| peer.export = ExportPolicy(rules())),
        ("import", Keeps, |peer| peer.import = ImportPolicy(rules())),
        ("bfd", Keeps, |peer| peer.bfd = Some(BfdConfig::default())),
        ("add_path", Resets, |peer| peer.add_path = AddPath { receive: true, send: AddPathSend::All }),
        ("max_prefixes", Keeps, |peer| peer.max_prefixes = limit()),
        ("local_as_mode", Keeps, |peer| peer.local_as_mode = LocalAsMode::Prepend),
        ("as_override", Keeps, |peer| peer.as_override = true),
        ("remove_private_as", Keeps, |peer| peer.remove_private_as = RemovePrivateAs::Remove),
        ("enforce_first_as", Keeps, |peer| peer.enforce_first_as = false),
        ("send_hold_time", Keeps, |peer| peer.send_hold_time = Some(Duration::from_secs(500))),
        ("honour_graceful_shutdown", Keeps, |peer| peer.honour_graceful_shutdown = false),
        ("honour_blackhole", Keeps, |peer| peer.honour_blackhole = true),
        ("graceful_shutdown", Keeps, |peer| peer.graceful_shutdown = true),
        ("ownership", Keeps, |peer| peer.ownership = OwnershipCheck::External),
    ]
}

fn view(net: &Network, node: usize, other: usize) -> PeerView {
    let peers = net.nodes[node].speaker.peers();
    peers.into_iter().find(|peer| peer.name == name(other)).expect("a peer")
}

#[test]
fn an_edit_of_any_field_leaves_the_other_sessions_and_their_routes_alone() {
    for (field, own, edit) in edits() {
        let mut net = Network::new();
        let [edited, one, other] = [65001, 65002, 65003].map(|asn| net.node(asn));
        net.join(edited, one);
        net.join(edited, other);
        net.configure_all();
        net.announce(edited, [prefix("10.1.0.0/26")]);
        net.announce(one, [prefix("10.2.0.0/26")]);
        net.announce(other, [prefix("10.3.0.0/26")]);
        net.run(seconds(60));
        assert!(net.all_established(), "{field}: {:#?}", net.states());
        let since = view(&net, edited, other).since;
        let way = net.next_hops(other, "10.1.0.0/26");
        let changed = net.nodes[other].ways_changed;

        net.change_peer(edited, one, edit);
        net.run(seconds(20));

        let untouched = view(&net, edited, other);
        assert_eq!(untouched.state, FsmState::Established, "{field}");
        assert_eq!((untouched.established_count, untouched.since), (1, since), "{field}");
        assert_eq!(view(&net, other, edited).established_count, 1, "{field}");
        assert_eq!(net.next_hops(other, "10.1.0.0/26"), way, "{field}");
        // What the edited peer itself announces may come and go with its session; the node's own route must not.
        assert!(net.nodes[other].ways_changed <= changed + 1, "{field}");
        let touched = view(&net, edited, one);
        let kept = touched.state == FsmState::Established && touched.established_count == 1;
        assert_eq!(kept, own == Keeps, "{field}: {} {}", touched.state, touched.established_count);
    }
}
