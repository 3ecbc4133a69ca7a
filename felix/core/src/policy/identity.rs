//! Which matchers an address satisfies, for pods one by one and for all other addresses by sweeping the CIDRs' bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use margay_api::Labels;
use margay_net::{Cidr, Family};

use super::rules::Matcher;
use super::state::Endpoint;

/// The matchers that hold, each with the port numbers that its names stand for on that pod.
pub(super) type Class = BTreeMap<Matcher, BTreeSet<u16>>;

/// The class of one of a pod's addresses.
pub(super) fn of_pod(matchers: &BTreeSet<Matcher>, endpoint: &Endpoint, labels: &Labels, addr: IpAddr) -> Class {
    let mut class = Class::new();
    for matcher in matchers {
        if !matcher.holds_for_address(addr) {
            continue;
        }
        if matcher.selector.as_ref().is_some_and(|selector| !selector.matches_labels(labels)) {
            continue;
        }
        let numbers: BTreeSet<u16> = match &matcher.named {
            None => BTreeSet::new(),
            Some((protocol, names)) => endpoint.named_ports(*protocol, names).collect(),
        };
        class.insert(matcher.clone(), numbers);
    }
    class
}

/// The ranges of addresses of a family that satisfy the same matchers, those that satisfy none left out unless `all`.
pub(super) fn ranges(matchers: &BTreeSet<Matcher>, family: Family, all: bool) -> Vec<(IpAddr, IpAddr, Class)> {
    let by_address: Vec<&Matcher> = matchers.iter().filter(|matcher| !matcher.is_for_pods()).collect();
    let mut starts = BTreeSet::from([Cidr::any(family).addr()]);
    for net in by_address.iter().flat_map(|matcher| matcher.nets.iter().chain(&matcher.not_nets)) {
        if net.family() == family {
            starts.insert(net.addr());
            starts.extend(after(net.last()));
        }
    }
    let starts: Vec<IpAddr> = starts.into_iter().collect();
    let mut ranges: Vec<(IpAddr, IpAddr, Class)> = Vec::new();
    for (index, start) in starts.iter().enumerate() {
        let last = starts.get(index + 1).and_then(|next| before(*next)).unwrap_or_else(|| Cidr::any(family).last());
        let holding = by_address.iter().filter(|matcher| matcher.holds_for_address(*start));
        let class: Class = holding.map(|matcher| ((*matcher).clone(), BTreeSet::new())).collect();
        match ranges.last_mut() {
            Some((_, end, known)) if *known == class => *end = last,
            _ => ranges.push((*start, last, class)),
        }
    }
    ranges.retain(|(_, _, class)| all || !class.is_empty());
    ranges
}

fn after(addr: IpAddr) -> Option<IpAddr> {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(addr) => addr.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

fn before(addr: IpAddr) -> Option<IpAddr> {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(addr) => addr.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}
