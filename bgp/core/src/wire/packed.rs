//! Attributes as tables keep them: one run of octets, a third of what the decoded value takes.
//!
//! The form is the program's own and never leaves it. Equal attributes have equal octets, so that they are compared and
//! hashed as such. What most routes lack takes no room: a word of flags says what is there, in this order: next hop,
//! link-local next hop, MED, LOCAL_PREF, AGGREGATOR, ORIGINATOR_ID, CLUSTER_LIST, AS_PATH, the three kinds of communities,
//! unknown attributes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use margay_net::Asn;

use super::as_path::{AsPath, SegmentKind};
use super::attributes::{Aggregator, AttributeType, Attributes, Origin, RawAttribute};
use super::community::{Community, ExtendedCommunity, LargeCommunity};

const NEXT_HOP_V4: u16 = 1;
const NEXT_HOP_V6: u16 = 1 << 1;
const LINK_LOCAL: u16 = 1 << 2;
const MED: u16 = 1 << 3;
const LOCAL_PREF: u16 = 1 << 4;
const ATOMIC_AGGREGATE: u16 = 1 << 5;
const AGGREGATOR: u16 = 1 << 6;
const ORIGINATOR_ID: u16 = 1 << 7;
const CLUSTER_LIST: u16 = 1 << 8;
const COMMUNITIES: u16 = 1 << 9;
const EXTENDED_COMMUNITIES: u16 = 1 << 10;
const LARGE_COMMUNITIES: u16 = 1 << 11;
const UNKNOWN: u16 = 1 << 12;
/// Two bits.
const ORIGIN_SHIFT: u32 = 13;

/// A count below this has one octet; else this octet and four more.
const LONG_COUNT: u8 = u8::MAX;

/// Appends the packed form of `attributes`, which are in canonical form.
pub(crate) fn pack(attributes: &Attributes, buf: &mut Vec<u8>) {
    let present = |condition: bool, flag: u16| if condition { flag } else { 0 };
    let flags = match attributes.next_hop {
        Some(IpAddr::V4(_)) => NEXT_HOP_V4,
        Some(IpAddr::V6(_)) => NEXT_HOP_V6,
        None => 0,
    } | present(attributes.link_local_next_hop.is_some(), LINK_LOCAL)
        | present(attributes.med.is_some(), MED)
        | present(attributes.local_pref.is_some(), LOCAL_PREF)
        | present(attributes.atomic_aggregate, ATOMIC_AGGREGATE)
        | present(attributes.aggregator.is_some(), AGGREGATOR)
        | present(attributes.originator_id.is_some(), ORIGINATOR_ID)
        | present(!attributes.cluster_list.is_empty(), CLUSTER_LIST)
        | present(!attributes.communities.is_empty(), COMMUNITIES)
        | present(!attributes.extended_communities.is_empty(), EXTENDED_COMMUNITIES)
        | present(!attributes.large_communities.is_empty(), LARGE_COMMUNITIES)
        | present(!attributes.unknown.is_empty(), UNKNOWN)
        | (attributes.origin as u16) << ORIGIN_SHIFT;
    buf.extend_from_slice(&flags.to_ne_bytes());
    match attributes.next_hop {
        Some(IpAddr::V4(next_hop)) => buf.extend_from_slice(&next_hop.octets()),
        Some(IpAddr::V6(next_hop)) => buf.extend_from_slice(&next_hop.octets()),
        None => {}
    }
    if let Some(link_local) = attributes.link_local_next_hop {
        buf.extend_from_slice(&link_local.octets());
    }
    for number in [attributes.med, attributes.local_pref].into_iter().flatten() {
        buf.extend_from_slice(&number.to_ne_bytes());
    }
    if let Some(aggregator) = attributes.aggregator {
        buf.extend_from_slice(&aggregator.asn.0.to_ne_bytes());
        buf.extend_from_slice(&aggregator.router_id.octets());
    }
    if let Some(originator) = attributes.originator_id {
        buf.extend_from_slice(&originator.octets());
    }
    list(buf, &attributes.cluster_list, |buf, cluster| buf.extend_from_slice(&cluster.octets()));
    count(buf, attributes.as_path.segments().count());
    for segment in attributes.as_path.segments() {
        buf.extend_from_slice(&[segment.kind as u8, segment.asns.len() as u8]);
        segment.asns.iter().for_each(|asn| buf.extend_from_slice(&asn.0.to_ne_bytes()));
    }
    list(buf, &attributes.communities, |buf, community| buf.extend_from_slice(&community.0.to_ne_bytes()));
    list(buf, &attributes.extended_communities, |buf, community| buf.extend_from_slice(&community.0.to_ne_bytes()));
    list(buf, &attributes.large_communities, |buf, community| {
        for part in [community.global_administrator, community.local_data_1, community.local_data_2] {
            buf.extend_from_slice(&part.to_ne_bytes());
        }
    });
    list(buf, &attributes.unknown, |buf, raw| {
        buf.extend_from_slice(&[raw.kind.0, raw.flags]);
        count(buf, raw.value.len());
        buf.extend_from_slice(&raw.value);
    });
}

/// Appends a list behind its length, where it isn't empty.
fn list<T>(buf: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    if !items.is_empty() {
        count(buf, items.len());
        items.iter().for_each(|item| put(buf, item));
    }
}

fn count(buf: &mut Vec<u8>, count: usize) {
    match u8::try_from(count) {
        Ok(short) if short != LONG_COUNT => buf.push(short),
        _ => {
            buf.push(LONG_COUNT);
            buf.extend_from_slice(&(count as u32).to_ne_bytes());
        }
    }
}

/// Returns the attributes that [`pack`] was given.
pub(crate) fn unpack(packed: &[u8]) -> Attributes {
    let (mut attributes, mut rest) = unpack_decisive(packed);
    let flags = rest.flags;
    attributes.communities = rest.list(flags & COMMUNITIES, |rest| Community(rest.u32()));
    attributes.extended_communities =
        rest.list(flags & EXTENDED_COMMUNITIES, |rest| ExtendedCommunity(u64::from_ne_bytes(rest.array())));
    attributes.large_communities = rest.list(flags & LARGE_COMMUNITIES, |rest| LargeCommunity {
        global_administrator: rest.u32(),
        local_data_1: rest.u32(),
        local_data_2: rest.u32(),
    });
    attributes.unknown = rest.list(flags & UNKNOWN, |rest| {
        let [kind, flags] = rest.array();
        let len = rest.count();
        RawAttribute { kind: AttributeType(kind), flags, value: rest.take(len).into() }
    });
    attributes
}

/// Returns what the decision process looks at: communities and unknown attributes are left out.
pub(crate) fn unpack_for_decision(packed: &[u8]) -> Attributes {
    unpack_decisive(packed).0
}

/// Returns the next hop and the link-local one beside it.
pub(crate) fn next_hops(packed: &[u8]) -> (Option<IpAddr>, Option<Ipv6Addr>) {
    Rest::new(packed).next_hops()
}

fn unpack_decisive(packed: &[u8]) -> (Attributes, Rest<'_>) {
    let mut rest = Rest::new(packed);
    let flags = rest.flags;
    let (next_hop, link_local_next_hop) = rest.next_hops();
    let attributes = Attributes {
        origin: match flags >> ORIGIN_SHIFT & 3 {
            0 => Origin::Igp,
            1 => Origin::Egp,
            _ => Origin::Incomplete,
        },
        next_hop,
        link_local_next_hop,
        med: rest.optional(flags & MED, Rest::u32),
        local_pref: rest.optional(flags & LOCAL_PREF, Rest::u32),
        atomic_aggregate: flags & ATOMIC_AGGREGATE != 0,
        aggregator: rest
            .optional(flags & AGGREGATOR, |rest| Aggregator { asn: Asn(rest.u32()), router_id: rest.ipv4() }),
        originator_id: rest.optional(flags & ORIGINATOR_ID, Rest::ipv4),
        cluster_list: rest.list(flags & CLUSTER_LIST, Rest::ipv4),
        as_path: rest.as_path(),
        ..Attributes::default()
    };
    (attributes, rest)
}

/// A reader of what [`pack`] wrote, which ends where it must.
struct Rest<'a> {
    flags: u16,
    octets: &'a [u8],
}

impl<'a> Rest<'a> {
    fn new(packed: &'a [u8]) -> Rest<'a> {
        let mut rest = Rest { flags: 0, octets: packed };
        rest.flags = u16::from_ne_bytes(rest.array());
        rest
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (array, rest) = self.octets.split_first_chunk().expect("the writer and the reader agree");
        self.octets = rest;
        *array
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.octets.split_at(len);
        self.octets = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.array())
    }

    fn ipv4(&mut self) -> Ipv4Addr {
        Ipv4Addr::from(self.array::<4>())
    }

    fn count(&mut self) -> usize {
        match self.array() {
            [LONG_COUNT] => self.u32() as usize,
            [short] => usize::from(short),
        }
    }

    fn optional<T>(&mut self, flag: u16, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (flag != 0).then(|| read(self))
    }

    fn list<T>(&mut self, flag: u16, read: impl Fn(&mut Self) -> T) -> Vec<T> {
        if flag == 0 {
            return Vec::new();
        }
        (0..self.count()).map(|_| read(self)).collect()
    }

    fn next_hops(&mut self) -> (Option<IpAddr>, Option<Ipv6Addr>) {
        let flags = self.flags;
        let v4 = self.optional(flags & NEXT_HOP_V4, |rest| IpAddr::V4(rest.ipv4()));
        let v6 = self.optional(flags & NEXT_HOP_V6, |rest| IpAddr::V6(Ipv6Addr::from(rest.array::<16>())));
        (v4.or(v6), self.optional(flags & LINK_LOCAL, |rest| Ipv6Addr::from(rest.array::<16>())))
    }

    fn as_path(&mut self) -> AsPath {
        let mut path = AsPath::default();
        for _ in 0..self.count() {
            let [kind, len] = self.array();
            let kind = SegmentKind::from_wire(kind).unwrap_or(SegmentKind::Sequence);
            let asns = self.take(usize::from(len) * 4).as_chunks::<4>().0;
            path.push_segment(kind, len, asns.iter().map(|&asn| Asn(u32::from_ne_bytes(asn))));
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(attributes: &Attributes) -> Vec<u8> {
        let mut buf = Vec::new();
        pack(attributes, &mut buf);
        buf
    }

    #[test]
    fn a_route_of_the_internet_takes_few_octets() {
        let attributes = Attributes {
            as_path: AsPath::sequence([65001, 3356, 1299, 2914, 64500].map(Asn)),
            next_hop: Some("192.0.2.1".parse().expect("an address")),
            communities: vec![Community::new(3356, 1), Community::new(3356, 2)],
            ..Attributes::default()
        };
        let octets = packed(&attributes);
        assert_eq!(octets.len(), 2 + 4 + (1 + 2 + 5 * 4) + (1 + 2 * 4));
        assert_eq!(unpack(&octets), attributes);
        assert_eq!(next_hops(&octets), (attributes.next_hop, None));
    }

    #[test]
    fn the_decision_process_is_given_all_but_communities_and_unknown_attributes() {
        let raw = RawAttribute { kind: AttributeType(99), flags: 0xe0, value: vec![7; 300].into() };
        let decisive = Attributes {
            origin: Origin::Incomplete,
            as_path: AsPath::sequence((1..=600).map(Asn)),
            med: Some(5),
            local_pref: Some(200),
            originator_id: Some(Ipv4Addr::new(10, 0, 0, 1)),
            cluster_list: vec![Ipv4Addr::new(10, 0, 0, 2)],
            ..Attributes::default()
        };
        let attributes = Attributes { communities: vec![Community(1)], unknown: vec![raw], ..decisive.clone() };
        let octets = packed(&attributes);
        assert_eq!(unpack(&octets), attributes);
        assert_eq!(unpack_for_decision(&octets), decisive);
        assert_eq!(next_hops(&octets), (None, None));
    }
}
