//! Links, addresses, neighbours, routes, events and namespaces against a real kernel, in namespaces of the test's own.
#![allow(clippy::unwrap_used)]

mod namespace;

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use margay_net::{Cidr, Mac};
use margay_netlink::rtnl::*;
use margay_netlink::{NetlinkError, netns, sysctl};
use namespace::Namespace;

const OURS: u8 = 79;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

/// A namespace with two veth pairs inside it, `a0`-`b0` and `a1`-`b1`, up, with addresses on the a-ends.
fn two_uplinks(rtnl: &mut Rtnl) -> [u32; 2] {
    [0, 1].map(|number| {
        let (name, peer) = (format!("a{number}"), format!("b{number}"));
        rtnl.create_veth(&VethSpec { name: &name, peer_name: &peer, ..VethSpec::default() }).unwrap();
        let index = rtnl.link(&name).unwrap().unwrap().index;
        let peer = rtnl.link(&peer).unwrap().unwrap().index;
        rtnl.set_up(index).unwrap();
        rtnl.set_up(peer).unwrap();
        rtnl.add_address(&Address::new(index, ip(&format!("192.0.2.{}", number * 16 + 1)), 28)).unwrap();
        rtnl.add_address(&Address::new(index, ip(&format!("2001:db8:{number}::1")), 64).without_dad()).unwrap();
        index
    })
}

fn hops(links: [u32; 2], family: u8) -> Vec<RouteHop> {
    match family {
        4 => vec![RouteHop::via(ip("192.0.2.2"), links[0]), RouteHop::via(ip("192.0.2.18"), links[1])],
        _ => vec![RouteHop::via(ip("2001:db8:0::2"), links[0]), RouteHop::via(ip("2001:db8:1::2"), links[1])],
    }
}

#[test]
fn a_veth_pair_is_made_with_its_peer_in_another_namespace() {
    let (host, pod) = (Namespace::new(), Namespace::new());
    let pod_file = std::fs::File::open(pod.path()).unwrap();
    let mac = Mac([2, 0, 0, 0, 0, 9]);
    host.run(|| {
        let mut rtnl = Rtnl::open().unwrap();
        rtnl.create_veth(&VethSpec {
            name: "cali0",
            mac: Some(Mac::HOST_SIDE),
            peer_name: "eth0",
            peer_mac: Some(mac),
            peer_netns: Some(pod_file.as_fd()),
            mtu: Some(1400),
        })
        .unwrap();
        let link = rtnl.link("cali0").unwrap().unwrap();
        assert_eq!((link.mac, link.mtu, link.kind.as_deref()), (Some(Mac::HOST_SIDE), 1400, Some("veth")));
        assert!(!link.is_up());
        assert_eq!(rtnl.link("eth0").unwrap(), None);
        assert_eq!(rtnl.link("a-name-that-is-too-long").unwrap(), None);
        rtnl.set_up(link.index).unwrap();
        let link = rtnl.link_by_index(link.index).unwrap().unwrap();
        assert!(link.is_up() && !link.has_carrier());
        let error = rtnl.create_veth(&VethSpec { name: "cali0", peer_name: "x", ..VethSpec::default() }).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EEXIST));
        assert!(error.to_string().contains("create the veth pair cali0 and x"), "{error}");
    });
    pod.run(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let link = rtnl.link("eth0").unwrap().unwrap();
        assert_eq!((link.mac, link.mtu), (Some(mac), 1400));
        rtnl.rename(link.index, "net1").unwrap();
        rtnl.set_mtu(link.index, 1300).unwrap();
        rtnl.set_mac(link.index, Mac([2, 0, 0, 0, 0, 7])).unwrap();
        rtnl.set_up(link.index).unwrap();
        let link = rtnl.link("net1").unwrap().unwrap();
        assert_eq!((link.mac, link.mtu, link.is_running()), (Some(Mac([2, 0, 0, 0, 0, 7])), 1300, true));
        rtnl.set_down(link.index).unwrap();
        assert!(!rtnl.link("net1").unwrap().unwrap().is_up());
        rtnl.delete_link(link.index).unwrap();
        assert_eq!(rtnl.link_by_index(link.index).unwrap(), None);
    });
    assert!(host.run(|| Rtnl::open().unwrap().links().unwrap()).iter().all(|link| link.is_loopback()));
}

#[test]
fn a_link_moves_to_another_namespace() {
    let (here, there) = (Namespace::new(), Namespace::new());
    let file = std::fs::File::open(there.path()).unwrap();
    here.run(|| {
        let mut rtnl = Rtnl::open().unwrap();
        rtnl.create_veth(&VethSpec { name: "a", peer_name: "b", ..VethSpec::default() }).unwrap();
        let index = rtnl.link("a").unwrap().unwrap().index;
        rtnl.move_to_netns(index, file.as_fd()).unwrap();
        assert_eq!(rtnl.link("a").unwrap(), None);
    });
    assert!(there.run(|| Rtnl::open().unwrap().link("a").unwrap().is_some()));
}

#[test]
fn addresses_and_neighbours_come_and_go() {
    Namespace::new().run(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let [link, other] = two_uplinks(&mut rtnl);
        let point = Address { peer: Some(ip("198.51.100.9")), ..Address::new(other, ip("198.51.100.1"), 32) };
        rtnl.add_address(&point).unwrap();
        let found = rtnl.addresses().unwrap();
        let find = |addr: &str| found.iter().find(|found| found.addr == ip(addr)).unwrap();
        assert_eq!(find("198.51.100.1").peer, point.peer);
        assert_eq!(find("198.51.100.1").connected(), cidr("198.51.100.9/32"));
        assert_eq!(find("192.0.2.1").connected(), cidr("192.0.2.0/28"));
        assert!(find("2001:db8:0::1").is_usable());
        assert_eq!(rtnl.add_address(&point).unwrap_err().errno(), Some(libc::EEXIST));
        rtnl.delete_address(&point).unwrap();
        assert!(!rtnl.addresses().unwrap().iter().any(|found| found.addr == point.addr));

        for addr in ["192.0.2.7", "2001:db8:0::7"] {
            let neighbour = Neighbour::permanent(link, ip(addr), Mac([2, 0, 0, 0, 0, 1]));
            rtnl.set_neighbour(&neighbour).unwrap();
            let changed = Neighbour::permanent(link, ip(addr), Mac([2, 0, 0, 0, 0, 2]));
            rtnl.set_neighbour(&changed).unwrap();
            let found = rtnl.neighbours().unwrap();
            assert!(found.contains(&changed) && !found.contains(&neighbour), "{found:?}");
            rtnl.delete_neighbour(link, ip(addr)).unwrap();
            assert!(!rtnl.neighbours().unwrap().iter().any(|found| found.is_permanent() && found.addr == ip(addr)));
            assert_eq!(rtnl.delete_neighbour(other, ip(addr)).unwrap_err().errno(), Some(libc::ENOENT));
        }
    });
}

#[test]
fn routes_read_back_as_they_were_written() {
    Namespace::new().run(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let links = two_uplinks(&mut rtnl);
        let mut wanted = Vec::new();
        for (prefix, host, block, source, family) in [
            ("10.1.0.0/26", "10.2.0.1/32", "10.3.0.0/26", "192.0.2.1", 4),
            ("fd01::/122", "fd02::1/128", "fd03::/122", "2001:db8:0::1", 6),
        ] {
            wanted.push(Route {
                priority: 1024,
                prefsrc: Some(ip(source)),
                ..Route::unicast(cidr(prefix), OURS, hops(links, family))
            });
            wanted.push(Route { priority: 1024, ..Route::unicast(cidr(host), OURS, vec![RouteHop::link(links[0])]) });
            wanted.push(Route { priority: 1024, ..Route::blackhole(cidr(block), OURS) });
        }
        wanted.push(Route { priority: 1, ..Route::unicast(cidr("0.0.0.0/0"), OURS, hops(links, 4)[..1].to_vec()) });
        wanted.push(Route {
            table: 1000,
            priority: 1024,
            ..Route::unicast(
                cidr("10.4.0.0/24"),
                OURS,
                vec![RouteHop { onlink: true, ..RouteHop::via(ip("203.0.113.1"), links[1]) }],
            )
        });
        wanted.push(Route::unicast(
            cidr("10.5.0.0/24"),
            OURS,
            vec![
                RouteHop::via(ip("fe80::1"), links[0]),
                RouteHop { weight: 5, ..RouteHop::via(ip("fe80::2"), links[1]) },
            ],
        ));
        let changes: Vec<_> = wanted.iter().cloned().map(RouteChange::Add).collect();
        assert_eq!(rtnl.change_routes(&changes).unwrap(), []);
        let all = RouteFilter { protocol: Some(OURS), interface: None };
        let mut found = rtnl.routes(&all).unwrap();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
        let through = rtnl.routes(&RouteFilter { protocol: Some(OURS), interface: Some(links[1]) }).unwrap();
        let mut expected: Vec<_> = wanted
            .iter()
            .filter(|route| route.next_hops.iter().any(|hop| hop.interface == links[1]))
            .cloned()
            .collect();
        expected.sort();
        assert_eq!(sorted(through), expected);
        assert_eq!(rtnl.routes(&RouteFilter { protocol: Some(OURS), interface: Some(9999) }).unwrap(), []);

        let changes: Vec<_> = wanted.iter().cloned().map(RouteChange::Delete).collect();
        assert_eq!(rtnl.change_routes(&changes).unwrap(), []);
        assert_eq!(rtnl.routes(&all).unwrap(), []);
    });
}

fn sorted(mut routes: Vec<Route>) -> Vec<Route> {
    routes.sort();
    routes
}

#[test]
fn a_replacement_leaves_one_route_whatever_was_there() {
    Namespace::new().run(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let links = two_uplinks(&mut rtnl);
        let filter = RouteFilter { protocol: Some(OURS), interface: None };
        for (prefix, family) in [("10.1.0.1/32", 4), ("fd01::1/128", 6)] {
            let both = Route::unicast(cidr(prefix), OURS, hops(links, family));
            let one = Route::unicast(cidr(prefix), OURS, hops(links, family)[..1].to_vec());
            let link = Route::unicast(cidr(prefix), OURS, vec![RouteHop::link(links[0])]);
            let hole = Route::blackhole(cidr(prefix), OURS);
            let steps = [&both, &one, &both, &link, &both, &hole, &one, &hole, &link, &hole, &both];
            for step in steps {
                let step = Route { priority: 1024, ..step.clone() };
                rtnl.change_route(RouteChange::Replace(step.clone())).unwrap();
                assert_eq!(rtnl.routes(&filter).unwrap(), [step]);
            }
            rtnl.change_route(RouteChange::Delete(Route { priority: 1024, ..both })).unwrap();
        }
    });
}

#[test]
fn refused_changes_are_told_one_by_one_and_the_others_are_made() {
    Namespace::new().run(|| {
        let mut rtnl = Rtnl::open().unwrap();
        two_uplinks(&mut rtnl);
        let route = |number: u32| {
            let addr = std::net::Ipv4Addr::from(0x0a00_0000 + (number << 8));
            Route::blackhole(Cidr::new(addr.into(), 24).unwrap(), OURS)
        };
        let mut changes: Vec<_> = (0..1000).map(|number| RouteChange::Add(route(number))).collect();
        changes[7] = RouteChange::Delete(route(5000));
        changes[500] = RouteChange::Add(route(0));
        changes[999] =
            RouteChange::Add(Route::unicast(cidr("10.99.0.0/24"), OURS, vec![RouteHop::via(ip("203.0.113.77"), 1)]));
        let refused = rtnl.change_routes(&changes).unwrap();
        assert_eq!(
            refused.iter().map(|(index, error)| (*index, error.errno)).collect::<Vec<_>>(),
            [(7, libc::ESRCH), (500, libc::EEXIST), (999, libc::ENETUNREACH)]
        );
        assert!(refused[2].1.message.as_deref().is_some_and(|text| text.contains("gateway")), "{:?}", refused[2]);
        assert_eq!(rtnl.routes(&RouteFilter { protocol: Some(OURS), interface: None }).unwrap().len(), 997);
    });
}

#[test]
fn events_tell_what_others_did_and_leave_out_what_is_our_own() {
    Namespace::new().run(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let mut other = Rtnl::open().unwrap();
        let links = two_uplinks(&mut rtnl);
        let mut monitor = Monitor::open(&Group::ALL).unwrap();
        monitor.ignore_port(rtnl.port()).unwrap();
        let ours = Route::blackhole(cidr("10.1.0.0/26"), OURS);
        let theirs = Route { priority: 1024, ..Route::unicast(cidr("fd01::/64"), 4, hops(links, 6)) };
        rtnl.change_route(RouteChange::Add(ours.clone())).unwrap();
        other.change_route(RouteChange::Add(theirs.clone())).unwrap();
        other.change_route(RouteChange::Delete(ours.clone())).unwrap();
        let neighbour = Neighbour::permanent(links[0], ip("192.0.2.9"), Mac([2, 0, 0, 0, 0, 1]));
        other.set_neighbour(&neighbour).unwrap();
        other.set_down(links[1]).unwrap();
        let mut events = Vec::new();
        let seen = |events: &[Event], want: &dyn Fn(&Event) -> bool| events.iter().any(want);
        let deadline = Instant::now() + Duration::from_secs(5);
        type Wanted = Box<dyn Fn(&Event) -> bool>;
        let mut wanted: Vec<Wanted> = vec![
            Box::new(move |event| matches!(event, Event::Route { route, port } if *route == theirs && *port != 0)),
            Box::new(move |event| matches!(event, Event::RouteGone { route, port } if route.prefix == cidr("10.1.0.0/26") && *port != 0)),
            Box::new(move |event| matches!(event, Event::Neighbour { neighbour: found, .. } if *found == neighbour)),
            Box::new(move |event| matches!(event, Event::Link(link) if link.index == links[1] && !link.is_up())),
            Box::new(move |event| matches!(event, Event::AddressGone(gone) if gone.addr == ip("2001:db8:1::1"))),
        ];
        while !wanted.is_empty() {
            assert!(Instant::now() < deadline, "{events:?}");
            if !monitor.try_read(&mut events).unwrap() {
                std::thread::yield_now();
            }
            wanted.retain(|want| !seen(&events, want));
        }
        let added = |event: &Event| matches!(event, Event::Route { route, .. } if *route == ours);
        assert!(!seen(&events, &added), "{events:?}");
    });
}

#[test]
fn lost_events_are_told() {
    Namespace::new().run(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let mut monitor = Monitor::open(&Group::ALL).unwrap();
        monitor.set_receive_buffer(4096).unwrap();
        let changes: Vec<_> = (0..1000u32)
            .map(|number| std::net::Ipv4Addr::from(0x0a00_0000 + (number << 8)))
            .map(|addr| RouteChange::Add(Route::blackhole(Cidr::new(addr.into(), 24).unwrap(), OURS)))
            .collect();
        rtnl.change_routes(&changes).unwrap();
        let mut events = Vec::new();
        let mut overrun = false;
        loop {
            match monitor.try_read(&mut events) {
                Ok(true) => {}
                Ok(false) => break,
                Err(NetlinkError::Overrun) => overrun = true,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(overrun && events.len() < 1000, "{}", events.len());
        rtnl.change_route(RouteChange::Delete(changes[0].route().clone())).unwrap();
        assert!(monitor.try_read(&mut events).unwrap());
    });
}

#[cfg(feature = "async")]
#[test]
fn events_are_awaited() {
    Namespace::new().run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut rtnl = Rtnl::open().unwrap();
            let mut monitor = AsyncMonitor::new(Monitor::open(&[Group::Link]).unwrap()).unwrap();
            for _ in 0..3 {
                let quiet = tokio::time::timeout(Duration::from_millis(20), monitor.readable()).await;
                assert!(quiet.is_err());
                let lo = rtnl.link("lo").unwrap().unwrap();
                if lo.is_up() {
                    rtnl.set_down(lo.index).unwrap()
                } else {
                    rtnl.set_up(lo.index).unwrap()
                }
                tokio::time::timeout(Duration::from_secs(5), monitor.readable()).await.unwrap().unwrap();
                let mut events = Vec::new();
                assert!(!monitor.read(&mut events, 100).unwrap());
                assert!(!events.is_empty());
            }
        });
    });
}

#[test]
fn settings_are_those_of_the_threads_namespace() {
    let first = Namespace::new();
    let second = Namespace::new();
    first.run(|| {
        sysctl::ensure("net/ipv4/ip_forward", "0").unwrap();
        assert!(sysctl::ensure("net/ipv4/ip_forward", "1").unwrap());
        assert!(!sysctl::ensure("net/ipv4/ip_forward", "1").unwrap());
    });
    second.run(|| sysctl::ensure("net/ipv4/ip_forward", "0").unwrap());
    assert_eq!(first.run(|| sysctl::read("net/ipv4/ip_forward").unwrap()), "1");
    let error = first.run(|| sysctl::ensure("net/ipv4/conf/nothing/forwarding", "1").unwrap_err());
    assert!(error.is_absent() && error.to_string().contains("/proc/sys/net/ipv4/conf/nothing/forwarding"), "{error}");
}

#[test]
fn a_named_namespace_is_seen_by_ip_netns_until_it_is_deleted() {
    let namespace = Namespace::new();
    let listed = || String::from_utf8(Command::new("ip").args(["netns", "list"]).output().unwrap().stdout).unwrap();
    assert!(listed().contains(&namespace.0));
    assert!(Command::new("ip").args(["-n", &namespace.0, "link", "show", "lo"]).status().unwrap().success());
    let error = netns::create(&namespace.0).unwrap_err();
    assert!(error.to_string().contains(&namespace.0), "{error}");
    let name = namespace.0.clone();
    drop(namespace);
    assert!(!listed().contains(&name));
    let error = netns::in_namespace(&name, || ()).unwrap_err();
    assert!(error.to_string().starts_with("open the network namespace /run/netns/mgy-"), "{error}");
}
