use std::net::IpAddr;

use margay_net::Cidr;

use super::{CREATE, DUMP, EXCLUSIVE, PutAddr, Rtnl, address, family, message};
use crate::NetlinkError;
use crate::message::Message;

/// The size of `struct ifaddrmsg`.
const FIXED: usize = 8;
/// `IFA_FLAGS`: the flags in 32 bits.
const IFA_FLAGS: u16 = 8;

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub interface: u32,
    pub addr: IpAddr,
    pub prefix_len: u8,
    /// The other end of a point-to-point link; the connected prefix is then around it.
    pub peer: Option<IpAddr>,
    /// `RT_SCOPE_*`: 0 is global, 253 link, 254 host.
    pub scope: u8,
    /// `IFA_F_*`.
    pub flags: u32,
}

impl Address {
    /// A global address without flags.
    pub fn new(interface: u32, addr: IpAddr, prefix_len: u8) -> Address {
        Address { interface, addr, prefix_len, peer: None, scope: 0, flags: 0 }
    }

    /// Has it usable at once, without duplicate address detection (RFC 4862 section 5.4).
    pub fn without_dad(mut self) -> Address {
        self.flags |= libc::IFA_F_NODAD;
        self
    }

    /// Tells whether packets can be sent from it: duplicate address detection has passed.
    pub fn is_usable(&self) -> bool {
        self.flags & libc::IFA_F_TENTATIVE == 0 || self.flags & libc::IFA_F_OPTIMISTIC != 0
    }

    /// The prefix whose addresses are reached through the interface.
    pub fn connected(&self) -> Cidr {
        let around = self.peer.unwrap_or(self.addr);
        Cidr::truncated(around, self.prefix_len).unwrap_or(Cidr::host(around))
    }

    pub(super) fn parse(message: &Message<'_>) -> Option<Address> {
        let [_, prefix_len, flags, scope, index @ ..] = message.fixed::<FIXED>()?;
        let attrs = message.attrs(FIXED);
        let find = |kind| attrs.find(kind).and_then(address);
        let far = find(libc::IFA_ADDRESS);
        let local = find(libc::IFA_LOCAL);
        let addr = local.or(far)?;
        Some(Address {
            interface: u32::from_ne_bytes(index),
            addr,
            prefix_len,
            peer: far.filter(|far| *far != addr),
            scope,
            flags: attrs.u32(IFA_FLAGS).unwrap_or(flags.into()),
        })
    }

    fn fixed(&self) -> [u8; FIXED] {
        let [a, b, c, d] = self.interface.to_ne_bytes();
        [family(self.addr), self.prefix_len, 0, self.scope, a, b, c, d]
    }
}

impl Rtnl {
    /// Adds an address; one that is there already is an error (`EEXIST`).
    pub fn add_address(&mut self, address: &Address) -> Result<(), NetlinkError> {
        let mut message = message(libc::RTM_NEWADDR, CREATE | EXCLUSIVE, &address.fixed());
        message
            .attr_addr(libc::IFA_LOCAL, address.addr)
            .attr_addr(libc::IFA_ADDRESS, address.peer.unwrap_or(address.addr))
            .attr_u32(IFA_FLAGS, address.flags);
        self.socket.request(&describe("add", address), &mut message)
    }

    /// Deletes an address; one that isn't there is an error (`EADDRNOTAVAIL`).
    pub fn delete_address(&mut self, address: &Address) -> Result<(), NetlinkError> {
        let mut message = message(libc::RTM_DELADDR, 0, &address.fixed());
        message
            .attr_addr(libc::IFA_LOCAL, address.addr)
            .attr_addr(libc::IFA_ADDRESS, address.peer.unwrap_or(address.addr));
        self.socket.request(&describe("delete", address), &mut message)
    }

    /// Lists the addresses of all interfaces and both families.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let mut message = message(libc::RTM_GETADDR, DUMP, &[0; FIXED]);
        self.socket.dump("list the addresses", &mut message, |message| {
            (message.kind == libc::RTM_NEWADDR).then(|| Address::parse(&message))?
        })
    }
}

fn describe(verb: &str, address: &Address) -> String {
    format!("{verb} address {}/{} on interface {}", address.addr, address.prefix_len, address.interface)
}
