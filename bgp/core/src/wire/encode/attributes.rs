use std::iter::Peekable;
use std::net::IpAddr;
use std::slice;

use bytes::BufMut;
use margay_net::{Asn, Family};

use super::super::as_path::AsPath;
use super::super::attributes::{
    Aggregator, AttributeType, Attributes, FLAG_EXTENDED_LENGTH, FLAG_OPTIONAL, FLAG_PARTIAL, FLAG_TRANSITIVE,
    RawAttribute,
};
use super::update::EncodeError;

const OPTIONAL_TRANSITIVE: u8 = FLAG_OPTIONAL | FLAG_TRANSITIVE;

/// How the next hop of an UPDATE is given.
pub(super) enum NextHopField {
    /// As NEXT_HOP, with the prefixes at the end of the message.
    Classic,
    /// In MP_REACH_NLRI, with its octets.
    Multiprotocol(Vec<u8>),
}

/// Chooses where the next hop goes: IPv4 routes with an IPv4 next hop have fields of their own.
pub(super) fn next_hop_field(family: Family, attributes: &Attributes) -> Result<NextHopField, EncodeError> {
    match (family, attributes.next_hop) {
        (Family::V4, Some(IpAddr::V4(_))) => Ok(NextHopField::Classic),
        (_, Some(IpAddr::V6(next_hop))) => {
            let mut octets = next_hop.octets().to_vec();
            if let Some(link_local) = attributes.link_local_next_hop {
                octets.extend_from_slice(&link_local.octets());
            }
            Ok(NextHopField::Multiprotocol(octets))
        }
        _ => Err(EncodeError::NextHop(family)),
    }
}

/// Returns all attributes but MP_REACH_NLRI, in the order of their types.
pub(super) fn block(attributes: &Attributes, next_hop: &NextHopField, four_octet_asn: bool) -> Vec<u8> {
    let mut block = Block { buf: Vec::with_capacity(128), unknown: attributes.unknown.iter().peekable() };
    block.add(FLAG_TRANSITIVE, AttributeType::ORIGIN, |buf| buf.push(attributes.origin as u8));
    block.add(FLAG_TRANSITIVE, AttributeType::AS_PATH, |buf| write_as_path(buf, &attributes.as_path, four_octet_asn));
    if let (NextHopField::Classic, Some(IpAddr::V4(next_hop))) = (next_hop, attributes.next_hop) {
        block.add(FLAG_TRANSITIVE, AttributeType::NEXT_HOP, |buf| buf.put_slice(&next_hop.octets()));
    }
    if let Some(med) = attributes.med {
        block.add(FLAG_OPTIONAL, AttributeType::MULTI_EXIT_DISC, |buf| buf.put_u32(med));
    }
    if let Some(local_pref) = attributes.local_pref {
        block.add(FLAG_TRANSITIVE, AttributeType::LOCAL_PREF, |buf| buf.put_u32(local_pref));
    }
    if attributes.atomic_aggregate {
        block.add(FLAG_TRANSITIVE, AttributeType::ATOMIC_AGGREGATE, |_| ());
    }
    if let Some(aggregator) = attributes.aggregator {
        let write = |buf: &mut Vec<u8>| write_aggregator(buf, aggregator, four_octet_asn);
        block.add(OPTIONAL_TRANSITIVE, AttributeType::AGGREGATOR, write);
    }
    block.add_list(OPTIONAL_TRANSITIVE, AttributeType::COMMUNITIES, &attributes.communities, |buf, community| {
        buf.put_u32(community.0);
    });
    if let Some(id) = attributes.originator_id {
        block.add(FLAG_OPTIONAL, AttributeType::ORIGINATOR_ID, |buf| buf.put_slice(&id.octets()));
    }
    block.add_list(FLAG_OPTIONAL, AttributeType::CLUSTER_LIST, &attributes.cluster_list, |buf, cluster| {
        buf.put_slice(&cluster.octets());
    });
    block.add_list(
        OPTIONAL_TRANSITIVE,
        AttributeType::EXTENDED_COMMUNITIES,
        &attributes.extended_communities,
        |buf, community| buf.put_u64(community.0),
    );
    if !four_octet_asn {
        block.add_as4(attributes);
    }
    block.add_list(
        OPTIONAL_TRANSITIVE,
        AttributeType::LARGE_COMMUNITIES,
        &attributes.large_communities,
        |buf, community| {
            buf.put_u32(community.global_administrator);
            buf.put_u32(community.local_data_1);
            buf.put_u32(community.local_data_2);
        },
    );
    block.finish()
}

/// Attributes in the making; the unknown ones are put in where their type has its place.
struct Block<'a> {
    buf: Vec<u8>,
    unknown: Peekable<slice::Iter<'a, RawAttribute>>,
}

impl Block<'_> {
    fn add(&mut self, flags: u8, kind: AttributeType, value: impl FnOnce(&mut Vec<u8>)) {
        while let Some(raw) = self.unknown.next_if(|raw| raw.kind < kind) {
            write(&mut self.buf, raw.flags, raw.kind, |buf| buf.extend_from_slice(&raw.value));
        }
        write(&mut self.buf, flags, kind, value);
    }

    fn add_list<T>(&mut self, flags: u8, kind: AttributeType, items: &[T], item: impl Fn(&mut Vec<u8>, &T)) {
        if !items.is_empty() {
            self.add(flags, kind, |buf| items.iter().for_each(|value| item(buf, value)));
        }
    }

    /// Adds what a peer of two-octet AS numbers passes on for us (RFC 6793 section 4.2.2). Confederation segments are
    /// never in it.
    fn add_as4(&mut self, attributes: &Attributes) {
        let beyond = |asn: Asn| asn.0 > u32::from(u16::MAX);
        let segments = || attributes.as_path.segments().filter(|segment| !segment.kind.is_confederation());
        if segments().any(|segment| segment.asns.iter().any(|&asn| beyond(asn))) {
            self.add(OPTIONAL_TRANSITIVE, AttributeType::AS4_PATH, |buf| {
                segments().for_each(|segment| write_segment(buf, segment.kind as u8, segment.asns, true));
            });
        }
        if let Some(aggregator) = attributes.aggregator.filter(|aggregator| beyond(aggregator.asn)) {
            let write = |buf: &mut Vec<u8>| write_aggregator(buf, aggregator, true);
            self.add(OPTIONAL_TRANSITIVE, AttributeType::AS4_AGGREGATOR, write);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        for raw in self.unknown {
            write(&mut self.buf, raw.flags, raw.kind, |buf| buf.extend_from_slice(&raw.value));
        }
        self.buf
    }
}

/// Appends an attribute, whose length has two octets only where it needs them. One beyond 65,535 octets, which can't be
/// said, makes a block beyond any message, which is refused as such.
fn write(buf: &mut Vec<u8>, flags: u8, kind: AttributeType, value: impl FnOnce(&mut Vec<u8>)) {
    let head = buf.len();
    let flags = flags & (OPTIONAL_TRANSITIVE | FLAG_PARTIAL);
    buf.extend_from_slice(&[flags, kind.0, 0]);
    value(buf);
    let len = buf.len() - head - 3;
    match u8::try_from(len) {
        Ok(len) => buf[head + 2] = len,
        Err(_) => {
            let [high, low] = (len as u16).to_be_bytes();
            buf[head] = flags | FLAG_EXTENDED_LENGTH;
            buf[head + 2] = high;
            buf.insert(head + 3, low);
        }
    }
}

fn write_as_path(buf: &mut Vec<u8>, path: &AsPath, four_octet_asn: bool) {
    path.segments().for_each(|segment| write_segment(buf, segment.kind as u8, segment.asns, four_octet_asn));
}

fn write_segment(buf: &mut Vec<u8>, kind: u8, asns: &[Asn], four_octet_asn: bool) {
    buf.extend_from_slice(&[kind, asns.len() as u8]);
    asns.iter().for_each(|&asn| write_asn(buf, asn, four_octet_asn));
}

fn write_asn(buf: &mut Vec<u8>, asn: Asn, four_octet_asn: bool) {
    if four_octet_asn {
        buf.put_u32(asn.0);
    } else {
        buf.put_u16(u16::try_from(asn.0).unwrap_or(Asn::TRANS.0 as u16));
    }
}

fn write_aggregator(buf: &mut Vec<u8>, aggregator: Aggregator, four_octet_asn: bool) {
    write_asn(buf, aggregator.asn, four_octet_asn);
    buf.put_slice(&aggregator.router_id.octets());
}
