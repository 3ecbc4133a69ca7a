//! What is measured: a BGP speaker as a process.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::{DEVICE, DEVICE_ASN, FEEDER, INTERFACE, SUBNET_LENGTH, log_dir};
use crate::{Netns, Process, process};

/// Which speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A forwarder of bytes without tables: what the harness itself takes.
    Null,
    /// Our speaker.
    Margay,
    /// BIRD 2.
    Bird,
}

impl DeviceKind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            DeviceKind::Null => "null",
            DeviceKind::Margay => "margay",
            DeviceKind::Bird => "bird2",
        }
    }
}

/// A peer of the device, played by the harness.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: Ipv4Addr,
    pub(crate) asn: u32,
}

/// A speaker that runs.
#[derive(Debug)]
pub(crate) struct Device {
    kind: DeviceKind,
    process: Process,
    log: PathBuf,
}

impl Device {
    pub(crate) fn start(kind: DeviceKind, speaker: &Path, netns: &Netns, receivers: &[Peer]) -> Result<Device> {
        let log = log_dir().join(format!("{}.log", kind.name()));
        let peers = std::iter::once(&FEEDER).chain(receivers);
        let own = format!("{DEVICE}/{SUBNET_LENGTH}");
        let mut command = match kind {
            DeviceKind::Null => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["bench-null".to_owned(), DEVICE.to_string(), DEVICE_ASN.to_string()]);
                command.arg(FEEDER.address.to_string());
                command
            }
            DeviceKind::Margay => {
                ensure!(
                    speaker.is_file(),
                    "{} isn't built: cargo build --release -p margay-bgp-speaker --example bench_speaker",
                    speaker.display()
                );
                let mut command = Command::new(speaker);
                command.args([&DEVICE_ASN.to_string(), &own, INTERFACE]);
                command.args(peers.map(|peer| format!("{}={}", peer.address, peer.asn)));
                command
            }
            DeviceKind::Bird => {
                let config = log_dir().join("bench-bird.conf");
                std::fs::write(&config, bird_config(peers, &log)).with_context(|| config.display().to_string())?;
                let mut command = Command::new("bird");
                command.arg("-f").arg("-c").arg(&config).arg("-s").arg(log_dir().join("bench-bird.ctl"));
                command.arg("-P").arg(log_dir().join("bench-bird.pid"));
                command
            }
        };
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
        format!("the log of {} ends:\n{}", self.kind.name(), process::tail(&self.log, 8))
    }
}

fn bird_config<'a>(peers: impl Iterator<Item = &'a Peer>, log: &Path) -> String {
    let mut text = format!(
        "log \"{}\" {{ warning, error, fatal, bug }};\n\
         router id {DEVICE};\n\
         protocol device {{ }}\n\
         template bgp harness {{\n\
           local {DEVICE} as {DEVICE_ASN}; passive on; hold time 240;\n\
           ipv4 {{ import all; export all; }};\n\
         }}\n",
        log.display()
    );
    for (number, peer) in peers.enumerate() {
        let Peer { address, asn } = peer;
        writeln!(text, "protocol bgp p{number} from harness {{ neighbor {address} as {asn}; }}")
            .expect("a string takes all");
    }
    text
}
