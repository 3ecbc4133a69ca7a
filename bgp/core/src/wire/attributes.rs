use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use margay_net::Asn;

use super::as_path::AsPath;
use super::community::{Community, ExtendedCommunity, LargeCommunity};

/// The optional bit of an attribute's flags (RFC 4271 section 4.3).
pub const FLAG_OPTIONAL: u8 = 0x80;
/// The transitive bit.
pub const FLAG_TRANSITIVE: u8 = 0x40;
/// The partial bit: some speaker on the way did not know the attribute.
pub const FLAG_PARTIAL: u8 = 0x20;
/// The extended length bit: the length has two octets.
pub const FLAG_EXTENDED_LENGTH: u8 = 0x10;

/// The type code of a path attribute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeType(pub u8);

impl AttributeType {
    pub const ORIGIN: AttributeType = AttributeType(1);
    pub const AS_PATH: AttributeType = AttributeType(2);
    pub const NEXT_HOP: AttributeType = AttributeType(3);
    pub const MULTI_EXIT_DISC: AttributeType = AttributeType(4);
    pub const LOCAL_PREF: AttributeType = AttributeType(5);
    pub const ATOMIC_AGGREGATE: AttributeType = AttributeType(6);
    pub const AGGREGATOR: AttributeType = AttributeType(7);
    /// RFC 1997.
    pub const COMMUNITIES: AttributeType = AttributeType(8);
    /// RFC 4456.
    pub const ORIGINATOR_ID: AttributeType = AttributeType(9);
    /// RFC 4456.
    pub const CLUSTER_LIST: AttributeType = AttributeType(10);
    /// RFC 4760.
    pub const MP_REACH_NLRI: AttributeType = AttributeType(14);
    /// RFC 4760.
    pub const MP_UNREACH_NLRI: AttributeType = AttributeType(15);
    /// RFC 4360.
    pub const EXTENDED_COMMUNITIES: AttributeType = AttributeType(16);
    /// RFC 6793.
    pub const AS4_PATH: AttributeType = AttributeType(17);
    /// RFC 6793.
    pub const AS4_AGGREGATOR: AttributeType = AttributeType(18);
    /// RFC 9012.
    pub const TUNNEL_ENCAPSULATION: AttributeType = AttributeType(23);
    /// RFC 5701.
    pub const IPV6_EXTENDED_COMMUNITIES: AttributeType = AttributeType(25);
    /// RFC 7311.
    pub const AIGP: AttributeType = AttributeType(26);
    /// RFC 8092.
    pub const LARGE_COMMUNITIES: AttributeType = AttributeType(32);
    /// RFC 9234.
    pub const ONLY_TO_CUSTOMER: AttributeType = AttributeType(35);
    /// RFC 8669.
    pub const PREFIX_SID: AttributeType = AttributeType(40);

    fn name(self) -> Option<&'static str> {
        Some(match self {
            AttributeType::ORIGIN => "ORIGIN",
            AttributeType::AS_PATH => "AS_PATH",
            AttributeType::NEXT_HOP => "NEXT_HOP",
            AttributeType::MULTI_EXIT_DISC => "MULTI_EXIT_DISC",
            AttributeType::LOCAL_PREF => "LOCAL_PREF",
            AttributeType::ATOMIC_AGGREGATE => "ATOMIC_AGGREGATE",
            AttributeType::AGGREGATOR => "AGGREGATOR",
            AttributeType::COMMUNITIES => "COMMUNITIES",
            AttributeType::ORIGINATOR_ID => "ORIGINATOR_ID",
            AttributeType::CLUSTER_LIST => "CLUSTER_LIST",
            AttributeType::MP_REACH_NLRI => "MP_REACH_NLRI",
            AttributeType::MP_UNREACH_NLRI => "MP_UNREACH_NLRI",
            AttributeType::EXTENDED_COMMUNITIES => "EXTENDED COMMUNITIES",
            AttributeType::AS4_PATH => "AS4_PATH",
            AttributeType::AS4_AGGREGATOR => "AS4_AGGREGATOR",
            AttributeType::IPV6_EXTENDED_COMMUNITIES => "IPv6 EXTENDED COMMUNITIES",
            AttributeType::LARGE_COMMUNITIES => "LARGE_COMMUNITY",
            AttributeType::ONLY_TO_CUSTOMER => "OTC",
            AttributeType::TUNNEL_ENCAPSULATION => "Tunnel Encapsulation",
            AttributeType::AIGP => "AIGP",
            AttributeType::PREFIX_SID => "BGP Prefix-SID",
            _ => return None,
        })
    }
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "attribute {}", self.0),
        }
    }
}

impl fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How the originator learned of the prefix, the preferred first; the values are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Origin {
    #[default]
    Igp = 0,
    Egp = 1,
    Incomplete = 2,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Igp => "igp",
            Origin::Egp => "egp",
            Origin::Incomplete => "incomplete",
        })
    }
}

/// Who aggregated the route (RFC 4271 section 5.1.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aggregator {
    pub asn: Asn,
    pub router_id: Ipv4Addr,
}

/// An optional transitive attribute that the speaker doesn't know and passes on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawAttribute {
    pub kind: AttributeType,
    /// Optional and transitive, and partial where it is to be; the extended length bit follows from the length.
    pub flags: u8,
    pub value: Box<[u8]>,
}

/// The path attributes of a route, its next hop included: what routes share and what is interned.
///
/// The next hop is part of it, whether it came as NEXT_HOP or in MP_REACH_NLRI, since routes of the same path nearly
/// always have the same one, and since two routes may only go in one message when they do. In canonical form, so that
/// equal attributes are equal values: the three kinds of communities are sorted without duplicates, `unknown` by type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Attributes {
    pub origin: Origin,
    pub as_path: AsPath,
    pub next_hop: Option<IpAddr>,
    /// The link-local address beside a global IPv6 next hop (RFC 2545 section 3).
    pub link_local_next_hop: Option<Ipv6Addr>,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub atomic_aggregate: bool,
    pub aggregator: Option<Aggregator>,
    pub communities: Vec<Community>,
    pub extended_communities: Vec<ExtendedCommunity>,
    pub large_communities: Vec<LargeCommunity>,
    pub originator_id: Option<Ipv4Addr>,
    /// The nearest cluster first.
    pub cluster_list: Vec<Ipv4Addr>,
    pub unknown: Vec<RawAttribute>,
}

impl Attributes {
    /// Puts the value in canonical form after changes by hand.
    pub fn canonicalize(&mut self) {
        sort_unique(&mut self.communities);
        sort_unique(&mut self.extended_communities);
        sort_unique(&mut self.large_communities);
        self.unknown.sort_by_key(|attribute| attribute.kind);
        self.unknown.dedup_by_key(|attribute| attribute.kind);
    }
}

pub(super) fn sort_unique<T: Ord>(values: &mut Vec<T>) {
    if !values.is_sorted() {
        values.sort_unstable();
    }
    values.dedup();
}
