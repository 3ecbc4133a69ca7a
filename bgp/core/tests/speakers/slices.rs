//! Large tables: whatever concerns all of one is done by many calls of bounded work, and may be interrupted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use margay_bgp_core::wire::{
    self, AfiSafi, AsPath, Attributes, Capability, GracefulRestart, GracefulRestartFamily, Open, RefreshSubtype,
    RouteRefresh,
};
use margay_bgp_core::{
    BfdConfig, BfdState, ConnectionId, Drain, EventKind, ExportPolicy, ImportPolicy, Input, MaxPrefixes,
    MaxPrefixesAction, Options, Output, Owner, Ownership, OwnershipCheck, PeerConfig, PeerName, ResolvedNextHop, Rib,
    RouteFilter, RouteMatch, RouteView, Rule, RuleAction, RuleSet, SetOperation, Speaker, SpeakerConfig,
};
use margay_net::{Asn, Cidr, Family, FromFelix, LinkState, NextHop, Now};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);
const OWN_ASN: Asn = Asn(64512);
/// Gives all routes; an internal peer.
const FEEDER: u32 = 1;
const RECEIVERS: [u32; 2] = [2, 3];
/// Where the feeder's routes lead.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The most prefixes that one call may work on: a slice on the way through the table, one of a group in the making, one
/// of decisions, and some that were noted for peers.
const MOST: u64 = 50_000;

struct World {
    speaker: Speaker,
    config: SpeakerConfig,
    /// How often the peers have connected.
    sessions: u64,
    calls: u64,
    most: u64,
    events: Vec<EventKind>,
}

impl World {
    fn new() -> World {
        let mut config = SpeakerConfig::new(OWN_ASN, OWN);
        for peer in [FEEDER].into_iter().chain(RECEIVERS) {
            let mut settings = PeerConfig::new(address(peer), asn(peer));
            settings.passive = true;
            config.peers.insert(name(peer), settings);
        }
        let feeder = config.peers.get_mut(&name(FEEDER)).unwrap();
        feeder.ownership = OwnershipCheck::Reflector;
        feeder.bfd = Some(BfdConfig::default());
        let speaker = Speaker::new(Options { seed: 1, restarting: false }, Now::at(Duration::ZERO));
        let mut world = World { speaker, config, sessions: 0, calls: 0, most: 0, events: Vec::new() };
        world.input(Input::Configure(world.config.clone()));
        world.input(link("eth0", OWN, "10.90.0.0/16"));
        world
    }

    /// With the feeder's session, its routes, and the first receiver.
    fn loaded(routes: u32) -> World {
        let mut world = World::new();
        world.establish(FEEDER);
        world.establish(RECEIVERS[0]);
        world.announce(0..routes, 1);
        world.input(way(1));
        assert_eq!(world.told(RECEIVERS[0]), routes as usize);
        world
    }

    fn timed<T>(&mut self, call: impl FnOnce(&mut Speaker) -> T) -> T {
        let before = self.speaker.counters().work;
        let result = call(&mut self.speaker);
        let work = self.speaker.counters().work - before;
        self.most = self.most.max(work);
        self.calls += u64::from(work > 0);
        result
    }

    fn input(&mut self, input: Input) {
        self.start(input);
        self.go_on(usize::MAX);
    }

    fn start(&mut self, input: Input) {
        self.timed(|speaker| speaker.handle_input(input, Now::at(Duration::ZERO)));
    }

    /// Takes so many outputs, or all.
    fn go_on(&mut self, outputs: usize) {
        for _ in 0..outputs {
            match self.timed(Speaker::poll_output) {
                Some(Output::Send { connection, .. }) => self.start(Input::SendQueueDrained { connection }),
                Some(Output::Fib(batch)) => self.start(Input::Felix(FromFelix::Applied { serial: batch.serial })),
                Some(Output::Event(event)) => self.events.push(event.kind),
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Does something that concerns all routes: many calls, none of which does too much.
    #[track_caller]
    fn in_slices(&mut self, what: &str, act: impl FnOnce(&mut World)) {
        (self.calls, self.most) = (0, 0);
        act(self);
        assert!(self.calls >= 10, "{what}: {} calls did it all", self.calls);
        self.is_bounded(what);
    }

    #[track_caller]
    fn is_bounded(&self, what: &str) {
        assert!(self.most <= MOST, "{what}: one call worked on {} prefixes", self.most);
    }

    fn change(&mut self, change: impl FnOnce(&mut SpeakerConfig)) -> Input {
        change(&mut self.config);
        Input::Configure(self.config.clone())
    }

    fn connection(&self, peer: u32) -> ConnectionId {
        ConnectionId(2 * (u64::from(peer) + 100 * self.sessions) + 1)
    }

    fn establish(&mut self, peer: u32) {
        let family = GracefulRestartFamily { family: AfiSafi::IPV4_UNICAST, forwarding_preserved: true };
        let restart =
            GracefulRestart { restarting: false, notification: false, restart_time: 60, families: vec![family] };
        let capabilities = vec![
            Capability::Multiprotocol(AfiSafi::IPV4_UNICAST),
            Capability::FourOctetAsn(asn(peer)),
            Capability::RouteRefresh,
            Capability::EnhancedRouteRefresh,
            Capability::GracefulRestart(restart),
        ];
        let (local, remote) = (SocketAddr::from((OWN, 179)), SocketAddr::new(address(peer), 40_000));
        self.start(Input::Accepted { connection: self.connection(peer), local, remote });
        let IpAddr::V4(router_id) = address(peer) else { return };
        self.say(peer, wire::encode_open(&Open::new(asn(peer), 90, router_id, capabilities)));
        self.say(peer, wire::encode_keepalive());
    }

    fn say(&mut self, peer: u32, bytes: impl Into<bytes::Bytes>) {
        let connection = self.connection(peer);
        self.start(Input::Received { connection, bytes: bytes.into() });
        // The tables' work may go on; what is said of sessions is said at once.
        self.go_on(if peer == FEEDER { 4 } else { usize::MAX });
    }

    fn close(&mut self, peer: u32) -> Input {
        Input::Closed { connection: self.connection(peer), reason: "gone".to_owned() }
    }

    fn announce(&mut self, prefixes: std::ops::Range<u32>, origin: u32) {
        let attributes = Attributes {
            as_path: AsPath::sequence([Asn(65100), Asn(origin)]),
            next_hop: Some(FAR.into()),
            local_pref: Some(100),
            ..Attributes::default()
        };
        let prefixes: Vec<Cidr> = prefixes.map(prefix).collect();
        for part in prefixes.chunks(8000) {
            let messages = wire::encode_announcements(Family::V4, &attributes, part.iter().copied(), true).unwrap();
            self.say(FEEDER, messages.concat());
        }
        self.go_on(usize::MAX);
    }

    fn refresh(&mut self, peer: u32, subtype: RefreshSubtype) {
        self.say(peer, wire::encode_route_refresh(RouteRefresh { family: AfiSafi::IPV4_UNICAST, subtype }));
        self.go_on(usize::MAX);
    }

    /// How many routes a receiver is told.
    fn told(&self, peer: u32) -> usize {
        self.speaker.advertised(&name(peer)).len()
    }

    /// All that may be asked of the tables.
    fn tables(&self) -> Vec<Vec<RouteView>> {
        let ribs = [Rib::Local, Rib::In(name(FEEDER)), Rib::Out(name(RECEIVERS[0])), Rib::Out(name(RECEIVERS[1]))];
        ribs.map(|rib| self.speaker.routes(&RouteFilter { rib, ..RouteFilter::default() })).into()
    }
}

fn address(peer: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a5a_0100 + peer).into()
}

fn asn(peer: u32) -> Asn {
    if peer == FEEDER { OWN_ASN } else { Asn(65000 + peer) }
}

fn name(peer: u32) -> PeerName {
    PeerName::new(format!("peer{peer}"))
}

fn prefix(at: u32) -> Cidr {
    Cidr::truncated(Ipv4Addr::from_bits(0x1400_0000 + at * 256).into(), 24).unwrap()
}

fn rules(med: u32) -> RuleSet {
    let rule = Rule { matches: RouteMatch::default(), action: RuleAction::Accept, set: vec![SetOperation::Med(med)] };
    RuleSet { rules: vec![rule], accept_by_default: false }
}

fn link(interface: &str, own: Ipv4Addr, prefix: &str) -> Input {
    let addresses = vec![(own.into(), prefix.parse().unwrap())];
    Input::Felix(FromFelix::Link(LinkState { interface: interface.to_owned(), running: true, addresses }))
}

fn way(metric: u32) -> Input {
    let next_hop = NextHop { addr: address(99), interface: Some("eth0".to_owned()) };
    Input::NextHop { address: FAR.into(), resolved: Some(ResolvedNextHop { next_hops: [next_hop].into(), metric }) }
}

fn owners(pool: &str) -> Input {
    let owner = Owner { node: "a".to_owned(), addresses: [address(FEEDER)].into(), router_id: None, asn: None };
    let pool: Cidr = pool.parse().unwrap();
    Input::Ownership(Arc::new(Ownership { pools: [pool].into(), owned: [(pool, Arc::new(owner))].into() }))
}

#[test]
fn no_call_works_on_more_than_a_slice_of_a_large_table() {
    const ROUTES: u32 = 200_000;
    let mut world = World::loaded(ROUTES);
    world.is_bounded("the announcements");
    let [first, second] = RECEIVERS;
    world.in_slices("a peer comes", |world| world.establish(second));
    assert_eq!(world.told(second), ROUTES as usize);
    world.in_slices("a peer asks again", |world| world.refresh(first, RefreshSubtype::Request));
    let export = |config: &mut SpeakerConfig| {
        config.peers.get_mut(&name(RECEIVERS[0])).unwrap().export = ExportPolicy(rules(7));
    };
    let input = world.change(export);
    world.in_slices("export policy", |world| world.input(input));
    let route = &world.speaker.advertised(&name(first))[0];
    assert_eq!(route.paths[0].attributes.med, Some(7));
    let input = world.change(|config| config.peers.get_mut(&name(FEEDER)).unwrap().import = ImportPolicy(rules(8)));
    world.in_slices("import policy", |world| world.input(input));
    world.in_slices("a way to the next hop", |world| world.input(way(2)));
    world.in_slices("an address", |world| world.input(link("eth1", Ipv4Addr::new(10, 91, 0, 1), "10.91.0.0/16")));
    world.in_slices("owners", |world| world.input(owners("20.0.0.0/9")));
    world.in_slices("other owners", |world| world.input(owners("20.0.0.0/10")));
    let input = world.change(|config| config.decision.always_compare_med = true);
    world.in_slices("a switch of the decision process", |world| world.input(input));
    let input = world.change(|config| config.decision.default_local_pref = 50);
    world.in_slices("the default LOCAL_PREF", |world| world.input(input));
    let input =
        world.change(|config| config.drain = Some(Drain { withdraw_after: Duration::from_secs(60), began: None }));
    world.in_slices("a drain", |world| world.input(input));
    let input = world.change(|config| config.drain = None);
    world.in_slices("its end", |world| world.input(input));
    assert_eq!((world.told(first), world.told(second)), (ROUTES as usize, ROUTES as usize));
    let input = world.close(second);
    world.input(input);
    world.is_bounded("a receiver goes");

    world.refresh(FEEDER, RefreshSubtype::Beginning);
    world.announce(0..100, 2);
    world.in_slices("what did not come again goes", |world| world.refresh(FEEDER, RefreshSubtype::End));
    assert_eq!(world.told(first), 100);
    world.announce(0..ROUTES, 3);
    let input = world.close(FEEDER);
    world.in_slices("a peer restarts", |world| world.input(input));
    assert!(world.events.contains(&EventKind::GracefulRestartBegan { paths: ROUTES as usize }));
    world.sessions += 1;
    world.establish(FEEDER);
    world.announce(0..100, 3);
    world.in_slices("End-of-RIB", |world| {
        world.say(FEEDER, wire::encode_end_of_rib(Family::V4));
        world.go_on(usize::MAX);
    });
    let flushed = ROUTES as usize - 100;
    let ended = EventKind::GracefulRestartEnded { reason: "End-of-RIB".to_owned(), flushed };
    assert!(world.events.contains(&ended), "{:#?}", world.events);
    assert_eq!(world.told(first), 100);

    world.announce(0..ROUTES, 4);
    let bfd = |state| Input::Bfd { peer: name(FEEDER), state, reason: "said so".to_owned() };
    world.input(bfd(BfdState::Up));
    world.in_slices("BFD", |world| world.input(bfd(BfdState::Down { control_plane_independent: false })));
    assert_eq!(world.told(first), 0);
    world.sessions += 1;
    world.establish(FEEDER);
    world.announce(0..ROUTES, 5);
    let limit = MaxPrefixes { limit: 10, warning_percent: 75, action: MaxPrefixesAction::Hold };
    let limited = |config: &mut SpeakerConfig| {
        config.peers.get_mut(&name(FEEDER)).unwrap().max_prefixes.insert(Family::V4, limit);
    };
    let input = world.change(limited);
    world.in_slices("a limit", |world| world.input(input));
    assert_eq!(world.speaker.counters().prefixes, 0);
    assert_eq!(world.speaker.counters().attribute_sets, 0);
}

/// Does the same to two speakers: one has done with each step before the next one comes, the other one hardly begins.
fn interrupted(routes: u32, steps: impl Fn(&mut World, &dyn Fn(&mut World))) {
    let tables = [usize::MAX, 3].map(|outputs| {
        let mut world = World::loaded(routes);
        world.establish(RECEIVERS[1]);
        steps(&mut world, &|world| world.go_on(outputs));
        world.go_on(usize::MAX);
        world.tables()
    });
    assert!(tables[0] == tables[1]);
}

#[test]
fn a_peer_that_is_back_before_its_routes_are_gone_keeps_none_of_them() {
    interrupted(40_000, |world, some| {
        world.start(Input::Reset { peer: name(FEEDER), reason: None });
        some(world);
        world.sessions += 1;
        world.establish(FEEDER);
        let counts = &world.speaker.peers()[0].counts[&Family::V4];
        assert_eq!(counts.received, 0, "no path of the last session counts");
        assert!(world.speaker.received(&name(FEEDER)).is_empty());
        world.announce(30_000..40_000, 2);
        world.go_on(usize::MAX);
        assert_eq!(world.speaker.received(&name(FEEDER)).len(), 10_000);
        assert_eq!(world.told(RECEIVERS[0]), 10_000);
    });
}

#[test]
fn what_comes_again_while_stale_routes_go_stays() {
    interrupted(40_000, |world, some| {
        let input = world.close(FEEDER);
        world.start(input);
        some(world);
        world.sessions += 1;
        world.establish(FEEDER);
        some(world);
        world.announce(0..20_000, 1);
        world.say(FEEDER, wire::encode_end_of_rib(Family::V4));
        some(world);
        world.announce(19_000..21_000, 2);
        world.go_on(usize::MAX);
        assert_eq!(world.told(RECEIVERS[0]), 21_000);
        assert!(world.speaker.received(&name(FEEDER)).iter().all(|route| !route.paths[0].stale));
    });
}

#[test]
fn policies_that_change_again_before_all_was_evaluated_count_as_they_are_at_last() {
    interrupted(40_000, |world, some| {
        let mut change = |import: u32, export: u32| {
            let input = world.change(|config| {
                config.peers.get_mut(&name(FEEDER)).unwrap().import = ImportPolicy(rules(import));
                config.peers.get_mut(&name(RECEIVERS[0])).unwrap().export = ExportPolicy(rules(export));
            });
            world.start(input);
            some(world);
        };
        change(1, 11);
        change(2, 12);
        change(3, 13);
        change(2, 11);
        world.go_on(usize::MAX);
        let told = world.speaker.advertised(&name(RECEIVERS[0]));
        assert!(told.len() == 40_000 && told.iter().all(|route| route.paths[0].attributes.med == Some(11)));
        let best = world.speaker.routes(&RouteFilter::default());
        assert!(best.iter().all(|route| route.paths[0].attributes.med == Some(2)));
    });
}
