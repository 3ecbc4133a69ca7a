use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::{Address, Link, Neighbour, Route};
use crate::message::{Message, Messages};
use crate::{NetlinkError, NetlinkSocket, Protocol};

/// Bytes of events that may wait: an event takes about 830 of them. The kernel takes the memory only as they come.
const RECEIVE_BUFFER: i32 = 64 << 20;

/// What events are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Group {
    Link = libc::RTNLGRP_LINK,
    Neighbour = libc::RTNLGRP_NEIGH,
    Ipv4Address = libc::RTNLGRP_IPV4_IFADDR,
    Ipv4Route = libc::RTNLGRP_IPV4_ROUTE,
    Ipv6Address = libc::RTNLGRP_IPV6_IFADDR,
    Ipv6Route = libc::RTNLGRP_IPV6_ROUTE,
}

impl Group {
    pub const ALL: [Group; 6] =
        [Group::Link, Group::Neighbour, Group::Ipv4Address, Group::Ipv4Route, Group::Ipv6Address, Group::Ipv6Route];
}

/// What the kernel tells. `port` is that of the socket whose request caused it; zero: the kernel did it by itself.
///
/// Not everything is told: IPv4 routes go silently when their interface is set down or their source address is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Link(Link),
    LinkGone(Link),
    Address(Address),
    AddressGone(Address),
    Neighbour { neighbour: Neighbour, port: u32 },
    NeighbourGone { neighbour: Neighbour, port: u32 },
    Route { route: Route, port: u32 },
    RouteGone { route: Route, port: u32 },
}

impl Event {
    fn parse(message: &Message<'_>) -> Option<Event> {
        let port = message.port;
        Some(match message.kind {
            libc::RTM_NEWLINK => Event::Link(Link::parse(message)?),
            libc::RTM_DELLINK => Event::LinkGone(Link::parse(message)?),
            libc::RTM_NEWADDR => Event::Address(Address::parse(message)?),
            libc::RTM_DELADDR => Event::AddressGone(Address::parse(message)?),
            libc::RTM_NEWNEIGH => Event::Neighbour { neighbour: Neighbour::parse(message)?, port },
            libc::RTM_DELNEIGH => Event::NeighbourGone { neighbour: Neighbour::parse(message)?, port },
            libc::RTM_NEWROUTE => Event::Route { route: Route::parse(message)?, port },
            libc::RTM_DELROUTE => Event::RouteGone { route: Route::parse(message)?, port },
            _ => return None,
        })
    }
}

/// A subscription to the kernel's events in the network namespace of the thread that opens it.
#[derive(Debug)]
pub struct Monitor {
    socket: NetlinkSocket,
}

impl Monitor {
    /// Subscribes. What happens from then on is told, so list the state after this.
    pub fn open(groups: &[Group]) -> Result<Monitor, NetlinkError> {
        let socket = NetlinkSocket::open(Protocol::Route)?;
        socket.set_receive_buffer(RECEIVE_BUFFER)?;
        for group in groups {
            socket.join(*group as u32)?;
        }
        Ok(Monitor { socket })
    }

    /// Sets how many bytes of events may wait.
    pub fn set_receive_buffer(&self, bytes: i32) -> Result<(), NetlinkError> {
        self.socket.set_receive_buffer(bytes)
    }

    /// Leaves out the events that requests of the socket with this port cause. Only one port can be left out.
    pub fn ignore_port(&self, port: u32) -> Result<(), NetlinkError> {
        self.socket.ignore_port(port)
    }

    /// Appends the events of one datagram without waiting, and returns whether there was one.
    ///
    /// After [`NetlinkError::Overrun`] events are missing: list the state again; later events are told.
    pub fn try_read(&mut self, events: &mut Vec<Event>) -> Result<bool, NetlinkError> {
        let Some(bytes) = self.socket.try_receive("read an event")? else { return Ok(false) };
        events.extend(Messages(bytes).filter_map(|message| Event::parse(&message)));
        Ok(true)
    }

    /// Tells whether a datagram or an error waits to be read.
    pub fn has_input(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer is to one live pollfd, as the count says; it doesn't wait.
        unsafe { libc::poll(&raw mut poll, 1, 0) > 0 }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

/// A [`Monitor`] to be awaited in a tokio runtime.
#[cfg(feature = "async")]
#[derive(Debug)]
pub struct AsyncMonitor {
    inner: tokio::io::unix::AsyncFd<Monitor>,
}

#[cfg(feature = "async")]
impl AsyncMonitor {
    /// # Panics
    ///
    /// Outside of a tokio runtime with IO enabled.
    pub fn new(monitor: Monitor) -> Result<AsyncMonitor, NetlinkError> {
        // SAFETY: the monitor owns its descriptor and returns the same one until it is dropped.
        let inner = unsafe { tokio::io::unix::AsyncFd::register_with_interest(monitor, tokio::io::Interest::READABLE) }
            .map_err(|error| NetlinkError::Io { operation: "watch the monitor socket".into(), source: error.into() })?;
        Ok(AsyncMonitor { inner })
    }

    /// Waits for an event. Safe to cancel: nothing is read by it.
    pub async fn readable(&mut self) -> Result<(), NetlinkError> {
        let fail = |source| NetlinkError::Io { operation: "wait for an event".into(), source };
        loop {
            let mut guard = self.inner.readable_mut().await.map_err(fail)?;
            // Asked after the readiness was taken, so that what comes in between wakes again.
            if guard.get_inner().has_input() {
                guard.retain_ready();
                return Ok(());
            }
            guard.clear_ready();
        }
    }

    /// Appends the events that are there, at most `limit` datagrams, and returns whether more may wait.
    pub fn read(&mut self, events: &mut Vec<Event>, limit: usize) -> Result<bool, NetlinkError> {
        for _ in 0..limit {
            if !self.inner.get_mut().try_read(events)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
