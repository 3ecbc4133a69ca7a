//! Communities as text.

use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// A community of any of the three kinds.
///
/// `65001:100` or a well-known name (RFC 1997), `65001:1:2` (large, RFC 8092), `rt:` or `ro:` before
/// `ASN:NUMBER` or `ADDRESS:NUMBER` (extended, RFC 4360 and RFC 5668).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommunityText {
    Standard(u32),
    Large([u32; 3]),
    Extended(u64),
}

/// The well-known ones of RFC 1997, 3765, 7999 and 8326.
const WELL_KNOWN: [(&str, u32); 6] = [
    ("graceful-shutdown", 0xffff_0000),
    ("blackhole", 0xffff_029a),
    ("no-export", 0xffff_ff01),
    ("no-advertise", 0xffff_ff02),
    ("no-export-subconfed", 0xffff_ff03),
    ("no-peer", 0xffff_ff04),
];

impl FromStr for CommunityText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, value)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
            return Ok(CommunityText::Standard(*value));
        }
        let bad = || {
            let names: Vec<&str> = WELL_KNOWN.iter().map(|(name, _)| *name).collect();
            format!(
                "'{text}' is not a community: expected AS:NUMBER (each up to 65535), AS:NUMBER:NUMBER, rt:AS:NUMBER, \
                 ro:AS:NUMBER or one of {}",
                names.join(", ")
            )
        };
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            ["rt", administrator, number] => extended(0x02, administrator, number).ok_or_else(bad),
            ["ro", administrator, number] => extended(0x03, administrator, number).ok_or_else(bad),
            [high, low] => match (high.parse::<u16>(), low.parse::<u16>()) {
                (Ok(high), Ok(low)) => Ok(CommunityText::Standard(u32::from(high) << 16 | u32::from(low))),
                _ => Err(bad()),
            },
            [global, first, second] => match (global.parse(), first.parse(), second.parse()) {
                (Ok(global), Ok(first), Ok(second)) => Ok(CommunityText::Large([global, first, second])),
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }
}

/// The type is 0 for a two-octet AS number, 1 for an address, 2 for a four-octet AS number; all are transitive.
fn extended(subtype: u64, administrator: &str, number: &str) -> Option<CommunityText> {
    let with = |kind: u64, value: u64| Some(CommunityText::Extended(kind << 56 | subtype << 48 | value));
    if let Ok(address) = administrator.parse::<Ipv4Addr>() {
        return with(1, u64::from(address.to_bits()) << 16 | u64::from(number.parse::<u16>().ok()?));
    }
    match administrator.parse::<u32>().ok()? {
        asn @ 0..=0xffff => with(0, u64::from(asn) << 32 | u64::from(number.parse::<u32>().ok()?)),
        asn => with(2, u64::from(asn) << 16 | u64::from(number.parse::<u16>().ok()?)),
    }
}

impl<'de> Deserialize<'de> for CommunityText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_three_kinds_are_told_apart() {
        for (text, value) in [
            ("65001:100", CommunityText::Standard(65001 << 16 | 100)),
            ("no-export", CommunityText::Standard(0xffff_ff01)),
            ("4200000000:1:2", CommunityText::Large([4_200_000_000, 1, 2])),
            ("rt:65001:100", CommunityText::Extended(0x0002_fde9_0000_0064)),
            ("rt:4200000000:7", CommunityText::Extended(0x0202_fa56_ea00_0007)),
            ("ro:192.0.2.1:7", CommunityText::Extended(0x0103_c000_0201_0007)),
        ] {
            assert_eq!(text.parse::<CommunityText>(), Ok(value), "{text}");
        }
        for bad in ["65536:1", "1", "1:2:3:4", "rt:4200000000:65536", "no-such", "rt:x:1", ""] {
            assert!(bad.parse::<CommunityText>().is_err(), "{bad}");
        }
    }
}
