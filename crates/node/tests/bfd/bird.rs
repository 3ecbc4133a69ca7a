use std::path::PathBuf;
use std::process::Command;

use crate::lab::{INTERFACE, Lab, Process, printed};
use crate::peers::{Peer, Seen, require};

pub struct Bird {
    process: Process,
    dir: PathBuf,
}

impl Bird {
    pub fn start(lab: &Lab) -> Bird {
        require("bird", "bird2");
        let dir = lab.dir().to_owned();
        std::fs::write(dir.join("bird.conf"), config(lab, 100)).unwrap();
        let mut command = lab.theirs.command_in_real_time("bird");
        command
            .arg("-f")
            .arg("-c")
            .arg(dir.join("bird.conf"))
            .arg("-s")
            .arg(dir.join("s"))
            .arg("-P")
            .arg(dir.join("pid"));
        Bird { process: Process::start(command, &dir.join("bird.out")), dir }
    }

    /// Has another interval both ways.
    pub fn reconfigure(&self, lab: &Lab, interval_ms: u32) {
        std::fs::write(self.dir.join("bird.conf"), config(lab, interval_ms)).unwrap();
        self.command(&["configure"]).unwrap();
    }

    pub fn command(&self, words: &[&str]) -> Result<String, String> {
        printed(Command::new("birdc").arg("-s").arg(self.dir.join("s")).args(words))
    }
}

impl Peer for Bird {
    fn process(&self) -> &Process {
        &self.process
    }

    fn seen(&self) -> Result<Seen, String> {
        let table = self.command(&["show", "bfd", "sessions"])?;
        // Address, interface, state, since, interval, timeout.
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.rfind(|row| row.len() == 6 && row[4].parse::<f64>().is_ok());
        let row = row.ok_or_else(|| format!("no session: {table}"))?;
        let seconds: f64 = row[4].parse().map_err(|_| table.clone())?;
        let interval_ms = (seconds * 1000.0).round() as u64;
        Ok(Seen { is_up: row[2] == "Up", interval_ms, remote_diagnostic: String::new() })
    }
}

fn config(lab: &Lab, interval_ms: u32) -> String {
    let (dir, ours, theirs) = (lab.dir().display(), lab.way.our_address(), lab.way.their_address());
    let timers = format!("min rx interval {interval_ms} ms; min tx interval {interval_ms} ms; multiplier 3;");
    let neighbor = if lab.way.is_multihop() {
        format!("neighbor {ours} local {theirs} multihop on;")
    } else {
        format!("neighbor {ours} dev \"{INTERFACE}\" local {theirs};")
    };
    format!(
        "log \"{dir}/bird.log\" all;\n\
         debug protocols all;\n\
         router id 192.0.2.2;\n\
         protocol device {{ }}\n\
         protocol bfd {{\n interface \"{INTERFACE}\" {{ {timers} }};\n multihop {{ {timers} }};\n {neighbor}\n}}\n"
    )
}
