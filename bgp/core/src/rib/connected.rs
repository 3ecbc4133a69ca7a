use std::collections::BTreeSet;
use std::net::IpAddr;

use margay_net::{Cidr, Family, LinkState};

use super::walks::Task;
use super::{PeerProfile, Routing};
use crate::config::NextHopMode;

/// The node's own addresses, and what they connect it to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Connected {
    /// Some interface is known.
    known: bool,
    addresses: BTreeSet<IpAddr>,
    /// The longest first.
    subnets: Vec<Subnet>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Subnet {
    cidr: Cidr,
    interface: String,
}

impl Connected {
    /// Reads them off the interfaces. One that is down connects to nothing.
    pub(crate) fn of<'a>(links: impl Iterator<Item = &'a LinkState> + Clone) -> Connected {
        let known = links.clone().next().is_some();
        let addresses = links.clone().flat_map(|link| link.addresses.iter().map(|&(address, _)| address)).collect();
        let running = links.filter(|link| link.running);
        let mut subnets: Vec<Subnet> = running
            .flat_map(|link| link.addresses.iter().map(|&(_, cidr)| Subnet { cidr, interface: link.interface.clone() }))
            .filter(|subnet| !super::attributes::is_link_local(subnet.cidr.addr()))
            .collect();
        subnets.sort_by_key(|subnet| std::cmp::Reverse(subnet.cidr.len()));
        Connected { known, addresses, subnets }
    }

    /// Whether any interface is known; none is in a speaker without kernel routes.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// Returns the connected prefix that an address lies in.
    pub(crate) fn subnet_of(&self, address: IpAddr) -> Option<Cidr> {
        self.find(address).map(|subnet| subnet.cidr)
    }

    /// Returns the interface that an address is reached through.
    pub(crate) fn interface_of(&self, address: IpAddr) -> Option<&str> {
        self.find(address).map(|subnet| subnet.interface.as_str())
    }

    fn find(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.cidr.contains(address))
    }
}

impl Routing {
    /// Takes what the node is connected to; what depends on it is judged anew.
    pub(crate) fn set_connected(&mut self, connected: Connected) {
        if self.connected == connected {
            return;
        }
        let before = std::mem::replace(&mut self.connected, connected);
        let moved = before.addresses != self.connected.addresses;
        self.move_next_hops();
        for peer in self.peers.keys().collect::<Vec<_>>() {
            if moved || self.peers[&peer].profile.import.looks_at_interface() {
                self.import_again(peer);
            }
            self.move_groups(peer);
        }
        for table in &mut self.tables {
            if table.groups.iter().any(|(_, group)| group.key.export.looks_at_interface()) {
                table.walks.add(Task::Mark);
            }
        }
    }

    /// Returns the subnet in which routes' next hops may be left to a peer: the one that it is in itself, one hop away.
    pub(super) fn shared_subnet(&self, profile: &PeerProfile, family: Family) -> Option<Cidr> {
        let near = profile.next_hops_on_link() && Family::of(profile.remote) == family;
        if near && profile.next_hop == NextHopMode::Auto { self.connected.subnet_of(profile.remote) } else { None }
    }
}
