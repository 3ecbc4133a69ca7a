//! What is measured: a BGP speaker as a process, with the configuration that a shape needs.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Serialize, Serializer};

use super::shape::Plan;
use super::{DEVICE_ASN, Family, INTERFACE, Programs, configs};
use crate::{Netns, Process, isolation, process};

/// Which speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// A forwarder of messages without tables: what the harness itself takes.
    Null,
    /// Our speaker.
    Margay,
    /// BIRD 2.
    Bird,
    /// FRR's bgpd without zebra.
    Frr,
    /// GoBGP's daemon.
    Gobgp,
    /// The portable OpenBGPD.
    Openbgpd,
}

impl DeviceKind {
    /// All of them, in the order of the report.
    pub const ALL: [DeviceKind; 6] = [
        DeviceKind::Null,
        DeviceKind::Margay,
        DeviceKind::Bird,
        DeviceKind::Frr,
        DeviceKind::Gobgp,
        DeviceKind::Openbgpd,
    ];

    /// Its name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            DeviceKind::Null => "null",
            DeviceKind::Margay => "margay",
            DeviceKind::Bird => "bird2",
            DeviceKind::Frr => "frr",
            DeviceKind::Gobgp => "gobgp",
            DeviceKind::Openbgpd => "openbgpd",
        }
    }

    /// Whether it is other people's.
    pub fn is_peer(self) -> bool {
        !matches!(self, DeviceKind::Null | DeviceKind::Margay)
    }

    /// Asks the program for its version.
    pub(crate) fn version(self) -> Result<String> {
        let option = if self == DeviceKind::Openbgpd { "-V" } else { "--version" };
        let program = match self {
            DeviceKind::Null | DeviceKind::Margay => return Ok(env!("CARGO_PKG_VERSION").to_owned()),
            DeviceKind::Bird => "bird",
            DeviceKind::Frr => FRR,
            DeviceKind::Gobgp => "gobgpd",
            DeviceKind::Openbgpd => OPENBGPD,
        };
        let told = process::run(Command::new(program).arg(option))?;
        let words = |text: &str| {
            let word = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
            text.split_whitespace().find(word).map(str::to_owned)
        };
        words(&told.stdout).or_else(|| words(&told.stderr)).with_context(|| format!("no version from {program}"))
    }
}

impl FromStr for DeviceKind {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<DeviceKind> {
        let names = || DeviceKind::ALL.map(DeviceKind::name).join(", ");
        let found = DeviceKind::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| anyhow!("there is no device '{name}'; there are: {}", names()))
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for DeviceKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

const FRR: &str = "/usr/lib/frr/bgpd";
const OPENBGPD: &str = "/usr/sbin/bgpd";
/// The home of OpenBGPD's user, which it changes its root to.
const OPENBGPD_HOME: &str = "/run/openbgpd";
const GOBGP_API: &str = "127.0.0.1:50051";

/// A speaker that runs. Dropping it ends all its processes.
#[derive(Debug)]
pub(crate) struct Device {
    kind: DeviceKind,
    process: Process,
    log: PathBuf,
}

impl Device {
    pub(crate) fn start(kind: DeviceKind, programs: &Programs, netns: &Netns, plan: &Plan) -> Result<Device> {
        let folder = PathBuf::from(isolation::LAB_DIR).join("bench");
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let log = folder.join(format!("{kind}.log"));
        if log.exists() {
            std::fs::remove_file(&log)?;
        }
        let mut command = command(kind, programs, plan, &folder)?;
        let process = Process::start(kind.name(), netns, &mut command, &log)?;
        Ok(Device { kind, process, log })
    }

    pub(crate) fn kind(&self) -> DeviceKind {
        self.kind
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn check_running(&mut self) -> Result<()> {
        self.process.check_running()
    }

    pub(crate) fn log_tail(&self) -> String {
        format!("the log of {} ends:\n{}", self.kind, process::tail(&self.log, 8))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Some have processes besides the first one, all of its group. An error means that they have ended.
        if let Ok(group) = i32::try_from(self.process.pid()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

fn command(kind: DeviceKind, programs: &Programs, plan: &Plan, folder: &Path) -> Result<Command> {
    let family = plan.shape.family();
    let write = |text: String| -> Result<PathBuf> {
        let path = folder.join(format!("{kind}.conf"));
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        // OpenBGPD asks for it.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(path)
    };
    let mut command;
    match kind {
        DeviceKind::Null => {
            command = Command::new(&programs.lab);
            command.args(["bench-null".to_owned(), family.device().to_string(), DEVICE_ASN.to_string()]);
            let receivers = plan.peers.iter().filter(|planned| planned.receives);
            command.args(receivers.map(|planned| planned.peer.address.to_string()));
        }
        DeviceKind::Margay => {
            let speaker = &programs.speaker;
            ensure!(
                speaker.is_file(),
                "{} isn't built: cargo build -p margay-bgp-speaker --example bench_speaker, with --release for figures",
                speaker.display()
            );
            command = Command::new(speaker);
            command.args([DEVICE_ASN.to_string(), Family::V4.device().to_string(), INTERFACE.to_owned()]);
            command.args([Family::V4, Family::V6].map(Family::subnet));
            let peers = plan.peers.iter().map(|planned| &planned.peer);
            command.args(peers.map(|peer| format!("{}={}", peer.address, peer.asn)));
        }
        DeviceKind::Bird => {
            command = Command::new("bird");
            command.arg("-f").arg("-c").arg(write(configs::bird(plan))?);
            command.arg("-s").arg(folder.join("bird.ctl")).arg("-P").arg(folder.join("bird.pid"));
        }
        DeviceKind::Frr => {
            command = Command::new(FRR);
            command.args(["-Z", "-S", "-P", "0", "--log", "stdout", "--log-level", "errors"]);
            command.arg("-f").arg(write(configs::frr(plan))?).arg("-i").arg(folder.join("frr.pid"));
            command.arg("--vty_socket").arg(folder);
        }
        DeviceKind::Gobgp => {
            command = Command::new("gobgpd");
            command.args(["-t", "toml", "-l", "error", "--pprof-disable", "--api-hosts", GOBGP_API]);
            command.arg("-f").arg(write(configs::gobgp(plan))?);
        }
        DeviceKind::Openbgpd => {
            std::fs::create_dir_all(OPENBGPD_HOME).context(OPENBGPD_HOME)?;
            command = Command::new(OPENBGPD);
            command.arg("-d").arg("-f").arg(write(configs::openbgpd(plan, &folder.join("openbgpd.sock")))?);
        }
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_device_is_found_by_its_name() {
        for kind in DeviceKind::ALL {
            assert_eq!(kind.name().parse::<DeviceKind>().unwrap(), kind);
        }
        assert!("cisco".parse::<DeviceKind>().unwrap_err().to_string().contains("openbgpd"));
    }
}
