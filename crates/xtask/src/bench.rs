//! `cargo bench-bgp`: installs what is missing, builds, and hands over to `margay-lab bench-bgp`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::{Workspace, cargo};
use crate::{apt, packages};

/// Returns only with an error: the last thing is to become `margay-lab`.
pub(crate) fn run(arguments: &[OsString]) -> Result<bool> {
    apt::require_root("bench-bgp")?;
    let workspace = Workspace::read()?;
    apt::ensure(&packages::of_bench_bgp())?;
    println!("building (release) ...");
    let status = cargo(&["build", "--quiet", "--release"])
        .args(["-p", "margay-lab", "-p", "margay-bgp-speaker", "--bins", "--example", "bench_speaker"])
        .current_dir(&workspace.root)
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("the build failed");
    }
    let lab = workspace.release().join("margay-lab");
    let mut command = Command::new(&lab);
    command.arg("bench-bgp").args(arguments);
    if let Some(folder) = folder(&workspace, arguments) {
        println!("the report comes to {}", folder.display());
        command.arg("--out").arg(folder);
    }
    Err(command.exec()).with_context(|| lab.display().to_string())
}

/// Where the report goes: a full run makes the project's pages anew, one with options of its own leaves them alone.
fn folder(workspace: &Workspace, arguments: &[OsString]) -> Option<PathBuf> {
    let is_out = |argument: &OsString| argument.to_str().is_some_and(|text| text.starts_with("--out="));
    if arguments.iter().any(|argument| argument == "--out" || is_out(argument)) {
        return None;
    }
    let full = arguments.is_empty();
    Some(if full { workspace.root.join("docs/benchmarks") } else { workspace.target.join("bench-bgp") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_run_makes_the_projects_pages_anew() {
        let workspace = Workspace { root: "/w".into(), target: "/t".into(), tests: Vec::new() };
        let folder = |arguments: &[&str]| folder(&workspace, &arguments.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(folder(&[]), Some("/w/docs/benchmarks".into()));
        assert_eq!(folder(&["--runs", "1"]), Some("/t/bench-bgp".into()));
        assert_eq!(folder(&["--out", "/x"]), None);
        assert_eq!(folder(&["--out=/x"]), None);
    }
}
