use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{Netns, Process, isolation, process, until};

/// A running `tcpdump` on one interface of a namespace.
#[derive(Debug)]
pub struct Capture {
    file: PathBuf,
    process: Process,
}

/// The outermost IP header of a captured packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// The IP protocol number, or IPv6's next header.
    pub protocol: u8,
    /// Of TCP and UDP.
    pub destination_port: Option<u16>,
}

impl Captured {
    /// Whether the packet carries another one by a tunnel protocol: IP in IP (4, 41), GRE (47) or VXLAN (UDP 4789).
    pub fn is_encapsulated(&self) -> bool {
        matches!(self.protocol, 4 | 41 | 47) || (self.protocol == 17 && self.destination_port == Some(4789))
    }
}

impl Capture {
    /// Starts to capture and returns when packets are being written.
    pub fn start(netns: &Netns, interface: &str) -> Result<Capture> {
        let stem = Path::new(isolation::LAB_DIR).join(format!("capture-{}-{interface}", netns.name()));
        let (file, log) = (stem.with_extension("pcap"), stem.with_extension("log"));
        for old in [&file, &log] {
            match std::fs::remove_file(old) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        let mut command = Command::new("tcpdump");
        // As root and unbuffered: the file is on the lab's own tmpfs, and read when the capture has ended.
        command.args(["-Z", "root", "-U", "--immediate-mode", "-n", "-s", "128", "-i", interface, "-w"]).arg(&file);
        let mut process = Process::start("tcpdump", netns, &mut command, &log)?;
        until(Duration::from_secs(10), &format!("tcpdump listens on {interface} of {}", netns.name()), || {
            process.check_running()?;
            let said = process::tail(&log, 5);
            if said.contains("listening on") { Ok(()) } else { bail!("it said: {said}") }
        })?;
        Ok(Capture { file, process })
    }

    /// Ends the capture; the IP packets in it.
    pub fn finish(self) -> Result<Vec<Captured>> {
        self.process.terminate(Duration::from_secs(5))?;
        let bytes = std::fs::read(&self.file).with_context(|| self.file.display().to_string())?;
        parse(&bytes)
    }
}

/// Reads a pcap file of Ethernet frames in the machine's byte order, microsecond or nanosecond.
fn parse(bytes: &[u8]) -> Result<Vec<Captured>> {
    const HEADER: usize = 24;
    const RECORD: usize = 16;
    let word = |at: usize| -> Option<u32> {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    if !matches!(word(0), Some(0xa1b2_c3d4 | 0xa1b2_3c4d)) || word(20) != Some(1) {
        bail!("not a pcap file of Ethernet frames");
    }
    let mut packets = Vec::new();
    let mut at = HEADER;
    while let Some(len) = word(at + 8) {
        let len = usize::try_from(len)?;
        let Some(frame) = bytes.get(at + RECORD..at + RECORD + len) else { break };
        packets.extend(ip_header(frame));
        at += RECORD + len;
    }
    Ok(packets)
}

fn ip_header(frame: &[u8]) -> Option<Captured> {
    let packet = frame.get(14..)?;
    let (source, destination, protocol, payload): (IpAddr, IpAddr, u8, usize) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let at = |from: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(from..from + 4)?).ok()?));
            (at(12)?.into(), at(16)?.into(), packet[9], usize::from(packet[0] & 0x0f) * 4)
        }
        [0x86, 0xdd] => {
            let at = |from: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(from..from + 16)?).ok()?));
            (at(8)?.into(), at(24)?.into(), packet[6], 40)
        }
        _ => return None,
    };
    let port = packet.get(payload + 2..payload + 4).map(|port| u16::from_be_bytes([port[0], port[1]]));
    let destination_port = port.filter(|_| matches!(protocol, 6 | 17));
    Some(Captured { source, destination, protocol, destination_port })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(frame: &[u8]) -> Vec<u8> {
        let mut bytes = 0xa1b2_c3d4_u32.to_ne_bytes().to_vec();
        bytes.extend([0; 16]);
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend((frame.len() as u32).to_ne_bytes());
        bytes.extend((frame.len() as u32).to_ne_bytes());
        bytes.extend(frame);
        bytes
    }

    fn udp_to(port: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 65, 0, 1, 10, 65, 0, 2, 0x30, 0x39]);
        frame.extend(port.to_be_bytes());
        frame.extend([0; 4]);
        frame
    }

    #[test]
    fn the_outermost_header_is_read() {
        let packets = parse(&file(&udp_to(53))).unwrap();
        assert_eq!(packets.len(), 1);
        assert_eq!(packets[0].source, IpAddr::from([10, 65, 0, 1]));
        assert_eq!(packets[0].destination, IpAddr::from([10, 65, 0, 2]));
        assert_eq!((packets[0].protocol, packets[0].destination_port), (17, Some(53)));
        assert!(!packets[0].is_encapsulated());
    }

    #[test]
    fn tunnels_are_recognised() {
        assert!(parse(&file(&udp_to(4789))).unwrap()[0].is_encapsulated());
        for protocol in [4, 41, 47] {
            let mut frame = udp_to(53);
            frame[14 + 9] = protocol;
            assert!(parse(&file(&frame)).unwrap()[0].is_encapsulated());
        }
    }

    #[test]
    fn a_cut_off_file_gives_what_is_whole() {
        let mut bytes = file(&udp_to(53));
        bytes.truncate(bytes.len() - 3);
        assert_eq!(parse(&bytes).unwrap(), []);
        assert!(parse(b"no pcap").is_err());
    }
}
