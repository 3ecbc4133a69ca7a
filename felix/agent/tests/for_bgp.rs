//! What BGP asks of the host beside its routes, in a real kernel and with real connections.
#![allow(clippy::unwrap_used)]

mod routes_support;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use margay_felix_agent::{HostRoutes, ToFelix};
use margay_felix_core::policy::{EndpointPrograms, PolicyChanges, ProgramId};
use margay_net::{FibBatch, FibChange};
use margay_netlink::netns;
use routes_support::*;

/// How long a packet that must not arrive is waited for.
const SILENCE: Duration = Duration::from_millis(300);
/// What workloads peer with.
const VIRTUAL: [&str; 2] = ["169.254.9.9", "fd00::9"];

fn services(services: &[&str]) -> ToFelix {
    let services = services.iter().map(|service| cidr(service)).collect();
    ToFelix::HostRoutes(HostRoutes { services, ..HostRoutes::default() })
}

fn reachable_by(peers: &[(&str, &str)]) -> ToFelix {
    let reachable_by = peers.iter().map(|(peer, gateway)| (addr(peer), addr(gateway))).collect();
    ToFelix::HostRoutes(HostRoutes { reachable_by, ..HostRoutes::default() })
}

fn workload_peers(interfaces: &[&str]) -> ToFelix {
    let virtual_ones = || VIRTUAL.map(addr).into();
    let workload_peers = interfaces.iter().map(|name| ((*name).to_owned(), virtual_ones())).collect();
    ToFelix::HostRoutes(HostRoutes { workload_peers, ..HostRoutes::default() })
}

/// Runs a program in the thread's namespace; what it printed, whether it failed or not.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn nft(line: &str) {
    assert_eq!(run("nft", &[line]), "", "{line}");
}

/// Listens in the thread's namespace until it is dropped; the kernel completes connections by itself.
fn listen(to: &str, port: u16) -> TcpListener {
    TcpListener::bind(SocketAddr::new(addr(to), port)).unwrap()
}

/// Tells whether a connection comes about. A refusal is a failure of the test: drops are silent.
fn connects(from: &Namespace, to: &str, port: u16, wait: Duration) -> bool {
    let to = SocketAddr::new(addr(to), port);
    match netns::in_namespace(&from.0, || TcpStream::connect_timeout(&to, wait)).unwrap() {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::TimedOut => false,
        Err(error) => panic!("{to}: {error}"),
    }
}

/// Makes the pod's end as the CNI plugin does.
fn wire(pod: &Namespace, v4: &str, v6: &str) {
    pod.ip("link set lo up");
    pod.ip("link set eth0 up");
    pod.ip(&format!("addr add {v4}/32 dev eth0"));
    pod.ip(&format!("addr add {v6}/128 dev eth0 nodad"));
    pod.ip("neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee nud permanent dev eth0");
    pod.ip("neigh add fe80::1 lladdr ee:ee:ee:ee:ee:ee nud permanent dev eth0");
    pod.ip("route add 169.254.1.1 dev eth0 scope link");
    pod.ip("route add default via 169.254.1.1 dev eth0");
    pod.ip("route add default via fe80::1 dev eth0");
}

async fn until(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    begin.elapsed()
}

#[test]
fn a_service_is_announced_once_it_is_guarded_and_the_guard_is_put_back() {
    let node = Node::new();
    node.run(async || {
        let guard = || run("nft", &["list", "set", "inet", "margay", "services4"]);
        let mut agent = Agent::settled().await;
        agent.take_told();
        agent.handle.send(services(&["10.96.0.0/12", "10.96.0.7/32", "203.0.113.7/32", "fd96::/112"])).await;
        agent.handle.barrier().await.unwrap();
        let announced = ["10.96.0.0/12", "10.96.0.7/32", "203.0.113.7/32", "fd96::/112"];
        assert_eq!(agent.take_told(), announced.map(|service| format!("announce {service} Service")));
        assert!(guard().contains("10.96.0.0/12, 203.0.113.7"), "{}", guard());
        assert_eq!(routes(), all_routes(), "there is no route to services");

        nft("flush set inet margay services4");
        until("the guard is back", || guard().contains("10.96.0.0/12")).await;
        assert_eq!(agent.handle.status().await.drift["policy"], 2);

        agent.handle.send(services(&["10.96.0.7/32"])).await;
        agent.handle.barrier().await.unwrap();
        assert_eq!(
            agent.take_told(),
            ["10.96.0.0/12", "203.0.113.7/32", "fd96::/112"].map(|service| format!("withdraw {service}"))
        );
        assert!(guard().contains("elements = { 10.96.0.7 }"), "{}", guard());

        let generation = || margay_netlink::nft::NftSocket::open().unwrap().generation().unwrap();
        let before = generation();
        drop(agent);
        tokio::task::yield_now().await;
        let mut agent = Agent::spawn();
        agent.tell_pod().await;
        agent.handle.send(services(&["10.96.0.7/32"])).await;
        agent.handle.send(ToFelix::InSync).await;
        agent.handle.barrier().await.unwrap();
        agent.expect_told("announce 10.96.0.7/32 Service").await;
        assert_eq!(generation(), before, "a restart changes nothing");
    });
}

#[test]
fn what_is_sent_to_an_unserved_service_does_not_go_back_and_what_a_proxy_serves_works() {
    let node = Node::new();
    let (tor, client, pod) = (&node.tors[0], &node.tors[1], &node.pod);
    tor.ip("addr add 192.0.2.2/28 dev node");
    tor.ip("link set lo up");
    netns::in_namespace(&tor.0, || margay_netlink::sysctl::ensure("net/ipv4/ip_forward", "1")).unwrap().unwrap();
    for prefix in ["10.96.0.0/12", "10.65.0.0/26"] {
        tor.ip(&format!("route add {prefix} via 192.0.2.1"));
    }
    // Behind the ToR, whose own packets would not come back to it.
    tor.ip(&format!("link add client type veth peer name tor netns {}", client.0));
    tor.ip("addr add 198.51.100.1/24 dev client");
    tor.ip("link set client up");
    client.ip("addr add 198.51.100.2/24 dev tor");
    client.ip("link set tor up");
    client.ip("route add 10.96.0.0/12 via 198.51.100.1");
    wire(pod, "10.65.0.1", "fd65::1");
    let in_pod = netns::in_namespace(&pod.0, || listen("10.65.0.1", 4433)).unwrap();
    node.run(async || {
        let agent = Agent::settled().await;
        let ping =
            || netns::in_namespace(&client.0, || run("ping", &["-n", "-c", "1", "-W", "1", "10.96.0.1"])).unwrap();
        assert!(ping().contains("Time to live exceeded"), "{}", ping());
        agent.handle.send(services(&["10.96.0.0/12"])).await;
        agent.handle.barrier().await.unwrap();
        let silence = ping();
        assert!(silence.contains("100% packet loss") && !silence.contains("exceeded"), "{silence}");

        // As kube-proxy with iptables or nftables: for what comes in and for the host itself.
        nft("add table ip proxy");
        for hook in ["prerouting", "output"] {
            nft(&format!("add chain ip proxy {hook} {{ type nat hook {hook} priority -100; }}"));
            nft(&format!("add rule ip proxy {hook} ip daddr 10.96.0.1 tcp dport 443 dnat to 10.65.0.1:4433"));
        }
        assert!(connects(&node.host, "10.96.0.1", 443, PATIENCE), "from the host");
        assert!(connects(client, "10.96.0.1", 443, PATIENCE), "from outside");
        // As kube-proxy with IPVS: the address is the host's.
        ip("addr add 10.96.0.2/32 dev lo");
        let on_host = listen("10.96.0.2", 443);
        assert!(connects(client, "10.96.0.2", 443, PATIENCE), "to an address of the host");
        drop(on_host);
    });
    drop(in_pod);
}

#[test]
fn ranges_of_services_are_not_programmed() {
    let node = Node::new();
    node.run(async || {
        let agent = Agent::settled().await;
        let not_programmed = [cidr("10.66.0.0/16"), cidr("fd66::/64")].into();
        agent.handle.send(ToFelix::HostRoutes(HostRoutes { not_programmed, ..HostRoutes::default() })).await;
        let changes = vec![FibChange::Set(margay_net::BestRoute {
            prefix: cidr("10.66.1.0/26"),
            next_hops: std::sync::Arc::new([margay_net::NextHop::via(addr("192.0.2.2"))].into()),
            stale: false,
            discard: false,
        })];
        agent.handle.send(ToFelix::Fib(FibBatch { serial: 2, changes, complete: true })).await;
        agent.handle.barrier().await.unwrap();
        let without = all_routes().into_iter().filter(|route| !route.contains(" 10.66.") && !route.contains(" fd66:"));
        assert_eq!(routes(), without.collect::<Vec<_>>());
        agent.handle.send(ToFelix::HostRoutes(HostRoutes::default())).await;
        agent.handle.barrier().await.unwrap();
        assert_eq!(routes().len(), all_routes().len() + 1);
    });
}

#[test]
fn a_peer_is_reached_by_its_gateway_whatever_happens_to_the_route() {
    let node = Node::new();
    node.run(async || {
        let peers = [("203.0.113.9", "192.0.2.18"), ("2001:db8:9::9", "2001:db8:1::2"), ("203.0.113.10", "198.18.0.1")];
        let mut agent = Agent::settled().await;
        agent.handle.send(reachable_by(&peers)).await;
        agent.handle.barrier().await.unwrap();
        let mut wanted = all_routes();
        let ways = ["80 2001:db8:9::9/128 via 2001:db8:1::2 dev up1", "80 203.0.113.9/32 via 192.0.2.18 dev up1"];
        wanted.extend(ways.map(str::to_owned));
        assert_eq!(routes(), wanted);
        let mut drift = 0;
        for line in [
            "route del 203.0.113.9",
            "-6 route del 2001:db8:9::9",
            "route replace 203.0.113.9 via 192.0.2.2 metric 1024 proto 80",
            "route add 203.0.113.11 via 192.0.2.2 proto 80",
        ] {
            ip(line);
            let took = expect_routes(&wanted).await;
            assert!(took < Duration::from_millis(100), "{line}: {took:?}");
            drift += 1;
            assert_eq!(agent.handle.status().await.drift["peer"], drift, "{line}");
        }
        for (down, up) in [
            ("link set up1 down", "link set up1 up"),
            ("addr del 192.0.2.17/28 dev up1", "addr add 192.0.2.17/28 dev up1"),
        ] {
            ip(down);
            until(down, || !routes().iter().any(|route| route.starts_with("80 203."))).await;
            ip(up);
            expect_routes(&wanted).await;
        }
        // Its gateway comes.
        assert_eq!(agent.handle.status().await.waiting.len(), 1);
        ip("addr add 198.18.0.2/24 dev up0");
        wanted.insert(wanted.len() - 1, "80 203.0.113.10/32 via 198.18.0.1 dev up0".into());
        wanted.sort();
        expect_routes(&wanted).await;
        agent.handle.send(ToFelix::TrackNextHops([addr("203.0.113.9")].into())).await;
        agent.expect_told("203.0.113.9 via 192.0.2.18 dev up1 metric 1024").await;

        let monitor = IpMonitor::start().await;
        drop(agent);
        tokio::task::yield_now().await;
        let agent = Agent::spawn();
        agent.tell_pod().await;
        agent.handle.send(ToFelix::OwnBlocks([cidr("10.65.0.0/26"), cidr("fd65::/122")].into())).await;
        agent.handle.send(reachable_by(&peers)).await;
        agent.handle.send(ToFelix::InSync).await;
        agent.handle.barrier().await.unwrap();
        assert_eq!(monitor.finish().await, [""; 0], "a restart changes nothing");
        agent.handle.send(reachable_by(&[])).await;
        agent.handle.barrier().await.unwrap();
        expect_routes(&all_routes()).await;
    });
}

#[test]
fn a_workload_that_peers_reaches_the_nodes_bgp_port_and_others_do_not() {
    let node = Node::new();
    let other = Namespace::new();
    let other_link = "cali000000000bb";
    node.host.ip(&format!(
        "link add {other_link} address ee:ee:ee:ee:ee:ee type veth peer name eth0 address 02:00:00:00:00:02 netns {}",
        other.0
    ));
    wire(&node.pod, "10.65.0.1", "fd65::1");
    wire(&other, "10.65.0.2", "fd65::2");
    for link in [POD, other_link] {
        node.host.ip(&format!("addr add fe80::1/64 dev {link} nodad"));
    }
    node.run(async || {
        let mut agent = Agent::settled().await;
        // The other's policy lets nothing out, and nothing in.
        let mut policy = PolicyChanges::default();
        let addresses = std::collections::BTreeSet::from([addr("10.65.0.2"), addr("fd65::2")]);
        let programs =
            EndpointPrograms { addresses: addresses.clone(), ingress: Some(ProgramId(1)), egress: Some(ProgramId(2)) };
        policy.added.endpoints.insert(other_link.into(), programs);
        agent.handle.send(ToFelix::Policy(policy)).await;
        let endpoint = margay_felix_agent::LocalEndpoint { addresses, mac: Some(margay_net::Mac([2, 0, 0, 0, 0, 2])) };
        agent.handle.send(ToFelix::Endpoint { interface: other_link.into(), endpoint: Some(endpoint) }).await;
        agent.handle.barrier().await.unwrap();
        let listener = listen("0.0.0.0", 179);
        let listener6 = {
            // Both families on one port: the second for IPv6 alone.
            let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
            socket.set_only_v6(true).unwrap();
            socket.bind(&"[::]:179".parse::<SocketAddr>().unwrap().into()).unwrap();
            socket.listen(16).unwrap();
            socket
        };
        let others_port = listen("0.0.0.0", 180);
        let node_addresses = ["192.0.2.1", "2001:db8::1"];
        let expect = |from: &Namespace, to: &[&str], reaches: bool| {
            for to in to {
                let wait = if reaches { PATIENCE } else { SILENCE };
                assert_eq!(connects(from, to, 179, wait), reaches, "{to}");
            }
        };
        for from in [&node.pod, &other] {
            expect(from, &VIRTUAL, false);
            expect(from, &node_addresses, false);
        }
        agent.handle.send(workload_peers(&[POD])).await;
        agent.handle.barrier().await.unwrap();
        expect(&node.pod, &VIRTUAL, true);
        expect(&node.pod, &node_addresses, true);
        expect(&other, &VIRTUAL, false);
        expect(&other, &node_addresses, false);
        let shown = ip(&format!("-4 addr show dev {POD}"));
        assert!(shown.contains("inet 169.254.9.9/32 scope host"), "{shown}");
        let way = ip("route get 10.65.0.1");
        assert!(!way.contains("169.254.9.9"), "what the host sends comes from an address of its own: {way}");

        agent.handle.send(workload_peers(&[POD, other_link])).await;
        agent.handle.barrier().await.unwrap();
        for from in [&node.pod, &other] {
            expect(from, &VIRTUAL, true);
        }
        assert!(!connects(&other, VIRTUAL[0], 180, SILENCE), "its policy holds for every other port");
        assert_eq!(agent.handle.status().await.routes["address"], 4);
        agent.handle.send(workload_peers(&[other_link])).await;
        agent.handle.barrier().await.unwrap();
        expect(&node.pod, &VIRTUAL, false);
        expect(&other, &VIRTUAL, true);

        ip(&format!("addr del 169.254.9.9/32 dev {other_link}"));
        until("the address is back", || ip("addr show").contains("169.254.9.9")).await;
        assert_eq!(agent.handle.status().await.drift["address"], 1);
        ip(&format!("link set {other_link} down"));
        agent.handle.send(workload_peers(&[other_link])).await;
        ip(&format!("link set {other_link} up"));
        until("both addresses are back", || VIRTUAL.iter().all(|one| ip("addr show").contains(one))).await;
        assert!(
            agent.take_told().iter().all(|told| !told.contains("169.254.9.9")),
            "the speaker is told nothing of it"
        );
        drop(agent);

        let agent = Agent::spawn();
        agent.tell_pod().await;
        agent.handle.send(ToFelix::InSync).await;
        agent.handle.barrier().await.unwrap();
        let shown = ip("addr show");
        assert!(VIRTUAL.iter().all(|one| shown.contains(one)), "nobody said what should be there: {shown}");
        agent.handle.send(workload_peers(&[])).await;
        agent.handle.barrier().await.unwrap();
        let shown = ip("addr show");
        assert!(VIRTUAL.iter().all(|one| !shown.contains(one)), "{shown}");
        expect(&node.pod, &node_addresses, false);
        drop((listener, listener6, others_port));
    });
}

#[test]
fn an_ignored_loopback_is_not_announced() {
    let node = Node::new();
    node.run(async || {
        let mut agent = Agent::settled().await;
        ip("addr add 198.51.100.1/32 dev lo");
        agent.handle.send(ToFelix::NodeAddresses(vec![addr("198.51.100.1")])).await;
        agent.expect_told("announce 198.51.100.1/32 Loopback").await;
        let ignored_interfaces = ["l*".to_owned()].into();
        agent.handle.send(ToFelix::HostRoutes(HostRoutes { ignored_interfaces, ..HostRoutes::default() })).await;
        agent.expect_told("withdraw 198.51.100.1/32").await;
        agent.handle.send(ToFelix::HostRoutes(HostRoutes::default())).await;
        agent.expect_told("announce 198.51.100.1/32 Loopback").await;
    });
}
