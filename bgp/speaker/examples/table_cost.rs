//! What the tables cost without sockets: a core is fed UPDATEs encoded before, what it hands out is counted and dropped.
//!
//! ```text
//! table_cost FEEDERS ROUTES RECEIVERS [ibgp] [add-path] [own]
//! ```
//!
//! Every feeder announces the same prefixes with other paths, with `own` prefixes of its own; with `ibgp` all peers are
//! clients of a route reflector. Then the first feeder goes down. Each phase is told with its time, what it sent and
//! the process's memory: a process measures one shape, since its peak never falls.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use margay_bgp_speaker::core::wire::{
    AddPath, AfiSafi, AsPath, Attributes, Capability, Community, Message, Open, decode, encode_announcements,
    encode_keepalive, encode_open,
};
use margay_bgp_speaker::core::{
    AddPathSend, ConnectionId, Input, Options, Output, PeerConfig, PeerName, Speaker, SpeakerConfig,
};
use margay_net::{Asn, Cidr, Family, Now};

const USAGE: &str = "usage: table_cost FEEDERS ROUTES RECEIVERS [ibgp] [add-path] [own]";
const OWN: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);
/// What a read of the speaker's shell holds at most.
const READ_BYTES: usize = 64 * 1024;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at)?.parse::<usize>().ok();
    let (Some(feeders), Some(routes), Some(receivers)) = (number(0), number(1), number(2)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let has = |word: &str| words.iter().skip(3).any(|other| other == word);
    let shape = Shape { feeders, routes, receivers, ibgp: has("ibgp"), add_path: has("add-path"), own: has("own") };
    run(&shape);
    ExitCode::SUCCESS
}

struct Shape {
    feeders: usize,
    routes: usize,
    receivers: usize,
    ibgp: bool,
    add_path: bool,
    own: bool,
}

fn run(shape: &Shape) {
    let mut bench =
        Bench { speaker: Speaker::new(Options { seed: 1, restarting: false }, Now::at(Duration::ZERO)), sent: 0 };
    let peers = shape.feeders + shape.receivers;
    bench.speaker.handle_input(Input::Configure(config(shape, peers)), Now::at(Duration::ZERO));
    bench.drain();
    (0..peers).for_each(|peer| bench.establish(shape, peer));
    let tables: Vec<Vec<u8>> = (0..shape.feeders).map(|feeder| table(shape, feeder)).collect();
    let before = resident();
    report("start", Instant::now(), 0, before);
    bench.sent = 0;
    let began = Instant::now();
    let mut at = 0;
    // Feeders take turns, a read each.
    while tables.iter().any(|table| at < table.len()) {
        for (feeder, table) in tables.iter().enumerate() {
            if at < table.len() {
                bench.receive(feeder, &table[at..table.len().min(at + READ_BYTES)]);
            }
        }
        at += READ_BYTES;
    }
    report("announce", began, bench.sent, before);
    bench.sent = 0;
    let began = Instant::now();
    let connection = connection(0);
    bench.input(Input::Closed { connection, reason: "gone".to_owned() });
    report("down", began, bench.sent, before);
    let counters = bench.speaker.counters();
    println!(
        "{} prefixes, {} paths, {} attribute sets, {} update groups",
        counters.prefixes, counters.paths, counters.attribute_sets, counters.update_groups
    );
}

fn config(shape: &Shape, peers: usize) -> SpeakerConfig {
    let mut config = SpeakerConfig::new(Asn(64512), OWN);
    for peer in 0..peers {
        let mut settings = PeerConfig::new(address(peer), asn(shape, peer));
        settings.passive = true;
        settings.graceful_restart = false;
        settings.route_reflector_client = shape.ibgp;
        settings.add_path.send = if shape.add_path { AddPathSend::All } else { AddPathSend::None };
        config.peers.insert(PeerName::new(format!("peer{peer}")), settings);
    }
    config
}

fn asn(shape: &Shape, peer: usize) -> Asn {
    if shape.ibgp { Asn(64512) } else { Asn(65000 + peer as u32) }
}

fn address(peer: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0a5a_0100 + peer as u32).into()
}

fn connection(peer: usize) -> ConnectionId {
    ConnectionId(peer as u64 * 2 + 1)
}

/// The feeder's UPDATEs: 5 to 10 prefixes to an attribute set, AS paths of 3 to 6.
fn table(shape: &Shape, feeder: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut next, mut set) = (0usize, feeder * 7919);
    while next < shape.routes {
        let count = (5 + set % 6).min(shape.routes - next);
        let first = if shape.own { feeder * shape.routes + next } else { next };
        let prefix = |at: usize| Cidr::truncated(Ipv4Addr::from_bits(0x1400_0000 + (at as u32) * 256).into(), 24);
        let prefixes = (first..first + count).filter_map(|at| prefix(at).ok());
        let hops = (0..3 + set % 4).map(|hop| Asn(1000 + ((set * 31 + hop * 977) % 50_000) as u32));
        let external = (!shape.ibgp).then_some(asn(shape, feeder));
        let attributes = Attributes {
            as_path: AsPath::sequence(external.into_iter().chain(hops)),
            next_hop: Some(address(feeder)),
            med: (set % 4 == 0).then_some((set % 1000) as u32),
            local_pref: shape.ibgp.then_some(100),
            communities: (0..set % 4).map(|at| Community((at * 65_536 + set % 65_536) as u32)).collect(),
            ..Attributes::default()
        };
        let messages = encode_announcements(Family::V4, &attributes, prefixes, true).expect("routes that fit");
        messages.iter().for_each(|message| bytes.extend_from_slice(message));
        (next, set) = (next + count, set + 1);
    }
    bytes
}

struct Bench {
    speaker: Speaker,
    sent: usize,
}

impl Bench {
    fn input(&mut self, input: Input) {
        self.speaker.handle_input(input, Now::at(Duration::ZERO));
        self.drain();
    }

    fn receive(&mut self, peer: usize, bytes: &[u8]) {
        self.input(Input::Received { connection: connection(peer), bytes: bytes.to_vec().into() });
    }

    /// Takes everything out, as a network without limits does.
    fn drain(&mut self) {
        let mut drained = std::collections::BTreeSet::new();
        loop {
            while let Some(output) = self.speaker.poll_output() {
                if let Output::Send { connection, bytes } = output {
                    self.sent += bytes.len();
                    drained.insert(connection);
                }
            }
            if drained.is_empty() {
                return;
            }
            for connection in std::mem::take(&mut drained) {
                self.speaker.handle_input(Input::SendQueueDrained { connection }, Now::at(Duration::ZERO));
            }
        }
    }

    fn establish(&mut self, shape: &Shape, peer: usize) {
        let (local, remote) = (SocketAddr::from((OWN, 179)), SocketAddr::new(address(peer), 40_000));
        self.input(Input::Accepted { connection: connection(peer), local, remote });
        let IpAddr::V4(router_id) = address(peer) else { return };
        let mut capabilities =
            vec![Capability::Multiprotocol(AfiSafi::IPV4_UNICAST), Capability::FourOctetAsn(asn(shape, peer))];
        if shape.add_path {
            capabilities.push(Capability::AddPath(vec![AddPath {
                family: AfiSafi::IPV4_UNICAST,
                receive: true,
                send: false,
            }]));
        }
        let open = encode_open(&Open::new(asn(shape, peer), 90, router_id, capabilities));
        self.receive(peer, &open);
        self.receive(peer, &encode_keepalive());
        assert!(matches!(decode(&open, &Default::default()), Ok(Message::Open(_))));
    }
}

fn report(phase: &str, began: Instant, sent: usize, before: (u64, u64)) {
    let (resident, peak) = resident();
    println!(
        "{phase:8} {:7.3} s, CPU {:7.3} s in all, sent {:8.1} MB, RSS {:6.1} MiB (+{:.1}), peak {:6.1} MiB",
        began.elapsed().as_secs_f64(),
        cpu().as_secs_f64(),
        sent as f64 / 1e6,
        mib(resident),
        mib(resident.saturating_sub(before.0)),
        mib(peak)
    );
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// The time that this process has had a processor.
fn cpu() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    Duration::from_nanos(schedstat.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default())
}

/// `VmRSS` and `VmHWM` of this process, in KiB.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    (field("VmRSS:").unwrap_or_default(), field("VmHWM:").unwrap_or_default())
}
