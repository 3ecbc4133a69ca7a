use std::fmt::Write;
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;

use margay_net::{Cidr, Family};
use serde_json::Value;

use super::{Daemon, Path, Setup};
use crate::support::process::{Process, require, run};
use crate::support::{Lab, within};

pub struct Openbgpd {
    process: Process,
    socket: PathBuf,
    prefixes: Vec<Cidr>,
}

pub fn start(lab: &Lab, setup: &Setup) -> Openbgpd {
    require("/usr/sbin/bgpd", "openbgpd");
    let (file, socket) = (lab.dir().join("openbgpd.conf"), lab.dir().join("o"));
    std::fs::write(&file, config(lab, setup, &socket)).unwrap();
    // It refuses what others may read.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    // The processes of one that was just killed may still listen.
    let address = (lab.peer_address(), setup.port);
    within(Duration::from_secs(10), "its port is free", || {
        let bind = move || TcpListener::bind(address).map(drop).map_err(|error| error.to_string());
        lab.theirs.thread("port", bind).join().unwrap()
    });
    // It changes its root to /run/openbgpd, which there need not be: it gets a /run of its own.
    let mut command = lab.theirs.command("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg("mount -t tmpfs tmpfs /run && mkdir /run/openbgpd && exec /usr/sbin/bgpd -d -v -f \"$0\"").arg(&file);
    // Its three processes are paused together.
    command.process_group(0);
    let mut process = Process::start(command, &lab.dir().join("openbgpd.out"));
    within(Duration::from_secs(10), "OpenBGPD answers", || {
        process.assert_running();
        run(client(&socket, &["show", "summary"]))
    });
    Openbgpd { process, socket, prefixes: lab.peer_prefixes() }
}

impl Daemon for Openbgpd {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn pause(&mut self, paused: bool) {
        self.process.pause_group(paused);
    }

    fn paths(&self, prefix: Cidr, neighbor: IpAddr) -> Result<Vec<Path>, String> {
        let (prefix, neighbor) = (prefix.to_string(), neighbor.to_string());
        let text = run(client(&self.socket, &["-j", "show", "rib", "in", "neighbor", &neighbor, "detail", &prefix]))?;
        let table: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in: {text}"))?;
        Ok(table["rib"].as_array().into_iter().flatten().map(path).collect())
    }

    fn best(&self, prefix: Cidr) -> Result<Option<IpAddr>, String> {
        let text = run(client(&self.socket, &["-j", "show", "rib", "best", &prefix.to_string()]))?;
        let table: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in: {text}"))?;
        Ok(table["rib"][0]["neighbor"]["remote_addr"].as_str().and_then(|address| address.parse().ok()))
    }

    fn hold_time(&self, neighbor: IpAddr) -> Result<u64, String> {
        let text = run(client(&self.socket, &["-j", "show", "neighbor", &neighbor.to_string()]))?;
        let shown: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in: {text}"))?;
        shown["neighbors"][0]["session"]["holdtime"].as_u64().ok_or(text)
    }

    fn log(&self) -> String {
        self.process.output()
    }

    fn refresh(&self, neighbor: IpAddr) {
        run(client(&self.socket, &["neighbor", &neighbor.to_string(), "refresh"])).unwrap();
    }

    fn saw_enhanced_refresh(&self, neighbor: IpAddr) -> Result<(), String> {
        let text = run(client(&self.socket, &["-j", "show", "neighbor", &neighbor.to_string()]))?;
        let shown: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in: {text}"))?;
        let received = &shown["neighbors"][0]["stats"]["route-refresh"]["received"];
        if received["borr"] == 1 && received["eorr"] == 1 { Ok(()) } else { Err(received.to_string()) }
    }

    fn words_for(&self, code: u8, subcode: u8) -> Vec<String> {
        let words = match (code, subcode) {
            (6, 1) => "received notification: Cease, received max-prefix exceeded",
            other => panic!("{other:?} in OpenBGPD's words"),
        };
        vec![words.to_owned()]
    }

    fn shut_down(&self, neighbor: IpAddr, why: &str) {
        run(client(&self.socket, &["neighbor", &neighbor.to_string(), "down", why])).unwrap();
    }

    fn withdraw(&self) {
        for prefix in &self.prefixes {
            run(client(&self.socket, &["network", "delete", &prefix.to_string()])).unwrap();
        }
    }
}

fn client(socket: &std::path::Path, arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new("/usr/sbin/bgpctl");
    command.arg("-s").arg(socket).args(arguments);
    command
}

fn path(path: &Value) -> Path {
    let list = |name: &str| -> Vec<String> {
        let items = path[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        items.map(|item| super::by_number(&item.replace(' ', ":").to_lowercase())).collect()
    };
    let number = |value: &Value| value.as_u64().and_then(|number| number.try_into().ok());
    let attribute = |name: &str| path["attributes"].as_array()?.iter().find_map(|attribute| attribute.get(name));
    let clusters = attribute("cluster_list").and_then(Value::as_array);
    Path {
        as_path: path["aspath"].as_str().unwrap_or_default().to_owned(),
        next_hop: path["exit_nexthop"].as_str().and_then(|address| address.parse().ok()),
        origin: path["origin"].as_str().unwrap_or_default().to_lowercase(),
        med: number(&path["metric"]),
        local_pref: number(&path["localpref"]),
        communities: list("communities"),
        large_communities: list("large_communities"),
        extended_communities: list("extended_communities"),
        originator_id: attribute("originator").and_then(|id| id.as_str()?.parse().ok()),
        cluster_list: clusters.into_iter().flatten().filter_map(|id| id.as_str()?.parse().ok()).collect(),
    }
}

fn config(lab: &Lab, setup: &Setup, socket: &std::path::Path) -> String {
    let family = if setup.family == Family::V4 { "IPv4" } else { "IPv6" };
    let mut text = format!(
        "AS {}\nrouter-id 192.0.2.2\nfib-update no\nholdtime {hold}\nholdtime min 3\nlisten on {} port {}\nsocket \"{}\"\n\
         connect-retry 1\n",
        setup.peer_asn,
        lab.peer_address(),
        setup.port,
        socket.display(),
        hold = setup.hold_time,
    );
    let mut session = |address: IpAddr, asn: u32, passive: bool, extra: &str| {
        write!(text, "neighbor {address} {{\n remote-as {asn}\n announce IPv4 none\n announce IPv6 none\n").unwrap();
        // Without `local-address`, with which it takes no connection that is signed.
        write!(text, " announce {family} unicast\n{extra}").unwrap();
        if setup.add_path {
            text.push_str(" announce add-path recv yes\n announce add-path send all\n");
        }
        text.push_str(" announce enhanced refresh yes\n");
        if passive {
            text.push_str(" passive\n");
        }
        if setup.reflects && asn == setup.peer_asn {
            text.push_str(" route-reflector 192.0.2.2\n");
        }
        text.push_str("}\n");
    };
    let mut extra = String::new();
    if let Some(key) = setup.key {
        writeln!(extra, " tcp md5sig password \"{key}\"").unwrap();
    }
    if setup.ttl_security {
        extra.push_str(" ttl-security yes\n");
    }
    if setup.multihop {
        extra.push_str(" multihop 5\n");
    }
    if let Some(limit) = setup.max_prefixes {
        writeln!(extra, " max-prefix {limit}").unwrap();
    }
    session(lab.our_address(), setup.our_asn, !setup.active, &extra);
    if let Some(asn) = setup.collector_asn {
        session(lab.collector_address(), asn, true, "");
    }
    for prefix in lab.peer_prefixes() {
        let communities = "community 65001:100 large-community 65001:1:2 ext-community rt 65001:100";
        writeln!(text, "network {prefix} set {{ metric 77 {communities} }}").unwrap();
        writeln!(text, "match to any prefix {prefix} set origin egp").unwrap();
    }
    if let Some(prefix) = setup.blackhole {
        writeln!(text, "network {prefix} set community BLACKHOLE").unwrap();
    }
    if setup.policy {
        text.push_str("allow from any\nallow to any\n");
    }
    text
}
