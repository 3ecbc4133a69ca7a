use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use margay_net::Cidr;
use serde_json::Value;

use super::peer::{Notification, Peer, PeerOptions, Seen};
use super::process::{Process, require, run};
use super::{Lab, PEER_ASN, ROUTES, mrt, so, within};

/// The port of gobgpd's API, on the loopback address of the peer's own namespace.
const API_PORT: &str = "50051";

pub struct Gobgp {
    process: Process,
    netns: String,
    family: String,
    our_address: std::net::IpAddr,
}

impl Gobgp {
    pub fn start(lab: &Lab, options: &PeerOptions) -> Gobgp {
        require("gobgpd", "gobgpd");
        require("gobgp", "gobgpd");
        let file = lab.dir().join("gobgpd.toml");
        std::fs::write(&file, config(lab, options)).expect("GoBGP's configuration");
        let mut command = lab.theirs.command("gobgpd");
        command.args(["-t", "toml", "-l", "debug", "--api-hosts", &format!("127.0.0.1:{API_PORT}"), "-f"]).arg(file);
        let mut process = Process::start(command, &lab.dir().join("gobgpd.out"));
        within(Duration::from_secs(10), "gobgpd answers", || {
            process.assert_running();
            run(client(&lab.theirs.path(), &["global"]))
        });
        let gobgp =
            Gobgp { process, netns: lab.theirs.path(), family: lab.family.to_string(), our_address: lab.our_address() };
        gobgp.announce(lab);
        gobgp
    }

    /// Gives gobgpd its routes: its configuration knows none, and its client takes many only from an MRT file.
    fn announce(&self, lab: &Lab) {
        let file = lab.dir().join("routes.mrt");
        let attributes = mrt::Attributes { next_hop: lab.peer_address(), med: 77, community: PEER_ASN << 16 | 100 };
        // The client may leave before its last routes have gone: what it loses is the repetition.
        std::fs::write(&file, mrt::table_dump(&lab.peer_prefixes().repeat(2), &attributes)).expect("the MRT file");
        let file: PathBuf = file;
        let path = file.to_str().expect("a path in UTF-8");
        within(Duration::from_secs(15), "gobgpd has its routes", || {
            run(client(&self.netns, &["mrt", "inject", "global", path]))?;
            let summary = run(client(&self.netns, &["global", "rib", "summary", "-a", &self.family]))?;
            so(summary.contains(&format!("Destination: {ROUTES},")), || summary)
        });
    }
}

impl Peer for Gobgp {
    fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn received(&self) -> Result<BTreeMap<Cidr, Seen>, String> {
        let ours = self.our_address.to_string();
        let text = run(client(&self.netns, &["neighbor", &ours, "adj-in", "-a", &self.family, "-j"]))?;
        if text.contains("Network not in table") || text.trim().is_empty() {
            return Ok(BTreeMap::new());
        }
        let table: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in: {text}"))?;
        let mut received = BTreeMap::new();
        for (prefix, paths) in table.as_object().ok_or_else(|| format!("no table: {text}"))? {
            for path in paths.as_array().ok_or_else(|| format!("no paths: {paths}"))? {
                received.insert(prefix.parse().map_err(|error| format!("{error}"))?, seen(path)?);
            }
        }
        Ok(received)
    }

    fn withdraw(&self) {
        run(client(&self.netns, &["global", "rib", "del", "all", "-a", &self.family])).expect("deleting all routes");
    }

    fn log(&self) -> String {
        self.process.output()
    }

    fn words_for(&self, notification: Notification) -> &'static [&'static str] {
        match notification {
            Notification::HoldTimerExpired => &["received notification", "\"Code\":4", "\"Subcode\":0"],
            Notification::AdministrativeShutdown => &["received notification", "\"Code\":6", "\"Subcode\":2"],
            // GoBGP tells no codes before it is Established: reason 10 is any NOTIFICATION instead of a KEEPALIVE.
            Notification::BadPeerAs => &["\"new\":\"BGP_FSM_IDLE\",\"old\":\"BGP_FSM_OPENCONFIRM\"", "\"Type\":10"],
        }
    }
}

fn client(netns: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args([&format!("--net={netns}"), "gobgp", "-p", API_PORT]).args(arguments);
    command
}

/// Attributes are objects with their RFC 4271 type code.
fn seen(path: &Value) -> Result<Seen, String> {
    let attribute = |code: u64| path["attrs"].as_array()?.iter().find(|attribute| attribute["type"] == code);
    let asns = attribute(2).and_then(|attribute| attribute["as_paths"][0]["asns"].as_array());
    let asns: Vec<String> = asns.into_iter().flatten().map(Value::to_string).collect();
    let next_hop = attribute(3).or(attribute(14)).and_then(|attribute| attribute["nexthop"].as_str());
    let communities = attribute(8).and_then(|attribute| attribute["communities"].as_array());
    Ok(Seen {
        as_path: asns.join(" "),
        next_hop: next_hop.and_then(|address| address.parse().ok()).ok_or_else(|| format!("no next hop in {path}"))?,
        origin: match attribute(1).and_then(|attribute| attribute["value"].as_u64()) {
            Some(0) => "igp".to_owned(),
            Some(1) => "egp".to_owned(),
            other => format!("{other:?}"),
        },
        med: attribute(4).and_then(|attribute| attribute["metric"].as_u64()).and_then(|med| med.try_into().ok()),
        communities: communities
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .map(|community| format!("{}:{}", community >> 16, community & 0xffff))
            .collect(),
    })
}

fn config(lab: &Lab, options: &PeerOptions) -> String {
    let (ours, theirs, family, our_asn) = (lab.our_address(), lab.peer_address(), lab.family, options.our_asn);
    let password = options.password.map(|key| format!("auth-password = \"{key}\"\n")).unwrap_or_default();
    format!(
        "[global.config]\nas = {PEER_ASN}\nrouter-id = \"192.0.2.2\"\nlocal-address-list = [\"{theirs}\"]\n\
         [[neighbors]]\n\
         [neighbors.config]\nneighbor-address = \"{ours}\"\npeer-as = {our_asn}\n{password}\
         [neighbors.transport.config]\npassive-mode = true\n\
         [neighbors.timers.config]\nhold-time = 3\nkeepalive-interval = 1\nidle-hold-time-after-reset = 1\n\
         [[neighbors.afi-safis]]\n\
         [neighbors.afi-safis.config]\nafi-safi-name = \"{family}-unicast\"\n"
    )
}
