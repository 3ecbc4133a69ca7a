//! What happens in each shape, and the figures that are taken on the way.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use super::DeviceKind;
use super::device::Device;
use super::drive::Peers;
use super::shape::{ANYBODY, Change, NOBODY, Plan, Shape};
use super::watch::Limits;
use crate::measure::{Load, Timing};

/// How many times the churn announces and withdraws.
const CHANGES: usize = 50;

/// What is measured, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// From before the first UPDATE is written until the last receiver holds its last prefix.
    AnnounceSeconds,
    /// From the first withdrawal until no receiver holds anything.
    WithdrawSeconds,
    /// From the end of the best feeder until every prefix has moved to the second best.
    DownSeconds,
    /// One block announced: until another peer has it, by all peers and changes.
    ChangeP50Ms,
    ChangeP99Ms,
    /// Until the last peer has it.
    LastPeerP50Ms,
    LastPeerP99Ms,
    /// One block withdrawn: the same.
    GoneP50Ms,
    GoneP99Ms,
    /// User and system time of the device until it is quiet again.
    AnnounceCpuSeconds,
    WithdrawCpuSeconds,
    DownCpuSeconds,
    /// For one announcement or withdrawal of a block to all peers.
    ChangeCpuMs,
    /// `VmRSS` of all processes when everything is announced and all is quiet.
    HeldMib,
    /// `VmHWM` of all processes at the end.
    PeakMib,
}

/// What kind of cost a measure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    Time,
    Cpu,
    Memory,
}

impl Measure {
    pub(crate) fn cost(self) -> Cost {
        use Measure::*;
        match self {
            AnnounceCpuSeconds | WithdrawCpuSeconds | DownCpuSeconds | ChangeCpuMs => Cost::Cpu,
            HeldMib | PeakMib => Cost::Memory,
            _ => Cost::Time,
        }
    }

    /// The head of its column.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Measure::AnnounceSeconds => "announce, s",
            Measure::WithdrawSeconds => "withdraw, s",
            Measure::DownSeconds => "best peer down, s",
            Measure::ChangeP50Ms => "change p50, ms",
            Measure::ChangeP99Ms => "change p99, ms",
            Measure::LastPeerP50Ms => "last peer p50, ms",
            Measure::LastPeerP99Ms => "last peer p99, ms",
            Measure::GoneP50Ms => "withdrawal p50, ms",
            Measure::GoneP99Ms => "withdrawal p99, ms",
            Measure::AnnounceCpuSeconds => "CPU of announce, s",
            Measure::WithdrawCpuSeconds => "CPU of withdraw, s",
            Measure::DownCpuSeconds => "CPU of peer down, s",
            Measure::ChangeCpuMs => "CPU per change, ms",
            Measure::HeldMib => "RSS held, MiB",
            Measure::PeakMib => "peak RSS, MiB",
        }
    }

    pub(crate) fn digits(self) -> usize {
        match self {
            Measure::ChangeCpuMs | Measure::AnnounceCpuSeconds | Measure::WithdrawCpuSeconds => 2,
            Measure::DownCpuSeconds => 2,
            Measure::HeldMib | Measure::PeakMib => 1,
            Measure::AnnounceSeconds | Measure::WithdrawSeconds | Measure::DownSeconds => 3,
            _ => 2,
        }
    }
}

/// The figures of one run so far, and what is being measured.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) taken: BTreeMap<Measure, f64>,
    pub(crate) at: Measure,
    /// Cores that neither device nor harness used from the first to the last phase, on average.
    pub(crate) others_cores: f64,
}

/// Brings up the sessions of a plan and takes its figures; what was taken before an error stays.
pub(crate) fn run(plan: &Plan, device: &mut Device, limits: &Limits, figures: &mut Figures) -> Result<()> {
    let mut peers = Peers::establish(plan, device, limits)?;
    peers.probe()?;
    peers.quiet()?;
    let (load, before) = (Load::now()?, peers.watch().cpu_time()?);
    let outcome = phases(&mut peers, device.kind(), figures);
    // Of a device that is gone there is nothing to tell.
    if let Ok(memory) = peers.watch().memory() {
        figures.taken.insert(Measure::PeakMib, mib(memory.peak_kib));
    }
    let used = peers.watch().cpu_time().unwrap_or(before) - before;
    figures.others_cores = Load::now()?.others_since(&load, used);
    outcome
}

fn phases(peers: &mut Peers, kind: DeviceKind, figures: &mut Figures) -> Result<()> {
    let plan = peers.plan();
    for (number, planned) in plan.peers.iter().enumerate().filter(|(_, planned)| !planned.announcements.is_empty()) {
        peers.queue(number, &planned.announcements)?;
    }
    let mut wanted = plan.wanted(0);
    if kind == DeviceKind::Null && plan.shape == Shape::Ten100kSame {
        // It has no best paths: who comes last is held.
        wanted.iter_mut().zip(&plan.sources).filter(|(_, source)| **source == ANYBODY).for_each(|(w, _)| *w = ANYBODY);
    }
    peers.want(wanted);
    figures.phase(peers, Measure::AnnounceSeconds, Measure::AnnounceCpuSeconds, |_| Ok(()))?;
    figures.taken.insert(Measure::HeldMib, mib(peers.watch().memory()?.resident_kib));
    match plan.shape {
        Shape::One100k | Shape::One100kIpv6 | Shape::One1M | Shape::Fanout50 => {
            peers.queue(0, &plan.peers[0].withdrawals)?;
            peers.want(vec![NOBODY; plan.index.len()]);
            figures.phase(peers, Measure::WithdrawSeconds, Measure::WithdrawCpuSeconds, |_| Ok(()))
        }
        Shape::Ten100kSame if kind != DeviceKind::Null => {
            peers.want(plan.wanted(1));
            figures.phase(peers, Measure::DownSeconds, Measure::DownCpuSeconds, |peers| peers.down(0))
        }
        Shape::Ten100kSame | Shape::Hundred1k => Ok(()),
        Shape::Reflector500 => churn(peers, plan.churn.as_ref().context("a plan without churn")?, figures),
    }
}

impl Figures {
    pub(crate) fn new() -> Figures {
        Figures { taken: BTreeMap::new(), at: Measure::AnnounceSeconds, others_cores: 0.0 }
    }

    fn phase(
        &mut self,
        peers: &mut Peers,
        seconds: Measure,
        cpu: Measure,
        begin: impl FnOnce(&mut Peers) -> Result<()>,
    ) -> Result<()> {
        self.at = seconds;
        let before = peers.watch().cpu_time()?;
        let began = Instant::now();
        begin(peers)?;
        peers.reach()?;
        self.taken.insert(seconds, began.elapsed().as_secs_f64());
        peers.quiet()?;
        self.taken.insert(cpu, (peers.watch().cpu_time()? - before).as_secs_f64());
        Ok(())
    }
}

/// One client announces a block and withdraws it, again and again; each time all others have followed before it goes on.
fn churn<'p>(peers: &mut Peers<'p>, change: &'p Change, figures: &mut Figures) -> Result<()> {
    figures.at = Measure::ChangeP50Ms;
    let before = peers.watch().cpu_time()?;
    let (mut announced, mut last, mut withdrawn) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..CHANGES {
        for (messages, wanted, times) in
            [(&change.announcement, 0, &mut announced), (&change.withdrawal, NOBODY, &mut withdrawn)]
        {
            peers.queue(0, messages)?;
            peers.want_one(change.number, wanted);
            let (began, took) = peers.reach()?;
            times.extend(peers.met_at().map(|met| met - began));
            if wanted == 0 {
                last.push(took);
            }
        }
    }
    let cpu = peers.watch().cpu_time()? - before;
    let (announced, last, withdrawn) = (Timing::of(&announced), Timing::of(&last), Timing::of(&withdrawn));
    figures.taken.extend([
        (Measure::ChangeP50Ms, announced.p50),
        (Measure::ChangeP99Ms, announced.p99),
        (Measure::LastPeerP50Ms, last.p50),
        (Measure::LastPeerP99Ms, last.p99),
        (Measure::GoneP50Ms, withdrawn.p50),
        (Measure::GoneP99Ms, withdrawn.p99),
        (Measure::ChangeCpuMs, cpu.as_secs_f64() * 1000.0 / (2 * CHANGES) as f64),
    ]);
    Ok(())
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
