use super::super::*;
use super::bench::*;

const OTHER: u32 = POD + 1;
const OTHER_NAME: &str = "cali0123456789b";

fn services(services: &[&str]) -> Input {
    let services = services.iter().map(|service| cidr(service)).collect();
    Input::HostRoutes(HostRoutes { services, ..HostRoutes::default() })
}

fn not_programmed(ranges: &[&str]) -> Input {
    let not_programmed = ranges.iter().map(|range| cidr(range)).collect();
    Input::HostRoutes(HostRoutes { not_programmed, ..HostRoutes::default() })
}

fn reachable_by(peers: &[(&str, &str)]) -> Input {
    let reachable_by = peers.iter().map(|(peer, gateway)| (ip(peer), ip(gateway))).collect();
    Input::HostRoutes(HostRoutes { reachable_by, ..HostRoutes::default() })
}

fn workload_peers(peers: &[(&str, &[&str])]) -> Input {
    let addresses = |addresses: &[&str]| addresses.iter().map(|addr| ip(addr)).collect();
    let workload_peers = peers.iter().map(|(name, of)| ((*name).to_owned(), addresses(of))).collect();
    Input::HostRoutes(HostRoutes { workload_peers, ..HostRoutes::default() })
}

fn ignored(globs: &[&str]) -> Input {
    let ignored_interfaces = globs.iter().map(|glob| (*glob).to_owned()).collect();
    Input::HostRoutes(HostRoutes { ignored_interfaces, ..HostRoutes::default() })
}

#[test]
fn services_are_guarded_before_they_are_announced_and_until_they_are_withdrawn() {
    let mut bench = Bench::new();
    bench.feed([services(&["10.96.0.0/12", "203.0.113.7/32", "fd96::/112"])]);
    assert_eq!(
        bench.take_log(),
        [
            "guard 10.96.0.0/12 203.0.113.7/32 fd96::/112",
            "announce 10.96.0.0/12 Service",
            "announce 203.0.113.7/32 Service",
            "announce fd96::/112 Service",
        ]
    );
    assert!(bench.routes.is_empty(), "the host's own way to services stays");
    bench.feed([services(&["10.96.0.0/12", "203.0.113.8/32"])]);
    assert_eq!(
        bench.take_log(),
        [
            "withdraw 203.0.113.7/32",
            "withdraw fd96::/112",
            "guard 10.96.0.0/12 203.0.113.8/32",
            "announce 203.0.113.8/32 Service",
        ]
    );
    bench.feed([services(&["10.96.0.0/12", "203.0.113.8/32"])]);
    assert_eq!(bench.take_log(), [""; 0]);
    assert!(bench.reconciler.is_settled());
}

#[test]
fn a_service_that_can_not_be_guarded_is_not_announced() {
    let mut bench = Bench::new();
    bench.guard_fails = true;
    bench.feed([services(&["10.96.0.0/12"]), Input::OwnBlocks([cidr("10.65.0.0/26")].into())]);
    assert_eq!(bench.take_log(), ["add blackhole 10.65.0.0/26", "announce 10.65.0.0/26 Block"]);
    assert!(!bench.reconciler.is_settled());
    let late = bench.guard();
    bench.feed([late]);
    assert_eq!(bench.take_log(), ["guard 10.96.0.0/12", "announce 10.96.0.0/12 Service"]);
    assert!(bench.reconciler.is_settled());
}

#[test]
fn a_prefix_that_is_a_block_is_announced_as_one() {
    let mut bench = Bench::new();
    bench.feed([services(&["10.65.0.0/26"]), Input::OwnBlocks([cidr("10.65.0.0/26")].into())]);
    assert_eq!(bench.take_log(), ["guard 10.65.0.0/26", "add blackhole 10.65.0.0/26", "announce 10.65.0.0/26 Block"]);
    bench.feed([Input::OwnBlocks([].into())]);
    assert_eq!(bench.take_log(), ["announce 10.65.0.0/26 Service", "delete blackhole 10.65.0.0/26"]);
}

#[test]
fn best_routes_within_the_ranges_of_services_are_not_programmed() {
    // Range, prefix, whether it is programmed beside the range.
    let cases = [
        ("10.96.0.0/12", "10.96.0.0/12", false),
        ("10.96.0.0/12", "10.97.1.2/32", false),
        ("10.96.0.0/12", "10.0.0.0/8", true),
        ("10.96.0.0/12", "0.0.0.0/0", true),
        ("10.96.0.0/12", "10.112.0.0/16", true),
        ("10.96.0.7/32", "10.96.0.7/32", false),
        ("0.0.0.0/0", "10.1.0.0/26", false),
    ];
    for (range, prefix, programmed) in cases {
        for before in [true, false] {
            let mut bench = Bench::new();
            let route = fib(1, &[(prefix, &["192.0.2.2"])], true);
            bench.feed(if before { [not_programmed(&[range]), route] } else { [route, not_programmed(&[range])] });
            assert_eq!(!bench.routes.is_empty(), programmed, "{prefix} beside {range}");
            assert!(bench.take_log().contains(&"applied 1".to_owned()));
            assert!(bench.reconciler.is_settled());
            bench.feed([not_programmed(&[])]);
            assert_eq!(bench.routes.len(), 1, "{prefix} without {range}");
        }
    }
}

#[test]
fn a_route_within_a_services_range_that_was_there_at_the_start_goes() {
    let hop = Hop { gateway: Some(ip("192.0.2.2")), interface: UPLINKS[0], onlink: false, weight: 1 };
    let left = KernelRoute::bgp(cidr("10.96.0.0/12"), Target::Via([hop].into()), None);
    let mut bench = Bench::before_sync(vec![left]);
    bench.log.clear();
    bench.feed([not_programmed(&["10.96.0.0/12"]), Input::InSync]);
    assert_eq!(bench.take_log(), ["delete BGP route 10.96.0.0/12"]);
}

#[test]
fn a_peers_host_route_follows_its_gateway() {
    let mut bench = Bench::new();
    bench.feed([reachable_by(&[("203.0.113.9", "192.0.2.18"), ("2001:db8:9::9", "2001:db8::2")])]);
    assert_eq!(bench.take_log(), ["add route to peer 203.0.113.9/32", "add route to peer 2001:db8:9::9/128"]);
    assert_eq!(bench.hops("203.0.113.9/32"), [(UPLINKS[1], "192.0.2.18".to_owned())]);
    assert_eq!(bench.reconciler.counts(), Counts::from([(Object::Peer, 2)]));
    bench.feed([reachable_by(&[("203.0.113.9", "192.0.2.3")])]);
    assert_eq!(bench.hops("203.0.113.9/32"), [(UPLINKS[0], "192.0.2.3".to_owned())]);
    assert_eq!(bench.routes.len(), 1);
    // BGP's own route to the peer does not take its place.
    bench.feed([fib(1, &[("203.0.113.9/32", &["192.0.2.19"])], true)]);
    assert_eq!(bench.routes[&(cidr("203.0.113.9/32"), METRIC)].protocol, PEER);
    bench.feed([reachable_by(&[])]);
    assert_eq!(bench.routes[&(cidr("203.0.113.9/32"), METRIC)].protocol, BGP);
}

#[test]
fn a_peers_host_route_waits_until_its_gateway_is_connected() {
    let mut bench = Bench::new();
    bench.feed([reachable_by(&[("203.0.113.9", "198.18.0.1")])]);
    assert!(bench.routes.is_empty() && bench.reconciler.is_settled());
    let waiting = "the route to peer 203.0.113.9 waits for its gateway 198.18.0.1, which is on no link that runs";
    assert_eq!(bench.reconciler.waiting().collect::<Vec<_>>(), [waiting]);
    bench.feed([address(UPLINKS[1], "198.18.0.2", "198.18.0.0/24")]);
    assert_eq!(bench.hops("203.0.113.9/32"), [(UPLINKS[1], "198.18.0.1".to_owned())]);
    assert_eq!(bench.reconciler.waiting().count(), 0);
    bench.feed([link(UPLINKS[1], "up1", true, false)]);
    assert!(bench.routes.is_empty());
    bench.feed([link(UPLINKS[1], "up1", true, true)]);
    assert_eq!(bench.routes.len(), 1);
    // With a link's last address the kernel drops its routes without a word.
    bench.routes.clear();
    let mut gone = |addr: &str, connected: &str| {
        let gone = Input::AddressGone { interface: UPLINKS[1], addr: ip(addr), connected: cidr(connected) };
        bench.reconciler.handle_input(gone, bench.now);
    };
    gone("198.18.0.2", "198.18.0.0/24");
    bench.feed([address(UPLINKS[1], "198.18.0.2", "198.18.0.0/24")]);
    assert_eq!(bench.routes.len(), 1);
}

#[test]
fn a_peers_host_route_taken_or_changed_by_hand_is_put_back() {
    let mut bench = Bench::new();
    bench.feed([reachable_by(&[("203.0.113.9", "192.0.2.18")])]);
    let wanted = bench.routes.clone();
    let route = wanted[&(cidr("203.0.113.9/32"), METRIC)].clone();
    bench.by_hand(route.clone(), true);
    assert_eq!(bench.routes, wanted);
    bench.by_hand(KernelRoute { target: Target::Blackhole, ..route }, false);
    assert_eq!(bench.routes, wanted);
    let route = wanted[&(cidr("203.0.113.9/32"), METRIC)].clone();
    bench.by_hand(KernelRoute { prefix: cidr("203.0.113.10/32"), ..route }, false);
    assert_eq!(bench.routes, wanted);
    assert_eq!(*bench.reconciler.drift(), Counts::from([(Object::Peer, 3)]));
}

#[test]
fn a_peer_that_is_reached_by_a_gateway_is_a_next_hop_with_a_way() {
    let mut bench = Bench::new();
    bench.feed([Input::TrackNextHops([ip("203.0.113.9")].into())]);
    assert_eq!(bench.take_log(), ["list host routes", "203.0.113.9: no way"]);
    bench.feed([reachable_by(&[("203.0.113.9", "192.0.2.18")])]);
    assert_eq!(bench.take_log(), ["203.0.113.9: 192.0.2.18 up1 metric 1024", "add route to peer 203.0.113.9/32"]);
    bench.feed([link(UPLINKS[1], "up1", true, false)]);
    assert!(bench.take_log().contains(&"203.0.113.9: no way".to_owned()));
}

#[test]
fn a_workload_that_peers_has_the_nodes_address_on_its_link() {
    let mut bench = Bench::new();
    let virtual_ones: &[&str] = &["169.254.9.9", "fd00::9"];
    bench.feed([
        link(OTHER, OTHER_NAME, false, false),
        workload_peers(&[(POD_NAME, virtual_ones), (OTHER_NAME, virtual_ones)]),
    ]);
    assert_eq!(bench.take_log(), ["add address 169.254.9.9", "add address fd00::9"]);
    assert_eq!(bench.addresses, [(POD, ip("169.254.9.9")), (POD, ip("fd00::9"))].into());
    bench.feed([link(OTHER, OTHER_NAME, true, false)]);
    assert_eq!(bench.addresses.len(), 4, "once the link is up");
    assert_eq!(bench.reconciler.counts(), Counts::from([(Object::Address, 4)]));
    bench.feed([workload_peers(&[(OTHER_NAME, &virtual_ones[..1])])]);
    assert_eq!(bench.addresses, [(OTHER, ip("169.254.9.9"))].into());
    // A link of another kind gets none.
    bench.feed([workload_peers(&[("up0", virtual_ones)])]);
    assert!(bench.addresses.is_empty() && bench.reconciler.is_settled());
}

#[test]
fn a_peering_address_that_goes_comes_back_and_one_of_an_earlier_run_goes() {
    let mut bench = Bench::new();
    bench.feed([workload_peers(&[(POD_NAME, &["169.254.9.9"])])]);
    bench.take_log();
    let gone = || Input::AddressGone { interface: POD, addr: ip("169.254.9.9"), connected: cidr("169.254.9.9/32") };
    bench.feed([gone()]);
    assert_eq!(bench.take_log(), ["add address 169.254.9.9"]);
    assert_eq!(*bench.reconciler.drift(), Counts::from([(Object::Address, 1)]));
    // The kernel takes some with a link that is set down: that is nobody's fault.
    bench.feed([link(POD, POD_NAME, false, false), gone()]);
    assert_eq!(bench.take_log(), [""; 0]);
    bench.feed([link(POD, POD_NAME, true, false)]);
    assert_eq!(bench.take_log(), ["add address 169.254.9.9"]);
    assert_eq!(*bench.reconciler.drift(), Counts::from([(Object::Address, 1)]));

    let mut bench = Bench::before_sync(Vec::new());
    bench.feed([
        address(POD, "169.254.9.9", "169.254.9.9/32"),
        address(POD, "fe80::1", "fe80::1/128"),
        address(POD, "198.18.0.1", "198.18.0.0/24"),
    ]);
    bench.log.clear();
    bench.feed([Input::InSync]);
    assert_eq!(bench.take_log(), [""; 0], "nobody said what should be there");
    bench.feed([workload_peers(&[])]);
    assert_eq!(bench.take_log(), ["delete address 169.254.9.9"]);
}

#[test]
fn a_peers_host_route_of_an_earlier_run_stays_until_it_is_told_what_bgp_needs() {
    let hop = Hop { gateway: Some(ip("192.0.2.18")), interface: UPLINKS[1], onlink: false, weight: 1 };
    let left = ["203.0.113.9/32", "203.0.113.10/32"].map(|peer| KernelRoute::peer(cidr(peer), hop.clone()));
    let other_metric = KernelRoute { metric: 7, ..KernelRoute::peer(cidr("203.0.113.11/32"), hop) };
    let mut bench = Bench::before_sync(left.into_iter().chain([other_metric]).collect());
    bench.log.clear();
    bench.feed([Input::InSync]);
    assert_eq!(bench.take_log(), [""; 0]);
    bench.feed([reachable_by(&[("203.0.113.9", "192.0.2.18")])]);
    assert_eq!(bench.take_log(), ["delete route to peer 203.0.113.10/32", "delete route to peer 203.0.113.11/32"]);
}

#[test]
fn a_refused_address_is_tried_again() {
    let mut bench = Bench::new();
    bench.refused.insert(cidr("169.254.9.9/32"));
    bench.feed([workload_peers(&[(POD_NAME, &["169.254.9.9"])])]);
    assert_eq!(bench.reconciler.failures().collect::<Vec<_>>(), ["add address 169.254.9.9: refused"]);
    assert_eq!((bench.retry().as_millis(), bench.retry().as_millis()), (20, 40));
    bench.refused.clear();
    bench.retry();
    assert_eq!(bench.take_log(), ["add address 169.254.9.9"]);
    assert_eq!((bench.reconciler.failures().count(), bench.reconciler.poll_timeout()), (0, None));
}

#[test]
fn an_ignored_loopbacks_addresses_are_not_announced_and_connected_prefixes_never_are() {
    let mut bench = Bench::new();
    bench.feed([address(1, "198.51.100.1", "198.51.100.1/32")]);
    assert_eq!(bench.take_log(), ["link lo running 2", "announce 198.51.100.1/32 Loopback"]);
    bench.feed([ignored(&["up*", "l?"])]);
    assert_eq!(bench.take_log(), ["withdraw 198.51.100.1/32"]);
    bench.feed([ignored(&["up*"])]);
    assert_eq!(bench.take_log(), ["announce 198.51.100.1/32 Loopback"]);
}
