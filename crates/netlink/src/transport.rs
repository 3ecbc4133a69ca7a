use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::message::{Message, MessageBuilder, Messages};
use crate::{KernelError, NetlinkError};

/// Bytes that may be on their way to the kernel: several hundred requests.
const SEND_BUFFER: i32 = 4 << 20;
/// Room for the refusals of a batch and for the parts of a dump.
const RECEIVE_BUFFER: i32 = 8 << 20;
/// The most bytes of one datagram; the kernel sends at most 32 KiB of a dump at once.
const DATAGRAM: usize = 256 << 10;
/// How often a list that changed while it was read is read again.
const DUMP_ATTEMPTS: usize = 16;
/// `NLM_F_DUMP_INTR`: the list changed while it was read.
const NLM_F_DUMP_INTR: u16 = 0x10;

/// The kernel's subsystem at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Protocol {
    Route = libc::NETLINK_ROUTE,
    Netfilter = libc::NETLINK_NETFILTER,
}

/// A netlink socket in the network namespace that the calling thread was in when it was opened.
///
/// Calls block for as long as the kernel works on them; it works inside `send`, so this is never long.
#[derive(Debug)]
pub struct NetlinkSocket {
    fd: OwnedFd,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl NetlinkSocket {
    /// Opens a socket with large buffers, extended acknowledgements and strict checks of what is asked.
    pub fn open(protocol: Protocol) -> Result<NetlinkSocket, NetlinkError> {
        let operation = "open a netlink socket";
        // SAFETY: socket takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol as i32) };
        if fd < 0 {
            return Err(NetlinkError::last_os(operation));
        }
        // SAFETY: `fd` was just returned by socket and is owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut address = address();
        let len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: pointer and length describe an address that lives across the call.
        if unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) } < 0 {
            return Err(NetlinkError::last_os(operation));
        }
        let mut len = len;
        // SAFETY: both pointers are to live values, and `len` is the size of the first.
        if unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut len) } < 0 {
            return Err(NetlinkError::last_os(operation));
        }
        let socket = NetlinkSocket { fd, port: address.nl_pid, sequence: 0, buffer: vec![0; DATAGRAM] };
        socket.force_buffer(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER)?;
        socket.set_receive_buffer(RECEIVE_BUFFER)?;
        for (option, name) in [
            (libc::NETLINK_EXT_ACK, "NETLINK_EXT_ACK"),
            (libc::NETLINK_CAP_ACK, "NETLINK_CAP_ACK"),
            (libc::NETLINK_GET_STRICT_CHK, "NETLINK_GET_STRICT_CHK"),
        ] {
            socket.set_option(libc::SOL_NETLINK, option, &1i32, name)?;
        }
        Ok(socket)
    }

    /// The socket's own address: events that its requests cause carry it.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends several requests at once and returns the refused ones by their index; the others took effect.
    ///
    /// Only the last is acknowledged, which is half as much work for the kernel; refusals come for each.
    pub fn transact(&mut self, messages: &mut MessageBuilder) -> Result<Vec<(usize, KernelError)>, NetlinkError> {
        let mut refused = Vec::new();
        self.exchange("send a batch", messages, true, |index, message| {
            if let Some(Err(error)) = message.outcome() {
                refused.push((index, error));
            }
        })?;
        Ok(refused)
    }

    /// Sends one request that changes something.
    pub fn request(&mut self, operation: &str, message: &mut MessageBuilder) -> Result<(), NetlinkError> {
        let refused = self.transact(message)?;
        match refused.into_iter().next() {
            None => Ok(()),
            Some((_, error)) => Err(NetlinkError::Kernel { operation: operation.to_owned(), error }),
        }
    }

    /// Sends one request and returns what `parse` makes of the answers.
    pub fn get<T>(
        &mut self,
        operation: &str,
        message: &mut MessageBuilder,
        mut parse: impl FnMut(Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let mut found = Vec::new();
        let mut refused = None;
        self.exchange(operation, message, true, |_, message| match message.outcome() {
            Some(Err(error)) => refused = Some(error),
            Some(Ok(())) => {}
            None => found.extend(parse(message)),
        })?;
        match refused {
            None => Ok(found),
            Some(error) => Err(NetlinkError::Kernel { operation: operation.to_owned(), error }),
        }
    }

    /// Sends a request with `NLM_F_DUMP` and returns what `parse` makes of the answers, of one consistent state.
    pub fn dump<T>(
        &mut self,
        operation: &str,
        message: &mut MessageBuilder,
        mut parse: impl FnMut(Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = Vec::new();
            let mut failed = None;
            let mut interrupted = false;
            self.exchange(operation, message, false, |_, message| {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                if let Some(Err(error)) = message.outcome() {
                    failed = Some(error);
                } else if message.kind == libc::NLMSG_DONE as u16 {
                    // The end of a list carries an error number if the kernel could not go on.
                    let errno = message.fixed().map_or(0, i32::from_ne_bytes).saturating_neg();
                    if errno > 0 {
                        failed = Some(KernelError { errno, message: None, offset: None });
                    }
                } else {
                    found.extend(parse(message));
                }
            })?;
            match failed {
                Some(error) => return Err(NetlinkError::Kernel { operation: operation.to_owned(), error }),
                None if interrupted => {}
                None => return Ok(found),
            }
        }
        Err(NetlinkError::Interrupted { operation: operation.to_owned() })
    }

    /// Sends, and hands over the answers until the last request is answered.
    fn exchange(
        &mut self,
        operation: &str,
        messages: &mut MessageBuilder,
        acknowledge: bool,
        mut take: impl FnMut(usize, Message<'_>),
    ) -> Result<(), NetlinkError> {
        let count = messages.count() as u32;
        if count == 0 {
            return Ok(());
        }
        self.drain(operation)?;
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        let bytes = messages.finish(first, acknowledge);
        // SAFETY: pointer and length are those of a live slice.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 {
            return Err(NetlinkError::last_os(operation));
        }
        loop {
            let len = self.receive(operation, true)?.unwrap_or(0);
            for message in Messages(&self.buffer[..len]) {
                let index = message.sequence.wrapping_sub(first);
                if index >= count {
                    continue;
                }
                let last = index == count - 1
                    && (message.kind == libc::NLMSG_ERROR as u16 || message.kind == libc::NLMSG_DONE as u16);
                take(index as usize, message);
                if last {
                    return Ok(());
                }
            }
        }
    }

    /// Forgets what an earlier call that failed left unread.
    fn drain(&mut self, operation: &str) -> Result<(), NetlinkError> {
        loop {
            match self.receive(operation, false) {
                Ok(None) => return Ok(()),
                Ok(Some(_)) | Err(NetlinkError::Overrun) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Receives one datagram into the buffer; `None` if there is none and it shall not wait.
    fn receive(&mut self, operation: &str, wait: bool) -> Result<Option<usize>, NetlinkError> {
        let flags = libc::MSG_TRUNC | if wait { 0 } else { libc::MSG_DONTWAIT };
        loop {
            // SAFETY: pointer and length are those of a live, exclusively borrowed buffer.
            let len =
                unsafe { libc::recv(self.fd.as_raw_fd(), self.buffer.as_mut_ptr().cast(), self.buffer.len(), flags) };
            match usize::try_from(len) {
                Ok(len) if len > self.buffer.len() => {
                    return Err(NetlinkError::Malformed {
                        operation: operation.to_owned(),
                        what: "the answer is larger than any should be",
                    });
                }
                Ok(len) => return Ok(Some(len)),
                Err(_) => {
                    let source = io::Error::last_os_error();
                    match source.raw_os_error() {
                        Some(libc::EINTR) => {}
                        Some(libc::EAGAIN) => return Ok(None),
                        Some(libc::ENOBUFS) => return Err(NetlinkError::Overrun),
                        _ => return Err(NetlinkError::Io { operation: operation.to_owned(), source }),
                    }
                }
            }
        }
    }

    /// Receives one datagram without waiting and returns it.
    pub(crate) fn try_receive(&mut self, operation: &str) -> Result<Option<&[u8]>, NetlinkError> {
        let len = self.receive(operation, false)?;
        Ok(len.map(|len| &self.buffer[..len]))
    }

    /// Sets the receive buffer's size in bytes, beyond the system's limit where that is allowed.
    pub(crate) fn set_receive_buffer(&self, bytes: i32) -> Result<(), NetlinkError> {
        self.force_buffer(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes)
    }

    /// Subscribes to a group of events (`RTNLGRP_*`).
    pub(crate) fn join(&self, group: u32) -> Result<(), NetlinkError> {
        self.set_option(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, &(group as i32), "NETLINK_ADD_MEMBERSHIP")
    }

    /// Has the kernel drop the events that were caused by the socket with this port, before they take any room.
    pub(crate) fn ignore_port(&self, port: u32) -> Result<(), NetlinkError> {
        const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
        // The filter loads in network byte order; nlmsg_pid is at byte 12 in host byte order.
        let program = [
            libc::sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 12 },
            libc::sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: port.to_be() },
            libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: 0 },
            libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: u32::MAX },
        ];
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // The kernel copies the program during the call and doesn't write to it.
        self.set_option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter, "SO_ATTACH_FILTER")
    }

    /// Without CAP_NET_ADMIN in the first user namespace only the unforced size, capped by the system's limit, is left.
    fn force_buffer(&self, forced: i32, unforced: i32, bytes: i32) -> Result<(), NetlinkError> {
        self.set_option(libc::SOL_SOCKET, forced, &bytes, "a buffer's size")
            .or_else(|_| self.set_option(libc::SOL_SOCKET, unforced, &bytes, "a buffer's size"))
    }

    fn set_option<T>(&self, level: i32, option: i32, value: &T, name: &str) -> Result<(), NetlinkError> {
        crate::socket::set_option(self.fd.as_fd(), level, option, value)
            .map_err(|source| NetlinkError::Io { operation: format!("set the netlink option {name}"), source })
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for NetlinkSocket {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

fn address() -> libc::sockaddr_nl {
    // SAFETY: all zeros is a valid sockaddr_nl.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address
}
