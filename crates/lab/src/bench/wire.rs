//! The harness's own codec: as much of BGP's messages as a benchmark needs, so that it shares no mistake with what it
//! measures.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, anyhow, ensure};

use super::Family;

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;

pub(crate) const HEADER: usize = 19;
/// A third of it is longer than any run, so that nobody sends keepalives; in seconds.
pub(crate) const HOLD_TIME: u16 = 3600;
const AS_TRANS: u16 = 23456;
/// Octets that the parts of one message's body may take together, with some left for their lengths.
const ROOM: usize = 4000;

const ORIGIN: u8 = 1;
const AS_PATH: u8 = 2;
const NEXT_HOP: u8 = 3;
const MULTI_EXIT_DISC: u8 = 4;
const LOCAL_PREF: u8 = 5;
const COMMUNITIES: u8 = 8;
const MP_REACH_NLRI: u8 = 14;
const MP_UNREACH_NLRI: u8 = 15;

/// A prefix: its length in the low 8 bits, its address above; an IPv6 one is cut to its first 56 bits. An IPv6 prefix of
/// the Internet (2000::/3) is never the key of an IPv4 one.
pub(crate) type PrefixKey = u64;

/// Makes a key of an IPv4 address whose host bits are zero.
pub(crate) fn key4(address: u32, length: u8) -> PrefixKey {
    u64::from(address) << 8 | u64::from(length)
}

/// Makes a key of the first 64 bits of an IPv6 address whose host bits are zero; the length is at most 56.
pub(crate) fn key6(high: u64, length: u8) -> PrefixKey {
    high & !0xff | u64::from(length)
}

/// What a path is announced with, apart from its next hop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) origin: u8,
    /// 4-octet AS numbers, one AS_SEQUENCE; empty for what an internal peer originates.
    pub(crate) as_path: Vec<u32>,
    pub(crate) med: Option<u32>,
    pub(crate) local_pref: Option<u32>,
    pub(crate) communities: Vec<u32>,
}

/// A message of RFC 4271 section 4.1.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + body.len()).expect("a message is at most 4,096 bytes");
    let mut bytes = vec![0xff; 16];
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// An OPEN that offers a family's unicast (RFC 4760), route refresh (RFC 2918) and 4-octet AS numbers (RFC 6793).
pub(crate) fn open(asn: u32, identifier: Ipv4Addr, family: Family) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, family.afi(), 0, 1, 2, 0, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
    body.extend(HOLD_TIME.to_be_bytes());
    body.extend(identifier.octets());
    let length = u8::try_from(capabilities.len()).expect("three short capabilities");
    body.extend([length + 2, 2, length]);
    body.extend(capabilities);
    message(OPEN, &body)
}

/// A NOTIFICATION that ends a session on purpose: Cease, administrative shutdown (RFC 4486).
pub(crate) fn cease() -> Vec<u8> {
    message(NOTIFICATION, &[6, 2])
}

/// An UPDATE (RFC 4271 section 4.3; RFC 4760 for IPv6) of prefixes that fit into one message.
pub(crate) fn announcement(prefixes: &[PrefixKey], attributes: &Attributes, next_hop: IpAddr) -> Vec<u8> {
    let mut encoded = Vec::new();
    let mut routes = Vec::new();
    prefixes.iter().for_each(|&prefix| put_prefix(&mut routes, prefix));
    if let IpAddr::V6(next_hop) = next_hop {
        let mut value = vec![0, Family::V6.afi(), 1, 16];
        value.extend(next_hop.octets());
        value.push(0);
        value.append(&mut routes);
        attribute(&mut encoded, 0x80, MP_REACH_NLRI, &value);
    }
    attribute(&mut encoded, 0x40, ORIGIN, &[attributes.origin]);
    let mut as_path = Vec::new();
    if !attributes.as_path.is_empty() {
        as_path.extend([2, u8::try_from(attributes.as_path.len()).expect("paths are short")]);
        as_path.extend(attributes.as_path.iter().flat_map(|asn| asn.to_be_bytes()));
    }
    attribute(&mut encoded, 0x40, AS_PATH, &as_path);
    if let IpAddr::V4(next_hop) = next_hop {
        attribute(&mut encoded, 0x40, NEXT_HOP, &next_hop.octets());
    }
    if let Some(med) = attributes.med {
        attribute(&mut encoded, 0x80, MULTI_EXIT_DISC, &med.to_be_bytes());
    }
    if let Some(local_pref) = attributes.local_pref {
        attribute(&mut encoded, 0x40, LOCAL_PREF, &local_pref.to_be_bytes());
    }
    let communities: Vec<u8> = attributes.communities.iter().flat_map(|value| value.to_be_bytes()).collect();
    if !communities.is_empty() {
        attribute(&mut encoded, 0xc0, COMMUNITIES, &communities);
    }
    let mut body = vec![0, 0];
    body.extend(length_of(&encoded));
    body.extend(encoded);
    body.extend(routes);
    message(UPDATE, &body)
}

/// UPDATEs that withdraw prefixes, as few as they fit into.
pub(crate) fn withdrawals(prefixes: &[PrefixKey], family: Family) -> Vec<u8> {
    // At most 4 octets for an IPv4 prefix, and 8 for an IPv6 one.
    let per_message = ROOM / if family == Family::V4 { 4 } else { 8 };
    let of_chunk = |chunk: &[PrefixKey]| {
        let mut routes = Vec::new();
        chunk.iter().for_each(|&prefix| put_prefix(&mut routes, prefix));
        let mut body = Vec::new();
        if family == Family::V4 {
            body.extend(length_of(&routes));
            body.extend(routes);
            body.extend([0, 0]);
        } else {
            let mut encoded = Vec::new();
            attribute(&mut encoded, 0x80, MP_UNREACH_NLRI, &[&[0, family.afi(), 1], &routes[..]].concat());
            body.extend([0, 0]);
            body.extend(length_of(&encoded));
            body.extend(encoded);
        }
        message(UPDATE, &body)
    };
    prefixes.chunks(per_message).flat_map(of_chunk).collect()
}

fn attribute(to: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) => to.extend([flags, kind, length]),
        Err(_) => {
            to.extend([flags | 0x10, kind]);
            to.extend(length_of(value));
        }
    }
    to.extend(value);
}

fn put_prefix(to: &mut Vec<u8>, prefix: PrefixKey) {
    let [a, b, c, d, e, f, g, length] = prefix.to_be_bytes();
    let address = if is_v6(prefix) { [a, b, c, d, e, f, g] } else { [d, e, f, g, 0, 0, 0] };
    to.push(length);
    to.extend(&address[..usize::from(length.div_ceil(8))]);
}

fn is_v6(prefix: PrefixKey) -> bool {
    prefix >> 40 != 0
}

fn length_of(part: &[u8]) -> [u8; 2] {
    u16::try_from(part.len()).expect("a part of a message is below 4,096 bytes").to_be_bytes()
}

/// An UPDATE taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Update<'a> {
    withdrawn: [Routes<'a>; 2],
    announced: [Routes<'a>; 2],
    /// The first two AS numbers of AS_PATH.
    pub(crate) first_as: Option<u32>,
    pub(crate) second_as: Option<u32>,
    /// The global one.
    pub(crate) next_hop: Option<IpAddr>,
}

/// Encoded prefixes of a family, by default IPv4.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Routes<'a> {
    v6: bool,
    bytes: &'a [u8],
}

impl<'a> Update<'a> {
    /// Takes the body of an UPDATE apart: what is encoded wrongly is an error, what is unknown is passed over.
    pub(crate) fn decode(body: &'a [u8]) -> Result<Update<'a>> {
        let (withdrawn, rest) = counted(body)?;
        let (mut attributes, announced) = counted(rest)?;
        let mut update = Update::default();
        update.withdrawn[0].bytes = withdrawn;
        update.announced[0].bytes = announced;
        while let [flags, kind, rest @ ..] = attributes {
            let (value, rest) = if flags & 0x10 == 0 {
                let (&length, rest) = rest.split_first().context("an attribute without its length")?;
                rest.split_at_checked(length.into()).context("an attribute longer than its message")?
            } else {
                counted(rest)?
            };
            update.attribute(*kind, value)?;
            attributes = rest;
        }
        ensure!(attributes.is_empty(), "an octet after the last attribute");
        Ok(update)
    }

    fn attribute(&mut self, kind: u8, value: &'a [u8]) -> Result<()> {
        match kind {
            AS_PATH => {
                let asn = |at: usize| value.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
                (self.first_as, self.second_as) = (asn(2), asn(6));
            }
            NEXT_HOP => {
                let octets: [u8; 4] = value.try_into().context("a NEXT_HOP that isn't 4 octets long")?;
                self.next_hop = Some(IpAddr::from(octets));
            }
            MP_REACH_NLRI => {
                let (header, rest) = value.split_first_chunk::<4>().context("a short MP_REACH_NLRI")?;
                let (next_hop, rest) = rest.split_at_checked(header[3].into()).context("a short MP_REACH_NLRI")?;
                let (_reserved, bytes) = rest.split_first().context("a short MP_REACH_NLRI")?;
                self.announced[1] = Routes { v6: header[1] == Family::V6.afi(), bytes };
                self.next_hop = match (next_hop.first_chunk::<16>(), next_hop.first_chunk::<4>()) {
                    (Some(octets), _) => Some(IpAddr::from(*octets)),
                    (None, Some(octets)) => Some(IpAddr::from(*octets)),
                    (None, None) => None,
                };
            }
            MP_UNREACH_NLRI => {
                let (header, bytes) = value.split_first_chunk::<3>().context("a short MP_UNREACH_NLRI")?;
                self.withdrawn[1] = Routes { v6: header[1] == Family::V6.afi(), bytes };
            }
            _ => {}
        }
        Ok(())
    }

    /// Hands over each prefix, and whether it is withdrawn.
    pub(crate) fn for_each_prefix(&self, mut take: impl FnMut(PrefixKey, bool)) -> Result<()> {
        self.withdrawn.iter().try_for_each(|routes| routes.for_each(|prefix| take(prefix, true)))?;
        self.announced.iter().try_for_each(|routes| routes.for_each(|prefix| take(prefix, false)))
    }
}

impl Routes<'_> {
    fn for_each(&self, mut take: impl FnMut(PrefixKey)) -> Result<()> {
        let most = if self.v6 { 56 } else { 32 };
        let mut bytes = self.bytes;
        while let Some((&length, rest)) = bytes.split_first() {
            let count = usize::from(length.div_ceil(8));
            ensure!(length <= most && count <= rest.len(), "a prefix of length {length} that the harness never sends");
            let mut address = [0; 8];
            address[..count].copy_from_slice(&rest[..count]);
            let address = u64::from_be_bytes(address);
            take(if self.v6 { key6(address, length) } else { address >> 24 | u64::from(length) });
            bytes = &rest[count..];
        }
        Ok(())
    }
}

/// Splits off what a 2-octet length announces.
fn counted(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>().context("an UPDATE without its lengths")?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).context("an UPDATE shorter than it says")
}

/// Hands over each complete message, and returns how many bytes they are. A NOTIFICATION is an error.
pub(crate) fn for_each_message(bytes: &[u8], mut take: impl FnMut(u8, &[u8]) -> Result<()>) -> Result<usize> {
    let mut used = 0;
    while let Some(header) = bytes.get(used..used + HEADER) {
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        ensure!(length >= HEADER, "a message of length {length}");
        let Some(body) = bytes.get(used + HEADER..used + length) else { break };
        if header[18] == NOTIFICATION {
            return Err(anyhow!("NOTIFICATION {body:?}"));
        }
        take(header[18], body)?;
        used += length;
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn decoded(bytes: &[u8]) -> (Vec<(PrefixKey, bool)>, Option<u32>, Option<IpAddr>) {
        let mut told = (Vec::new(), None, None);
        let used = for_each_message(bytes, |kind, body| {
            assert_eq!(kind, UPDATE);
            let update = Update::decode(body)?;
            update.for_each_prefix(|prefix, gone| told.0.push((prefix, gone)))?;
            (told.1, told.2) = (update.first_as, update.next_hop);
            Ok(())
        });
        assert_eq!(used.unwrap(), bytes.len());
        told
    }

    #[test]
    fn what_is_announced_and_withdrawn_is_decoded_again_in_both_families() {
        let attributes = Attributes {
            as_path: vec![64513, 3000, 4_200_000_000],
            med: Some(7),
            communities: vec![1, 2],
            ..Attributes::default()
        };
        let v4 = vec![key4(0x0102_0300, 24), key4(0x0b00_0000, 8), key4(0, 0)];
        let v6 = vec![key6(0x2a01_0203_0405 << 16, 48), key6(0x2a00_0000 << 32, 29)];
        for (prefixes, next_hop, family) in [(v4, "10.0.0.1", Family::V4), (v6, "fd00::1", Family::V6)] {
            let next_hop: IpAddr = next_hop.parse().unwrap();
            let (told, first_as, hop) = decoded(&announcement(&prefixes, &attributes, next_hop));
            assert_eq!(told, prefixes.iter().map(|&prefix| (prefix, false)).collect::<Vec<_>>());
            assert_eq!((first_as, hop), (Some(64513), Some(next_hop)));
            let (told, ..) = decoded(&withdrawals(&prefixes, family));
            assert_eq!(told, prefixes.iter().map(|&prefix| (prefix, true)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_notification_is_an_error_and_half_a_message_is_left() {
        assert!(for_each_message(&cease(), |_, _| Ok(())).is_err());
        let mut bytes = message(KEEPALIVE, &[]);
        bytes.extend(&message(KEEPALIVE, &[])[..10]);
        assert_eq!(for_each_message(&bytes, |_, _| Ok(())).unwrap(), HEADER);
    }

    #[test]
    fn an_update_that_lies_about_its_lengths_is_an_error() {
        assert!(Update::decode(&[0, 9, 0]).is_err());
        assert!(Update::decode(&[0, 0, 0, 4, 0x40, 2, 9, 0]).is_err());
        let update = [0, 0, 0, 0, 33, 1, 2, 3, 4, 5];
        assert!(Update::decode(&update).unwrap().for_each_prefix(|_, _| {}).is_err());
    }
}
