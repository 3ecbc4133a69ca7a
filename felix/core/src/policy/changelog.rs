//! The tables together with what they were when changes were last asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Allow, EndpointPrograms, IdentityId, PolicyChanges, PolicyTables, ProgramId};

#[derive(Debug, Default)]
pub(super) struct Changelog {
    tables: PolicyTables,
    /// The earlier value of all that was touched since; what is back at it is no change.
    before: Before,
}

#[derive(Debug, Default)]
struct Before {
    endpoints: BTreeMap<String, Option<EndpointPrograms>>,
    identities: BTreeMap<IpAddr, Option<IdentityId>>,
    ranges: BTreeMap<IpAddr, Option<(IpAddr, IdentityId)>>,
    allows: BTreeMap<Allow, bool>,
}

impl Changelog {
    pub(super) fn tables(&self) -> &PolicyTables {
        &self.tables
    }

    pub(super) fn set_endpoint(&mut self, interface: &str, value: Option<EndpointPrograms>) {
        if self.tables.endpoints.get(interface) != value.as_ref() {
            set(&mut self.tables.endpoints, &mut self.before.endpoints, interface.to_owned(), value);
        }
    }

    /// Returns the identity that was there.
    pub(super) fn set_identity(&mut self, address: IpAddr, value: Option<IdentityId>) -> Option<IdentityId> {
        set(&mut self.tables.identities, &mut self.before.identities, address, value)
    }

    /// Returns the range that was there.
    pub(super) fn set_range(
        &mut self,
        first: IpAddr,
        value: Option<(IpAddr, IdentityId)>,
    ) -> Option<(IpAddr, IdentityId)> {
        set(&mut self.tables.ranges, &mut self.before.ranges, first, value)
    }

    pub(super) fn set_allow(&mut self, allow: Allow, present: bool) {
        let was = if present { !self.tables.allows.insert(allow) } else { self.tables.allows.remove(&allow) };
        self.before.allows.entry(allow).or_insert(was);
    }

    /// The allows of a program, of all peers from `first` to `last`.
    pub(super) fn allows(&self, program: ProgramId, first: IdentityId, last: IdentityId) -> Vec<Allow> {
        use super::{PortMatch, ProtocolMatch};
        let low = Allow { program, peer: first, protocol: ProtocolMatch::Any, ports: PortMatch::Any };
        let protocol = ProtocolMatch::Number(u8::MAX);
        let high = Allow { program, peer: last, protocol, ports: PortMatch::Range(u16::MAX, u16::MAX) };
        self.tables.allows.range(low..=high).copied().collect()
    }

    /// The difference since the last call.
    pub(super) fn take(&mut self) -> PolicyChanges {
        let before = std::mem::take(&mut self.before);
        let mut changes = PolicyChanges::default();
        let PolicyChanges { removed, added } = &mut changes;
        diff(before.endpoints, &self.tables.endpoints, &mut removed.endpoints, &mut added.endpoints);
        diff(before.identities, &self.tables.identities, &mut removed.identities, &mut added.identities);
        diff(before.ranges, &self.tables.ranges, &mut removed.ranges, &mut added.ranges);
        for (allow, was) in before.allows {
            match (was, self.tables.allows.contains(&allow)) {
                (true, false) => removed.allows.insert(allow),
                (false, true) => added.allows.insert(allow),
                _ => false,
            };
        }
        changes
    }
}

fn set<K: Ord + Clone, V: Clone>(
    map: &mut BTreeMap<K, V>,
    before: &mut BTreeMap<K, Option<V>>,
    key: K,
    value: Option<V>,
) -> Option<V> {
    let was = match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(&key),
    };
    before.entry(key).or_insert_with(|| was.clone());
    was
}

fn diff<K: Ord + Clone, V: Clone + PartialEq>(
    before: BTreeMap<K, Option<V>>,
    current: &BTreeMap<K, V>,
    removed: &mut BTreeMap<K, V>,
    added: &mut BTreeMap<K, V>,
) {
    for (key, was) in before {
        let is = current.get(&key);
        if was.as_ref() == is {
            continue;
        }
        if let Some(is) = is {
            added.insert(key.clone(), is.clone());
        }
        if let Some(was) = was {
            removed.insert(key, was);
        }
    }
}
