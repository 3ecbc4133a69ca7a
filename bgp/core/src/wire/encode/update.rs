use bytes::{BufMut, Bytes};
use margay_net::{Cidr, Family};

use super::super::attributes::{AttributeType, Attributes, FLAG_EXTENDED_LENGTH, FLAG_OPTIONAL};
use super::super::context::AfiSafi;
use super::super::header::{self, HEADER_LEN, MAX_MESSAGE};
use super::super::nlri;
use super::attributes::{NextHopField, block, next_hop_field};
use super::begin;

/// Why routes can't be put in a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// `len` counts the message with one prefix of the family's full length.
    #[error("the attributes need a message of {len} octets, where {max} is the most")]
    TooLong { len: usize, max: usize },
    #[error("the attributes have no next hop that {0} routes can have")]
    NextHop(Family),
    #[error("{0} is not an {1} prefix")]
    PrefixFamily(Cidr, Family),
}

/// The two length fields of an UPDATE.
const LENGTHS: usize = 4;
/// Flags, type and a length of two octets.
const ATTRIBUTE_HEAD: usize = 4;

/// Encodes routes of one family that have their attributes in common, in as few messages as they fit in their order.
///
/// IPv4 routes with an IPv4 next hop are in the fields of RFC 4271, others in MP_REACH_NLRI, which is the first
/// attribute (RFC 7606 section 5.1); the rest follow in the order of types. A peer of two-octet AS numbers gets AS_TRANS
/// and AS4_PATH (RFC 6793). What is in `attributes` is sent as it is: whether this peer may get it is the caller's
/// business. Without prefixes there are no messages.
pub fn encode_announcements(
    family: Family,
    attributes: &Attributes,
    prefixes: impl IntoIterator<Item = Cidr>,
    four_octet_asn: bool,
) -> Result<Vec<Bytes>, EncodeError> {
    let next_hop = next_hop_field(family, attributes)?;
    let block = block(attributes, &next_hop, four_octet_asn);
    match next_hop {
        NextHopField::Classic => {
            let fixed = HEADER_LEN + LENGTHS + block.len();
            pack(family, fixed, prefixes, |nlri| {
                let mut message = begin(header::UPDATE, fixed + nlri.len());
                message.put_u16(0);
                message.put_u16(block.len() as u16);
                message.put_slice(&block);
                message.put_slice(nlri);
                message.freeze()
            })
        }
        NextHopField::Multiprotocol(next_hop) => {
            // AFI, SAFI, the length of the next hop and the reserved octet.
            let head = 5 + next_hop.len();
            let fixed = HEADER_LEN + LENGTHS + ATTRIBUTE_HEAD + head + block.len();
            pack(family, fixed, prefixes, |nlri| {
                let mut value = Vec::with_capacity(head);
                put_family(&mut value, family);
                value.put_u8(next_hop.len() as u8);
                value.put_slice(&next_hop);
                value.put_u8(0);
                multiprotocol(AttributeType::MP_REACH_NLRI, &value, nlri, &block)
            })
        }
    }
}

/// Encodes withdrawals of one family, in as few messages as they fit in their order.
pub fn encode_withdrawals(family: Family, prefixes: impl IntoIterator<Item = Cidr>) -> Result<Vec<Bytes>, EncodeError> {
    match family {
        Family::V4 => pack(family, HEADER_LEN + LENGTHS, prefixes, |nlri| {
            let mut message = begin(header::UPDATE, HEADER_LEN + LENGTHS + nlri.len());
            message.put_u16(nlri.len() as u16);
            message.put_slice(nlri);
            message.put_u16(0);
            message.freeze()
        }),
        Family::V6 => pack(family, HEADER_LEN + LENGTHS + ATTRIBUTE_HEAD + 3, prefixes, |nlri| unreach(family, nlri)),
    }
}

/// Encodes the End-of-RIB marker of a family (RFC 4724 section 2).
pub fn encode_end_of_rib(family: Family) -> Bytes {
    match family {
        Family::V4 => {
            let mut message = begin(header::UPDATE, HEADER_LEN + LENGTHS);
            message.put_u32(0);
            message.freeze()
        }
        Family::V6 => unreach(family, &[]),
    }
}

/// Cuts prefixes in pieces that fit beside `fixed` octets and makes a message of each.
fn pack(
    family: Family,
    fixed: usize,
    prefixes: impl IntoIterator<Item = Cidr>,
    message: impl Fn(&[u8]) -> Bytes,
) -> Result<Vec<Bytes>, EncodeError> {
    let longest = nlri::max_octets(family);
    if fixed + longest > MAX_MESSAGE {
        return Err(EncodeError::TooLong { len: fixed + longest, max: MAX_MESSAGE });
    }
    let room = MAX_MESSAGE - fixed;
    let mut messages = Vec::new();
    let mut nlri = Vec::new();
    for prefix in prefixes {
        if prefix.family() != family {
            return Err(EncodeError::PrefixFamily(prefix, family));
        }
        let full = nlri.len();
        nlri::write(&mut nlri, prefix);
        if nlri.len() > room {
            messages.push(message(&nlri[..full]));
            nlri.drain(..full);
        }
    }
    if !nlri.is_empty() {
        messages.push(message(&nlri));
    }
    Ok(messages)
}

fn unreach(family: Family, nlri: &[u8]) -> Bytes {
    let mut value = Vec::with_capacity(3);
    put_family(&mut value, family);
    multiprotocol(AttributeType::MP_UNREACH_NLRI, &value, nlri, &[])
}

fn put_family(buf: &mut Vec<u8>, family: Family) {
    let AfiSafi { afi, safi } = family.into();
    buf.put_u16(afi);
    buf.put_u8(safi);
}

/// Makes an UPDATE whose prefixes are in an attribute.
fn multiprotocol(kind: AttributeType, head: &[u8], nlri: &[u8], block: &[u8]) -> Bytes {
    let value_len = head.len() + nlri.len();
    // RFC 4271 section 4.3: two octets of length only where one isn't enough.
    let attribute_head = if value_len > 255 { ATTRIBUTE_HEAD } else { ATTRIBUTE_HEAD - 1 };
    let attributes_len = attribute_head + value_len + block.len();
    let mut message = begin(header::UPDATE, HEADER_LEN + LENGTHS + attributes_len);
    message.put_u16(0);
    message.put_u16(attributes_len as u16);
    if value_len > 255 {
        message.put_slice(&[FLAG_OPTIONAL | FLAG_EXTENDED_LENGTH, kind.0]);
        message.put_u16(value_len as u16);
    } else {
        message.put_slice(&[FLAG_OPTIONAL, kind.0, value_len as u8]);
    }
    message.put_slice(head);
    message.put_slice(nlri);
    message.put_slice(block);
    message.freeze()
}
