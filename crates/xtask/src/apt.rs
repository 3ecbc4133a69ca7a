//! Installs Debian packages that are missing, after saying so, and keeps their daemons from starting.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Uid;

use crate::packages::Package;

/// Fails with advice unless run by root.
pub(crate) fn require_root(task: &str) -> Result<()> {
    if Uid::effective().is_root() {
        return Ok(());
    }
    bail!("cargo {task} needs root: it makes network namespaces and installs packages; run it as root");
}

/// Installs what is missing of the packages.
pub(crate) fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().filter(|p| !is_there(p.program)).map(|p| p.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing with apt-get: {}", missing.join(" "));
    if !is_there("apt-get") {
        bail!("there is no apt-get here; install what Debian calls {} by other means", missing.join(", "));
    }
    if !Uid::effective().is_root() {
        bail!("apt-get needs root; run this as root once, or install {} by other means", missing.join(", "));
    }
    if !has_lists() {
        run("apt-get", &["update", "-qq"])?;
    }
    let policy = NoStart::put(Path::new("/usr/sbin/policy-rc.d"))?;
    // A Ctrl-C would leave half-configured packages and the policy behind; it takes effect right after.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().context("block signals")?;
    let installed = install(&missing);
    let removed = policy.remove();
    signals.thread_unblock().context("unblock signals")?;
    installed.and(removed)?;
    let still: Vec<&str> = packages.iter().filter(|p| !is_there(p.program)).map(|p| p.program).collect();
    if !still.is_empty() {
        bail!("installed, but not there: {}", still.join(", "));
    }
    Ok(())
}

fn install(names: &[&str]) -> Result<()> {
    let arguments = [&["install", "-y", "-qq", "--no-install-recommends"], names].concat();
    if run("apt-get", &arguments).is_ok() {
        return Ok(());
    }
    // Old lists name files that are no longer there.
    run("apt-get", &["update", "-qq"])?;
    run("apt-get", &arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("start {program}"))?;
    if status.success() { Ok(()) } else { bail!("{program} {}: {status}", arguments.join(" ")) }
}

/// Whether a program is in the search path or in a system folder that an ordinary user's path lacks.
fn is_there(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

fn has_lists() -> bool {
    let Ok(entries) = fs::read_dir("/var/lib/apt/lists") else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
}

/// A `policy-rc.d` that forbids packages to start their daemons. One that the machine has already is left as it is.
struct NoStart<'a> {
    path: &'a Path,
    ours: bool,
}

const FORBID: &str = "#!/bin/sh\n# Put here by Margay's xtask while it installs packages; safe to remove.\nexit 101\n";

impl NoStart<'_> {
    fn put(path: &Path) -> Result<NoStart<'_>> {
        match fs::read_to_string(path) {
            // Left by a run that was killed.
            Ok(text) => Ok(NoStart { path, ours: text == FORBID }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::write(path, FORBID).with_context(|| path.display().to_string())?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
                Ok(NoStart { path, ours: true })
            }
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    fn remove(self) -> Result<()> {
        if self.ours {
            fs::remove_file(self.path).with_context(|| format!("remove {}", self.path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("margay-xtask-{}-{name}", std::process::id()))
    }

    #[test]
    fn the_policy_is_removed_if_it_was_not_there() {
        let path = file("absent");
        let policy = NoStart::put(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), FORBID);
        policy.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_policy_of_the_machine_is_left_alone() {
        let path = file("present");
        fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        NoStart::put(&path).unwrap().remove().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "#!/bin/sh\nexit 0\n");
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_policy_left_by_a_killed_run_is_removed() {
        let path = file("stale");
        fs::write(&path, FORBID).unwrap();
        NoStart::put(&path).unwrap().remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        assert!(is_there("sh"));
        assert!(is_there("/bin/sh"));
        assert!(!is_there("no-such-program-of-margay"));
    }
}
