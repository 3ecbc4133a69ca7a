use std::any::Any;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// A daemon in the foreground, killed when dropped; its output goes to a file.
pub struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    #[track_caller]
    pub fn start(mut command: Command, output: &Path) -> Process {
        let file = File::create(output).expect("the daemon's output file");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a second descriptor")).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process { child, output: output.to_owned() }
    }

    /// Stops the process as SIGSTOP does: its sockets stay, it says nothing.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Stops or continues all processes of the group that this one leads.
    pub fn pause_group(&self, paused: bool) {
        let group = Pid::from_raw(self.child.id().try_into().expect("a process id"));
        killpg(group, if paused { Signal::SIGSTOP } else { Signal::SIGCONT }).expect("signalling a group");
    }

    /// Whether no socket of its network namespace holds bytes that it has not read.
    pub fn has_read_all(&self) -> bool {
        ["tcp", "tcp6"].iter().all(|table| {
            let table = read(Path::new(&format!("/proc/{}/net/{table}", self.child.id())));
            // The fifth column is the lengths of the send and receive queues; for a listener (state 0A) it is
            // connections.
            table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()).all(|columns| {
                columns[3] == "0A" || columns[4].split_once(':').is_some_and(|(_, unread)| unread == "00000000")
            })
        })
    }

    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Fails the test with the daemon's own words if it ended.
    #[track_caller]
    pub fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("waiting for a child") {
            panic!("the peer ended with {status}: {}", self.output());
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a process id"));
        kill(pid, signal).expect("signalling a child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.output();
            let last: Vec<&str> = output.lines().rev().take(60).collect();
            println!("what {} has last:", self.output.display());
            last.iter().rev().for_each(|line| println!("  {line}"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command and returns what it printed, or what went wrong.
pub fn run(mut command: Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{command:?}: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// What a panic said.
pub fn panic_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "panic".to_owned())
}

/// Fails the test in one line where a program is absent.
#[track_caller]
pub fn require(program: &str, package: &str) {
    let found = Path::new(program).is_absolute() && Path::new(program).exists()
        || std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
        || ["/usr/sbin", "/sbin"].iter().any(|dir| Path::new(dir).join(program).exists());
    assert!(found, "{program} is not installed: apt-get install {package}");
}

/// Reads a file that may not be there yet.
pub fn read(path: &Path) -> String {
    match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}
