use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::uapi::NFNL_SUBSYS_NFTABLES;
use crate::message::Messages;
use crate::{NetlinkError, NetlinkSocket, Protocol};

/// `NFNLGRP_NFTABLES` (linux/netfilter/nfnetlink.h).
const GROUP: u32 = 7;
/// Room for the events of a large transaction of somebody else.
const RECEIVE_BUFFER: i32 = 4 << 20;
/// `struct nfgenmsg`.
const FIXED: usize = 4;
/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`, `NFTA_SET_TABLE`, `NFTA_SET_ELEM_LIST_TABLE`: one number.
const TABLE_NAME: u16 = 1;

/// Tells of changes that others make to one table of nf_tables, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct TableMonitor {
    socket: NetlinkSocket,
    table: String,
}

impl TableMonitor {
    /// Subscribes; what the socket with port `own_port` does is not told.
    pub fn open(table: &str, own_port: u32) -> Result<TableMonitor, NetlinkError> {
        let socket = NetlinkSocket::open(Protocol::Netfilter)?;
        socket.set_receive_buffer(RECEIVE_BUFFER)?;
        socket.ignore_port(own_port)?;
        socket.join(GROUP)?;
        Ok(TableMonitor { socket, table: table.to_owned() })
    }

    /// Reads the events that are there without waiting, and tells whether one concerns the table. Lost events may have.
    pub fn drain(&mut self) -> Result<bool, NetlinkError> {
        let mut concerned = false;
        loop {
            match self.socket.try_receive("read an event of nf_tables") {
                Ok(None) => return Ok(concerned),
                Ok(Some(bytes)) => concerned |= concerns(bytes, &self.table),
                Err(NetlinkError::Overrun) => concerned = true,
                Err(error) => return Err(error),
            }
        }
    }
}

fn concerns(bytes: &[u8], table: &str) -> bool {
    Messages(bytes).any(|message| {
        let name = message.attrs(FIXED).find(TABLE_NAME);
        message.kind >> 8 == NFNL_SUBSYS_NFTABLES
            && name.is_some_and(|name| name.strip_suffix(&[0]).unwrap_or(name) == table.as_bytes())
    })
}

impl AsFd for TableMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for TableMonitor {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_fd().as_raw_fd()
    }
}

/// A [`TableMonitor`] to be awaited in a tokio runtime.
#[cfg(feature = "async")]
#[derive(Debug)]
pub struct AsyncTableMonitor {
    inner: tokio::io::unix::AsyncFd<TableMonitor>,
}

#[cfg(feature = "async")]
impl AsyncTableMonitor {
    /// # Panics
    ///
    /// Outside of a tokio runtime with IO enabled.
    pub fn new(monitor: TableMonitor) -> Result<AsyncTableMonitor, NetlinkError> {
        // SAFETY: the monitor owns its descriptor and returns the same one until it is dropped.
        let inner = unsafe { tokio::io::unix::AsyncFd::register_with_interest(monitor, tokio::io::Interest::READABLE) }
            .map_err(|error| NetlinkError::Io { operation: "watch nf_tables".into(), source: error.into() })?;
        Ok(AsyncTableMonitor { inner })
    }

    /// Waits until somebody else has changed the table. Safe to cancel.
    pub async fn changed(&mut self) -> Result<(), NetlinkError> {
        let fail = |source| NetlinkError::Io { operation: "wait for an event of nf_tables".into(), source };
        loop {
            let mut guard = self.inner.readable_mut().await.map_err(fail)?;
            // Before the read, so that what comes after it wakes again.
            guard.clear_ready();
            if guard.get_inner_mut().drain()? {
                return Ok(());
            }
        }
    }
}
