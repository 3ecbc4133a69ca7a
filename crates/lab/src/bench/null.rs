//! A device without tables: it forwards the feeder's UPDATEs to every other peer as they are. What it takes is what the
//! harness and the kernel take.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::session::{Framer, KEEPALIVE, UPDATE, message, open, write_some};

const PORT: u16 = 179;
const READ_BYTES: usize = 256 * 1024;

struct Connection {
    stream: TcpStream,
    framer: Framer,
    feeds: bool,
    unwritten: VecDeque<(Rc<[u8]>, usize)>,
}

/// Runs until killed.
pub fn run(address: Ipv4Addr, asn: u32, feeder: Ipv4Addr) -> Result<()> {
    let listener = TcpListener::bind((address, PORT)).context("listen for BGP")?;
    listener.set_nonblocking(true)?;
    let hello: Rc<[u8]> = [open(asn, address), message(KEEPALIVE, &[])].concat().into();
    let mut connections: Vec<Connection> = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let ready = wait(&listener, &connections)?;
        if ready[0].contains(PollFlags::POLLIN)
            && let Ok((stream, remote)) = listener.accept()
        {
            connections.push(Connection::new(stream, remote, feeder, hello.clone())?);
        }
        let mut forward = Vec::new();
        for (connection, ready) in connections.iter_mut().zip(&ready[1..]) {
            if ready.contains(PollFlags::POLLIN) {
                let feeds = connection.feeds;
                connection.framer.read(&mut connection.stream, &mut buffer, |kind, body| {
                    if feeds && kind == UPDATE {
                        forward.extend(message(UPDATE, body));
                    }
                    Ok(())
                })?;
            }
        }
        let forward: Rc<[u8]> = forward.into();
        for connection in &mut connections {
            if !connection.feeds && !forward.is_empty() {
                connection.unwritten.push_back((forward.clone(), 0));
            }
            connection.write()?;
        }
    }
}

/// Waits until something can go on: the listener first, then the connections.
fn wait(listener: &TcpListener, connections: &[Connection]) -> Result<Vec<PollFlags>> {
    let mut fds = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    for connection in connections {
        let write = if connection.unwritten.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        fds.push(PollFd::new(connection.stream.as_fd(), PollFlags::POLLIN | write));
    }
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error).context("poll"),
    }
    Ok(fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect())
}

impl Connection {
    fn new(stream: TcpStream, remote: SocketAddr, feeder: Ipv4Addr, hello: Rc<[u8]>) -> Result<Connection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let feeds = remote.ip() == IpAddr::V4(feeder);
        Ok(Connection { stream, framer: Framer::default(), feeds, unwritten: VecDeque::from([(hello, 0)]) })
    }

    fn write(&mut self) -> Result<()> {
        while let Some((bytes, written)) = self.unwritten.front_mut() {
            let count = write_some(&mut self.stream, &bytes[*written..])?;
            *written += count;
            if *written < bytes.len() {
                return Ok(());
            }
            self.unwritten.pop_front();
        }
        Ok(())
    }
}
