//! Network namespaces by name or path, as `ip netns` keeps them.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr;

/// The folder of named namespaces.
pub const NETNS_DIR: &str = "/run/netns";

/// What could not be done to which namespace.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {source}", path.display())]
pub struct NetnsError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> NetnsError + 'a {
    move |source| NetnsError { action, path: path.to_owned(), source }
}

/// The path of a namespace given by name; a path is returned as it is.
pub fn path(name_or_path: impl AsRef<Path>) -> PathBuf {
    let given = name_or_path.as_ref();
    if given.as_os_str().as_bytes().contains(&b'/') { given.to_owned() } else { Path::new(NETNS_DIR).join(given) }
}

/// Makes a namespace and binds it to a name in [`NETNS_DIR`], whose mounts are made shared with other mount
/// namespaces. Its loopback interface is down. Fails if the name is taken.
pub fn create(name: &str) -> Result<PathBuf, NetnsError> {
    let directory = Path::new(NETNS_DIR);
    fs::create_dir_all(directory).map_err(failed("create the folder", directory))?;
    share(directory)?;
    let path = directory.join(name);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&path)
        .map_err(failed("create the network namespace", &path))?;
    let bound = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare().map_err(failed("create the network namespace", &path))?;
            let own = Path::new("/proc/thread-self/ns/net");
            mount(Some(own), &path, libc::MS_BIND).map_err(failed("bind the network namespace to", &path))
        });
        joined(thread.join())
    });
    if bound.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&path);
    }
    bound.map(|()| path)
}

/// Unbinds a named namespace; it ends when nothing is left in it.
pub fn delete(name: &str) -> Result<(), NetnsError> {
    let path = Path::new(NETNS_DIR).join(name);
    let text = c_path(&path).map_err(failed("delete the network namespace", &path))?;
    // SAFETY: the pointer is to a string that lives across the call.
    if unsafe { libc::umount2(text.as_ptr(), libc::MNT_DETACH) } < 0 {
        let error = io::Error::last_os_error();
        // EINVAL: nothing is mounted there; the file that is left still goes.
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(failed("unmount the network namespace", &path)(error));
        }
    }
    fs::remove_file(&path).map_err(failed("delete the network namespace", &path))
}

/// Moves the calling thread into a namespace for good; threads and processes that it starts begin there.
pub fn enter(name_or_path: impl AsRef<Path>) -> Result<(), NetnsError> {
    let path = path(name_or_path);
    let file = File::open(&path).map_err(failed("open the network namespace", &path))?;
    // SAFETY: setns takes no pointers; the descriptor is open.
    if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } < 0 {
        return Err(failed("enter the network namespace", &path)(io::Error::last_os_error()));
    }
    Ok(())
}

/// Runs a closure on a thread of its own inside a namespace and returns its value; sockets that it makes stay there.
///
/// A panic of the closure goes on in the caller.
pub fn in_namespace<T: Send>(name_or_path: impl AsRef<Path>, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    let path = path(name_or_path);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(&path)?;
            Ok(work())
        });
        joined(thread.join())
    })
}

fn joined<T>(result: std::thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Has mounts below the folder appear in other mount namespaces too, as `ip netns` does.
fn share(directory: &Path) -> Result<(), NetnsError> {
    let shared = libc::MS_SHARED | libc::MS_REC;
    match mount(None, directory, shared) {
        // EINVAL: the folder isn't a mount point yet.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            mount(Some(directory), directory, libc::MS_BIND | libc::MS_REC)
                .and_then(|()| mount(None, directory, shared))
                .map_err(failed("share the mounts below", directory))
        }
        other => other.map_err(failed("share the mounts below", directory)),
    }
}

fn unshare() -> io::Result<()> {
    // SAFETY: unshare takes no pointers.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn mount(source: Option<&Path>, target: &Path, flags: libc::c_ulong) -> io::Result<()> {
    let source = source.map(c_path).transpose()?;
    let target = c_path(target)?;
    let source = source.as_ref().map_or(ptr::null(), |source| source.as_ptr());
    // SAFETY: the pointers are null or to strings that live across the call; null is allowed for type and data.
    let result = unsafe { libc::mount(source, target.as_ptr(), ptr::null(), flags, ptr::null()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}
