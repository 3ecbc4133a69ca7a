//! From the file's values to the speaker's configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use margay_bgp_core::{
    DecisionConfig, Drain, GracefulRestartConfig, ListenRange, Multipath, PeerConfig, PeerName, SpeakerConfig,
};
use margay_net::Cidr;
use serde_saphyr::Spanned;

use super::filters::{Filters, NamedRules};
use super::problem::Problem;
use super::schema::{DecisionSpec, Fib, File, MultipathSpec, PeerSpec, RangeSpec, RestartSpec};
use peer::ReadPassword;

mod peer;

/// What a file asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) config: SpeakerConfig,
    /// Announced as they are.
    pub(super) networks: BTreeSet<Cidr>,
    pub(super) fib: Fib,
    /// How the file names the rules of each peer's export, by index.
    pub(super) export_rules: BTreeMap<PeerName, Vec<String>>,
    /// What is allowed, but hardly meant.
    pub(super) warnings: Vec<String>,
}

/// Builds the plan, or says everything that is wrong, in the order of the file. `password` reads a file's.
pub(super) fn build(file: &File, password: ReadPassword<'_>) -> Result<Plan, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut builder = Builder {
        file,
        password,
        filters: Filters::build(&file.filters, file.asn.value, &mut problems),
        problems,
        plan: Plan {
            config: SpeakerConfig::new(file.asn.value, file.router_id.value),
            networks: file.networks.iter().copied().collect(),
            fib: file.fib.as_ref().map(|fib| fib.value).unwrap_or_default(),
            export_rules: BTreeMap::new(),
            warnings: Vec::new(),
        },
    };
    builder.speaker();
    builder.templates();
    builder.peers();
    builder.ranges();
    let Builder { mut problems, plan, .. } = builder;
    if problems.is_empty()
        && let Err(error) = plan.config.validate()
    {
        problems.push(Problem::nowhere(error.to_string()));
    }
    if problems.is_empty() {
        return Ok(plan);
    }
    problems.sort();
    problems.dedup();
    Err(problems)
}

struct Builder<'a> {
    file: &'a File,
    password: ReadPassword<'a>,
    filters: Filters,
    problems: Vec<Problem>,
    plan: Plan,
}

impl Builder<'_> {
    fn refuse<T>(&mut self, value: &Spanned<T>, reason: impl Into<String>) {
        self.problems.push(Problem::at(value, reason));
    }

    fn speaker(&mut self) {
        let file = self.file;
        if file.asn.value.0 == 0 {
            self.refuse(&file.asn, "AS number 0 is reserved (RFC 7607)");
        }
        if file.router_id.value == Ipv4Addr::UNSPECIFIED {
            self.refuse(&file.router_id, "the router id is not 0.0.0.0: an IPv4 address of this machine is usual");
        }
        let config = &mut self.plan.config;
        config.cluster_id = file.cluster_id;
        config.listen_port = file.listen.port.unwrap_or(config.listen_port);
        config.listen_addresses = file.listen.addresses.iter().copied().collect();
        config.multipath = multipath(&file.multipath);
        config.decision = decision(&file.decision);
        config.drain = file.drain.as_ref().map(|drain| Drain { withdraw_after: drain.withdraw_after.0, began: None });
        config.graceful_restart =
            if file.graceful_restart.enabled.unwrap_or(true) { Some(restart(&file.graceful_restart)) } else { None };
        if let Some(time) = file.graceful_restart.restart_time.as_ref().filter(|time| time.value.0.as_secs() > 4095) {
            self.refuse(time, "a restart time is at most 4095s (RFC 4724 section 3)");
        }
    }

    /// A template is checked even if nobody uses it.
    fn templates(&mut self) {
        for template in self.file.templates.values() {
            let spec = &template.value;
            if let Some(address) = &spec.address {
                self.refuse(address, "a template has no address: peers have");
            }
            if let Some(inner) = &spec.template {
                self.refuse(inner, "a template is not made from another one");
            }
        }
    }

    fn peers(&mut self) {
        let mut addresses: BTreeMap<(IpAddr, Option<String>), &str> = BTreeMap::new();
        for (name, spec) in &self.file.peers {
            self.check_name(name, spec);
            let Some(merged) = self.merged(&spec.value) else { continue };
            let Some(address) = merged.address.clone() else {
                self.refuse(spec, format!("peer '{name}' has no address"));
                continue;
            };
            let key = (address.value.address, address.value.interface.clone());
            if let Some(other) = addresses.insert(key, name) {
                self.refuse(&address, format!("peers '{other}' and '{name}' have the same address"));
            }
            if merged.asn.is_none() {
                self.refuse(spec, format!("peer '{name}' has no asn, and neither has its template"));
                continue;
            }
            let config = self.peer(name, address.value.address, address.value.interface.clone(), &merged);
            self.plan.config.peers.insert(PeerName::new(name.as_str()), config);
        }
    }

    fn ranges(&mut self) {
        let mut prefixes: BTreeMap<Cidr, &str> = BTreeMap::new();
        for (name, range) in &self.file.listen_ranges {
            self.check_name(name, range);
            let RangeSpec { prefix, limit, asns, template } = &range.value;
            if self.file.peers.contains_key(name) {
                self.refuse(range, format!("a peer and a listen range are both named '{name}'"));
            }
            if let Some(other) = prefixes.insert(prefix.value, name) {
                self.refuse(prefix, format!("listen ranges '{other}' and '{name}' have the same prefix"));
            }
            if limit.value == 0 {
                self.refuse(limit, "a listen range takes at least one peer");
            }
            let Some(merged) = self.template(template).cloned() else { continue };
            if merged.asn.is_none() && asns.is_empty() {
                self.refuse(template, "the template has no asn: say here which 'asns' are taken");
                continue;
            }
            let mut merged = merged;
            if merged.asn.is_none() {
                // What the OPEN says counts; the first stands for all where the kind of session is decided on.
                merged.asn = asns.first().map(|asn| Spanned {
                    value: *asn,
                    referenced: template.referenced,
                    defined: template.defined,
                });
            }
            let config = self.peer(name, prefix.value.addr(), None, &merged);
            let range = ListenRange {
                prefix: prefix.value,
                limit: limit.value,
                asns: asns.iter().copied().collect(),
                template: PeerConfig { passive: true, ..config },
            };
            self.plan.config.listen_ranges.insert(PeerName::new(name.as_str()), range);
        }
    }

    /// Names are written on command lines and in labels.
    fn check_name<T>(&mut self, name: &str, value: &Spanned<T>) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
            self.refuse(value, format!("'{name}' is not a name: 1 to 63 letters, digits, '-', '_' and '.'"));
        }
    }

    fn template(&mut self, name: &Spanned<String>) -> Option<&PeerSpec> {
        let file = self.file;
        let found = file.templates.get(&name.value);
        if found.is_none() {
            let known: Vec<&str> = file.templates.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "no template at all".to_owned() } else { known.join(", ") };
            self.refuse(name, format!("there is no template '{}'; there is {known}", name.value));
        }
        found.map(|template| &template.value)
    }

    /// What the peer says, over what its template says.
    fn merged(&mut self, spec: &PeerSpec) -> Option<PeerSpec> {
        match &spec.template {
            Some(template) => self.template(template).cloned().map(|template| peer::over(spec, template)),
            None => Some(spec.clone()),
        }
    }

    fn peer(&mut self, name: &str, address: IpAddr, interface: Option<String>, spec: &PeerSpec) -> PeerConfig {
        let own = self.plan.config.asn;
        let mut config = peer::convert(address, interface, spec, own, self.password, &mut self.problems);
        let ibgp = config.is_ibgp(own);
        let open = ibgp || !self.file.ebgp_requires_policy;
        let mut rules = |names: &Option<Vec<Spanned<String>>>, direction: &str| match names {
            Some(names) => self.filters.chain(names, &mut self.problems),
            None => {
                if !open {
                    self.plan.warnings.push(format!(
                        "peer '{name}': eBGP without {direction} filter, so no route is {} (RFC 8212); say \
                         '{direction}: [accept-all]' if all are meant",
                        if direction == "import" { "taken" } else { "announced" }
                    ));
                }
                NamedRules::all(open)
            }
        };
        let import = rules(&spec.import, "import");
        let export = rules(&spec.export, "export");
        self.plan.export_rules.insert(PeerName::new(name), export.names);
        config.import.0 = import.rules;
        config.export.0 = export.rules;
        if let Some(client) = spec.route_reflector_client.as_ref().filter(|client| client.value && !ibgp) {
            self.refuse(client, format!("peer '{name}' is external: only an internal peer is a reflector's client"));
        }
        config
    }
}

fn multipath(spec: &MultipathSpec) -> Multipath {
    let default = Multipath::default();
    Multipath {
        ebgp: spec.ebgp.unwrap_or(default.ebgp),
        ibgp: spec.ibgp.unwrap_or(default.ibgp),
        relax_as_path_content: spec.relax_as_path_content.unwrap_or(default.relax_as_path_content),
    }
}

fn restart(spec: &RestartSpec) -> GracefulRestartConfig {
    let default = GracefulRestartConfig::default();
    GracefulRestartConfig {
        restart_time: spec.restart_time.as_ref().map_or(default.restart_time, |time| time.value.0),
        deferral_time: spec.deferral_time.map_or(default.deferral_time, |time| time.0),
        stale_time: spec.stale_time.map_or(default.stale_time, |time| time.0),
    }
}

fn decision(spec: &DecisionSpec) -> DecisionConfig {
    let default = DecisionConfig::default();
    DecisionConfig {
        default_local_pref: spec.default_local_pref.unwrap_or(default.default_local_pref),
        always_compare_med: spec.always_compare_med.unwrap_or(default.always_compare_med),
        med_missing_as_worst: spec.med_missing_as_worst.unwrap_or(default.med_missing_as_worst),
        ignore_as_path_length: spec.ignore_as_path_length.unwrap_or(default.ignore_as_path_length),
        compare_router_id: spec.compare_router_id.unwrap_or(default.compare_router_id),
    }
}
