//! The daemons as the matrix needs them: a configuration from a [`Setup`], what they have, and what can be asked of them.

mod bird;
mod frr;
mod gobgp;
mod openbgpd;

use std::net::{IpAddr, Ipv4Addr};

use margay_net::{Cidr, Family};

use super::cell::Cell;
use super::claims::Kind;
use crate::support::process::Process;
use crate::support::{Lab, PEER_ASN};

pub const OUR_ASN: u32 = 4_200_000_001;

/// What a daemon is told about its sessions. It announces the lab's prefixes with ORIGIN EGP, MED 77 and the communities
/// 65001:100, 65001:1:2 (large) and rt:65001:100 (extended), and passes on what it learns.
#[derive(Debug, Clone)]
pub struct Setup {
    pub family: Family,
    /// The AS number that it expects of us.
    pub our_asn: u32,
    pub peer_asn: u32,
    /// A second peer, the collector, of this AS, which it waits for.
    pub collector_asn: Option<u32>,
    /// Whether internal peers are its route reflector clients.
    pub reflects: bool,
    pub key: Option<&'static str>,
    pub ttl_security: bool,
    pub multihop: bool,
    /// Whether it connects, where otherwise it waits.
    pub active: bool,
    pub graceful_restart: bool,
    /// Whether it offers several paths of a prefix both ways.
    pub add_path: bool,
    /// In seconds, as we have it too.
    pub hold_time: u64,
    /// Where it listens.
    pub port: u16,
    /// Whether it has a policy, which takes and tells everything.
    pub policy: bool,
    /// How many prefixes of ours it takes.
    pub max_prefixes: Option<u32>,
    /// A host route that it announces with BLACKHOLE and nothing else.
    pub blackhole: Option<Cidr>,
}

impl Setup {
    pub fn new(family: Family) -> Setup {
        Setup {
            family,
            our_asn: OUR_ASN,
            peer_asn: PEER_ASN,
            collector_asn: None,
            reflects: false,
            key: None,
            ttl_security: false,
            multihop: false,
            active: false,
            graceful_restart: false,
            add_path: false,
            hold_time: 9,
            port: 179,
            policy: true,
            max_prefixes: None,
            blackhole: None,
        }
    }
}

/// A path as a daemon has it, all in the same words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path {
    pub as_path: String,
    pub next_hop: Option<IpAddr>,
    /// `igp`, `egp` or `incomplete`.
    pub origin: String,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    /// As in `65001:100`.
    pub communities: Vec<String>,
    /// As in `65001:1:2`.
    pub large_communities: Vec<String>,
    /// As in `rt:65001:100`.
    pub extended_communities: Vec<String>,
    pub originator_id: Option<Ipv4Addr>,
    pub cluster_list: Vec<Ipv4Addr>,
}

pub trait Daemon {
    fn process(&mut self) -> &mut Process;

    /// Stops it as SIGSTOP does, or lets it go on.
    fn pause(&mut self, paused: bool) {
        if paused { self.process().pause() } else { self.process().resume() }
    }

    /// The paths of a prefix that came from `neighbor`.
    fn paths(&self, prefix: Cidr, neighbor: IpAddr) -> Result<Vec<Path>, String>;

    /// Whose path of a prefix is its best one; none where that is its own or there is none.
    fn best(&self, prefix: Cidr) -> Result<Option<IpAddr>, String>;

    /// The negotiated hold time in seconds.
    fn hold_time(&self, neighbor: IpAddr) -> Result<u64, String>;

    /// What it logged.
    fn log(&self) -> String;

    /// Asks us for our routes again.
    fn refresh(&self, neighbor: IpAddr);

    /// Whether it saw both ends of a refresh that it asked for (RFC 7313).
    fn saw_enhanced_refresh(&self, _neighbor: IpAddr) -> Result<(), String> {
        panic!("not claimed");
    }

    /// How it logs the NOTIFICATION of a code and a subcode: all of these words in one line.
    fn words_for(&self, code: u8, subcode: u8) -> Vec<String>;

    /// Ends the session by a Cease that leaves graceful restart its chance, or by a Hard Reset (RFC 8538).
    fn cease(&self, _neighbor: IpAddr, _hard: bool) {
        panic!("not claimed");
    }

    /// Stops the session with us and says why.
    fn shut_down(&self, neighbor: IpAddr, why: &str);

    /// Withdraws what it announces itself.
    fn withdraw(&self);
}

/// Starts a daemon.
pub fn start(cell: &Cell, lab: &Lab, setup: &Setup) -> Box<dyn Daemon> {
    start_again(cell, lab, setup, false)
}

/// Starts a daemon, as after a crash where `recovers`: it says that its forwarding state is preserved.
pub fn start_again(cell: &Cell, lab: &Lab, setup: &Setup, recovers: bool) -> Box<dyn Daemon> {
    match cell.kind {
        Kind::Bird => Box::new(bird::start(lab, setup, recovers)),
        Kind::Frr => Box::new(frr::start(lab, setup)),
        Kind::Gobgp => Box::new(gobgp::start(lab, setup, recovers)),
        Kind::Openbgpd => Box::new(openbgpd::start(lab, setup)),
    }
}

/// A community that a daemon knows by name, by its number.
fn by_number(community: &str) -> String {
    let number = match community.replace('_', "-").as_str() {
        "graceful-shutdown" => "65535:0",
        "blackhole" => "65535:666",
        "no-export" => "65535:65281",
        "no-advertise" => "65535:65282",
        "no-peer" => "65535:65284",
        _ => community,
    };
    number.to_owned()
}

/// Whether it logged a NOTIFICATION of this code and subcode.
pub fn logged_notification(daemon: &dyn Daemon, code: u8, subcode: u8) -> Result<(), String> {
    let (log, words) = (daemon.log(), daemon.words_for(code, subcode));
    let found = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    if found { Ok(()) } else { Err(format!("no line with {words:?} in its log:\n{log}")) }
}

/// One path that is there, or why not.
pub fn path_of(daemon: &dyn Daemon, prefix: Cidr, neighbor: IpAddr) -> Result<Path, String> {
    let mut paths = daemon.paths(prefix, neighbor)?;
    if paths.len() == 1 { Ok(paths.remove(0)) } else { Err(format!("{} paths of {prefix}: {paths:?}", paths.len())) }
}
