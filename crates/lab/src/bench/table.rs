//! Prefixes as a table of the Internet has them, and the messages of the routers that announce them, all made from a seed
//! before anything is measured.

use std::collections::HashSet;
use std::net::IpAddr;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Family;
use super::wire::{Attributes, PrefixKey, announcement, key4, key6};

/// Makes `count` distinct prefixes in random order. IPv4: 60 % /24, the others /16 to /23. IPv6: 60 % /48, the others
/// /29 to /47.
pub(crate) fn prefixes(count: usize, family: Family, seed: u64) -> Vec<PrefixKey> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut seen = HashSet::with_capacity(count);
    let mut prefixes = Vec::with_capacity(count);
    while prefixes.len() < count {
        let prefix = match family {
            Family::V4 => prefix4(&mut random),
            Family::V6 => Some(prefix6(&mut random)),
        };
        prefixes.extend(prefix.filter(|&prefix| seen.insert(prefix)));
    }
    prefixes
}

/// None where it would be private, loopback, link-local or reserved for tests: those are no part of the Internet.
fn prefix4(random: &mut StdRng) -> Option<PrefixKey> {
    let length = if random.random_bool(0.6) { 24 } else { random.random_range(16..=23) };
    let address: u32 = random.random_range(0x0100_0000..0xdf00_0000);
    let special = matches!(address >> 24, 10 | 127)
        || matches!(address >> 16, 0x6440..=0x647f | 0xa9fe | 0xc0a8 | 0xac10..=0xac1f | 0xc612 | 0xc613)
        || matches!(address >> 16, 0xc000 | 0xc633 | 0xcb00);
    (!special).then(|| key4(address & (u32::MAX << (32 - length)), length))
}

fn prefix6(random: &mut StdRng) -> PrefixKey {
    let length = if random.random_bool(0.6) { 48 } else { random.random_range(29..=47) };
    let address: u64 = random.random_range(0x2a00_0000_0000_0000..0x2c00_0000_0000_0000);
    key6(address & (u64::MAX << (64 - length)), length)
}

/// Makes the messages in which the router of AS `asn` announces the prefixes in their order: 5 to 10 of them to an
/// attribute set and message, an AS path of `path_lengths`, up to 3 communities, a MED on a quarter.
pub(crate) fn announcements(
    prefixes: &[PrefixKey],
    asn: u32,
    next_hop: IpAddr,
    path_lengths: std::ops::RangeInclusive<usize>,
    seed: u64,
) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut messages = Vec::new();
    let mut left = prefixes;
    while !left.is_empty() {
        let (group, rest) = left.split_at(random.random_range(5..=10).min(left.len()));
        let hops = random.random_range(path_lengths.clone());
        let mut attributes = Attributes {
            origin: if random.random_bool(0.75) { 0 } else { 2 },
            as_path: vec![asn],
            ..Attributes::default()
        };
        attributes.as_path.extend((1..hops).map(|_| random.random_range(1000..60000u32)));
        attributes.med = random.random_bool(0.25).then(|| random.random_range(0..1000));
        let communities = random.random_range(0..=3);
        attributes.communities.extend(
            (0..communities).map(|_| random.random_range(1000..60000u32) << 16 | random.random_range(0..1000u32)),
        );
        messages.extend(announcement(group, &attributes, next_hop));
        left = rest;
    }
    messages
}

/// From prefixes to dense numbers, by open addressing in a flat array: the harness looks up each prefix of each
/// receiver, and shares the machine with what it measures.
#[derive(Debug)]
pub(crate) struct PrefixIndex {
    prefixes: Vec<PrefixKey>,
    slots: Vec<(PrefixKey, u32)>,
    shift: u32,
}

/// No prefix: its length would be 255.
const EMPTY: PrefixKey = u64::MAX;

impl PrefixIndex {
    /// Numbers the prefixes, all different, in their order.
    pub(crate) fn new(prefixes: Vec<PrefixKey>) -> PrefixIndex {
        let bits = (prefixes.len() * 2).max(2).next_power_of_two().trailing_zeros();
        let mut index = PrefixIndex { prefixes, slots: vec![(EMPTY, 0); 1 << bits], shift: 64 - bits };
        for number in 0..index.prefixes.len() {
            let slot = index.slot(index.prefixes[number]);
            let small = u32::try_from(number).expect("a benchmark has fewer than 2^32 prefixes");
            index.slots[slot] = (index.prefixes[number], small);
        }
        index
    }

    pub(crate) fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Returns the number of a prefix. A speaker that keeps the order in which prefixes came makes it quick to find the
    /// one after `last`.
    pub(crate) fn find(&self, prefix: PrefixKey, last: usize) -> Option<usize> {
        if self.prefixes.get(last + 1) == Some(&prefix) {
            return Some(last + 1);
        }
        let (found, number) = self.slots[self.slot(prefix)];
        (found == prefix).then_some(number as usize)
    }

    /// Where a prefix is, or would be.
    fn slot(&self, prefix: PrefixKey) -> usize {
        let mut slot = (prefix.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        while self.slots[slot].0 != prefix && self.slots[slot].0 != EMPTY {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bench::wire::{Update, for_each_message};

    #[test]
    fn each_prefix_is_announced_once_in_messages_of_5_to_10() {
        for (family, next_hop) in [(Family::V4, "10.0.0.1"), (Family::V6, "fd00::1")] {
            let prefixes = prefixes(5000, family, 7);
            let messages = announcements(&prefixes, 64513, next_hop.parse().unwrap(), 3..=6, 8);
            let (mut told, mut count) = (Vec::new(), 0);
            for_each_message(&messages, |_, body| {
                count += 1;
                Update::decode(body)?.for_each_prefix(|prefix, gone| {
                    assert!(!gone);
                    told.push(prefix);
                })
            })
            .unwrap();
            assert_eq!(told, prefixes);
            assert!((500..=1000).contains(&count), "{count}");
        }
    }

    #[test]
    fn every_prefix_is_found_by_its_number_wherever_the_search_begins() {
        let prefixes = prefixes(3000, Family::V4, 1);
        let index = PrefixIndex::new(prefixes.clone());
        for (number, &prefix) in prefixes.iter().enumerate() {
            assert_eq!(index.find(prefix, number.wrapping_sub(1).min(2999)), Some(number));
            assert_eq!(index.find(prefix, 0), Some(number));
        }
        assert_eq!(index.find(key4(0x0a00_0000, 8), 0), None);
    }

    #[test]
    fn the_same_seed_makes_the_same_table() {
        assert_eq!(prefixes(500, Family::V6, 1), prefixes(500, Family::V6, 1));
        assert_ne!(prefixes(500, Family::V4, 1), prefixes(500, Family::V4, 2));
    }
}
