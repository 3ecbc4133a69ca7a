use std::os::fd::{AsRawFd, BorrowedFd};

use margay_net::Mac;

use super::{CREATE, DUMP, EXCLUSIVE, Rtnl, message};
use crate::NetlinkError;
use crate::message::{Message, MessageBuilder};

/// The size of `struct ifinfomsg`.
const FIXED: usize = 16;
const VETH_INFO_PEER: u16 = 1;
/// `RTEXT_FILTER_SKIP_STATS`: leaves the counters out of the answer.
const SKIP_STATS: u32 = 8;

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `IFF_*` of `linux/if.h`.
    pub flags: u32,
    pub mtu: u32,
    pub mac: Option<Mac>,
    /// The driver's name for virtual links, as in `veth`.
    pub kind: Option<String>,
}

impl Link {
    /// Administratively up.
    pub fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    /// Tells whether the other end is there.
    pub fn has_carrier(&self) -> bool {
        self.flags & libc::IFF_LOWER_UP as u32 != 0
    }

    /// Up and with carrier: packets can leave.
    pub fn is_running(&self) -> bool {
        self.is_up() && self.has_carrier()
    }

    /// Tells whether it is the namespace's own loopback.
    pub fn is_loopback(&self) -> bool {
        self.flags & libc::IFF_LOOPBACK as u32 != 0
    }

    /// `None` for what a bridge tells of its ports: a port that leaves is no link that goes.
    pub(super) fn parse(message: &Message<'_>) -> Option<Link> {
        let fixed: [u8; FIXED] = message.fixed()?;
        if fixed[0] != libc::AF_UNSPEC as u8 {
            return None;
        }
        let attrs = message.attrs(FIXED);
        let word = |at: usize| u32::from_ne_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        Some(Link {
            index: word(4),
            name: attrs.string(libc::IFLA_IFNAME)?,
            flags: word(8),
            mtu: attrs.u32(libc::IFLA_MTU).unwrap_or(0),
            mac: attrs.find(libc::IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()).map(Mac),
            kind: attrs.nested(libc::IFLA_LINKINFO).and_then(|info| info.string(libc::IFLA_INFO_KIND)),
        })
    }
}

/// A veth pair to be made.
#[derive(Debug, Clone, Default)]
pub struct VethSpec<'a> {
    pub name: &'a str,
    pub mac: Option<Mac>,
    pub peer_name: &'a str,
    pub peer_mac: Option<Mac>,
    /// The namespace of the peer; without one it is made beside the first end.
    pub peer_netns: Option<BorrowedFd<'a>>,
    /// Of both ends.
    pub mtu: Option<u32>,
}

impl Rtnl {
    /// Makes a veth pair, both ends down.
    pub fn create_veth(&mut self, spec: &VethSpec<'_>) -> Result<(), NetlinkError> {
        let mut message = message(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &ifinfo(0, 0, 0));
        let end = |m: &mut MessageBuilder, name: &str, mac: Option<Mac>| {
            m.attr_str(libc::IFLA_IFNAME, name);
            if let Some(Mac(octets)) = mac {
                m.attr(libc::IFLA_ADDRESS, &octets);
            }
            if let Some(mtu) = spec.mtu {
                m.attr_u32(libc::IFLA_MTU, mtu);
            }
        };
        end(&mut message, spec.name, spec.mac);
        message.nest(libc::IFLA_LINKINFO, |m| {
            m.attr_str(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    m.raw(&ifinfo(0, 0, 0));
                    end(m, spec.peer_name, spec.peer_mac);
                    if let Some(netns) = spec.peer_netns {
                        m.attr_u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
                    }
                });
            });
        });
        self.socket.request(&format!("create the veth pair {} and {}", spec.name, spec.peer_name), &mut message)
    }

    /// Sets an interface up.
    pub fn set_up(&mut self, index: u32) -> Result<(), NetlinkError> {
        let up = libc::IFF_UP as u32;
        self.change(index, "set up", up, up, |_| {})
    }

    /// Sets an interface down.
    pub fn set_down(&mut self, index: u32) -> Result<(), NetlinkError> {
        self.change(index, "set down", 0, libc::IFF_UP as u32, |_| {})
    }

    /// Gives an interface another name. One that is up can be renamed too.
    pub fn rename(&mut self, index: u32, name: &str) -> Result<(), NetlinkError> {
        self.change(index, &format!("rename to {name}"), 0, 0, |m| {
            m.attr_str(libc::IFLA_IFNAME, name);
        })
    }

    /// Sets the largest packet in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        self.change(index, &format!("set MTU {mtu} of"), 0, 0, |m| {
            m.attr_u32(libc::IFLA_MTU, mtu);
        })
    }

    /// Sets the link-layer address.
    pub fn set_mac(&mut self, index: u32, mac: Mac) -> Result<(), NetlinkError> {
        self.change(index, &format!("set address {mac} of"), 0, 0, |m| {
            m.attr(libc::IFLA_ADDRESS, &mac.0);
        })
    }

    /// Moves an interface to another namespace, where it may get another index.
    pub fn move_to_netns(&mut self, index: u32, netns: BorrowedFd<'_>) -> Result<(), NetlinkError> {
        self.change(index, "move to another namespace", 0, 0, |m| {
            m.attr_u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
        })
    }

    /// Deletes an interface; the other end of a veth pair goes with it. The kernel takes 20 ms for it.
    pub fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut message = message(libc::RTM_DELLINK, 0, &ifinfo(index, 0, 0));
        self.socket.request(&format!("delete interface {index}"), &mut message)
    }

    /// The interface of a name; `None` if there is none.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        // The kernel refuses longer names as malformed, but they name nothing as well.
        if name.len() >= libc::IFNAMSIZ {
            return Ok(None);
        }
        self.find_link(&format!("find interface {name}"), 0, |m| {
            m.attr_str(libc::IFLA_IFNAME, name);
        })
    }

    /// The interface of an index; `None` if there is none.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        self.find_link(&format!("find interface {index}"), index, |_| {})
    }

    /// Lists the interfaces.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let mut message = message(libc::RTM_GETLINK, DUMP, &ifinfo(0, 0, 0));
        message.attr_u32(libc::IFLA_EXT_MASK, SKIP_STATS);
        self.socket.dump("list the interfaces", &mut message, |message| {
            (message.kind == libc::RTM_NEWLINK).then(|| Link::parse(&message))?
        })
    }

    fn find_link(
        &mut self,
        operation: &str,
        index: u32,
        fill: impl FnOnce(&mut MessageBuilder),
    ) -> Result<Option<Link>, NetlinkError> {
        let mut message = message(libc::RTM_GETLINK, 0, &ifinfo(index, 0, 0));
        message.attr_u32(libc::IFLA_EXT_MASK, SKIP_STATS);
        fill(&mut message);
        match self.socket.get(operation, &mut message, |message| Link::parse(&message)) {
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            other => Ok(other?.into_iter().next()),
        }
    }

    fn change(
        &mut self,
        index: u32,
        what: &str,
        flags: u32,
        mask: u32,
        fill: impl FnOnce(&mut MessageBuilder),
    ) -> Result<(), NetlinkError> {
        let mut message = message(libc::RTM_NEWLINK, 0, &ifinfo(index, flags, mask));
        fill(&mut message);
        self.socket.request(&format!("{what} interface {index}"), &mut message)
    }
}

fn ifinfo(index: u32, flags: u32, mask: u32) -> [u8; FIXED] {
    let mut fixed = [0; FIXED];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&mask.to_ne_bytes());
    fixed
}
