//! Profiles, known or only named by endpoints.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use margay_api::kinds::ProfileSpec;
use slab::Slab;

use super::labels::{PairId, ShapeId};
use super::rules::Block;

pub(super) type ProfileId = u32;

#[derive(Debug, Default)]
pub(super) struct Profiles {
    all: Slab<Profile>,
    by_name: HashMap<Arc<str>, ProfileId>,
}

#[derive(Debug)]
pub(super) struct Profile {
    pub(super) name: Arc<str>,
    /// `None` while only endpoints speak of it.
    pub(super) known: Option<KnownProfile>,
    pub(super) shapes: BTreeSet<ShapeId>,
}

#[derive(Debug)]
pub(super) struct KnownProfile {
    pub(super) spec: ProfileSpec,
    pub(super) labels: Box<[PairId]>,
    pub(super) blocks: [Block; 2],
    pub(super) problems: Vec<String>,
    /// Differs whenever the rules do.
    pub(super) version: u64,
}

impl Profile {
    pub(super) fn labels(&self) -> &[PairId] {
        self.known.as_ref().map_or(&[], |known| &known.labels)
    }
}

impl Profiles {
    /// The number of the profile of that name, which may be one only spoken of.
    pub(super) fn id(&mut self, name: &str) -> ProfileId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let name: Arc<str> = name.into();
        let profile = Profile { name: name.clone(), known: None, shapes: BTreeSet::new() };
        let id = self.all.insert(profile) as ProfileId;
        self.by_name.insert(name, id);
        id
    }

    pub(super) fn profile(&self, id: ProfileId) -> &Profile {
        &self.all[id as usize]
    }

    pub(super) fn profile_mut(&mut self, id: ProfileId) -> &mut Profile {
        &mut self.all[id as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.all.iter().map(|(_, profile)| profile)
    }

    pub(super) fn drop_if_unused(&mut self, id: ProfileId) {
        let profile = self.profile(id);
        if profile.known.is_none() && profile.shapes.is_empty() {
            let profile = self.all.remove(id as usize);
            self.by_name.remove(&profile.name);
        }
    }
}
