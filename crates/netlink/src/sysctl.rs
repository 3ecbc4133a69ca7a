//! Kernel settings below `/proc/sys/net`.
//!
//! They are those of the network namespace of the *thread* that opens the file, whatever `/proc` was mounted in
//! (`net_ctl_header_lookup` in `net/sysctl_net.c`).

use std::fs;
use std::io;
use std::path::PathBuf;

/// A setting that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {source}", path.display())]
pub struct SysctlError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl SysctlError {
    /// Tells whether the kernel has no such setting: the interface is gone, or the protocol is not there.
    pub fn is_absent(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// The value of a setting, without its line end. Parts of a key are separated by `/`, as in `net/ipv4/conf/eth0.5/forwarding`.
pub fn read(key: &str) -> Result<String, SysctlError> {
    let path = path(key);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(source) => Err(SysctlError { action: "read", path, source }),
    }
}

/// Writes a setting if it has another value, and returns whether it had.
pub fn ensure(key: &str, value: &str) -> Result<bool, SysctlError> {
    if read(key)? == value {
        return Ok(false);
    }
    let path = path(key);
    match fs::write(&path, value) {
        Ok(()) => Ok(true),
        Err(source) => Err(SysctlError { action: "write", path, source }),
    }
}

fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key)
}
