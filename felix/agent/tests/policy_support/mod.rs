//! A node with two pods and a neighbour, out of network namespaces, and traffic between them.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use margay_felix_agent::policy::PolicyDataplane;
use margay_felix_core::policy::*;
use margay_netlink::netns;

/// How long a packet that must not arrive is waited for.
pub const SILENCE: Duration = Duration::from_millis(300);
/// How long one that must arrive may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub const A: &str = "cali000000000aa";
pub const B: &str = "cali000000000bb";
pub const A4: &str = "10.65.0.1";
pub const B4: &str = "10.65.0.2";
pub const A6: &str = "fd65::1";
pub const B6: &str = "fd65::2";
pub const NODE4: &str = "192.0.2.1";
pub const NODE6: &str = "2001:db8::1";
pub const OUTSIDE4: &str = "192.0.2.2";
pub const OUTSIDE6: &str = "2001:db8::2";

/// A named namespace, removed on drop.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new() -> Namespace {
        let mut random = [0; 4];
        File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
        let name = format!("mgy-{:08x}", u32::from_ne_bytes(random));
        netns::create(&name).expect("these tests need root");
        Namespace(name)
    }

    /// Runs the closure on a thread inside the namespace.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self.spawn(work).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let name = self.0.clone();
        std::thread::spawn(move || {
            netns::enter(name).unwrap();
            work()
        })
    }

    pub fn exec(&self, line: &str) -> String {
        command("ip", &format!("netns exec {} {line}", self.0))
    }

    pub fn try_exec(&self, line: &str) -> Output {
        Command::new("ip").args(["netns", "exec", &self.0]).args(line.split(' ')).output().unwrap()
    }

    fn ip(&self, batch: &str) {
        for line in batch.lines().map(str::trim).filter(|l| !l.is_empty()) {
            command("ip", &format!("-n {} {line}", self.0));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = netns::delete(&self.0);
    }
}

pub fn command(program: &str, line: &str) -> String {
    let output = Command::new(program).args(line.split(' ')).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub struct Node {
    pub a: Namespace,
    pub b: Namespace,
    pub outside: Namespace,
    pub host: Namespace,
}

impl Node {
    pub fn new() -> Node {
        let node = Node { a: Namespace::new(), b: Namespace::new(), outside: Namespace::new(), host: Namespace::new() };
        node.host
            .exec("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0");
        for (pod, link, v4, v6) in [(&node.a, A, A4, A6), (&node.b, B, B4, B6)] {
            node.host.ip(&format!(
                "link add {link} address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns {}
                 link set {link} up
                 addr add fe80::1/64 dev {link} nodad",
                pod.0
            ));
            pod.exec("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0");
            pod.ip(&format!(
                "link set lo up
                 link set eth0 up
                 addr add {v4}/32 dev eth0
                 addr add {v6}/128 dev eth0 nodad
                 neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee nud permanent dev eth0
                 route add 169.254.1.1 dev eth0 scope link
                 route add default via 169.254.1.1 dev eth0
                 route add default via fe80::1 dev eth0"
            ));
            node.host.ip(&format!("route add {v4}/32 dev {link}\nroute add {v6}/128 dev {link}"));
        }
        node.host.ip(&format!(
            "link set lo up
             link add up0 type veth peer name eth0 netns {}
             link set up0 up
             addr add {NODE4}/24 dev up0
             addr add {NODE6}/64 dev up0 nodad",
            node.outside.0
        ));
        node.outside.ip(&format!(
            "link set lo up
             link set eth0 up
             addr add {OUTSIDE4}/24 dev eth0
             addr add {OUTSIDE6}/64 dev eth0 nodad
             route add 10.65.0.0/16 via {NODE4}
             route add fd65::/64 via {NODE6}"
        ));
        node
    }

    /// Opens the dataplane in the host's namespace; its socket can be used from any thread.
    pub fn dataplane(&self) -> PolicyDataplane {
        self.host.run(|| PolicyDataplane::open().unwrap())
    }
}

/// Endpoints of both pods without a program.
pub fn open_tables() -> PolicyTables {
    let mut tables = PolicyTables::default();
    for (link, v4, v6) in [(A, A4, A6), (B, B4, B6)] {
        let addresses = [ip(v4), ip(v6)].into();
        tables.endpoints.insert(link.into(), EndpointPrograms { addresses, ingress: None, egress: None });
    }
    tables
}

/// Both pods, with B isolated for ingress by program 1.
pub fn isolated_b() -> PolicyTables {
    let mut tables = open_tables();
    tables.endpoints.get_mut(B).unwrap().ingress = Some(ProgramId(1));
    tables
}

pub fn allow(program: u32, peer: u32, protocol: Option<u8>, ports: PortMatch) -> Allow {
    let protocol = protocol.map_or(ProtocolMatch::Any, ProtocolMatch::Number);
    Allow { program: ProgramId(program), peer: IdentityId(peer), protocol, ports }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Serves TCP and UDP on these ports of the namespace, both families, echoing what comes, until the test ends.
pub fn serve(namespace: &Namespace, ports: &[u16]) {
    for &port in ports {
        let listener = namespace.run(move || TcpListener::bind(("::", port)).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut writer = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut &stream, &mut writer);
                });
            }
        });
        let socket = namespace.run(move || UdpSocket::bind(("::", port)).unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..len], from);
            }
        });
    }
}

/// Connects; `None` if nothing answered within the silence. A refusal is a failure of the test: drops are silent.
pub fn tcp(from: &Namespace, to: &str, port: u16, wait: Duration) -> Option<TcpStream> {
    let to = SocketAddr::new(ip(to), port);
    match from.run(move || TcpStream::connect_timeout(&to, wait)) {
        Ok(stream) => Some(stream),
        Err(error) if error.kind() == ErrorKind::TimedOut => None,
        Err(error) => panic!("{to}: {error}"),
    }
}

/// Tells whether bytes still come back on the connection.
pub fn echoes(stream: &mut TcpStream, wait: Duration) -> bool {
    stream.set_read_timeout(Some(wait)).unwrap();
    stream.write_all(b"x").unwrap();
    let mut buffer = [0; 16];
    stream.read(&mut buffer).is_ok_and(|n| n > 0)
}

/// Sends datagrams until one comes back.
pub fn udp(from: &Namespace, to: &str, port: u16, wait: Duration) -> bool {
    let to = SocketAddr::new(ip(to), port);
    from.run(move || {
        let any: IpAddr = if to.is_ipv4() { ip("0.0.0.0") } else { ip("::") };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let deadline = Instant::now() + wait;
        while Instant::now() < deadline {
            socket.send_to(b"x", to).unwrap();
            if socket.recv(&mut [0; 16]).is_ok() {
                return true;
            }
        }
        false
    })
}

#[track_caller]
pub fn passes(from: &Namespace, to: &str, port: u16) {
    assert!(tcp(from, to, port, PATIENCE).is_some(), "TCP to {to} port {port} is dropped");
    assert!(udp(from, to, port, PATIENCE), "UDP to {to} port {port} is dropped");
}

#[track_caller]
pub fn dropped(from: &Namespace, to: &str, port: u16) {
    assert!(tcp(from, to, port, SILENCE).is_none(), "TCP to {to} port {port} passes");
    assert!(!udp(from, to, port, SILENCE), "UDP to {to} port {port} passes");
}

pub fn ping(from: &Namespace, to: &str, wait: &str) -> bool {
    from.try_exec(&format!("ping -n -c 1 -W {wait} {to}")).status.success()
}

/// The packets that the drop rules of a chain counted.
pub fn drop_count(node: &Node, chain: &str) -> u64 {
    let text = node.host.exec(&format!("nft list chain inet margay {chain}"));
    text.split("counter packets ").skip(1).map(|t| t.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
