//! Two network namespaces with a cable between them: our speaker in one, a peer of another make in the other.
//!
//! Namespaces have no name in the file system: they live as long as the test holds them, and the kernel removes them
//! and everything in them however the test ends. Daemons die with the thread of the test that started them.

pub mod bird;
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
    pub family: Family,
    dir: TempDir,
}

impl Lab {
    pub fn new(family: Family) -> Lab {
        let (ours, theirs) = (Netns::new(), Netns::new());
        let peer = theirs.path();
        ours.ip(&["link", "add", INTERFACE, "type", "veth", "peer", "name", INTERFACE, "netns", &peer]);
        for (netns, host) in [(&ours, 1), (&theirs, 2)] {
            netns.ip(&["address", "add", &format!("192.0.2.{host}/24"), "dev", INTERFACE]);
            netns.ip(&["address", "add", &format!("fd99::{host}/64"), "dev", INTERFACE, "nodad"]);
            netns.ip(&["link", "set", INTERFACE, "up"]);
        }
        let second = format!("{}/24", raw::ADDRESS);
        theirs.ip(&["address", "add", &second, "dev", INTERFACE]);
        Lab { ours, theirs, family, dir: TempDir::with_prefix("margay-interop-").expect("a temporary directory") }
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
        prefixes(self.family, 200)
    }

    /// The prefixes that the peer announces.
    pub fn peer_prefixes(&self) -> Vec<Cidr> {
        prefixes(self.family, 100)
    }
}

fn prefixes(family: Family, block: u8) -> Vec<Cidr> {
    let text = |n: u16| match family {
        Family::V4 => format!("10.{}.{}.0/24", u16::from(block) + n / 256, n % 256),
        Family::V6 => format!("fd00:{block}:{n:x}::/48"),
    };
    (0..ROUTES).map(|n| text(n).parse().expect("a prefix")).collect()
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
