//! Several paths of a prefix in one session (RFC 7911), as two speakers agree on it.

use margay_bgp_core::{AddPath, AddPathSend};

use crate::network::{Network, name, prefix, seconds};

const P: &str = "10.1.0.0/26";

/// Two origins of one prefix behind a hub, and an observer of the hub with its own settings.
fn network(hub_sends: AddPathSend, observer_receives: bool) -> Network {
    let mut net = Network::new();
    let (hub, a, b, observer) = (net.node(65000), net.node(65001), net.node(65002), net.node(65003));
    net.join(hub, a);
    net.join(hub, b);
    net.join(hub, observer);
    let set = |net: &mut Network, node: usize, other: usize, add_path| {
        let peer = net.nodes[node].config.peers.get_mut(&name(other)).unwrap();
        peer.add_path = add_path;
    };
    set(&mut net, hub, observer, AddPath { receive: false, send: hub_sends });
    set(&mut net, observer, hub, AddPath { receive: observer_receives, send: AddPathSend::None });
    net.configure_all();
    net.run_until(seconds(10), "all established", |net| net.all_established());
    net.announce(a, [prefix(P)]);
    net.announce(b, [prefix(P)]);
    net.run(seconds(2));
    net
}

/// The names and AS paths that the observer holds.
fn held(net: &Network) -> Vec<(Option<u32>, String)> {
    let routes = net.nodes[3].speaker.received(&name(0));
    let mut paths: Vec<_> = routes
        .iter()
        .flat_map(|route| route.paths.iter().map(|path| (path.path_id, path.attributes.as_path.clone())))
        .collect();
    paths.sort();
    paths
}

fn path(path_id: u32, as_path: &str) -> (Option<u32>, String) {
    (Some(path_id), as_path.to_owned())
}

#[test]
fn all_paths_are_told_where_both_sides_agree() {
    let mut net = network(AddPathSend::All, true);
    assert_eq!(held(&net), [path(1, "65000 65001"), path(2, "65000 65002")]);
    assert_eq!(net.next_hops(3, P).len(), 1, "both paths lead through the hub");
    assert_eq!(net.nodes[0].speaker.advertised(&name(3))[0].paths.len(), 2);
    net.withdraw(1, [prefix(P)]);
    net.run(seconds(1));
    assert_eq!(held(&net), [path(2, "65000 65002")]);
    net.announce(1, [prefix(P)]);
    net.run(seconds(1));
    assert_eq!(held(&net), [path(1, "65000 65001"), path(2, "65000 65002")]);
    net.withdraw(2, [prefix(P)]);
    net.withdraw(1, [prefix(P)]);
    net.run(seconds(1));
    assert!(held(&net).is_empty() && net.nodes[3].fib.is_empty());
}

#[test]
fn one_path_is_told_where_either_side_does_without() {
    for (send, receive) in [(AddPathSend::None, true), (AddPathSend::All, false)] {
        let net = network(send, receive);
        assert_eq!(held(&net), [(None, "65000 65001".to_owned())], "{send:?}, {receive}");
    }
}

#[test]
fn a_restart_keeps_all_paths_until_they_come_again() {
    let mut net = network(AddPathSend::All, true);
    net.kill(0);
    net.run(seconds(3));
    assert_eq!(held(&net).len(), 2);
    assert!(net.nodes[3].speaker.received(&name(0))[0].paths.iter().all(|path| path.stale));
    net.restart(0, true);
    // The hub has no prefixes of its own.
    net.announce(0, []);
    net.run_until(seconds(60), "fresh paths", |net| {
        let routes = net.nodes[3].speaker.received(&name(0));
        routes.iter().flat_map(|route| &route.paths).filter(|path| !path.stale).count() == 2
    });
    net.run(seconds(10));
    assert_eq!(held(&net).len(), 2);
}
