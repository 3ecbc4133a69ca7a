//! Pod routes, blackholes and BGP routes in a real kernel, and what happens when others change them.
#![allow(clippy::unwrap_used)]

mod routes_support;

use std::time::{Duration, Instant};

use margay_felix_agent::{LocalEndpoint, ToFelix};
use margay_net::{FibBatch, FibChange};
use routes_support::*;

#[test]
fn a_nodes_routes_appear_and_are_announced_when_they_are_there() {
    let node = Node::new();
    node.run(async || {
        let mut agent = Agent::spawn();
        for link in ["lo", "up0", "up1"] {
            agent.expect_told(&format!("link {link} running")).await;
        }
        agent.tell_pod().await;
        agent.handle.send(ToFelix::OwnBlocks([cidr("10.65.0.0/26"), cidr("fd65::/122")].into())).await;
        agent.handle.send(ToFelix::Fib(fabric(1))).await;
        assert!(agent.handle.barrier().await.unwrap_err().contains("datastore"));
        assert_eq!(routes(), [""; 0]);
        assert!(ip(&format!("link show {POD}")).contains("state DOWN"));
        agent.take_told();
        agent.handle.send(ToFelix::InSync).await;
        agent.handle.barrier().await.unwrap();
        assert_eq!(routes(), all_routes());
        assert!(ip(&format!("link show {POD}")).contains("UP"));
        let neighbours = ip(&format!("neigh show dev {POD} nud permanent"));
        assert!(neighbours.contains("10.65.0.1 lladdr 02:00:00:00:00:01 PERMANENT"), "{neighbours}");
        let neighbours = ip(&format!("-6 neigh show dev {POD} nud permanent"));
        assert!(neighbours.contains("fd65::1 lladdr 02:00:00:00:00:01 PERMANENT"), "{neighbours}");
        assert_eq!(agent.take_told(), ["announce 10.65.0.0/26 Block", "announce fd65::/122 Block", "applied 1"]);
        let status = agent.handle.status().await;
        let counts = [("bgp", 3), ("blackhole", 2), ("neighbour", 2), ("workload", 2)];
        assert_eq!(status.routes, counts.map(|(kind, count)| (kind.to_owned(), count)).into());
        assert!(status.drift.is_empty() && status.failures.is_empty(), "{status:?}");
        assert_eq!(serde_json::to_value(&status).unwrap()["announced"]["10.65.0.0/26"], "block");

        let read = |key: &str| margay_netlink::sysctl::read(key).unwrap();
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/fib_multipath_hash_policy", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv6/conf/all/keep_addr_on_down", "1"),
            (&format!("net/ipv4/conf/{POD}/proxy_arp"), "1"),
            (&format!("net/ipv6/conf/{POD}/accept_ra"), "0"),
        ] {
            assert_eq!(read(key), value, "{key}");
        }

        agent.handle.send(ToFelix::Endpoint { interface: POD.into(), endpoint: None }).await;
        agent.handle.send(ToFelix::OwnBlocks([cidr("10.65.0.0/26")].into())).await;
        let changes = vec![FibChange::Withdraw(cidr("0.0.0.0/0"))];
        agent.handle.send(ToFelix::Fib(FibBatch { serial: 2, changes, complete: false })).await;
        agent.handle.barrier().await.unwrap();
        let left: Vec<_> =
            all_routes().into_iter().filter(|route| !route.contains("fd65") && !route.starts_with("77")).collect();
        assert_eq!(routes(), left.into_iter().filter(|route| !route.contains("0.0.0.0/0")).collect::<Vec<_>>());
        assert_eq!(agent.take_told(), ["withdraw fd65::/122", "applied 2"]);
        assert_eq!(ip(&format!("neigh show dev {POD} nud permanent")), "");
    });
}

#[test]
fn what_is_deleted_or_changed_by_hand_is_back_within_100_ms_and_counted() {
    let node = Node::new();
    node.run(async || {
        let agent = Agent::settled().await;
        let by_hand = [
            ("route del 10.65.0.1", "workload"),
            ("-6 route del fd65::1", "workload"),
            ("route del blackhole 10.65.0.0/26", "blackhole"),
            ("-6 route del blackhole fd65::/122", "blackhole"),
            ("route del 10.66.0.0/26", "bgp"),
            ("-6 route del fd66::/122", "bgp"),
            ("-6 route del fd66::/122 via 2001:db8:1::2", "bgp"),
            ("route replace 10.66.0.0/26 via 192.0.2.2 metric 1024 proto 79", "bgp"),
            ("route replace 10.66.0.0/26 via 192.0.2.18 metric 1024", "bgp"),
            ("route replace blackhole 10.66.0.0/26 metric 1024", "bgp"),
            ("-6 route replace fd66::/122 via 2001:db8:1::2 metric 1024", "bgp"),
            ("route add blackhole 10.67.0.0/26 proto 78", "blackhole"),
            ("route add 10.67.0.0/26 via 192.0.2.2 proto 79", "bgp"),
        ];
        let mut counts = std::collections::BTreeMap::new();
        for (line, kind) in by_hand {
            ip(line);
            let took = expect_routes(&all_routes()).await;
            *counts.entry(kind.to_owned()).or_insert(0) += 1;
            assert!(took < Duration::from_millis(100), "{line}: {took:?}");
            assert_eq!(agent.handle.status().await.drift, counts, "{line}");
        }
        ip(&format!("neigh del 10.65.0.1 dev {POD}"));
        let begin = Instant::now();
        while !ip(&format!("neigh show dev {POD} nud permanent")).contains("10.65.0.1") {
            assert!(begin.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(agent.handle.status().await.drift["neighbour"], 1);
        assert_eq!(agent.handle.status().await.failures, [""; 0]);
    });
}

#[test]
fn setting_an_interface_down_and_up_restores_what_was_there() {
    let node = Node::new();
    node.run(async || {
        let mut agent = Agent::settled().await;
        for link in ["up0", "up1", POD] {
            ip(&format!("link set {link} down"));
            if link == "up0" {
                // Its address is the source as well; IPv6's is not to be used until the link is up again.
                agent.expect_told("link up0 not running").await;
                agent.handle.barrier().await.unwrap();
                assert!(!routes().iter().any(|route| route.contains("dev up0")), "{:#?}", routes());
            } else if link == POD {
                let without = all_routes().into_iter().filter(|route| !route.starts_with("77"));
                expect_routes(&without.collect::<Vec<_>>()).await;
            }
            ip(&format!("link set {link} up"));
            expect_routes(&all_routes()).await;
            agent.handle.barrier().await.unwrap();
            let neighbours = ip(&format!("neigh show dev {POD} nud permanent"));
            assert!(neighbours.contains("10.65.0.1"), "{neighbours}");
        }
        let status = agent.handle.status().await;
        assert!(status.drift.is_empty() && status.failures.is_empty(), "{status:?}");
    });
}

#[test]
fn carrier_loss_takes_the_next_hop_out_and_back() {
    let node = Node::new();
    node.run(async || {
        let mut agent = Agent::settled().await;
        agent.take_told();
        node.tors[1].ip("link set node down");
        let reduced: Vec<_> = all_routes()
            .into_iter()
            .map(|route| route.replace(" via 192.0.2.18 dev up1", "").replace(" via 2001:db8:1::2 dev up1", ""))
            .collect();
        expect_routes(&reduced).await;
        agent.expect_told("link up1 not running").await;
        node.tors[1].ip("link set node up");
        expect_routes(&all_routes()).await;
        agent.expect_told("link up1 running").await;

        // A route whose only next hop lost its link goes.
        node.tors[0].ip("link set node down");
        agent.expect_told("link up0 not running").await;
        agent.handle.barrier().await.unwrap();
        assert!(!routes().iter().any(|route| route.contains("0.0.0.0/0")));
        node.tors[0].ip("link set node up");
        expect_routes(&all_routes()).await;
        assert!(agent.handle.status().await.drift.is_empty());
    });
}

#[test]
fn a_link_that_is_deleted_and_made_anew_carries_its_routes_again() {
    let node = Node::new();
    node.run(async || {
        let agent = Agent::settled().await;
        ip("link del up1");
        let reduced: Vec<_> = all_routes()
            .into_iter()
            .map(|route| route.replace(" via 192.0.2.18 dev up1", "").replace(" via 2001:db8:1::2 dev up1", ""))
            .collect();
        expect_routes(&reduced).await;
        ip(&format!("link add up1 type veth peer name node netns {}", node.tors[1].0));
        ip("addr add 192.0.2.17/28 dev up1");
        ip("addr add 2001:db8:1::1/64 dev up1 nodad");
        ip("link set up1 up");
        node.tors[1].ip("link set node up");
        expect_routes(&all_routes()).await;
        assert!(agent.handle.status().await.drift.is_empty());
    });
}

#[test]
fn a_restart_changes_no_route() {
    let node = Node::new();
    node.run(async || {
        let agent = Agent::settled().await;
        let monitor = IpMonitor::start().await;
        drop(agent);
        tokio::task::yield_now().await;
        let mut agent = Agent::spawn();
        agent.tell_pod().await;
        agent.handle.send(ToFelix::OwnBlocks([cidr("10.65.0.0/26"), cidr("fd65::/122")].into())).await;
        agent.handle.send(ToFelix::InSync).await;
        agent.handle.barrier().await.unwrap();
        let mut first = fabric(1);
        let last = first.changes.split_off(1);
        first.complete = false;
        agent.handle.send(ToFelix::Fib(first)).await;
        agent.handle.barrier().await.unwrap();
        agent.handle.send(ToFelix::Fib(FibBatch { serial: 2, changes: last, complete: true })).await;
        agent.handle.barrier().await.unwrap();
        agent.expect_told("applied 2").await;
        assert_eq!(monitor.finish().await, [""; 0]);
        assert_eq!(routes(), all_routes());
        let status = agent.handle.status().await;
        assert!(status.drift.is_empty(), "{status:?}");
    });
}

#[test]
fn bgp_routes_of_the_run_before_stay_until_the_table_is_whole() {
    let node = Node::new();
    node.run(async || {
        drop(Agent::settled().await);
        let agent = Agent::spawn();
        agent.handle.send(ToFelix::InSync).await;
        agent.handle.barrier().await.unwrap();
        let bgp: Vec<_> = all_routes().into_iter().filter(|route| route.starts_with("79")).collect();
        assert_eq!(routes(), bgp);
        agent.handle.send(ToFelix::Fib(FibBatch { serial: 1, changes: Vec::new(), complete: true })).await;
        agent.handle.barrier().await.unwrap();
        assert_eq!(routes(), [""; 0]);
    });
}

#[test]
fn a_barrier_says_what_is_not_in_the_kernel() {
    let node = Node::new();
    node.run(async || {
        let agent = Agent::settled().await;
        let missing = "cali000000000ff";
        let endpoint = LocalEndpoint { addresses: [addr("10.65.0.9")].into(), mac: None };
        agent.handle.send(ToFelix::Endpoint { interface: missing.into(), endpoint: Some(endpoint) }).await;
        // Another's barrier is not troubled by it.
        agent.handle.endpoint_barrier(POD).await.unwrap();
        assert_eq!(agent.handle.endpoint_barrier(missing).await, Err(format!("interface {missing} isn't there")));
        assert_eq!(agent.handle.barrier().await, Err(format!("interface {missing} isn't there")));
        agent.handle.barrier().await.unwrap();
        // It works as soon as the interface is there.
        ip(&format!("link add {missing} type veth peer name x0"));
        agent.handle.endpoint_barrier(missing).await.unwrap();
        assert!(routes().contains(&format!("77 10.65.0.9/32 dev {missing}")));

        ip("route add blackhole 10.70.0.0/26 metric 1024");
        agent.handle.send(ToFelix::OwnBlocks([cidr("10.70.0.0/26")].into())).await;
        let error = agent.handle.barrier().await.unwrap_err();
        assert!(error.starts_with("add blackhole 10.70.0.0/26: File exists"), "{error}");
        ip("route del blackhole 10.70.0.0/26 metric 1024");
        agent.handle.barrier().await.unwrap();
        assert!(routes().contains(&"78 blackhole 10.70.0.0/26".to_owned()));
    });
}

#[test]
fn lost_events_lead_to_a_resync() {
    let node = Node::new();
    node.run(async || {
        let agent = Agent::settled().await;
        // The runtime has one thread: while this one writes, the agent reads nothing.
        let mut rtnl = margay_netlink::rtnl::Rtnl::open().unwrap();
        let strange = margay_netlink::rtnl::Route::blackhole(cidr("203.0.113.0/24"), 4);
        let changes = [
            margay_netlink::rtnl::RouteChange::Add(strange.clone()),
            margay_netlink::rtnl::RouteChange::Delete(strange),
        ];
        let changes: Vec<_> = changes.iter().cycle().take(2000).cloned().collect();
        for _ in 0..100 {
            rtnl.change_routes(&changes).unwrap();
        }
        ip("route del 10.66.0.0/26");
        expect_routes(&all_routes()).await;
        let status = agent.handle.status().await;
        assert_eq!((status.resyncs, status.drift.get("bgp")), (1, Some(&1)), "{status:?}");
    });
}

#[test]
fn a_slow_speaker_holds_up_nothing_but_the_order() {
    let node = Node::new();
    node.run(async || {
        let mut agent = Agent::with_queue(1);
        agent.tell_all().await;
        agent.handle.send(ToFelix::OwnBlocks([cidr("10.65.0.0/26")].into())).await;
        // Nothing is read: the agent still answers, and removes nothing that it could not withdraw.
        let status = agent.handle.status().await;
        assert!(status.in_sync);
        agent.expect_told("applied 1").await;
        agent.handle.barrier().await.unwrap();
        assert!(!routes().iter().any(|route| route.contains("fd65::/122")));
    });
}

#[test]
fn a_nodes_loopback_address_and_a_borrowed_one_are_announced() {
    let node = Node::new();
    node.run(async || {
        let mut agent = Agent::settled().await;
        ip("addr add 198.51.100.1/32 dev lo");
        agent.handle.send(ToFelix::NodeAddresses(vec![addr("198.51.100.1")])).await;
        agent.expect_told("announce 198.51.100.1/32 Loopback").await;
        agent.handle.send(ToFelix::BorrowedAddresses([cidr("10.99.0.1/32")].into())).await;
        let addresses = [addr("10.65.0.1"), addr("10.99.0.1")].into();
        let endpoint = LocalEndpoint { addresses, mac: None };
        agent.handle.send(ToFelix::Endpoint { interface: POD.into(), endpoint: Some(endpoint) }).await;
        agent.expect_told("announce 10.99.0.1/32 Workload").await;
        assert!(routes().contains(&format!("77 10.99.0.1/32 dev {POD}")));
        ip("addr del 198.51.100.1/32 dev lo");
        agent.expect_told("withdraw 198.51.100.1/32").await;
    });
}
