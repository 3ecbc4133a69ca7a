use std::fs::Permissions;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::User;
use serde_json::Value;

use crate::lab::{INTERFACE, Lab, Process, printed, within};
use crate::peers::{HOLD_SECONDS, OUR_ASN, PEER_ASN, Peer, Seen, require};

const TIMERS: &str = "detect-multiplier 3\n receive-interval 100\n transmit-interval 100\n";
const BGPD: &str = "/usr/lib/frr/bgpd";
const BFDD: &str = "/usr/lib/frr/bfdd";
/// It tells bfdd of interfaces.
const ZEBRA: &str = "/usr/lib/frr/zebra";

pub struct Frr {
    process: Process,
    bgpd: Option<Process>,
    _zebra: Process,
    dir: PathBuf,
    peer: String,
    ours: IpAddr,
}

impl Frr {
    pub fn start(lab: &Lab) -> Frr {
        let ttl = if lab.way.is_multihop() { " minimum-ttl 254\n" } else { "" };
        let peer = peer(lab);
        Frr::start_with(lab, &format!(" {peer}\n {TIMERS}{ttl} exit\n"))
    }

    /// With a BGP session that asks for the BFD session.
    pub fn start_with_bgp(lab: &Lab) -> Frr {
        require(BGPD, "frr");
        let mut frr = Frr::start_with(lab, &format!(" profile fast\n {TIMERS} exit\n"));
        frr.bgpd = Some(start(lab, &frr.dir, BGPD, "bgpd", &bgp_config(lab, &frr.dir)));
        frr
    }

    fn start_with(lab: &Lab, sessions: &str) -> Frr {
        require(BFDD, "frr");
        require(ZEBRA, "frr");
        let dir = directory_of_frr(lab);
        let zebra = start(lab, &dir, ZEBRA, "zebra", "");
        within(Duration::from_secs(10), "zebra answers", || {
            if dir.join("zserv.api").exists() { Ok(()) } else { Err(zebra.output()) }
        });
        let log = format!("log file {}/bfdd.log debugging\n", dir.display());
        let bfdd = start(lab, &dir, BFDD, "bfdd", &format!("{log}debug bfd peer\nbfd\n{sessions}exit\n"));
        Frr { process: bfdd, bgpd: None, _zebra: zebra, peer: peer(lab), ours: lab.way.our_address(), dir }
    }

    /// Takes the session out of service, or puts it back.
    pub fn set_shutdown(&self, shutdown: bool) {
        let words = if shutdown { "shutdown" } else { "no shutdown" };
        self.command(&["configure terminal", "bfd", &self.peer, words]).unwrap();
    }

    fn command(&self, lines: &[&str]) -> Result<String, String> {
        self.command_of("bfdd", lines)
    }

    fn command_of(&self, daemon: &str, lines: &[&str]) -> Result<String, String> {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(&self.dir).args(["-d", daemon]);
        for line in lines {
            command.args(["-c", line]);
        }
        printed(&mut command)
    }
}

impl Peer for Frr {
    fn process(&self) -> &Process {
        &self.process
    }

    fn seen(&self) -> Result<Seen, String> {
        let text =
            self.command(&["show bfd peers json"]).map_err(|error| format!("{error} {}", self.process.output()))?;
        let table: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))?;
        let session = &table[0];
        let ours = |name: &str| session[name].as_u64().unwrap_or_default();
        // Its own wish, and what we take.
        let interval_ms = ours("transmit-interval").max(ours("remote-receive-interval"));
        let status = session["status"].as_str().ok_or_else(|| format!("no session: {text}"))?;
        let remote_diagnostic = session["remote-diagnostic"].as_str().unwrap_or_default().to_owned();
        Ok(Seen { is_up: status == "up", interval_ms, remote_diagnostic })
    }

    fn bgp_is_up(&self) -> Result<bool, String> {
        let text = self.command_of("bgpd", &[&format!("show bgp neighbors {} json", self.ours)])?;
        let shown: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))?;
        Ok(shown[self.ours.to_string()]["bgpState"] == "Established")
    }

    fn falls(&self) -> usize {
        let log = std::fs::read_to_string(self.dir.join("bgpd.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains("sent to neighbor") && line.contains("(Cease/BFD Down)")).count()
    }
}

/// Starts one of FRR's daemons.
fn start(lab: &Lab, dir: &Path, program: &str, name: &str, config: &str) -> Process {
    std::fs::write(dir.join(format!("{name}.conf")), config).unwrap();
    let mut command = lab.theirs.command_in_real_time(program);
    command.args(["--vty_port", "0", "--vty_socket"]).arg(dir);
    command.arg("-z").arg(dir.join("zserv.api")).arg("-i").arg(dir.join(format!("{name}.pid")));
    command.arg("-f").arg(dir.join(format!("{name}.conf")));
    if name == "bfdd" {
        command.arg("--bfdctl").arg(dir.join("bfdd.sock"));
    }
    Process::start(command, &dir.join(format!("{name}.out")))
}

fn bgp_config(lab: &Lab, dir: &Path) -> String {
    let (ours, theirs) = (lab.way.our_address(), lab.way.their_address());
    let family = if ours.is_ipv4() { "ipv4" } else { "ipv6" };
    let hops = if lab.way.is_multihop() { format!("neighbor {ours} ebgp-multihop 5\n") } else { String::new() };
    format!(
        "log file {}/bgpd.log debugging\ndebug bgp bfd\ndebug bgp neighbor-events\n\
         router bgp {PEER_ASN}\nbgp router-id 192.0.2.2\nbgp log-neighbor-changes\nno bgp ebgp-requires-policy\nno bgp default ipv4-unicast\n\
         neighbor {ours} remote-as {OUR_ASN}\nneighbor {ours} timers {} {HOLD_SECONDS}\n\
         neighbor {ours} timers connect 1\nneighbor {ours} update-source {theirs}\n{hops}\
         neighbor {ours} bfd\nneighbor {ours} bfd profile fast\n\
         address-family {family} unicast\nneighbor {ours} activate\nexit-address-family\n",
        dir.display(),
        HOLD_SECONDS / 3,
    )
}

/// A directory that FRR's own user may write to: these daemons run as nobody else.
fn directory_of_frr(lab: &Lab) -> PathBuf {
    let user = User::from_name("frr").unwrap().expect("FRR's package makes the user frr");
    let dir = lab.dir().join("frr");
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(lab.dir(), Permissions::from_mode(0o711)).unwrap();
    chown(&dir, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    dir
}

fn peer(lab: &Lab) -> String {
    let (ours, theirs) = (lab.way.our_address(), lab.way.their_address());
    if lab.way.is_multihop() {
        format!("peer {ours} multihop local-address {theirs}")
    } else if ours.is_ipv6() {
        format!("peer {ours} local-address {theirs} interface {INTERFACE}")
    } else {
        format!("peer {ours} interface {INTERFACE}")
    }
}
