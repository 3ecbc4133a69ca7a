//! A device without tables: it forwards every UPDATE as it is to each receiver but its sender. What it takes is what the
//! harness and the kernel take.

use std::collections::{BTreeSet, VecDeque};
use std::io::{ErrorKind, IoSlice, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::Family;
use super::session::Framer;
use super::wire::{KEEPALIVE, UPDATE, message, open};

const PORT: u16 = 179;
const READ_BYTES: usize = 256 * 1024;
/// Parts of one write.
const PARTS: usize = 256;
/// The listener among the numbers of connections.
const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    framer: Framer,
    receives: bool,
    closed: bool,
    unwritten: VecDeque<Rc<[u8]>>,
    /// How much of the first one is written.
    written: usize,
    waits: bool,
}

/// Runs until killed.
pub fn run(address: IpAddr, asn: u32, receivers: &[IpAddr]) -> Result<()> {
    let receivers: BTreeSet<IpAddr> = receivers.iter().copied().collect();
    let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
    let listener = TcpListener::bind((address, PORT)).context("listen for BGP")?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create")?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let hello: Rc<[u8]> = [open(asn, Ipv4Addr::new(10, 90, 0, 1), family), message(KEEPALIVE, &[])].concat().into();
    let mut connections: Vec<Connection> = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut events = vec![EpollEvent::empty(); 512];
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error).context("epoll_wait"),
        };
        for event in &events[..count] {
            if event.data() == LISTENER {
                let Ok((stream, remote)) = listener.accept() else { continue };
                let connection = Connection::new(stream, remote, &receivers, hello.clone())?;
                epoll.add(&connection.stream, EpollEvent::new(EpollFlags::EPOLLIN, connections.len() as u64))?;
                connections.push(connection);
                continue;
            }
            let at = usize::try_from(event.data())?;
            if event.events().intersects(!EpollFlags::EPOLLOUT) {
                let forward = connections[at].read(&mut buffer)?;
                if connections[at].closed {
                    epoll.delete(&connections[at].stream).context("epoll_ctl")?;
                }
                if !forward.is_empty() {
                    let others = connections.iter_mut().enumerate().filter(|(number, _)| *number != at);
                    others.for_each(|(_, other)| other.queue(&forward));
                }
            }
        }
        for (number, connection) in connections.iter_mut().enumerate() {
            connection.write(&epoll, number as u64)?;
        }
    }
}

impl Connection {
    fn new(stream: TcpStream, remote: SocketAddr, receivers: &BTreeSet<IpAddr>, hello: Rc<[u8]>) -> Result<Connection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            framer: Framer::default(),
            receives: receivers.contains(&remote.ip()),
            closed: false,
            unwritten: VecDeque::from([hello]),
            written: 0,
            waits: false,
        })
    }

    /// Reads once; the UPDATEs among what came. The end of the stream, or a NOTIFICATION, closes the connection.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Rc<[u8]>> {
        let mut forward = Vec::new();
        let read = self.framer.read(&mut self.stream, buffer, |kind, body| {
            if kind == UPDATE {
                forward.extend(message(UPDATE, body));
            }
            Ok(())
        });
        if read.is_err() {
            self.closed = true;
            self.unwritten.clear();
        }
        Ok(forward.into())
    }

    fn queue(&mut self, bytes: &Rc<[u8]>) {
        if self.receives && !self.closed {
            self.unwritten.push_back(bytes.clone());
        }
    }

    fn write(&mut self, epoll: &Epoll, number: u64) -> Result<()> {
        while !self.unwritten.is_empty() {
            let mut parts: Vec<IoSlice> = self.unwritten.iter().take(PARTS).map(|part| IoSlice::new(part)).collect();
            parts[0].advance(self.written);
            match self.stream.write_vectored(&parts) {
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("write"),
            }
        }
        let waits = !self.unwritten.is_empty();
        if waits != self.waits && !self.closed {
            let write = if waits { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
            let mut event = EpollEvent::new(EpollFlags::EPOLLIN | write, number);
            epoll.modify(&self.stream, &mut event).context("epoll_ctl")?;
            self.waits = waits;
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some(first) = self.unwritten.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.unwritten.pop_front();
        }
    }
}
