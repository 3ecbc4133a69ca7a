//! Medians of the runs, as Markdown and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use serde::Serialize;

use super::course::Cost;
use super::verdict::{Verdict, verdicts};
use super::{BenchOptions, DeviceKind, Limits, Measure, Run, Shape, svg};
use crate::measure::Machine;

/// Above this many cores taken by others on average, a run is called disturbed.
const DISTURBED: f64 = 0.3;

/// What was measured: the runs, and what they come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub memory_mib: u64,
    pub versions: BTreeMap<DeviceKind, String>,
    pub scale: f64,
    pub seed: u64,
    pub limit_seconds: u64,
    pub limit_mib: u64,
    /// By shape and measure, where our speaker and a peer were measured.
    pub verdicts: Vec<Verdict>,
    /// By shape, device and measure.
    pub cells: Vec<Cell>,
    pub runs: Vec<Run>,
}

/// One measure of one device in one shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    pub shape: Shape,
    pub device: DeviceKind,
    pub measure: Measure,
    /// Absent where no run came that far.
    pub spread: Option<Spread>,
    /// The limit that a run exceeded here.
    pub exceeded: Option<String>,
}

/// A median between the least and the most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
        Some(Spread { median, min, max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$} ({:.digits$} - {:.digits$})", self.median, self.min, self.max)
    }
}

impl Report {
    pub(super) fn new(
        options: &BenchOptions,
        versions: BTreeMap<DeviceKind, String>,
        runs: Vec<Run>,
        machine: Machine,
    ) -> Report {
        let cells = cells(&runs);
        let Limits { time, memory_mib } = options.limits;
        Report {
            machine,
            memory_mib: memory_of_machine(),
            versions,
            scale: options.scale,
            seed: options.seed,
            limit_seconds: time.as_secs(),
            limit_mib: memory_mib,
            verdicts: verdicts(&cells),
            cells,
            runs,
        }
    }

    /// Whether every run came to its end or to a limit.
    pub fn is_complete(&self) -> bool {
        self.runs.iter().all(|run| run.failed.is_none())
    }

    /// The bars of time and memory.
    pub fn svg(&self) -> String {
        svg::plot(self)
    }

    pub(super) fn shapes(&self) -> BTreeSet<Shape> {
        self.runs.iter().map(|run| run.shape).collect()
    }

    pub(super) fn cell(&self, shape: Shape, device: DeviceKind, measure: Measure) -> Option<&Cell> {
        let is_it = |cell: &&Cell| (cell.shape, cell.device, cell.measure) == (shape, device, measure);
        self.cells.iter().find(is_it)
    }

    /// The report as a page.
    pub fn markdown(&self) -> String {
        let mut text = "# BGP speakers measured\n\n".to_owned();
        text += "Made by `cargo bench-bgp`; [README.md](README.md) says what is measured and how, `bgp.json` has every run.\n\n";
        self.put_conditions(&mut text);
        text += "\n![Time and peak memory of each speaker in each shape](bgp.svg)\n";
        self.put_verdicts(&mut text);
        for shape in self.shapes() {
            self.put_shape(&mut text, shape);
        }
        text
    }

    fn put_conditions(&self, text: &mut String) {
        let versions: Vec<String> = self.versions.iter().map(|(kind, version)| format!("{kind} {version}")).collect();
        let scale = if self.scale == 1.0 { String::new() } else { format!(" Scale {}.", self.scale) };
        put(text, format_args!("{} {} MiB of memory.{scale}", self.machine, self.memory_mib));
        put(text, format_args!("\n{}.", versions.join(", ")));
        let Report { limit_seconds, limit_mib, .. } = self;
        put(
            text,
            format_args!(
                "\nMedian (min - max) of runs that took turns. Limits: {limit_seconds} s for a phase, {limit_mib} MiB."
            ),
        );
    }

    fn put_verdicts(&self, text: &mut String) {
        if self.verdicts.is_empty() {
            return;
        }
        *text += "\n## Against the best peer\n\n";
        *text += "The ratio is ours by the best peer's, of medians; the floor is what it must not exceed.\n\n";
        *text += "| shape | measure | margay | best peer | ratio | floor | |\n|---|---|---|---|---|---|---|\n";
        for verdict in &self.verdicts {
            let Verdict { shape, measure, ours, best, best_of, ratio, floor, ok } = verdict;
            let number = |value: &Option<f64>, digits: usize| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
            };
            let (label, digits) = (measure.label(), measure.digits());
            let word = match ok {
                Some(true) => "ok",
                Some(false) => "**short**",
                None => "",
            };
            put(
                text,
                format_args!(
                    "| {shape} | {label} | {} | {best_of} {best:.digits$} | {} | {} | {word} |",
                    number(ours, digits),
                    number(ratio, 2),
                    number(floor, 1)
                ),
            );
        }
    }

    fn put_shape(&self, text: &mut String, shape: Shape) {
        put(text, format_args!("\n## {shape}\n\n{}\n", shape.description()));
        let here = || self.cells.iter().filter(move |cell| cell.shape == shape);
        let measures: BTreeSet<Measure> = here().map(|cell| cell.measure).collect();
        let heads: Vec<&str> = measures.iter().map(|measure| measure.label()).collect();
        put(text, format_args!("| device | {} | runs | disturbed |", heads.join(" | ")));
        put(text, format_args!("|---|{}---|---|", "---|".repeat(heads.len())));
        for device in self.versions.keys() {
            let runs: Vec<&Run> = self.runs.iter().filter(|run| (run.shape, run.device) == (shape, *device)).collect();
            let values: Vec<String> = measures.iter().map(|&measure| self.shown(shape, *device, measure)).collect();
            let failed = runs.iter().filter(|run| run.failed.is_some()).count();
            let failed = if failed == 0 { String::new() } else { format!(", {failed} failed") };
            let disturbed = runs.iter().filter(|run| run.others_cores > DISTURBED).count();
            let count = runs.len();
            put(text, format_args!("| {device} | {} | {count}{failed} | {disturbed} |", values.join(" | ")));
        }
    }

    fn shown(&self, shape: Shape, device: DeviceKind, measure: Measure) -> String {
        match self.cell(shape, device, measure) {
            Some(Cell { exceeded: Some(limit), .. }) => limit.clone(),
            Some(Cell { spread: Some(spread), .. }) => format!("{spread:.*}", measure.digits()),
            _ => "-".to_owned(),
        }
    }
}

fn cells(runs: &[Run]) -> Vec<Cell> {
    type Key = (Shape, DeviceKind, Measure);
    let mut values: BTreeMap<Key, (Vec<f64>, Option<String>)> = BTreeMap::new();
    // Of a run that failed, no figure counts.
    for run in runs.iter().filter(|run| run.failed.is_none()) {
        for (&measure, &value) in &run.figures {
            values.entry((run.shape, run.device, measure)).or_default().0.push(value);
        }
        if let Some((measure, limit)) = &run.exceeded {
            values.entry((run.shape, run.device, *measure)).or_default().1 = Some(limit.clone());
        }
    }
    let cell = |((shape, device, measure), (values, exceeded))| Cell {
        shape,
        device,
        measure,
        spread: Spread::of(values),
        exceeded,
    };
    values.into_iter().map(cell).collect()
}

impl Measure {
    /// The largest ratio to the best peer that is good enough; none where only a look is asked for.
    pub(super) fn floor(self) -> Option<f64> {
        match self.cost() {
            Cost::Time => Some(1.0),
            Cost::Memory if self == Measure::PeakMib => Some(1.5),
            Cost::Memory | Cost::Cpu => None,
        }
    }
}

fn memory_of_machine() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn put(text: &mut String, line: fmt::Arguments) {
    writeln!(text, "{line}").expect("a string takes all");
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A run in the smallest shape.
    pub(in crate::bench) fn run(device: DeviceKind, round: usize, seconds: f64, mib: f64) -> Run {
        Run {
            shape: Shape::One100k,
            device,
            round,
            figures: BTreeMap::from([(Measure::AnnounceSeconds, seconds), (Measure::PeakMib, mib)]),
            exceeded: None,
            failed: None,
            others_cores: 0.0,
        }
    }

    pub(in crate::bench) fn report(runs: Vec<Run>) -> Report {
        let cells = cells(&runs);
        let machine =
            Machine { cpus: 2, kernel: "6.1".into(), load_before: "0 0 0".into(), load_after: "0 0 0".into() };
        let versions = runs.iter().map(|run| (run.device, "1.2".to_owned())).collect();
        let verdicts = verdicts(&cells);
        Report {
            machine,
            memory_mib: 4096,
            versions,
            scale: 1.0,
            seed: 1,
            limit_seconds: 180,
            limit_mib: 8192,
            verdicts,
            cells,
            runs,
        }
    }

    #[test]
    fn a_spread_is_the_middle_between_the_ends() {
        let odd = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(format!("{odd:.1}"), "2.0 (1.0 - 3.0)");
        assert!((Spread::of(vec![1.0, 2.0]).unwrap().median - 1.5).abs() < 1e-9);
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn the_page_shows_medians_limits_failures_and_ratios() {
        let mut slow = run(DeviceKind::Gobgp, 1, 0.0, 900.0);
        slow.figures.remove(&Measure::AnnounceSeconds);
        slow.exceeded = Some((Measure::AnnounceSeconds, "> 180 s".to_owned()));
        let mut broken = run(DeviceKind::Frr, 1, 0.5, 1.0);
        broken.failed = Some("peer 1: the device has closed the session".to_owned());
        let report = report(vec![
            run(DeviceKind::Margay, 1, 0.05, 40.0),
            run(DeviceKind::Margay, 2, 0.07, 42.0),
            run(DeviceKind::Bird, 1, 0.12, 20.0),
            slow,
            broken,
        ]);
        assert!(!report.is_complete());
        let page = report.markdown();
        for line in [
            "| margay | 0.060 (0.050 - 0.070) | 41.0 (40.0 - 42.0) | 2 | 0 |",
            "| gobgp | > 180 s | 900.0 (900.0 - 900.0) | 1 | 0 |",
            "| frr | - | - | 1, 1 failed | 0 |",
            "| 1x100k | announce, s | 0.060 | bird2 0.120 | 0.50 | 1.0 | ok |",
            "| 1x100k | peak RSS, MiB | 41.0 | bird2 20.0 | 2.05 | 1.5 | **short** |",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
    }
}
