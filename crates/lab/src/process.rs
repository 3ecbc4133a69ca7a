use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Netns;

/// What a finished program wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program to its end; another exit code than 0 is an error that holds its stderr.
pub fn run(command: &mut Command) -> Result<Output> {
    checked(command, &[])
}

/// [`run`] with something on stdin.
pub fn run_with_stdin(command: &mut Command, input: &[u8]) -> Result<Output> {
    checked(command, input)
}

fn checked(command: &mut Command, input: &[u8]) -> Result<Output> {
    let output = run_any(command, input)?;
    if output.code != 0 {
        bail!("{} exited with {}: {}{}", shown(command), output.code, output.stderr.trim(), output.stdout.trim());
    }
    Ok(output)
}

/// Runs a program to its end, whatever its exit code. Death by signal N is code 128 + N.
pub fn run_any(command: &mut Command, input: &[u8]) -> Result<Output> {
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {}", shown(command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
    }
    let output = child.wait_with_output().with_context(|| shown(command))?;
    Ok(Output {
        code: code_of(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The command line as one would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A long-running program inside a namespace, its output appended to a log file. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a program in a namespace, in a process group of its own, so that a Ctrl-C on the terminal reaches only
    /// the lab itself.
    pub fn start(name: &str, netns: &Netns, command: &mut Command, log: &Path) -> Result<Process> {
        let file = open_log(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = netns.enter(|| command.spawn().with_context(|| format!("start {}", shown(command))))?;
        Ok(Process { name: name.to_owned(), log: log.to_owned(), child })
    }

    /// The process id, as seen inside the lab.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The name that it was started with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fails if the program has ended, with the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(anyhow!("{} ended with {}:\n{}", self.name, code_of(status), tail(&self.log, 15))),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// SIGKILL, and waits until the kernel has closed its sockets.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for its end; its exit code.
    pub fn terminate(mut self, limit: Duration) -> Result<i32> {
        self.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(code_of(status));
            }
            if Instant::now() >= deadline {
                bail!("{} still runs {:.1} s after SIGTERM", self.name, limit.as_secs_f64());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error here means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open_log(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    OpenOptions::new().create(true).append(true).open(path).with_context(|| path.display().to_string())
}

/// The last lines of a file; what can't be read is told in its place.
pub fn tail(path: &Path, lines: usize) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({}: {error})", path.display()),
    }
}
