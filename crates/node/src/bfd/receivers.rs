//! The sockets that packets come in by: one for each family and kind of session.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use margay_bfd::Arrival;
use margay_net::Family;
use margay_netlink::datagram;
use socket2::{Domain, Socket, Type};

use super::clock::Clock;
use super::interfaces::Interfaces;
use crate::Exit;

/// RFC 5881 section 4 and RFC 5883 section 5.
pub(super) const SINGLE_HOP_PORT: u16 = 3784;
pub(super) const MULTIHOP_PORT: u16 = 4784;

/// Thousands of packets: what a thousand peers send while the process is away for a few hundred milliseconds.
const BUFFER: i32 = 4 << 20;
/// More than the buffer holds of small packets: a flood doesn't keep the process from its timers for good.
const MOST_AT_ONCE: usize = 16 << 10;
/// A packet with the longest authentication section has 52 bytes; what is longer is cut and refused all the same.
const LONGEST: usize = 128;

#[derive(Debug)]
struct Receiver {
    socket: Socket,
    multihop: bool,
    dropped: u32,
}

#[derive(Debug)]
pub(super) struct Receivers {
    sockets: Vec<Receiver>,
    interfaces: Interfaces,
}

impl Receivers {
    /// Opens the sockets, with a warning for a family that this machine doesn't have.
    pub(super) fn open(warnings: &mut Vec<String>) -> Result<Receivers, Exit> {
        let mut sockets = Vec::new();
        for family in [Family::V4, Family::V6] {
            for (port, multihop) in [(SINGLE_HOP_PORT, false), (MULTIHOP_PORT, true)] {
                match open(family, port) {
                    Ok(socket) => sockets.push(Receiver { socket, multihop, dropped: 0 }),
                    Err(error) if family == Family::V6 && is_missing(&error) => {
                        warnings.push(format!("no BFD over IPv6 (UDP port {port}): {error}"));
                    }
                    Err(error) if error.kind() == ErrorKind::AddrInUse => {
                        return Err(Exit::failed(format!(
                            "UDP port {port} is taken: another BFD daemon runs on this machine (BIRD, FRR's bfdd, or \
                             another margayd bfd); stop it first"
                        )));
                    }
                    Err(error) => return Err(Exit::failed(format!("cannot listen on UDP port {port}: {error}"))),
                }
            }
        }
        Ok(Receivers { sockets, interfaces: Interfaces::default() })
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|receiver| receiver.socket.as_fd())
    }

    /// Hands over every packet that waits.
    pub(super) fn drain(&mut self, clock: Clock, mut take: impl FnMut(&[u8], Arrival, margay_net::Now)) {
        let mut buffer = [0; LONGEST];
        for receiver in &mut self.sockets {
            for _ in 0..MOST_AT_ONCE {
                let datagram = match datagram::receive(&receiver.socket, &mut buffer) {
                    Ok(datagram) => datagram,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => {
                        tracing::warn!("cannot receive BFD packets: {error}");
                        break;
                    }
                };
                let now = clock.now();
                receiver.dropped = datagram.dropped.unwrap_or(receiver.dropped);
                let arrival = Arrival {
                    remote: datagram.remote.ip(),
                    local: datagram.local.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
                    interface: self.interfaces.name(datagram.interface, now.mono),
                    ttl: datagram.ttl,
                    multihop: receiver.multihop,
                };
                tracing::trace!(remote = %arrival.remote, ttl = ?arrival.ttl, "received {} bytes", datagram.len);
                take(&buffer[..datagram.len], arrival, now);
            }
        }
    }

    /// How many packets the kernel dropped since the start because they were not taken in time.
    pub(super) fn dropped(&self) -> u64 {
        self.sockets.iter().map(|receiver| u64::from(receiver.dropped)).sum()
    }
}

fn open(family: Family, port: u16) -> io::Result<Socket> {
    let address: SocketAddr = match family {
        Family::V4 => (Ipv4Addr::UNSPECIFIED, port).into(),
        Family::V6 => (Ipv6Addr::UNSPECIFIED, port).into(),
    };
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    datagram::set_receive_info(&socket)?;
    datagram::set_receive_buffer(&socket, BUFFER)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether the error says that the kernel has no such family.
fn is_missing(error: &io::Error) -> bool {
    use nix::errno::Errno;
    [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL].map(|errno| Some(errno as i32)).contains(&error.raw_os_error())
}
