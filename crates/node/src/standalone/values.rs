//! Values that are written as text.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use margay_bgp_core::{AddPathSend, PrefixMatch};
use margay_net::Cidr;
use serde::{Deserialize, Deserializer, de};

/// A span of time: `90s`, `1m30s`, `300ms`, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time such as 90s, 1m30s or 300ms, or a number of seconds")
            }
            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Span, E> {
                Ok(Span(Duration::from_secs(seconds)))
            }
            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
                u64::try_from(seconds)
                    .map(|seconds| Span(Duration::from_secs(seconds)))
                    .map_err(|_| E::custom(format!("'{seconds}' is not a span of time: it is negative")))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                let bad = |error| E::custom(format!("'{text}' is not a span of time such as 90s or 1m30s: {error}"));
                humantime::parse_duration(text).map(Span).map_err(bad)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// An address, with `%INTERFACE` where it is link-local.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PeerAddress {
    pub(super) address: IpAddr,
    pub(super) interface: Option<String>,
}

impl FromStr for PeerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, interface) = match text.split_once('%') {
            Some((address, interface)) => (address, Some(interface)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| format!("'{text}' is not an address, or a link-local one and %INTERFACE"))?;
        let is_link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        match interface {
            Some(interface) if interface.is_empty() || interface.len() > 15 || interface.contains('/') => {
                Err(format!("'{interface}' is not the name of an interface"))
            }
            Some(_) if !is_link_local => Err(format!("'{text}' names an interface, but is not link-local")),
            None if is_link_local => Err(format!("'{text}' is link-local: say by which interface, as in {text}%eth0")),
            _ if address.is_unspecified() || address.is_multicast() => {
                Err(format!("'{text}' is not the address of a peer"))
            }
            _ => Ok(PeerAddress { address, interface: interface.map(str::to_owned) }),
        }
    }
}

impl<'de> Deserialize<'de> for PeerAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A prefix with the lengths that are meant: `10.0.0.0/8` alone, `10.0.0.0/8 le 24` from 8 to 24,
/// `10.0.0.0/8 ge 24` from 24 to 32, `10.0.0.0/8 ge 20 le 24` as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PrefixText(pub(super) PrefixMatch);

impl FromStr for PrefixText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let prefix: Cidr = words.next().unwrap_or_default().parse().map_err(|error| format!("{error}"))?;
        let bits = prefix.family().bits();
        let (mut ge, mut le) = (None, None);
        while let Some(word) = words.next() {
            let bound = match word {
                "ge" => &mut ge,
                "le" => &mut le,
                _ => return Err(format!("'{word}' in '{text}' is neither 'ge' nor 'le'")),
            };
            let length: Option<u8> = words.next().and_then(|word| word.parse().ok());
            match length.filter(|length| (prefix.len()..=bits).contains(length)) {
                Some(length) if bound.is_none() => *bound = Some(length),
                Some(_) => return Err(format!("'{word}' is there twice in '{text}'")),
                None => {
                    return Err(format!("'{word}' in '{text}' takes a length from {} to {bits}", prefix.len()));
                }
            }
        }
        let (min_len, max_len) = match (ge, le) {
            (None, None) => (prefix.len(), prefix.len()),
            (Some(ge), le) => (ge, le.unwrap_or(bits)),
            (None, Some(le)) => (prefix.len(), le),
        };
        if min_len > max_len {
            return Err(format!("no length is at least {min_len} and at most {max_len}"));
        }
        Ok(PrefixText(PrefixMatch { covering: prefix, min_len, max_len }))
    }
}

impl<'de> Deserialize<'de> for PrefixText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Which paths are announced beside the best: `none`, `all`, or how many at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SendText(pub(super) AddPathSend);

impl<'de> Deserialize<'de> for SendText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = SendText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("none, all, or a number of paths from 1 to 255")
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<SendText, E> {
                match u8::try_from(count) {
                    Ok(count @ 1..) => Ok(SendText(AddPathSend::Best(count))),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(count), &self)),
                }
            }
            fn visit_i64<E: de::Error>(self, count: i64) -> Result<SendText, E> {
                match u64::try_from(count) {
                    Ok(count) => self.visit_u64(count),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(count), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<SendText, E> {
                match text {
                    "none" => Ok(SendText(AddPathSend::None)),
                    "all" => Ok(SendText(AddPathSend::All)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lengths_of_a_prefix_are_read_as_prefix_lists_have_them() {
        for (text, lengths) in [
            ("10.0.0.0/8", (8, 8)),
            ("10.0.0.0/8 le 24", (8, 24)),
            ("10.0.0.0/8 ge 24", (24, 32)),
            ("10.0.0.0/8 ge 20 le 24", (20, 24)),
            ("fd00::/8 le 128", (8, 128)),
        ] {
            let PrefixText(read) = text.parse().unwrap();
            assert_eq!((read.min_len, read.max_len), lengths, "{text}");
        }
        for (bad, why) in [
            ("10.0.0.1/8", "did you mean 10.0.0.0/8"),
            ("10.0.0.0/8 ge 4", "a length from 8 to 32"),
            ("10.0.0.0/8 le 33", "a length from 8 to 32"),
            ("10.0.0.0/8 ge 24 le 20", "at least 24 and at most 20"),
            ("10.0.0.0/8 le", "a length from 8 to 32"),
            ("10.0.0.0/8 ge 9 ge 10", "twice"),
            ("10.0.0.0/8 upto 24", "neither 'ge' nor 'le'"),
        ] {
            let error = bad.parse::<PrefixText>().unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn a_link_local_address_needs_an_interface_and_no_other_has_one() {
        let read: PeerAddress = "fe80::1%eth0".parse().unwrap();
        assert_eq!(read.interface.as_deref(), Some("eth0"));
        for (bad, why) in [
            ("fe80::1", "by which interface"),
            ("10.0.0.1%eth0", "not link-local"),
            ("fe80::1%", "not the name of an interface"),
            ("0.0.0.0", "not the address of a peer"),
            ("tor", "is not an address"),
        ] {
            let error = bad.parse::<PeerAddress>().unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
