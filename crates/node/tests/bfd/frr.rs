use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::unistd::User;
use serde_json::Value;

use crate::lab::{INTERFACE, Lab, Process, printed, within};
use crate::peers::{Peer, Seen, require};

const BFDD: &str = "/usr/lib/frr/bfdd";
/// It tells bfdd of interfaces.
const ZEBRA: &str = "/usr/lib/frr/zebra";

pub struct Frr {
    process: Process,
    _zebra: Process,
    dir: PathBuf,
    peer: String,
}

impl Frr {
    pub fn start(lab: &Lab) -> Frr {
        require(BFDD, "frr");
        require(ZEBRA, "frr");
        let dir = directory_of_frr(lab);
        let start = |program: &str, name: &str, config: &str| {
            std::fs::write(dir.join(format!("{name}.conf")), config).unwrap();
            let mut command = lab.theirs.command_in_real_time(program);
            command.args(["--vty_port", "0", "--vty_socket"]).arg(&dir);
            command.arg("-z").arg(dir.join("zserv.api")).arg("-i").arg(dir.join(format!("{name}.pid")));
            command.arg("-f").arg(dir.join(format!("{name}.conf")));
            if name == "bfdd" {
                command.arg("--bfdctl").arg(dir.join("bfdd.sock"));
            }
            Process::start(command, &dir.join(format!("{name}.out")))
        };
        let zebra = start(ZEBRA, "zebra", "");
        within(Duration::from_secs(10), "zebra answers", || {
            if dir.join("zserv.api").exists() { Ok(()) } else { Err(zebra.output()) }
        });
        let peer = peer(lab);
        let timers = "detect-multiplier 3\n receive-interval 100\n transmit-interval 100\n";
        let ttl = if lab.way.is_multihop() { " minimum-ttl 254\n" } else { "" };
        let log = format!("log file {}/bfdd.log debugging\n", dir.display());
        let bfdd = start(BFDD, "bfdd", &format!("{log}debug bfd peer\nbfd\n {peer}\n {timers}{ttl} exit\nexit\n"));
        Frr { process: bfdd, _zebra: zebra, dir, peer }
    }

    /// Takes the session out of service, or puts it back.
    pub fn set_shutdown(&self, shutdown: bool) {
        let words = if shutdown { "shutdown" } else { "no shutdown" };
        self.command(&["configure terminal", "bfd", &self.peer, words]).unwrap();
    }

    fn command(&self, lines: &[&str]) -> Result<String, String> {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(&self.dir).args(["-d", "bfdd"]);
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
