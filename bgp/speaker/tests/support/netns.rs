use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace with loopback up, held by a file descriptor.
pub struct Netns {
    file: File,
}

impl Netns {
    pub fn new() -> Netns {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests make network namespaces: run them as root");
            File::open("/proc/thread-self/ns/net").expect("the thread's namespace")
        })
        .join()
        .expect("the thread that makes the namespace");
        let netns = Netns { file };
        netns.ip(&["link", "set", "lo", "up"]);
        netns
    }

    /// The path by which another process finds the namespace.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// A command that runs in the namespace and dies with the calling thread.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter", &format!("--net={}", self.path()), program]);
        command
    }

    /// Runs `ip`, which must succeed.
    #[track_caller]
    pub fn ip(&self, arguments: &[&str]) {
        let output = self.command("ip").args(arguments).output().expect("ip: install iproute2 and util-linux");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {}: {error}", arguments.join(" "));
    }

    /// Runs a closure on a thread of its own in the namespace.
    pub fn thread<T: Send + 'static>(&self, name: &str, run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let file = self.file.try_clone().expect("a second descriptor");
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                setns(&file, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
                run()
            })
            .expect("a thread")
    }
}
