//! The sockets that packets go out by: one for each session, since its source port is its own and stays.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use margay_bfd::{Discriminator, SessionKey};
use nix::errno::Errno;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use socket2::{Domain, Socket, Type};

use super::receivers::{MULTIHOP_PORT, SINGLE_HOP_PORT};

/// RFC 5881 section 4.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;
const ATTEMPTS: usize = 64;
/// DSCP CS6, internetwork control, in its place in the octet.
const CS6: u32 = 48 << 2;
/// RFC 5881 section 5; several hops get the same.
const TTL: u32 = 255;

#[derive(Debug)]
struct Sender {
    key: SessionKey,
    /// Absent where the last packet could not be sent: the next one tries anew.
    socket: Option<Socket>,
    /// Kept for the session's life.
    port: Option<u16>,
    error: String,
}

#[derive(Debug)]
pub(super) struct Senders {
    sessions: BTreeMap<Discriminator, Sender>,
    rng: StdRng,
    pub(super) errors: u64,
}

impl Senders {
    pub(super) fn new(seed: u64) -> Senders {
        Senders { sessions: BTreeMap::new(), rng: StdRng::seed_from_u64(seed), errors: 0 }
    }

    pub(super) fn open(&mut self, session: Discriminator, key: SessionKey) {
        self.sessions.insert(session, Sender { key, socket: None, port: None, error: String::new() });
    }

    pub(super) fn close(&mut self, session: Discriminator) {
        self.sessions.remove(&session);
    }

    /// Why the packets of a session can't be sent; empty where they can.
    pub(super) fn error(&self, session: Discriminator) -> &str {
        self.sessions.get(&session).map_or("", |sender| &sender.error)
    }

    pub(super) fn send(&mut self, session: Discriminator, packet: &[u8]) {
        let Some(sender) = self.sessions.get_mut(&session) else { return };
        let error = match sender.send(packet, &mut self.rng) {
            Ok(()) => String::new(),
            Err(error) => {
                self.errors += 1;
                error
            }
        };
        if error != sender.error {
            match error.as_str() {
                "" => tracing::info!(peer = %sender.key, "packets can be sent again"),
                error => tracing::info!(peer = %sender.key, "{error}"),
            }
            sender.error = error;
        }
    }
}

impl Sender {
    fn send(&mut self, packet: &[u8], rng: &mut StdRng) -> Result<(), String> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.connect(rng).map_err(|error| format!("cannot send: {error}"))?,
        };
        // A refusal is about the packet before: this one was not sent for it.
        let (sent, refused) = match socket.send(packet) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => (socket.send(packet), true),
            sent => (sent, false),
        };
        match sent {
            Ok(_) if refused => {
                self.socket = Some(socket);
                Err(format!("nobody listens on UDP port {} of the peer: BFD does not run there", port(&self.key)))
            }
            Ok(_) => {
                self.socket = Some(socket);
                Ok(())
            }
            // Addresses and routes may have changed: with a new socket they are looked up anew.
            Err(error) => Err(format!("cannot send: {error}")),
        }
    }

    fn connect(&mut self, rng: &mut StdRng) -> io::Result<Socket> {
        let key = &self.key;
        let scope = match &key.interface {
            Some(name) => nix::net::if_::if_nametoindex(&**name)
                .map_err(|error| io::Error::new(ErrorKind::NotFound, format!("no interface {name}: {error}")))?,
            None => 0,
        };
        let remote = scoped(key.remote, port(key), scope);
        let socket = Socket::new(Domain::for_address(remote), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        let any: IpAddr = match remote {
            SocketAddr::V4(_) => {
                socket.set_ttl_v4(TTL)?;
                socket.set_tos_v4(CS6)?;
                Ipv4Addr::UNSPECIFIED.into()
            }
            SocketAddr::V6(_) => {
                socket.set_only_v6(true)?;
                socket.set_unicast_hops_v6(TTL)?;
                socket.set_tclass_v6(CS6)?;
                Ipv6Addr::UNSPECIFIED.into()
            }
        };
        if let Some(interface) = &key.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        let local = key.local.unwrap_or(any);
        let bind = |port: u16| socket.bind(&scoped(local, port, scope).into());
        match self.port.map(bind) {
            Some(Ok(())) => {}
            Some(Err(error)) if error.kind() != ErrorKind::AddrInUse => return Err(error),
            _ => self.port = Some(bind_to_any(bind, rng)?),
        }
        socket.connect(&remote.into())?;
        Ok(socket)
    }
}

fn bind_to_any(bind: impl Fn(u16) -> io::Result<()>, rng: &mut StdRng) -> io::Result<u16> {
    for _ in 0..ATTEMPTS {
        let port = rng.random_range(SOURCE_PORTS);
        match bind(port) {
            Ok(()) => return Ok(port),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EADDRINUSE.into())
}

fn port(key: &SessionKey) -> u16 {
    if key.multihop { MULTIHOP_PORT } else { SINGLE_HOP_PORT }
}

fn scoped(address: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => SocketAddrV6::new(address, port, 0, scope).into(),
        address => (address, port).into(),
    }
}
