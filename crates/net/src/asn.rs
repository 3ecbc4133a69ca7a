use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// A four-octet autonomous system number (RFC 6793).
///
/// Parses decimal (`64512`) and dotted notation (`1.10`, RFC 5396 asdot); prints decimal. In JSON it is a number,
/// and a string is accepted too, as Calico's `numorstring.ASNumber` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Asn(pub u32);

impl Asn {
    /// The two-octet placeholder for a four-octet number (RFC 6793 section 9).
    pub const TRANS: Asn = Asn(23456);

    /// Tells whether the number is reserved for private use (RFC 6996).
    pub fn is_private(self) -> bool {
        (64512..=65534).contains(&self.0) || (4_200_000_000..=4_294_967_294).contains(&self.0)
    }
}

/// A text that is not an AS number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an AS number: expected 0 to 4294967295, or two parts of 0 to 65535 as in 1.10")]
pub struct AsnError(pub String);

impl FromStr for Asn {
    type Err = AsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.split_once('.') {
            None => text.parse().ok(),
            Some((high, low)) => match (high.parse::<u16>(), low.parse::<u16>()) {
                (Ok(high), Ok(low)) => Some(u32::from(high) << 16 | u32::from(low)),
                _ => None,
            },
        };
        parsed.map(Asn).ok_or_else(|| AsnError(text.to_owned()))
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Asn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for Asn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Asn;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an AS number")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Asn, E> {
                u32::try_from(value).map(Asn).map_err(|_| E::custom(AsnError(value.to_string())))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Asn, E> {
                u32::try_from(value).map(Asn).map_err(|_| E::custom(AsnError(value.to_string())))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Asn, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_dotted_notation_name_the_same_number() {
        assert_eq!("65546".parse(), Ok(Asn(65546)));
        assert_eq!("1.10".parse(), Ok(Asn(65546)));
        for bad in ["", "-1", "4294967296", "1.65536", "1.2.3", "x"] {
            assert_eq!(bad.parse::<Asn>(), Err(AsnError(bad.to_owned())));
        }
    }
}
