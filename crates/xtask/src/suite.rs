//! One step of the verification: a command with a time budget.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cargo::cargo;
use crate::tally::Tally;

/// What is run, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suite {
    pub(crate) name: String,
    /// The arguments of cargo.
    pub(crate) arguments: Vec<String>,
    pub(crate) budget: Duration,
    /// Whether tests run in it, or something is built or looked at.
    pub(crate) tests: bool,
    /// Whether the suites after it make no sense without it.
    pub(crate) vital: bool,
}

/// How a suite ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// Why it failed, if it did.
    pub(crate) failure: Option<String>,
    pub(crate) took: Duration,
}

/// The process group of the running suite; 0 between suites.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// Ends the running suite, and this program, on Ctrl-C and its like.
pub(crate) fn stop_on_signal() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let group = RUNNING.load(Ordering::SeqCst);
            if group > 0 {
                // An error means that it has ended.
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

impl Suite {
    /// Runs the suite, its output to a file.
    pub(crate) fn run(&self, root: &Path, log: &Path) -> Result<Outcome> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        let start = Instant::now();
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut command = cargo(&arguments);
        command.current_dir(root).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let status = run_within(&mut command, self.budget)?;
        let took = start.elapsed();
        let output = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        let tally = if self.tests { Tally::of(&output) } else { Tally::default() };
        let failure = match status {
            None => Some(format!("it took longer than its {} s", self.budget.as_secs())),
            Some(_) if tally.failed > 0 => Some(failed_tests(&output)),
            Some(status) if !status.success() => Some(format!("cargo {}: {status}", self.arguments.join(" "))),
            Some(_) if tally.ignored > 0 => Some(format!("{} tests are ignored; none may be", tally.ignored)),
            Some(_) => None,
        };
        Ok(Outcome { tally: count_failure(tally, failure.is_some()), failure, took })
    }
}

/// A suite that failed without a failed test counts as one failure.
fn count_failure(tally: Tally, failed: bool) -> Tally {
    if failed && tally.failed == 0 { Tally { failed: 1, ..tally } } else { tally }
}

fn failed_tests(output: &str) -> String {
    let is_failure = |line: &&str| line.starts_with("test ") && line.ends_with("... FAILED");
    let names: Vec<&str> = output
        .lines()
        .filter(is_failure)
        .map(|line| line.trim_start_matches("test ").trim_end_matches(" ... FAILED"))
        .collect();
    format!("failed: {}", names.join(", "))
}

/// Runs a command in a process group of its own; none if it outlived the limit and was killed with its group.
fn run_within(command: &mut Command, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    let mut child = command.process_group(0).spawn().context("start cargo")?;
    let group = i32::try_from(child.id())?;
    RUNNING.store(group, Ordering::SeqCst);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= deadline {
            killpg(Pid::from_raw(group), Signal::SIGKILL).context("end a suite that takes too long")?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    RUNNING.store(0, Ordering::SeqCst);
    Ok(status)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_command_that_takes_too_long_is_ended_with_its_children() {
        let start = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & wait"]);
        assert_eq!(run_within(&mut command, Duration::from_millis(200)).unwrap(), None);
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_suite_that_fails_before_its_first_test_counts_one_failure() {
        assert_eq!(count_failure(Tally::default(), true).failed, 1);
        let two = Tally { passed: 1, failed: 2, ignored: 0 };
        assert_eq!(count_failure(two, true), two);
        assert_eq!(count_failure(Tally::default(), false), Tally::default());
    }

    #[test]
    fn failed_tests_are_named() {
        let output = "test a::b ... ok\ntest a::c ... FAILED\ntest d ... FAILED\n";
        assert_eq!(failed_tests(output), "failed: a::c, d");
    }
}
