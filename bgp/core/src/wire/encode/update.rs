use bytes::{BufMut, Bytes};
use margay_net::{Cidr, Family};

use super::super::attributes::{AttributeType, Attributes, FLAG_EXTENDED_LENGTH, FLAG_OPTIONAL};
use super::super::context::AfiSafi;
use super::super::header::{self, HEADER_LEN, MAX_MESSAGE};
use super::super::nlri::{self, Nlri};
use super::attributes::{NextHopField, block, next_hop_field};
use super::{begin, begin_in};

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
/// business, as is that all routes have a path identifier or none. Without routes there are no messages.
pub fn encode_announcements(
    family: Family,
    attributes: &Attributes,
    routes: impl IntoIterator<Item: Into<Nlri>>,
    four_octet_asn: bool,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut buf = Vec::new();
    append_announcements(&mut buf, family, attributes, routes, four_octet_asn)?;
    Ok(cut(buf))
}

/// Encodes withdrawals of one family, in as few messages as they fit in their order.
pub fn encode_withdrawals(
    family: Family,
    routes: impl IntoIterator<Item: Into<Nlri>>,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut buf = Vec::new();
    append_withdrawals(&mut buf, family, routes)?;
    Ok(cut(buf))
}

/// Appends what [`encode_announcements`] makes and returns how many messages it is; nothing is appended with an error
/// about the attributes.
pub(crate) fn append_announcements(
    buf: &mut Vec<u8>,
    family: Family,
    attributes: &Attributes,
    routes: impl IntoIterator<Item: Into<Nlri>>,
    four_octet_asn: bool,
) -> Result<u64, EncodeError> {
    let next_hop = next_hop_field(family, attributes)?;
    let block = block(attributes, &next_hop, four_octet_asn);
    match next_hop {
        NextHopField::Classic => {
            let fixed = HEADER_LEN + LENGTHS + block.len();
            pack(buf, family, fixed, routes, |buf, nlri| {
                begin_in(buf, header::UPDATE, fixed + nlri.len());
                buf.put_u16(0);
                buf.put_u16(block.len() as u16);
                buf.put_slice(&block);
                buf.put_slice(nlri);
            })
        }
        NextHopField::Multiprotocol(next_hop) => {
            // AFI, SAFI, the length of the next hop and the reserved octet.
            let head = 5 + next_hop.len();
            let fixed = HEADER_LEN + LENGTHS + ATTRIBUTE_HEAD + head + block.len();
            let mut value = Vec::with_capacity(head);
            put_family(&mut value, family);
            value.put_u8(next_hop.len() as u8);
            value.put_slice(&next_hop);
            value.put_u8(0);
            pack(buf, family, fixed, routes, |buf, nlri| {
                multiprotocol(buf, AttributeType::MP_REACH_NLRI, &value, nlri, &block);
            })
        }
    }
}

/// Appends what [`encode_withdrawals`] makes and returns how many messages it is.
pub(crate) fn append_withdrawals(
    buf: &mut Vec<u8>,
    family: Family,
    routes: impl IntoIterator<Item: Into<Nlri>>,
) -> Result<u64, EncodeError> {
    match family {
        Family::V4 => pack(buf, family, HEADER_LEN + LENGTHS, routes, |buf, nlri| {
            begin_in(buf, header::UPDATE, HEADER_LEN + LENGTHS + nlri.len());
            buf.put_u16(nlri.len() as u16);
            buf.put_slice(nlri);
            buf.put_u16(0);
        }),
        Family::V6 => pack(buf, family, HEADER_LEN + LENGTHS + ATTRIBUTE_HEAD + 3, routes, |buf, nlri| {
            unreach(buf, family, nlri);
        }),
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
        Family::V6 => {
            let mut message = Vec::new();
            unreach(&mut message, family, &[]);
            message.into()
        }
    }
}

/// Cuts prefixes in pieces that fit beside `fixed` octets, has a message made of each and returns how many there are.
fn pack(
    buf: &mut Vec<u8>,
    family: Family,
    fixed: usize,
    routes: impl IntoIterator<Item: Into<Nlri>>,
    message: impl Fn(&mut Vec<u8>, &[u8]),
) -> Result<u64, EncodeError> {
    let mut routes = routes.into_iter().map(Into::into).peekable();
    let longest = nlri::max_octets(family, routes.peek().is_some_and(|first: &Nlri| first.path_id.is_some()));
    if fixed + longest > MAX_MESSAGE {
        return Err(EncodeError::TooLong { len: fixed + longest, max: MAX_MESSAGE });
    }
    let room = MAX_MESSAGE - fixed;
    let mut messages = 0;
    let mut nlri = Vec::new();
    for route in routes {
        if route.prefix.family() != family {
            return Err(EncodeError::PrefixFamily(route.prefix, family));
        }
        let full = nlri.len();
        nlri::write(&mut nlri, route);
        if nlri.len() > room {
            message(buf, &nlri[..full]);
            messages += 1;
            nlri.drain(..full);
        }
    }
    if !nlri.is_empty() {
        message(buf, &nlri);
        messages += 1;
    }
    Ok(messages)
}

/// Takes messages that were made one after the other apart.
fn cut(buf: Vec<u8>) -> Vec<Bytes> {
    let mut rest = Bytes::from(buf);
    let mut messages = Vec::new();
    while let Ok(Some(len)) = header::frame(&rest, MAX_MESSAGE) {
        messages.push(rest.split_to(len));
    }
    messages
}

fn unreach(buf: &mut Vec<u8>, family: Family, nlri: &[u8]) {
    let mut value = Vec::with_capacity(3);
    put_family(&mut value, family);
    multiprotocol(buf, AttributeType::MP_UNREACH_NLRI, &value, nlri, &[]);
}

fn put_family(buf: &mut Vec<u8>, family: Family) {
    let AfiSafi { afi, safi } = family.into();
    buf.put_u16(afi);
    buf.put_u8(safi);
}

/// Makes an UPDATE whose prefixes are in an attribute.
fn multiprotocol(buf: &mut Vec<u8>, kind: AttributeType, head: &[u8], nlri: &[u8], block: &[u8]) {
    let value_len = head.len() + nlri.len();
    // RFC 4271 section 4.3: two octets of length only where one isn't enough.
    let attribute_head = if value_len > 255 { ATTRIBUTE_HEAD } else { ATTRIBUTE_HEAD - 1 };
    let attributes_len = attribute_head + value_len + block.len();
    begin_in(buf, header::UPDATE, HEADER_LEN + LENGTHS + attributes_len);
    buf.put_u16(0);
    buf.put_u16(attributes_len as u16);
    if value_len > 255 {
        buf.put_slice(&[FLAG_OPTIONAL | FLAG_EXTENDED_LENGTH, kind.0]);
        buf.put_u16(value_len as u16);
    } else {
        buf.put_slice(&[FLAG_OPTIONAL, kind.0, value_len as u8]);
    }
    buf.put_slice(head);
    buf.put_slice(nlri);
    buf.put_slice(block);
}
