use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use margay_net::{Cidr, Family};
use serde_json::Value;

use super::{Daemon, Path, Setup};
use crate::support::Lab;
use crate::support::process::{Process, read, require, run};

const BGPD: &str = "/usr/lib/frr/bgpd";

pub struct Frr {
    process: Process,
    family: Family,
    asn: u32,
    dir: PathBuf,
    prefixes: Vec<Cidr>,
}

pub fn start(lab: &Lab, setup: &Setup) -> Frr {
    require(BGPD, "frr");
    require("vtysh", "frr");
    let dir = lab.dir().to_owned();
    std::fs::write(dir.join("bgpd.conf"), config(lab, setup)).unwrap();
    let mut command = lab.theirs.command(BGPD);
    command.args(["--skip_runas", "--no_zebra", "--vty_port", "0", "--listenon"]);
    command.arg(lab.peer_address().to_string()).args(["--bgp_port", &setup.port.to_string()]);
    command.arg("--vty_socket").arg(&dir).arg("-i").arg(dir.join("pid")).arg("-f").arg(dir.join("bgpd.conf"));
    let process = Process::start(command, &dir.join("bgpd.out"));
    Frr { process, family: setup.family, asn: setup.peer_asn, dir, prefixes: lab.peer_prefixes() }
}

impl Frr {
    fn command(&self, commands: &[&str]) -> Result<String, String> {
        let mut command = std::process::Command::new("vtysh");
        command.arg("--vty_socket").arg(&self.dir).args(["-d", "bgpd"]);
        for line in commands {
            command.args(["-c", line]);
        }
        run(command)
    }

    fn router(&self) -> String {
        format!("router bgp {}", self.asn)
    }

    fn table(&self, prefix: Cidr) -> Result<Vec<Value>, String> {
        let text = self.command(&[&format!("show bgp {} unicast {prefix} json", self.family)])?;
        let mut table: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in: {text}"))?;
        Ok(table["paths"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }
}

impl Daemon for Frr {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn paths(&self, prefix: Cidr, neighbor: IpAddr) -> Result<Vec<Path>, String> {
        let neighbor = neighbor.to_string();
        Ok(self.table(prefix)?.iter().filter(|path| path["peer"]["peerId"] == neighbor.as_str()).map(path).collect())
    }

    fn best(&self, prefix: Cidr) -> Result<Option<IpAddr>, String> {
        let paths = self.table(prefix)?;
        let best = paths.iter().find(|path| path["bestpath"]["overall"] == true);
        Ok(best.and_then(|path| path["peer"]["peerId"].as_str()?.parse().ok()))
    }

    fn hold_time(&self, neighbor: IpAddr) -> Result<u64, String> {
        let text = self.command(&[&format!("show bgp neighbors {neighbor} json")])?;
        let shown: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in: {text}"))?;
        shown[neighbor.to_string()]["bgpTimerHoldTimeMsecs"].as_u64().map(|ms| ms / 1000).ok_or(text)
    }

    fn log(&self) -> String {
        read(&self.dir.join("bgpd.log"))
    }

    fn refresh(&self, neighbor: IpAddr) {
        self.command(&[&format!("clear bgp {} {neighbor} soft in", self.family)]).unwrap();
    }

    fn saw_enhanced_refresh(&self, neighbor: IpAddr) -> Result<(), String> {
        let log = self.log();
        let saw = |what: &str| log.lines().any(|line| line.contains(&neighbor.to_string()) && line.contains(what));
        if saw("rcvd route-refresh (BoRR)") && saw("rcvd route-refresh (EoRR)") { Ok(()) } else { Err(log) }
    }

    fn words_for(&self, code: u8, subcode: u8) -> Vec<String> {
        // A Hard Reset is shown with what is in it.
        if (code, subcode) == (6, 9) {
            return vec!["NOTIFICATION(Hard Reset): received".to_owned()];
        }
        vec!["NOTIFICATION".to_owned(), ": received from neighbor".to_owned(), format!(" {code}/{subcode} ")]
    }

    fn cease(&self, neighbor: IpAddr, hard: bool) {
        let line = if hard { "bgp hard-administrative-reset" } else { "no bgp hard-administrative-reset" };
        self.command(&["configure terminal", &self.router(), line]).unwrap();
        self.command(&[&format!("clear bgp {} {neighbor}", self.family)]).unwrap();
    }

    fn shut_down(&self, neighbor: IpAddr, why: &str) {
        let line = format!("neighbor {neighbor} shutdown message {why}");
        self.command(&["configure terminal", &self.router(), &line]).unwrap();
    }

    fn withdraw(&self) {
        let router = self.router();
        let family = format!("address-family {} unicast", self.family);
        for prefix in &self.prefixes {
            self.command(&["configure terminal", &router, &family, &format!("no network {prefix}")]).unwrap();
        }
    }
}

fn path(path: &Value) -> Path {
    let number = |value: &Value| value.as_u64().and_then(|number| number.try_into().ok());
    let list = |value: &Value| -> Vec<String> {
        let items = value["string"].as_str().into_iter().flat_map(|text| text.split(' '));
        items.map(|item| super::by_number(&item.to_lowercase())).collect()
    };
    // An IPv6 path may have a link-local next hop beside the global one.
    let next_hops = path["nexthops"].as_array().into_iter().flatten();
    let next_hop = next_hops.filter(|next_hop| next_hop["scope"] != "link-local").find_map(|hop| hop["ip"].as_str());
    let as_path = path["aspath"]["string"].as_str().unwrap_or_default();
    Path {
        // An empty path is called so.
        as_path: if as_path == "Local" { String::new() } else { as_path.to_owned() },
        next_hop: next_hop.and_then(|next_hop| next_hop.parse().ok()),
        origin: path["origin"].as_str().unwrap_or_default().to_lowercase(),
        med: number(&path["metric"]),
        local_pref: number(&path["locPrf"]).or_else(|| number(&path["localpref"])),
        communities: list(&path["community"]),
        large_communities: list(&path["largeCommunity"]),
        extended_communities: list(&path["extendedCommunity"]),
        originator_id: path["originatorId"].as_str().and_then(|id| id.parse().ok()),
        cluster_list: path["clusterList"]["list"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|id| id.as_str()?.parse().ok())
            .collect(),
    }
}

fn config(lab: &Lab, setup: &Setup) -> String {
    let (ours, family) = (lab.our_address(), setup.family);
    let mut text = format!(
        "log file {} debugging\n\
         debug bgp neighbor-events\n\
         route-map NETWORK permit 10\n set origin egp\n set metric 77\n set community 65001:100\n\
         set large-community 65001:1:2\n set extcommunity rt 65001:100\nexit\n\
         route-map DISCARDED permit 10\n set community blackhole\nexit\n\
         router bgp {}\n\
         bgp router-id 192.0.2.2\n\
         {}bgp ebgp-requires-policy\n\
         no bgp network import-check\n\
         no bgp default ipv4-unicast\n\
         bgp log-neighbor-changes\n",
        lab.dir().join("bgpd.log").display(),
        setup.peer_asn,
        if setup.policy { "no " } else { "" },
    );
    if setup.graceful_restart {
        text.push_str(
            "bgp graceful-restart\nbgp graceful-restart preserve-fw-state\nbgp graceful-restart restart-time 30\nbgp graceful-restart notification\n",
        );
    }
    let mut addresses = String::new();
    let mut session = |address: IpAddr, asn: u32, passive: bool, extra: &str| {
        let hold = setup.hold_time;
        write!(
            text,
            "neighbor {address} remote-as {asn}\n\
             neighbor {address} timers {} {hold}\nneighbor {address} timers connect 1\n\
             neighbor {address} advertisement-interval 0\n{extra}",
            hold / 3,
        )
        .unwrap();
        if passive {
            writeln!(text, "neighbor {address} passive").unwrap();
        }
        writeln!(addresses, "neighbor {address} activate").unwrap();
        if setup.add_path && address == ours {
            writeln!(addresses, "neighbor {address} addpath-tx-all-paths").unwrap();
        }
        if let Some(limit) = setup.max_prefixes.filter(|_| address == ours) {
            writeln!(addresses, "neighbor {address} maximum-prefix {limit}").unwrap();
        }
        if setup.reflects && asn == setup.peer_asn {
            writeln!(addresses, "neighbor {address} route-reflector-client").unwrap();
        }
    };
    let mut extra = String::new();
    if let Some(key) = setup.key {
        writeln!(extra, "neighbor {ours} password {key}").unwrap();
    }
    if setup.ttl_security {
        writeln!(extra, "neighbor {ours} ttl-security hops 1").unwrap();
    }
    if setup.multihop {
        writeln!(extra, "neighbor {ours} ebgp-multihop 5").unwrap();
    }
    session(ours, setup.our_asn, !setup.active, &extra);
    if let Some(asn) = setup.collector_asn {
        session(lab.collector_address(), asn, true, "");
    }
    write!(text, "address-family {family} unicast\n{addresses}").unwrap();
    for prefix in lab.peer_prefixes() {
        writeln!(text, "network {prefix} route-map NETWORK").unwrap();
    }
    if let Some(prefix) = setup.blackhole {
        writeln!(text, "network {prefix} route-map DISCARDED").unwrap();
    }
    text.push_str("exit-address-family\n");
    text
}
