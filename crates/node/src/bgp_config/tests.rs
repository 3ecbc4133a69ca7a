#![allow(clippy::unwrap_used)]

use margay_bgp_core::{OwnershipCheck, RouteOrigin};
use margay_net::Asn;

use super::golden::World;
use super::{BgpPlan, SessionKind};

const TWO_NODES: &str = "# node: n1\napiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n1}\n\
    spec: {bgp: {ipv4Address: 10.0.0.1/24}}\n---\napiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n2}\n\
    spec: {bgp: {ipv4Address: 10.0.0.2/24}}\n";

fn world(text: &str) -> World {
    let mut world = World::default();
    world.apply(TWO_NODES);
    world.apply(text);
    world
}

fn peer(name: &str, spec: &str) -> String {
    format!("apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

/// The peers whose configuration is another one in the second plan.
fn touched(before: &BgpPlan, after: &BgpPlan) -> Vec<String> {
    let mut names: Vec<String> =
        before.config.peers.keys().chain(after.config.peers.keys()).map(|it| it.to_string()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| before.config.peers.get(name.as_str()) != after.config.peers.get(name.as_str()));
    names
}

#[test]
fn the_same_resources_give_the_same_plan_whatever_was_before() {
    let world = world(&peer("tor", "peerIP: 10.0.0.254, asNumber: 65001"));
    let first = world.plan(None);
    assert_eq!(world.plan(Some(&first)), first);
}

#[test]
fn an_edit_of_each_field_touches_the_one_session_that_it_is_about() {
    let edits = [
        "asNumber: 65009",
        "asNumber: 65001, localASNumber: 65100",
        "asNumber: 65001, nextHopMode: Self",
        "asNumber: 65001, keepOriginalNextHop: true",
        "asNumber: 65001, password: {secretKeyRef: {name: a, key: b}}",
        "asNumber: 65001, sourceAddress: None",
        "asNumber: 65001, maxRestartTime: 60s",
        "asNumber: 65001, keepaliveTime: 5s",
        "asNumber: 65001, numAllowedLocalASNumbers: 1",
        "asNumber: 65001, ttlSecurity: 1",
        "asNumber: 65001, filters: [f]",
        "asNumber: 65001, description: text",
        "asNumber: 65001, adminState: Down",
        "asNumber: 65001, gracefulShutdown: true",
        "asNumber: 65001, families: [ipv4, ipv6]",
        "asNumber: 65001, holdTime: 30s",
        "asNumber: 65001, connectRetry: 5s",
        "asNumber: 65001, bfd: {}",
        "asNumber: 65001, maxPrefixes: {limit: 5}",
        "asNumber: 65001, addPath: {send: None}",
    ];
    for edit in edits {
        let mut world = world(&peer("tor", "peerIP: 10.0.0.254, asNumber: 65001"));
        world.apply("# secret: a/b = s3cret\n");
        world.apply("apiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: {name: f}\nspec: {importV4: [{action: Reject}]}\n");
        let before = world.plan(None);
        world.apply(&peer("tor", &format!("peerIP: 10.0.0.254, {edit}")));
        let after = world.plan(Some(&before));
        assert_eq!(touched(&before, &after), ["tor"], "{edit}");
        assert!(after.problems.is_empty(), "{edit}: {:?}", after.problems);
    }
}

#[test]
fn names_stay_apart_where_a_peer_is_named_as_a_mesh_session() {
    let plan = world(&peer("mesh-n2", "peerIP: 10.0.0.254, asNumber: 65001")).plan(None);
    let names: Vec<&str> = plan.config.peers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["mesh-n2", "mesh-n2-10.0.0.2"]);
    assert_eq!(plan.config.peers["mesh-n2"].asn, Asn(65001));
}

#[test]
fn an_explicit_peering_counts_before_the_mesh() {
    let plan = world(&peer("direct", "node: n1, peerIP: 10.0.0.2, asNumber: 64512")).plan(None);
    let kinds: Vec<SessionKind> = plan.sessions.values().map(|source| source.kind).collect();
    assert_eq!(kinds, [SessionKind::Node]);
}

#[test]
fn nothing_learned_from_one_external_peer_goes_to_another() {
    let plan = world(&peer("tor", "peerIP: 10.0.0.254, asNumber: 65001")).plan(None);
    let peer = &plan.config.peers["tor"];
    assert!(!peer.export.0.accept_by_default);
    let origins = peer.export.0.rules.iter().map(|rule| &rule.matches.origins);
    assert!(origins.into_iter().all(|origins| !origins.is_empty() && !origins.contains(&RouteOrigin::Ebgp)));
    assert_eq!(peer.ownership, OwnershipCheck::External);
    assert_eq!(plan.config.peers["mesh-n2"].ownership, OwnershipCheck::Node);
}
