//! Sets of connections by protocol and destination port.

use super::{PortMatch, ProtocolMatch};

/// A set of ports as ascending intervals with gaps between them: equal sets are equal values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct PortSet(Vec<(u16, u16)>);

impl PortSet {
    pub(super) fn all() -> PortSet {
        PortSet(vec![(0, u16::MAX)])
    }

    /// The union of intervals, both ends inclusive.
    pub(super) fn of(intervals: impl IntoIterator<Item = (u16, u16)>) -> PortSet {
        let mut sorted: Vec<(u16, u16)> = intervals.into_iter().collect();
        sorted.sort_unstable();
        let mut out: Vec<(u16, u16)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match out.last_mut() {
                Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = last.max(*end),
                _ => out.push((first, last)),
            }
        }
        PortSet(out)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    pub(super) fn union(&self, other: &PortSet) -> PortSet {
        match (self.is_empty(), other.is_empty()) {
            (_, true) => self.clone(),
            (true, _) => other.clone(),
            _ => PortSet::of(self.0.iter().chain(&other.0).copied()),
        }
    }

    fn intersection(&self, other: &PortSet) -> PortSet {
        let (mut left, mut right) = (0, 0);
        let mut out = Vec::new();
        while let (Some(a), Some(b)) = (self.0.get(left), other.0.get(right)) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                out.push((first, last));
            }
            if a.1 < b.1 { left += 1 } else { right += 1 }
        }
        PortSet(out)
    }

    fn difference(&self, other: &PortSet) -> PortSet {
        if self.is_empty() || other.is_empty() {
            return self.clone();
        }
        let mut gaps = Vec::new();
        let mut next = Some(0u16);
        for (first, last) in &other.0 {
            if let Some(start) = next.filter(|start| start < first) {
                gaps.push((start, first - 1));
            }
            next = last.checked_add(1);
        }
        gaps.extend(next.map(|start| (start, u16::MAX)));
        self.intersection(&PortSet(gaps))
    }

    /// The intervals that don't lie within one of `known`.
    fn beyond<'a>(&'a self, known: &'a PortSet) -> impl Iterator<Item = (u16, u16)> + 'a {
        let within = |(first, last): &(u16, u16)| known.0.iter().any(|(start, end)| start <= first && last <= end);
        self.0.iter().copied().filter(move |interval| !within(interval))
    }
}

/// The protocols whose ports rules can tell apart: TCP, UDP, SCTP.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// A set of connections: some of the 256 protocols, those with ports by port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Connections {
    /// A bit for each protocol; those with ports have none here.
    portless: [u64; 4],
    ports: [PortSet; 3],
}

impl Connections {
    pub(super) fn none() -> Connections {
        Connections::default()
    }

    pub(super) fn all() -> Connections {
        let mut portless = [u64::MAX; 4];
        for protocol in WITH_PORTS {
            portless[usize::from(protocol / 64)] &= !(1 << (protocol % 64));
        }
        Connections { portless, ports: std::array::from_fn(|_| PortSet::all()) }
    }

    /// The connections of a protocol (or of all) to some ports (or to all, which protocols without ports need).
    pub(super) fn of(protocol: Option<u8>, ports: Option<&PortSet>) -> Connections {
        let Some(protocol) = protocol else { return Connections::all() };
        let mut out = Connections::none();
        match (WITH_PORTS.iter().position(|known| *known == protocol), ports) {
            (Some(index), ports) => out.ports[index] = ports.cloned().unwrap_or_else(PortSet::all),
            (None, None) => out.portless[usize::from(protocol / 64)] |= 1 << (protocol % 64),
            (None, Some(_)) => {}
        }
        out
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Connections::none()
    }

    pub(super) fn add(&mut self, other: &Connections) {
        for (mine, theirs) in self.portless.iter_mut().zip(other.portless) {
            *mine |= theirs;
        }
        for (mine, theirs) in self.ports.iter_mut().zip(&other.ports) {
            if !theirs.is_empty() {
                *mine = mine.union(theirs);
            }
        }
    }

    pub(super) fn remove(&mut self, other: &Connections) {
        for (mine, theirs) in self.portless.iter_mut().zip(other.portless) {
            *mine &= !theirs;
        }
        for (mine, theirs) in self.ports.iter_mut().zip(&other.ports) {
            *mine = mine.difference(theirs);
        }
    }

    pub(super) fn intersection(&self, other: &Connections) -> Connections {
        Connections {
            portless: std::array::from_fn(|i| self.portless[i] & other.portless[i]),
            ports: std::array::from_fn(|i| self.ports[i].intersection(&other.ports[i])),
        }
    }

    /// The elements that stand for the set where the elements of `known` count already.
    pub(super) fn elements(&self, known: &Connections) -> Vec<(ProtocolMatch, PortMatch)> {
        let all = Connections::all();
        if *known == all {
            return Vec::new();
        }
        if *self == all {
            return vec![(ProtocolMatch::Any, PortMatch::Any)];
        }
        let mut out = Vec::new();
        for protocol in 0..=u8::MAX {
            let has = |set: &Connections| set.portless[usize::from(protocol / 64)] >> (protocol % 64) & 1 == 1;
            if has(self) && !has(known) {
                out.push((ProtocolMatch::Number(protocol), PortMatch::Any));
            }
        }
        for (index, protocol) in WITH_PORTS.into_iter().enumerate() {
            out.extend(self.ports[index].beyond(&known.ports[index]).map(|interval| {
                let ports = match interval {
                    (0, u16::MAX) => PortMatch::Any,
                    (first, last) if first == last => PortMatch::One(first),
                    (first, last) => PortMatch::Range(first, last),
                };
                (ProtocolMatch::Number(protocol), ports)
            }));
        }
        out.sort_unstable();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ports() -> impl Strategy<Value = PortSet> {
        let end = prop_oneof![0u16..20, 65520u16..=65535];
        prop::collection::vec((end.clone(), end).prop_map(|(a, b)| (a.min(b), a.max(b))), 0..5).prop_map(PortSet::of)
    }

    proptest! {
        #[test]
        fn set_operations_agree_port_by_port(a in ports(), b in ports()) {
            let (union, both, without) = (a.union(&b), a.intersection(&b), a.difference(&b));
            for port in (0..22).chain(65518..=65535) {
                prop_assert_eq!(union.contains(port), a.contains(port) || b.contains(port));
                prop_assert_eq!(both.contains(port), a.contains(port) && b.contains(port));
                prop_assert_eq!(without.contains(port), a.contains(port) && !b.contains(port));
            }
            for set in [&union, &both, &without] {
                prop_assert_eq!(&PortSet::of(set.0.iter().copied()), set, "canonical");
            }
        }
    }

    #[test]
    fn elements_are_as_few_as_possible() {
        let tcp = |first, last| Connections::of(Some(6), Some(&PortSet::of([(first, last)])));
        let mut set = tcp(80, 80);
        set.add(&tcp(81, 90));
        assert_eq!(set.elements(&Connections::none()), [(ProtocolMatch::Number(6), PortMatch::Range(80, 90))]);
        assert_eq!(set.elements(&tcp(1, 100)), []);
        set.add(&Connections::all());
        assert_eq!(set.elements(&tcp(1, 100)), [(ProtocolMatch::Any, PortMatch::Any)]);
        set.remove(&Connections::of(Some(1), None));
        assert_eq!(set.elements(&Connections::none()).len(), 255);
    }
}
