use std::collections::BTreeMap;
use std::net::IpAddr;

use margay_net::Cidr;

use super::process::Process;

/// What the peer is told about the session.
#[derive(Debug, Clone)]
pub struct PeerOptions {
    /// The AS number that the peer expects of us.
    pub our_asn: u32,
    pub graceful_restart: bool,
    /// Whether it connects by itself (BIRD alone).
    pub active: bool,
    /// A TCP-MD5 key.
    pub password: Option<&'static str>,
    pub ttl_security: bool,
}

impl Default for PeerOptions {
    fn default() -> PeerOptions {
        PeerOptions {
            our_asn: super::OUR_ASN,
            graceful_restart: false,
            active: false,
            password: None,
            ttl_security: false,
        }
    }
}

/// A route as the peer has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub as_path: String,
    pub next_hop: IpAddr,
    /// `igp`, `egp` or `incomplete`.
    pub origin: String,
    pub med: Option<u32>,
    /// As in `65001:100`.
    pub communities: Vec<String>,
}

/// NOTIFICATIONs that a peer must have understood.
#[derive(Debug, Clone, Copy)]
pub enum Notification {
    HoldTimerExpired,
    AdministrativeShutdown,
    BadPeerAs,
}

/// A router of another make. It announces [`super::Lab::peer_prefixes`] with ORIGIN EGP, MED 77 and the community
/// 65001:100, holds for 3 seconds and does not connect by itself.
pub trait Peer {
    fn process(&mut self) -> &mut Process;

    /// The routes that it has from us.
    fn received(&self) -> Result<BTreeMap<Cidr, Seen>, String>;

    /// Withdraws all that it announces.
    fn withdraw(&self);

    /// What it logged.
    fn log(&self) -> String;

    /// What its log says when it receives a NOTIFICATION.
    fn words_for(&self, notification: Notification) -> &'static [&'static str];

    /// Whether it logged the reception of this NOTIFICATION.
    fn received_notification(&self, notification: Notification) -> Result<(), String> {
        let (log, words) = (self.log(), self.words_for(notification));
        let found = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        super::so(found, || format!("no line with {words:?} in its log:\n{log}"))
    }
}
