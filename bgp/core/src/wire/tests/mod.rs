//! Behaviour of the wire format over whole messages.

#![allow(clippy::unwrap_used)]

mod add_path;
mod as4;
mod golden;
mod header;
mod messages;
mod open;
mod packing;
mod properties;
mod rfc7606;
mod rfc7606_matrix;
mod rfc7606_table;
mod update;

use margay_net::{Cidr, Family};

use super::{DecodeContext, FamilySet, Message, Notification, PeerKind, Update, decode};

/// Octets from hexadecimal with spaces.
fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(|char| !char.is_whitespace()).collect();
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A message of type `kind` with a right header.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// An UPDATE with right lengths.
fn update_message(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for field in [withdrawn, attributes] {
        body.extend(u16::try_from(field.len()).unwrap().to_be_bytes());
        body.extend(field);
    }
    body.extend(nlri);
    message(2, &body)
}

/// A session with four-octet AS numbers and both families.
fn context(peer_kind: PeerKind) -> DecodeContext {
    DecodeContext {
        four_octet_asn: true,
        peer_kind,
        families: Family::ALL.into_iter().collect(),
        extended_next_hop: false,
        add_path: FamilySet::EMPTY,
    }
}

fn decode_update(message: &[u8], context: &DecodeContext) -> Result<Update, Notification> {
    match decode(message, context)? {
        Message::Update(update) => Ok(update),
        other => panic!("not an UPDATE: {other:?}"),
    }
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}
