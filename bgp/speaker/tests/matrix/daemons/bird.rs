use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use margay_net::Cidr;

use super::{Daemon, Path, Setup};
use crate::support::process::{Process, read, require, run};
use crate::support::{INTERFACE, Lab};

pub struct Bird {
    process: Process,
    ours: IpAddr,
    collector: IpAddr,
    dir: PathBuf,
}

pub fn start(lab: &Lab, setup: &Setup, recovers: bool) -> Bird {
    require("bird", "bird2");
    let dir = lab.dir().to_owned();
    std::fs::write(dir.join("bird.conf"), config(lab, setup)).unwrap();
    let mut command = lab.theirs.command("bird");
    command.args(recovers.then_some("-R")).arg("-f").arg("-c").arg(dir.join("bird.conf"));
    command.arg("-s").arg(dir.join("s")).arg("-P").arg(dir.join("pid"));
    let process = Process::start(command, &dir.join("bird.out"));
    Bird { process, ours: lab.our_address(), collector: lab.collector_address(), dir }
}

impl Bird {
    fn command(&self, words: &str) -> Result<String, String> {
        let mut command = std::process::Command::new("birdc");
        command.arg("-s").arg(self.dir.join("s")).args(words.split(' '));
        run(command)
    }

    fn protocol(&self, neighbor: IpAddr) -> &'static str {
        if neighbor == self.ours { "margay" } else { "collector" }
    }
}

impl Daemon for Bird {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn paths(&self, prefix: Cidr, neighbor: IpAddr) -> Result<Vec<Path>, String> {
        let mut command = std::process::Command::new("birdc");
        command.arg("-s").arg(self.dir.join("s"));
        let text = match run({
            command.args(["show", "route", &prefix.to_string(), "protocol", self.protocol(neighbor), "all"]);
            command
        }) {
            Err(error) if error.contains("Network not found") => return Ok(Vec::new()),
            text => text?,
        };
        let mut paths: Vec<BTreeMap<&str, &str>> = Vec::new();
        for line in text.lines() {
            if line.contains("unicast [") {
                paths.push(BTreeMap::new());
            } else if let (Some((name, value)), Some(path)) =
                (line.trim().strip_prefix("BGP.").and_then(|line| line.split_once(':')), paths.last_mut())
            {
                path.insert(name, value.trim());
            }
        }
        Ok(paths.iter().map(path).collect())
    }

    fn best(&self, prefix: Cidr) -> Result<Option<IpAddr>, String> {
        let text = self.command(&format!("show route {prefix} primary"))?;
        Ok([self.ours, self.collector]
            .into_iter()
            .find(|&neighbor| text.contains(&format!("[{} ", self.protocol(neighbor)))))
    }

    fn hold_time(&self, neighbor: IpAddr) -> Result<u64, String> {
        let text = self.command(&format!("show protocols all {}", self.protocol(neighbor)))?;
        let line = text.lines().find(|line| line.contains("Hold timer:")).ok_or_else(|| text.clone())?;
        // What is left of it, and all of it.
        line.rsplit('/').next().and_then(|all| all.trim().parse().ok()).ok_or_else(|| line.to_owned())
    }

    fn log(&self) -> String {
        read(&self.dir.join("bird.log"))
    }

    fn refresh(&self, neighbor: IpAddr) {
        self.command(&format!("reload in {}", self.protocol(neighbor))).unwrap();
    }

    fn saw_enhanced_refresh(&self, _: IpAddr) -> Result<(), String> {
        let log = self.log();
        let saw = log.contains("margay: Got BEGIN-OF-RR") && log.contains("margay: Got END-OF-RR");
        if saw { Ok(()) } else { Err(log) }
    }

    fn words_for(&self, code: u8, subcode: u8) -> Vec<String> {
        let words = match (code, subcode) {
            (6, 1) => "Maximum number of prefixes reached",
            other => panic!("{other:?} in BIRD's words"),
        };
        vec![format!("margay: Received: {words}")]
    }

    fn shut_down(&self, neighbor: IpAddr, why: &str) {
        let mut command = std::process::Command::new("birdc");
        command.arg("-s").arg(self.dir.join("s"));
        command.args(["disable", self.protocol(neighbor), &format!("\"{why}\"")]);
        run(command).unwrap();
    }

    fn withdraw(&self) {
        self.command("disable announced").unwrap();
    }
}

fn path(attributes: &BTreeMap<&str, &str>) -> Path {
    let text = |name: &str| attributes.get(name).copied().unwrap_or_default();
    // Of communities: `(65001,100) (65001,200)`, `(rt, 65001, 100)`.
    let list = |name: &str| -> Vec<String> {
        let items = text(name).split(')').map(|item| item.trim().trim_start_matches('('));
        items.filter(|item| !item.is_empty()).map(|item| item.replace(", ", ":").replace(',', ":")).collect()
    };
    Path {
        as_path: text("as_path").to_owned(),
        next_hop: text("next_hop").split(' ').next().and_then(|address| address.parse().ok()),
        origin: text("origin").to_lowercase(),
        med: text("med").parse().ok(),
        local_pref: text("local_pref").parse().ok(),
        communities: list("community"),
        large_communities: list("large_community"),
        extended_communities: list("ext_community"),
        originator_id: text("originator_id").parse().ok(),
        cluster_list: text("cluster_list").split(' ').filter_map(|id| id.parse().ok()).collect(),
    }
}

fn config(lab: &Lab, setup: &Setup) -> String {
    let (channel, dir, asn) = (setup.family, lab.dir().display(), setup.peer_asn);
    let mut text = format!(
        "log \"{dir}/bird.log\" all;\n\
         debug protocols {{ states, events, packets }};\n\
         router id 192.0.2.2;\n\
         protocol device {{ }}\n\
         protocol direct {{ {channel}; interface \"{INTERFACE}\"; }}\n\
         filter OUT {{\n\
           if source = RTS_BGP then accept;\n\
           if proto = \"discarded\" then {{ bgp_community.add((65535,666)); accept; }}\n\
           if proto != \"announced\" then reject;\n\
           bgp_origin = ORIGIN_EGP; bgp_med = 77; bgp_community.add((65001,100));\n\
           bgp_large_community.add((65001,1,2)); bgp_ext_community.add((rt,65001,100)); accept;\n\
         }}\n\
         protocol static announced {{ {channel};\n"
    );
    for prefix in lab.peer_prefixes() {
        writeln!(text, "  route {prefix} blackhole;").unwrap();
    }
    text.push_str("}\n");
    if let Some(prefix) = setup.blackhole {
        writeln!(text, "protocol static discarded {{ {channel}; route {prefix} blackhole; }}").unwrap();
    }
    let limit = setup.max_prefixes.map(|limit| format!("import limit {limit} action disable; ")).unwrap_or_default();
    let mut session = |name: &str, address: IpAddr, remote_asn: u32, extra: &str| {
        let client = if setup.reflects && remote_asn == asn { "rr client; " } else { "" };
        let paths = if setup.add_path && name == "margay" { "add paths on; " } else { "" };
        let restart = if setup.graceful_restart { "on" } else { "off" };
        write!(
            text,
            "protocol bgp {name} {{\n\
               local {} port {} as {asn}; neighbor {address} as {remote_asn}; connect retry time 1; hold time {};\n\
               error wait time 1, 1; graceful restart {restart}; graceful restart time 30; {client}{extra}\n\
               {channel} {{ import all; export filter OUT; {paths}{limit}}};\n\
             }}\n",
            lab.peer_address(),
            setup.port,
            setup.hold_time,
        )
        .unwrap();
    };
    let mut extra = format!("passive {}; ", if setup.active { "off" } else { "on" });
    if let Some(key) = setup.key {
        write!(extra, "password \"{key}\"; ").unwrap();
    }
    if setup.ttl_security {
        extra.push_str("ttl security on; ");
    }
    if setup.multihop {
        extra.push_str("multihop 5; ");
    }
    session("margay", lab.our_address(), setup.our_asn, &extra);
    if let Some(asn) = setup.collector_asn {
        session("collector", lab.collector_address(), asn, "passive on; ");
    }
    text
}
