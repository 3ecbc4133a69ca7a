//! The whole speaker, driven by what octets say happens to it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use margay_bgp_core::wire::{
    AfiSafi, Capability, DecodeContext, GracefulRestart, GracefulRestartFamily, MAX_MESSAGE, Message, Open, PeerKind,
    decode, encode_keepalive, encode_open, frame,
};
use margay_bgp_core::{
    ConnectionId, FsmState, Input, Options, Output, PeerConfig, PeerName, RouteFilter, Speaker, SpeakerConfig,
};
use margay_net::{Asn, Family, FromFelix, LinkState, LocalRoute, LocalRouteChange, LocalRouteSource, Now};

use crate::script::Script;

/// Two external peers and an internal one.
const ASNS: [u32; 3] = [65001, 70002, 64512];
const OUR_ASN: u32 = 64512;
/// Most events of one run.
const EVENTS: usize = 200;

struct World {
    speaker: Speaker,
    now: Duration,
    /// Connections with the peer at their other end.
    open: Vec<(ConnectionId, usize)>,
    asked_for: Vec<(ConnectionId, usize)>,
    closed: BTreeSet<ConnectionId>,
    next: u64,
}

/// Octets that say what happens: connections, messages good and bad, time, links, changes of the configuration. Whatever
/// it is, the speaker sends nothing but well-formed messages, and nothing on a connection that it closed.
pub fn speaker(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new();
    for _ in 0..EVENTS {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        world.drain();
    }
    world.ask();
    // Half an hour in which nobody says anything.
    for _ in 0..EVENTS {
        let Some(due) = world.speaker.poll_timeout().filter(|due| due.0 < world.now + Duration::from_secs(1800)) else {
            break;
        };
        world.now = world.now.max(due.0);
        world.speaker.handle_timeout(Now::at(world.now));
        world.drain();
    }
    world.ask();
}

fn address(peer: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 2 + peer as u8).into()
}

fn config(variant: u8) -> SpeakerConfig {
    let mut config = SpeakerConfig::new(Asn(OUR_ASN), Ipv4Addr::new(192, 0, 2, 1));
    for (index, asn) in ASNS.into_iter().enumerate() {
        let mut peer = PeerConfig::new(address(index), Asn(asn));
        peer.families = Family::ALL.into_iter().collect();
        peer.passive = index == 1;
        peer.route_reflector_client = variant & 1 == 1 && index == 2;
        peer.admin_up = variant & 2 == 0 || index == 2;
        peer.allow_own_as = variant >> 2 & 1;
        if variant & 8 == 8 {
            peer.hold_time = Duration::ZERO;
        }
        config.peers.insert(PeerName::from(["a", "b", "c"][index]), peer);
    }
    if variant & 16 == 16 {
        config.graceful_restart = None;
    }
    config
}

impl World {
    fn new() -> World {
        let speaker = Speaker::new(Options { seed: 1, restarting: false }, Now::at(Duration::ZERO));
        let mut world = World {
            speaker,
            now: Duration::from_secs(1),
            open: Vec::new(),
            asked_for: Vec::new(),
            closed: BTreeSet::new(),
            next: 1,
        };
        world.input(Input::Configure(config(0)));
        world.drain();
        world
    }

    fn input(&mut self, input: Input) {
        self.speaker.handle_input(input, Now::at(self.now));
    }

    /// What the next octets say.
    fn step(&mut self, script: &mut Script<'_>) {
        let what = script.octet();
        let connection = |world: &World, script: &mut Script<'_>| {
            let index = usize::from(script.octet());
            (!world.open.is_empty()).then(|| world.open[index % world.open.len()])
        };
        match what % 16 {
            0 => {
                let peer = usize::from(script.octet()) % 4;
                let id = ConnectionId(self.next);
                self.next += 2;
                self.open.push((id, peer));
                let (local, remote) = (SocketAddr::from(([192, 0, 2, 1], 179)), SocketAddr::new(address(peer), 40000));
                self.input(Input::Accepted { connection: id, local, remote });
            }
            1 => {
                if let Some((id, peer)) = self.asked_for.pop() {
                    self.open.push((id, peer));
                    let local = SocketAddr::from(([192, 0, 2, 1], 40000));
                    self.input(Input::Connected { connection: id, local, remote: SocketAddr::new(address(peer), 179) });
                }
            }
            2 => {
                if let Some((connection, _)) = self.asked_for.pop() {
                    self.input(Input::ConnectFailed { connection, reason: "refused".to_owned() });
                }
            }
            3 => {
                if let Some((id, peer)) = connection(self, script) {
                    let open = good_open(peer, script.octet());
                    self.receive(id, &encode_open(&open));
                }
            }
            4 => {
                if let Some((id, _)) = connection(self, script) {
                    self.receive(id, &encode_keepalive());
                }
            }
            5..=8 => {
                if let Some((id, _)) = connection(self, script) {
                    // Mostly UPDATE.
                    let kind = [2, 2, 2, 1, 3, 5, 4, 2][usize::from(script.octet()) % 8];
                    let body = script.octets();
                    self.receive(id, &message(kind, &body));
                }
            }
            9 => {
                if let Some((id, _)) = connection(self, script) {
                    let bytes = script.octets();
                    self.receive(id, &bytes);
                }
            }
            10 => {
                if !self.open.is_empty() {
                    let index = usize::from(script.octet()) % self.open.len();
                    let (connection, _) = self.open.remove(index);
                    self.input(Input::Closed { connection, reason: "closed".to_owned() });
                }
            }
            11 => {
                if let Some((connection, _)) = connection(self, script) {
                    self.input(Input::SendQueueDrained { connection });
                }
            }
            12 => {
                self.now += Duration::from_millis(u64::from(script.octet()) * 500);
                self.speaker.handle_timeout(Now::at(self.now));
            }
            13 => {
                let prefix = format!("10.{}.0.0/24", script.octet()).parse().expect("a prefix");
                let change = if what & 16 == 0 {
                    LocalRouteChange::Announce(LocalRoute { prefix, source: LocalRouteSource::Block })
                } else {
                    LocalRouteChange::Withdraw(prefix)
                };
                self.input(Input::Felix(FromFelix::Local(vec![change])));
            }
            14 => {
                let own = ("192.0.2.1".parse().expect("an address"), "192.0.2.0/24".parse().expect("a prefix"));
                let running = what & 16 == 0;
                let state = LinkState { interface: "eth0".to_owned(), running, addresses: vec![own] };
                self.input(Input::Felix(FromFelix::Link(state)));
            }
            _ => {
                let variant = script.octet();
                if variant >= 128 {
                    let peer = PeerName::from(["a", "b", "c"][usize::from(variant) % 3]);
                    self.input(Input::Reset { peer, reason: None });
                } else {
                    self.input(Input::Configure(config(variant)));
                }
            }
        }
    }

    fn receive(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.input(Input::Received { connection, bytes: Bytes::copy_from_slice(bytes) });
    }

    fn drain(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Connect { connection, remote, .. } => {
                    let peer = (0..ASNS.len()).find(|&peer| address(peer) == remote.ip()).expect("a configured peer");
                    self.asked_for.push((connection, peer));
                }
                Output::Send { connection, bytes } => {
                    assert!(!self.closed.contains(&connection), "something is sent on what is closed");
                    check_sent(&bytes);
                }
                Output::Close { connection } => {
                    assert!(self.closed.insert(connection), "closed twice");
                    self.open.retain(|&(open, _)| open != connection);
                    self.asked_for.retain(|&(asked_for, _)| asked_for != connection);
                }
                Output::Fib(batch) => {
                    let applied = Input::Felix(FromFelix::Applied { serial: batch.serial });
                    self.speaker.handle_input(applied, Now::at(self.now));
                }
                Output::Event(event) => assert!(!event.kind.to_string().is_empty()),
                _ => {}
            }
        }
    }

    /// Asks all that can be asked.
    fn ask(&self) {
        for peer in self.speaker.peers() {
            let routes = self.speaker.received(&peer.name).len();
            assert!(peer.state == FsmState::Established || peer.restarting || routes == 0, "routes of no session");
            let _ = self.speaker.advertised(&peer.name);
        }
        let routes = self.speaker.routes(&RouteFilter::default());
        for route in &routes {
            assert!(route.paths.iter().filter(|path| path.best).count() <= 1);
        }
        let _ = self.speaker.counters();
    }
}

/// All that is sent is whole messages that a peer reads without complaint.
fn check_sent(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let len = frame(bytes, MAX_MESSAGE).expect("a good header").expect("a whole header");
        let (message, rest) = bytes.split_at_checked(len).expect("a whole message");
        // A peer of two-octet AS numbers reads AS_PATH otherwise.
        let read = [true, false].map(|four_octet_asn| {
            let context = DecodeContext {
                four_octet_asn,
                peer_kind: PeerKind::Internal,
                families: Family::ALL.into_iter().collect(),
                ..DecodeContext::default()
            };
            // To an external peer there is no LOCAL_PREF; all else must be right.
            match decode(message, &context) {
                Ok(Message::Update(update)) => update.problems.iter().all(|problem| problem.attribute.0 == 5),
                other => other.is_ok(),
            }
        });
        assert!(read.contains(&true), "a malformed message is sent: {message:02x?}");
        bytes = rest;
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend((19 + body.len() as u16).to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

fn good_open(peer: usize, variant: u8) -> Open {
    let asn = Asn(ASNS.get(peer).copied().unwrap_or(1));
    let mut capabilities = vec![
        Capability::Multiprotocol(AfiSafi::IPV4_UNICAST),
        Capability::Multiprotocol(AfiSafi::IPV6_UNICAST),
        Capability::RouteRefresh,
    ];
    if variant & 1 == 0 {
        capabilities.push(Capability::FourOctetAsn(asn));
    }
    if variant & 2 == 0 {
        let kept = |family: AfiSafi| GracefulRestartFamily { family, forwarding_preserved: variant & 4 == 0 };
        capabilities.push(Capability::GracefulRestart(GracefulRestart {
            restarting: variant & 8 == 8,
            notification: variant & 16 == 16,
            restart_time: 30,
            families: vec![kept(AfiSafi::IPV4_UNICAST), kept(AfiSafi::IPV6_UNICAST)],
        }));
    }
    if variant & 32 == 32 {
        capabilities.push(Capability::EnhancedRouteRefresh);
    }
    Open::new(asn, if variant & 64 == 64 { 0 } else { 90 }, Ipv4Addr::new(192, 0, 2, 2 + peer as u8), capabilities)
}
