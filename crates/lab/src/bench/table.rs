//! A table as a router of the Internet sends it, encoded before anything is measured.
//!
//! The encoding is the harness's own, so that it shares no mistake with what it measures.

use std::collections::HashSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::device::Peer;
use super::session::{UPDATE, message};

/// Prefixes with their numbers, and the messages that announce and withdraw them.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) index: PrefixIndex,
    pub(crate) announcements: Vec<u8>,
    pub(crate) withdrawals: Vec<u8>,
}

/// A prefix: 32 bits of address, then its length.
pub(crate) type PrefixKey = u64;

/// Makes a key of an address whose host bits are zero.
pub(crate) fn key(address: u32, length: u8) -> PrefixKey {
    u64::from(address) << 8 | u64::from(length)
}

/// Most withdrawn prefixes of one message: at most 4 bytes each, in 4,096 bytes.
const WITHDRAWALS_PER_MESSAGE: usize = 1000;

impl Table {
    /// Makes `count` distinct prefixes in random order, 5 to 10 of them to an attribute set and message: 60 % /24, the
    /// others /16 to /23; AS paths of 3 to 6, up to 3 communities, a MED on a quarter.
    pub(crate) fn generate(count: usize, seed: u64, feeder: Peer) -> Table {
        let mut random = StdRng::seed_from_u64(seed);
        let prefixes = prefixes(count, &mut random);
        let mut announcements = Vec::new();
        let mut left = &prefixes[..];
        while !left.is_empty() {
            let (run, rest) = left.split_at(random.random_range(5..=10).min(left.len()));
            announcements.extend(announcement(run, &mut random, feeder));
            left = rest;
        }
        let withdrawals = prefixes.chunks(WITHDRAWALS_PER_MESSAGE).flat_map(withdrawal).collect();
        Table { index: PrefixIndex::new(&prefixes), announcements, withdrawals }
    }
}

fn prefixes(count: usize, random: &mut StdRng) -> Vec<PrefixKey> {
    let mut seen = HashSet::with_capacity(count);
    let mut prefixes = Vec::with_capacity(count);
    while prefixes.len() < count {
        let length = if random.random_bool(0.6) { 24 } else { random.random_range(16..=23) };
        let address: u32 = random.random_range(0x0100_0000..0xdf00_0000);
        // Private, loopback and link-local addresses are no part of the Internet.
        if matches!(address >> 24, 10 | 127) || matches!(address >> 16, 0xa9fe | 0xc0a8 | 0xac10..=0xac1f) {
            continue;
        }
        let prefix = key(address & (u32::MAX << (32 - length)), length);
        if seen.insert(prefix) {
            prefixes.push(prefix);
        }
    }
    prefixes
}

/// An UPDATE (RFC 4271 section 4.3) with 4-octet AS numbers (RFC 6793).
fn announcement(prefixes: &[PrefixKey], random: &mut StdRng, feeder: Peer) -> Vec<u8> {
    let mut attributes = Vec::new();
    let origin = if random.random_bool(0.75) { 0 } else { 2 };
    attribute(&mut attributes, 0x40, 1, &[origin]);
    let hops = random.random_range(3..=6u8);
    let mut as_path = vec![2, hops];
    as_path.extend(feeder.asn.to_be_bytes());
    for _ in 1..hops {
        as_path.extend(random.random_range(1000..60000u32).to_be_bytes());
    }
    attribute(&mut attributes, 0x40, 2, &as_path);
    attribute(&mut attributes, 0x40, 3, &feeder.address.octets());
    if random.random_bool(0.25) {
        attribute(&mut attributes, 0x80, 4, &random.random_range(0..1000u32).to_be_bytes());
    }
    let communities: Vec<u8> = (0..random.random_range(0..=3))
        .flat_map(|_| (random.random_range(1000..60000u32) << 16 | random.random_range(0..1000u32)).to_be_bytes())
        .collect();
    if !communities.is_empty() {
        attribute(&mut attributes, 0xc0, 8, &communities);
    }
    let mut body = vec![0, 0];
    body.extend(length_of(&attributes));
    body.extend(attributes);
    prefixes.iter().for_each(|&prefix| nlri(&mut body, prefix));
    message(UPDATE, &body)
}

fn withdrawal(prefixes: &[PrefixKey]) -> Vec<u8> {
    let mut withdrawn = Vec::new();
    prefixes.iter().for_each(|&prefix| nlri(&mut withdrawn, prefix));
    let mut body = length_of(&withdrawn).to_vec();
    body.extend(withdrawn);
    body.extend([0, 0]);
    message(UPDATE, &body)
}

fn attribute(to: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    let length = u8::try_from(value.len()).expect("the attributes made here are short");
    to.extend([flags, kind, length]);
    to.extend(value);
}

fn nlri(to: &mut Vec<u8>, prefix: PrefixKey) {
    let [.., a, b, c, d, length] = prefix.to_be_bytes();
    to.push(length);
    to.extend(&[a, b, c, d][..usize::from(length.div_ceil(8))]);
}

fn length_of(part: &[u8]) -> [u8; 2] {
    u16::try_from(part.len()).expect("a part of a message is below 4,096 bytes").to_be_bytes()
}

/// From prefixes to dense numbers, by open addressing in a flat array: the harness looks up each prefix of each
/// receiver, and shares the machine with what it measures.
#[derive(Debug)]
pub(crate) struct PrefixIndex {
    slots: Vec<(PrefixKey, u32)>,
    shift: u32,
    len: usize,
}

/// No prefix: its length would be 255.
const EMPTY: PrefixKey = u64::MAX;

impl PrefixIndex {
    fn new(prefixes: &[PrefixKey]) -> PrefixIndex {
        let bits = (prefixes.len() * 2).max(2).next_power_of_two().trailing_zeros();
        let mut index = PrefixIndex { slots: vec![(EMPTY, 0); 1 << bits], shift: 64 - bits, len: prefixes.len() };
        for (number, &prefix) in (0..).zip(prefixes) {
            let slot = index.slot(prefix);
            index.slots[slot] = (prefix, number);
        }
        index
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of a prefix of the table.
    pub(crate) fn find(&self, prefix: PrefixKey) -> Option<usize> {
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
    use crate::bench::FEEDER;
    use crate::bench::drive::for_each_prefix;
    use crate::bench::session::Framer;

    /// The prefixes that messages announce and withdraw.
    fn told(bytes: &[u8]) -> (Vec<PrefixKey>, Vec<PrefixKey>, usize) {
        let (mut announced, mut withdrawn, mut messages) = (Vec::new(), Vec::new(), 0);
        let used = Framer::messages(bytes, |kind, body| {
            assert_eq!(kind, UPDATE);
            messages += 1;
            for_each_prefix(body, |prefix, gone| if gone { withdrawn.push(prefix) } else { announced.push(prefix) })
        });
        assert_eq!(used.unwrap(), bytes.len());
        (announced, withdrawn, messages)
    }

    #[test]
    fn each_prefix_is_announced_once_and_withdrawn_once() {
        let table = Table::generate(5000, 7, FEEDER);
        let (announced, withdrawn, messages) = told(&table.announcements);
        assert_eq!((announced.len(), withdrawn.len()), (5000, 0));
        assert!((500..=1000).contains(&messages), "{messages}");
        let numbers: HashSet<usize> = announced.iter().map(|&prefix| table.index.find(prefix).unwrap()).collect();
        assert_eq!(numbers.len(), 5000);
        let (again, gone, _) = told(&table.withdrawals);
        assert_eq!((again.len(), gone), (0, announced));
        assert_eq!(table.index.find(key(0x0a00_0000, 8)), None);
    }

    #[test]
    fn the_same_seed_makes_the_same_table() {
        let bytes = |seed| Table::generate(500, seed, FEEDER).announcements;
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }
}
