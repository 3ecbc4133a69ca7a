use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::{Netns, Process, isolation, until};

/// A table that nobody else uses, for the changes that show that the monitor sees changes.
const TABLE: u32 = 4242;

/// A running `ip monitor route nexthop` in a namespace.
#[derive(Debug)]
pub struct RouteMonitor {
    netns: Netns,
    log: PathBuf,
    process: Process,
}

impl RouteMonitor {
    /// Starts to watch, and returns when a change made here has been seen.
    pub fn start(netns: &Netns) -> Result<RouteMonitor> {
        let log = Path::new(isolation::LAB_DIR).join(format!("monitor-{}.log", netns.name()));
        match std::fs::remove_file(&log) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut command = Command::new("ip");
        command.args(["monitor", "route", "nexthop"]);
        let process = Process::start("ip monitor", netns, &mut command, &log)?;
        let mut monitor = RouteMonitor { netns: netns.clone(), log, process };
        monitor.see("192.0.2.1")?;
        Ok(monitor)
    }

    /// Makes a change, and ends the watch when it has been seen; all other changes since the start.
    pub fn finish(mut self) -> Result<Vec<String>> {
        self.see("192.0.2.2")?;
        let text = std::fs::read_to_string(&self.log)?;
        Ok(text.lines().filter(|line| !line.contains(&marker())).map(str::to_owned).collect())
    }

    fn see(&mut self, address: &str) -> Result<()> {
        until(Duration::from_secs(10), "ip monitor sees a change", || {
            self.process.check_running()?;
            // Replacing a route by its like is no change to the kernel: each attempt needs one of its own.
            let _ = self.netns.ip(&format!("route del blackhole {address} table {TABLE}"));
            self.netns.ip(&format!("route add blackhole {address} table {TABLE}"))?;
            let seen = std::fs::read_to_string(&self.log)?;
            if seen.lines().any(|line| line.contains(address)) { Ok(()) } else { bail!("it wrote: {seen}") }
        })?;
        self.netns.ip(&format!("route del blackhole {address} table {TABLE}"))?;
        Ok(())
    }
}

fn marker() -> String {
    format!("table {TABLE}")
}
