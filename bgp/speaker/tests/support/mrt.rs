//! Just enough of MRT's TABLE_DUMP_V2 (RFC 6396 section 4.3) to hand a table to GoBGP.

use std::net::IpAddr;

use margay_net::{Cidr, Family};

const TABLE_DUMP_V2: u16 = 13;
const PEER_INDEX_TABLE: u16 = 1;
const RIB_IPV4_UNICAST: u16 = 2;
const RIB_IPV6_UNICAST: u16 = 4;

/// The attributes of every route, beside an ORIGIN of EGP and an empty AS_PATH.
pub struct Attributes {
    pub next_hop: IpAddr,
    pub med: u32,
    pub community: u32,
}

/// Encodes a dump with one peer and one path for each prefix.
pub fn table_dump(prefixes: &[Cidr], attributes: &Attributes) -> Vec<u8> {
    let mut file = Vec::new();
    record(&mut file, PEER_INDEX_TABLE, &peer_index_table());
    for (sequence, prefix) in (0u32..).zip(prefixes) {
        let subtype = match prefix.family() {
            Family::V4 => RIB_IPV4_UNICAST,
            Family::V6 => RIB_IPV6_UNICAST,
        };
        let mut body = sequence.to_be_bytes().to_vec();
        body.extend(nlri(*prefix));
        body.extend(1u16.to_be_bytes()); // entries
        body.extend(0u16.to_be_bytes()); // index of the peer
        body.extend(0u32.to_be_bytes()); // originated at
        body.extend(length16(&encode(attributes, *prefix)));
        record(&mut file, subtype, &body);
    }
    file
}

fn record(file: &mut Vec<u8>, subtype: u16, body: &[u8]) {
    file.extend(0u32.to_be_bytes()); // time stamp
    file.extend(TABLE_DUMP_V2.to_be_bytes());
    file.extend(subtype.to_be_bytes());
    file.extend(u32::try_from(body.len()).expect("a small body").to_be_bytes());
    file.extend(body);
}

fn peer_index_table() -> Vec<u8> {
    let mut body = vec![192, 0, 2, 2]; // collector's BGP identifier
    body.extend([0, 0]); // length of the view's name
    body.extend([0, 1]); // peers
    body.push(2); // IPv4 address, four-octet AS number
    body.extend([192, 0, 2, 2, 192, 0, 2, 2]); // BGP identifier and address
    body.extend(super::PEER_ASN.to_be_bytes());
    body
}

fn encode(attributes: &Attributes, prefix: Cidr) -> Vec<u8> {
    let mut bytes = vec![0x40, 1, 1, 1]; // ORIGIN: EGP
    bytes.extend([0x40, 2, 0]); // AS_PATH: empty
    match attributes.next_hop {
        IpAddr::V4(next_hop) => {
            bytes.extend([0x40, 3, 4]);
            bytes.extend(next_hop.octets());
        }
        // MP_REACH_NLRI as in an UPDATE: GoBGP overlooks the short form of RFC 6396 section 4.3.4.
        IpAddr::V6(next_hop) => {
            let nlri = nlri(prefix);
            let length = u8::try_from(21 + nlri.len()).expect("one prefix");
            bytes.extend([0x80, 14, length, 0, 2, 1, 16]);
            bytes.extend(next_hop.octets());
            bytes.push(0);
            bytes.extend(nlri);
        }
    }
    bytes.extend([0x80, 4, 4]);
    bytes.extend(attributes.med.to_be_bytes());
    bytes.extend([0xc0, 8, 4]);
    bytes.extend(attributes.community.to_be_bytes());
    bytes
}

fn nlri(prefix: Cidr) -> Vec<u8> {
    let mut bytes = vec![prefix.len()];
    bytes.extend(&octets(prefix.addr())[..usize::from(prefix.len().div_ceil(8))]);
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn length16(bytes: &[u8]) -> Vec<u8> {
    let mut with_length = u16::try_from(bytes.len()).expect("few attributes").to_be_bytes().to_vec();
    with_length.extend(bytes);
    with_length
}
