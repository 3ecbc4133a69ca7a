use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use margay_net::{Cidr, Family};
use serde_json::Value;

use super::peer::{Notification, Peer, PeerOptions, Seen};
use super::process::{Process, read, require, run};
use super::{Lab, OUR_COMMUNITY, PEER_ASN};

const BGPD: &str = "/usr/lib/frr/bgpd";

pub struct Frr {
    process: Process,
    family: Family,
    dir: PathBuf,
    our_address: std::net::IpAddr,
}

impl Frr {
    pub fn start(lab: &Lab, options: &PeerOptions) -> Frr {
        require(BGPD, "frr");
        require("vtysh", "frr");
        let dir = lab.dir().to_owned();
        std::fs::write(dir.join("bgpd.conf"), config(lab, options)).expect("FRR's configuration");
        let mut command = lab.theirs.command(BGPD);
        command.args(["--skip_runas", "--no_zebra", "--vty_port", "0", "--listenon"]);
        command.arg(lab.peer_address().to_string());
        command.arg("--vty_socket").arg(&dir).arg("-i").arg(dir.join("pid")).arg("-f").arg(dir.join("bgpd.conf"));
        let process = Process::start(command, &dir.join("bgpd.out"));
        Frr { process, family: lab.family, dir, our_address: lab.our_address() }
    }

    /// Runs commands of FRR's command line.
    pub fn command(&self, commands: &[&str]) -> Result<String, String> {
        let mut command = std::process::Command::new("vtysh");
        command.arg("--vty_socket").arg(&self.dir).args(["-d", "bgpd"]);
        for line in commands {
            command.args(["-c", line]);
        }
        run(command)
    }

    fn routes(&self, command: &str) -> Result<Value, String> {
        let text = self.command(&[command])?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        let mut table: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in: {text}"))?;
        Ok(table["routes"].take())
    }

    fn ours<'a>(&self, routes: &'a Value) -> impl Iterator<Item = (&'a String, &'a Value)> {
        let ours = self.our_address.to_string();
        let paths = |(prefix, paths): (&'a String, &'a Value)| Some((prefix, paths.as_array()?));
        routes
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(paths)
            .filter_map(move |(prefix, paths)| Some((prefix, paths.iter().find(|path| path["peerId"] == ours)?)))
    }
}

impl Peer for Frr {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn received(&self) -> Result<BTreeMap<Cidr, Seen>, String> {
        // The table doesn't show communities: they are asked for one by one.
        let table = format!("show bgp {} unicast", self.family);
        let all = self.routes(&format!("{table} json"))?;
        let marked = self.routes(&format!("{table} community {OUR_COMMUNITY} json"))?;
        let marked: BTreeSet<&String> = self.ours(&marked).map(|(prefix, _)| prefix).collect();
        let mut received = BTreeMap::new();
        for (prefix, path) in self.ours(&all) {
            let mut seen = seen(path)?;
            if marked.contains(prefix) {
                seen.communities.push(OUR_COMMUNITY.to_owned());
            }
            received.insert(prefix.parse().map_err(|error| format!("{error}"))?, seen);
        }
        Ok(received)
    }

    fn withdraw(&self) {
        let neighbor = format!("neighbor {} prefix-list NOTHING out", self.our_address);
        let family = format!("address-family {} unicast", self.family);
        let list = match self.family {
            Family::V4 => "ip prefix-list NOTHING deny any",
            Family::V6 => "ipv6 prefix-list NOTHING deny any",
        };
        let router = format!("router bgp {PEER_ASN}");
        self.command(&["configure terminal", list, &router, &family, &neighbor]).expect("filtering all routes");
        let clear = format!("clear bgp {} {} soft out", self.family, self.our_address);
        self.command(&[&clear]).expect("sending again");
    }

    fn log(&self) -> String {
        read(&log_path(&self.dir))
    }

    fn words_for(&self, notification: Notification) -> &'static [&'static str] {
        match notification {
            Notification::HoldTimerExpired => &["NOTIFICATION: received", "4/0"],
            Notification::AdministrativeShutdown => &[": received from neighbor", "6/2"],
            Notification::BadPeerAs => &["NOTIFICATION: received", "2/2"],
        }
    }
}

fn seen(path: &Value) -> Result<Seen, String> {
    let missing = |what: &str| format!("no {what} in {path}");
    // An IPv6 path may have a link-local next hop beside the global one.
    let next_hops = path["nexthops"].as_array().into_iter().flatten();
    let next_hop = next_hops
        .filter(|next_hop| next_hop["scope"] != "link-local")
        .find_map(|next_hop| next_hop["ip"].as_str())
        .ok_or_else(|| missing("next hop"))?;
    Ok(Seen {
        as_path: path["path"].as_str().ok_or_else(|| missing("AS path"))?.to_owned(),
        next_hop: next_hop.parse().map_err(|error| format!("{next_hop}: {error}"))?,
        origin: path["origin"].as_str().ok_or_else(|| missing("origin"))?.to_lowercase(),
        med: path["metric"].as_u64().and_then(|med| med.try_into().ok()),
        communities: Vec::new(),
    })
}

fn log_path(dir: &Path) -> PathBuf {
    dir.join("bgpd.log")
}

fn config(lab: &Lab, options: &PeerOptions) -> String {
    let (ours, family, our_asn) = (lab.our_address(), lab.family, options.our_asn);
    let mut text = format!(
        "log file {} debugging\n\
         debug bgp neighbor-events\n\
         debug bgp updates in\n\
         bgp as-path access-list LOCAL permit ^$\n\
         route-map OUT permit 10\n match as-path LOCAL\n set origin egp\n set metric 77\n set community 65001:100\nexit\n\
         router bgp {PEER_ASN}\n\
         bgp router-id 192.0.2.2\n\
         no bgp ebgp-requires-policy\n\
         no bgp network import-check\n\
         no bgp default ipv4-unicast\n\
         timers bgp 1 3\n",
        log_path(lab.dir()).display()
    );
    if options.graceful_restart {
        text.push_str("bgp graceful-restart\nbgp graceful-restart preserve-fw-state\n");
    }
    write!(
        text,
        "neighbor {ours} remote-as {our_asn}\n\
         neighbor {ours} timers 1 3\n\
         neighbor {ours} passive\n"
    )
    .expect("a string takes all");
    if let Some(password) = options.password {
        writeln!(text, "neighbor {ours} password {password}").expect("a string takes all");
    }
    if options.ttl_security {
        writeln!(text, "neighbor {ours} ttl-security hops 1").expect("a string takes all");
    }
    write!(
        text,
        "address-family {family} unicast\n\
         neighbor {ours} activate\n\
         neighbor {ours} route-map OUT out\n"
    )
    .expect("a string takes all");
    for prefix in lab.peer_prefixes() {
        writeln!(text, "network {prefix}").expect("a string takes all");
    }
    text.push_str("exit-address-family\n");
    text
}
