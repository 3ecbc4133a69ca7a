use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::process;

/// Where network namespaces are bound to names; inside a lab a tmpfs of its own, and the folder that `ip netns` uses.
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// A network namespace bound to a name below [`NETNS_DIR`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netns {
    name: String,
    path: PathBuf,
}

impl Netns {
    /// Makes a namespace with its loopback up.
    pub fn create(name: &str) -> Result<Netns> {
        let path = Path::new(NETNS_DIR).join(name);
        fs::create_dir_all(NETNS_DIR).context(NETNS_DIR)?;
        File::create_new(&path).with_context(|| format!("network namespace {name}: {}", path.display()))?;
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare a network namespace")?;
            mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("bind the namespace to {}", path.display()))
        })?;
        let netns = Netns { name: name.to_owned(), path };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Binds the caller's own namespace to a name.
    pub fn adopt(name: &str) -> Result<Netns> {
        let path = Path::new(NETNS_DIR).join(name);
        fs::create_dir_all(NETNS_DIR).context(NETNS_DIR)?;
        File::create_new(&path).with_context(|| format!("network namespace {name}: {}", path.display()))?;
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("bind the namespace to {}", path.display()))?;
        Ok(Netns { name: name.to_owned(), path })
    }

    /// Names a namespace that is there.
    pub fn open(name: &str) -> Result<Netns> {
        let path = Path::new(NETNS_DIR).join(name);
        if !path.exists() {
            return Err(anyhow!("there is no network namespace '{name}'; there are: {}", names()?.join(", ")));
        }
        Ok(Netns { name: name.to_owned(), path })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path, as in `CNI_NETNS`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a closure on a thread of its own inside the namespace. Sockets and processes that it makes stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_own_thread(|| {
            self.join_thread()?;
            work()
        })
    }

    /// Moves the calling thread into the namespace for good; children that it starts begin there.
    pub fn join_thread(&self) -> Result<()> {
        let file = File::open(&self.path).with_context(|| format!("network namespace {}", self.name))?;
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET).with_context(|| format!("enter the namespace {}", self.name))
    }

    /// Runs a program to its end inside the namespace; another exit code than 0 is an error with its stderr.
    pub fn run<S: AsRef<OsStr> + Sync>(&self, program: &str, args: &[S]) -> Result<process::Output> {
        self.enter(|| process::run(Command::new(program).args(args))).with_context(|| format!("in {}", self.name))
    }

    /// Runs one `ip` command, given as a line.
    pub fn ip(&self, line: &str) -> Result<String> {
        let args: Vec<&str> = line.split_whitespace().collect();
        Ok(self.run("ip", &args)?.stdout)
    }

    /// Runs many `ip` commands in one process; the first that fails is the error.
    pub fn ip_batch(&self, lines: &[String]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let script = lines.join("\n") + "\n";
        self.enter(|| process::run_with_stdin(Command::new("ip").args(["-batch", "-"]), script.as_bytes()))
            .with_context(|| format!("in {}:\n{script}", self.name))?;
        Ok(())
    }

    /// Writes a sysctl, named as by `sysctl` (dots or slashes).
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", if key.contains('/') { key.to_owned() } else { key.replace('.', "/") });
        self.enter(|| fs::write(&path, value).with_context(|| format!("set {path} to {value}")))
    }

    /// Reads a sysctl.
    pub fn sysctl_value(&self, key: &str) -> Result<String> {
        let path = format!("/proc/sys/{}", if key.contains('/') { key.to_owned() } else { key.replace('.', "/") });
        self.enter(|| Ok(fs::read_to_string(&path).with_context(|| path.clone())?.trim().to_owned()))
    }

    /// Takes the name away; the kernel frees the namespace when no process and no socket is left in it.
    pub fn delete(&self) -> Result<()> {
        umount2(&self.path, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", self.path.display()))?;
        fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))
    }
}

/// The names of all namespaces of this lab.
pub(crate) fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(NETNS_DIR).context(NETNS_DIR)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Err(anyhow!("panic: {}", what.unwrap_or_default()))
        })
    })
}
