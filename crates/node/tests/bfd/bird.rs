use std::path::PathBuf;
use std::process::Command;

use crate::lab::{INTERFACE, Lab, Process, printed};
use crate::peers::{HOLD_SECONDS, OUR_ASN, PEER_ASN, Peer, Seen, require};

pub struct Bird {
    process: Process,
    dir: PathBuf,
}

impl Bird {
    pub fn start(lab: &Lab) -> Bird {
        Bird::start_with(lab, &config(lab, 100))
    }

    /// With a BGP session that asks for the BFD session.
    pub fn start_with_bgp(lab: &Lab) -> Bird {
        Bird::start_with(lab, &bgp_config(lab))
    }

    fn start_with(lab: &Lab, config: &str) -> Bird {
        require("bird", "bird2");
        let dir = lab.dir().to_owned();
        std::fs::write(dir.join("bird.conf"), config).unwrap();
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

    fn bgp_is_up(&self) -> Result<bool, String> {
        Ok(self.command(&["show", "protocols", "margay"])?.contains("Established"))
    }

    fn falls(&self) -> usize {
        let log = std::fs::read_to_string(self.dir.join("bird.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains("margay: ") && line.contains("BFD session down")).count()
    }
}

fn config(lab: &Lab, interval_ms: u32) -> String {
    let (ours, theirs) = (lab.way.our_address(), lab.way.their_address());
    let neighbor = if lab.way.is_multihop() {
        format!("neighbor {ours} local {theirs} multihop on;")
    } else {
        format!("neighbor {ours} dev \"{INTERFACE}\" local {theirs};")
    };
    head(lab, interval_ms, &neighbor)
}

fn bgp_config(lab: &Lab) -> String {
    let (ours, theirs) = (lab.way.our_address(), lab.way.their_address());
    let (hops, channel) =
        (if lab.way.is_multihop() { "multihop" } else { "direct" }, if ours.is_ipv4() { "ipv4" } else { "ipv6" });
    let bgp = format!(
        "protocol bgp margay {{\n local {theirs} as {PEER_ASN};\n neighbor {ours} as {OUR_ASN};\n {hops};\n\
         hold time {HOLD_SECONDS}; connect retry time 1; error wait time 1, 1;\n bfd on;\n\
         {channel} {{ import all; export none; }};\n}}\n"
    );
    head(lab, 100, "") + &bgp
}

fn head(lab: &Lab, interval_ms: u32, neighbor: &str) -> String {
    let dir = lab.dir().display();
    let timers = format!("min rx interval {interval_ms} ms; min tx interval {interval_ms} ms; multiplier 3;");
    format!(
        "log \"{dir}/bird.log\" all;\n\
         debug protocols all;\n\
         router id 192.0.2.2;\n\
         protocol device {{ }}\n\
         protocol bfd {{\n interface \"{INTERFACE}\" {{ {timers} }};\n multihop {{ {timers} }};\n {neighbor}\n}}\n"
    )
}
