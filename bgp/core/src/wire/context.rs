use std::fmt;

use margay_net::Family;

/// Whether the peer is in our AS (iBGP) or in another one (eBGP); attributes are judged by it (RFC 7606 section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerKind {
    Internal,
    External,
}

/// What was negotiated on a session and decides how its messages are read.
///
/// The default context, two-octet AS numbers and no family, reads an OPEN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeContext {
    /// Both sides announced the four-octet AS number capability (RFC 6793).
    pub four_octet_asn: bool,
    pub peer_kind: PeerKind,
    /// Negotiated families; routes of any other one are ignored.
    pub families: FamilySet,
    /// IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// Families whose prefixes have a path identifier before them (RFC 7911): the peer sends several paths.
    pub add_path: FamilySet,
}

impl Default for DecodeContext {
    fn default() -> DecodeContext {
        DecodeContext {
            four_octet_asn: false,
            peer_kind: PeerKind::External,
            families: FamilySet::EMPTY,
            extended_next_hop: false,
            add_path: FamilySet::EMPTY,
        }
    }
}

/// A set of families, as cheap to copy as a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FamilySet(u8);

impl FamilySet {
    pub const EMPTY: FamilySet = FamilySet(0);

    /// Tells whether `family` is in the set.
    pub fn contains(self, family: Family) -> bool {
        self.0 & bit(family) != 0
    }

    /// Adds a family.
    pub fn insert(&mut self, family: Family) {
        self.0 |= bit(family);
    }

    /// Returns the families in order, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(move |&family| self.contains(family))
    }

    /// Tells whether there is no family.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

fn bit(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 2,
    }
}

impl FromIterator<Family> for FamilySet {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> FamilySet {
        let mut set = FamilySet::EMPTY;
        families.into_iter().for_each(|family| set.insert(family));
        set
    }
}

impl fmt::Debug for FamilySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// An address family and what it is used for, as numbered by IANA; unknown ones survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AfiSafi {
    pub afi: u16,
    pub safi: u8,
}

impl AfiSafi {
    pub const IPV4_UNICAST: AfiSafi = AfiSafi { afi: 1, safi: 1 };
    pub const IPV6_UNICAST: AfiSafi = AfiSafi { afi: 2, safi: 1 };

    /// Returns the family, where it is one of those that the speaker routes.
    pub fn family(self) -> Option<Family> {
        match self {
            AfiSafi::IPV4_UNICAST => Some(Family::V4),
            AfiSafi::IPV6_UNICAST => Some(Family::V6),
            _ => None,
        }
    }
}

impl From<Family> for AfiSafi {
    fn from(family: Family) -> AfiSafi {
        match family {
            Family::V4 => AfiSafi::IPV4_UNICAST,
            Family::V6 => AfiSafi::IPV6_UNICAST,
        }
    }
}

impl fmt::Display for AfiSafi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family() {
            Some(family) => write!(f, "{family} unicast"),
            None => write!(f, "AFI {} SAFI {}", self.afi, self.safi),
        }
    }
}
