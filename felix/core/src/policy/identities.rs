//! Which identity an address has: the facts of its selectors together with those of its nets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use margay_net::{Cidr, Family};

use super::addresses::{Span, predecessor, successor};
use super::endpoints::EndpointId;
use super::ids::Ids;
use super::labels::ShapeId;
use super::sets::{self, Fact, MatcherId, SetId};
use super::{IdentityId, PolicyCore, ProgramId};

#[derive(Debug)]
pub(super) struct Identities {
    all: BTreeMap<IdentityId, Identity>,
    by_sets: HashMap<(SetId, SetId), IdentityId>,
    ids: Ids,
    /// Identities that lost a use and may have none left.
    fading: BTreeSet<IdentityId>,
    /// The whole address space in segments of the same nets, by first address.
    segments: BTreeMap<IpAddr, SetId>,
    /// Addresses that several endpoints claim, with the facts of all of them.
    shared: BTreeMap<IpAddr, SetId>,
}

#[derive(Debug)]
pub(super) struct Identity {
    pub(super) selectors: SetId,
    pub(super) nets: SetId,
    /// Entries of the tables that name it.
    uses: usize,
    /// Programs with an allow for it.
    pub(super) programs: BTreeSet<ProgramId>,
}

impl Default for Identities {
    fn default() -> Self {
        Identities {
            all: BTreeMap::new(),
            by_sets: HashMap::new(),
            ids: Ids::default(),
            fading: BTreeSet::new(),
            segments: Family::ALL.iter().map(|family| (Cidr::any(*family).addr(), SetId::EMPTY)).collect(),
            shared: BTreeMap::new(),
        }
    }
}

impl Identities {
    pub(super) fn identity(&self, id: IdentityId) -> Option<&Identity> {
        self.all.get(&id)
    }

    pub(super) fn identity_mut(&mut self, id: IdentityId) -> Option<&mut Identity> {
        self.all.get_mut(&id)
    }

    pub(super) fn hand_over(&mut self) {
        self.ids.hand_over();
    }

    fn segment(&self, address: IpAddr) -> (IpAddr, SetId) {
        // Each family has a segment at its first address.
        self.segments.range(..=address).next_back().map_or((address, SetId::EMPTY), |(first, set)| (*first, *set))
    }

    /// The last address of the segment that starts at `first`.
    fn segment_end(&self, first: IpAddr) -> IpAddr {
        let end = Cidr::any(Family::of(first)).last();
        let next = successor(first).and_then(|after| self.segments.range(after..=end).next());
        next.and_then(|(next, _)| predecessor(*next)).unwrap_or(end)
    }

    fn use_less(&mut self, id: IdentityId) {
        if let Some(identity) = self.all.get_mut(&id) {
            identity.uses -= 1;
            self.fading.insert(id);
        }
    }
}

impl PolicyCore {
    /// Gives a shape the facts of its selectors.
    pub(super) fn set_facts(&mut self, moves: Vec<(ShapeId, Vec<Fact>)>) {
        let mut by_set: BTreeMap<SetId, Vec<(ShapeId, Vec<Fact>)>> = BTreeMap::new();
        for (shape, facts) in moves {
            let set = self.shapes.shape(shape).set;
            if *self.selector_sets.facts(set).as_ref() != *facts {
                by_set.entry(set).or_default().push((shape, facts));
            }
        }
        for (set, moves) in by_set {
            let members = self.selector_sets.set(set);
            let facts = &moves[0].1;
            // Where all of a class goes to the same new place, the class itself changes: no element in the kernel does.
            let together = set != SetId::EMPTY
                && members.addresses.is_empty()
                && members.shapes.len() == moves.len()
                && moves.iter().all(|(_, other)| other == facts)
                && self.selector_sets.find(facts).is_none();
            if together {
                let facts = facts.clone();
                self.rename_selector_set(set, facts);
                continue;
            }
            for (shape, facts) in moves {
                let target = self.selector_sets.intern(facts);
                self.move_shape(shape, target);
            }
        }
    }

    fn move_shape(&mut self, shape: ShapeId, target: SetId) {
        let before = std::mem::replace(&mut self.shapes.shape_mut(shape).set, target);
        self.selector_sets.remove_shape(before, shape);
        self.selector_sets.add_shape(target, shape);
        let endpoints: Vec<EndpointId> = self.shapes.shape(shape).endpoints.iter().copied().collect();
        for endpoint in endpoints {
            self.place_endpoint(endpoint);
        }
    }

    fn rename_selector_set(&mut self, set: SetId, facts: Vec<Fact>) {
        let before = self.selector_sets.facts(set).clone();
        self.selector_sets.rename(set, facts);
        let after = self.selector_sets.facts(set).clone();
        let changed = before
            .iter()
            .filter(|fact| !after.contains(fact))
            .chain(after.iter().filter(|fact| !before.contains(fact)));
        let identities = &self.selector_sets.set(set).identities;
        for program in changed.flat_map(|fact| self.matchers.programs(fact.matcher)) {
            self.pairs.extend(identities.iter().map(|identity| (program, *identity)));
        }
    }

    /// Takes a matcher out of the facts of every shape and shared address.
    pub(super) fn drop_selector_facts(&mut self, matcher: MatcherId) {
        for set in self.selector_sets.holding(matcher) {
            let facts = sets::without_matcher(self.selector_sets.facts(set), matcher);
            if self.selector_sets.find(&facts).is_none() {
                self.selector_sets.rename(set, facts);
                continue;
            }
            let target = self.selector_sets.intern(facts);
            let members = self.selector_sets.set(set);
            let (shapes, addresses) = (members.shapes.clone(), members.addresses.clone());
            shapes.into_iter().for_each(|shape| self.move_shape(shape, target));
            addresses.into_iter().for_each(|address| self.move_shared(address, target));
        }
    }

    /// Puts all addresses of an endpoint into their identities.
    pub(super) fn place_endpoint(&mut self, id: EndpointId) {
        for index in 0..self.endpoints.endpoint(id).addresses.len() {
            self.place_address(self.endpoints.endpoint(id).addresses[index]);
        }
    }

    /// Puts an address into its identity: one of its own where some selector matches it, else that of its range.
    pub(super) fn place_address(&mut self, address: IpAddr) {
        let set = match self.endpoints.owners(address) {
            [] => SetId::EMPTY,
            [owner] => self.shapes.shape(self.endpoints.endpoint(*owner).shape).set,
            _ => self.identities.shared.get(&address).copied().unwrap_or(SetId::EMPTY),
        };
        let identity = (set != SetId::EMPTY).then(|| self.identity_of(set, self.identities.segment(address).1));
        if self.log.tables().identities.get(&address).copied() != identity {
            self.use_more(identity);
            if let Some(before) = self.log.set_identity(address, identity) {
                self.identities.use_less(before);
            }
        }
    }

    /// Notes that the endpoints of an address changed.
    pub(super) fn claims_changed(&mut self, address: IpAddr) {
        if self.endpoints.owners(address).len() > 1 {
            self.identities.shared.entry(address).or_insert(SetId::EMPTY);
        } else if let Some(set) = self.identities.shared.remove(&address) {
            self.selector_sets.remove_address(set, address);
        }
        self.place_address(address);
    }

    /// Works out what holds of addresses of several endpoints.
    pub(super) fn settle_shared(&mut self) {
        let addresses: Vec<IpAddr> = self.identities.shared.keys().copied().collect();
        for address in addresses {
            let owners = self.endpoints.owners(address).iter();
            let facts = sets::union(owners.map(|owner| {
                let set = self.shapes.shape(self.endpoints.endpoint(*owner).shape).set;
                self.selector_sets.facts(set).as_ref()
            }));
            let set = self.selector_sets.intern(facts);
            self.move_shared(address, set);
        }
    }

    fn move_shared(&mut self, address: IpAddr, set: SetId) {
        if let Some(before) = self.identities.shared.insert(address, set)
            && before != set
        {
            self.selector_sets.remove_address(before, address);
        }
        self.selector_sets.add_address(set, address);
        self.place_address(address);
    }

    /// Adds a net matcher to the segments that it covers.
    pub(super) fn cover(&mut self, matcher: MatcherId, spans: &[Span]) {
        let fact = Fact { matcher, ports: Vec::new() };
        let mut by_set: BTreeMap<SetId, Vec<IpAddr>> = BTreeMap::new();
        for span in spans {
            self.split_segment(span.first);
            if let Some(after) = successor(span.last) {
                self.split_segment(after);
            }
            for (first, set) in self.identities.segments.range(span.first..=span.last) {
                by_set.entry(*set).or_default().push(*first);
            }
        }
        for (set, segments) in by_set {
            let facts = sets::with_fact(self.net_sets.facts(set), &fact);
            let all = set != SetId::EMPTY && self.net_sets.set(set).addresses.len() == segments.len();
            if all && self.net_sets.find(&facts).is_none() {
                self.net_sets.rename(set, facts);
                continue;
            }
            let target = self.net_sets.intern(facts);
            segments.into_iter().for_each(|first| self.set_segment(first, target));
        }
    }

    /// Takes a net matcher away from the segments that it covers.
    pub(super) fn uncover(&mut self, matcher: MatcherId, spans: &[Span]) {
        for set in self.net_sets.holding(matcher) {
            let facts = sets::without_matcher(self.net_sets.facts(set), matcher);
            if self.net_sets.find(&facts).is_none() {
                self.net_sets.rename(set, facts);
                continue;
            }
            let target = self.net_sets.intern(facts);
            let segments = self.net_sets.set(set).addresses.clone();
            segments.into_iter().for_each(|first| self.set_segment(first, target));
        }
        for span in spans {
            let inside: Vec<IpAddr> =
                self.identities.segments.range(span.first..=span.last).map(|(first, _)| *first).collect();
            for first in inside.into_iter().chain(successor(span.last)) {
                self.join_segment(first);
            }
        }
    }

    fn split_segment(&mut self, at: IpAddr) {
        let (first, set) = self.identities.segment(at);
        if first == at {
            return;
        }
        self.identities.segments.insert(at, set);
        self.net_sets.add_address(set, at);
        self.settle_range(at);
        self.settle_range(first);
    }

    /// Makes the segment at `at`, if there is one, part of the one before where both have the same nets.
    fn join_segment(&mut self, at: IpAddr) {
        let (Some(set), Some(before)) = (self.identities.segments.get(&at).copied(), predecessor(at)) else { return };
        let (first, same) = self.identities.segment(before);
        if set != same {
            return;
        }
        self.identities.segments.remove(&at);
        self.settle_range(first);
        self.settle_range(at);
        self.net_sets.remove_address(set, at);
    }

    fn set_segment(&mut self, first: IpAddr, set: SetId) {
        self.net_sets.add_address(set, first);
        if let Some(before) = self.identities.segments.insert(first, set)
            && before != set
        {
            self.net_sets.remove_address(before, first);
        }
        self.settle_range(first);
        let last = self.identities.segment_end(first);
        let pods: Vec<IpAddr> = self.log.tables().identities.range(first..=last).map(|(address, _)| *address).collect();
        pods.into_iter().for_each(|address| self.place_address(address));
    }

    /// Makes the table's range at `first` that of the segment there.
    fn settle_range(&mut self, first: IpAddr) {
        let set = self.identities.segments.get(&first).copied().unwrap_or(SetId::EMPTY);
        let range =
            (set != SetId::EMPTY).then(|| (self.identities.segment_end(first), self.identity_of(SetId::EMPTY, set)));
        if self.log.tables().ranges.get(&first).copied() != range {
            self.use_more(range.map(|(_, identity)| identity));
            if let Some((_, before)) = self.log.set_range(first, range) {
                self.identities.use_less(before);
            }
        }
    }

    /// The identity of these facts, made if it isn't there.
    fn identity_of(&mut self, selectors: SetId, nets: SetId) -> IdentityId {
        if let Some(id) = self.identities.by_sets.get(&(selectors, nets)) {
            return *id;
        }
        let id = IdentityId(self.identities.ids.take());
        let identity = Identity { selectors, nets, uses: 0, programs: BTreeSet::new() };
        self.identities.all.insert(id, identity);
        self.identities.by_sets.insert((selectors, nets), id);
        self.identities.fading.insert(id);
        self.selector_sets.add_identity(selectors, id);
        self.net_sets.add_identity(nets, id);
        let facts = self.selector_sets.facts(selectors).iter().chain(self.net_sets.facts(nets).iter());
        self.pairs.extend(facts.flat_map(|fact| self.matchers.programs(fact.matcher)).map(|program| (program, id)));
        id
    }

    fn use_more(&mut self, id: Option<IdentityId>) {
        if let Some(identity) = id.and_then(|id| self.identities.all.get_mut(&id)) {
            identity.uses += 1;
        }
    }

    /// Forgets identities without a use, and the sets that only they held.
    pub(super) fn collect_identities(&mut self) {
        for id in std::mem::take(&mut self.identities.fading) {
            let unused = self.identities.all.get(&id).is_some_and(|identity| identity.uses == 0);
            let Some(identity) = unused.then(|| self.identities.all.remove(&id)).flatten() else { continue };
            for program in &identity.programs {
                self.log.allows(*program, id, id).into_iter().for_each(|allow| self.log.set_allow(allow, false));
            }
            self.identities.by_sets.remove(&(identity.selectors, identity.nets));
            self.selector_sets.remove_identity(identity.selectors, id);
            self.net_sets.remove_identity(identity.nets, id);
            self.identities.ids.release(id.0);
        }
        self.selector_sets.collect();
        self.net_sets.collect();
    }
}
