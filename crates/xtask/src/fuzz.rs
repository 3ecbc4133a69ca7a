//! `cargo fuzz-bgp`: libFuzzer on the targets of `bgp/fuzz`, with any compiler: what it needs are the flags below, not a
//! nightly one. The decoders have no unsafe code, so that a sanitizer would find nothing that a panic doesn't show.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::{Workspace, cargo};
use crate::{apt, packages};

/// Has LLVM count which code is reached and what is compared with what, as libFuzzer wants it.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Clink-dead-code",
    "--cfg=fuzzing",
];

const USAGE: &str = "\
cargo fuzz-bgp TARGET SECONDS      tries a target; what it finds on the way is kept in target/fuzz/corpus
cargo fuzz-bgp --merge TARGET      takes the few files that reach all new code over into bgp/fuzz/corpus
cargo fuzz-bgp TARGET FILE         tries one input";

/// Whether nothing was found.
pub(crate) fn run(arguments: &[OsString]) -> Result<bool> {
    let workspace = Workspace::read()?;
    let seeds = workspace.root.join("bgp/fuzz/corpus");
    let words: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let targets = targets(&seeds)?;
    let known = |target: &str| targets.iter().any(|known| known == target);
    match *words.as_slice() {
        ["--merge", target] if known(target) => Fuzzer::build(&workspace, target)?.merge(&seeds.join(target)),
        [target, what] if known(target) => {
            let fuzzer = Fuzzer::build(&workspace, target)?;
            match what.parse::<u64>() {
                Ok(seconds) => fuzzer.search(&seeds.join(target), seconds),
                Err(_) => fuzzer.call(&[what.into()]),
            }
        }
        _ => bail!("{USAGE}\n\ntargets: {}", targets.join(", ")),
    }
}

/// The targets, which are the folders of the corpus.
fn targets(seeds: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(seeds).with_context(|| seeds.display().to_string())?;
    let mut targets: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    targets.sort();
    Ok(targets)
}

struct Fuzzer {
    binary: PathBuf,
    target: String,
    /// What libFuzzer found to reach new code.
    found: PathBuf,
    /// What made a target panic.
    failures: PathBuf,
}

impl Fuzzer {
    fn build(workspace: &Workspace, target: &str) -> Result<Fuzzer> {
        apt::ensure(&packages::of_fuzz_bgp())?;
        let root = workspace.target.join("fuzz");
        let host = host()?;
        // With a target given, the flags are not for what runs in the build.
        let status = cargo(&["build", "--release", "--target", &host])
            .arg("--manifest-path")
            .arg(workspace.root.join("bgp/fuzz/libfuzzer/Cargo.toml"))
            .arg("--target-dir")
            .arg(&root)
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
            .status()
            .context("start cargo")?;
        if !status.success() {
            bail!("the build failed");
        }
        let fuzzer = Fuzzer {
            binary: root.join(host).join("release/margay-bgp-libfuzzer"),
            target: target.to_owned(),
            found: root.join("corpus").join(target),
            failures: root.join("failures").join(target),
        };
        for folder in [&fuzzer.found, &fuzzer.failures] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(fuzzer)
    }

    fn search(&self, seeds: &Path, seconds: u64) -> Result<bool> {
        let failures = format!("-artifact_prefix={}/", self.failures.display());
        let options = [failures, format!("-max_total_time={seconds}")];
        let arguments = options.iter().map(OsString::from);
        let clean = self.call(&arguments.chain([self.found.clone().into(), seeds.into()]).collect::<Vec<_>>())?;
        if !clean {
            println!("what was tried last is in {}", self.failures.display());
        }
        Ok(clean)
    }

    /// Takes as few files as reach all the code; how often each reaches it would make them ten times as many.
    fn merge(&self, seeds: &Path) -> Result<bool> {
        let options = ["-set_cover_merge=1", "-use_counters=0"].map(OsString::from);
        let folders = [seeds.into(), self.found.clone().into()];
        self.call(&options.into_iter().chain(folders).collect::<Vec<_>>())
    }

    fn call(&self, arguments: &[OsString]) -> Result<bool> {
        let mut command = Command::new(&self.binary);
        command.args(["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]).args(arguments);
        let status = command.env("MARGAY_FUZZ_TARGET", &self.target).status();
        Ok(status.with_context(|| self.binary.display().to_string())?.success())
    }
}

/// The platform that is compiled on.
fn host() -> Result<String> {
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV").output();
    let output = String::from_utf8(output.context("start rustc")?.stdout)?;
    let host = output.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}
