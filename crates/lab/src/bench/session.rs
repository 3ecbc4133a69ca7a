//! The harness's end of a BGP session: the handshake, then bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use super::Family;
use super::shape::Peer;
use super::wire::{HEADER, KEEPALIVE, OPEN, for_each_message, message, open};

const PORT: u16 = 179;
const CONNECT: Duration = Duration::from_secs(2);
const HANDSHAKE: Duration = Duration::from_secs(5);

/// An established session, its socket non-blocking.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) stream: TcpStream,
    pub(crate) framer: Framer,
}

impl Session {
    /// Connects from the peer's address, and speaks until the session is established.
    pub(crate) fn attempt(peer: Peer) -> Result<Session> {
        let family = if peer.address.is_ipv4() { Family::V4 } else { Family::V6 };
        let domain = Domain::for_address(SocketAddr::from((peer.address, 0)));
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((peer.address, 0)).into())?;
        let device = SocketAddr::from((family.device(), PORT));
        socket.connect_timeout(&device.into(), CONNECT).context("connect")?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANDSHAKE))?;
        stream.write_all(&open(peer.asn, peer.identifier, family))?;
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
        let used = for_each_message(bytes, take)?;
        self.begun.clear();
        self.begun.extend(&bytes[used..]);
        Ok(true)
    }
}

/// Writes as much as the socket takes at once, and returns how much that was.
pub(crate) fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize> {
    match stream.write(bytes) {
        Ok(written) => Ok(written),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        Err(error) => Err(error).context("write"),
    }
}
