//! Recorded cases: each folder of `golden/` has resources and the plan that is expected of them. `MARGAY_GOLDEN=write`
//! writes the expectations anew; each is then to be read against Calico's behaviour before it is kept.
//!
//! `resources.yaml` begins with comments that say what resources can't: `# node: NAME`, `# secret: NAME/KEY = VALUE`.
//! `then-1.yaml`, `then-2.yaml` and so on are edits after it, applied over what is there; `# delete: KIND NAME` and
//! `# no secret: NAME/KEY` take away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use margay_api::kinds::{
    BgpConfiguration, BgpConfigurationSpec, BgpFilter, BgpFilterSpec, BgpPeer, BgpPeerSpec, IpPool, IpPoolSpec, Node,
    NodeSpec, SecretKeyRef, WorkloadEndpoint, WorkloadEndpointSpec,
};
use margay_api::kubernetes::{EndpointSlice, EndpointSliceDocument, Service, ServiceSpec};
use margay_api::{Document, Object, Spec, parse_documents};

use super::shown;
use super::{BgpPlan, BgpResources, plan};

/// What is there, as the caches have it.
#[derive(Default)]
pub(super) struct World {
    node: String,
    secrets: BTreeMap<(String, String), String>,
    nodes: BTreeMap<String, Node>,
    peers: BTreeMap<String, BgpPeer>,
    filters: BTreeMap<String, BgpFilter>,
    configurations: BTreeMap<String, BgpConfiguration>,
    pools: BTreeMap<String, IpPool>,
    workloads: BTreeMap<String, WorkloadEndpoint>,
    services: BTreeMap<String, Service>,
    slices: BTreeMap<String, EndpointSlice>,
}

impl World {
    /// Applies a file's documents and comments.
    pub(super) fn apply(&mut self, text: &str) {
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("# node: ") {
                name.clone_into(&mut self.node);
            } else if let Some(secret) = line.strip_prefix("# secret: ") {
                let (reference, value) = secret.split_once(" = ").expect("NAME/KEY = VALUE");
                self.secrets.insert(reference_of(reference), value.to_owned());
            } else if let Some(reference) = line.strip_prefix("# no secret: ") {
                self.secrets.remove(&reference_of(reference));
            } else if let Some(object) = line.strip_prefix("# delete: ") {
                let (kind, name) = object.split_once(' ').expect("KIND NAME");
                self.delete(kind, name);
            }
        }
        for document in parse_documents(text).expect("YAML") {
            self.put(&document);
        }
    }

    fn put(&mut self, document: &Document) {
        match document.kind.as_str() {
            "Node" => put::<NodeSpec>(document, &mut self.nodes),
            "BGPPeer" => put::<BgpPeerSpec>(document, &mut self.peers),
            "BGPFilter" => put::<BgpFilterSpec>(document, &mut self.filters),
            "BGPConfiguration" => put::<BgpConfigurationSpec>(document, &mut self.configurations),
            "IPPool" => put::<IpPoolSpec>(document, &mut self.pools),
            "WorkloadEndpoint" => put::<WorkloadEndpointSpec>(document, &mut self.workloads),
            "Service" => put::<ServiceSpec>(document, &mut self.services),
            "EndpointSlice" => {
                let slice = EndpointSlice::from(document.strict::<EndpointSliceDocument>().expect("a slice"));
                self.slices.insert(slice.key(), slice);
            }
            other => panic!("{other} has no part in BGP"),
        }
    }

    fn delete(&mut self, kind: &str, name: &str) {
        let was_there = match kind {
            "Node" => self.nodes.remove(name).is_some(),
            "BGPPeer" => self.peers.remove(name).is_some(),
            "BGPFilter" => self.filters.remove(name).is_some(),
            "BGPConfiguration" => self.configurations.remove(name).is_some(),
            "IPPool" => self.pools.remove(name).is_some(),
            other => panic!("{other} is not deleted in cases"),
        };
        assert!(was_there, "{kind} {name} is not there");
    }

    pub(super) fn plan(&self, last: Option<&BgpPlan>) -> BgpPlan {
        let workloads: Vec<&WorkloadEndpoint> =
            self.workloads.values().filter(|workload| workload.spec.node == self.node).collect();
        let resources = BgpResources {
            node: &self.nodes[&self.node],
            nodes: &self.nodes,
            peers: &self.peers,
            filters: &self.filters,
            configurations: &self.configurations,
            pools: &self.pools,
            workloads: &workloads,
            services: &self.services,
            slices: &self.slices,
        };
        let secret = |reference: &SecretKeyRef| {
            let found = self.secrets.get(&(reference.name.clone(), reference.key.clone()));
            found
                .cloned()
                .ok_or_else(|| format!("there is no secret '{}/{}'; create it", reference.name, reference.key))
        };
        plan(resources, &secret, last)
    }
}

fn reference_of(text: &str) -> (String, String) {
    let (name, key) = text.split_once('/').expect("NAME/KEY");
    (name.to_owned(), key.to_owned())
}

/// Documents that another client may have stored are taken even where ours refuses them.
fn put<S: Spec>(document: &Document, into: &mut BTreeMap<String, Object<S>>) {
    let object: Object<S> = document.strict().expect("a document of its kind");
    let key = if S::NAMESPACED { object.key() } else { object.name().to_owned() };
    into.insert(key, object);
}

/// The files of a case: what is applied, and what is expected then.
fn steps(case: &Path) -> Vec<(PathBuf, PathBuf)> {
    let edits = (1..).map(|step| (case.join(format!("then-{step}.yaml")), case.join(format!("expected-{step}.yaml"))));
    let edits = edits.take_while(|(edit, _)| edit.is_file());
    std::iter::once((case.join("resources.yaml"), case.join("expected.yaml"))).chain(edits).collect()
}

#[test]
fn each_recorded_case_gives_the_plan_that_is_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bgp_config/golden");
    let write = std::env::var("MARGAY_GOLDEN").is_ok_and(|value| value == "write");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(&root).expect("the cases").map(|entry| entry.expect("a case").path()).collect();
    cases.sort();
    assert!(cases.len() >= 30, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let (mut world, mut last): (World, Option<BgpPlan>) = (World::default(), None);
        for (resources, expected) in steps(case) {
            world.apply(&std::fs::read_to_string(&resources).expect("resources"));
            let planned = world.plan(last.as_ref());
            planned.config.validate().expect("a configuration that the speaker takes");
            let shown = shown::plan(&planned);
            if write {
                std::fs::write(&expected, &shown).expect("written");
            } else if std::fs::read_to_string(&expected).ok().as_deref() != Some(&shown) {
                wrong.push(format!("{} is not what is planned:\n{shown}", expected.display()));
            }
            last = Some(planned);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
