//! The clients on the unix socket, and their lines.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use margay_local_api::{BfdMessage, BfdRequest};
use nix::poll::{PollFd, PollFlags};

/// The longest line: a set of thousands of sessions.
const LONGEST_LINE: usize = 4 << 20;
/// What may wait for a client that doesn't read; beyond it the client is dropped, and gets a snapshot when it is back.
const MOST_UNREAD: usize = 4 << 20;
const MOST_CLIENTS: usize = 64;

#[derive(Debug)]
pub(super) struct Control {
    listener: UnixListener,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    /// Whose changes it is told; absent before it says hello.
    owner: Option<String>,
    unread: Vec<u8>,
    unsent: Vec<u8>,
    /// Nothing more comes from it, or it broke the protocol.
    over: bool,
}

impl Control {
    pub(super) fn new(listener: UnixListener) -> io::Result<Control> {
        listener.set_nonblocking(true)?;
        Ok(Control { listener, clients: Vec::new() })
    }

    /// What to wait for.
    pub(super) fn fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let clients = self.clients.iter().map(|client| {
            let mut events = PollFlags::empty();
            // The end of a stream can be read for ever.
            events.set(PollFlags::POLLIN, !client.over);
            events.set(PollFlags::POLLOUT, !client.unsent.is_empty());
            PollFd::new(client.stream.as_fd(), events)
        });
        std::iter::once(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)).chain(clients)
    }

    /// Accepts clients and reads what they say: each request with the number of its client.
    pub(super) fn read(&mut self) -> Vec<(usize, Result<BfdRequest, String>)> {
        self.accept();
        let mut requests = Vec::new();
        for (n, client) in self.clients.iter_mut().enumerate() {
            client.read();
            while let Some(line) = client.next_line() {
                let request = serde_json::from_slice(&line);
                requests.push((n, request.map_err(|error| format!("not a request: {error}"))));
            }
        }
        requests
    }

    pub(super) fn set_owner(&mut self, client: usize, owner: &str) {
        if let Some(client) = self.clients.get_mut(client) {
            client.owner = Some(owner.to_owned());
        }
    }

    pub(super) fn answer(&mut self, client: usize, message: &BfdMessage) {
        if let Some(client) = self.clients.get_mut(client) {
            client.say(message);
        }
    }

    /// Tells all clients that are attached to an owner's sessions.
    pub(super) fn tell(&mut self, owner: &str, message: &BfdMessage) {
        for client in self.clients.iter_mut().filter(|client| client.owner.as_deref() == Some(owner)) {
            client.say(message);
        }
    }

    /// Sends what the clients take, and drops those that are gone. Client numbers are others from then on.
    pub(super) fn flush(&mut self) {
        for client in &mut self.clients {
            client.flush();
        }
        self.clients.retain(|client| {
            let over = client.over && client.unsent.is_empty() || client.unsent.len() > MOST_UNREAD;
            if over && let Some(owner) = &client.owner {
                tracing::info!(%owner, "the client is gone; its sessions go on");
            }
            !over
        });
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok(_) if self.clients.len() >= MOST_CLIENTS => tracing::warn!("too many clients: one is turned away"),
                Ok((stream, _)) => match stream.set_nonblocking(true) {
                    Ok(()) => {
                        let (unread, unsent) = (Vec::new(), Vec::new());
                        self.clients.push(Client { stream, owner: None, unread, unsent, over: false });
                    }
                    Err(error) => tracing::warn!("cannot serve a client: {error}"),
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::warn!("cannot accept a client: {error}");
                    // It waits on, and would keep this process busy.
                    std::thread::sleep(Duration::from_millis(1));
                    break;
                }
            }
        }
    }
}

impl Client {
    fn read(&mut self) {
        let mut buffer = [0; 16 << 10];
        while !self.over && self.unread.len() <= LONGEST_LINE {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.over = true,
                Ok(len) => self.unread.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.over = true;
                    self.unsent.clear();
                }
            }
        }
    }

    fn next_line(&mut self) -> Option<Vec<u8>> {
        match self.unread.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let rest = self.unread.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.unread, rest);
                line.pop();
                Some(line)
            }
            None => {
                if self.unread.len() > LONGEST_LINE {
                    self.say(&BfdMessage::Error { message: format!("a line has at most {LONGEST_LINE} bytes") });
                    self.unread.clear();
                    self.over = true;
                }
                None
            }
        }
    }

    fn say(&mut self, message: &BfdMessage) {
        match serde_json::to_writer(&mut self.unsent, message) {
            Ok(()) => self.unsent.push(b'\n'),
            Err(error) => tracing::error!("a message can't be written: {error}"),
        }
    }

    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.over = true;
                    self.unsent.clear();
                }
            }
        }
    }
}
