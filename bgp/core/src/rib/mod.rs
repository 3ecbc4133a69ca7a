//! The routing tables: Adj-RIB-In and Loc-RIB in one table of prefixes per family, Adj-RIB-Out as one table per update
//! group.
//!
//! A change marks its prefix dirty; [`Routing::settle_slice`] decides each dirty prefix once and tells felix and the groups.
//! A change of everything is a walk through the table, of which each slice goes a part ([`walks`]).
//! A peer that can't take more is told later: its prefixes are noted in a bitmap and sent from the group's table when
//! there is room ([`Routing::pump`]). A new peer begins with every prefix of the table noted.

mod add_path;
mod as_path;
mod attributes;
mod bitmap;
mod communities;
mod connected;
mod decision;
mod export;
mod generations;
mod groups;
mod guard;
mod import;
mod installs;
mod next_hops;
mod numbers;
mod paths;
mod peers;
mod prefixes;
mod profile;
mod pump;
mod reach;
mod reasons;
mod session;
mod settle;
mod store;
#[cfg(test)]
mod tests;
mod views;
mod walks;
mod why;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use margay_net::{Asn, Cidr, Family, FibChange, LocalRoute, LocalRouteSource};
use slab::Slab;

pub(crate) use connected::Connected;
use generations::Generations;
use groups::{Group, Member, Told};
use installs::Installs;
use next_hops::NextHopSets;
use peers::Peers;
use prefixes::{Marks, Path, PrefixId, Prefixes, Source};
pub(crate) use profile::RouteSettings;
use pump::Outgoing;
use reach::Reach;
use settle::{SLICE, Start};
use store::AttributeStore;
pub(crate) use views::View;
use walks::{Task, Walks};

use crate::config::{AddPathSend, DecisionConfig, Multipath, NextHopMode, PeerName};
use crate::io::ConnectionId;
use crate::ownership::Guard;
use crate::policy::Policy;
use crate::view::Counters;
use crate::wire::Attributes;

/// Bytes handed out for a connection and not yet known to be sent, above which a peer gets no more updates.
pub(crate) const HIGH_WATER: usize = 1 << 20;

/// What the tables must know of a peer: it stays as long as there are paths of it.
#[derive(Debug, Clone)]
pub(crate) struct PeerProfile {
    pub(crate) name: PeerName,
    pub(crate) ibgp: bool,
    /// The peer's own.
    pub(crate) asn: Asn,
    pub(crate) own_asn: Asn,
    pub(crate) client: bool,
    pub(crate) remote: IpAddr,
    pub(crate) router_id: Ipv4Addr,
    /// The own address to announce as next hop, by family; absent where there is none of that family.
    pub(crate) self_next_hop: BTreeMap<Family, IpAddr>,
    /// The interface of link-local next hops.
    pub(crate) interface: Option<String>,
    pub(crate) four_octet: bool,
    pub(crate) allow_own_as: u8,
    pub(crate) next_hop: NextHopMode,
    pub(crate) import: Arc<Policy>,
    pub(crate) export: Arc<Policy>,
    pub(crate) settings: RouteSettings,
    /// Families in which the peer sends several paths of a prefix (RFC 7911).
    pub(crate) add_path_receive: BTreeSet<Family>,
    /// Which paths it is sent, in the families in which it takes several.
    pub(crate) add_path_send: BTreeMap<Family, AddPathSend>,
    pub(crate) drain: DrainStage,
}

/// How far a peer is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum DrainStage {
    #[default]
    None,
    /// Routes carry GRACEFUL_SHUTDOWN (RFC 8326).
    GracefulShutdown,
    /// It is told no routes.
    Withdrawn,
}

/// The sending side of an established session.
#[derive(Debug)]
struct Flow {
    connection: ConnectionId,
    /// Bytes handed out since the caller's queue was last empty.
    unsent: usize,
    families: BTreeSet<Family>,
}

#[derive(Debug)]
struct RoutePeer {
    profile: Arc<PeerProfile>,
    flow: Option<Flow>,
}

/// One family's prefixes and update groups.
#[derive(Debug)]
struct Table {
    family: Family,
    prefixes: Prefixes,
    dirty: VecDeque<PrefixId>,
    local: BTreeMap<Cidr, LocalRouteSource>,
    groups: Slab<Group>,
    /// Prefixes without paths, whose numbers are given back once nobody has them noted.
    limbo: Vec<PrefixId>,
    /// Paths by the peer that they came from, and when.
    generations: Generations,
    /// What is under way in the whole table.
    walks: Walks,
    /// What groups were told that are no more.
    discarded: Vec<Told>,
}

/// The settings of the speaker that decide on routes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RoutingConfig {
    pub(crate) asn: Asn,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) cluster_id: Ipv4Addr,
    pub(crate) multipath: Multipath,
    pub(crate) decision: DecisionConfig,
}

impl RoutingConfig {
    /// Whether the same routes are taken, and announced with the same AS numbers.
    fn imports_like(&self, other: &RoutingConfig) -> bool {
        (self.asn, self.router_id, self.cluster_id) == (other.asn, other.router_id, other.cluster_id)
            && self.decision.default_local_pref == other.decision.default_local_pref
    }
}

/// Which paths of a peer are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    Stale,
}

/// All tables.
#[derive(Debug)]
pub(crate) struct Routing {
    config: RoutingConfig,
    store: AttributeStore,
    next_hop_sets: NextHopSets,
    tables: [Table; 2],
    peers: Peers,
    connected: Connected,
    reach: Reach,
    /// Absent until the first table of owners came.
    guard: Option<Guard>,
    /// Route selection is deferred (RFC 4724 section 4.1): nobody is told anything.
    deferred: bool,
    /// Route selection starts.
    start: Option<Start>,
    fib_changes: Vec<FibChange>,
    installs: Installs,
    sends: Vec<Outgoing>,
    /// The messages in the making.
    burst: Vec<u8>,
    counters: Counters,
    /// Most prefixes of a family that are worked on at a time.
    slice: usize,
}

impl Routing {
    pub(crate) fn new(config: RoutingConfig, deferred: bool) -> Routing {
        let table = |family| Table {
            family,
            prefixes: Prefixes::default(),
            dirty: VecDeque::new(),
            local: BTreeMap::new(),
            groups: Slab::new(),
            limbo: Vec::new(),
            generations: Generations::default(),
            walks: Walks::default(),
            discarded: Vec::new(),
        };
        Routing {
            config,
            store: AttributeStore::default(),
            next_hop_sets: NextHopSets::default(),
            tables: [table(Family::V4), table(Family::V6)],
            peers: Peers::default(),
            connected: Connected::default(),
            reach: Reach::default(),
            guard: None,
            deferred,
            start: None,
            fib_changes: Vec::new(),
            installs: Installs::default(),
            sends: Vec::new(),
            burst: Vec::new(),
            counters: Counters::default(),
            slice: SLICE,
        }
    }

    /// Applies the speaker's settings; what they decide is decided anew.
    pub(crate) fn configure(&mut self, config: RoutingConfig) {
        if self.config == config {
            return;
        }
        let before = std::mem::replace(&mut self.config, config);
        self.mark_all();
        if !before.imports_like(&self.config) {
            for peer in self.peers.keys().collect::<Vec<_>>() {
                self.import_again(peer);
                self.move_groups(peer);
            }
        }
    }

    /// Takes what felix must be told, in order: nothing while the first batch after a restart is in the making.
    pub(crate) fn take_fib_changes(&mut self) -> Vec<FibChange> {
        if self.is_withheld() {
            return Vec::new();
        }
        std::mem::take(&mut self.fib_changes)
    }

    /// Takes what must be sent, in order.
    pub(crate) fn take_sends(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.sends)
    }

    /// A session is established: its paths are taken and, unless selection is deferred, routes are announced.
    pub(crate) fn peer_up(
        &mut self,
        peer: usize,
        profile: PeerProfile,
        connection: ConnectionId,
        families: BTreeSet<Family>,
    ) {
        let flow = Flow { connection, unsent: 0, families };
        self.peers.insert(peer, RoutePeer { profile: profile.into(), flow: Some(flow) });
        self.share_policies(peer);
        if !self.deferred && !self.is_withheld() {
            self.join(peer);
        }
    }

    /// A session is gone. Its paths stay until [`Routing::flush`].
    pub(crate) fn peer_down(&mut self, peer: usize) {
        self.leave(peer);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.flow = None;
        }
    }

    /// Forgets a peer; what paths are left of it go.
    pub(crate) fn forget_peer(&mut self, peer: usize) {
        Family::ALL.into_iter().for_each(|family| {
            self.flush(peer, family, Which::All);
        });
        self.peers.remove(&peer);
    }

    /// Takes paths of a peer; each replaces the one with the same identifier that the peer gave before. `path_ids` has
    /// one for each prefix, or none at all.
    pub(crate) fn announce(
        &mut self,
        peer: usize,
        family: Family,
        prefixes: &[Cidr],
        path_ids: &[u32],
        attributes: Attributes,
    ) {
        let Some(known) = self.peers.get(&peer) else { return };
        let profile = known.profile.clone();
        let received = self.store.intern(attributes);
        // Most policies leave the attributes as they are, so that a message of many prefixes is looked at once.
        let mut checked = self.check_received(&profile, received);
        let unreachable = self.unreachable(&profile, received);
        for (at, &prefix) in prefixes.iter().enumerate() {
            let path_id = path_ids.get(at).copied().unwrap_or_default();
            let (attributes, rejected) = self.import(&profile, prefix, received, &mut checked);
            let rejected = rejected.or(unreachable);
            let table = &mut self.tables[index(family)];
            let id = table.prefixes.intern(prefix);
            self.store.retain(received);
            let source = Source::peer(peer);
            let generation = table.generations.current(peer);
            let path = Path { source, path_id, received, attributes, generation, rejected };
            table.put(id, path, &mut self.store);
        }
        self.counters.prefixes_announced_received += prefixes.len() as u64;
        self.end_import(checked);
        self.store.release(received);
    }

    /// Takes back paths of a peer; `path_ids` as in [`Routing::announce`].
    pub(crate) fn withdraw(&mut self, peer: usize, family: Family, prefixes: &[Cidr], path_ids: &[u32]) {
        let table = &mut self.tables[index(family)];
        for (at, &prefix) in prefixes.iter().enumerate() {
            if let Some(id) = table.prefixes.find(prefix) {
                let path_id = path_ids.get(at).copied().unwrap_or_default();
                let source = Source::peer(peer);
                let meant = |_: &Generations, path: &Path| path.source == source && path.path_id == path_id;
                table.take_if(id, meant, &mut self.store);
            }
        }
        self.counters.prefixes_withdrawn_received += prefixes.len() as u64;
    }

    /// Takes a prefix of the node itself.
    pub(crate) fn announce_local(&mut self, route: &LocalRoute) {
        let attributes = self.store.intern(attributes::local());
        self.store.retain(attributes);
        let table = &mut self.tables[index(route.prefix.family())];
        let before = table.local.insert(route.prefix, route.source);
        let id = table.prefixes.intern(route.prefix);
        if before.is_some_and(|before| before != route.source) {
            // The attributes are the same, but export policy may tell the sources apart.
            table.mark(id);
        }
        let path =
            Path { source: Source::LOCAL, path_id: 0, received: attributes, attributes, generation: 0, rejected: None };
        table.put(id, path, &mut self.store);
    }

    /// Gives up a prefix of the node itself.
    pub(crate) fn withdraw_local(&mut self, prefix: Cidr) {
        let table = &mut self.tables[index(prefix.family())];
        table.local.remove(&prefix);
        if let Some(id) = table.prefixes.find(prefix) {
            table.take_if(id, |_, path| path.source == Source::LOCAL, &mut self.store);
        }
    }

    /// Has the paths of a peer be stale, after those that are so already have been removed (RFC 4724 section 4.2).
    /// Returns how many there are.
    pub(crate) fn mark_stale(&mut self, peer: usize, family: Family) -> usize {
        let table = self.ready_to_retire(peer, family);
        let (marked, _) = table.generations.mark_stale(peer);
        table.sweep_soon();
        if marked > 0 {
            table.walks.add(Task::MarkPeer(peer));
        }
        marked
    }

    /// Removes paths of a peer and returns how many they are. They count no more, and are taken out bit by bit.
    pub(crate) fn flush(&mut self, peer: usize, family: Family, which: Which) -> usize {
        let table = self.ready_to_retire(peer, family);
        let removed = match which {
            Which::All => table.generations.retire_all(peer),
            Which::Stale => table.generations.retire_stale(peer),
        };
        table.sweep_soon();
        removed
    }

    /// Returns a table in which there is a number left for another generation of a peer.
    fn ready_to_retire(&mut self, peer: usize, family: Family) -> &mut Table {
        let table = &mut self.tables[index(family)];
        if table.generations.are_many(peer) {
            for id in 0..table.prefixes.slots() {
                if table.prefixes.has(id) {
                    table.sweep(id, &mut self.store);
                }
            }
        }
        table
    }

    pub(crate) fn counters(&self) -> Counters {
        let sum = |count: fn(&Table) -> usize| self.tables.iter().map(count).sum::<usize>() as u64;
        Counters {
            prefixes: sum(|table| table.prefixes.len()),
            paths: sum(|table| table.generations.all_paths() + table.local.len()),
            attribute_sets: self.store.len() as u64,
            update_groups: sum(|table| table.groups.len()),
            ..self.counters
        }
    }

    pub(crate) fn unsent(&self, peer: usize) -> usize {
        self.peers.get(&peer).and_then(|peer| peer.flow.as_ref()).map_or(0, |flow| flow.unsent)
    }

    /// The caller's queue of a peer is empty: what is noted for it goes on. Returns whether anything is.
    pub(crate) fn drained(&mut self, peer: usize) -> bool {
        if let Some(flow) = self.peers.get_mut(&peer).and_then(|peer| peer.flow.as_mut()) {
            flow.unsent = 0;
        }
        let mut groups = self.tables.iter().flat_map(|table| &table.groups);
        groups.any(|(_, group)| group.lags && group.members.get(&peer).is_some_and(Member::is_behind))
    }
}

impl Table {
    /// Has a prefix decided and told anew, whatever came of it.
    fn mark(&mut self, id: PrefixId) {
        self.prefixes.entry_mut(id).marks.set(Marks::TOUCHED, true);
        self.mark_paths(id);
    }

    /// Has a prefix decided anew of which paths came or went, and told if another one is the best.
    fn mark_paths(&mut self, id: PrefixId) {
        let entry = self.prefixes.entry_mut(id);
        if !entry.marks.set(Marks::DIRTY, true) {
            self.dirty.push_back(id);
        }
    }

    fn put(&mut self, id: PrefixId, path: Path, store: &mut AttributeStore) {
        let entry = self.prefixes.entry_mut(id);
        match entry.find(path.source, path.path_id) {
            Ok(at) => {
                let known = &mut entry.paths[at];
                store.release(known.received);
                store.release(known.attributes);
                let same = known.attributes == path.attributes
                    && known.rejected == path.rejected
                    && self.generations.are_alike(known, &path);
                let before = std::mem::replace(known, path);
                if before.generation != path.generation {
                    self.generations.add(&path);
                    self.generations.remove(&before);
                }
                if same {
                    return;
                }
                if entry.best() == u16::try_from(at).ok() {
                    entry.marks.set(Marks::TOUCHED, true);
                }
            }
            Err(at) => {
                entry.insert(at, path);
                self.generations.add(&path);
            }
        }
        self.mark_paths(id);
    }

    /// Removes the paths of a prefix that `gone` picks.
    fn take_if(&mut self, id: PrefixId, gone: impl Fn(&Generations, &Path) -> bool, store: &mut AttributeStore) {
        let entry = self.prefixes.entry_mut(id);
        let mut taken = false;
        while let Some(at) = entry.paths.iter().position(|path| gone(&self.generations, path)) {
            let path = entry.remove(at);
            store.release(path.received);
            store.release(path.attributes);
            self.generations.remove(&path);
            taken = true;
        }
        if taken {
            self.mark_paths(id);
        }
    }

    /// Takes retired paths of a prefix out.
    fn sweep(&mut self, id: PrefixId, store: &mut AttributeStore) {
        if self.generations.has_retired() {
            self.take_if(id, Generations::is_retired, store);
        }
    }
}

/// Where a family's table is.
fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}
