use std::collections::BTreeSet;

use margay_net::{Cidr, Family};
use margay_netlink::nft::Key;

use super::entries::{Entries, Entry};
use super::skeleton::{BGP_PEERS, SERVICES4, SERVICES6};

/// What the host itself asks of the table, beside the policy of pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostRules {
    /// What would be forwarded to these, and not to a pod here, is dropped: nothing on this node serves the address, and a
    /// router that was told that it does would send the packet back. Calico's `serviceLoopPrevention: Drop`.
    pub services: BTreeSet<Cidr>,
    /// The interfaces of pods that may reach the node's BGP port, whatever their policy is.
    pub bgp_peers: BTreeSet<String>,
}

impl HostRules {
    /// The entries that stand for them.
    pub(super) fn entries(&self) -> Entries {
        let mut out = Entries::new();
        let mut put = |set: &'static str, entry: Entry| {
            out.entry(set).or_default().insert(entry);
        };
        for interface in &self.bgp_peers {
            put(BGP_PEERS, Entry::new(Key::single().ifname(interface)));
        }
        // In the set's order a prefix comes before those within, which the kernel would refuse beside it.
        let mut last: Option<Cidr> = None;
        for &service in &self.services {
            if last.is_some_and(|last| last.covers(service)) {
                continue;
            }
            last = Some(service);
            let set = if service.family() == Family::V4 { SERVICES4 } else { SERVICES6 };
            put(set, Entry::range(service.addr(), service.last()));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_service_within_a_range_is_no_entry_of_its_own() {
        let services = ["10.96.0.0/12", "10.96.0.7/32", "10.112.0.0/16", "203.0.113.7/32", "fd96::/112", "fd96::7/128"];
        let services = services.iter().map(|service| service.parse().unwrap()).collect();
        let entries = HostRules { services, bgp_peers: BTreeSet::new() }.entries();
        assert_eq!((entries[SERVICES4].len(), entries[SERVICES6].len()), (3, 1));
    }
}
