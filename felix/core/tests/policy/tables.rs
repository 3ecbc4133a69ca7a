//! Reads the tables as the kernel does, and compares and folds them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use margay_felix_core::policy::{
    Allow, Direction, IdentityId, PolicyChanges, PolicyTables, PortMatch, ProgramId, ProtocolMatch,
};

use crate::oracle::Connection;

/// Judges a connection by the tables alone.
pub(crate) fn allows(tables: &PolicyTables, interface: &str, connection: &Connection) -> bool {
    let Some(endpoint) = tables.endpoints.get(interface) else { return false };
    let program = match connection.direction {
        Direction::Ingress => endpoint.ingress,
        Direction::Egress => endpoint.egress,
    };
    let Some(program) = program else { return true };
    let exact = tables.identities.get(&connection.peer).copied();
    let in_range = || {
        let (_, (last, identity)) = tables.ranges.range(..=connection.peer).next_back()?;
        (connection.peer <= *last).then_some(*identity)
    };
    let peers = [exact.or_else(in_range), Some(IdentityId::ANYONE)];
    peers.into_iter().flatten().any(|peer| {
        let protocol = connection.protocol;
        let low = Allow { program, peer, protocol: ProtocolMatch::Any, ports: PortMatch::Any };
        let high = Allow { protocol: ProtocolMatch::Number(255), ports: PortMatch::Range(u16::MAX, u16::MAX), ..low };
        tables.allows.range(low..=high).any(|allow| {
            let protocol = match allow.protocol {
                ProtocolMatch::Any => true,
                ProtocolMatch::Number(number) => number == protocol,
            };
            protocol
                && match allow.ports {
                    PortMatch::Any => true,
                    PortMatch::One(port) => port == connection.port,
                    PortMatch::Range(first, last) => (first..=last).contains(&connection.port),
                }
        })
    })
}

/// Applies changes as felix does.
pub(crate) fn fold(tables: &mut PolicyTables, changes: &PolicyChanges) {
    fn remove<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
        map: &mut BTreeMap<K, V>,
        gone: &BTreeMap<K, V>,
    ) {
        for (key, value) in gone {
            assert_eq!(map.remove(key).as_ref(), Some(value), "{key:?} is removed as it was");
        }
    }
    fn add<K: Ord + Clone + std::fmt::Debug, V: Clone>(map: &mut BTreeMap<K, V>, new: &BTreeMap<K, V>) {
        for (key, value) in new {
            assert!(map.insert(key.clone(), value.clone()).is_none(), "{key:?} is added where nothing is");
        }
    }
    let PolicyChanges { removed, added } = changes;
    remove(&mut tables.endpoints, &removed.endpoints);
    remove(&mut tables.identities, &removed.identities);
    remove(&mut tables.ranges, &removed.ranges);
    for allow in &removed.allows {
        assert!(tables.allows.remove(allow), "{allow:?} was there");
    }
    add(&mut tables.endpoints, &added.endpoints);
    add(&mut tables.identities, &added.identities);
    add(&mut tables.ranges, &added.ranges);
    for allow in &added.allows {
        assert!(tables.allows.insert(*allow), "{allow:?} was not there");
    }
}

/// The number of elements in a change.
pub(crate) fn elements(changes: &PolicyChanges) -> usize {
    let count = |tables: &PolicyTables| {
        let programs = |e: &margay_felix_core::policy::EndpointPrograms| {
            1 + e.addresses.len() + usize::from(e.ingress.is_some()) + usize::from(e.egress.is_some())
        };
        tables.endpoints.values().map(programs).sum::<usize>()
            + tables.identities.len()
            + tables.ranges.len()
            + tables.allows.len()
    };
    count(&changes.removed) + count(&changes.added)
}

/// The tables with programs and identities numbered by first appearance, so that equal states are equal values.
///
/// Also checks what must hold of any tables: ids above zero, ranges disjoint and merged, no allow of nobody.
pub(crate) fn canonical(tables: &PolicyTables) -> PolicyTables {
    let mut programs = BTreeMap::new();
    for endpoint in tables.endpoints.values() {
        for program in [endpoint.ingress, endpoint.egress].into_iter().flatten() {
            assert_ne!(program.0, 0);
            let next = ProgramId(programs.len() as u32 + 1);
            programs.entry(program).or_insert(next);
        }
    }
    let mut identities = BTreeMap::from([(IdentityId::ANYONE, IdentityId::ANYONE)]);
    let mut before: Option<(IpAddr, IdentityId)> = None;
    for (first, (last, identity)) in &tables.ranges {
        assert!(first <= last && first.is_ipv4() == last.is_ipv4(), "{first}-{last}");
        if let Some((end, same)) = before.filter(|(end, _)| end.is_ipv4() == first.is_ipv4()) {
            assert!(end < *first, "{first} overlaps {end}");
            assert!(next(end) != *first || same != *identity, "{end} and {first} are not merged");
        }
        before = Some((*last, *identity));
    }
    for identity in tables.identities.values().chain(tables.ranges.values().map(|(_, identity)| identity)) {
        assert_ne!(identity.0, 0);
        let next = IdentityId(identities.len() as u32);
        identities.entry(*identity).or_insert(next);
    }
    let program = |id: &ProgramId| *programs.get(id).unwrap_or_else(|| panic!("{id:?} is no endpoint's"));
    let identity = |id: &IdentityId| *identities.get(id).unwrap_or_else(|| panic!("{id:?} is no address's"));
    let mut out = tables.clone();
    for endpoint in out.endpoints.values_mut() {
        endpoint.ingress = endpoint.ingress.as_ref().map(program);
        endpoint.egress = endpoint.egress.as_ref().map(program);
    }
    out.identities.values_mut().for_each(|id| *id = identity(id));
    out.ranges.values_mut().for_each(|(_, id)| *id = identity(id));
    out.allows = tables
        .allows
        .iter()
        .map(|allow| Allow { program: program(&allow.program), peer: identity(&allow.peer), ..*allow })
        .collect();
    out
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits().wrapping_add(1)).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits().wrapping_add(1)).into()),
    }
}
