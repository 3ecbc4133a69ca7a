//! Sets of addresses in canonical form, and the order of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use margay_net::{Cidr, Family};

/// Some of the two address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Families(u8);

impl Families {
    pub(super) const NONE: Families = Families(0);
    pub(super) const BOTH: Families = Families(3);

    pub(super) fn only(family: Family) -> Families {
        match family {
            Family::V4 => Families(1),
            Family::V6 => Families(2),
        }
    }

    pub(super) fn and(self, other: Families) -> Families {
        Families(self.0 & other.0)
    }

    pub(super) fn or(self, other: Families) -> Families {
        Families(self.0 | other.0)
    }

    pub(super) fn has(self, family: Family) -> bool {
        self.and(Families::only(family)) != Families::NONE
    }
}

/// Addresses of one family in a row, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Span {
    pub(super) first: IpAddr,
    pub(super) last: IpAddr,
}

/// A set of addresses as ascending spans with gaps between them: equal sets are equal values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct AddressSet(Arc<[Span]>);

impl AddressSet {
    /// Every address of both families.
    pub(super) fn everyone() -> AddressSet {
        AddressSet(Family::ALL.map(|family| Span::of(Cidr::any(family))).into())
    }

    /// The addresses in any of `nets` (empty: of the families that `not_nets` speaks of) and in none of `not_nets`;
    /// `None` where both are empty, which is no condition.
    ///
    /// Families are separate: a list of IPv4 prefixes, also a negated one, says that the rule is about IPv4 (Calico).
    pub(super) fn of_nets(nets: &[Cidr], not_nets: &[Cidr]) -> Option<AddressSet> {
        if nets.is_empty() && not_nets.is_empty() {
            return None;
        }
        let mut spans = Vec::new();
        for family in Family::ALL {
            let of_family = |list: &[Cidr]| {
                merged(list.iter().filter(|net| net.family() == family).map(|net| Span::of(*net)).collect())
            };
            let except = of_family(not_nets);
            let within = match (nets.is_empty(), except.is_empty()) {
                (false, _) => of_family(nets),
                (true, false) => vec![Span::of(Cidr::any(family))],
                (true, true) => Vec::new(),
            };
            within.iter().for_each(|span| subtract(*span, &except, &mut spans));
        }
        Some(AddressSet(spans.into()))
    }

    pub(super) fn restricted(&self, families: Families) -> AddressSet {
        AddressSet(self.0.iter().copied().filter(|span| families.has(Family::of(span.first))).collect())
    }

    pub(super) fn union(&self, other: &AddressSet) -> AddressSet {
        let all: Vec<Span> = self.0.iter().chain(other.0.iter()).copied().collect();
        let families = Family::ALL
            .map(|family| merged(all.iter().filter(|span| Family::of(span.first) == family).copied().collect()));
        AddressSet(families.concat().into())
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let after = self.0.partition_point(|span| span.first <= address);
        after > 0 && self.0[after - 1].last >= address
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.0
    }
}

impl Span {
    fn of(cidr: Cidr) -> Span {
        Span { first: cidr.addr(), last: cidr.last() }
    }
}

/// The address after, in the same family.
pub(super) fn successor(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits().checked_add(1)?)),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits().checked_add(1)?)),
    })
}

/// The address before, in the same family.
pub(super) fn predecessor(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits().checked_sub(1)?)),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits().checked_sub(1)?)),
    })
}

/// Sorts spans of one family and joins those that overlap or touch.
fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort();
    let mut out: Vec<Span> = Vec::new();
    for span in spans {
        match out.last_mut() {
            Some(before) if successor(before.last).is_none_or(|next| span.first <= next) => {
                before.last = before.last.max(span.last);
            }
            _ => out.push(span),
        }
    }
    out
}

/// Pushes what is in `span` and in none of `except`, which is merged and of the same family.
fn subtract(span: Span, except: &[Span], out: &mut Vec<Span>) {
    let mut rest = Some(span.first);
    for hole in except.iter().filter(|hole| hole.last >= span.first && hole.first <= span.last) {
        let Some(first) = rest else { return };
        if let Some(last) = predecessor(hole.first)
            && last >= first
        {
            out.push(Span { first, last });
        }
        rest = successor(hole.last).filter(|next| *next <= span.last);
    }
    if let Some(first) = rest {
        out.push(Span { first, last: span.last });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nets: &[&str], not_nets: &[&str]) -> String {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().expect("a prefix")).collect::<Vec<Cidr>>();
        let set = AddressSet::of_nets(&parse(nets), &parse(not_nets)).expect("a condition");
        set.spans().iter().map(|span| format!("{}-{}", span.first, span.last)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn overlapping_and_touching_prefixes_become_one_span() {
        assert_eq!(set(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.0/25"], &[]), "10.0.0.0-10.0.1.255");
        assert_eq!(set(&["255.255.255.255/32", "0.0.0.0/0"], &[]), "0.0.0.0-255.255.255.255");
    }

    #[test]
    fn exceptions_cut_holes() {
        assert_eq!(
            set(&["10.0.0.0/24"], &["10.0.0.0/32", "10.0.0.128/32", "10.0.0.255/32"]),
            "10.0.0.1-10.0.0.127 10.0.0.129-10.0.0.254"
        );
        assert_eq!(set(&["10.0.0.0/24"], &["10.0.0.0/8"]), "");
    }

    #[test]
    fn a_negated_list_is_about_its_family_only() {
        assert_eq!(set(&[], &["128.0.0.0/1"]), "0.0.0.0-127.255.255.255");
        assert_eq!(
            set(&["fd00::/16", "10.0.0.0/8"], &["10.0.0.0/9"]),
            "10.128.0.0-10.255.255.255 fd00::-fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        );
    }
}
