//! A session's configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use margay_api::kinds::{self, AdminState, BgpFilterSpec, BgpPeerSpec, NextHopMode, SourceAddress, Toggle};
use margay_bgp_core::{
    AddPath, AddPathSend, BfdConfig, MaxPrefixes, MaxPrefixesAction, NextHopMode as SpeakerNextHopMode, OwnershipCheck,
    PeerConfig, PrefixMatch, RouteMatch, Rule, RuleAction, Secret,
};
use margay_net::{Cidr, Family};

use super::cluster::cluster_id;
use super::filters::Direction;
use super::peerings::Peering;
use super::problem::{Cause, Unresolved};
use super::{Planner, SessionKind, import};

/// The session, as both policies see it.
pub(super) struct SessionView<'a> {
    pub(super) families: BTreeSet<Family>,
    pub(super) ibgp: bool,
    /// Whether other nodes' routes may go this way: to an external peer that is a node they would come from the wrong one.
    pub(super) transit: bool,
    /// Whether nothing goes either way that a filter does not speak of (RFC 8212).
    pub(super) closed: bool,
    pub(super) filters: Vec<&'a BgpFilterSpec>,
}

impl Planner<'_> {
    /// The configuration of a peering, or what of it can't be resolved, and what to do.
    pub(super) fn session(&self, peering: &Peering<'_>) -> Result<PeerConfig, Unresolved> {
        let (spec, node) = (peering.spec, self.resources.node);
        let family = Family::of(peering.address);
        let own = node.spec.bgp_address(family);
        let mut peer = PeerConfig::new(peering.address, peering.asn);
        peer.remote_port = peering.port;
        peer.local_asn = peering.local_asn;
        peer.families = spec.families.iter().copied().collect();
        if peer.families == BTreeSet::from([family]) {
            peer.families.clear();
        }
        let from_node = !matches!(spec.source_address, Some(SourceAddress::None));
        peer.source = own.filter(|_| from_node && peering.kind != SessionKind::LocalWorkload);
        // Two sides would connect to each other at once: Calico makes the one wait whose peer's address is the greater as
        // text. A workload can't be connected to.
        let waits = peering.one_waits && peering.node.is_some();
        let waits = waits && own.is_some_and(|own| peering.address.to_string() > own.to_string());
        peer.passive = waits || peering.kind == SessionKind::LocalWorkload;
        peer.ttl_security = spec.ttl_security.filter(|hops| *hops > 0);
        peer.multihop = peer.ttl_security.is_none_or(|hops| hops > 1);
        peer.allow_own_as = spec.num_allowed_local_as_numbers.unwrap_or(0);
        peer.description = Some(spec.description.clone()).filter(|text| !text.is_empty());
        peer.admin_up = spec.admin_state != Some(AdminState::Down);
        peer.graceful_shutdown = spec.graceful_shutdown;
        timers(spec, &mut peer);
        let ibgp = peer.is_ibgp(self.own_asn);
        peer.next_hop = next_hop(spec, ibgp);
        let own_cluster = cluster_id(node);
        peer.route_reflector_client = ibgp && own_cluster.is_some() && peering.node.and_then(cluster_id) != own_cluster;
        peer.ownership = self.ownership(peering);
        peer.bfd = spec.bfd.as_ref().and_then(bfd);
        peer.add_path = add_path(spec.add_path.as_ref());
        peer.max_prefixes = spec.max_prefixes.as_ref().map(max_prefixes).unwrap_or_default();
        if let Some(reference) = spec.password.as_ref().and_then(|password| password.secret_key_ref.as_ref()) {
            let password = (self.secret)(reference);
            let password = password.map_err(|reason| Unresolved { cause: Cause::Secret, reason })?;
            peer.password = Some(Secret::new(password));
        }
        let is_reflector = |node| cluster_id(node).is_some();
        let session = SessionView {
            families: peer.offered_families(),
            ibgp,
            transit: ibgp || peering.node.is_none_or(|node| is_reflector(node) || own_cluster.is_some()),
            closed: self.needs_policy(peering, ibgp),
            filters: self.filters_of(spec)?,
        };
        peer.max_prefixes.retain(|family, _| session.families.contains(family));
        peer.import = import::policy(&session);
        peer.export = self.export_policy(&session);
        Ok(peer)
    }

    /// The filters of a session, in order.
    fn filters_of(&self, spec: &BgpPeerSpec) -> Result<Vec<&BgpFilterSpec>, Unresolved> {
        let filters = self.resources.filters;
        let found = spec.filters.iter().map(|name| match filters.get(name) {
            Some(filter) => Ok(&filter.spec),
            None => Err(Unresolved {
                cause: Cause::Filter,
                reason: format!("spec.filters: there is no BGPFilter '{name}'; create it, or take it out"),
            }),
        });
        found.collect()
    }

    /// Whether RFC 8212 is asked for and counts: peers outside of the cluster.
    fn needs_policy(&self, peering: &Peering<'_>, ibgp: bool) -> bool {
        self.config.ebgp_requires_policy == Some(Toggle::Enabled) && !ibgp && peering.node.is_none()
    }

    fn ownership(&self, peering: &Peering<'_>) -> OwnershipCheck {
        match peering.node {
            _ if self.config.ownership_guard == Some(Toggle::Disabled) => OwnershipCheck::Off,
            Some(node) if cluster_id(node).is_some() => OwnershipCheck::Reflector,
            Some(_) => OwnershipCheck::Node,
            None => OwnershipCheck::External,
        }
    }
}

fn timers(spec: &BgpPeerSpec, peer: &mut PeerConfig) {
    peer.restart_time = spec.max_restart_time();
    peer.keepalive = spec.keepalive_time();
    if let Some(time) = spec.connect_retry() {
        peer.connect_retry = time;
    }
    match (spec.hold_time(), peer.keepalive) {
        (Some(time), _) => peer.hold_time = time,
        // Where only the interval is given, the hold time must leave room for it.
        (None, Some(keepalive)) => {
            let most = Duration::from_secs(65_535);
            peer.hold_time = peer.hold_time.max(keepalive * 3).min(most);
        }
        (None, None) => {}
    }
}

fn next_hop(spec: &BgpPeerSpec, ibgp: bool) -> SpeakerNextHopMode {
    match spec.next_hop_mode {
        Some(NextHopMode::SelfAddress) => SpeakerNextHopMode::SelfAddress,
        Some(NextHopMode::Keep) => SpeakerNextHopMode::Keep,
        Some(NextHopMode::Auto) => SpeakerNextHopMode::Auto,
        // Calico's older field counts for external peers alone.
        None if spec.keep_original_next_hop && !ibgp => SpeakerNextHopMode::Keep,
        None => SpeakerNextHopMode::Auto,
    }
}

fn bfd(settings: &kinds::BfdSettings) -> Option<BfdConfig> {
    settings.is_enabled().then(|| BfdConfig {
        min_tx: settings.min_tx(),
        min_rx: settings.min_rx(),
        multiplier: settings.multiplier(),
    })
}

/// Both ways where nothing is said: Calico's template has `add paths on`.
fn add_path(settings: Option<&kinds::AddPathSettings>) -> AddPath {
    let settings = settings.cloned().unwrap_or_default();
    let send = match settings.send() {
        kinds::AddPathSend::None => AddPathSend::None,
        kinds::AddPathSend::All => AddPathSend::All,
        kinds::AddPathSend::Best => AddPathSend::Best(settings.send_limit()),
    };
    AddPath { receive: settings.receive(), send }
}

fn max_prefixes(settings: &kinds::MaxPrefixes) -> BTreeMap<Family, MaxPrefixes> {
    let action = match settings.action() {
        kinds::MaxPrefixesAction::Warn => MaxPrefixesAction::Warn,
        kinds::MaxPrefixesAction::Restart => MaxPrefixesAction::Restart(settings.restart_after()),
        kinds::MaxPrefixesAction::Hold => MaxPrefixesAction::Hold,
    };
    let of_family = |family: Family| {
        let own = if family == Family::V4 { settings.ipv4 } else { settings.ipv6 };
        let limit = own.or(settings.limit)?;
        Some((family, MaxPrefixes { limit, warning_percent: settings.warning_percent(), action }))
    };
    Family::ALL.into_iter().filter_map(of_family).collect()
}

impl SessionView<'_> {
    /// Refuses what no filter speaks of, where that is asked for.
    pub(super) fn refusals(&self, direction: Direction) -> Vec<Rule> {
        let has_rules = |family: Family| {
            self.filters.iter().any(|filter| match direction {
                Direction::Import => !filter.import(family).is_empty(),
                Direction::Export => !filter.export(family).is_empty(),
            })
        };
        let without = self.families.iter().filter(|family| self.closed && !has_rules(**family));
        let prefixes: Vec<PrefixMatch> = without.map(|family| PrefixMatch::within(Cidr::any(*family))).collect();
        if prefixes.is_empty() {
            return Vec::new();
        }
        let matches = RouteMatch { prefixes, ..RouteMatch::default() };
        vec![Rule { matches, action: RuleAction::Reject, set: Vec::new() }]
    }
}
