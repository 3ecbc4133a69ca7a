use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An address family with unicast routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    #[serde(rename = "ipv4")]
    V4,
    #[serde(rename = "ipv6")]
    V6,
}

impl Family {
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(addr: IpAddr) -> Family {
        match addr {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The number of bits of an address: 32 or 128.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        })
    }
}

/// A canonical prefix: the bits beyond its length are zero, and the length fits the family.
///
/// Ordered by family, then address, then length, so that a covering prefix comes before what it covers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    addr: IpAddr,
    len: u8,
}

/// Why a text or a pair of address and length is not a canonical prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    #[error("'{0}' is not a prefix: expected ADDRESS/LENGTH as in 10.0.0.0/8 or fd00::/64")]
    Syntax(String),
    #[error("prefix length {len} is more than the {max} bits of {addr}")]
    Length { addr: IpAddr, len: u8, max: u8 },
    #[error("{addr}/{len} has bits set beyond its length; did you mean {canonical}?")]
    HostBits { addr: IpAddr, len: u8, canonical: Cidr },
}

impl Cidr {
    /// The prefix of `len` bits at `addr`, whose other bits must be zero.
    pub fn new(addr: IpAddr, len: u8) -> Result<Cidr, CidrError> {
        let canonical = Cidr::truncated(addr, len)?;
        if canonical.addr == addr { Ok(canonical) } else { Err(CidrError::HostBits { addr, len, canonical }) }
    }

    /// The prefix of `len` bits that holds `addr`.
    pub fn truncated(addr: IpAddr, len: u8) -> Result<Cidr, CidrError> {
        let max = Family::of(addr).bits();
        if len > max {
            return Err(CidrError::Length { addr, len, max });
        }
        Ok(Cidr { addr: masked(addr, len), len })
    }

    /// The prefix of one address: /32 or /128.
    pub fn host(addr: IpAddr) -> Cidr {
        Cidr { addr, len: Family::of(addr).bits() }
    }

    /// The whole family: `0.0.0.0/0` or `::/0`.
    pub fn any(family: Family) -> Cidr {
        let addr = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Cidr { addr, len: 0 }
    }

    /// The first address, which is the prefix's own.
    pub fn addr(self) -> IpAddr {
        self.addr
    }

    #[allow(clippy::len_without_is_empty)]
    /// The length in bits.
    pub fn len(self) -> u8 {
        self.len
    }

    pub fn family(self) -> Family {
        Family::of(self.addr)
    }

    /// Tells whether the prefix holds just one address.
    pub fn is_host(self) -> bool {
        self.len == self.family().bits()
    }

    /// Tells whether `addr` is inside; never true across families.
    pub fn contains(self, addr: IpAddr) -> bool {
        Family::of(addr) == self.family() && masked(addr, self.len) == self.addr
    }

    /// Tells whether `other` is this prefix or lies inside it.
    pub fn covers(self, other: Cidr) -> bool {
        self.len <= other.len && self.contains(other.addr)
    }

    /// Tells whether the two have an address in common.
    pub fn overlaps(self, other: Cidr) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The number of addresses; `u128::MAX` for `::/0`, which has one more.
    pub fn size(self) -> u128 {
        let host_bits = u32::from(self.family().bits() - self.len);
        1u128.checked_shl(host_bits).unwrap_or(u128::MAX)
    }

    /// The address `index` places after the first, if it is inside.
    pub fn nth(self, index: u128) -> Option<IpAddr> {
        if index >= self.size() {
            return None;
        }
        Some(match self.addr {
            IpAddr::V4(addr) => IpAddr::V4(Ipv4Addr::from_bits(addr.to_bits() + u32::try_from(index).ok()?)),
            IpAddr::V6(addr) => IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() + index)),
        })
    }

    /// How many places after the first address `addr` is, if it is inside.
    pub fn index_of(self, addr: IpAddr) -> Option<u128> {
        if !self.contains(addr) {
            return None;
        }
        Some(match (addr, self.addr) {
            (IpAddr::V4(addr), IpAddr::V4(first)) => u128::from(addr.to_bits() - first.to_bits()),
            (IpAddr::V6(addr), IpAddr::V6(first)) => addr.to_bits() - first.to_bits(),
            _ => return None,
        })
    }

    /// The last address.
    pub fn last(self) -> IpAddr {
        let host_bits = u32::from(self.family().bits() - self.len);
        match self.addr {
            IpAddr::V4(addr) => {
                IpAddr::V4(Ipv4Addr::from_bits(addr.to_bits() | u32::MAX.checked_shr(32 - host_bits).unwrap_or(0)))
            }
            IpAddr::V6(addr) => {
                IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() | u128::MAX.checked_shr(128 - host_bits).unwrap_or(0)))
            }
        }
    }
}

fn masked(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(addr.to_bits() & mask))
        }
        IpAddr::V6(addr) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() & mask))
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || CidrError::Syntax(text.to_owned());
        let (addr, len) = text.split_once('/').ok_or_else(syntax)?;
        if len.is_empty() || !len.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(syntax());
        }
        Cidr::new(addr.parse().map_err(|_| syntax())?, len.parse().map_err(|_| syntax())?)
    }
}

impl From<IpAddr> for Cidr {
    fn from(addr: IpAddr) -> Self {
        Cidr::host(addr)
    }
}

impl From<Cidr> for IpNet {
    fn from(cidr: Cidr) -> Self {
        match cidr.addr {
            IpAddr::V4(addr) => IpNet::V4(Ipv4Net::new_assert(addr, cidr.len)),
            IpAddr::V6(addr) => IpNet::V6(Ipv6Net::new_assert(addr, cidr.len)),
        }
    }
}

impl From<IpNet> for Cidr {
    fn from(net: IpNet) -> Self {
        Cidr { addr: net.network(), len: net.prefix_len() }
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().expect("a canonical prefix")
    }

    #[test]
    fn host_bits_are_refused_with_the_prefix_that_was_meant() {
        let error = "10.1.2.3/24".parse::<Cidr>().expect_err("host bits");
        assert!(error.to_string().ends_with("did you mean 10.1.2.0/24?"), "{error}");
        for bad in ["10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/+8", "x/8", "10.0.0.0/"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn covering_and_containing_stay_within_a_family() {
        assert!(cidr("10.0.0.0/8").covers(cidr("10.1.0.0/16")));
        assert!(!cidr("10.1.0.0/16").covers(cidr("10.0.0.0/8")));
        assert!(cidr("0.0.0.0/0").contains("255.255.255.255".parse().expect("address")));
        assert!(!cidr("0.0.0.0/0").contains("::1".parse().expect("address")));
        assert_eq!(cidr("10.0.0.0/26").last().to_string(), "10.0.0.63");
        assert_eq!(cidr("0.0.0.0/0").last().to_string(), "255.255.255.255");
        assert_eq!(cidr("::/0").size(), u128::MAX);
    }

    proptest! {
        #[test]
        fn a_prefix_prints_as_it_parses(bits: u128, len in 0u8..=128) {
            let cidr = Cidr::truncated(IpAddr::V6(Ipv6Addr::from_bits(bits)), len).expect("length fits");
            prop_assert_eq!(cidr.to_string().parse::<Cidr>(), Ok(cidr));
        }

        #[test]
        fn nth_and_index_of_undo_each_other(bits: u32, len in 0u8..=32, index: u32) {
            let cidr = Cidr::truncated(IpAddr::V4(Ipv4Addr::from_bits(bits)), len).expect("length fits");
            match cidr.nth(u128::from(index)) {
                Some(addr) => prop_assert_eq!(cidr.index_of(addr), Some(u128::from(index))),
                None => prop_assert!(u128::from(index) >= cidr.size()),
            }
        }
    }
}
