use std::fmt;

/// A community (RFC 1997): an AS number in the upper half and a value of its choice in the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// The route isn't announced to external peers (RFC 1997).
    pub const NO_EXPORT: Community = Community(0xffff_ff01);
    /// The route isn't announced to any peer (RFC 1997).
    pub const NO_ADVERTISE: Community = Community(0xffff_ff02);
    /// The route isn't announced outside the member AS of a confederation (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: Community = Community(0xffff_ff03);
    /// The route isn't passed on to bilateral peers (RFC 3765).
    pub const NO_PEER: Community = Community(0xffff_ff04);
    /// The path is about to go away (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Community = Community(0xffff_0000);
    /// Traffic to the prefix is to be discarded (RFC 7999).
    pub const BLACKHOLE: Community = Community(0xffff_029a);

    /// Puts a community together from its halves.
    pub fn new(asn: u16, value: u16) -> Community {
        Community(u32::from(asn) << 16 | u32::from(value))
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// An extended community (RFC 4360) as its eight octets in network order: type, subtype and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub u64);

impl ExtendedCommunity {
    /// Tells whether the community stays within an AS (the T bit of RFC 4360 section 2).
    pub fn is_non_transitive(self) -> bool {
        self.0 >> 62 & 1 == 1
    }
}

impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:016x}", self.0)
    }
}

/// A large community (RFC 8092): three numbers, the first one an AS number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    pub global_administrator: u32,
    pub local_data_1: u32,
    pub local_data_2: u32,
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global_administrator, self.local_data_1, self.local_data_2)
    }
}
