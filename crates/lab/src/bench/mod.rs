//! BGP speakers side by side: how long a table takes through each, and what memory that costs.
//!
//! Each device under test runs alone, as a process of its own, in fresh namespaces:
//!
//! ```text
//!   feeder   10.90.1.1 ─┐
//!   receiver 10.90.2.1 ─┤ peers ── veth ── device 10.90.0.1     eBGP, an AS each, passive, accept-all,
//!   receiver 10.90.2.2 ─┘                                       next hop self, no kernel routes
//! ```
//!
//! The harness is one thread: it writes UPDATEs that were encoded before ([`table`]), and decodes and ticks off every
//! prefix at every receiver ([`drive`]). Devices take turns, so that a disturbance of the machine meets all of them.

mod device;
mod drive;
mod null;
mod report;
mod session;
mod table;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::measure::{Load, cpu_time, memory};
use crate::{Netns, isolation};
pub use device::DeviceKind;
use device::{Device, Peer};
use drive::{Phase, Receivers};
pub use null::run as run_null;
pub use report::{Cell, Report};
use session::Session;
use table::Table;

/// The interface at both ends of the cable.
const INTERFACE: &str = "eth0";
const DEVICE: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);
const DEVICE_ASN: u32 = 64512;
const SUBNET_LENGTH: u8 = 16;
const FEEDER: Peer = Peer { address: Ipv4Addr::new(10, 90, 1, 1), asn: 65001 };

/// How long a session may take to come up, and a phase to end.
const LIMIT: Duration = Duration::from_secs(120);

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// Prefixes that the feeder announces.
    pub routes: usize,
    /// A shape for each: so many receivers of the feeder's table.
    pub receivers: Vec<usize>,
    pub devices: Vec<DeviceKind>,
    /// Runs of each device in each shape; the median counts.
    pub runs: usize,
    pub seed: u64,
    /// The program that runs our speaker.
    pub speaker: PathBuf,
}

/// One device, once through one shape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    pub(crate) announce: Duration,
    pub(crate) withdraw: Duration,
    /// User and system time of the device while it announced.
    pub(crate) announce_cpu: Duration,
    /// When it has the table and has fallen silent.
    pub(crate) held_kib: u64,
    pub(crate) peak_kib: u64,
    /// Cores that neither device nor harness used, on average.
    pub(crate) disturbance: f64,
}

/// Measures all shapes. Call it inside namespaces made by [`isolation`].
pub fn run(options: &BenchOptions) -> Result<Report> {
    let table = Table::generate(options.routes, options.seed, FEEDER);
    let load_before = Load::now()?;
    let mut shapes = Vec::new();
    for &receivers in &options.receivers {
        let mut runs: BTreeMap<DeviceKind, Vec<Run>> = BTreeMap::new();
        for round in 1..=options.runs {
            for &kind in &options.devices {
                let name = kind.name();
                let run = measure(options, kind, receivers, &table)
                    .with_context(|| format!("{name}, {receivers} receivers, run {round}"))?;
                eprintln!(
                    "{receivers:3} receivers, run {round}, {name:9} {:7.3} s, withdraw {:7.3} s, RSS {:6.1} MiB, peak {:6.1} MiB, \
                     others {:.2} cores",
                    run.announce.as_secs_f64(),
                    run.withdraw.as_secs_f64(),
                    run.held_kib as f64 / 1024.0,
                    run.peak_kib as f64 / 1024.0,
                    run.disturbance
                );
                runs.entry(kind).or_default().push(run);
            }
        }
        shapes.push((receivers, runs));
    }
    Ok(Report::new(options, &shapes, load_before, Load::now()?))
}

fn measure(options: &BenchOptions, kind: DeviceKind, receivers: usize, table: &Table) -> Result<Run> {
    let peers: Vec<Peer> = (0..receivers).map(receiver).collect();
    let place = Place::new(&peers)?;
    let mut device = Device::start(kind, &options.speaker, &place.device, &peers)?;
    let run = place.peers.enter(|| {
        let mut feeder = Session::establish(FEEDER, &mut device)?;
        let sessions = peers.iter().map(|&peer| Session::establish(peer, &mut device)).collect::<Result<Vec<_>>>()?;
        let mut receivers = Receivers::new(sessions, table);
        receivers.wait_until_quiet(&mut feeder)?;
        let (load, cpu) = (Load::now()?, cpu_time(device.pid())?);
        let announce = receivers.run(&mut feeder, &table.announcements, Phase::Announce)?;
        let announce_cpu = cpu_time(device.pid())? - cpu;
        receivers.wait_until_quiet(&mut feeder)?;
        let held_kib = memory(device.pid())?.resident_kib;
        let withdraw = receivers.run(&mut feeder, &table.withdrawals, Phase::Withdraw)?;
        let used = cpu_time(device.pid())? - cpu;
        let disturbance = Load::now()?.others_since(&load, used);
        let peak_kib = memory(device.pid())?.peak_kib;
        Ok(Run { announce, withdraw, announce_cpu, held_kib, peak_kib, disturbance })
    });
    let run = run.with_context(|| device.log_tail())?;
    drop(device);
    place.delete()?;
    Ok(run)
}

fn receiver(index: usize) -> Peer {
    let host = u16::try_from(index + 1).unwrap_or(u16::MAX);
    let [high, low] = host.to_be_bytes();
    Peer { address: Ipv4Addr::new(10, 90, 2 + high, low), asn: 65100 + u32::from(host) }
}

/// The two namespaces with the cable between them.
struct Place {
    device: Netns,
    peers: Netns,
}

impl Place {
    fn new(receivers: &[Peer]) -> Result<Place> {
        let (device, peers) = (Netns::create("device")?, Netns::create("peers")?);
        peers.ip(&format!("link add {INTERFACE} type veth peer name {INTERFACE} netns device"))?;
        device.ip_batch(&[
            format!("address add {DEVICE}/{SUBNET_LENGTH} dev {INTERFACE}"),
            format!("link set {INTERFACE} up"),
        ])?;
        let mut lines: Vec<String> = std::iter::once(&FEEDER)
            .chain(receivers)
            .map(|peer| format!("address add {}/{SUBNET_LENGTH} dev {INTERFACE}", peer.address))
            .collect();
        lines.push(format!("link set {INTERFACE} up"));
        peers.ip_batch(&lines)?;
        Ok(Place { device, peers })
    }

    fn delete(self) -> Result<()> {
        self.peers.ip(&format!("link delete {INTERFACE}"))?;
        self.peers.delete()?;
        self.device.delete()
    }
}

fn log_dir() -> PathBuf {
    PathBuf::from(isolation::LAB_DIR)
}
