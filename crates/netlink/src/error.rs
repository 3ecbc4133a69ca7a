use std::fmt;
use std::io;

/// Why a netlink operation failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// A system call failed.
    #[error("{operation}: {source}")]
    Io { operation: String, source: io::Error },
    /// The kernel refused what was asked.
    #[error("{operation}: {error}")]
    Kernel { operation: String, error: KernelError },
    /// The receive buffer was full and the kernel dropped messages (`ENOBUFS`): what is known may be wrong, so the
    /// state has to be read again.
    #[error("the kernel dropped netlink messages because the receive buffer was full")]
    Overrun,
    /// The state changed while it was listed, each time that this was tried.
    #[error("{operation}: the list changed while it was read")]
    Interrupted { operation: String },
    /// The kernel's answer can't be understood.
    #[error("{operation}: {what}")]
    Malformed { operation: String, what: &'static str },
}

impl NetlinkError {
    pub(crate) fn last_os(operation: impl Into<String>) -> NetlinkError {
        NetlinkError::Io { operation: operation.into(), source: io::Error::last_os_error() }
    }

    /// The error number, where the kernel or a system call gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            NetlinkError::Io { source, .. } => source.raw_os_error(),
            NetlinkError::Kernel { error, .. } => Some(error.errno),
            _ => None,
        }
    }

    /// Puts what was asked in place of a general text.
    pub(crate) fn during(self, what: impl Into<String>) -> NetlinkError {
        match self {
            NetlinkError::Kernel { error, .. } => NetlinkError::Kernel { operation: what.into(), error },
            other => other,
        }
    }
}

/// A refusal in the kernel's own words (`NLMSG_ERROR` with extended acknowledgement).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelError {
    /// Positive, as in `libc::EEXIST`.
    pub errno: i32,
    /// What the kernel says beyond the number.
    pub message: Option<String>,
    /// Where in the request the attribute begins that was refused, in bytes from the message's start.
    pub offset: Option<u32>,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " (attribute at byte {offset})")?;
        }
        Ok(())
    }
}
