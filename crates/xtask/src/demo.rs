//! `cargo demo`: installs what is missing, builds, and hands over to `margay-lab`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cargo::{Workspace, cargo};
use crate::{apt, packages};

/// Returns only with an error: the last thing is to become `margay-lab`.
pub(crate) fn run(arguments: &[OsString]) -> Result<bool> {
    apt::require_root("demo")?;
    let workspace = Workspace::read()?;
    let lab = workspace.release().join("margay-lab");
    let first = arguments.first().and_then(|first| first.to_str());
    if matches!(first, Some("exec" | "down")) {
        if !lab.exists() {
            bail!("no lab is up: {} isn't built", lab.display());
        }
        return Err(Command::new(&lab).args(arguments).exec()).with_context(|| lab.display().to_string());
    }
    let start = Instant::now();
    let etcd = arguments.iter().any(|argument| argument.to_string_lossy().contains("etcd"));
    apt::ensure(&packages::of_demo(etcd))?;
    println!("building (release) ...");
    let status = cargo(&["build", "--quiet", "--release", "--bins"])
        .args(["-p", "margay-node", "-p", "margay-ctl", "-p", "margay-cni", "-p", "margay-lab"])
        .current_dir(&workspace.root)
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("the build failed");
    }
    println!("installed and built in {:.1} s\n", start.elapsed().as_secs_f64());
    let mut command = Command::new(&lab);
    command.arg("demo").arg("--config").arg(workspace.root.join("config/examples")).args(arguments);
    Err(command.exec()).with_context(|| lab.display().to_string())
}
