//! Medians of the runs, as Markdown and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::{BenchOptions, DeviceKind, Run};
use crate::measure::{Load, Machine};

/// Above this many cores taken by others on average, a run is called disturbed.
const DISTURBED: f64 = 0.3;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub routes: usize,
    pub runs: usize,
    pub seed: u64,
    pub cells: Vec<Cell>,
}

/// One device in one shape: medians with the least and the most.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    pub receivers: usize,
    pub device: DeviceKind,
    pub announce_s: Spread,
    pub withdraw_s: Spread,
    /// User and system time of the device while it announced.
    pub announce_cpu_s: Spread,
    /// `VmRSS` when it has the table and has fallen silent.
    pub held_mib: Spread,
    /// `VmHWM` at the end.
    pub peak_mib: Spread,
    /// Runs during which others took more than 0.3 cores of the machine.
    pub disturbed_runs: usize,
}

/// A median between the least and the most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let middle = (at(values.len().saturating_sub(1) / 2) + at(values.len() / 2)) / 2.0;
        Spread { median: middle, min: at(0), max: at(values.len().saturating_sub(1)) }
    }
}

impl Report {
    pub(super) fn new(
        options: &BenchOptions,
        shapes: &[(usize, BTreeMap<DeviceKind, Vec<Run>>)],
        before: Load,
        after: Load,
    ) -> Report {
        let mut cells = Vec::new();
        for (receivers, devices) in shapes {
            for (&device, runs) in devices {
                let spread = |of: fn(&Run) -> f64| Spread::of(runs.iter().map(of));
                let seconds = |of: fn(&Run) -> Duration| Spread::of(runs.iter().map(|run| of(run).as_secs_f64()));
                cells.push(Cell {
                    receivers: *receivers,
                    device,
                    announce_s: seconds(|run| run.announce),
                    withdraw_s: seconds(|run| run.withdraw),
                    announce_cpu_s: seconds(|run| run.announce_cpu),
                    held_mib: spread(|run| run.held_kib as f64 / 1024.0),
                    peak_mib: spread(|run| run.peak_kib as f64 / 1024.0),
                    disturbed_runs: runs.iter().filter(|run| run.disturbance > DISTURBED).count(),
                });
            }
        }
        Report {
            machine: Machine::new(before, after),
            routes: options.routes,
            runs: options.runs,
            seed: options.seed,
            cells,
        }
    }

    /// The ratio of two devices in one shape, ours first.
    fn ratio(&self, receivers: usize, of: impl Fn(&Cell) -> f64) -> Option<f64> {
        let find = |kind| self.cells.iter().find(|cell| cell.receivers == receivers && cell.device == kind);
        Some(of(find(DeviceKind::Margay)?) / of(find(DeviceKind::Bird)?))
    }

    /// The report as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n\nMedian (min - max) of {} runs that took turns.\n", self.machine, self.runs);
        text += "\n| shape | device | announce, s | withdraw, s | CPU of announce, s | RSS with the table, MiB | peak RSS, MiB | disturbed |\n";
        text += "|---|---|---|---|---|---|---|---|\n";
        for cell in &self.cells {
            let Cell { receivers, device, announce_s, withdraw_s, announce_cpu_s, held_mib, peak_mib, disturbed_runs } =
                cell;
            // A string takes all.
            let _ = writeln!(
                text,
                "| 1 x {} -> {receivers} | {} | {announce_s:.3} | {withdraw_s:.3} | {announce_cpu_s:.2} | {held_mib:.1} | {peak_mib:.1} | \
                 {disturbed_runs} of {} |",
                self.routes,
                device.name(),
                self.runs
            );
        }
        let mut shapes: Vec<usize> = self.cells.iter().map(|cell| cell.receivers).collect();
        shapes.dedup();
        for receivers in shapes {
            let time = self.ratio(receivers, |cell| cell.announce_s.median);
            let memory = self.ratio(receivers, |cell| cell.peak_mib.median);
            if let (Some(time), Some(memory)) = (time, memory) {
                let _ = writeln!(
                    text,
                    "\n1 x {} -> {receivers}: margay takes {time:.2} x the time and {memory:.2} x the memory of bird2.",
                    self.routes
                );
            }
        }
        text
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$} ({:.digits$} - {:.digits$})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_between_the_ends() {
        let odd = Spread::of([3.0, 1.0, 2.0].into_iter());
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(format!("{odd:.1}"), "2.0 (1.0 - 3.0)");
        assert!((Spread::of([1.0, 2.0].into_iter()).median - 1.5).abs() < 1e-9);
    }
}
