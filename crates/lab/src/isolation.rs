//! Namespaces that end with their owner.
//!
//! A lab's first process is process 1 of a PID namespace of its own; the mount and network namespaces belong to it, too.
//! When it ends, the kernel ends every process of the lab, and with them go the namespaces, their links and their
//! mounts. It ends with its owner, whatever kills that: by parent-death signals along the chain
//! `owner > unshare > process 1`, and by a pipe on its stdin, the lifeline, whose other end only the owner holds.
//!
//! `/run` inside is a tmpfs of its own, so that sockets, pid files and bound namespaces of two labs and of the host
//! don't meet, and nothing of a lab is ever on the host's disk.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::unistd::{Uid, getpid};

use crate::Netns;

/// The folder inside a lab for logs, sockets, state and the datastore.
pub const LAB_DIR: &str = "/run/lab";

/// The name under which a lab's first network namespace is bound.
pub const HUB: &str = "hub";

const INSIDE: &str = "MARGAY_LAB_INSIDE";
const KEEP: u8 = b'k';

/// How long a lab lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Ends with its owner.
    Owner,
    /// Ends with its owner until [`keep`] is called; has a session of its own, so that it outlives the terminal.
    UntilKept,
}

/// A command that runs `program` as process 1 of new PID, mount and network namespaces, its stdin the lifeline.
pub fn command(program: &Path, lifetime: Lifetime) -> Command {
    let mut command = match lifetime {
        Lifetime::Owner => {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL"]);
            command
        }
        Lifetime::UntilKept => Command::new("setsid"),
    };
    command.args(["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--mount-proc", "--net"]);
    command.args(["--propagation", "private"]).arg(program);
    command.env(INSIDE, "1").stdin(Stdio::piped());
    command
}

/// Tells a lab made with [`Lifetime::UntilKept`], by the other end of its stdin, that it no longer ends with its owner.
pub fn keep(mut lifeline: ChildStdin) -> Result<()> {
    lifeline.write_all(&[KEEP]).context("the lab is gone")
}

/// Whether this process was started by [`command`].
pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some() && getpid().as_raw() == 1
}

/// Fails with advice unless run by root, who alone may make namespaces.
pub fn require_root() -> Result<()> {
    if Uid::effective().is_root() {
        Ok(())
    } else {
        bail!("this needs root: it makes network namespaces (run it with sudo, or as root)")
    }
}

/// Prepares the namespaces that this process is the first of: watches the lifeline, gives `/run` a tmpfs of its own,
/// turns loopback on and binds the network namespace to the name [`HUB`]. Called once.
pub fn settle() -> Result<Netns> {
    if !inside() {
        bail!("a lab runs only as process 1 of its own namespaces");
    }
    watch_lifeline();
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .context("mount a tmpfs on /run")?;
    // Programs of other packages (BIRD among them) expect their folder below /run.
    for dir in [LAB_DIR, "/run/lock", "/run/bird"] {
        std::fs::create_dir_all(dir).context(dir)?;
    }
    let hub = Netns::adopt(HUB)?;
    hub.ip("link set lo up")?;
    Ok(hub)
}

fn watch_lifeline() {
    std::thread::spawn(|| {
        let mut byte = [0];
        loop {
            match std::io::stdin().read(&mut byte) {
                Ok(1) if byte[0] == KEEP => return,
                Ok(1) => {}
                Ok(_) => std::process::exit(137),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => std::process::exit(137),
            }
        }
    });
}

/// Runs the body of a test inside namespaces of its own.
///
/// `test` is the test's full name as `cargo test -- --list` prints it. The test binary starts itself again for that one
/// test; there, `body` runs, and its error or panic fails the test out here, with everything that it wrote.
///
/// # Panics
///
/// If the body fails, and if it isn't root who runs the test.
pub fn isolated(test: &str, body: impl FnOnce() -> Result<()>) {
    if inside() {
        if let Err(error) = settle().and_then(|_| body()) {
            panic!("{error:#}");
        }
        return;
    }
    if let Err(error) = rerun(test) {
        panic!("{error:#}");
    }
}

fn rerun(test: &str) -> Result<()> {
    require_root()?;
    let mut command = command(&std::env::current_exe()?, Lifetime::Owner);
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"].map(OsStr::new));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("start unshare")?;
    let lifeline = child.stdin.take();
    let output = child.wait_with_output()?;
    drop(lifeline);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let told = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    for line in told.lines() {
        println!("  | {line}");
    }
    if !output.status.success() {
        bail!("{test} failed inside its namespaces: {}", output.status);
    }
    if !stdout.contains("1 passed") {
        bail!("there is no test named {test}: the name given to `isolated` is not the test's full name");
    }
    Ok(())
}
