//! One speaker with two peers: the one that misbehaves, and a witness that is told what becomes of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use margay_bgp_core::wire::{
    self, AfiSafi, Capability, DecodeContext, Message, Notification, Open, PeerKind, Update, decode, encode_keepalive,
    encode_open, frame,
};
use margay_bgp_core::{
    AddPath, AddPathSend, ConnectionId, FsmState, Input, Options, Output, PeerConfig, PeerName, PeerView, Speaker,
    SpeakerConfig,
};
use margay_net::{Asn, BestRoute, Cidr, Family, FibChange, FromFelix, LinkState, Now};

pub(crate) const OUR_ASN: u32 = 64512;
pub(crate) const PEER_ASN: u32 = 65001;
pub(crate) const PEER: &str = "peer";
pub(crate) const WITNESS: &str = "witness";
/// What the peer announces while all is well.
pub(crate) const ROUTE_V4: &str = "10.1.2.0/24";
pub(crate) const ROUTE_V6: &str = "fd00:1::/32";
pub(crate) const NEXT_HOP_V6: &str = "20010db8000000000000000000000002";

/// What came out on a connection.
#[derive(Default)]
pub(crate) struct Pipe {
    pub(crate) messages: Vec<Message>,
    pub(crate) closed: bool,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) speaker: Speaker,
    pub(crate) pipes: BTreeMap<ConnectionId, Pipe>,
    pub(crate) fib: BTreeMap<Cidr, BestRoute>,
    /// Whether what is handed out counts as sent at once.
    pub(crate) peers_read: bool,
    pub(crate) internal: bool,
    config: SpeakerConfig,
    asked_for: Vec<(ConnectionId, SocketAddr)>,
    next: u64,
}

/// Octets from hexadecimal with spaces.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(|char| !char.is_whitespace()).collect();
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A message with a right header.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// An UPDATE with right lengths.
pub(crate) fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for field in [withdrawn, attributes] {
        body.extend(u16::try_from(field.len()).unwrap().to_be_bytes());
        body.extend(field);
    }
    body.extend(nlri);
    message(2, &body)
}

fn address(host: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, host).into()
}

impl World {
    /// A speaker whose witness is established. `internal`: the misbehaving peer is of our AS.
    pub(crate) fn new(internal: bool, passive: bool) -> World {
        let mut world = World {
            now: Duration::from_secs(1),
            speaker: Speaker::new(Options { seed: 7, restarting: false }, Now::at(Duration::ZERO)),
            pipes: BTreeMap::new(),
            fib: BTreeMap::new(),
            peers_read: true,
            internal,
            config: SpeakerConfig::new(Asn(OUR_ASN), Ipv4Addr::new(192, 0, 2, 1)),
            asked_for: Vec::new(),
            next: 1,
        };
        let mut config = world.config.clone();
        for (name, host, asn) in [(PEER, 2, world.peer_asn()), (WITNESS, 3, 65003)] {
            let mut peer = PeerConfig::new(address(host), Asn(asn));
            peer.families = Family::ALL.into_iter().collect();
            peer.passive = passive || name == WITNESS;
            config.peers.insert(PeerName::from(name), peer);
        }
        let own = [("192.0.2.1", "192.0.2.0/24"), ("2001:db8::1", "2001:db8::/64")];
        let link = LinkState {
            interface: "eth0".to_owned(),
            running: true,
            addresses: own.map(|(own, prefix)| (own.parse().unwrap(), prefix.parse().unwrap())).to_vec(),
        };
        world.input(Input::Felix(FromFelix::Link(link)));
        world.config = config.clone();
        world.input(Input::Configure(config));
        let witness = world.accept(3);
        world.receive(witness, &encode_open(&self::open(65003, 3)));
        world.receive(witness, &encode_keepalive());
        assert_eq!(world.peer(WITNESS).state, FsmState::Established);
        world
    }

    pub(crate) fn peer_asn(&self) -> u32 {
        if self.internal { OUR_ASN } else { PEER_ASN }
    }

    /// A peer whose session is in `state`, with the connection it is in; in Connect it is not there yet.
    pub(crate) fn at(state: FsmState, internal: bool) -> (World, ConnectionId) {
        let mut world = World::new(internal, state != FsmState::Connect);
        if state == FsmState::Connect {
            let asked_for = world.asked_for.iter().find(|(_, remote)| remote.ip() == address(2));
            let connection = asked_for.expect("an attempt to connect").0;
            assert_eq!(world.peer(PEER).state, state);
            return (world, connection);
        }
        let connection = world.accept(2);
        if state >= FsmState::OpenConfirm {
            let open = encode_open(&self::open(world.peer_asn(), 2));
            world.receive(connection, &open);
        }
        if state >= FsmState::Established {
            world.receive(connection, &encode_keepalive());
            let routes = world.good_routes();
            world.receive(connection, &routes);
        }
        assert_eq!(world.peer(PEER).state, state);
        world.pipes.values_mut().for_each(|pipe| pipe.messages.clear());
        (world, connection)
    }

    /// An established external peer that sends several paths of IPv4 prefixes.
    pub(crate) fn with_add_path() -> (World, ConnectionId) {
        let mut world = World::new(false, true);
        let mut config = world.config.clone();
        config.peers.get_mut(PEER).unwrap().add_path = AddPath { receive: true, send: AddPathSend::None };
        world.input(Input::Configure(config));
        let connection = world.accept(2);
        let mut open = self::open(PEER_ASN, 2);
        let sends = wire::AddPath { family: AfiSafi::IPV4_UNICAST, receive: false, send: true };
        open.capabilities.push(Capability::AddPath(vec![sends]));
        world.receive(connection, &encode_open(&open));
        world.receive(connection, &encode_keepalive());
        assert_eq!(world.peer(PEER).state, FsmState::Established);
        (world, connection)
    }

    /// The mandatory attributes of the peer's routes.
    pub(crate) fn mandatory(&self) -> Vec<u8> {
        hex(if self.internal {
            "400101 00 400200 400304 c0000202 400504 00000064"
        } else {
            "400101 00 400206 02010000fde9 400304 c0000202"
        })
    }

    /// The routes of both families, in one message.
    fn good_routes(&self) -> Vec<u8> {
        let mut attributes = hex(&format!("800e1a 000201 10 {NEXT_HOP_V6} 00 20 fd000001"));
        attributes.extend(self.mandatory());
        update(&[], &attributes, &hex("18 0a0102"))
    }

    /// Accepts a connection from 192.0.2.`host`.
    pub(crate) fn accept(&mut self, host: u8) -> ConnectionId {
        let connection = ConnectionId(self.next);
        let remote = SocketAddr::new(address(host), 40000 + (self.next % 20000) as u16);
        self.next += 2;
        self.pipes.insert(connection, Pipe::default());
        self.input(Input::Accepted { connection, local: SocketAddr::new(address(1), 179), remote });
        connection
    }

    pub(crate) fn receive(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.input(Input::Received { connection, bytes: Bytes::copy_from_slice(bytes) });
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.speaker.handle_input(input, Now::at(self.now));
        self.drain();
    }

    /// Lets time pass, with its timers.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.speaker.poll_timeout().filter(|due| due.0 <= end) {
            self.now = self.now.max(due.0);
            self.speaker.handle_timeout(Now::at(self.now));
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Connect { connection, remote, .. } => self.asked_for.push((connection, remote)),
                Output::Send { connection, bytes } => {
                    if let Some(pipe) = self.pipes.get_mut(&connection) {
                        assert!(!pipe.closed, "nothing is sent on what is closed");
                        pipe.messages.extend(decoded(&bytes));
                        if self.peers_read {
                            self.speaker.handle_input(Input::SendQueueDrained { connection }, Now::at(self.now));
                        }
                    }
                }
                Output::Close { connection } => {
                    if let Some(pipe) = self.pipes.get_mut(&connection) {
                        pipe.closed = true;
                    }
                }
                Output::Fib(batch) => {
                    for change in batch.changes {
                        match change {
                            FibChange::Set(route) => drop(self.fib.insert(route.prefix, route)),
                            FibChange::Withdraw(prefix) => drop(self.fib.remove(&prefix)),
                        }
                    }
                    let applied = Input::Felix(FromFelix::Applied { serial: batch.serial });
                    self.speaker.handle_input(applied, Now::at(self.now));
                }
                _ => {}
            }
        }
    }

    pub(crate) fn peer(&self, name: &str) -> PeerView {
        self.speaker.peers().into_iter().find(|peer| peer.name.as_str() == name).unwrap()
    }

    pub(crate) fn has(&self, prefix: &str) -> bool {
        self.fib.contains_key(&prefix.parse().unwrap())
    }

    /// The NOTIFICATION that was sent on a connection; it is the last message, and the connection is closed.
    pub(crate) fn notification(&self, connection: ConnectionId) -> Option<&Notification> {
        let pipe = &self.pipes[&connection];
        let notifications = pipe.messages.iter().filter(|message| matches!(message, Message::Notification(_)));
        assert!(notifications.count() <= 1, "{:?}", pipe.messages);
        match pipe.messages.last() {
            Some(Message::Notification(notification)) => {
                assert!(pipe.closed, "a NOTIFICATION ends the connection");
                Some(notification)
            }
            _ => None,
        }
    }

    /// What the witness was told since it was looked at last.
    pub(crate) fn told_to_witness(&mut self) -> Vec<Update> {
        let witness = self.pipes.get_mut(&ConnectionId(1)).unwrap();
        let messages = std::mem::take(&mut witness.messages).into_iter();
        messages.filter_map(|message| if let Message::Update(update) = message { Some(update) } else { None }).collect()
    }

    /// What must hold whatever the peer does: the witness's session is the one that it was.
    pub(crate) fn assert_witness_unharmed(&self, what: &str) {
        let witness = self.peer(WITNESS);
        assert_eq!((witness.state, witness.established_count), (FsmState::Established, 1), "{what}");
        assert!(!self.pipes[&ConnectionId(1)].closed, "{what}");
        for message in &self.pipes[&ConnectionId(1)].messages {
            if let Message::Update(update) = message {
                assert_eq!(update.problems, [], "{what}: what the witness is told is well-formed");
            }
        }
    }
}

pub(crate) fn open(asn: u32, host: u8) -> Open {
    let capabilities = vec![
        Capability::Multiprotocol(AfiSafi::IPV4_UNICAST),
        Capability::Multiprotocol(AfiSafi::IPV6_UNICAST),
        Capability::RouteRefresh,
        Capability::FourOctetAsn(Asn(asn)),
    ];
    Open::new(Asn(asn), 90, Ipv4Addr::new(192, 0, 2, host), capabilities)
}

/// Reads what the speaker sends, as strictly as it reads itself.
fn decoded(mut bytes: &[u8]) -> Vec<Message> {
    let context = DecodeContext {
        four_octet_asn: true,
        peer_kind: PeerKind::Internal,
        families: Family::ALL.into_iter().collect(),
        ..DecodeContext::default()
    };
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let len = frame(bytes, 4096).unwrap().expect("whole messages");
        let (message, rest) = bytes.split_at(len);
        // To an external peer there is no LOCAL_PREF, so that it is read as from one.
        let external = DecodeContext { peer_kind: PeerKind::External, ..context };
        let internal = decode(message, &context).unwrap();
        let clean = |message: &Message| !matches!(message, Message::Update(update) if !update.problems.is_empty());
        messages.push(if clean(&internal) { internal } else { decode(message, &external).unwrap() });
        bytes = rest;
    }
    messages
}
