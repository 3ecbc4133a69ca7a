//! From the tables of felix/core to entries of the kernel's sets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_felix_core::policy::{Allow, IdentityId, PolicyTables, PortMatch, ProgramId, ProtocolMatch};
use margay_netlink::nft::{Element, ElementData, Key};

use super::skeleton::*;

/// One entry of a set or map; with `last` it is a range, both ends inclusive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    pub(super) last: Option<Vec<u8>>,
    pub(super) data: Option<Vec<u8>>,
}

impl Entry {
    pub(super) fn new(key: Key) -> Entry {
        Entry { key: key.build(), last: None, data: None }
    }

    pub(super) fn range(first: IpAddr, last: IpAddr) -> Entry {
        Entry { key: address_key(first), last: Some(address_key(last)), data: None }
    }

    fn with_data(key: Key, data: u32) -> Entry {
        Entry { data: Some(Key::single().u32(data).build()), ..Entry::new(key) }
    }
}

/// Entries by set.
pub(super) type Entries = BTreeMap<&'static str, BTreeSet<Entry>>;

/// The port ranges of each program, peer and protocol, as the tables have them.
///
/// They may overlap there, while the kernel refuses overlapping elements, so that a change of one range can change
/// what its neighbours merge to.
pub(super) type PortRanges = BTreeMap<(ProgramId, IdentityId, u8), BTreeSet<(u16, u16)>>;

/// Lists the entries that stand for the tables, but for port ranges, which are collected in `ranges`.
pub(super) fn entries(tables: &PolicyTables, ranges: &mut PortRanges) -> Entries {
    let mut out = Entries::new();
    let mut put = |set: &'static str, entry: Entry| {
        out.entry(set).or_default().insert(entry);
    };
    for (interface, programs) in &tables.endpoints {
        let name = || Key::single().ifname(interface);
        put(ENDPOINTS, Entry::new(name()));
        for address in &programs.addresses {
            let set = if address.is_ipv4() { ENDPOINT_SOURCE4 } else { ENDPOINT_SOURCE6 };
            put(set, Entry::new(Key::concat().ifname(interface).addr(*address)));
        }
        match programs.egress {
            Some(program) => put(PROGRAM_OUT, Entry::with_data(name(), program.0)),
            None => put(OPEN_OUT, Entry::new(name())),
        }
        match programs.ingress {
            Some(program) => put(PROGRAM_IN, Entry::with_data(name(), program.0)),
            None => put(OPEN_IN, Entry::new(name())),
        }
    }
    for (address, identity) in &tables.identities {
        let set = if address.is_ipv4() { IDENTITY4 } else { IDENTITY6 };
        put(set, Entry::with_data(Key::single().addr(*address), identity.0));
    }
    for (first, (last, identity)) in &tables.ranges {
        let set = if first.is_ipv4() { IDENTITY_RANGE4 } else { IDENTITY_RANGE6 };
        let entry = Entry::with_data(Key::single().addr(*first), identity.0);
        put(set, Entry { last: Some(address_key(*last)), ..entry });
    }
    for Allow { program, peer, protocol, ports } in &tables.allows {
        let key = || Key::concat().u32(program.0).u32(peer.0);
        match (*protocol, *ports) {
            (ProtocolMatch::Any, PortMatch::Any) => put(ALLOW_ALL, Entry::new(key())),
            (ProtocolMatch::Number(proto), PortMatch::Any) => put(ALLOW_PROTO, Entry::new(key().proto(proto))),
            (ProtocolMatch::Number(proto), PortMatch::One(port)) => {
                put(ALLOW_ONE, Entry::new(key().proto(proto).port(port)));
            }
            (ProtocolMatch::Number(proto), PortMatch::Range(first, last)) => {
                ranges.entry((*program, *peer, proto)).or_default().insert((first, last));
            }
            // Ports without a protocol mean nothing; what isn't understood doesn't pass.
            (ProtocolMatch::Any, _) => {}
        }
    }
    out
}

/// The entries of the tables as a whole, port ranges and constant sets included.
pub(super) fn all_entries(tables: &PolicyTables, ranges: &mut PortRanges) -> Entries {
    let mut out = entries(tables, ranges);
    let merged = ranges.iter().flat_map(|(group, ports)| port_range_entries(*group, ports));
    out.entry(ALLOW_RANGE).or_default().extend(merged);
    out.extend([(NEIGHBOUR_DISCOVERY, constant_entries())]);
    out
}

/// The elements of the one set that doesn't depend on policy.
pub(super) fn constant_entries() -> BTreeSet<Entry> {
    NEIGHBOUR_DISCOVERY_TYPES.iter().map(|kind| Entry::new(Key::single().proto(*kind))).collect()
}

/// The entries of one program, peer and protocol, with overlapping ranges merged.
pub(super) fn port_range_entries(
    (program, peer, proto): (ProgramId, IdentityId, u8),
    ranges: &BTreeSet<(u16, u16)>,
) -> Vec<Entry> {
    let key = |port| Key::concat().u32_be(program.0).u32_be(peer.0).proto(proto).port(port).build();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for &(first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged.into_iter().map(|(first, last)| Entry { key: key(first), last: Some(key(last)), data: None }).collect()
}

/// Encodes entries for that set.
pub(super) fn elements<'a>(
    set: &str,
    entries: impl IntoIterator<Item = &'a Entry> + 'a,
) -> impl Iterator<Item = Element> + 'a {
    let concatenated = set == ALLOW_RANGE;
    entries.into_iter().flat_map(move |entry| {
        let Entry { key, last, data } = entry.clone();
        let data = data.map(ElementData::Value);
        match last {
            None => vec![Element { data, ..Element::new(key) }],
            Some(last) if concatenated => vec![Element::concat_range(key, last)],
            Some(last) => Element::range(key, last, data).collect(),
        }
    })
}

/// Reads dumped elements of that set as entries. What fits no entry, such as the end of no range, is told as `None`:
/// then the set must be emptied as a whole.
pub(super) fn from_elements(set: &str, mut elements: Vec<Element>) -> Option<BTreeSet<Entry>> {
    // An end sorts before the start of the next range at the same key.
    elements.sort_by(|a, b| (&a.key, !a.interval_end).cmp(&(&b.key, !b.interval_end)));
    let interval = [IDENTITY_RANGE4, IDENTITY_RANGE6, SERVICES4, SERVICES6].contains(&set);
    let mut out = BTreeSet::new();
    let mut open: Option<Entry> = None;
    for element in elements {
        let data = match element.data {
            None => None,
            Some(ElementData::Value(value)) => Some(value),
            Some(ElementData::Verdict(_)) => return None,
        };
        if element.interval_end {
            let mut entry = open.take()?;
            entry.last = Some(predecessor(element.key)?);
            out.insert(entry);
        } else {
            let entry = Entry { key: element.key, last: element.key_end, data };
            if interval {
                if open.replace(entry).is_some() {
                    return None;
                }
            } else {
                out.insert(entry);
            }
        }
    }
    if let Some(mut entry) = open {
        entry.last = Some(vec![0xff; entry.key.len()]);
        out.insert(entry);
    }
    Some(out)
}

fn address_key(address: IpAddr) -> Vec<u8> {
    Key::single().addr(address).build()
}

fn predecessor(mut number: Vec<u8>) -> Option<Vec<u8>> {
    for byte in number.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != 0xff {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> (ProgramId, IdentityId, u8) {
        (ProgramId(1), IdentityId(2), 6)
    }

    fn ports(entry: &Entry) -> (u16, u16) {
        let port = |key: &[u8]| u16::from_be_bytes([key[12], key[13]]);
        (port(&entry.key), port(entry.last.as_deref().unwrap_or_default()))
    }

    #[test]
    fn overlapping_port_ranges_are_merged_and_others_are_not() {
        let ranges = BTreeSet::from([(80, 90), (85, 100), (86, 87), (101, 110), (200, 300)]);
        let merged: Vec<_> = port_range_entries(group(), &ranges).iter().map(ports).collect();
        assert_eq!(merged, [(80, 100), (101, 110), (200, 300)]);
    }

    #[test]
    fn address_ranges_come_back_from_their_elements() {
        let tables = PolicyTables {
            ranges: BTreeMap::from([
                ("10.0.0.0".parse().expect("v4"), ("10.0.0.255".parse().expect("v4"), IdentityId(1))),
                ("10.0.1.0".parse().expect("v4"), ("10.0.1.0".parse().expect("v4"), IdentityId(2))),
                ("224.0.0.0".parse().expect("v4"), ("255.255.255.255".parse().expect("v4"), IdentityId(3))),
            ]),
            ..Default::default()
        };
        let wanted = entries(&tables, &mut PortRanges::new()).remove(IDENTITY_RANGE4).unwrap_or_default();
        let dumped: Vec<_> = elements(IDENTITY_RANGE4, &wanted).collect();
        assert_eq!(dumped.len(), 5);
        assert_eq!(from_elements(IDENTITY_RANGE4, dumped), Some(wanted));
    }

    #[test]
    fn an_end_without_a_start_fits_no_entry() {
        let end = Element { interval_end: true, ..Element::new(vec![10, 0, 0, 0]) };
        assert_eq!(from_elements(IDENTITY_RANGE4, vec![end]), None);
    }

    #[test]
    fn ports_of_any_protocol_do_not_pass() {
        let allow = Allow {
            program: ProgramId(1),
            peer: IdentityId::ANYONE,
            protocol: ProtocolMatch::Any,
            ports: PortMatch::One(80),
        };
        let tables = PolicyTables { allows: BTreeSet::from([allow]), ..Default::default() };
        assert_eq!(entries(&tables, &mut PortRanges::new()), Entries::new());
    }
}
