//! BGP speakers side by side: how long routes take through each, and what processor time and memory that costs.
//!
//! Each device under test runs alone, as a process of its own, in fresh namespaces:
//!
//! ```text
//!   peer 0  10.90.1.1 ─┐
//!   peer 1  10.90.1.2 ─┤ the harness ── veth ── device 10.90.0.1     passive, accept-all in and out,
//!   ...               ─┘                                            no kernel routes, no log but errors
//! ```
//!
//! The harness is one thread: it writes UPDATEs that were encoded before ([`shape`]), and decodes and ticks off every
//! prefix at every receiver ([`drive`]). Devices take turns, each round begins with another one, so that a disturbance of
//! the machine meets all of them.

mod configs;
mod course;
mod device;
mod drive;
mod null;
mod place;
mod report;
mod session;
mod shape;
mod svg;
mod table;
mod verdict;
mod watch;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::measure::{Load, Machine};
use course::Figures;
pub use course::Measure;
use device::Device;
pub use device::DeviceKind;
pub use null::run as run_null;
use place::Place;
pub use report::Report;
use shape::Plan;
pub use shape::Shape;
use watch::Exceeded;
pub use watch::Limits;

/// The interface at both ends of the cable.
const INTERFACE: &str = "eth0";
const DEVICE_ASN: u32 = 64512;
/// How often a run is tried whose sessions don't all come up, or fall before the first phase.
const ATTEMPTS: usize = 3;

/// An address family of sessions and prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// The address family identifier (RFC 4760), whose first octet is 0.
    fn afi(self) -> u8 {
        match self {
            Family::V4 => 1,
            Family::V6 => 2,
        }
    }

    /// The device's address.
    fn device(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::new(10, 90, 0, 1).into(),
            Family::V6 => Ipv6Addr::new(0xfd5a, 0x90, 0, 0, 0, 0, 0, 1).into(),
        }
    }

    fn subnet_length(self) -> u8 {
        match self {
            Family::V4 => 16,
            Family::V6 => 64,
        }
    }

    /// The device's address with the length of the subnet.
    fn subnet(self) -> String {
        format!("{}/{}", self.device(), self.subnet_length())
    }
}

/// Programs of our own that are started.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `margay-lab`, which is the null device.
    pub lab: PathBuf,
    /// The program that runs our speaker.
    pub speaker: PathBuf,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    pub shapes: Vec<Shape>,
    pub devices: Vec<DeviceKind>,
    /// Runs of each device in each shape; the median counts.
    pub runs: usize,
    /// A device whose phases take longer than this together runs no more in that shape.
    pub once: Duration,
    /// 1 for the shapes as their names say; prefixes and, where there are many, peers are multiplied by it.
    pub scale: f64,
    pub seed: u64,
    pub limits: Limits,
    pub programs: Programs,
}

/// One device, once through one shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    pub shape: Shape,
    pub device: DeviceKind,
    /// From 1.
    pub round: usize,
    pub figures: BTreeMap<Measure, f64>,
    /// The measure at which it exceeded a limit, and which one; it has no later figures but its peak memory.
    pub exceeded: Option<(Measure, String)>,
    /// Why it came to no end: a session that fell, a prefix that was wrong.
    pub failed: Option<String>,
    /// Cores that neither device nor harness used, on average.
    pub others_cores: f64,
}

/// Measures all shapes. Call it inside namespaces made by [`crate::isolation`]. A run that fails is part of the report.
pub fn run(options: &BenchOptions) -> Result<Report> {
    let load_before = Load::now()?;
    let mut versions = BTreeMap::new();
    for &kind in &options.devices {
        versions.insert(kind, kind.version().with_context(|| format!("the version of {kind}"))?);
    }
    let mut runs = Vec::new();
    for &shape in &options.shapes {
        let plan = Plan::new(shape, options.scale, options.seed);
        let mut done = BTreeSet::new();
        for round in 0..options.runs {
            let mut turns = options.devices.clone();
            turns.rotate_left(round % options.devices.len().max(1));
            for kind in turns.into_iter().filter(|kind| !done.contains(kind)).collect::<Vec<_>>() {
                let mut run = measure(options, kind, &plan, round + 1)?;
                // A session that fell before anything was measured tells nothing of the speaker's pace.
                for _ in 1..ATTEMPTS {
                    if run.failed.is_some() && run.figures.keys().all(|&measure| measure == Measure::PeakMib) {
                        run = measure(options, kind, &plan, round + 1)?;
                    }
                }
                eprintln!("{run}");
                if run.took() > options.once || run.exceeded.is_some() {
                    done.insert(kind);
                }
                runs.push(run);
            }
        }
    }
    Ok(Report::new(options, versions, runs, Machine::new(load_before, Load::now()?)))
}

fn measure(options: &BenchOptions, kind: DeviceKind, plan: &Plan, round: usize) -> Result<Run> {
    let place = Place::new(plan)?;
    let mut device = Device::start(kind, &options.programs, &place.device, plan)?;
    let mut figures = Figures::new();
    let outcome = place.peers.enter(|| course::run(plan, &mut device, &options.limits, &mut figures));
    let (mut exceeded, mut failed) = (None, None);
    if let Err(error) = outcome {
        if let Some(limit) = error.downcast_ref::<Exceeded>() {
            exceeded = Some((figures.at, limit.to_string()));
        } else {
            eprintln!("{kind} in {}: {error:#}\n{}", plan.shape, device.log_tail());
            failed = Some(device.check_running().map_or_else(|_| "it ended".to_owned(), |()| format!("{error:#}")));
        }
    }
    drop(device);
    place.delete()?;
    let Figures { taken, others_cores, .. } = figures;
    let figures = taken.into_iter().map(|(measure, value)| (measure, rounded(value))).collect();
    let others_cores = rounded(others_cores);
    Ok(Run { shape: plan.shape, device: kind, round, figures, exceeded, failed, others_cores })
}

/// To microseconds, where seconds are: digits after that are noise, and many in a file.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

impl Run {
    /// How long its phases took together.
    fn took(&self) -> Duration {
        let seconds = [Measure::AnnounceSeconds, Measure::WithdrawSeconds, Measure::DownSeconds];
        Duration::from_secs_f64(seconds.iter().filter_map(|measure| self.figures.get(measure)).sum())
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Run { shape, device, round, figures, exceeded, failed, others_cores } = self;
        write!(f, "{shape:14} run {round} {device:8}")?;
        for (measure, value) in figures {
            write!(f, "  {} {value:.*}", measure.label(), measure.digits())?;
        }
        if let Some((measure, limit)) = exceeded {
            write!(f, "  {}: {limit}", measure.label())?;
        }
        if let Some(failed) = failed {
            write!(f, "  FAILED: {failed}")?;
        }
        write!(f, "  (others {others_cores:.2} cores)")
    }
}
