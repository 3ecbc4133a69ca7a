//! The harness's end of a BGP session: as little of the protocol as a benchmark needs.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use socket2::{Domain, Socket, Type};

use super::device::{Device, Peer};
use super::{DEVICE, LIMIT};

const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;

const HEADER: usize = 19;
const PORT: u16 = 179;
/// Longer than a run, so that the harness sends no keepalives.
const HOLD_TIME: u16 = 240;
const AS_TRANS: u16 = 23456;

/// A message of RFC 4271 section 4.1.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + body.len()).expect("a message is at most 4,096 bytes");
    let mut bytes = vec![0xff; 16];
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// An OPEN that offers IPv4 unicast (RFC 4760) and 4-octet AS numbers (RFC 6793).
pub(crate) fn open(asn: u32, identifier: Ipv4Addr) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
    body.extend(HOLD_TIME.to_be_bytes());
    body.extend(identifier.octets());
    let length = u8::try_from(capabilities.len()).expect("two short capabilities");
    body.extend([length + 2, 2, length]);
    body.extend(capabilities);
    message(OPEN, &body)
}

/// An established session, its socket non-blocking.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) stream: TcpStream,
    pub(crate) framer: Framer,
}

impl Session {
    /// Connects from the peer's address and speaks until the session is established, again where the device isn't ready
    /// for it yet.
    pub(crate) fn establish(peer: Peer, device: &mut Device) -> Result<Session> {
        crate::until(LIMIT, &format!("a session of {} with {}", peer.address, device.kind().name()), || {
            device.check_running()?;
            Session::attempt(peer)
        })
    }

    fn attempt(peer: Peer) -> Result<Session> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((peer.address, 0)).into())?;
        let device = SocketAddr::from((DEVICE, PORT));
        socket.connect_timeout(&device.into(), Duration::from_secs(2)).context("connect")?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&open(peer.asn, peer.address))?;
        stream.write_all(&message(KEEPALIVE, &[]))?;
        expect(&mut stream, OPEN)?;
        expect(&mut stream, KEEPALIVE)?;
        stream.set_nonblocking(true)?;
        Ok(Session { stream, framer: Framer::default() })
    }
}

fn expect(stream: &mut TcpStream, wanted: u8) -> Result<()> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).context("read a header")?;
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let mut body = vec![0; length.checked_sub(HEADER).context("a length below 19")?];
    stream.read_exact(&mut body).context("read a message")?;
    ensure!(header[18] == wanted, "message of type {} instead of {wanted}: {body:?}", header[18]);
    Ok(())
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    /// The beginning of a message whose end has not come yet.
    begun: Vec<u8>,
}

impl Framer {
    /// Reads once from the stream and hands over each complete message; tells whether there were bytes.
    pub(crate) fn read(
        &mut self,
        stream: &mut TcpStream,
        buffer: &mut [u8],
        take: impl FnMut(u8, &[u8]) -> Result<()>,
    ) -> Result<bool> {
        let begun = self.begun.len();
        buffer[..begun].copy_from_slice(&self.begun);
        let read = match stream.read(&mut buffer[begun..]) {
            Ok(0) => bail!("the device has closed the session"),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(false),
            Err(error) => return Err(error).context("read"),
        };
        let bytes = &buffer[..begun + read];
        let used = Framer::messages(bytes, take)?;
        self.begun.clear();
        self.begun.extend(&bytes[used..]);
        Ok(true)
    }

    /// Hands over each complete message; returns how many bytes they are.
    pub(crate) fn messages(bytes: &[u8], mut take: impl FnMut(u8, &[u8]) -> Result<()>) -> Result<usize> {
        let mut used = 0;
        while let Some(header) = bytes.get(used..used + HEADER) {
            let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
            ensure!(length >= HEADER, "a message of length {length}");
            let Some(body) = bytes.get(used + HEADER..used + length) else { break };
            if header[18] == NOTIFICATION {
                return Err(anyhow!("NOTIFICATION {body:?}"));
            }
            take(header[18], body)?;
            used += length;
        }
        Ok(used)
    }
}

/// Writes as much as the socket takes, and returns how much that was.
pub(crate) fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize> {
    match stream.write(bytes) {
        Ok(written) => Ok(written),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        Err(error) => Err(error).context("write"),
    }
}

/// How long until `deadline`, for a call that waits; an error once it has passed.
pub(crate) fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err(ErrorKind::TimedOut.into()),
    }
}
