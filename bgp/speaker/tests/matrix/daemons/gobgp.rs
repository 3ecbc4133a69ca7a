use std::fmt::Write;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use margay_net::Cidr;
use serde_json::Value;

use super::{Daemon, Path, Setup};
use crate::support::process::{Process, require, run};
use crate::support::{Lab, within};

/// The port of gobgpd's API, on the loopback address of the peer's own namespace.
const API_PORT: &str = "50051";

pub struct Gobgp {
    process: Process,
    netns: String,
    family: String,
}

pub fn start(lab: &Lab, setup: &Setup, recovers: bool) -> Gobgp {
    require("gobgpd", "gobgpd");
    let file = lab.dir().join("gobgpd.toml");
    std::fs::write(&file, config(lab, setup)).unwrap();
    let mut command = lab.theirs.command("gobgpd");
    command.args(recovers.then_some("-r"));
    command.args(["-t", "toml", "-l", "debug", "--api-hosts", &format!("127.0.0.1:{API_PORT}"), "-f"]).arg(file);
    let mut process = Process::start(command, &lab.dir().join("gobgpd.out"));
    let netns = lab.theirs.path();
    within(Duration::from_secs(10), "gobgpd answers", || {
        process.assert_running();
        run(client(&netns, &["global"]))
    });
    let gobgp = Gobgp { process, netns, family: setup.family.to_string() };
    let next_hop = lab.peer_address().to_string();
    for prefix in lab.peer_prefixes() {
        let words = format!(
            "global rib add -a {} {prefix} nexthop {next_hop} origin egp med 77 community 65001:100 \
             large-community 65001:1:2 rt 65001:100",
            gobgp.family
        );
        gobgp.command(&words).unwrap();
    }
    if let Some(prefix) = setup.blackhole {
        let family = &gobgp.family;
        let words = format!("global rib add -a {family} {prefix} nexthop {next_hop} community 65535:666");
        gobgp.command(&words).unwrap();
    }
    gobgp.command(&format!("neighbor {} enable", lab.our_address())).unwrap();
    gobgp
}

impl Gobgp {
    fn command(&self, words: &str) -> Result<String, String> {
        run(client(&self.netns, &words.split_whitespace().collect::<Vec<_>>()))
    }
}

impl Daemon for Gobgp {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn paths(&self, prefix: Cidr, neighbor: IpAddr) -> Result<Vec<Path>, String> {
        let text = self.command(&format!("neighbor {neighbor} adj-in {prefix} -a {} -j", self.family));
        let text = match text {
            Err(error) if error.contains("not in table") || error.contains("not found") => return Ok(Vec::new()),
            text => text?,
        };
        if text.contains("not in table") || text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let table: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in: {text}"))?;
        // Of one prefix it is a list, of several an object of lists.
        let paths = table.as_array().or_else(|| table.get(prefix.to_string())?.as_array());
        Ok(paths.into_iter().flatten().map(path).collect())
    }

    fn best(&self, prefix: Cidr) -> Result<Option<IpAddr>, String> {
        let text = self.command(&format!("global rib {prefix} -a {} -j", self.family))?;
        let table: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in: {text}"))?;
        let paths = table.as_array().or_else(|| table.get(prefix.to_string())?.as_array());
        let best = paths.into_iter().flatten().find(|path| path["best"] == true);
        Ok(best.and_then(|path| path["neighbor-ip"].as_str()?.parse().ok()))
    }

    fn hold_time(&self, neighbor: IpAddr) -> Result<u64, String> {
        let text = self.command(&format!("neighbor {neighbor} -j"))?;
        let shown: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in: {text}"))?;
        shown["timers"]["state"]["negotiated_hold_time"].as_u64().ok_or(text)
    }

    fn log(&self) -> String {
        self.process.output()
    }

    fn refresh(&self, neighbor: IpAddr) {
        self.command(&format!("neighbor {neighbor} softresetin -a {}", self.family)).unwrap();
    }

    fn words_for(&self, code: u8, subcode: u8) -> Vec<String> {
        ["received notification".to_owned(), format!("\"Code\":{code}"), format!("\"Subcode\":{subcode}")].into()
    }

    fn cease(&self, neighbor: IpAddr, hard: bool) {
        assert!(!hard, "not claimed");
        self.command(&format!("neighbor {neighbor} reset")).unwrap();
    }

    fn shut_down(&self, neighbor: IpAddr, why: &str) {
        let address = neighbor.to_string();
        run(client(&self.netns, &["neighbor", &address, "shutdown", "--reason", why])).unwrap();
    }

    fn withdraw(&self) {
        self.command(&format!("global rib del all -a {}", self.family)).unwrap();
    }
}

fn client(netns: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args([&format!("--net={netns}"), "gobgp", "-p", API_PORT]).args(arguments);
    command
}

/// Attributes are objects with their type code.
fn path(path: &Value) -> Path {
    let attribute = |code: u64| path["attrs"].as_array()?.iter().find(|attribute| attribute["type"] == code);
    let number = |code: u64, name: &str| attribute(code)?[name].as_u64()?.try_into().ok();
    let list = |code: u64, name: &str| -> Vec<Value> {
        attribute(code).and_then(|attribute| attribute[name].as_array()).cloned().unwrap_or_default()
    };
    let segments = list(2, "as_paths");
    let asns = segments.iter().flat_map(|segment| segment["asns"].as_array().into_iter().flatten());
    let next_hop = attribute(3).or(attribute(14)).and_then(|attribute| attribute["nexthop"].as_str());
    Path {
        as_path: asns.map(Value::to_string).collect::<Vec<_>>().join(" "),
        next_hop: next_hop.and_then(|address| address.parse().ok()),
        origin: match attribute(1).and_then(|attribute| attribute["value"].as_u64()) {
            Some(0) => "igp".to_owned(),
            Some(1) => "egp".to_owned(),
            _ => "incomplete".to_owned(),
        },
        med: number(4, "metric"),
        local_pref: number(5, "value"),
        communities: list(8, "communities")
            .iter()
            .filter_map(Value::as_u64)
            .map(|community| format!("{}:{}", community >> 16, community & 0xffff))
            .collect(),
        large_communities: list(32, "value")
            .iter()
            .map(|large| format!("{}:{}:{}", large["ASN"], large["LocalData1"], large["LocalData2"]))
            .collect(),
        extended_communities: list(16, "value")
            .iter()
            .map(|extended| {
                let kind = if extended["subtype"] == 2 { "rt".to_owned() } else { extended["subtype"].to_string() };
                format!("{kind}:{}", extended["value"].as_str().unwrap_or_default())
            })
            .collect(),
        originator_id: attribute(9).and_then(|attribute| attribute["value"].as_str()?.parse().ok()),
        cluster_list: list(10, "value").iter().filter_map(|id| id.as_str()?.parse().ok()).collect(),
    }
}

fn config(lab: &Lab, setup: &Setup) -> String {
    let family = setup.family;
    let mut text = format!(
        "[global.config]\nas = {}\nrouter-id = \"192.0.2.2\"\nport = {}\nlocal-address-list = [\"{}\"]\n",
        setup.peer_asn,
        setup.port,
        lab.peer_address()
    );
    let mut session = |address: IpAddr, asn: u32, passive: bool, config: &str, tables: &str| {
        let (hold, restart) = (setup.hold_time, setup.graceful_restart);
        write!(
            text,
            "[[neighbors]]\n\
             [neighbors.config]\nneighbor-address = \"{address}\"\npeer-as = {asn}\n{config}\
             [neighbors.transport.config]\npassive-mode = {passive}\n\
             [neighbors.timers.config]\nhold-time = {hold}\nkeepalive-interval = {}\nidle-hold-time-after-reset = 1\n\
             connect-retry = 1\n{tables}",
            hold / 3,
        )
        .unwrap();
        if restart {
            text.push_str(
                "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 90\nnotification-enabled = true\n",
            );
        }
        if setup.reflects && asn == setup.peer_asn {
            text.push_str(
                "[neighbors.route-reflector.config]\nroute-reflector-client = true\n\
                 route-reflector-cluster-id = \"192.0.2.2\"\n",
            );
        }
        write!(
            text,
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}-unicast\"\n\
             [neighbors.afi-safis.mp-graceful-restart.config]\nenabled = {restart}\n",
        )
        .unwrap();
        if let Some(limit) = setup.max_prefixes {
            writeln!(text, "[neighbors.afi-safis.prefix-limit.config]\nmax-prefixes = {limit}").unwrap();
        }
        if setup.add_path {
            text.push_str("[neighbors.afi-safis.add-paths.config]\nreceive = true\nsend-max = 8\n");
        }
    };
    let key = setup.key.map(|key| format!("auth-password = \"{key}\"\n")).unwrap_or_default();
    let mut tables = String::new();
    if setup.ttl_security {
        tables.push_str("[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n");
    }
    if setup.multihop {
        tables.push_str("[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 5\n");
    }
    // It has its routes only when it runs, and would say that these were all before.
    let config = format!("{key}admin-down = true\n");
    session(lab.our_address(), setup.our_asn, !setup.active, &config, &tables);
    if let Some(asn) = setup.collector_asn {
        session(lab.collector_address(), asn, true, "", "");
    }
    text
}
