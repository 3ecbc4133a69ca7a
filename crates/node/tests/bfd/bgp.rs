//! BGP sessions that fall with BFD: `margayd bgp` beside `margayd bfd`, and the peer's BGP beside its BFD.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use margay_local_api::{BgpNeighbor, Client};
use nix::sys::signal::Signal;

use crate::lab::{Lab, Process, within};
use crate::margay::Margay;
use crate::peers::{HOLD_SECONDS, OUR_ASN, PEER_ASN, Peer};

const SOON: Duration = Duration::from_secs(20);
/// Of which BFD's part is 300 ms, and little beside the hold time.
const FALLEN: Duration = Duration::from_secs(5);

/// `margayd bgp` at our end of a lab.
struct Speaker {
    process: Process,
    socket: PathBuf,
}

impl Speaker {
    /// Starts one that asks the `margayd bfd` of the lab.
    fn start(lab: &Lab) -> Speaker {
        let (ours, theirs, run) = (lab.way.our_address(), lab.way.their_address(), lab.dir().join("run"));
        let config = format!(
            "asn: {OUR_ASN}\nrouterId: 192.0.2.1\nebgpRequiresPolicy: false\npeers:\n  peer:\n    address: '{theirs}'\n    \
             asn: {PEER_ASN}\n    source: '{ours}'\n    multihop: {}\n    holdTime: {HOLD_SECONDS}s\n    \
             connectRetry: 1s\n    bfd: {{minTx: 100ms, minRx: 100ms, multiplier: 3}}\n",
            lab.way.is_multihop(),
        );
        let file = lab.dir().join("speaker.yaml");
        std::fs::write(&file, config).unwrap();
        let mut command = lab.ours.command(env!("CARGO_BIN_EXE_margayd"));
        command.arg("bgp").arg("--config").arg(file).arg("--run").arg(&run);
        command.arg("--state").arg(lab.dir().join("state")).env_remove("MARGAY_SOCKET");
        let process = Process::start(command, &lab.dir().join("speaker.out"));
        Speaker { process, socket: run.join("margayd.sock") }
    }

    #[track_caller]
    fn wait_for(&self, limit: Duration, what: &str, is: impl Fn(&BgpNeighbor) -> bool) -> BgpNeighbor {
        within(limit, what, || {
            let neighbor = Client::new(&self.socket).get::<BgpNeighbor>("/v1/bgp/neighbor?peer=peer");
            let neighbor = neighbor.map_err(|error| format!("{error}: {}", self.process.output()))?;
            if is(&neighbor) { Ok(neighbor) } else { Err(format!("{neighbor:#?}")) }
        })
    }

    /// Waits for a session beyond so many, and for BFD beside it, on both sides; how many there were with it.
    #[track_caller]
    fn wait_until_up(&self, peer: &dyn Peer, before: u64) -> u64 {
        let neighbor = self.wait_for(SOON, "both sessions are up", |neighbor| {
            let up = neighbor.peer.state == "Established" && neighbor.peer.bfd == "up";
            up && neighbor.established_count > before
        });
        within(SOON, "the peer's sessions are up", || {
            let (bgp, seen) = (peer.bgp_is_up()?, peer.seen()?);
            if bgp && seen.is_up { Ok(()) } else { Err(format!("{bgp}, {seen:?}")) }
        });
        neighbor.established_count
    }
}

/// The BGP session ends when BFD does, first at our end and then at the peer's, and comes back.
pub fn falls_with_bfd(lab: &Lab, peer: &dyn Peer) {
    let margay = Margay::start(lab);
    let speaker = Speaker::start(lab);
    let before = speaker.wait_until_up(peer, 0);

    let start = Instant::now();
    peer.process().signal(Signal::SIGSTOP);
    speaker.wait_for(FALLEN, "our BGP session falls", |neighbor| {
        let sent =
            neighbor.last_notification_sent.as_ref().is_some_and(|event| event.message.contains("BFD Down (6/10)"));
        sent && neighbor.peer.last_error.contains("BFD down")
    });
    println!("{:?}: BGP falls {:?} after the peer's BFD fell silent", lab.way, start.elapsed());
    peer.process().signal(Signal::SIGCONT);
    let before = speaker.wait_until_up(peer, before);

    let falls = peer.falls();
    margay.process.signal(Signal::SIGSTOP);
    within(FALLEN, "the peer's BGP session falls", || {
        if peer.falls() > falls { Ok(()) } else { Err(format!("{:?}, {:?}", peer.bgp_is_up(), peer.seen())) }
    });
    margay.process.signal(Signal::SIGCONT);
    speaker.wait_until_up(peer, before);
}
