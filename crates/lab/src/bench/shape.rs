//! The shapes of load, and the plan of each: who peers, who announces what, who must hold what.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use anyhow::{Result, anyhow};
use serde::{Serialize, Serializer};

use super::table::{PrefixIndex, announcements, prefixes};
use super::wire::{Attributes, PrefixKey, announcement, key4, key6, withdrawals};
use super::{DEVICE_ASN, Family};

/// A shape of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// One feeder, one receiver, 100,000 prefixes; announced, then withdrawn.
    One100k,
    /// The same with IPv6 prefixes over IPv6 sessions.
    One100kIpv6,
    /// The same with a million IPv4 prefixes.
    One1M,
    /// Ten feeders announce the same 100,000 prefixes with different paths, then the best one goes down.
    Ten100kSame,
    /// A hundred external peers announce 1,000 prefixes each, and receive all others'.
    Hundred1k,
    /// One feeder of 100,000 prefixes, fifty receivers; announced, then withdrawn.
    Fanout50,
    /// 500 clients of a route reflector announce four blocks each, all to all; then one changes, again and again.
    Reflector500,
}

impl Shape {
    /// All of them, in the order of the report.
    pub const ALL: [Shape; 7] = [
        Shape::One100k,
        Shape::One100kIpv6,
        Shape::One1M,
        Shape::Ten100kSame,
        Shape::Hundred1k,
        Shape::Fanout50,
        Shape::Reflector500,
    ];

    /// Its name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Shape::One100k => "1x100k",
            Shape::One100kIpv6 => "1x100k-ipv6",
            Shape::One1M => "1x1M",
            Shape::Ten100kSame => "10x100k-same",
            Shape::Hundred1k => "100x1k",
            Shape::Fanout50 => "fanout-50x100k",
            Shape::Reflector500 => "rr-500",
        }
    }

    /// What happens, in a sentence.
    pub fn description(self) -> &'static str {
        match self {
            Shape::One100k => "One feeder announces 100,000 prefixes to one receiver, and withdraws them.",
            Shape::One100kIpv6 => "The same with IPv6 prefixes over IPv6 sessions.",
            Shape::One1M => "One feeder announces 1,000,000 prefixes to one receiver, and withdraws them.",
            Shape::Ten100kSame => {
                "Ten feeders announce the same 100,000 prefixes to one receiver, each with its own paths; then the feeder of \
                 all best paths goes down."
            }
            Shape::Hundred1k => "100 external peers announce 1,000 prefixes each, and receive all others'.",
            Shape::Fanout50 => "One feeder announces 100,000 prefixes to 50 receivers, and withdraws them.",
            Shape::Reflector500 => {
                "500 internal clients of a route reflector announce four /26 each, all to all; then one of them announces and \
                 withdraws a fifth, 50 times."
            }
        }
    }

    pub(crate) fn family(self) -> Family {
        if self == Shape::One100kIpv6 { Family::V6 } else { Family::V4 }
    }

    /// Feeders, receivers that are no feeders, prefixes of each feeder.
    fn sizes(self, scale: f64) -> (usize, usize, usize) {
        let peers = |count: f64| ((count * scale) as usize).max(4);
        let prefixes = |count: f64| ((count * scale) as usize).max(20);
        match self {
            Shape::One100k | Shape::One100kIpv6 => (1, 1, prefixes(100e3)),
            Shape::One1M => (1, 1, prefixes(1e6)),
            Shape::Ten100kSame => (peers(10.0), 1, prefixes(100e3)),
            Shape::Hundred1k => (peers(100.0), 0, prefixes(1e3)),
            Shape::Fanout50 => (1, peers(50.0), prefixes(100e3)),
            Shape::Reflector500 => (peers(500.0), 0, 4),
        }
    }
}

impl FromStr for Shape {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Shape> {
        let names = || Shape::ALL.map(Shape::name).join(", ");
        let found = Shape::ALL.into_iter().find(|shape| shape.name() == name);
        found.ok_or_else(|| anyhow!("there is no shape '{name}'; there are: {}", names()))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A peer of the device, played by the harness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) identifier: Ipv4Addr,
    pub(crate) asn: u32,
}

/// The AS number of the first external peer; the others' follow.
const PEER_ASN: u32 = DEVICE_ASN + 1;
/// Host parts of 10.90.1.0 and on, and of fd5a:90::1:0 and on.
const FIRST_HOST: u16 = 0x0101;

impl Peer {
    fn new(number: usize, family: Family, internal: bool) -> Peer {
        let small = u16::try_from(number).expect("fewer than 1,000 peers");
        let [high, low] = (FIRST_HOST + small).to_be_bytes();
        let identifier = Ipv4Addr::new(10, 90, high, low);
        let address = match family {
            Family::V4 => identifier.into(),
            Family::V6 => Ipv6Addr::new(0xfd5a, 0x90, 0, 0, 0, 0, 1, small + 1).into(),
        };
        Peer { address, identifier, asn: if internal { DEVICE_ASN } else { PEER_ASN + u32::from(small) } }
    }

    pub(crate) fn internal(&self) -> bool {
        self.asn == DEVICE_ASN
    }

    /// The number of the external peer of an AS.
    pub(crate) fn number_of_asn(asn: u32) -> Option<usize> {
        Some(asn.checked_sub(PEER_ASN)? as usize)
    }

    /// The number of the peer with an IPv4 address.
    pub(crate) fn number_of_address(address: IpAddr) -> Option<usize> {
        let IpAddr::V4(address) = address else { return None };
        let [10, 90, high, low] = address.octets() else { return None };
        u16::from_be_bytes([high, low]).checked_sub(FIRST_HOST).map(usize::from)
    }
}

/// The number of a peer, or one of these; what an array per receiver holds by the prefixes' numbers.
pub(crate) type Holder = u16;
pub(crate) const NOBODY: Holder = u16::MAX;
/// As something wanted: whoever announces it.
pub(crate) const ANYBODY: Holder = u16::MAX - 1;

/// Everything that is sent and expected in a shape.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    pub(crate) peers: Vec<PlannedPeer>,
    pub(crate) index: PrefixIndex,
    /// By the prefixes' numbers: who alone may be their source; [`ANYBODY`] where all feeders announce them.
    pub(crate) sources: Vec<Holder>,
    /// By which the harness sees that the device passes routes on at all; its number follows the others'.
    pub(crate) probe: Change,
    /// What the last phase announces and withdraws, again and again.
    pub(crate) churn: Option<Change>,
}

#[derive(Debug)]
pub(crate) struct PlannedPeer {
    pub(crate) peer: Peer,
    /// Whether what it receives is ticked off.
    pub(crate) receives: bool,
    pub(crate) announcements: Vec<u8>,
    pub(crate) withdrawals: Vec<u8>,
}

/// A prefix that the first peer announces and withdraws.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) number: usize,
    pub(crate) announcement: Vec<u8>,
    pub(crate) withdrawal: Vec<u8>,
}

impl Plan {
    pub(crate) fn new(shape: Shape, scale: f64, seed: u64) -> Plan {
        let (feeders, receivers, each) = shape.sizes(scale);
        let family = shape.family();
        let internal = shape == Shape::Reflector500;
        let mut peers: Vec<PlannedPeer> = (0..feeders + receivers)
            .map(|number| PlannedPeer {
                peer: Peer::new(number, family, internal),
                receives: number >= feeders || receivers == 0,
                announcements: Vec::new(),
                withdrawals: Vec::new(),
            })
            .collect();
        let mut told = Told { prefixes: Vec::new(), sources: Vec::new() };
        match shape {
            Shape::Ten100kSame => same(&mut peers[..feeders], each, seed, &mut told),
            Shape::Reflector500 => blocks(&mut peers, each, &mut told),
            _ => own(&mut peers[..feeders], each, family, seed, &mut told),
        }
        let probe = match family {
            Family::V4 => key4(0xc612_0000, 24),
            Family::V6 => key6(0x2001_0db8_1234 << 16, 48),
        };
        let probe = told.change(probe, &peers[0].peer);
        let churn = internal.then(|| told.change(key4(0x0ac8_0000, 26), &peers[0].peer));
        Plan { shape, peers, index: PrefixIndex::new(told.prefixes), sources: told.sources, probe, churn }
    }

    /// The prefixes that the announcing phase is about: all but the probe's and the churn's.
    pub(crate) fn announced(&self) -> usize {
        self.probe.number
    }

    /// What every receiver holds in the end when all is announced and the first `down` feeders are gone.
    pub(crate) fn wanted(&self, down: usize) -> Vec<Holder> {
        let down = Holder::try_from(down).unwrap_or(NOBODY);
        let of_number = |number: usize| match self.sources[number] {
            _ if number >= self.announced() => NOBODY,
            ANYBODY => down,
            source if source < down => NOBODY,
            source => source,
        };
        (0..self.index.len()).map(of_number).collect()
    }
}

/// The prefixes with their sources, as they are put together.
struct Told {
    prefixes: Vec<PrefixKey>,
    sources: Vec<Holder>,
}

impl Told {
    fn add(&mut self, prefixes: &[PrefixKey], source: Holder) {
        self.prefixes.extend(prefixes);
        self.sources.resize(self.prefixes.len(), source);
    }

    fn change(&mut self, prefix: PrefixKey, peer: &Peer) -> Change {
        let number = self.prefixes.len();
        self.add(&[prefix], 0);
        let family = if peer.address.is_ipv4() { Family::V4 } else { Family::V6 };
        Change {
            number,
            announcement: announcement(&[prefix], &own_attributes(peer), peer.address),
            withdrawal: withdrawals(&[prefix], family),
        }
    }
}

fn own_attributes(peer: &Peer) -> Attributes {
    if peer.internal() {
        Attributes { local_pref: Some(100), ..Attributes::default() }
    } else {
        Attributes { as_path: vec![peer.asn], ..Attributes::default() }
    }
}

/// Every feeder has prefixes of its own.
fn own(feeders: &mut [PlannedPeer], each: usize, family: Family, seed: u64, told: &mut Told) {
    let all = prefixes(each * feeders.len(), family, seed);
    for (number, (feeder, prefixes)) in (0..).zip(feeders.iter_mut().zip(all.chunks(each))) {
        let Peer { address, asn, .. } = feeder.peer;
        feeder.announcements = announcements(prefixes, asn, address, 3..=6, seed + 1 + u64::from(number));
        feeder.withdrawals = withdrawals(prefixes, family);
        told.add(prefixes, number);
    }
}

/// All feeders have the same prefixes: the first one's paths are the shortest, then the second one's. A prefix of its own
/// ends the announcement of each: who holds it knows that the device has read all that came before.
fn same(feeders: &mut [PlannedPeer], each: usize, seed: u64, told: &mut Told) {
    let shared = prefixes(each, Family::V4, seed);
    told.add(&shared, ANYBODY);
    for (number, feeder) in (0..).zip(feeders) {
        let Peer { address, asn, .. } = feeder.peer;
        let lengths = match number {
            0 => 3..=3,
            1 => 4..=4,
            _ => 5..=6,
        };
        feeder.announcements = announcements(&shared, asn, address, lengths, seed + 1 + u64::from(number));
        let last = key4(0x6440_0000 | u32::from(number) << 8, 24);
        feeder.announcements.extend(announcement(&[last], &own_attributes(&feeder.peer), address));
        told.add(&[last], number);
    }
}

/// Every client announces blocks of the cluster's pool, as a node does.
fn blocks(clients: &mut [PlannedPeer], each: usize, told: &mut Told) {
    for (number, client) in (0..).zip(clients) {
        let first = u32::from(number) * u32::try_from(each).unwrap_or(u32::MAX);
        let blocks: Vec<PrefixKey> = (first..).take(each).map(|block| key4(0x0a80_0000 + block * 64, 26)).collect();
        client.announcements = announcement(&blocks, &own_attributes(&client.peer), client.peer.address);
        told.add(&blocks, number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_shape_is_found_by_its_name() {
        for shape in Shape::ALL {
            assert_eq!(shape.name().parse::<Shape>().unwrap(), shape);
        }
        assert!("2x2".parse::<Shape>().unwrap_err().to_string().contains("rr-500"));
    }

    #[test]
    fn a_peer_is_known_by_its_as_and_by_its_address() {
        for number in [0, 1, 254, 255, 256, 499] {
            let peer = Peer::new(number, Family::V4, false);
            assert_eq!(Peer::number_of_asn(peer.asn), Some(number));
            assert_eq!(Peer::number_of_address(peer.address), Some(number));
        }
        assert_eq!(Peer::number_of_address(Ipv4Addr::new(10, 90, 0, 1).into()), None);
        assert_eq!(Peer::number_of_asn(DEVICE_ASN), None);
    }

    #[test]
    fn all_peers_hold_the_second_feeders_paths_once_the_best_one_is_down() {
        let plan = Plan::new(Shape::Ten100kSame, 0.001, 1);
        let (before, after) = (plan.wanted(0), plan.wanted(1));
        assert_eq!((before[0], after[0]), (0, 1));
        let own = plan.announced() - plan.peers.len() + 1;
        assert_eq!((before[own], after[own]), (0, NOBODY));
        assert_eq!((before[own + 1], after[own + 1]), (1, 1));
        assert_eq!(after[plan.probe.number], NOBODY);
    }

    #[test]
    fn full_size_is_what_the_names_say() {
        let plan = Plan::new(Shape::Reflector500, 1.0, 1);
        assert_eq!((plan.peers.len(), plan.announced()), (500, 2000));
        let plan = Plan::new(Shape::Hundred1k, 1.0, 1);
        assert_eq!((plan.peers.len(), plan.announced()), (100, 100_000));
        let plan = Plan::new(Shape::Fanout50, 0.01, 1);
        assert_eq!((plan.peers.len(), plan.announced()), (5, 1000));
    }
}
