//! What the device's processes take, and the bounds that they must keep.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::measure::{Memory, memory};

/// Bounds of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// For each phase.
    pub time: Duration,
    /// For the resident memory of all processes of a device.
    pub memory_mib: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { time: Duration::from_secs(180), memory_mib: 8 * 1024 }
    }
}

/// A bound that a device did not keep: an error that is a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Time(Duration),
    MemoryMib(u64),
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exceeded::Time(limit) => write!(f, "> {} s", limit.as_secs()),
            Exceeded::MemoryMib(limit) => write!(f, "> {limit} MiB"),
        }
    }
}

impl std::error::Error for Exceeded {}

/// How often memory is looked at.
const EVERY: Duration = Duration::from_millis(100);

/// Looks at a process and all that come from it.
#[derive(Debug)]
pub(crate) struct Watch {
    root: u32,
    limit_mib: u64,
    looked: Instant,
}

impl Watch {
    pub(crate) fn new(root: u32, limits: &Limits) -> Watch {
        Watch { root, limit_mib: limits.memory_mib, looked: Instant::now() }
    }

    /// Fails when the processes take too much memory, or are gone; looks only now and then.
    pub(crate) fn check(&mut self) -> Result<()> {
        if self.looked.elapsed() < EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        if self.memory()?.resident_kib > self.limit_mib * 1024 {
            return Err(Exceeded::MemoryMib(self.limit_mib).into());
        }
        Ok(())
    }

    /// The sum over all processes.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let mut sum = memory(self.root).context("the device is gone")?;
        for pid in descendants(self.root)? {
            // One that has ended meanwhile has none.
            if let Ok(part) = memory(pid) {
                sum.resident_kib += part.resident_kib;
                sum.peak_kib += part.peak_kib;
            }
        }
        Ok(sum)
    }

    /// User and system time of all processes, to the nanosecond.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        for pid in std::iter::once(self.root).chain(descendants(self.root)?) {
            let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?)).context("a process's clock")?;
            sum += Duration::from(clock_gettime(clock).context("a process's time")?);
        }
        Ok(sum)
    }
}

/// All processes that come from one, by what the kernel says of each one's parent.
fn descendants(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name in parentheses may hold anything; then come the state and the parent.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace());
        let parent = fields.and_then(|mut fields| fields.nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid));
        at += 1;
    }
    found.remove(0);
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_shells_child_is_counted_with_it() {
        let mut shell =
            Command::new("sh").args(["-c", "sleep 60 & echo; wait"]).stdout(Stdio::piped()).spawn().unwrap();
        crate::until(Duration::from_secs(10), "the child", || {
            let found = descendants(shell.id())?;
            anyhow::ensure!(found.len() == 1, "{found:?}");
            Ok(())
        })
        .unwrap();
        let watch = Watch::new(shell.id(), &Limits::default());
        let both = watch.memory().unwrap();
        assert!(both.peak_kib > memory(shell.id()).unwrap().peak_kib);
        assert!(watch.cpu_time().unwrap() < Duration::from_secs(5));
        for pid in descendants(shell.id()).unwrap() {
            nix::sys::signal::kill(Pid::from_raw(i32::try_from(pid).unwrap()), nix::sys::signal::SIGKILL).unwrap();
        }
        shell.wait().unwrap();
        assert!(watch.memory().is_err());
    }

    #[test]
    fn too_much_memory_is_an_error_that_says_how_much() {
        let mut watch = Watch::new(std::process::id(), &Limits { memory_mib: 0, ..Limits::default() });
        watch.looked = Instant::now().checked_sub(EVERY * 2).unwrap();
        let error = watch.check().unwrap_err();
        assert_eq!(error.downcast_ref::<Exceeded>(), Some(&Exceeded::MemoryMib(0)));
        assert_eq!(error.to_string(), "> 0 MiB");
    }
}
