use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::measure::{Machine, Memory, Timing};

/// What was measured; times in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    pub machine: Machine,
    /// `margay-cni`, one call after the other.
    pub calls: Calls,
    /// `ptp` with `host-local`, in turns with it; absent where they are not installed.
    pub peer_calls: Option<Calls>,
    pub burst: Burst,
    /// A pod in a block that is announced already.
    pub announced_block: ReachTimings,
    /// The first pod of a node: its block is claimed and announced.
    pub first_pod: ReachTimings,
    /// Pods on the first node when [`DaemonMemory::loaded`] was read.
    pub pods: usize,
    pub memory: Vec<DaemonMemory>,
}

/// From the start of the plugin's process to its end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Calls {
    pub add: Timing,
    pub del: Timing,
}

/// ADDs at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Burst {
    pub pods: usize,
    pub rounds: usize,
    /// Over the pods of all rounds.
    pub each: Timing,
    /// From the first start to the last end, over the rounds.
    pub whole: Timing,
}

/// Times until pods were reachable, as they come in.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach {
    added: Vec<Duration>,
    reached: Vec<Duration>,
}

/// From the start of ADD.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReachTimings {
    /// Until the plugin's answer.
    pub added: Timing,
    /// Until the first answered TCP connection from a pod of the other rack.
    pub reached: Timing,
}

impl Reach {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.reached.len()
    }

    pub(super) fn note(&mut self, added: Duration, reached: Duration) {
        self.added.push(added);
        self.reached.push(reached);
    }

    pub(super) fn timings(&self) -> ReachTimings {
        ReachTimings { added: Timing::of(&self.added), reached: Timing::of(&self.reached) }
    }
}

/// A node's `margayd`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DaemonMemory {
    pub node: String,
    /// With all sessions up and no pod.
    pub idle: Memory,
    /// With all pods on the first node.
    pub loaded: Memory,
}

impl Figures {
    /// The figures as Markdown.
    pub fn markdown(&self) -> String {
        let mut text =
            format!("{}\n\n| what | times | p50, ms | p99, ms | max, ms |\n|---|---|---|---|---|\n", self.machine);
        let mut row = |what: &str, timing: &Timing| {
            let Timing { count, p50, p99, max } = timing;
            // A string takes all.
            let _ = writeln!(text, "| {what} | {count} | {p50:.1} | {p99:.1} | {max:.1} |");
        };
        row("CNI ADD, one after the other", &self.calls.add);
        row("CNI DEL, one after the other", &self.calls.del);
        if let Some(calls) = &self.peer_calls {
            row("`ptp` + `host-local` ADD, in turns with ours", &calls.add);
            row("`ptp` + `host-local` DEL, in turns with ours", &calls.del);
        }
        let Burst { pods, each, whole, .. } = &self.burst;
        row(&format!("{pods} ADDs at once, each"), each);
        row(&format!("{pods} ADDs at once, all of a round"), whole);
        row("start of ADD to its answer, block announced", &self.announced_block.added);
        row("start of ADD to reachable from the other rack, block announced", &self.announced_block.reached);
        row("start of ADD to its answer, first pod of a node", &self.first_pod.added);
        row("start of ADD to reachable from the other rack, first pod of a node", &self.first_pod.reached);
        let node = self.memory.first().map_or("", |daemon| &daemon.node);
        let pods = self.pods;
        let _ = writeln!(
            text,
            "\n| daemon of | idle: RSS, MiB | idle: peak, MiB | {pods} pods on {node}: RSS, MiB | peak, MiB |\n\
             |---|---|---|---|---|"
        );
        for DaemonMemory { node, idle, loaded } in &self.memory {
            let mib = |kib: u64| kib as f64 / 1024.0;
            let _ = writeln!(
                text,
                "| {node} | {:.1} | {:.1} | {:.1} | {:.1} |",
                mib(idle.resident_kib),
                mib(idle.peak_kib),
                mib(loaded.resident_kib),
                mib(loaded.peak_kib)
            );
        }
        if self.peer_calls.is_none() {
            text += "\n`ptp` and `host-local` are not installed, so that ADD stands alone here.\n";
        }
        text
    }
}
