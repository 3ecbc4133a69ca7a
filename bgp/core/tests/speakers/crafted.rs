//! One speaker between peers that are made by hand, so that they can say what no honest speaker would.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use margay_bgp_core::wire::{
    AfiSafi, AsPath, Attributes, Capability, DecodeContext, MAX_MESSAGE, Message, Open, PeerKind, decode,
    encode_announcements, encode_keepalive, encode_open, encode_withdrawals, frame,
};
use margay_bgp_core::{
    AdvertisementReason, ConnectionId, FsmState, Input, Options, Output, Ownership, PathView, PeerConfig, PeerName,
    RejectReason, RouteFilter, Speaker, SpeakerConfig, WhyView,
};
use margay_net::{
    Asn, BestRoute, Cidr, Family, FibChange, FromFelix, LinkState, LocalRoute, LocalRouteChange, LocalRouteSource, Now,
};

use crate::network::prefix;

/// The AS number of the speaker.
pub(crate) const OWN: u32 = 65000;

struct Hand {
    connection: ConnectionId,
    asn: Asn,
    context: DecodeContext,
    unread: BytesMut,
    told: BTreeMap<Cidr, Attributes>,
    /// UPDATEs received.
    updates: usize,
}

pub(crate) struct Crafted {
    pub(crate) speaker: Speaker,
    pub(crate) config: SpeakerConfig,
    pub(crate) fib: BTreeMap<Cidr, BestRoute>,
    /// Serial numbers of the batches that felix has not put into the kernel; absent where it does so at once.
    pub(crate) unapplied: Option<Vec<u64>>,
    hands: BTreeMap<String, Hand>,
    now: Duration,
    next_connection: u64,
}

/// Returns the address of the peer with a number, on the speaker's subnet 192.0.2.0/24.
pub(crate) fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

/// Returns attributes with an AS path, and the address of a peer as next hop.
pub(crate) fn path(asns: &[u32], number: u8) -> Attributes {
    let as_path = AsPath::sequence(asns.iter().copied().map(Asn));
    Attributes { as_path, next_hop: Some(address(number)), ..Attributes::default() }
}

impl Crafted {
    /// Makes a speaker at 192.0.2.1 with AS [`OWN`], without peers.
    pub(crate) fn new() -> Crafted {
        let now = Duration::ZERO;
        let mut config = SpeakerConfig::new(Asn(OWN), Ipv4Addr::new(10, 0, 0, 1));
        config.graceful_restart = None;
        let mut crafted = Crafted {
            speaker: Speaker::new(Options { seed: 1, restarting: false }, Now::at(now)),
            config,
            fib: BTreeMap::new(),
            unapplied: None,
            hands: BTreeMap::new(),
            now,
            next_connection: 1,
        };
        crafted.configure();
        crafted
    }

    /// Adds a peer with AS `asn`, the address of `number` and router id 10.0.0.`number`, and brings its session up.
    pub(crate) fn peer(&mut self, name: &str, number: u8, asn: u32, change: impl FnOnce(&mut PeerConfig)) {
        let mut peer = PeerConfig::new(address(number), Asn(asn));
        peer.passive = true;
        change(&mut peer);
        let own = peer.own_asn(self.config.asn);
        let families = peer.offered_families();
        self.config.peers.insert(name.into(), peer);
        self.configure();
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 2;
        let peer_kind = if own.0 == asn { PeerKind::Internal } else { PeerKind::External };
        let context = DecodeContext {
            four_octet_asn: true,
            peer_kind,
            families: families.iter().copied().collect(),
            ..DecodeContext::default()
        };
        let told = BTreeMap::new();
        let hand = Hand { connection, asn: Asn(asn), context, unread: BytesMut::new(), told, updates: 0 };
        self.hands.insert(name.to_owned(), hand);
        let (local, remote) = ((address(1), 179).into(), (address(number), 40_000).into());
        self.input(Input::Accepted { connection, local, remote });
        let capabilities = families
            .into_iter()
            .map(|family| Capability::Multiprotocol(AfiSafi::from(family)))
            .chain([Capability::FourOctetAsn(Asn(asn))])
            .collect();
        let open = Open::new(Asn(asn), 90, Ipv4Addr::new(10, 0, 0, number), capabilities);
        self.say(name, encode_open(&open));
        self.say(name, encode_keepalive());
        let view = self.speaker.peers().into_iter().find(|peer| peer.name.as_str() == name).unwrap();
        assert_eq!(view.state, FsmState::Established, "{view:#?}");
    }

    pub(crate) fn configure(&mut self) {
        self.input(Input::Configure(self.config.clone()));
    }

    /// Changes the settings of a peer and looks that its session stays.
    pub(crate) fn change(&mut self, name: &str, change: impl FnOnce(&mut PeerConfig)) {
        change(self.config.peers.get_mut(&PeerName::from(name)).expect("a peer"));
        self.configure();
        let view = self.speaker.peers().into_iter().find(|peer| peer.name.as_str() == name).unwrap();
        assert_eq!((view.state, view.established_count), (FsmState::Established, 1), "{view:#?}");
    }

    /// A peer announces a prefix.
    pub(crate) fn announce(&mut self, name: &str, cidr: &str, mut attributes: Attributes) {
        if self.hands[name].context.peer_kind == PeerKind::Internal {
            attributes.local_pref.get_or_insert(100);
        }
        attributes.canonicalize();
        let cidr = prefix(cidr);
        for message in encode_announcements(cidr.family(), &attributes, [cidr], true).unwrap() {
            self.say(name, message);
        }
    }

    /// Likewise, with a path of the peer's own AS and its own next hop.
    pub(crate) fn announce_plainly(&mut self, name: &str, cidr: &str) {
        let hand = &self.hands[name];
        let asns: &[u32] = if hand.context.peer_kind == PeerKind::Internal { &[] } else { &[hand.asn.0] };
        let IpAddr::V4(remote) = self.config.peers[&PeerName::from(name)].remote else { panic!("an IPv4 peer") };
        let attributes = path(asns, remote.octets()[3]);
        self.announce(name, cidr, attributes);
    }

    pub(crate) fn withdraw(&mut self, name: &str, cidr: &str) {
        let cidr = prefix(cidr);
        for message in encode_withdrawals(cidr.family(), [cidr]).unwrap() {
            self.say(name, message);
        }
    }

    /// The node itself announces a block.
    pub(crate) fn announce_local(&mut self, cidr: &str) {
        let route = LocalRoute { prefix: prefix(cidr), source: LocalRouteSource::Block };
        self.input(Input::Felix(FromFelix::Local(vec![LocalRouteChange::Announce(route)])));
    }

    /// Tells the speaker of its interface eth0 in 192.0.2.0/24.
    pub(crate) fn connect_subnet(&mut self) {
        self.interface("eth0", &[("192.0.2.1", "192.0.2.0/24")]);
    }

    pub(crate) fn interface(&mut self, name: &str, addresses: &[(&str, &str)]) {
        let addresses = addresses.iter().map(|(address, cidr)| (address.parse().unwrap(), prefix(cidr))).collect();
        let link = LinkState { interface: name.to_owned(), running: true, addresses };
        self.input(Input::Felix(FromFelix::Link(link)));
    }

    pub(crate) fn owners(&mut self, table: Ownership) {
        self.input(Input::Ownership(Arc::new(table)));
    }

    fn say(&mut self, name: &str, bytes: Bytes) {
        let connection = self.hands[name].connection;
        self.input(Input::Received { connection, bytes });
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.speaker.handle_input(input, Now::at(self.now));
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Send { connection, bytes } => {
                    if let Some(hand) = self.hands.values_mut().find(|hand| hand.connection == connection) {
                        hand.read(&bytes);
                    }
                    self.speaker.handle_input(Input::SendQueueDrained { connection }, Now::at(self.now));
                }
                Output::Fib(batch) => {
                    for change in batch.changes {
                        match change {
                            FibChange::Set(route) => drop(self.fib.insert(route.prefix, route)),
                            FibChange::Withdraw(prefix) => drop(self.fib.remove(&prefix)),
                        }
                    }
                    match &mut self.unapplied {
                        Some(unapplied) => unapplied.push(batch.serial),
                        None => self.apply(batch.serial),
                    }
                }
                _ => {}
            }
        }
    }

    fn apply(&mut self, serial: u64) {
        self.speaker.handle_input(Input::Felix(FromFelix::Applied { serial }), Now::at(self.now));
    }

    /// Has felix put the first of the batches into the kernel that are not there yet.
    pub(crate) fn apply_next(&mut self) {
        let serial = self.unapplied.as_mut().expect("felix waits").remove(0);
        self.input(Input::Felix(FromFelix::Applied { serial }));
    }

    // What tests ask.

    /// Returns what a peer has been told of a prefix.
    pub(crate) fn told(&self, name: &str, cidr: &str) -> Option<&Attributes> {
        self.hands[name].told.get(&prefix(cidr))
    }

    /// Returns the prefixes that a peer knows.
    pub(crate) fn known(&self, name: &str) -> BTreeSet<String> {
        self.hands[name].told.keys().map(ToString::to_string).collect()
    }

    pub(crate) fn as_path(&self, name: &str, cidr: &str) -> Option<String> {
        self.told(name, cidr).map(|told| told.as_path.to_string())
    }

    pub(crate) fn updates(&self, name: &str) -> usize {
        self.hands[name].updates
    }

    /// Returns the only path that a peer gave of a prefix.
    pub(crate) fn received(&self, name: &str, cidr: &str) -> PathView {
        let routes = self.speaker.received(&name.into());
        let route = routes.into_iter().find(|route| route.prefix == prefix(cidr)).expect("a route of the peer");
        route.paths.into_iter().next().expect("a path")
    }

    pub(crate) fn rejected(&self, name: &str, cidr: &str) -> Option<RejectReason> {
        self.received(name, cidr).rejected
    }

    pub(crate) fn next_hops(&self, cidr: &str) -> Vec<String> {
        let route = self.fib.get(&prefix(cidr));
        route.map_or_else(Vec::new, |route| route.next_hops.iter().map(|next_hop| next_hop.addr.to_string()).collect())
    }

    /// Returns the best path of a prefix, with import policy's changes.
    pub(crate) fn best(&self, cidr: &str) -> PathView {
        let filter = RouteFilter { within: Some(prefix(cidr)), ..RouteFilter::default() };
        let route = self.speaker.routes(&filter).into_iter().find(|route| route.prefix == prefix(cidr));
        let path = route.expect("a route").paths.into_iter().next().expect("a path");
        assert!(path.best, "{path:#?}");
        path
    }

    pub(crate) fn why(&self, cidr: &str) -> WhyView {
        self.speaker.why(prefix(cidr))
    }

    /// Returns why a peer is told a prefix or not, and looks that it is so.
    pub(crate) fn reason(&self, name: &str, cidr: &str) -> AdvertisementReason {
        let why = self.why(cidr);
        let view = why.advertisements.into_iter().find(|view| view.peer.as_str() == name).expect("a peer");
        let told = self.told(name, cidr);
        let advertised = matches!(view.reason, AdvertisementReason::Advertised { .. });
        assert_eq!((advertised, view.advertised.is_some()), (told.is_some(), told.is_some()), "{view:#?}");
        if let (Some(shown), Some(told)) = (&view.advertised, told) {
            let values = (shown.as_path.clone(), shown.next_hop, shown.med, shown.local_pref, shown.originator_id);
            let same = (told.as_path.to_string(), told.next_hop, told.med, told.local_pref, told.originator_id);
            assert_eq!(values, same);
        }
        assert_eq!(view.words, view.reason.to_string());
        view.reason
    }
}

impl Hand {
    fn read(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while let Ok(Some(len)) = frame(&self.unread, MAX_MESSAGE) {
            if len > self.unread.len() {
                return;
            }
            let message = self.unread.split_to(len);
            let Message::Update(update) = decode(&message, &self.context).expect("a good message") else { continue };
            assert_eq!(update.problems, []);
            self.updates += usize::from(update.end_of_rib.is_none());
            for withdrawal in update.withdrawn {
                withdrawal.prefixes.iter().for_each(|prefix| drop(self.told.remove(prefix)));
            }
            for announcement in update.announced {
                for prefix in announcement.prefixes {
                    self.told.insert(prefix, announcement.attributes.clone());
                }
            }
        }
    }
}

/// The families of a session that carries both.
pub(crate) fn both() -> BTreeSet<Family> {
    Family::ALL.into()
}
