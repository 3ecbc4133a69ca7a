//! Links, addresses, neighbours and routes (`linux/rtnetlink.h`), and the kernel's events about them.

mod address;
mod link;
mod monitor;
mod neighbour;
mod route;

pub use address::Address;
pub use link::{Link, VethSpec};
#[cfg(feature = "async")]
pub use monitor::AsyncMonitor;
pub use monitor::{Event, Group, Monitor};
pub use neighbour::Neighbour;
pub use route::{Route, RouteChange, RouteFilter, RouteHop, RouteKind};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::message::MessageBuilder;
use crate::{NetlinkError, NetlinkSocket, Protocol};

/// A socket for requests about links, addresses, neighbours and routes of one network namespace: that of the thread
/// which opens it. Each call returns when the kernel did what was asked.
#[derive(Debug)]
pub struct Rtnl {
    socket: NetlinkSocket,
}

impl Rtnl {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Rtnl, NetlinkError> {
        Ok(Rtnl { socket: NetlinkSocket::open(Protocol::Route)? })
    }

    /// The port that events carry which this socket's requests cause.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }
}

const CREATE: u16 = libc::NLM_F_CREATE as u16;
const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;

fn message(kind: u16, flags: u16, fixed: &[u8]) -> MessageBuilder {
    let mut message = MessageBuilder::new();
    message.begin(kind, flags, fixed);
    message
}

fn family(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// An address from its bytes, four or sixteen.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into())
}

trait PutAddr {
    fn attr_addr(&mut self, kind: u16, addr: IpAddr) -> &mut Self;
}

impl PutAddr for MessageBuilder {
    fn attr_addr(&mut self, kind: u16, addr: IpAddr) -> &mut Self {
        match addr {
            IpAddr::V4(addr) => self.attr(kind, &addr.octets()),
            IpAddr::V6(addr) => self.attr(kind, &addr.octets()),
        }
    }
}
