//! Many sessions on a machine that has other things to do.

use std::process::Command;
use std::time::{Duration, Instant};

use margay_local_api::{BfdProcessStatus, BfdRequest, BfdSessionConfig, BfdSessionState};

use crate::client::{Client, status};
use crate::lab::{INTERFACE, Lab, Process, Way, within};
use crate::margay::Margay;

const SESSIONS: usize = 100;

/// Both ends' sets: one session for each pair of addresses.
fn sessions(end: usize) -> Vec<BfdSessionConfig> {
    let address = |end: usize, n: usize| format!("10.9.{end}.{n}").parse().unwrap();
    let session = |n: usize| BfdSessionConfig {
        id: format!("{n}"),
        remote: address(1 - end, n),
        local: Some(address(end, n)),
        interface: Some(INTERFACE.to_owned()),
        multihop: false,
        min_tx_ms: 100,
        min_rx_ms: 100,
        multiplier: 3,
        min_ttl: None,
        passive: false,
    };
    (1..=SESSIONS).map(session).collect()
}

/// Clock ticks (10 ms) that a process has used: `utime` and `stime` of `proc(5)`.
fn ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn resident_kib(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned()
}

fn flaps(status: &BfdProcessStatus) -> u64 {
    status.sessions.iter().map(|session| session.flaps).sum()
}

#[test]
fn a_hundred_sessions_stay_up_while_every_processor_is_busy() {
    let lab = Lab::new(Way::V4);
    for (end, netns) in [&lab.ours, &lab.theirs].into_iter().enumerate() {
        let addresses: Vec<String> = (1..=SESSIONS).map(|n| format!("10.9.{end}.{n}/16")).collect();
        netns.set_up(INTERFACE, &addresses.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let margays = [Margay::start_in(&lab.ours, &lab, "ours"), Margay::start_in(&lab.theirs, &lab, "theirs")];
    let mut clients: Vec<Client> = margays.iter().map(Margay::attach).collect();
    for (end, client) in clients.iter_mut().enumerate() {
        client.say(&BfdRequest::Sessions { owner: "test".to_owned(), sessions: sessions(end) });
    }
    let settled = || {
        for margay in &margays {
            let status = status(&margay.socket);
            let is_settled = |session: &margay_local_api::BfdSessionStatus| {
                session.state == BfdSessionState::Up && session.detection_time_ms == 300
            };
            let count = status.sessions.iter().filter(|session| is_settled(session)).count();
            if count < SESSIONS {
                return Err(format!("{count} sessions are up"));
            }
        }
        Ok(())
    };
    within(Duration::from_secs(20), "all sessions are up", settled);
    let before: Vec<u64> = margays.iter().map(|margay| flaps(&status(&margay.socket))).collect();
    let burners: Vec<Process> = (0..2 * std::thread::available_parallelism().unwrap().get())
        .map(|n| {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "sh", "-c", "while :; do :; done"]);
            Process::start(command, &lab.dir().join(format!("burner{n}.out")))
        })
        .collect();
    let pid = status(&margays[0].socket).pid;
    let (start, used) = (Instant::now(), ticks(pid));
    // The span is what is tested: no session may fail in it.
    std::thread::sleep(Duration::from_secs(8));
    let spent = Duration::from_millis(10 * (ticks(pid) - used));
    let (load, memory) = (spent.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0, resident_kib(pid));
    drop(burners);
    for (margay, before) in margays.iter().zip(before) {
        let status = status(&margay.socket);
        println!("{SESSIONS} sessions, 3 x 100 ms: {load:.1} % of a processor, {memory}, {:?}", status.lateness);
        let down = status.sessions.iter().find(|session| session.state != BfdSessionState::Up);
        assert!(down.is_none(), "{down:#?}, {:?}", status.lateness);
        assert_eq!(flaps(&status), before, "{:?}", status.lateness);
        assert_eq!(status.dropped_by_kernel, 0);
    }
}
