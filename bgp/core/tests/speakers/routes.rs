//! What becomes of routes.

use std::net::IpAddr;

use margay_bgp_core::{
    ExportPolicy, ImportPolicy, Input, LossReason, Multipath, NextHopMode, PathSource, PrefixMatch, RejectReason, Rib,
    RouteCounts, RouteFilter, RouteMatch, RouteOrigin, Rule, RuleAction, RuleSet, SetOperation,
};
use margay_net::{Asn, Cidr, Family, FromFelix, LinkState, LocalRoute, LocalRouteChange, LocalRouteSource};

use crate::network::{Network, many, name, prefix, seconds};

/// Returns the AS path of a node's best path.
fn as_path(net: &Network, node: usize, cidr: &str) -> Option<String> {
    let filter = RouteFilter { within: Some(prefix(cidr)), ..RouteFilter::default() };
    let route = net.nodes[node].speaker.routes(&filter).into_iter().next()?;
    Some(route.paths.first()?.attributes.as_path.clone())
}

#[test]
fn a_route_travels_through_ases_and_goes_when_it_is_withdrawn() {
    let mut net = Network::new();
    let (a, b, c) = (net.node(65001), net.node(65002), net.node(65003));
    net.join(a, b);
    net.join(b, c);
    net.configure_all();
    net.announce(a, [prefix("10.1.0.0/26")]);
    net.run_until(seconds(5), "the route is there", |net| net.nodes[2].fib.len() == 1);
    assert_eq!(as_path(&net, c, "10.1.0.0/26").unwrap(), "65002 65001");
    assert_eq!(net.next_hops(c, "10.1.0.0/26"), ["172.16.0.5"], "b's own address on the link");
    assert!(net.nodes[a].fib.is_empty(), "felix owns the node's own routes");
    net.withdraw(a, [prefix("10.1.0.0/26")]);
    net.run(seconds(1));
    assert!(net.nodes[b].fib.is_empty() && net.nodes[c].fib.is_empty());
    assert_eq!(net.nodes[c].speaker.counters().prefixes, 0);
    assert_eq!(net.nodes[c].speaker.counters().attribute_sets, 0);
}

#[test]
fn a_route_is_not_sent_back_to_where_it_came_from() {
    let mut net = Network::new();
    let (hub, a, b) = (net.node(65000), net.node(65001), net.node(65002));
    net.join(hub, a);
    net.join(hub, b);
    net.configure_all();
    net.announce(a, [prefix("10.1.0.0/26")]);
    net.announce(b, [prefix("10.2.0.0/26")]);
    net.run(seconds(5));
    let advertised = |other| {
        let routes = net.nodes[hub].speaker.advertised(&name(other));
        routes.into_iter().map(|route| route.prefix.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(advertised(a), ["10.2.0.0/26"]);
    assert_eq!(advertised(b), ["10.1.0.0/26"]);
    assert_eq!(net.nodes[a].speaker.received(&name(hub)).len(), 1);
}

#[test]
fn the_member_that_becomes_the_giver_is_told_that_its_route_is_gone() {
    let mut net = Network::new();
    let (hub, a, b, c) = (net.node(65000), net.node(65001), net.node(65002), net.node(65003));
    for other in [a, b, c] {
        net.join(hub, other);
    }
    net.configure_all();
    net.announce(b, [prefix("10.9.0.0/24")]);
    net.run(seconds(5));
    assert_eq!(net.nodes[a].speaker.received(&name(hub)).len(), 1);
    // a's path has the lower router id, so that it becomes the best one at the hub.
    net.announce(a, [prefix("10.9.0.0/24")]);
    net.run(seconds(1));
    assert_eq!(net.nodes[a].speaker.received(&name(hub)).len(), 0);
    assert_eq!(net.nodes[b].speaker.received(&name(hub)).len(), 1);
    assert_eq!(net.nodes[c].speaker.received(&name(hub))[0].paths[0].attributes.as_path, "65000 65001");
    net.withdraw(a, [prefix("10.9.0.0/24")]);
    net.run(seconds(1));
    assert_eq!(net.nodes[a].speaker.received(&name(hub)).len(), 1);
    assert_eq!(net.nodes[b].speaker.received(&name(hub)).len(), 0);
    assert_eq!(net.nodes[c].speaker.received(&name(hub))[0].paths[0].attributes.as_path, "65000 65002");
}

/// A node with two routers of different ASes that know the same destination.
fn two_uplinks() -> Network {
    let mut net = Network::new();
    let (node, left, right, far) = (net.node(65000), net.node(65001), net.node(65002), net.node(65009));
    net.join(node, left);
    net.join(node, right);
    net.join(left, far);
    net.join(right, far);
    net.configure_all();
    net.announce(far, [prefix("10.9.0.0/26")]);
    net
}

#[test]
fn paths_that_differ_in_as_path_content_alone_share_the_traffic() {
    let mut net = two_uplinks();
    net.run_until(seconds(5), "two next hops", |net| net.next_hops(0, "10.9.0.0/26").len() == 2);
    assert_eq!(net.next_hops(0, "10.9.0.0/26"), ["172.16.0.2", "172.16.0.6"]);
    let route = &net.nodes[0].speaker.routes(&RouteFilter::default())[0];
    assert!(route.paths[0].best && route.paths.iter().all(|path| path.multipath));
    assert_eq!(route.paths[1].lost, Some(LossReason::RouterId));
    assert_eq!(route.paths[1].reason.as_deref(), Some("higher router id: 10.255.0.3 > 10.255.0.2"));

    net.nodes[0].config.multipath = Multipath { relax_as_path_content: false, ..Multipath::default() };
    net.configure(0);
    assert_eq!(net.next_hops(0, "10.9.0.0/26").len(), 1);
    net.nodes[0].config.multipath = Multipath { ebgp: 1, ..Multipath::default() };
    net.configure(0);
    assert_eq!(net.next_hops(0, "10.9.0.0/26").len(), 1);
    net.nodes[0].config.multipath = Multipath::default();
    net.configure(0);
    assert_eq!(net.next_hops(0, "10.9.0.0/26").len(), 2);
}

#[test]
fn one_of_two_uplinks_that_falls_leaves_the_other() {
    let mut net = two_uplinks();
    net.interface(0, 0, true);
    net.run_until(seconds(5), "two next hops", |net| net.next_hops(0, "10.9.0.0/26").len() == 2);
    net.cut(0);
    net.interface(0, 0, false);
    assert_eq!(net.next_hops(0, "10.9.0.0/26"), ["172.16.0.6"]);
}

#[test]
fn ones_own_as_in_the_path_is_a_loop_unless_allowed() {
    let mut net = Network::new();
    // Two nodes of one AS behind a router of another, as with an AS per rack.
    let (a, tor, b) = (net.node(65001), net.node(65100), net.node(65001));
    net.join(a, tor);
    net.join(tor, b);
    net.configure_all();
    net.announce(a, [prefix("10.1.0.0/26")]);
    net.run(seconds(5));
    assert!(net.nodes[b].fib.is_empty());
    let received = net.nodes[b].speaker.received(&name(tor));
    assert_eq!(received[0].paths[0].rejected, Some(RejectReason::AsPathLoop));
    net.change_peer(b, tor, |peer| peer.allow_own_as = 1);
    assert_eq!(net.nodes[b].fib.len(), 1, "what came before is judged anew without a reset");
    assert_eq!(net.nodes[b].speaker.peers()[0].established_count, 1);
}

#[test]
fn ibgp_routes_stay_with_their_receiver_unless_reflected() {
    let mut net = Network::new();
    let (a, hub, b) = (net.node(65000), net.node(65000), net.node(65000));
    net.join(a, hub);
    net.join(hub, b);
    net.configure_all();
    net.announce(a, [prefix("10.1.0.0/26")]);
    net.run(seconds(5));
    assert_eq!((net.nodes[hub].fib.len(), net.nodes[b].fib.len()), (1, 0));
    net.change_peer(hub, a, |peer| peer.route_reflector_client = true);
    net.run_until(seconds(30), "reflected", |net| net.nodes[2].fib.len() == 1);
    let view = net.nodes[b].speaker.received(&name(hub))[0].paths[0].attributes.clone();
    assert_eq!(view.originator_id.unwrap().to_string(), "10.255.0.1");
    assert_eq!(view.cluster_list[0].to_string(), "10.255.0.2");
    assert_eq!((view.local_pref, view.as_path.as_str()), (Some(100), ""));
    assert_eq!(view.next_hop.unwrap().to_string(), "172.16.0.1", "a reflector leaves the next hop alone");
}

#[test]
fn ibgp_keeps_a_learned_next_hop_unless_told_otherwise() {
    let mut net = Network::new();
    let (outside, edge, inside) = (net.node(65001), net.node(65000), net.node(65000));
    net.join(outside, edge);
    net.join(edge, inside);
    net.configure_all();
    net.announce(outside, [prefix("10.1.0.0/26")]);
    net.announce(edge, [prefix("10.2.0.0/26")]);
    net.run_until(seconds(5), "both routes", |net| net.nodes[2].fib.len() == 2);
    assert_eq!(net.next_hops(inside, "10.1.0.0/26"), ["172.16.0.1"]);
    assert_eq!(net.next_hops(inside, "10.2.0.0/26"), ["172.16.0.5"]);
    net.change_peer(edge, inside, |peer| peer.next_hop = NextHopMode::SelfAddress);
    net.run(seconds(1));
    assert_eq!(net.next_hops(inside, "10.1.0.0/26"), ["172.16.0.5"]);
    assert_eq!(net.nodes[edge].speaker.peers()[1].established_count, 1);
}

fn policy(rules: Vec<Rule>, accept_by_default: bool) -> RuleSet {
    RuleSet { rules, accept_by_default }
}

fn rule(within: &str, action: RuleAction, set: Vec<SetOperation>) -> Rule {
    let matches = RouteMatch { prefixes: vec![PrefixMatch::within(prefix(within))], ..RouteMatch::default() };
    Rule { matches, action, set }
}

#[test]
fn a_changed_export_policy_is_applied_without_a_reset_and_tells_the_difference_alone() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join(a, b);
    net.configure_all();
    net.announce(a, [prefix("10.1.0.0/26"), prefix("10.2.0.0/26"), prefix("10.3.0.0/26")]);
    net.run_until(seconds(5), "three routes", |net| net.nodes[1].fib.len() == 3);
    let received = net.nodes[b].speaker.counters();
    let set = vec![SetOperation::AddCommunity(65001 << 16 | 7), SetOperation::Prepend { asn: Asn(65001), count: 2 }];
    let rules = vec![rule("10.1.0.0/16", RuleAction::Reject, vec![]), rule("10.2.0.0/16", RuleAction::Accept, set)];
    net.change_peer(a, b, |peer| peer.export = ExportPolicy(policy(rules, true)));
    net.run(seconds(1));
    let routes = net.nodes[b].speaker.received(&name(a));
    let prefixes: Vec<String> = routes.iter().map(|route| route.prefix.to_string()).collect();
    assert_eq!(prefixes, ["10.2.0.0/26", "10.3.0.0/26"]);
    assert_eq!(routes[0].paths[0].attributes.as_path, "65001 65001 65001");
    assert_eq!(routes[0].paths[0].attributes.communities, ["65001:7"]);
    assert_eq!(routes[1].paths[0].attributes.as_path, "65001");
    let now = net.nodes[b].speaker.counters();
    assert_eq!(now.prefixes_announced_received - received.prefixes_announced_received, 1);
    assert_eq!(now.prefixes_withdrawn_received - received.prefixes_withdrawn_received, 1);
    assert_eq!(net.nodes[b].speaker.peers()[0].established_count, 1);
}

#[test]
fn export_policy_tells_sources_apart() {
    let mut net = Network::new();
    let (a, b, c) = (net.node(65001), net.node(65002), net.node(65003));
    net.join(a, b);
    net.join(b, c);
    let matches = RouteMatch { origins: vec![RouteOrigin::Local(LocalRouteSource::Block)], ..RouteMatch::default() };
    let only_blocks = policy(vec![Rule { matches, action: RuleAction::Accept, set: vec![] }], false);
    net.nodes[b].config.peers.get_mut(&name(c)).unwrap().export = ExportPolicy(only_blocks);
    net.configure_all();
    net.announce(a, [prefix("10.1.0.0/26")]);
    net.announce(b, [prefix("10.2.0.0/26")]);
    net.run(seconds(5));
    let routes: Vec<String> = net.nodes[c].fib.keys().map(ToString::to_string).collect();
    assert_eq!(routes, ["10.2.0.0/26"]);
    let connected = LocalRoute { prefix: prefix("10.2.0.0/26"), source: LocalRouteSource::Connected };
    net.input(b, Input::Felix(FromFelix::Local(vec![LocalRouteChange::Announce(connected)])));
    net.run(seconds(1));
    assert!(net.nodes[c].fib.is_empty(), "the prefix is known from another source");
}

#[test]
fn import_policy_decides_anew_on_what_is_there() {
    let mut net = two_uplinks();
    net.run_until(seconds(5), "two next hops", |net| net.next_hops(0, "10.9.0.0/26").len() == 2);
    let prefer = policy(vec![rule("0.0.0.0/0", RuleAction::Accept, vec![SetOperation::LocalPref(200)])], true);
    net.change_peer(0, 2, |peer| peer.import = ImportPolicy(prefer));
    assert_eq!(net.next_hops(0, "10.9.0.0/26"), ["172.16.0.6"]);
    let route = &net.nodes[0].speaker.routes(&RouteFilter::default())[0];
    assert_eq!(route.paths[1].lost, Some(LossReason::LocalPref));
    net.change_peer(0, 2, |peer| peer.import = ImportPolicy(policy(vec![], false)));
    assert_eq!(net.next_hops(0, "10.9.0.0/26"), ["172.16.0.2"]);
    let received = net.nodes[0].speaker.received(&name(2));
    assert_eq!(received[0].paths[0].rejected, Some(RejectReason::NoPolicy));
    net.change_peer(0, 2, |peer| peer.import = ImportPolicy::accept_all());
    assert_eq!(net.next_hops(0, "10.9.0.0/26").len(), 2);
}

#[test]
fn a_prefix_of_the_node_itself_is_not_programmed_from_a_peer() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join(a, b);
    net.configure_all();
    net.announce(a, [prefix("10.1.0.0/26")]);
    net.run_until(seconds(5), "the route", |net| net.nodes[1].fib.len() == 1);
    net.announce(b, [prefix("10.1.0.0/26")]);
    assert!(net.nodes[b].fib.is_empty());
    let route = &net.nodes[b].speaker.routes(&RouteFilter::default())[0];
    assert_eq!(route.paths[0].source, PathSource::Local(LocalRouteSource::Block));
    assert_eq!(route.paths[1].lost, Some(LossReason::NotLocal));
    net.withdraw(b, [prefix("10.1.0.0/26")]);
    assert_eq!(net.nodes[b].fib.len(), 1);
}

#[test]
fn a_local_as_is_the_only_one_that_the_peer_sees() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join(a, b);
    net.nodes[a].config.peers.get_mut(&name(b)).unwrap().local_asn = Some(Asn(4_200_000_001));
    net.nodes[b].config.peers.get_mut(&name(a)).unwrap().asn = Asn(4_200_000_001);
    net.configure_all();
    net.announce(a, [prefix("10.1.0.0/26")]);
    net.run_until(seconds(5), "the route", |net| net.nodes[1].fib.len() == 1);
    assert_eq!(as_path(&net, b, "10.1.0.0/26").unwrap(), "4200000001");
}

#[test]
fn routes_can_be_asked_for_in_part() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join(a, b);
    net.configure_all();
    net.announce(a, many(100));
    net.announce(b, [prefix("10.1.0.0/26")]);
    net.run(seconds(5));
    let count = |filter: RouteFilter| net.nodes[b].speaker.routes(&filter).len();
    assert_eq!(count(RouteFilter::default()), 101);
    assert_eq!(count(RouteFilter { peer: Some(name(a)), ..RouteFilter::default() }), 100);
    assert_eq!(count(RouteFilter { within: Some(prefix("20.0.0.0/20")), ..RouteFilter::default() }), 16);
    assert_eq!(count(RouteFilter { limit: Some(7), ..RouteFilter::default() }), 7);
    assert_eq!(count(RouteFilter { peer: Some("nobody".into()), ..RouteFilter::default() }), 0);
    for (node, rib, whole) in
        [(b, Rib::Local, 101), (b, Rib::In(name(a)), 100), (a, Rib::Out(name(b)), 100), (b, Rib::Out(name(b)), 0)]
    {
        let speaker = &net.nodes[node].speaker;
        let filter = RouteFilter { rib, ..RouteFilter::default() };
        let routes = speaker.routes(&filter);
        assert_eq!(routes.len(), whole, "{filter:?}");
        let part = |from| speaker.prefixes_in(&filter, from..from + 7);
        let mut parts: Vec<Cidr> = (0..speaker.slots()).step_by(7).flat_map(part).collect();
        parts.sort();
        assert!(routes.iter().map(|route| route.prefix).eq(parts.iter().copied()), "{filter:?}");
        assert_eq!(speaker.routes_at(&filter.rib, &parts), routes);
        assert_eq!(speaker.routes_at(&filter.rib, &[prefix("10.9.9.0/24")]), []);
        let mut counts = RouteCounts::default();
        (0..speaker.slots()).step_by(7).for_each(|from| speaker.count_in(from..from + 7, &mut counts));
        assert_eq!(speaker.peers_with(&counts), speaker.peers());
    }
    let own: IpAddr = "172.16.0.1".parse().unwrap();
    assert_eq!(net.nodes[b].speaker.received(&name(a))[0].paths[0].attributes.next_hop, Some(own));
}

#[test]
fn ipv6_routes_have_a_session_of_their_own() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join_at(a, b, "2001:db8::1", "2001:db8::2");
    net.configure_all();
    net.announce(a, [prefix("fd00:10:1::/122"), prefix("10.1.0.0/26")]);
    net.run_until(seconds(5), "the IPv6 route", |net| net.nodes[1].fib.len() == 1);
    net.run(seconds(1));
    assert_eq!(net.next_hops(b, "fd00:10:1::/122"), ["2001:db8::1"]);
    assert_eq!(net.nodes[b].fib.len(), 1, "IPv4 isn't negotiated");
    net.withdraw(a, [prefix("fd00:10:1::/122")]);
    net.run(seconds(1));
    assert!(net.nodes[b].fib.is_empty());
}

#[test]
fn a_session_of_both_families_announces_the_interfaces_address_of_each() {
    let mut net = Network::new();
    let (a, b) = (net.node(65001), net.node(65002));
    net.join_with(a, b, |peer| peer.families = Family::ALL.into());
    net.configure_all();
    let addresses = ["172.16.0.1/30", "2001:db8::1/64", "fe80::1/64"].map(|address| {
        let (address, length) = address.split_once('/').unwrap();
        let address: IpAddr = address.parse().unwrap();
        (address, Cidr::truncated(address, length.parse().unwrap()).unwrap())
    });
    let link = LinkState { interface: "eth0".to_owned(), running: true, addresses: addresses.to_vec() };
    net.input(a, Input::Felix(FromFelix::Link(link)));
    net.announce(a, [prefix("fd00:10:1::/122"), prefix("10.1.0.0/26")]);
    net.run_until(seconds(5), "both routes", |net| net.nodes[1].fib.len() == 2);
    assert_eq!(net.next_hops(b, "fd00:10:1::/122"), ["2001:db8::1"]);
    assert_eq!(net.next_hops(b, "10.1.0.0/26"), ["172.16.0.1"]);
    net.run(seconds(1));
    assert_eq!(net.nodes[b].speaker.peers()[0].end_of_rib.len(), 2);
}

#[test]
fn well_known_communities_keep_routes_where_they_say() {
    const NO_EXPORT: u32 = 0xffff_ff01;
    const NO_ADVERTISE: u32 = 0xffff_ff02;
    for (community, at_inside, at_outside) in [(NO_EXPORT, 1, 0), (NO_ADVERTISE, 0, 0), (7, 1, 1)] {
        let mut net = Network::new();
        let (source, edge, inside, outside) = (net.node(65001), net.node(65000), net.node(65000), net.node(65002));
        net.join(source, edge);
        net.join(edge, inside);
        net.join(edge, outside);
        let set = vec![SetOperation::AddCommunity(community)];
        let rules = policy(vec![rule("0.0.0.0/0", RuleAction::Accept, set)], true);
        net.nodes[source].config.peers.get_mut(&name(edge)).unwrap().export = ExportPolicy(rules);
        net.configure_all();
        net.announce(source, [prefix("10.1.0.0/26")]);
        net.run(seconds(5));
        assert_eq!(net.nodes[edge].fib.len(), 1);
        assert_eq!(
            (net.nodes[inside].fib.len(), net.nodes[outside].fib.len()),
            (at_inside, at_outside),
            "{community:x}"
        );
    }
}

#[test]
fn local_preference_stays_inside_the_as_and_a_med_with_the_neighbour() {
    let mut net = Network::new();
    let (source, edge, inside, outside) = (net.node(65001), net.node(65000), net.node(65000), net.node(65002));
    net.join(source, edge);
    net.join(edge, inside);
    net.join(edge, outside);
    let med = policy(vec![rule("0.0.0.0/0", RuleAction::Accept, vec![SetOperation::Med(5)])], true);
    net.nodes[source].config.peers.get_mut(&name(edge)).unwrap().export = ExportPolicy(med);
    let prefer = policy(vec![rule("0.0.0.0/0", RuleAction::Accept, vec![SetOperation::LocalPref(300)])], true);
    net.nodes[edge].config.peers.get_mut(&name(source)).unwrap().import = ImportPolicy(prefer);
    net.configure_all();
    net.announce(source, [prefix("10.1.0.0/26")]);
    net.run(seconds(5));
    let at = |node: usize, from: usize| net.nodes[node].speaker.received(&name(from))[0].paths[0].attributes.clone();
    assert_eq!((at(edge, source).local_pref, at(edge, source).med), (None, Some(5)));
    assert_eq!((at(inside, edge).local_pref, at(inside, edge).med), (Some(300), Some(5)));
    assert_eq!((at(outside, edge).local_pref, at(outside, edge).med), (None, None));
}
