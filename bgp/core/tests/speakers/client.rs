//! One speaker against peers that say exactly what a test wants them to say.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use margay_bgp_core::wire::{
    self, AfiSafi, Capability, DecodeContext, FamilySet, GracefulRestart, GracefulRestartFamily, Message, Notification,
    Open, PeerKind, frame,
};
use margay_bgp_core::{
    BfdSession, ConnectionId, FsmState, Input, ListenPeer, Options, Output, PeerConfig, PeerName, PeerView, Speaker,
    SpeakerConfig,
};
use margay_net::{Asn, Cidr, Family, FibChange, FromFelix, LocalRoute, LocalRouteChange, LocalRouteSource, Now};

/// The peer of most tests: 192.0.2.2, AS 65002, passive on our side.
pub(crate) const PEER: &str = "peer";
pub(crate) const ADDRESS: &str = "192.0.2.2";
pub(crate) const ASN: u32 = 65002;

pub(crate) struct Client {
    pub(crate) speaker: Speaker,
    pub(crate) now: Duration,
    next: u64,
    /// What was sent and not yet looked at.
    sent: Vec<(u64, Message)>,
    undecoded: BTreeMap<u64, Vec<u8>>,
    pub(crate) closed: Vec<u64>,
    pub(crate) events: Vec<String>,
    pub(crate) fib: BTreeMap<Cidr, bool>,
    pub(crate) bfd: Option<BTreeMap<PeerName, BfdSession>>,
    pub(crate) listen: Vec<ListenPeer>,
    /// Whether the speaker is told at once that its bytes are in the kernel.
    pub(crate) reads: bool,
}

pub(crate) fn peer_config() -> PeerConfig {
    let mut peer = PeerConfig::new(ADDRESS.parse().expect("an address"), Asn(ASN));
    peer.passive = true;
    peer
}

pub(crate) fn config(change: impl FnOnce(&mut PeerConfig)) -> SpeakerConfig {
    let mut config = SpeakerConfig::new(Asn(65001), [10, 0, 0, 1].into());
    let mut peer = peer_config();
    change(&mut peer);
    config.peers.insert(PEER.into(), peer);
    config
}

impl Client {
    pub(crate) fn new(config: SpeakerConfig) -> Client {
        Client::starting(config, false)
    }

    pub(crate) fn starting(config: SpeakerConfig, restarting: bool) -> Client {
        let now = Now::at(Duration::ZERO);
        let mut client = Client {
            speaker: Speaker::new(Options { seed: 1, restarting }, now),
            now: Duration::ZERO,
            next: 1,
            sent: Vec::new(),
            undecoded: BTreeMap::new(),
            closed: Vec::new(),
            events: Vec::new(),
            fib: BTreeMap::new(),
            bfd: None,
            listen: Vec::new(),
            reads: true,
        };
        client.input(Input::Configure(config));
        client
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.speaker.handle_input(input, Now::at(self.now));
        self.collect();
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.speaker.poll_timeout().filter(|due| due.0 <= end) {
            self.now = self.now.max(due.0);
            self.speaker.handle_timeout(Now::at(self.now));
            self.collect();
        }
        self.now = end;
    }

    fn collect(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Send { connection, bytes } => {
                    let buffer = self.undecoded.entry(connection.0).or_default();
                    buffer.extend_from_slice(&bytes);
                    while let Ok(Some(len)) = frame(buffer, wire::MAX_MESSAGE)
                        && len <= buffer.len()
                    {
                        let message: Vec<u8> = buffer.drain(..len).collect();
                        let message = wire::decode(&message, &context()).expect("a good message");
                        self.sent.push((connection.0, message));
                    }
                    if self.reads {
                        self.speaker.handle_input(Input::SendQueueDrained { connection }, Now::at(self.now));
                    }
                }
                Output::Close { connection } => self.closed.push(connection.0),
                Output::Event(event) => self.events.push(event.kind.to_string()),
                Output::Fib(batch) => {
                    for change in batch.changes {
                        match change {
                            FibChange::Set(route) => self.fib.insert(route.prefix, route.stale),
                            FibChange::Withdraw(prefix) => self.fib.remove(&prefix),
                        };
                    }
                    let applied = Input::Felix(FromFelix::Applied { serial: batch.serial });
                    self.speaker.handle_input(applied, Now::at(self.now));
                }
                Output::Bfd(sessions) => self.bfd = Some(sessions),
                Output::Listen { peers, .. } => self.listen = peers,
                Output::Connect { .. } | Output::TrackNextHops(_) | Output::Working => {}
            }
        }
    }

    /// Connects from an address and returns the connection's number.
    pub(crate) fn connect_from(&mut self, address: &str) -> u64 {
        let connection = self.next;
        self.next += 2;
        let remote = SocketAddr::new(address.parse().expect("an address"), 40000);
        let local: SocketAddr =
            if remote.is_ipv4() { "192.0.2.1:179" } else { "[2001:db8::1]:179" }.parse().expect("an address");
        self.input(Input::Accepted { connection: ConnectionId(connection), local, remote });
        connection
    }

    pub(crate) fn say(&mut self, connection: u64, bytes: impl Into<Bytes>) {
        self.input(Input::Received { connection: ConnectionId(connection), bytes: bytes.into() });
    }

    /// Makes a session from an address, with these capabilities beside four-octet AS numbers.
    pub(crate) fn establish_from(&mut self, address: &str, asn: u32, capabilities: Vec<Capability>) -> u64 {
        let connection = self.connect_from(address);
        self.say(connection, open(asn, capabilities));
        self.say(connection, wire::encode_keepalive());
        connection
    }

    /// Makes the session of the one peer, and drops what was sent and said of it.
    pub(crate) fn establish(&mut self, capabilities: Vec<Capability>) -> u64 {
        let connection = self.establish_from(ADDRESS, ASN, capabilities);
        assert_eq!(self.peer().state, FsmState::Established, "{:#?}", self.events);
        self.sent.clear();
        self.events.clear();
        connection
    }

    pub(crate) fn close(&mut self, connection: u64) {
        let reason = "closed by the peer".to_owned();
        self.input(Input::Closed { connection: ConnectionId(connection), reason });
    }

    pub(crate) fn announce(&mut self, connection: u64, prefixes: &[Cidr]) {
        for message in announcement(prefixes) {
            self.say(connection, message);
        }
    }

    /// Gives the speaker prefixes of its own.
    pub(crate) fn local(&mut self, prefixes: &[&str]) {
        let source = LocalRouteSource::Block;
        let announce = |prefix: &&str| {
            LocalRouteChange::Announce(LocalRoute { prefix: prefix.parse().expect("a prefix"), source })
        };
        self.input(Input::Felix(FromFelix::Local(prefixes.iter().map(announce).collect())));
    }

    /// Takes the messages that were sent.
    pub(crate) fn take_sent(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.sent).into_iter().map(|(_, message)| message).collect()
    }

    /// Takes the NOTIFICATIONs that were sent.
    pub(crate) fn notifications(&mut self) -> Vec<Notification> {
        let notification = |message| match message {
            Message::Notification(notification) => Some(notification),
            _ => None,
        };
        self.take_sent().into_iter().filter_map(notification).collect()
    }

    pub(crate) fn peer(&self) -> PeerView {
        self.peer_named(PEER).expect("the peer")
    }

    pub(crate) fn peer_named(&self, name: &str) -> Option<PeerView> {
        self.speaker.peers().into_iter().find(|peer| peer.name.as_str() == name)
    }

    /// Returns what the peer's session and routes wait for, in words.
    pub(crate) fn waits(&self) -> Vec<String> {
        self.peer().waits.into_iter().map(|wait| wait.what).collect()
    }

    #[track_caller]
    pub(crate) fn assert_event(&self, wanted: &str) {
        assert!(self.events.iter().any(|event| event == wanted), "no '{wanted}' in {:#?}", self.events);
    }
}

fn context() -> DecodeContext {
    DecodeContext {
        four_octet_asn: true,
        peer_kind: PeerKind::External,
        families: Family::ALL.into_iter().collect::<FamilySet>(),
        ..DecodeContext::default()
    }
}

pub(crate) fn open(asn: u32, mut capabilities: Vec<Capability>) -> Bytes {
    capabilities.push(Capability::FourOctetAsn(Asn(asn)));
    wire::encode_open(&Open::new(Asn(asn), 90, [10, 0, 0, 2].into(), capabilities))
}

/// Graceful restart for IPv4 with 60 s, with or without the N bit.
pub(crate) fn graceful_restart(notification: bool) -> Capability {
    Capability::GracefulRestart(GracefulRestart {
        restarting: false,
        notification,
        restart_time: 60,
        families: vec![GracefulRestartFamily { family: AfiSafi::IPV4_UNICAST, forwarding_preserved: true }],
    })
}

/// UPDATEs with IPv4 prefixes of the peer.
pub(crate) fn announcement(prefixes: &[Cidr]) -> Vec<Bytes> {
    // ORIGIN IGP, AS_PATH 65002, NEXT_HOP 192.0.2.2.
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    attributes.extend(ASN.to_be_bytes());
    attributes.extend([0x40, 3, 4, 192, 0, 2, 2]);
    let update = |prefixes: &[Cidr]| {
        let mut body = vec![0, 0, 0, attributes.len() as u8];
        body.extend(&attributes);
        body.extend(prefixes.iter().flat_map(|&prefix| nlri(prefix)));
        message(2, &body)
    };
    prefixes.chunks(500).map(update).collect()
}

/// An UPDATE that takes IPv4 prefixes back.
pub(crate) fn withdrawal(prefixes: &[Cidr]) -> Bytes {
    let withdrawn: Vec<u8> = prefixes.iter().flat_map(|&prefix| nlri(prefix)).collect();
    message(2, &[&(withdrawn.len() as u16).to_be_bytes()[..], &withdrawn, &[0, 0]].concat())
}

fn nlri(prefix: Cidr) -> Vec<u8> {
    let IpAddr::V4(addr) = prefix.addr() else { panic!("{prefix} is not IPv4") };
    let octets = usize::from(prefix.len().div_ceil(8));
    [&[prefix.len()][..], &addr.octets()[..octets]].concat()
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Bytes {
    [&[0xff; 16][..], &(19 + body.len() as u16).to_be_bytes(), &[kind], body].concat().into()
}
