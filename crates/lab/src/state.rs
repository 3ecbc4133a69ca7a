//! The record of a lab that was left up, so that it can be entered and taken down later, and nothing else with it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::until;

/// A process, safe against its number being given to another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ProcessId {
    pid: u32,
    /// In clock ticks since boot, from `/proc/PID/stat`.
    started: u64,
}

/// A lab that outlives the command that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLab {
    boot: String,
    /// `unshare`, whose end ends the lab.
    supervisor: ProcessId,
    /// Process 1 of the lab.
    init: ProcessId,
}

/// Where the record is: `MARGAY_LAB_RECORD`, or one place for the machine.
pub fn record() -> PathBuf {
    std::env::var_os("MARGAY_LAB_RECORD").map_or_else(|| PathBuf::from("/run/margay-lab.json"), PathBuf::from)
}

impl KeptLab {
    /// The lab whose `unshare` is the given process.
    pub fn of_supervisor(pid: u32) -> Result<KeptLab> {
        let init = child_of(pid)?.context("the lab has no first process")?;
        Ok(KeptLab { boot: boot_id()?, supervisor: ProcessId::of(pid)?, init: ProcessId::of(init)? })
    }

    /// The recorded lab, if there is a record. A record whose lab is gone is removed.
    pub fn read(path: &Path) -> Result<Option<KeptLab>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let lab: KeptLab = serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
        if lab.boot == boot_id()? && lab.init.lives() {
            return Ok(Some(lab));
        }
        fs::remove_file(path).with_context(|| path.display().to_string())?;
        Ok(None)
    }

    /// Writes the record.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_vec_pretty(self)?).with_context(|| path.display().to_string())
    }

    /// Ends the lab and removes its record.
    pub fn end(&self, path: &Path) -> Result<()> {
        for process in [&self.supervisor, &self.init] {
            if process.lives() {
                kill(Pid::from_raw(i32::try_from(process.pid)?), Signal::SIGKILL).context("end the lab")?;
            }
        }
        until(Duration::from_secs(20), "the lab has ended", || {
            if self.init.lives() { Err(anyhow!("process {} is there", self.init.pid)) } else { Ok(()) }
        })?;
        fs::remove_file(path).with_context(|| path.display().to_string())
    }

    /// Replaces this process by a command at a place of the lab; returns only with an error.
    pub fn exec(&self, place: &str, words: &[OsString]) -> Result<()> {
        if words.is_empty() {
            bail!("no command given");
        }
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.init.pid.to_string()).args(["--mount", "--pid", "--"]);
        command.arg(std::env::current_exe()?).args(["enter", place, "--"]).args(words);
        Err(command.exec()).context("nsenter")
    }
}

impl ProcessId {
    fn of(pid: u32) -> Result<ProcessId> {
        let started = stat(pid).with_context(|| format!("process {pid} is gone"))?.1;
        Ok(ProcessId { pid, started })
    }

    fn lives(&self) -> bool {
        stat(self.pid).is_some_and(|(_, started)| started == self.started)
    }
}

/// Parent and start time of a process that is not a zombie.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields that follow are proc(5)'s from the third on.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

fn child_of(parent: u32) -> Result<Option<u32>> {
    for entry in fs::read_dir("/proc").context("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if stat(pid).is_some_and(|(of, _)| of == parent) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path).context(path)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let own = ProcessId::of(std::process::id()).unwrap();
        assert!(own.lives());
        assert!(!ProcessId { started: own.started + 1, ..own }.lives());
    }

    #[test]
    fn a_record_of_another_boot_is_removed() {
        let path = std::env::temp_dir().join(format!("margay-lab-{}.json", std::process::id()));
        let own = ProcessId::of(std::process::id()).unwrap();
        let lab = KeptLab { boot: "another".to_owned(), supervisor: own.clone(), init: own };
        lab.write(&path).unwrap();
        assert_eq!(KeptLab::read(&path).unwrap(), None);
        assert!(!path.exists());
    }
}
