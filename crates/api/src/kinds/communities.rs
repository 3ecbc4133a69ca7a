use std::fmt;
use std::str::FromStr;

/// A community as Calico's resources write it: `aa:nn` of 16 bits each (RFC 1997), or a large one `aa:nn:mm` of 32 bits
/// each (RFC 8092).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommunityValue {
    /// AS number in the upper half.
    Standard(u32),
    Large([u32; 3]),
}

impl FromStr for CommunityValue {
    type Err = String;

    fn from_str(text: &str) -> Result<CommunityValue, String> {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let parts: Vec<&str> = text.split(':').collect();
        let parsed = match parts.as_slice() {
            parts if !parts.iter().all(|part| is_number(part)) => None,
            [high, low] => high
                .parse::<u16>()
                .ok()
                .zip(low.parse::<u16>().ok())
                .map(|(high, low)| CommunityValue::Standard(u32::from(high) << 16 | u32::from(low))),
            [a, b, c] => match (a.parse(), b.parse(), c.parse()) {
                (Ok(a), Ok(b), Ok(c)) => Some(CommunityValue::Large([a, b, c])),
                _ => None,
            },
            _ => None,
        };
        parsed.ok_or_else(|| {
            format!("'{text}' is not a community: use aa:nn (0 to 65535 each) or aa:nn:mm (0 to 4294967295 each)")
        })
    }
}

impl fmt::Display for CommunityValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommunityValue::Standard(value) => write!(f, "{}:{}", value >> 16, value & 0xffff),
            CommunityValue::Large([a, b, c]) => write!(f, "{a}:{b}:{c}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_parts_are_standard_and_three_are_large() {
        assert_eq!("65001:100".parse(), Ok(CommunityValue::Standard(65001 << 16 | 100)));
        assert_eq!("4200000000:1:2".parse(), Ok(CommunityValue::Large([4_200_000_000, 1, 2])));
        for bad in ["", "1", "65536:1", "1:65536", "1:2:4294967296", "1:2:3:4", "a:b", "1:", "+1:2", "1: 2"] {
            assert!(bad.parse::<CommunityValue>().is_err(), "{bad}");
        }
    }
}
