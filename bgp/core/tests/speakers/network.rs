//! Speakers joined by a network in memory, on a virtual clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use margay_bgp_core::{
    ConnectionId, EventKind, FsmState, Input, Options, Output, PeerConfig, PeerName, Speaker, SpeakerConfig, StopKind,
};
use margay_net::{
    Asn, BestRoute, Cidr, FibChange, FromFelix, LinkState, LocalRoute, LocalRouteChange, LocalRouteSource, Now,
};

/// The time that anything takes from one node to another.
pub(crate) const LATENCY: Duration = Duration::from_millis(1);

/// A speaker with what its shell and felix would do.
pub(crate) struct Node {
    pub(crate) speaker: Speaker,
    pub(crate) config: SpeakerConfig,
    pub(crate) fib: BTreeMap<Cidr, BestRoute>,
    pub(crate) fib_batches: usize,
    /// Prefixes told since the start.
    told: BTreeSet<Cidr>,
    pub(crate) complete: bool,
    /// How often the ways to a prefix changed or went, staleness aside.
    pub(crate) ways_changed: usize,
    pub(crate) events: Vec<(Option<String>, EventKind)>,
    pub(crate) sent_bytes: usize,
    /// The sets of next hops to track, as they were given out.
    pub(crate) tracked: Vec<BTreeSet<IpAddr>>,
    /// Portions of bytes handed out: a message, or several for one connection at once.
    pub(crate) sends: usize,
    pub(crate) alive: bool,
    /// Counts restarts: a new speaker gives its connections the numbers of the one before.
    life: u64,
    next_inbound: u64,
    /// Bytes handed out and not yet with the other side, by connection.
    in_flight: BTreeMap<ConnectionId, usize>,
    seed: u64,
}

/// One end of a link: a node and its address there.
pub(crate) type End = (usize, IpAddr);

struct Link {
    ends: [End; 2],
    up: bool,
}

#[derive(Clone, Copy)]
struct Remote {
    node: usize,
    /// Of the node, when the connection was made.
    life: u64,
    connection: ConnectionId,
    link: usize,
    dead: bool,
}

enum Delivery {
    Input(usize, Box<Input>),
    Bytes { from: (usize, ConnectionId), to: Remote, bytes: Bytes },
    Closed(Remote),
}

/// What makes the order of events on different nodes random.
struct Disorder {
    rng: SmallRng,
    /// Most time that bytes take beside [`LATENCY`].
    jitter: Duration,
    /// Most time that a timer acts late.
    lateness: Duration,
}

impl Disorder {
    fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.rng.random_range(0..=most.as_micros() as u64))
    }
}

pub(crate) struct Network {
    pub(crate) now: Duration,
    pub(crate) nodes: Vec<Node>,
    links: Vec<Link>,
    /// The first link over which a node reaches an address.
    ways: BTreeMap<(usize, IpAddr), usize>,
    /// When a living node wants to be called, and the same by node.
    timers: BTreeSet<(Duration, usize)>,
    due: Vec<Option<Duration>>,
    /// When the last bytes of a connection arrive: what is sent later arrives later.
    arrivals: BTreeMap<(usize, ConnectionId), Duration>,
    disorder: Option<Disorder>,
    pipes: BTreeMap<(usize, ConnectionId), Remote>,
    queue: BTreeMap<(Duration, u64), Delivery>,
    sequence: u64,
    /// Nodes that don't read.
    stalled: BTreeSet<usize>,
    held_back: Vec<Delivery>,
}

impl Network {
    pub(crate) fn new() -> Network {
        Network {
            now: Duration::ZERO,
            nodes: Vec::new(),
            links: Vec::new(),
            ways: BTreeMap::new(),
            timers: BTreeSet::new(),
            due: Vec::new(),
            arrivals: BTreeMap::new(),
            disorder: None,
            pipes: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            stalled: BTreeSet::new(),
            held_back: Vec::new(),
        }
    }

    /// Makes bytes take up to `jitter` longer and timers act up to `lateness` late, at random.
    pub(crate) fn disorder(&mut self, seed: u64, jitter: Duration, lateness: Duration) {
        self.disorder = Some(Disorder { rng: SmallRng::seed_from_u64(seed), jitter, lateness });
    }

    fn clock(&self) -> Now {
        Now::at(self.now)
    }

    /// Adds a node with AS `asn` and router id 10.255.0.`index + 1`; [`Network::configure`] starts it.
    pub(crate) fn node(&mut self, asn: u32) -> usize {
        let index = self.nodes.len();
        let router_id = Ipv4Addr::from_bits(0x0aff_0001 + index as u32);
        let seed = index as u64 + 1;
        self.due.push(None);
        self.nodes.push(Node {
            speaker: Speaker::new(Options { seed, restarting: false }, self.clock()),
            config: SpeakerConfig::new(Asn(asn), router_id),
            fib: BTreeMap::new(),
            fib_batches: 0,
            told: BTreeSet::new(),
            complete: false,
            ways_changed: 0,
            events: Vec::new(),
            sent_bytes: 0,
            sends: 0,
            tracked: Vec::new(),
            alive: true,
            life: 0,
            next_inbound: 1,
            in_flight: BTreeMap::new(),
            seed,
        });
        index
    }

    /// Joins two nodes by a link of its own and makes them peers by the names of the other node, as in `n1`.
    pub(crate) fn join(&mut self, a: usize, b: usize) -> usize {
        self.join_with(a, b, |_| {})
    }

    /// Likewise, with a change to the settings of both sides.
    pub(crate) fn join_with(&mut self, a: usize, b: usize, change: impl Fn(&mut PeerConfig)) -> usize {
        let link = self.links.len();
        let address = |end: u32| IpAddr::V4(Ipv4Addr::from_bits(0xac10_0000 + link as u32 * 4 + 1 + end));
        self.link([(a, address(0)), (b, address(1))]);
        let asns = [self.nodes[a].config.asn, self.nodes[b].config.asn];
        for (node, other, remote, asn) in [(a, b, address(1), asns[1]), (b, a, address(0), asns[0])] {
            let mut peer = PeerConfig::new(remote, asn);
            change(&mut peer);
            self.nodes[node].config.peers.insert(name(other), peer);
        }
        link
    }

    /// Makes peers of two nodes at given addresses, as on a shared segment.
    pub(crate) fn join_at(&mut self, a: usize, b: usize, address_a: &str, address_b: &str) -> usize {
        let link = self.links.len();
        let addresses: [IpAddr; 2] = [address_a, address_b].map(|address| address.parse().expect("an address"));
        self.link([(a, addresses[0]), (b, addresses[1])]);
        let asns = [self.nodes[a].config.asn, self.nodes[b].config.asn];
        self.nodes[a].config.peers.insert(name(b), PeerConfig::new(addresses[1], asns[1]));
        self.nodes[b].config.peers.insert(name(a), PeerConfig::new(addresses[0], asns[0]));
        link
    }

    fn link(&mut self, ends: [End; 2]) {
        let index = self.links.len();
        let [a, b] = ends;
        self.ways.entry((a.0, b.1)).or_insert(index);
        self.ways.entry((b.0, a.1)).or_insert(index);
        self.links.push(Link { ends, up: true });
    }

    /// Gives every node its configuration, as far as it has changed.
    pub(crate) fn configure_all(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.configure(node));
    }

    pub(crate) fn configure(&mut self, node: usize) {
        let config = self.nodes[node].config.clone();
        self.input(node, Input::Configure(config));
    }

    /// Changes the settings of one peer and configures the node.
    pub(crate) fn change_peer(&mut self, node: usize, other: usize, change: impl FnOnce(&mut PeerConfig)) {
        change(self.nodes[node].config.peers.get_mut(&name(other)).expect("a peer"));
        self.configure(node);
    }

    pub(crate) fn announce(&mut self, node: usize, prefixes: impl IntoIterator<Item = Cidr>) {
        let source = LocalRouteSource::Block;
        let changes =
            prefixes.into_iter().map(|prefix| LocalRouteChange::Announce(LocalRoute { prefix, source })).collect();
        self.input(node, Input::Felix(FromFelix::Local(changes)));
    }

    pub(crate) fn withdraw(&mut self, node: usize, prefixes: impl IntoIterator<Item = Cidr>) {
        let changes = prefixes.into_iter().map(LocalRouteChange::Withdraw).collect();
        self.input(node, Input::Felix(FromFelix::Local(changes)));
    }

    /// Tells a node of the interface that is its end of a link.
    pub(crate) fn interface(&mut self, node: usize, link: usize, running: bool) {
        let (_, address) = *self.links[link].ends.iter().find(|(end, _)| *end == node).expect("an end of the link");
        let prefix = Cidr::truncated(address, 30).expect("a length of IPv4");
        let addresses = vec![(address, prefix)];
        let state = LinkState { interface: format!("eth{link}"), running, addresses };
        self.input(node, Input::Felix(FromFelix::Link(state)));
    }

    /// Cuts a link without a sign: what is sent is lost, and connections over it are dead.
    pub(crate) fn cut(&mut self, link: usize) {
        self.links[link].up = false;
        self.pipes.values_mut().filter(|pipe| pipe.link == link).for_each(|pipe| pipe.dead = true);
    }

    pub(crate) fn mend(&mut self, link: usize) {
        self.links[link].up = true;
    }

    /// Ends a node as SIGKILL does: the kernel closes its connections.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
        self.set_timer(node);
        let ends: Vec<_> = self.pipes.keys().copied().filter(|&(at, _)| at == node).collect();
        ends.into_iter().for_each(|(at, connection)| self.close(at, connection));
    }

    /// Ends a node as a power cut does: its connections hang.
    pub(crate) fn power_off(&mut self, node: usize) {
        self.nodes[node].alive = false;
        self.set_timer(node);
        self.pipes.values_mut().filter(|pipe| pipe.node == node).for_each(|pipe| pipe.dead = true);
        self.pipes.retain(|&(at, _), _| at != node);
    }

    /// Starts a node again; its FIB is kept as the kernel keeps it.
    pub(crate) fn restart(&mut self, node: usize, restarting: bool) {
        let clock = self.clock();
        let known = &mut self.nodes[node];
        known.seed += 100;
        known.speaker = Speaker::new(Options { seed: known.seed, restarting }, clock);
        known.alive = true;
        known.life += 1;
        known.complete = false;
        known.told.clear();
        known.fib_batches = 0;
        known.in_flight.clear();
        known.events.clear();
        self.configure(node);
    }

    pub(crate) fn stop(&mut self, node: usize, kind: StopKind) {
        self.input(node, Input::Stop(kind));
    }

    /// A node that is stalled reads nothing.
    pub(crate) fn stall(&mut self, node: usize, stalled: bool) {
        if stalled {
            self.stalled.insert(node);
            return;
        }
        self.stalled.remove(&node);
        for delivery in std::mem::take(&mut self.held_back) {
            self.post(Duration::ZERO, delivery);
        }
    }

    pub(crate) fn input(&mut self, node: usize, input: Input) {
        let clock = self.clock();
        self.nodes[node].speaker.handle_input(input, clock);
        self.drain(node);
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.advance(end) {}
        self.now = end;
    }

    /// Lets time pass until `done`, for `limit` at most; panics where it isn't so then.
    pub(crate) fn run_until(&mut self, limit: Duration, what: &str, done: impl Fn(&Network) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            if !self.advance(end) {
                assert!(done(self), "not within {limit:?}: {what}\n{:#?}", self.states());
                return;
            }
        }
    }

    fn advance(&mut self, end: Duration) -> bool {
        let delivery = self.queue.keys().next().map(|&(at, _)| at);
        let timer = self.timers.first().copied();
        match (delivery, timer) {
            (Some(at), timer) if at <= end && timer.is_none_or(|(due, _)| at <= due) => {
                self.now = self.now.max(at);
                if let Some((_, delivery)) = self.queue.pop_first() {
                    self.deliver(delivery);
                }
                true
            }
            (_, Some((due, node))) if due <= end => {
                self.now = self.now.max(due);
                let clock = self.clock();
                self.nodes[node].speaker.handle_timeout(clock);
                self.drain(node);
                true
            }
            _ => false,
        }
    }

    fn set_timer(&mut self, node: usize) {
        if let Some(due) = self.due[node].take() {
            self.timers.remove(&(due, node));
        }
        let known = &self.nodes[node];
        if !known.alive {
            return;
        }
        let Some(due) = known.speaker.poll_timeout() else { return };
        let late = self.disorder.as_mut().map_or(Duration::ZERO, |disorder| disorder.up_to(disorder.lateness));
        self.due[node] = Some(due.0 + late);
        self.timers.insert((due.0 + late, node));
    }

    fn post(&mut self, after: Duration, delivery: Delivery) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), delivery);
    }

    /// Posts what a connection carries: behind everything that it carried before.
    fn carry(&mut self, from: (usize, ConnectionId), delivery: Delivery) {
        let jitter = self.disorder.as_mut().map_or(Duration::ZERO, |disorder| disorder.up_to(disorder.jitter));
        let arrival = self.arrivals.entry(from).or_default();
        *arrival = (self.now + LATENCY + jitter).max(*arrival);
        let after = *arrival - self.now;
        self.post(after, delivery);
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Input(node, input) => {
                if self.nodes[node].alive {
                    self.input(node, *input);
                }
            }
            Delivery::Bytes { from, to, bytes } => {
                if self.stalled.contains(&to.node) {
                    self.held_back.push(Delivery::Bytes { from, to, bytes });
                    return;
                }
                // Lost with the link.
                if self.pipes.get(&from).is_some_and(|pipe| pipe.dead) {
                    return;
                }
                let length = bytes.len();
                if self.is_alive(to) && self.pipes.contains_key(&(to.node, to.connection)) {
                    self.input(to.node, Input::Received { connection: to.connection, bytes });
                }
                let sender = &mut self.nodes[from.0];
                let left = sender.in_flight.entry(from.1).or_default();
                *left = left.saturating_sub(length);
                if *left == 0 && sender.alive {
                    self.input(from.0, Input::SendQueueDrained { connection: from.1 });
                }
            }
            Delivery::Closed(end) => {
                if self.stalled.contains(&end.node) {
                    self.held_back.push(Delivery::Closed(end));
                } else if self.is_alive(end) && self.pipes.remove(&(end.node, end.connection)).is_some() {
                    let reason = "closed by the peer".to_owned();
                    self.input(end.node, Input::Closed { connection: end.connection, reason });
                }
            }
        }
    }

    /// Whether the speaker that had this end of a connection is there still.
    fn is_alive(&self, end: Remote) -> bool {
        let node = &self.nodes[end.node];
        node.alive && node.life == end.life
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].speaker.poll_output() {
            match output {
                Output::Connect { connection, remote, .. } => self.connect(node, connection, remote),
                Output::Send { connection, bytes } => self.send(node, connection, bytes),
                Output::Close { connection } => self.close(node, connection),
                Output::Fib(batch) => {
                    let known = &mut self.nodes[node];
                    known.fib_batches += 1;
                    for change in batch.changes {
                        match change {
                            FibChange::Set(route) => {
                                known.told.insert(route.prefix);
                                let next_hops = route.next_hops.clone();
                                let before = known.fib.insert(route.prefix, route);
                                known.ways_changed +=
                                    usize::from(before.is_some_and(|before| before.next_hops != next_hops));
                            }
                            FibChange::Withdraw(prefix) => {
                                known.told.remove(&prefix);
                                known.ways_changed += usize::from(known.fib.remove(&prefix).is_some());
                            }
                        }
                    }
                    // What felix does: routes of the last run that did not come again go.
                    if batch.complete {
                        let before = known.fib.len();
                        known.fib.retain(|prefix, _| known.told.contains(prefix));
                        known.ways_changed += before - known.fib.len();
                        known.complete = true;
                    }
                    let applied = FromFelix::Applied { serial: batch.serial };
                    let now = self.clock();
                    self.nodes[node].speaker.handle_input(Input::Felix(applied), now);
                }
                Output::Listen { .. } | Output::Bfd(_) | Output::Working => {}
                Output::TrackNextHops(next_hops) => self.nodes[node].tracked.push(next_hops),
                Output::Event(event) => {
                    self.nodes[node].events.push((event.peer.map(|peer| peer.to_string()), event.kind));
                }
            }
        }
        self.set_timer(node);
    }

    fn connect(&mut self, node: usize, connection: ConnectionId, remote: SocketAddr) {
        // A link is found by its two ends, since an address may have several.
        let found = self.ways.get(&(node, remote.ip())).map(|&index| {
            let [a, b] = self.links[index].ends;
            (index, if a.0 == node { (a, b) } else { (b, a) })
        });
        let Some((index, (own, other))) = found else {
            let reason = "no route to host".to_owned();
            return self.post(LATENCY, Delivery::Input(node, Box::new(Input::ConnectFailed { connection, reason })));
        };
        if !self.links[index].up {
            return;
        }
        if !self.nodes[other.0].alive {
            let reason = "connection refused".to_owned();
            return self.post(LATENCY, Delivery::Input(node, Box::new(Input::ConnectFailed { connection, reason })));
        }
        let accepted = ConnectionId(self.nodes[other.0].next_inbound);
        self.nodes[other.0].next_inbound += 2;
        let life = self.nodes[other.0].life;
        let remote_end = Remote { node: other.0, life, connection: accepted, link: index, dead: false };
        self.pipes.insert((node, connection), remote_end);
        let life = self.nodes[node].life;
        self.pipes.insert((other.0, accepted), Remote { node, life, connection, ..remote_end });
        let (from, to) = (SocketAddr::new(own.1, 40000 + connection.0 as u16), remote);
        self.post(
            LATENCY,
            Delivery::Input(other.0, Box::new(Input::Accepted { connection: accepted, local: to, remote: from })),
        );
        self.post(
            LATENCY * 2,
            Delivery::Input(node, Box::new(Input::Connected { connection, local: from, remote: to })),
        );
    }

    fn send(&mut self, node: usize, connection: ConnectionId, bytes: Bytes) {
        self.nodes[node].sent_bytes += bytes.len();
        self.nodes[node].sends += 1;
        let Some(pipe) = self.pipes.get(&(node, connection)).copied() else { return };
        if pipe.dead {
            return;
        }
        *self.nodes[node].in_flight.entry(connection).or_default() += bytes.len();
        self.carry((node, connection), Delivery::Bytes { from: (node, connection), to: pipe, bytes });
    }

    fn close(&mut self, node: usize, connection: ConnectionId) {
        if let Some(pipe) = self.pipes.get(&(node, connection)).copied() {
            // What is in flight arrives before.
            if !pipe.dead {
                self.carry((node, connection), Delivery::Closed(pipe));
            }
            self.arrivals.remove(&(node, connection));
            self.pipes.remove(&(node, connection));
        }
    }

    // What tests ask.

    pub(crate) fn state(&self, node: usize, other: usize) -> FsmState {
        let peers = self.nodes[node].speaker.peers();
        peers.into_iter().find(|peer| peer.name == name(other)).map_or(FsmState::Idle, |peer| peer.state)
    }

    pub(crate) fn established(&self, a: usize, b: usize) -> bool {
        self.state(a, b) == FsmState::Established && self.state(b, a) == FsmState::Established
    }

    pub(crate) fn all_established(&self) -> bool {
        let all = |node: &Node| node.speaker.peers().iter().all(|peer| peer.state == FsmState::Established);
        self.nodes.iter().filter(|node| node.alive).all(all)
    }

    pub(crate) fn next_hops(&self, node: usize, prefix: &str) -> Vec<String> {
        let prefix: Cidr = prefix.parse().expect("a prefix");
        let route = self.nodes[node].fib.get(&prefix);
        route.map_or_else(Vec::new, |route| route.next_hops.iter().map(|next_hop| next_hop.addr.to_string()).collect())
    }

    pub(crate) fn events_of(&self, node: usize, other: usize) -> Vec<String> {
        let other = format!("n{other}");
        let of_peer = self.nodes[node].events.iter().filter(|(peer, _)| peer.as_deref() == Some(&other));
        of_peer.map(|(_, kind)| kind.to_string()).collect()
    }

    pub(crate) fn states(&self) -> Vec<String> {
        let mut states = Vec::new();
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            for peer in node.speaker.peers() {
                states.push(format!("n{index} -> {}: {} ({:?})", peer.name, peer.state, peer.last_error));
            }
        }
        states
    }
}

pub(crate) fn name(node: usize) -> PeerName {
    PeerName::new(format!("n{node}"))
}

pub(crate) fn prefix(text: &str) -> Cidr {
    text.parse().expect("a prefix")
}

/// Returns `count` /24 of 20.0.0.0/8 and beyond.
pub(crate) fn many(count: u32) -> Vec<Cidr> {
    (0..count)
        .map(|index| Cidr::new(Ipv4Addr::from_bits(0x1400_0000 + (index << 8)).into(), 24).expect("canonical"))
        .collect()
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
