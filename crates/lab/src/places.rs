//! Where one can go in a lab: a namespace and an environment under a name that people know, as in `node-a1`,
//! `frontend-a1`, `tor-b2` or `hub`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{Binaries, Netns, isolation};

#[derive(Debug, Serialize, Deserialize)]
struct Place {
    netns: String,
    environment: BTreeMap<String, String>,
}

fn file(name: &str) -> PathBuf {
    Path::new(isolation::LAB_DIR).join("places").join(format!("{name}.json"))
}

/// Notes a place. A namespace that is named like the place and needs no environment needs no note.
pub(crate) fn write(name: &str, netns: &str, environment: &BTreeMap<String, String>) -> Result<()> {
    let path = file(name);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let place = Place { netns: netns.to_owned(), environment: environment.clone() };
    std::fs::write(&path, serde_json::to_vec(&place)?).with_context(|| path.display().to_string())
}

/// Replaces this process by a command at a place, its environment set and the Margay programs in its `PATH`. The
/// process must be in the lab's PID and mount namespaces already; returns only with an error.
pub fn exec(name: &str, words: &[OsString]) -> Result<()> {
    let place = match std::fs::read(file(name)) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| file(name).display().to_string())?,
        Err(_) => Place { netns: name.to_owned(), environment: BTreeMap::new() },
    };
    Netns::open(&place.netns)?.join_thread()?;
    let Some((program, args)) = words.split_first() else { bail!("no command given") };
    let path = std::env::var("PATH").unwrap_or_default();
    let binaries = Binaries::locate()?.dir().display().to_string();
    // What the program finds under these names is this lab's, not the caller's.
    let mut command = Command::new(program);
    command.args(args).envs(place.environment).env("PATH", format!("{binaries}:{path}"));
    Err(command.exec()).with_context(|| program.display().to_string())
}
