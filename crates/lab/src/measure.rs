//! What the kernel knows of processes and of the machine, and statistics over times.

use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

/// Resident memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// `VmRSS`.
    pub resident_kib: u64,
    /// `VmHWM`.
    pub peak_kib: u64,
}

/// Reads a process's memory, as in proc(5)'s `status`.
pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
        number.with_context(|| format!("no {name} in {path}"))
    };
    Ok(Memory { resident_kib: field("VmRSS")?, peak_kib: field("VmHWM")? })
}

/// Reads the user and system time that a process has used, its threads included; in steps of a clock tick.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name in parentheses may hold anything; the fields that follow are proc(5)'s from the third on.
    let fields = text.rsplit_once(')').with_context(|| path.clone())?.1.split_whitespace().skip(11).take(2);
    let ticks = fields.map(str::parse::<u64>).sum::<Result<u64, _>>().with_context(|| path.clone())?;
    Ok(of_ticks(ticks))
}

fn of_ticks(ticks: u64) -> Duration {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|n| u64::try_from(n).ok()).unwrap_or(100);
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}

/// How busy the machine is, at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// The load averages over 1, 5 and 15 minutes, as text.
    pub averages: String,
    taken: std::time::Instant,
    busy: Duration,
    own: Duration,
}

impl Load {
    /// Looks at the machine and at this process.
    pub fn now() -> Result<Load> {
        let averages = fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
        let averages = averages.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let cpu = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("no `cpu` in /proc/stat")?;
        let ticks: Vec<u64> = cpu.split_whitespace().filter_map(|ticks| ticks.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal: the fourth and fifth are not work, guests are in user.
        let busy = ticks.iter().take(8).sum::<u64>() - ticks.iter().skip(3).take(2).sum::<u64>();
        Ok(Load {
            averages,
            taken: std::time::Instant::now(),
            busy: of_ticks(busy),
            own: cpu_time(std::process::id())?,
        })
    }

    /// Returns how many cores were taken on average since `before` by what is neither this process nor `measured`,
    /// which is what the measured one used.
    pub fn others_since(&self, before: &Load, measured: Duration) -> f64 {
        let busy = self.busy.saturating_sub(before.busy);
        let known = self.own.saturating_sub(before.own) + measured;
        busy.saturating_sub(known).as_secs_f64() / (self.taken - before.taken).as_secs_f64()
    }
}

/// Where figures were taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    pub cpus: usize,
    pub kernel: String,
    pub load_before: String,
    pub load_after: String,
}

impl Machine {
    /// Describes this machine.
    pub fn new(before: Load, after: Load) -> Machine {
        Machine {
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            load_before: before.averages,
            load_after: after.averages,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpus, kernel, load_before, load_after } = self;
        write!(f, "{cpus} cores, kernel {kernel}; load averages {load_before} before, {load_after} after.")
    }
}

/// How long something took, many times, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timing {
    pub count: usize,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Timing {
    /// Sums up; percentiles are by nearest rank, so that p99 of fewer than 100 times is the longest.
    pub fn of(times: &[Duration]) -> Timing {
        let mut sorted: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        sorted.sort_by(f64::total_cmp);
        let rank = |percent: usize| (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        Timing { count: sorted.len(), p50: at(rank(50)), p99: at(rank(99)), max: at(sorted.len().saturating_sub(1)) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let timing = Timing::of(&times);
        assert_eq!((timing.count, timing.p50, timing.p99, timing.max), (200, 100.0, 198.0, 200.0));
        assert_eq!(Timing::of(&times[..1]).p99, 1.0);
    }

    #[test]
    fn the_kernel_tells_memory_and_time_of_this_process() {
        let own = memory(std::process::id()).unwrap();
        assert!(own.resident_kib > 0 && own.peak_kib >= own.resident_kib);
        let load = Load::now().unwrap();
        assert_eq!(load.averages.split(' ').count(), 3);
        assert!(cpu_time(std::process::id()).unwrap() >= load.own);
    }
}
