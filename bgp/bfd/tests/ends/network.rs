//! A cable between two ends, that loses and delays as it is told, and the clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use margay_bfd::{
    Arrival, Bfd, Change, ControlPacket, Event, Input, Options, Output, SessionConfig, SessionKey, SessionView, State,
};
use margay_net::{Instant, Now};

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn address(end: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, end as u8 + 1))
}

/// The key that an end has its session under.
pub fn key(end: usize) -> SessionKey {
    SessionKey { remote: address(1 - end), multihop: false, interface: None, local: None }
}

pub fn config(interval: u64, multiplier: u8) -> SessionConfig {
    SessionConfig { min_tx: ms(interval), min_rx: ms(interval), multiplier, min_ttl: 255, passive: false }
}

/// A packet on the cable.
#[derive(Debug, Clone)]
pub struct Sent {
    pub at: Instant,
    pub from: usize,
    pub packet: ControlPacket,
}

pub struct Network {
    pub ends: [Bfd; 2],
    pub now: Instant,
    pub delay: Duration,
    /// Whether what an end sends is lost.
    pub cut: [bool; 2],
    /// Loses one packet in this many, at random but by the seed.
    pub lose_one_in: Option<u64>,
    /// An end doesn't run before this time; what arrives meanwhile waits.
    pub asleep_until: [Option<Instant>; 2],
    on_cable: BTreeMap<(Instant, u64), (usize, [u8; ControlPacket::LEN])>,
    waiting: [Vec<[u8; ControlPacket::LEN]>; 2],
    pub sent: Vec<Sent>,
    pub events: [Vec<(Instant, Event)>; 2],
    pub closed: [u32; 2],
    numbers: u64,
    chance: u64,
}

impl Network {
    pub fn new(seed: u64) -> Network {
        let bfd = |n: u64| Bfd::new(Options { seed: seed * 2 + n, ..Options::default() });
        Network {
            ends: [bfd(0), bfd(1)],
            now: Instant::ZERO,
            delay: ms(1),
            cut: [false; 2],
            lose_one_in: None,
            asleep_until: [None; 2],
            on_cable: BTreeMap::new(),
            waiting: [Vec::new(), Vec::new()],
            sent: Vec::new(),
            events: [Vec::new(), Vec::new()],
            closed: [0; 2],
            numbers: 0,
            chance: seed ^ 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Two ends with a session between them that is up, and settled.
    pub fn up(seed: u64, configs: [SessionConfig; 2]) -> Network {
        let mut network = Network::new(seed);
        for (end, config) in configs.into_iter().enumerate() {
            network.configure(end, Some(config));
        }
        network.run(ms(6000));
        for end in 0..2 {
            assert_eq!(network.view(end).state, State::Up, "seed {seed}, end {end}: {:#?}", network.view(end));
            assert!(!network.view(end).polling);
            network.events[end].clear();
        }
        network.sent.clear();
        network
    }

    pub fn configure(&mut self, end: usize, config: Option<SessionConfig>) {
        let wanted = config.into_iter().map(|config| (key(end), config)).collect();
        let now = self.present();
        self.ends[end].handle_input(Input::Sessions(wanted), now);
        self.take_outputs(end);
    }

    pub fn view(&self, end: usize) -> SessionView {
        self.ends[end].session(&key(end)).unwrap()
    }

    pub fn present(&self) -> Now {
        Now::at(self.now.0)
    }

    /// The changes of state that an end told since the last look: when, and to which.
    pub fn states(&self, end: usize) -> Vec<State> {
        let of_state = |(_, event): &&(Instant, Event)| matches!(event.change, Change::State { .. });
        self.events[end].iter().filter(of_state).map(|(_, event)| event.session.state).collect()
    }

    pub fn packets_of(&self, end: usize) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(move |sent| sent.from == end)
    }

    /// Hands an end a packet at once, as if it came over the cable.
    pub fn deliver(&mut self, end: usize, payload: &[u8]) {
        let arrival =
            Arrival { remote: address(1 - end), local: address(end), interface: None, ttl: Some(255), multihop: false };
        let now = self.present();
        self.ends[end].handle_input(Input::Packet { payload, arrival }, now);
        self.take_outputs(end);
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Duration) {
        let stop = self.now + span;
        while let Some(next) = self.next().filter(|next| *next <= stop) {
            self.now = self.now.max(next);
            self.wake();
        }
        self.now = stop;
        self.wake();
    }

    /// Lets time pass until an end is in a state; the time it took.
    #[track_caller]
    pub fn run_until(&mut self, end: usize, state: State, limit: Duration) -> Duration {
        let start = self.now;
        while self.view(end).state != state {
            let next = self.next().unwrap();
            assert!(next.since(start) <= limit, "end {end} is not {state} within {limit:?}: {:#?}", self.view(end));
            self.now = self.now.max(next);
            self.wake();
        }
        self.now.since(start)
    }

    fn next(&self) -> Option<Instant> {
        let arrival = self.on_cable.keys().next().map(|(at, _)| *at);
        let timers = (0..2).filter_map(|end| {
            let at = self.ends[end].poll_timeout()?;
            Some(self.asleep_until[end].map_or(at, |until| at.max(until)))
        });
        timers.chain(arrival).chain(self.asleep_until.iter().flatten().copied()).min()
    }

    /// What the shell does in a wake-up: first all packets that wait, then the timers.
    fn wake(&mut self) {
        while let Some(entry) = self.on_cable.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, packet) = entry.remove();
            self.waiting[to].push(packet);
        }
        for end in 0..2 {
            match self.asleep_until[end] {
                Some(until) if until > self.now => continue,
                _ => self.asleep_until[end] = None,
            }
            for packet in std::mem::take(&mut self.waiting[end]) {
                self.deliver(end, &packet);
            }
            let now = self.present();
            if self.ends[end].poll_timeout().is_some_and(|at| at <= now.mono) {
                self.ends[end].handle_timeout(now);
                self.take_outputs(end);
            }
        }
    }

    fn take_outputs(&mut self, end: usize) {
        while let Some(output) = self.ends[end].poll_output() {
            match output {
                Output::Transmit { packet, .. } => self.transmit(end, packet),
                Output::Event(event) => self.events[end].push((self.now, *event)),
                Output::Opened { .. } => {}
                Output::Closed { .. } => self.closed[end] += 1,
            }
        }
    }

    fn transmit(&mut self, end: usize, packet: [u8; ControlPacket::LEN]) {
        self.sent.push(Sent { at: self.now, from: end, packet: ControlPacket::decode(&packet).unwrap() });
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lost = self.lose_one_in.is_some_and(|n| (self.chance >> 33).is_multiple_of(n));
        if !self.cut[end] && !lost {
            self.numbers += 1;
            self.on_cable.insert((self.now + self.delay, self.numbers), (1 - end, packet));
        }
    }
}
