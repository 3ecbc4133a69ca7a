//! A node with two uplinks and a pod, out of network namespaces, and an agent in it.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use margay_felix_agent::*;
use margay_felix_core::policy::{EndpointPrograms, PolicyChanges};
use margay_net::*;
use margay_netlink::netns;
use margay_netlink::rtnl::{RouteFilter, RouteKind, Rtnl};
use tokio::sync::mpsc;

pub const POD: &str = "cali000000000aa";
pub const PATIENCE: Duration = Duration::from_secs(5);

pub struct Namespace(pub String);

impl Namespace {
    pub fn new() -> Namespace {
        let mut random = [0; 4];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        let name = format!("mgy-{:08x}", u32::from_ne_bytes(random));
        netns::create(&name).expect("these tests need root");
        Namespace(name)
    }

    pub fn ip(&self, line: &str) {
        ip(&format!("-n {} {line}", self.0));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = netns::delete(&self.0);
    }
}

/// Runs `ip` in the thread's namespace.
pub fn ip(line: &str) -> String {
    let output = Command::new("ip").args(line.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

/// The namespaces of a test. The pod's host interface is down, as the CNI plugin leaves it.
pub struct Node {
    pub host: Namespace,
    pub tors: [Namespace; 2],
    pub pod: Namespace,
}

impl Node {
    pub fn new() -> Node {
        let node = Node { host: Namespace::new(), tors: [Namespace::new(), Namespace::new()], pod: Namespace::new() };
        node.host.ip("link set lo up");
        for (number, tor) in node.tors.iter().enumerate() {
            let third = number * 16;
            node.host.ip(&format!("link add up{number} type veth peer name node netns {}", tor.0));
            node.host.ip(&format!("addr add 192.0.2.{}/28 dev up{number}", third + 1));
            node.host.ip(&format!("addr add 2001:db8:{number}::1/64 dev up{number} nodad"));
            node.host.ip(&format!("link set up{number} up"));
            tor.ip("link set node up");
        }
        node.host.ip(&format!(
            "link add {POD} address ee:ee:ee:ee:ee:ee type veth peer name eth0 address 02:00:00:00:00:01 netns {}",
            node.pod.0
        ));
        node
    }

    /// Runs a test on a thread in the host's namespace.
    pub fn run<F: Future<Output = ()>>(&self, test: impl FnOnce() -> F + Send) {
        netns::in_namespace(&self.host.0, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(test());
        })
        .unwrap();
    }
}

/// An agent and what it told the speaker.
pub struct Agent {
    pub handle: FelixHandle,
    pub told: mpsc::Receiver<FromFelix>,
}

impl Agent {
    pub fn spawn() -> Agent {
        Agent::with_queue(1024)
    }

    pub fn with_queue(queue: usize) -> Agent {
        let (sender, told) = mpsc::channel(queue);
        let options =
            AgentOptions { node_addresses: vec![addr("192.0.2.1"), addr("2001:db8:0::1")], ..AgentOptions::default() };
        Agent { handle: spawn(options, sender).unwrap(), told }
    }

    /// Everything that a node with one pod, one block per family and two BGP routes tells.
    pub async fn tell_all(&self) {
        self.tell_pod().await;
        self.handle.send(ToFelix::OwnBlocks([cidr("10.65.0.0/26"), cidr("fd65::/122")].into())).await;
        self.handle.send(ToFelix::InSync).await;
        self.handle.send(ToFelix::Fib(fabric(1))).await;
    }

    pub async fn tell_pod(&self) {
        let addresses = BTreeSet::from([addr("10.65.0.1"), addr("fd65::1")]);
        let mut policy = PolicyChanges::default();
        let programs = EndpointPrograms { addresses: addresses.clone(), ..EndpointPrograms::default() };
        policy.added.endpoints.insert(POD.into(), programs);
        self.handle.send(ToFelix::Policy(policy)).await;
        let endpoint = LocalEndpoint { addresses, mac: Some(Mac([2, 0, 0, 0, 0, 1])) };
        self.handle.send(ToFelix::Endpoint { interface: POD.into(), endpoint: Some(endpoint) }).await;
    }

    /// A settled agent with all of it.
    pub async fn settled() -> Agent {
        let agent = Agent::spawn();
        agent.tell_all().await;
        agent.handle.barrier().await.unwrap();
        agent
    }

    pub fn take_told(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(message) = self.told.try_recv() {
            all.extend(words(message));
        }
        all
    }

    /// Waits for a message to the speaker.
    pub async fn expect_told(&mut self, wanted: &str) {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(PATIENCE, async {
            while let Some(message) = self.told.recv().await {
                seen.extend(words(message));
                if seen.iter().any(|seen| seen == wanted) {
                    return;
                }
            }
        });
        assert!(found.await.is_ok(), "no '{wanted}' in {seen:#?}");
    }
}

fn words(message: FromFelix) -> Vec<String> {
    match message {
        FromFelix::Local(changes) => changes
            .into_iter()
            .map(|change| match change {
                LocalRouteChange::Announce(route) => format!("announce {} {:?}", route.prefix, route.source),
                LocalRouteChange::Withdraw(prefix) => format!("withdraw {prefix}"),
            })
            .collect(),
        FromFelix::Link(state) => {
            vec![format!("link {} {}", state.interface, if state.running { "running" } else { "not running" })]
        }
        FromFelix::Applied { serial } => vec![format!("applied {serial}")],
        FromFelix::NextHop { address, resolved } => {
            let way = resolved.map_or("no way".to_owned(), |resolved| {
                let hop = |hop: &NextHop| format!("via {} dev {}", hop.addr, hop.interface.as_deref().unwrap_or("?"));
                let hops: Vec<_> = resolved.next_hops.iter().map(hop).collect();
                format!("{} metric {}", hops.join(" "), resolved.metric)
            });
            vec![format!("{address} {way}")]
        }
    }
}

pub fn set(prefix: &str, next_hops: &[&str]) -> FibChange {
    let next_hops: BTreeSet<_> = next_hops.iter().map(|hop| NextHop::via(addr(hop))).collect();
    FibChange::Set(BestRoute { prefix: cidr(prefix), next_hops: next_hops.into(), stale: false, discard: false })
}

/// A block of each family behind both ToRs, and a default route through the first; a whole table.
pub fn fabric(serial: u64) -> FibBatch {
    let changes = vec![
        set("10.66.0.0/26", &["192.0.2.2", "192.0.2.18"]),
        set("fd66::/122", &["2001:db8:0::2", "2001:db8:1::2"]),
        set("0.0.0.0/0", &["192.0.2.2"]),
    ];
    FibBatch { serial, changes, complete: true }
}

/// Our routes in the thread's namespace, in words.
pub fn routes() -> Vec<String> {
    let mut rtnl = Rtnl::open().unwrap();
    let names: std::collections::BTreeMap<_, _> =
        rtnl.links().unwrap().into_iter().map(|link| (link.index, link.name)).collect();
    let mut all = Vec::new();
    for protocol in [WORKLOAD_PROTOCOL, BLACKHOLE_PROTOCOL, BGP_PROTOCOL] {
        for route in rtnl.routes(&RouteFilter { protocol: Some(protocol), interface: None }).unwrap() {
            let kind = if route.kind == RouteKind::Blackhole { "blackhole " } else { "" };
            let mut text = format!("{protocol} {kind}{}", route.prefix);
            for hop in &route.next_hops {
                if let Some(gateway) = hop.gateway {
                    text += &format!(" via {gateway}");
                }
                text += &format!(" dev {}", names.get(&hop.interface).map_or("?", String::as_str));
            }
            if let Some(source) = route.prefsrc {
                text += &format!(" src {source}");
            }
            all.push(text);
        }
    }
    all.sort();
    all
}

/// All routes of [`Agent::tell_all`].
pub fn all_routes() -> Vec<String> {
    let mut all = vec![
        format!("77 10.65.0.1/32 dev {POD}"),
        format!("77 fd65::1/128 dev {POD}"),
        "78 blackhole 10.65.0.0/26".into(),
        "78 blackhole fd65::/122".into(),
        "79 0.0.0.0/0 via 192.0.2.2 dev up0 src 192.0.2.1".into(),
        "79 10.66.0.0/26 via 192.0.2.2 dev up0 via 192.0.2.18 dev up1 src 192.0.2.1".into(),
        "79 fd66::/122 via 2001:db8::2 dev up0 via 2001:db8:1::2 dev up1 src 2001:db8::1".into(),
    ];
    all.sort();
    all
}

/// Waits until the kernel's routes are these, and returns how long that took.
pub async fn expect_routes(wanted: &[String]) -> Duration {
    let begin = Instant::now();
    loop {
        let found = routes();
        if found == wanted {
            return begin.elapsed();
        }
        assert!(begin.elapsed() < PATIENCE, "found {found:#?}, wanted {wanted:#?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// `ip monitor route nexthop` of the thread's namespace.
pub struct IpMonitor {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl IpMonitor {
    /// Starts it and waits until it hears, by a route of the caller's own that is then removed.
    pub async fn start() -> IpMonitor {
        let mut child =
            Command::new("ip").args(["monitor", "route", "nexthop"]).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| sink.lock().unwrap().push(line));
        });
        let monitor = IpMonitor { child, lines };
        monitor.mark("198.51.100.254").await;
        monitor
    }

    /// Ends it and returns what it heard between start and end.
    pub async fn finish(mut self) -> Vec<String> {
        self.mark("198.51.100.253").await;
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| !line.contains("198.51.100.25")).cloned().collect()
    }

    async fn mark(&self, marker: &str) {
        let begin = Instant::now();
        while !self.lines.lock().unwrap().iter().any(|line| line.contains(marker)) {
            assert!(begin.elapsed() < PATIENCE, "ip monitor hears nothing");
            ip(&format!("route add blackhole {marker}"));
            ip(&format!("route del blackhole {marker}"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
