//! Two ends with sessions between them, driven by what octets say happens to them.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use margay_bfd::{Arrival, ControlPacket, Diagnostic, Discriminator, SessionConfig, SessionKey, State};
use margay_net::Instant;

use super::end::{End, Sent};
use crate::script::Script;

/// Most events of one run, and most wake-ups in one of them.
const EVENTS: usize = 200;
const WAKES: usize = 40;
/// Over one hop, over several, and between link-local addresses.
const PATHS: usize = 3;
/// Intervals of the peer, in microseconds.
const INTERVALS: [u32; 8] = [0, 1, 10_000, 50_000, 300_000, 1_000_000, 60_000_000, u32::MAX];

struct World {
    ends: [End; 2],
    /// What is on its way to each end.
    cables: [VecDeque<(usize, [u8; ControlPacket::LEN])>; 2],
    now: Instant,
}

/// Octets that say what happens: packets that come, late or never, forged ones, time, sleep, other wishes. Whatever it
/// is, each end keeps to the states, contents and rates of RFC 5880.
pub fn session(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new();
    for _ in 0..EVENTS {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
    }
    world.pass(Duration::from_secs(20), false);
}

fn address(path: usize, end: usize) -> IpAddr {
    let text = [["192.0.2.1", "192.0.2.2"], ["2001:db8::1", "2001:db8::2"], ["fe80::1", "fe80::2"]][path][end];
    text.parse().expect("an address")
}

fn key(path: usize, end: usize) -> SessionKey {
    SessionKey {
        remote: address(path, 1 - end),
        multihop: path == 1,
        interface: (path == 2).then(|| "eth0".into()),
        local: (path == 1).then(|| address(path, end)),
    }
}

/// One of 256 sets of sessions.
fn wanted(variant: u8, end: usize) -> BTreeMap<SessionKey, SessionConfig> {
    let ms = Duration::from_millis;
    let intervals = [10, 50, 300, 2000];
    let config = SessionConfig {
        min_tx: ms(intervals[usize::from(variant & 3)]),
        min_rx: ms(intervals[usize::from(variant >> 2 & 3)]),
        multiplier: if variant & 16 == 0 { 3 } else { 1 },
        min_ttl: 250,
        passive: variant & 32 != 0,
    };
    let paths = match variant >> 6 {
        0 => 0..PATHS,
        1 => 0..1,
        2 => 1..PATHS,
        _ => 0..0,
    };
    let wanted: BTreeMap<_, _> = paths.map(|path| (key(path, end), config.clone())).collect();
    assert!(wanted.iter().all(|(key, config)| config.check(key).is_ok()));
    wanted
}

impl World {
    fn new() -> World {
        let mut world = World {
            ends: [End::new(1), End::new(2)],
            cables: Default::default(),
            now: Instant(Duration::from_secs(1)),
        };
        for end in 0..2 {
            let sent = world.ends[end].want(wanted(0, end), world.now);
            world.carry(end, sent);
        }
        world
    }

    /// What the next octets say.
    fn step(&mut self, script: &mut Script<'_>) {
        let what = script.octet();
        let end = usize::from(what >> 3 & 1);
        match what % 8 {
            0 | 1 => self.deliver(end),
            2 => drop(self.cables[end].pop_front()),
            3 => {
                let (path, packet) = self.forged(end, script);
                let arrival = arrival(path, end, script.octet());
                self.hand_in(end, &packet, arrival);
            }
            4 => {
                let arrival = arrival(usize::from(script.octet()) % PATHS, end, script.octet());
                self.hand_in(end, &script.octets(), arrival);
            }
            5 | 6 => {
                let scale = [1, 10, 100, 1000][usize::from(what >> 4 & 3)];
                self.pass(Duration::from_millis(u64::from(script.octet()) * scale), what % 8 == 5);
            }
            _ if what & 16 == 0 => {
                let sent = self.ends[end].want(wanted(script.octet(), end), self.now);
                self.carry(end, sent);
            }
            // Nobody runs: what comes next is handed in before what is due is done.
            _ => self.now = self.now + Duration::from_millis(u64::from(script.octet()) * 20),
        }
    }

    /// A packet that is well-formed for the most part, and says what the next octets say.
    fn forged(&self, end: usize, script: &mut Script<'_>) -> (usize, [u8; ControlPacket::LEN]) {
        let (which, flags, intervals) = (script.octet(), script.octet(), script.octet());
        let path = usize::from(which) % PATHS;
        let name = |name: u32| NonZeroU32::new(name).map(Discriminator);
        let interval = |index: u8| Duration::from_micros(INTERVALS[usize::from(index & 7)].into());
        let packet = ControlPacket {
            diagnostic: Diagnostic::new(which >> 3),
            state: State::ALL[usize::from(flags & 3)],
            poll: flags & 4 != 0,
            final_: flags & 8 != 0,
            control_plane_independent: flags & 16 != 0,
            demand: flags & 32 != 0,
            detect_multiplier: [3, 1, 0, 255][usize::from(which >> 6)],
            my_discriminator: Discriminator(NonZeroU32::MIN),
            your_discriminator: match flags >> 6 {
                0 | 1 => self.ends[end].bfd.session(&key(path, end)).map(|view| view.discriminator),
                2 => None,
                _ => name(7),
            },
            desired_min_tx: interval(intervals),
            required_min_rx: interval(intervals >> 3),
            required_min_echo_rx: interval(intervals >> 6),
        };
        (path, packet.encode())
    }

    /// Lets time pass; in good times what is on a cable arrives at once.
    fn pass(&mut self, span: Duration, good: bool) {
        let until = self.now + span;
        for _ in 0..WAKES {
            while good && self.cables.iter().any(|cable| !cable.is_empty()) {
                (0..2).for_each(|end| self.deliver(end));
            }
            let next = (0..2).filter_map(|end| Some((self.ends[end].bfd.poll_timeout()?, end))).min();
            let Some((at, end)) = next.filter(|(at, _)| *at <= until) else { break };
            self.now = self.now.max(at);
            let sent = self.ends[end].timeout(self.now);
            self.carry(end, sent);
        }
        self.now = until;
        for end in 0..2 {
            let sent = self.ends[end].timeout(self.now);
            self.carry(end, sent);
        }
    }

    fn deliver(&mut self, end: usize) {
        if let Some((path, packet)) = self.cables[end].pop_front() {
            self.hand_in(end, &packet, arrival(path, end, 0));
        }
    }

    fn hand_in(&mut self, end: usize, payload: &[u8], arrival: Arrival) {
        let sent = self.ends[end].receive(payload, arrival, self.now);
        self.carry(end, sent);
    }

    fn carry(&mut self, from: usize, sent: Vec<Sent>) {
        for (of, packet) in sent {
            let path = (0..PATHS).find(|&path| key(path, from) == of).expect("a session that was wanted");
            self.cables[1 - from].push_back((path, packet));
        }
    }
}

/// How a packet comes: as it should, where `oddity` is 0.
fn arrival(path: usize, end: usize, oddity: u8) -> Arrival {
    Arrival {
        remote: address(if oddity & 1 == 0 { path } else { (path + 1) % PATHS }, 1 - end),
        local: address(path, if oddity & 2 == 0 { end } else { 1 - end }),
        interface: Some(if oddity & 4 == 0 { "eth0" } else { "eth1" }.into()),
        ttl: [Some(255), Some(254), Some(249), None][usize::from(oddity >> 3 & 3)],
        multihop: (path == 1) != (oddity & 32 != 0),
    }
}
