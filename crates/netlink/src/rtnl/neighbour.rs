use std::net::IpAddr;

use margay_net::Mac;

use super::{CREATE, DUMP, PutAddr, REPLACE, Rtnl, address, family, message};
use crate::NetlinkError;
use crate::message::Message;

/// The size of `struct ndmsg`.
const FIXED: usize = 12;

/// An entry of the neighbour table: the link-layer address of an IP address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    pub interface: u32,
    pub addr: IpAddr,
    pub mac: Option<Mac>,
    /// `NUD_*`.
    pub state: u16,
}

impl Neighbour {
    /// An entry that is never asked for again.
    pub fn permanent(interface: u32, addr: IpAddr, mac: Mac) -> Neighbour {
        Neighbour { interface, addr, mac: Some(mac), state: libc::NUD_PERMANENT }
    }

    /// Tells whether the entry is never asked for again.
    pub fn is_permanent(&self) -> bool {
        self.state & libc::NUD_PERMANENT != 0
    }

    /// `None` for what isn't an IP neighbour: an entry of a bridge, or a proxied address.
    pub(super) fn parse(message: &Message<'_>) -> Option<Neighbour> {
        let [entry_family, _, _, _, i0, i1, i2, i3, s0, s1, flags, _] = message.fixed::<FIXED>()?;
        let attrs = message.attrs(FIXED);
        let addr = attrs.find(libc::NDA_DST).and_then(address)?;
        (entry_family == family(addr) && flags & libc::NTF_PROXY == 0).then(|| Neighbour {
            interface: u32::from_ne_bytes([i0, i1, i2, i3]),
            addr,
            mac: attrs.find(libc::NDA_LLADDR).and_then(|mac| mac.try_into().ok()).map(Mac),
            state: u16::from_ne_bytes([s0, s1]),
        })
    }

    fn fixed(&self) -> [u8; FIXED] {
        let [i0, i1, i2, i3] = self.interface.to_ne_bytes();
        let [s0, s1] = self.state.to_ne_bytes();
        [family(self.addr), 0, 0, 0, i0, i1, i2, i3, s0, s1, 0, 0]
    }
}

impl Rtnl {
    /// Adds an entry, or puts it in place of the address's entry.
    pub fn set_neighbour(&mut self, neighbour: &Neighbour) -> Result<(), NetlinkError> {
        let mut message = message(libc::RTM_NEWNEIGH, CREATE | REPLACE, &neighbour.fixed());
        message.attr_addr(libc::NDA_DST, neighbour.addr);
        if let Some(Mac(octets)) = neighbour.mac {
            message.attr(libc::NDA_LLADDR, &octets);
        }
        self.socket.request(&describe("set", neighbour), &mut message)
    }

    /// Deletes an entry; one that isn't there is an error (`ENOENT`).
    pub fn delete_neighbour(&mut self, interface: u32, addr: IpAddr) -> Result<(), NetlinkError> {
        let neighbour = Neighbour { interface, addr, mac: None, state: 0 };
        let mut message = message(libc::RTM_DELNEIGH, 0, &neighbour.fixed());
        message.attr_addr(libc::NDA_DST, addr);
        self.socket.request(&describe("delete", &neighbour), &mut message)
    }

    /// Lists the entries of both families.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, NetlinkError> {
        let mut message = message(libc::RTM_GETNEIGH, DUMP, &[0; FIXED]);
        self.socket.dump("list the neighbours", &mut message, |message| {
            (message.kind == libc::RTM_NEWNEIGH).then(|| Neighbour::parse(&message))?
        })
    }
}

fn describe(verb: &str, neighbour: &Neighbour) -> String {
    format!("{verb} neighbour {} on interface {}", neighbour.addr, neighbour.interface)
}
