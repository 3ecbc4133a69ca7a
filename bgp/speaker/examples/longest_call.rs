//! How long the longest single call of the core takes, with a million prefixes in the table: what the timers of every
//! session wait for.
//!
//! ```text
//! longest_call [ROUTES] [TEXT]
//! ```
//!
//! Each line is the median of three runs of what is asked (those with TEXT in their name), from the input that begins
//! it to the last output that comes of it: the longest call in ms, all calls together, and how many they were. Time in
//! which the process waited for a processor is taken off, so that other work on the machine counts for little.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use margay_bgp_speaker::core::wire::{
    AfiSafi, AsPath, Attributes, Capability, GracefulRestart, GracefulRestartFamily, Open, RefreshSubtype,
    RouteRefresh, encode_announcements, encode_end_of_rib, encode_keepalive, encode_open, encode_route_refresh,
    encode_withdrawals,
};
use margay_bgp_speaker::core::{
    BfdConfig, BfdState, ConnectionId, Drain, ExportPolicy, ImportPolicy, Input, MaxPrefixes, MaxPrefixesAction,
    Options, Output, Owner, Ownership, OwnershipCheck, PeerConfig, PeerName, ResolvedNextHop, RouteMatch, Rule,
    RuleAction, RuleSet, SetOperation, Speaker, SpeakerConfig,
};
use margay_net::{Asn, Cidr, Family, FromFelix, LinkState, NextHop, Now};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);
const OWN_ASN: Asn = Asn(64512);
/// Gives all routes.
const FEEDER: usize = 0;
/// Is told all routes.
const RECEIVER: usize = 1;
/// Comes later, with the settings of the receiver.
const LATE: usize = 2;
/// Comes later, with settings of its own.
const OTHER: usize = 3;
/// Where the routes of an internal feeder lead.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// What a read of the speaker's shell holds at most.
const READ_BYTES: usize = 64 * 1024;
const RUNS: usize = 3;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let routes = words.first().and_then(|word| word.parse().ok()).unwrap_or(1_000_000);
    let only = words.iter().find(|word| word.parse::<usize>().is_err()).cloned().unwrap_or_default();
    for (name, run) in SCENARIOS.iter().filter(|(name, _)| name.contains(&only)) {
        let mut runs: Vec<Measured> = (0..RUNS).map(|_| run(routes)).collect();
        runs.sort_by_key(|measured| measured.longest);
        let Measured { longest, all, calls } = runs[RUNS / 2];
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!("{name:36} longest {:8.2} ms, all {:8.1} ms, {calls:6} calls", ms(longest), ms(all));
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    longest: Duration,
    all: Duration,
    calls: usize,
}

type Scenario = (&'static str, fn(usize) -> Measured);

const SCENARIOS: &[Scenario] = &[
    ("announcements, 64 KiB a call", |routes| {
        let mut bench = Bench::new(routes, |_| {});
        bench.establish(FEEDER);
        bench.establish(RECEIVER);
        bench.measure(|bench| bench.announce())
    }),
    ("withdrawals, 64 KiB a call", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.measure(|bench| bench.withdraw())
    }),
    ("peer down, routes go", |routes| {
        let mut bench = Bench::loaded(routes, |config| config.graceful_restart = None);
        bench.measure(|bench| bench.close(FEEDER))
    }),
    ("peer down, routes kept as stale", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.measure(|bench| bench.close(FEEDER))
    }),
    ("peer back, End-of-RIB", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.close(FEEDER);
        bench.connections += 1;
        bench.establish(FEEDER);
        bench.measure(|bench| bench.receive(FEEDER, &encode_end_of_rib(Family::V4)))
    }),
    ("BFD down", |routes| {
        let mut bench = Bench::loaded(routes, |config| peer(config, FEEDER).bfd = Some(BfdConfig::default()));
        bench.input(bfd(BfdState::Up));
        bench.measure(|bench| bench.input(bfd(BfdState::Down { control_plane_independent: false })))
    }),
    ("prefix limit", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        let limit = MaxPrefixes { limit: 10, warning_percent: 75, action: MaxPrefixesAction::Hold };
        bench.reconfigure(|config| {
            peer(config, FEEDER).max_prefixes.insert(Family::V4, limit);
        })
    }),
    ("peer up, into a group", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.measure(|bench| bench.establish(LATE))
    }),
    ("peer up, into a new group", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.measure(|bench| bench.establish(OTHER))
    }),
    ("peer down, last of its group", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.measure(|bench| bench.close(RECEIVER))
    }),
    ("receiver asks for a refresh", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.measure(|bench| bench.receive(RECEIVER, &refresh(RefreshSubtype::Request)))
    }),
    ("feeder begins a refresh (BoRR)", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.measure(|bench| bench.receive(FEEDER, &refresh(RefreshSubtype::Beginning)))
    }),
    ("feeder ends a refresh (EoRR)", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.receive(FEEDER, &refresh(RefreshSubtype::Beginning));
        bench.measure(|bench| bench.receive(FEEDER, &refresh(RefreshSubtype::End)))
    }),
    ("import policy", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.reconfigure(|config| peer(config, FEEDER).import = ImportPolicy(rules()))
    }),
    ("export policy", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.reconfigure(|config| peer(config, RECEIVER).export = ExportPolicy(rules()))
    }),
    ("way to a next hop", |routes| {
        let mut bench = Bench::loaded(routes, |config| peer(config, FEEDER).asn = OWN_ASN);
        bench.measure(|bench| bench.input(way(7)))
    }),
    ("link without peers", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.measure(|bench| bench.input(link("eth9", "10.95.0.1/24")))
    }),
    ("link of the feeder down", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.measure(|bench| {
            let down = LinkState { interface: "eth0".to_owned(), running: false, addresses: Vec::new() };
            bench.input(Input::Felix(FromFelix::Link(down)));
        })
    }),
    ("first table of owners", |routes| {
        let mut bench = Bench::loaded(routes, guarded);
        bench.measure(|bench| bench.input(owners(1)))
    }),
    ("another table of owners", |routes| {
        let mut bench = Bench::loaded(routes, guarded);
        bench.input(owners(1));
        bench.measure(|bench| bench.input(owners(2)))
    }),
    ("drain", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.reconfigure(|config| config.drain = Some(Drain { withdraw_after: Duration::from_secs(60), began: None }))
    }),
    ("undrain", |routes| {
        let drain = Some(Drain { withdraw_after: Duration::from_secs(60), began: None });
        let mut bench = Bench::loaded(routes, |config| config.drain = drain);
        bench.reconfigure(|config| config.drain = None)
    }),
    ("decision switch", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.reconfigure(|config| config.decision.always_compare_med = true)
    }),
    ("default LOCAL_PREF", |routes| {
        let mut bench = Bench::loaded(routes, |_| {});
        bench.reconfigure(|config| config.decision.default_local_pref = 50)
    }),
    ("start after a restart", |routes| {
        let mut bench = Bench::starting(routes, true, |_| {});
        bench.establish(FEEDER);
        bench.establish(RECEIVER);
        bench.announce();
        bench.input(Input::Felix(FromFelix::Local(Vec::new())));
        bench.measure(|bench| {
            bench.speaker.handle_timeout(Now::at(Duration::from_secs(25)));
            for peer in [FEEDER, RECEIVER] {
                bench.receive(peer, &encode_end_of_rib(Family::V4));
                bench.receive(peer, &encode_keepalive());
            }
        })
    }),
];

struct Bench {
    speaker: Speaker,
    config: SpeakerConfig,
    routes: usize,
    /// Counts up the sessions of the feeder.
    connections: u64,
    measured: Measured,
    schedstat: Option<File>,
}

impl Bench {
    /// The feeder's routes are in, and the receiver has them.
    fn loaded(routes: usize, change: impl FnOnce(&mut SpeakerConfig)) -> Bench {
        let mut bench = Bench::new(routes, change);
        bench.establish(FEEDER);
        bench.establish(RECEIVER);
        bench.announce();
        bench
    }

    fn new(routes: usize, change: impl FnOnce(&mut SpeakerConfig)) -> Bench {
        Bench::starting(routes, false, change)
    }

    fn starting(routes: usize, restarting: bool, change: impl FnOnce(&mut SpeakerConfig)) -> Bench {
        let mut config = SpeakerConfig::new(OWN_ASN, OWN);
        for peer in [FEEDER, RECEIVER, LATE, OTHER] {
            let mut settings = PeerConfig::new(address(peer), Asn(65000 + peer as u32));
            settings.passive = true;
            if peer == OTHER {
                settings.export = ExportPolicy(rules());
            }
            config.peers.insert(name(peer), settings);
        }
        change(&mut config);
        let speaker = Speaker::new(Options { seed: 1, restarting }, Now::at(Duration::ZERO));
        let mut bench = Bench {
            speaker,
            config,
            routes,
            connections: 0,
            measured: Measured::default(),
            schedstat: File::open("/proc/thread-self/schedstat").ok(),
        };
        bench.input(Input::Configure(bench.config.clone()));
        bench.input(link("eth0", "10.90.0.1/16"));
        bench.input(way(1));
        bench
    }

    fn reconfigure(&mut self, change: impl FnOnce(&mut SpeakerConfig)) -> Measured {
        change(&mut self.config);
        self.measure(|bench| bench.input(Input::Configure(bench.config.clone())))
    }

    fn measure(&mut self, act: impl FnOnce(&mut Bench)) -> Measured {
        self.measured = Measured::default();
        act(self);
        self.measured
    }

    fn timed<T>(&mut self, call: impl FnOnce(&mut Speaker) -> T) -> T {
        let (began, waited) = (Instant::now(), self.waited());
        let result = call(&mut self.speaker);
        let took = began.elapsed().saturating_sub(self.waited().saturating_sub(waited));
        self.measured.longest = self.measured.longest.max(took);
        self.measured.all += took;
        self.measured.calls += 1;
        result
    }

    /// How long this thread has waited for a processor so far.
    fn waited(&self) -> Duration {
        let mut text = [0; 64];
        let read = self.schedstat.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or_default();
        let words = std::str::from_utf8(&text[..read]).unwrap_or_default();
        let nanoseconds = words.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        Duration::from_nanos(nanoseconds.unwrap_or_default())
    }

    /// Gives an input, and takes everything out as a network without limits does.
    fn input(&mut self, input: Input) {
        self.timed(|speaker| speaker.handle_input(input, Now::at(Duration::ZERO)));
        loop {
            let mut sent = std::collections::BTreeSet::new();
            while let Some(output) = self.timed(Speaker::poll_output) {
                match output {
                    Output::Send { connection, .. } => {
                        sent.insert(connection);
                    }
                    // The ways are known before they are asked for.
                    Output::TrackNextHops(next_hops) if next_hops.contains(&IpAddr::from(FAR)) => {
                        self.timed(|speaker| speaker.handle_input(way(1), Now::at(Duration::ZERO)));
                    }
                    _ => {}
                }
            }
            if sent.is_empty() {
                return;
            }
            for connection in sent {
                let input = Input::SendQueueDrained { connection };
                self.timed(|speaker| speaker.handle_input(input, Now::at(Duration::ZERO)));
            }
        }
    }

    fn receive(&mut self, peer: usize, bytes: &[u8]) {
        let connection = self.connection(peer);
        self.input(Input::Received { connection, bytes: Bytes::copy_from_slice(bytes) });
    }

    fn close(&mut self, peer: usize) {
        let connection = self.connection(peer);
        self.input(Input::Closed { connection, reason: "gone".to_owned() });
    }

    fn connection(&self, peer: usize) -> ConnectionId {
        ConnectionId((peer as u64 + 10 * self.connections) * 2 + 1)
    }

    fn asn(&self, peer: usize) -> Asn {
        self.config.peers[&name(peer)].asn
    }

    fn establish(&mut self, peer: usize) {
        let (local, remote) = (SocketAddr::from((OWN, 179)), SocketAddr::new(address(peer), 40_000));
        self.input(Input::Accepted { connection: self.connection(peer), local, remote });
        let IpAddr::V4(router_id) = address(peer) else { return };
        let family = GracefulRestartFamily { family: AfiSafi::IPV4_UNICAST, forwarding_preserved: true };
        let restart =
            GracefulRestart { restarting: false, notification: false, restart_time: 120, families: vec![family] };
        let capabilities = vec![
            Capability::Multiprotocol(AfiSafi::IPV4_UNICAST),
            Capability::FourOctetAsn(self.asn(peer)),
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::GracefulRestart(restart),
        ];
        self.receive(peer, &encode_open(&Open::new(self.asn(peer), 90, router_id, capabilities)));
        self.receive(peer, &encode_keepalive());
    }

    fn prefixes(&self) -> impl Iterator<Item = Cidr> + use<> {
        let prefix = |at: usize| Cidr::truncated(Ipv4Addr::from_bits(0x1400_0000 + (at as u32) * 256).into(), 24);
        (0..self.routes).filter_map(move |at| prefix(at).ok())
    }

    /// 5 to 10 prefixes to an attribute set, AS paths of 3 to 6.
    fn announce(&mut self) {
        let mut bytes = Vec::new();
        let prefixes: Vec<Cidr> = self.prefixes().collect();
        let (mut left, mut set) = (&prefixes[..], 0);
        let internal = self.asn(FEEDER) == OWN_ASN;
        while !left.is_empty() {
            let (now, later) = left.split_at((5 + set % 6).min(left.len()));
            let hops = (0..3 + set % 4).map(|hop| Asn(1000 + ((set * 31 + hop * 977) % 50_000) as u32));
            let first = (!internal).then(|| self.asn(FEEDER));
            let attributes = Attributes {
                as_path: AsPath::sequence(first.into_iter().chain(hops)),
                next_hop: Some(if internal { FAR.into() } else { address(FEEDER) }),
                local_pref: internal.then_some(100),
                ..Attributes::default()
            };
            let messages = encode_announcements(Family::V4, &attributes, now.iter().copied(), true);
            messages.expect("routes that fit").iter().for_each(|message| bytes.extend_from_slice(message));
            (left, set) = (later, set + 1);
        }
        self.say(&bytes);
    }

    fn withdraw(&mut self) {
        let messages = encode_withdrawals(Family::V4, self.prefixes()).expect("routes that fit");
        self.say(&messages.concat());
    }

    fn say(&mut self, bytes: &[u8]) {
        bytes.chunks(READ_BYTES).for_each(|chunk| self.receive(FEEDER, chunk));
    }
}

fn name(peer: usize) -> PeerName {
    PeerName::new(format!("peer{peer}"))
}

fn address(peer: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0a5a_0100 + peer as u32).into()
}

fn peer(config: &mut SpeakerConfig, peer: usize) -> &mut PeerConfig {
    config.peers.get_mut(&name(peer)).expect("a peer of the configuration")
}

/// A policy that changes every route.
fn rules() -> RuleSet {
    let rule = Rule { matches: RouteMatch::default(), action: RuleAction::Accept, set: vec![SetOperation::Med(7)] };
    RuleSet { rules: vec![rule], accept_by_default: false }
}

fn refresh(subtype: RefreshSubtype) -> Bytes {
    encode_route_refresh(RouteRefresh { family: AfiSafi::IPV4_UNICAST, subtype })
}

fn bfd(state: BfdState) -> Input {
    Input::Bfd { peer: name(FEEDER), state, reason: "said so".to_owned() }
}

fn way(metric: u32) -> Input {
    let next_hop = NextHop { addr: address(RECEIVER), interface: Some("eth0".to_owned()) };
    let resolved = ResolvedNextHop { next_hops: [next_hop].into(), metric };
    Input::NextHop { address: FAR.into(), resolved: Some(resolved) }
}

fn link(interface: &str, address: &str) -> Input {
    let (own, _) = address.split_once('/').expect("a length");
    let own: IpAddr = own.parse().expect("an address");
    let connected: Cidr = {
        let len = address.rsplit('/').next().and_then(|len| len.parse().ok()).expect("a length");
        Cidr::truncated(own, len).expect("a prefix")
    };
    let link = LinkState { interface: interface.to_owned(), running: true, addresses: vec![(own, connected)] };
    Input::Felix(FromFelix::Link(link))
}

fn guarded(config: &mut SpeakerConfig) {
    peer(config, FEEDER).ownership = OwnershipCheck::Node;
}

/// Half of the routes lie in a pool; `blocks` of its blocks have an owner.
fn owners(blocks: u32) -> Input {
    let owner = Arc::new(Owner {
        node: "a".to_owned(),
        addresses: [address(FEEDER)].into(),
        router_id: None,
        asn: Some(Asn(65000)),
    });
    let block =
        |at: u32| Cidr::truncated(Ipv4Addr::from_bits(0x1400_0000 + at * 0x1_0000).into(), 16).expect("a prefix");
    let owned = (0..blocks).map(|at| (block(at), owner.clone())).collect();
    Input::Ownership(Arc::new(Ownership { pools: ["20.0.0.0/9".parse().expect("a prefix")].into(), owned }))
}
