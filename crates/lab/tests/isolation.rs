//! What is left of a lab when its owner is gone, and what two labs notice of each other.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use margay_lab::{isolation, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(20);

/// A fabric that is up, held by a process; its processes bear a mark in their environment.
struct Held {
    owner: Child,
    mark: String,
}

impl Held {
    fn start(mark: &str) -> Held {
        isolation::require_root().unwrap();
        let mark = format!("{mark}-{}", std::process::id());
        let mut owner = Command::new(env!("CARGO_BIN_EXE_margay-lab"))
            .arg("fabric")
            .env("MARGAY_LAB_MARK", &mark)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("up: "), "{line}");
        Held { owner, mark }
    }

    /// The processes of the lab, its owner's among them.
    fn processes(&self) -> Vec<u32> {
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == format!("MARGAY_LAB_MARK={}", self.mark).as_bytes())
        })
        .collect()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.owner.id() as i32), signal).unwrap();
    }

    fn wait_until_gone(&mut self) {
        self.owner.wait().unwrap();
        until(LIMIT, "no process of the lab is left", || {
            let left = self.processes();
            anyhow::ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .unwrap();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.owner.kill();
        let _ = self.owner.wait();
    }
}

/// What of labs the host sees: bound namespaces, links and mounts.
fn host() -> (BTreeSet<String>, BTreeSet<String>, Vec<String>) {
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    };
    let ours = |name: &String| ["spine", "tor-", "node-", "hub"].iter().any(|prefix| name.starts_with(prefix));
    let of_labs = |folder| names(folder).into_iter().filter(ours).collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let of_run = |line: &&str| {
        let at = line.split(' ').nth(4).unwrap_or_default();
        at == "/run" || at.strip_prefix("/run/netns/").is_some_and(|name| ours(&name.to_owned()))
    };
    let mounts = mounts.lines().filter(of_run).map(str::to_owned).collect();
    (of_labs("/run/netns"), of_labs("/sys/class/net"), mounts)
}

#[test]
fn a_lab_leaves_nothing_when_its_owner_is_killed() {
    let before = host();
    let mut lab = Held::start("killed");
    assert!(lab.processes().len() >= 8, "owner, unshare, process 1 and six routers: {:?}", lab.processes());
    assert_eq!(host(), before, "the host sees a lab");
    lab.signal(Signal::SIGKILL);
    lab.wait_until_gone();
    assert_eq!(host(), before);
}

#[test]
fn a_lab_leaves_nothing_when_its_owner_is_asked_to_stop() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut lab = Held::start("stopped");
        lab.signal(signal);
        assert_eq!(lab.owner.wait().unwrap().code(), Some(128 + signal as i32));
        lab.wait_until_gone();
    }
}

#[test]
fn a_killed_process_1_ends_the_owner_too() {
    let mut lab = Held::start("one");
    let first = lab
        .processes()
        .into_iter()
        .find(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
        })
        .unwrap();
    kill(Pid::from_raw(first as i32), Signal::SIGKILL).unwrap();
    assert!(!lab.owner.wait().unwrap().success());
    lab.wait_until_gone();
}

#[test]
fn one_of_two_labs_doesnt_notice_the_end_of_the_other() {
    let mut one = Held::start("first");
    let two = Held::start("second");
    let processes = two.processes();
    one.signal(Signal::SIGKILL);
    one.wait_until_gone();
    assert_eq!(two.processes(), processes);
}
