use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use margay_net::{Asn, Cidr, Family};

/// The address families that a lab's fabric, nodes and pods use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Families {
    #[default]
    V4,
    V6,
    Dual,
}

impl Families {
    /// The families in order, IPv4 first.
    pub fn each(self) -> &'static [Family] {
        match self {
            Families::V4 => &[Family::V4],
            Families::V6 => &[Family::V6],
            Families::Dual => &Family::ALL,
        }
    }

    /// Whether the lab uses a family.
    pub fn has(self, family: Family) -> bool {
        self.each().contains(&family)
    }
}

/// The shape of a lab: how many racks, routers and nodes there are. Everything else (names, AS numbers, addresses)
/// follows from it, so that a reader of a capture can tell who is who.
///
/// | what | AS | IPv4 | IPv6 |
/// |---|---|---|---|
/// | spine S | 64600 + S | links 10.102.(16 S + R).(2 T)/31 | fd00:102:S:R::(2 T)/127 |
/// | ToR T of rack R, towards all its nodes | 64700 + 10 R + T | 10.101.R.T | fd00:101:R::T |
/// | node N of rack R, on `lo` and on both uplinks | 4200000000 + 1000 R + N | 10.100.R.N | fd00:100:R::N |
/// | pods | | 10.65.0.0/16 | fd65::/48 |
///
/// The uplinks are unnumbered: each carries the node's one address, with the ToR's address as the peer of the link. So a
/// packet that leaves a node has the same source whichever uplink it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Racks, named a, b, c, ...; 1 to 15.
    pub racks: u8,
    /// ToR routers in each rack; 1 to 9.
    pub tors_per_rack: u8,
    /// Nodes in each rack; 1 to 200.
    pub nodes_per_rack: u8,
    /// Spines, each linked to every ToR; 0 to 15 (without spines there is one rack).
    pub spines: u8,
    /// The address families in use.
    pub families: Families,
    /// Whether routers and nodes watch each other by BFD, 3 x 100 ms.
    pub bfd: bool,
}

impl Default for Topology {
    fn default() -> Topology {
        Topology { racks: 2, tors_per_rack: 2, nodes_per_rack: 2, spines: 2, families: Families::V4, bfd: false }
    }
}

/// A spine router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpineSpec {
    pub index: u8,
    pub name: String,
    pub asn: Asn,
}

/// A top-of-rack router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorSpec {
    /// The rack, counted from 1.
    pub rack: u8,
    pub index: u8,
    pub name: String,
    pub asn: Asn,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// The rack, counted from 1.
    pub rack: u8,
    pub index: u8,
    pub name: String,
    pub asn: Asn,
}

impl NodeSpec {
    /// The value of the node's label `rack`: a, b, ...
    pub fn rack_name(&self) -> char {
        rack_name(self.rack)
    }

    /// What comes after `node-` in its name, as in a1.
    pub fn short(&self) -> String {
        format!("{}{}", self.rack_name(), self.index)
    }

    /// The node's own address: on `lo`, announced by its daemon, and the source of what it sends.
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 100, self.rack, self.index).into(),
            Family::V6 => v6([0xfd00, 0x100, self.rack.into(), 0, 0, 0, 0, self.index.into()]),
        }
    }
}

impl TorSpec {
    /// The letter of the ToR's rack.
    pub fn rack_name(&self) -> char {
        rack_name(self.rack)
    }

    /// The address that all nodes of the rack peer with.
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 101, self.rack, self.index).into(),
            Family::V6 => v6([0xfd00, 0x101, self.rack.into(), 0, 0, 0, 0, self.index.into()]),
        }
    }

    /// The router id.
    pub fn router_id(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.rack, self.index)
    }

    /// The addresses of the link to a spine: (spine's, ToR's), of a /31 or /127.
    pub fn link_to(&self, spine: &SpineSpec, family: Family) -> (IpAddr, IpAddr) {
        let low = 2 * self.index;
        let at = |last: u8| match family {
            Family::V4 => Ipv4Addr::new(10, 102, 16 * spine.index + self.rack, last).into(),
            Family::V6 => v6([0xfd00, 0x102, spine.index.into(), self.rack.into(), 0, 0, 0, last.into()]),
        };
        (at(low), at(low + 1))
    }
}

impl SpineSpec {
    /// The router id.
    pub fn router_id(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 98, 0, self.index)
    }
}

impl Topology {
    /// One rack with two ToRs and two nodes, without spines.
    pub fn one_rack() -> Topology {
        Topology { racks: 1, spines: 0, ..Topology::default() }
    }

    /// The same shape in other families.
    pub fn with_families(self, families: Families) -> Topology {
        Topology { families, ..self }
    }

    /// The same shape, with BFD on every session.
    pub fn with_bfd(self) -> Topology {
        Topology { bfd: true, ..self }
    }

    /// The spines.
    pub fn spines(&self) -> Vec<SpineSpec> {
        (1..=self.spines)
            .map(|index| SpineSpec { index, name: format!("spine{index}"), asn: Asn(64600 + u32::from(index)) })
            .collect()
    }

    /// The ToRs, rack by rack.
    pub fn tors(&self) -> Vec<TorSpec> {
        (1..=self.racks).flat_map(|rack| self.tors_of(rack)).collect()
    }

    /// The ToRs of one rack.
    pub fn tors_of(&self, rack: u8) -> Vec<TorSpec> {
        (1..=self.tors_per_rack)
            .map(|index| TorSpec {
                rack,
                index,
                name: format!("tor-{}{index}", rack_name(rack)),
                asn: Asn(64700 + 10 * u32::from(rack) + u32::from(index)),
            })
            .collect()
    }

    /// The nodes, rack by rack.
    pub fn nodes(&self) -> Vec<NodeSpec> {
        (1..=self.racks).flat_map(|rack| self.nodes_of(rack)).collect()
    }

    /// The nodes of one rack.
    pub fn nodes_of(&self, rack: u8) -> Vec<NodeSpec> {
        (1..=self.nodes_per_rack)
            .map(|index| NodeSpec {
                rack,
                index,
                name: format!("node-{}{index}", rack_name(rack)),
                asn: Asn(4_200_000_000 + 1000 * u32::from(rack) + u32::from(index)),
            })
            .collect()
    }

    /// The pool that pods get their addresses from.
    pub fn pool(family: Family) -> Cidr {
        let (addr, len) = match family {
            Family::V4 => (Ipv4Addr::new(10, 65, 0, 0).into(), 16),
            Family::V6 => (v6([0xfd65, 0, 0, 0, 0, 0, 0, 0]), 48),
        };
        Cidr::new(addr, len).expect("the constant is canonical")
    }

    /// What all nodes' own addresses lie in.
    pub fn node_addresses(family: Family) -> Cidr {
        let (addr, len) = match family {
            Family::V4 => (Ipv4Addr::new(10, 100, 0, 0).into(), 16),
            Family::V6 => (v6([0xfd00, 0x100, 0, 0, 0, 0, 0, 0]), 32),
        };
        Cidr::new(addr, len).expect("the constant is canonical")
    }
}

/// The letter of a rack counted from 1.
fn rack_name(rack: u8) -> char {
    char::from(b'a' + rack.saturating_sub(1) % 26)
}

fn v6(segments: [u16; 8]) -> IpAddr {
    Ipv6Addr::from(segments).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_default_is_two_racks_of_two_tors_and_two_nodes_under_two_spines() {
        let topology = Topology::default();
        let names: Vec<String> = topology.spines().into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["spine1", "spine2"]);
        let names: Vec<String> = topology.tors().into_iter().map(|t| t.name).collect();
        assert_eq!(names, ["tor-a1", "tor-a2", "tor-b1", "tor-b2"]);
        let names: Vec<String> = topology.nodes().into_iter().map(|n| n.name).collect();
        assert_eq!(names, ["node-a1", "node-a2", "node-b1", "node-b2"]);
    }

    #[test]
    fn no_as_number_and_no_address_is_given_twice_in_the_largest_topology() {
        let topology = Topology {
            racks: 15,
            tors_per_rack: 9,
            nodes_per_rack: 200,
            spines: 15,
            families: Families::Dual,
            bfd: true,
        };
        let mut asns = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for spine in topology.spines() {
            assert!(asns.insert(spine.asn.0), "{}", spine.name);
        }
        for tor in topology.tors() {
            assert!(asns.insert(tor.asn.0), "{}", tor.name);
            for &family in Family::ALL.iter() {
                assert!(addresses.insert(tor.address(family)), "{}", tor.name);
                for spine in topology.spines() {
                    let (up, down) = tor.link_to(&spine, family);
                    assert!(addresses.insert(up) && addresses.insert(down), "{} {}", tor.name, spine.name);
                }
            }
        }
        for node in topology.nodes() {
            assert!(asns.insert(node.asn.0), "{}", node.name);
            for &family in Family::ALL.iter() {
                assert!(addresses.insert(node.address(family)), "{}", node.name);
                assert!(Topology::node_addresses(family).contains(node.address(family)));
            }
        }
    }
}
