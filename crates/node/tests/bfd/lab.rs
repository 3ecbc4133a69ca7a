//! Namespaces with cables between them. They have no name in the file system: they live as long as the test holds them.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use margay_local_api::BfdSessionConfig;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub const INTERFACE: &str = "veth0";

pub struct Netns {
    file: File,
}

impl Netns {
    fn new() -> Netns {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests make network namespaces: run them as root");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let netns = Netns { file: file.join().unwrap() };
        netns.run("ip", &["link", "set", "lo", "up"]);
        // No address that the test didn't give.
        netns.sysctl("net/ipv6/conf/default/addr_gen_mode", "1");
        netns
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// A command that runs in the namespace and dies with the calling thread.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter", &format!("--net={}", self.path())]).arg(program);
        command
    }

    /// As [`Netns::command`], before all processes of normal priority.
    pub fn command_in_real_time(&self, program: &str) -> Command {
        let mut command = self.command("chrt");
        command.args(["--rr", "20", program]);
        command
    }

    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.command(program).args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {}: {error}", arguments.join(" "));
    }

    fn sysctl(&self, name: &str, value: &str) {
        self.inside(|| std::fs::write(format!("/proc/sys/{name}"), value).unwrap());
    }

    /// Runs a closure on a thread of its own in the namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    fn cable(&self, name: &str, other: &Netns, other_name: &str) {
        let path = other.path();
        self.run("ip", &["link", "add", name, "type", "veth", "peer", "name", other_name, "netns", &path]);
    }

    /// Gives an interface addresses and sets it up.
    pub fn set_up(&self, interface: &str, addresses: &[&str]) {
        for address in addresses {
            let mut words = vec!["address", "add", address, "dev", interface];
            if address.contains(':') {
                words.push("nodad");
            }
            self.run("ip", &words);
        }
        self.run("ip", &["link", "set", interface, "up"]);
    }
}

/// By which way the two ends reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    V4,
    V6,
    LinkLocal,
    MultihopV4,
    MultihopV6,
}

impl Way {
    pub fn is_multihop(self) -> bool {
        matches!(self, Way::MultihopV4 | Way::MultihopV6)
    }

    pub fn our_address(self) -> IpAddr {
        self.address("192.0.2.1", "fd99::1", "fe80::1", "192.0.2.1", "fd99::1")
    }

    pub fn their_address(self) -> IpAddr {
        self.address("192.0.2.2", "fd99::2", "fe80::2", "198.51.100.2", "fd98::2")
    }

    fn address(self, v4: &str, v6: &str, link_local: &str, multihop_v4: &str, multihop_v6: &str) -> IpAddr {
        let text = match self {
            Way::V4 => v4,
            Way::V6 => v6,
            Way::LinkLocal => link_local,
            Way::MultihopV4 => multihop_v4,
            Way::MultihopV6 => multihop_v6,
        };
        text.parse().unwrap()
    }
}

/// Our end, the peer's, and between them a cable, or a router for several hops.
pub struct Lab {
    pub ours: Netns,
    pub theirs: Netns,
    pub way: Way,
    _router: Option<Netns>,
    dir: TempDir,
}

impl Lab {
    pub fn new(way: Way) -> Lab {
        let (ours, theirs) = (Netns::new(), Netns::new());
        let our_addresses = ["192.0.2.1/24", "fd99::1/64", "fe80::1/64"];
        let router = way.is_multihop().then(|| {
            let router = Netns::new();
            router.sysctl("net/ipv4/ip_forward", "1");
            router.sysctl("net/ipv6/conf/all/forwarding", "1");
            ours.cable(INTERFACE, &router, "near");
            theirs.cable(INTERFACE, &router, "far");
            router.set_up("near", &["192.0.2.254/24", "fd99::fe/64"]);
            router.set_up("far", &["198.51.100.254/24", "fd98::fe/64"]);
            ours.set_up(INTERFACE, &our_addresses);
            theirs.set_up(INTERFACE, &["198.51.100.2/24", "fd98::2/64", "fe80::2/64"]);
            ours.run("ip", &["route", "add", "198.51.100.0/24", "via", "192.0.2.254"]);
            ours.run("ip", &["route", "add", "fd98::/64", "via", "fd99::fe"]);
            theirs.run("ip", &["route", "add", "192.0.2.0/24", "via", "198.51.100.254"]);
            theirs.run("ip", &["route", "add", "fd99::/64", "via", "fd98::fe"]);
            router
        });
        if router.is_none() {
            ours.cable(INTERFACE, &theirs, INTERFACE);
            ours.set_up(INTERFACE, &our_addresses);
            theirs.set_up(INTERFACE, &["192.0.2.2/24", "fd99::2/64", "fe80::2/64"]);
        }
        Lab { ours, theirs, way, _router: router, dir: TempDir::with_prefix("margay-bfd-").unwrap() }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The session that our end has over this lab, 3 x 100 ms.
    pub fn session(&self) -> BfdSessionConfig {
        let multihop = self.way.is_multihop();
        BfdSessionConfig {
            id: "peer".to_owned(),
            remote: self.way.their_address(),
            local: Some(self.way.our_address()),
            interface: (!multihop).then(|| INTERFACE.to_owned()),
            multihop,
            min_tx_ms: 100,
            min_rx_ms: 100,
            multiplier: 3,
            // BIRD sends over several hops with the system's default TTL, 64.
            min_ttl: multihop.then_some(63),
            passive: false,
        }
    }
}

/// A daemon in the foreground, killed when dropped; its output goes to a file.
pub struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    pub fn start(mut command: Command, output: &Path) -> Process {
        let file = File::create(output).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process { child, output: output.to_owned() }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Waits for its end; the exit code.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        within(limit, "the process ends", || {
            let status = self.child.try_wait().unwrap().ok_or_else(|| self.output())?;
            Ok(status.code())
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command and returns what it printed, or what went wrong.
pub fn printed(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{command:?}: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Asks until the answer is `Ok`; fails the test with the last answer when `limit` has passed.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(state) if Instant::now() > deadline => panic!("not within {limit:?}: {what}: {state}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
