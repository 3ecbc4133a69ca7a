use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An Ethernet address, six octets; printed as `ee:ee:ee:ee:ee:ee`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of the host's end of every pod's link, as Calico sets it.
    pub const HOST_SIDE: Mac = Mac([0xee; 6]);
}

/// A text that is not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a MAC address: expected six hexadecimal octets as in ee:ee:ee:ee:ee:ee")]
pub struct MacError(pub String);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let octets: Option<Vec<u8>> = text
            .split(':')
            .map(|part| if part.len() == 2 { u8::from_str_radix(part, 16).ok() } else { None })
            .collect();
        octets.and_then(|octets| octets.try_into().ok()).map(Mac).ok_or_else(|| MacError(text.to_owned()))
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_prints_as_it_parses() {
        assert_eq!("ee:ee:ee:ee:ee:ee".parse(), Ok(Mac::HOST_SIDE));
        assert_eq!("02:00:00:00:00:0a".parse::<Mac>().map(|mac| mac.to_string()), Ok("02:00:00:00:00:0a".to_owned()));
        assert!("02:00:00:00:00".parse::<Mac>().is_err());
        assert!("+2:00:00:00:00:0a:0b".parse::<Mac>().is_err());
    }
}
