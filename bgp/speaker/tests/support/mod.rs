//! Two network namespaces with a cable between them: our speaker in one, a peer of another make in the other.
//!
//! Namespaces have no name in the file system: they live as long as the test holds them, and the kernel removes them
//! and everything in them however the test ends. Daemons die with the thread of the test that started them.

pub mod bird;
pub mod document;
pub mod exabgp;
pub mod frr;
pub mod gobgp;
mod mrt;
pub mod netns;
pub mod peer;
pub mod process;
pub mod raw;
pub mod speaker;

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use margay_net::{Cidr, Family};
use tempfile::TempDir;

use self::netns::Netns;

pub const INTERFACE: &str = "veth0";
pub const OUR_ASN: u32 = 64512;
pub const PEER_ASN: u32 = 65001;
/// What our speaker adds to all that it announces, beside MED 55.
pub const OUR_COMMUNITY: &str = "64512:200";
/// Routes in each direction.
pub const ROUTES: u16 = 1000;

/// The two namespaces, a directory for the peer's files and the family that the test is about.
pub struct Lab {
    pub ours: Netns,
    pub theirs: Netns,
    /// And the switch between the three.
    third: Option<(Netns, Netns)>,
    pub family: Family,
    routes: u16,
    dir: TempDir,
}

impl Lab {
    pub fn new(family: Family) -> Lab {
        Lab::with_routes(family, ROUTES)
    }

    /// A lab in which each side announces as many prefixes.
    pub fn with_routes(family: Family, routes: u16) -> Lab {
        let (ours, theirs) = (Netns::new(), Netns::new());
        let peer = theirs.path();
        ours.ip(&["link", "add", INTERFACE, "type", "veth", "peer", "name", INTERFACE, "netns", &peer]);
        configure(&ours, 1);
        configure(&theirs, 2);
        let second = format!("{}/24", raw::ADDRESS);
        theirs.ip(&["address", "add", &second, "dev", INTERFACE]);
        Lab { ours, theirs, third: None, family, routes, dir: directory() }
    }

    /// A lab with a third namespace, all of them on one segment.
    pub fn of_three(family: Family, routes: u16) -> Lab {
        let (ours, theirs, third, switch) = (Netns::new(), Netns::new(), Netns::new(), Netns::new());
        switch.ip(&["link", "add", "switch", "type", "bridge", "forward_delay", "0"]);
        switch.ip(&["link", "set", "switch", "up"]);
        for (netns, host) in [(&ours, 1), (&theirs, 2), (&third, 3)] {
            let port = format!("port{host}");
            switch.ip(&["link", "add", &port, "type", "veth", "peer", "name", INTERFACE, "netns", &netns.path()]);
            switch.ip(&["link", "set", &port, "master", "switch", "up"]);
            configure(netns, host);
        }
        Lab { ours, theirs, third: Some((third, switch)), family, routes, dir: directory() }
    }

    /// The namespace of [`Lab::collector_address`].
    pub fn collector(&self) -> &Netns {
        self.third.as_ref().map_or(&self.theirs, |(third, _)| third)
    }

    pub fn our_address(&self) -> IpAddr {
        match self.family {
            Family::V4 => IpAddr::from([192, 0, 2, 1]),
            Family::V6 => "fd99::1".parse().expect("an address"),
        }
    }

    pub fn peer_address(&self) -> IpAddr {
        match self.family {
            Family::V4 => IpAddr::from([192, 0, 2, 2]),
            Family::V6 => "fd99::2".parse().expect("an address"),
        }
    }

    /// The address of a third speaker.
    pub fn collector_address(&self) -> IpAddr {
        match self.family {
            Family::V4 => raw::ADDRESS.into(),
            Family::V6 => "fd99::3".parse().expect("an address"),
        }
    }

    /// The prefix that both ends are in.
    pub fn cable(&self) -> Cidr {
        let len = match self.family {
            Family::V4 => 24,
            Family::V6 => 64,
        };
        Cidr::truncated(self.our_address(), len).expect("a length that fits")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The prefixes that our speaker announces.
    pub fn our_prefixes(&self) -> Vec<Cidr> {
        prefixes(self.family, 200, self.routes)
    }

    /// The prefixes that the peer announces.
    pub fn peer_prefixes(&self) -> Vec<Cidr> {
        prefixes(self.family, 100, self.routes)
    }
}

fn directory() -> TempDir {
    TempDir::with_prefix("margay-interop-").expect("a temporary directory")
}

/// Gives a namespace its addresses and brings up its interface.
fn configure(netns: &Netns, host: u8) {
    netns.ip(&["address", "add", &format!("192.0.2.{host}/24"), "dev", INTERFACE]);
    netns.ip(&["address", "add", &format!("fd99::{host}/64"), "dev", INTERFACE, "nodad"]);
    netns.ip(&["link", "set", INTERFACE, "up"]);
}

fn prefixes(family: Family, block: u8, routes: u16) -> Vec<Cidr> {
    let text = |n: u16| match family {
        Family::V4 => format!("10.{}.{}.0/24", u16::from(block) + n / 256, n % 256),
        Family::V6 => format!("fd00:{block}:{n:x}::/48"),
    };
    (0..routes).map(|n| text(n).parse().expect("a prefix")).collect()
}

/// Asks until the answer is `Ok`; fails the test with the last answer when `limit` has passed.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(state) if Instant::now() > deadline => panic!("not within {limit:?}: {what}: {state}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Makes a condition an answer for [`within`].
pub fn so(is: bool, state: impl FnOnce() -> String) -> Result<(), String> {
    if is { Ok(()) } else { Err(state()) }
}
