//! The socket's place in the file system.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tokio::net::UnixListener;

use crate::Exit;

/// A socket that this process alone serves.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) listener: UnixListener,
    /// Held for as long as the daemon runs: of two that start at once one gives up.
    _lock: File,
}

/// Takes the socket over from an earlier run and narrows it to root.
pub(crate) fn bind(path: &Path) -> Result<Socket, Exit> {
    let failed = |error: io::Error| Exit::failed(format!("cannot listen on {}: {error}", path.display()));
    let (listener, lock) = take(path)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Socket { listener: UnixListener::from_std(listener).map_err(failed)?, _lock: lock })
}

/// [`bind`] without a runtime: the listener, and the lock that must be held for as long as it is served.
pub(crate) fn take(path: &Path) -> Result<(std::os::unix::net::UnixListener, File), Exit> {
    let failed = |what: &str, error: io::Error| Exit::failed(format!("cannot {what} {}: {error}", path.display()));
    let served = || Exit::failed(format!("another margayd serves {}; stop it first", path.display()));
    if let Some(directory) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| failed("make the directory of", error))?;
    }
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(lock);
    let lock = lock.map_err(|error| failed("make the lock of", error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(served()),
        Err(TryLockError::Error(error)) => return Err(failed("lock", error)),
    }
    if UnixStream::connect(path).is_ok() {
        return Err(served());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("replace", error)),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(|error| failed("listen on", error))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(|error| failed("protect", error))?;
    Ok((listener, lock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_left_behind_is_taken_over_and_one_that_is_served_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("run/margayd.sock");
        let first = bind(&path).expect("a new socket");
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::metadata(directory.path().join("run")).expect("a directory").permissions().mode() & 0o777,
            0o700
        );
        let refused = bind(&path).expect_err("it is served");
        assert!(refused.message.contains("another margayd"), "{}", refused.message);
        // As after SIGKILL: the file is there, nobody serves it.
        drop(first);
        assert!(path.exists());
        bind(&path).expect("taken over");
    }
}
