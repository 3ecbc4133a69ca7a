//! Programs: the rules that isolate an endpoint in one direction, and what they let pass.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::addresses::AddressSet;
use super::connections::Connections;
use super::drafts::ProgramKey;
use super::endpoints::EndpointId;
use super::evaluate::{Resolved, Rules};
use super::ids::Ids;
use super::matchers::MatcherKey;
use super::sets::MatcherId;
use super::{Allow, IdentityId, PolicyCore, PortMatch, ProgramId, ProtocolMatch};

#[derive(Debug, Default)]
pub(super) struct Programs {
    all: BTreeMap<ProgramId, Program>,
    by_key: HashMap<ProgramKey, ProgramId>,
    ids: Ids,
    /// Programs that lost an endpoint and may have none left.
    fading: BTreeSet<ProgramId>,
}

#[derive(Debug)]
pub(super) struct Program {
    key: ProgramKey,
    endpoints: BTreeSet<EndpointId>,
    rules: Rules,
    matchers: BTreeSet<MatcherId>,
}

impl Programs {
    pub(super) fn hand_over(&mut self) {
        self.ids.hand_over();
    }

    pub(super) fn key(&self, id: ProgramId) -> Option<&ProgramKey> {
        self.all.get(&id).map(|program| &program.key)
    }

    pub(super) fn find(&self, key: &ProgramKey) -> Option<ProgramId> {
        self.by_key.get(key).copied()
    }

    pub(super) fn endpoint_count(&self, id: ProgramId) -> usize {
        self.all.get(&id).map_or(0, |program| program.endpoints.len())
    }

    pub(super) fn add_endpoint(&mut self, id: ProgramId, endpoint: EndpointId) {
        if let Some(program) = self.all.get_mut(&id) {
            program.endpoints.insert(endpoint);
        }
    }

    pub(super) fn remove_endpoint(&mut self, id: ProgramId, endpoint: EndpointId) {
        if let Some(program) = self.all.get_mut(&id) {
            program.endpoints.remove(&endpoint);
            self.fading.insert(id);
        }
    }
}

impl PolicyCore {
    /// Makes a program of that key from an endpoint that has it.
    pub(super) fn create_program(&mut self, key: ProgramKey, like: EndpointId) -> ProgramId {
        let id = ProgramId(self.programs.ids.take());
        self.programs.by_key.insert(key.clone(), id);
        let program = Program { key, endpoints: BTreeSet::new(), rules: Rules::default(), matchers: BTreeSet::new() };
        self.programs.all.insert(id, program);
        self.load_program(id, like);
        id
    }

    /// Gives a program, with all its endpoints, another key.
    pub(super) fn rename_program(&mut self, id: ProgramId, key: ProgramKey, like: EndpointId) {
        if let Some(program) = self.programs.all.get_mut(&id) {
            let before = std::mem::replace(&mut program.key, key.clone());
            self.programs.by_key.remove(&before);
            self.programs.by_key.insert(key, id);
            self.load_program(id, like);
        }
    }

    fn load_program(&mut self, id: ProgramId, like: EndpointId) {
        let Some(direction) = self.programs.all.get(&id).map(|program| program.key.direction) else { return };
        let (tier, profiles) = self.drafts(like, direction);
        let profile_start = tier.as_ref().map_or(0, Vec::len);
        let has_tier = tier.is_some();
        let mut resolved = Vec::new();
        for draft in tier.into_iter().flatten().chain(profiles) {
            let matchers = draft.matchers.iter().map(|key| self.acquire_matcher(key, id)).collect();
            resolved.push(Resolved { action: draft.action, protocol: draft.protocol, ports: draft.ports, matchers });
        }
        let rules = Rules::new(resolved, profile_start, has_tier);
        let mut matchers: BTreeSet<MatcherId> = rules.by_matcher.keys().copied().collect();
        if rules.everyone_counts {
            matchers.insert(self.acquire_matcher(&MatcherKey::Net(AddressSet::everyone()), id));
        }
        for allow in self.log.allows(id, IdentityId(1), IdentityId(u32::MAX)) {
            self.pairs.insert((id, allow.peer));
        }
        for set in matchers.iter().flat_map(|matcher| self.selector_sets.holding(*matcher)) {
            self.pairs.extend(self.selector_sets.set(set).identities.iter().map(|identity| (id, *identity)));
        }
        for set in matchers.iter().flat_map(|matcher| self.net_sets.holding(*matcher)) {
            self.pairs.extend(self.net_sets.set(set).identities.iter().map(|identity| (id, *identity)));
        }
        let anyone = rules.anyone.elements(&Connections::none());
        let Some(program) = self.programs.all.get_mut(&id) else { return };
        program.rules = rules;
        let before = std::mem::replace(&mut program.matchers, matchers);
        let dropped: Vec<MatcherId> = before.difference(&program.matchers).copied().collect();
        dropped.into_iter().for_each(|matcher| self.matchers.remove_program(matcher, id));
        self.set_allows(id, IdentityId::ANYONE, anyone);
    }

    /// Forgets programs without endpoints.
    pub(super) fn collect_programs(&mut self) {
        for id in std::mem::take(&mut self.programs.fading) {
            let unused = self.programs.all.get(&id).is_some_and(|program| program.endpoints.is_empty());
            let Some(program) = unused.then(|| self.programs.all.remove(&id)).flatten() else { continue };
            self.programs.by_key.remove(&program.key);
            for allow in self.log.allows(id, IdentityId::ANYONE, IdentityId(u32::MAX)) {
                self.log.set_allow(allow, false);
                if let Some(identity) = self.identities.identity_mut(allow.peer) {
                    identity.programs.remove(&id);
                }
            }
            program.matchers.into_iter().for_each(|matcher| self.matchers.remove_program(matcher, id));
            self.programs.ids.release(id.0);
        }
    }

    /// Works out what the noted programs let pass from or to the noted identities.
    pub(super) fn settle_allows(&mut self) {
        for (program, peer) in std::mem::take(&mut self.pairs) {
            let Some(identity) = self.identities.identity(peer) else { continue };
            let facts = [self.selector_sets.facts(identity.selectors), self.net_sets.facts(identity.nets)];
            let Some(rules) = self.programs.all.get(&program).map(|program| &program.rules) else { continue };
            let elements = rules.accepted(&facts.map(AsRef::as_ref)).elements(&rules.anyone);
            self.set_allows(program, peer, elements);
        }
    }

    fn set_allows(&mut self, program: ProgramId, peer: IdentityId, elements: Vec<(ProtocolMatch, PortMatch)>) {
        let before = self.log.allows(program, peer, peer);
        let after: Vec<Allow> =
            elements.into_iter().map(|(protocol, ports)| Allow { program, peer, protocol, ports }).collect();
        // Both are in order.
        for allow in before.iter().filter(|allow| after.binary_search(allow).is_err()) {
            self.log.set_allow(*allow, false);
        }
        for allow in after.iter().filter(|allow| before.binary_search(allow).is_err()) {
            self.log.set_allow(*allow, true);
        }
        if let Some(identity) = self.identities.identity_mut(peer) {
            if after.is_empty() {
                identity.programs.remove(&program)
            } else {
                identity.programs.insert(program)
            };
        }
    }
}
