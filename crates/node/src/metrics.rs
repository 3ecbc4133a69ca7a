//! Prometheus metrics of the speaker, made when they are asked for.
//!
//! The number of series is bounded by the configuration: `peer` names configured peers, and those made from a listen
//! range are summed under the range's name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use margay_bgp_core::{BfdState, Counters, FsmState, ListenRange, PeerName, PeerView, PrefixCounts, SpeakerConfig};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::bgp_events::EventCounts;

mod listener;

pub(crate) use listener::{MetricsListen, serve};

/// OpenMetrics 1.0.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A metric: its name without `_total`, whether it only grows, its labels and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Metric {
    name: &'static str,
    counter: bool,
    labels: &'static [&'static str],
    help: &'static str,
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, counter: false, labels, help }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, counter: true, labels, help }
}

/// All there are; `docs/metrics.md` lists them.
pub(crate) const METRICS: [Metric; 38] = [
    gauge("margay_bgp_info", &["version", "asn", "router_id"], "Always 1; the labels say who the speaker is"),
    gauge("margay_bgp_listening", &[], "Whether the speaker can be connected to on every address it wants"),
    gauge("margay_bgp_draining", &[], "Whether the node is drained, by configuration or on request"),
    gauge(
        "margay_bgp_peer_state",
        &["peer"],
        "State of RFC 4271: 1 Idle, 2 Connect, 3 Active, 4 OpenSent, 5 OpenConfirm, 6 Established",
    ),
    gauge("margay_bgp_peer_up", &["peer"], "Established sessions: 0 or 1 of a peer, a number for a listen range"),
    gauge("margay_bgp_peer_admin_up", &["peer"], "Whether the peer is administratively up"),
    gauge("margay_bgp_peer_uptime_seconds", &["peer"], "Seconds since the session was established; 0 where it isn't"),
    counter("margay_bgp_peer_established", &["peer"], "How often a session became established"),
    counter("margay_bgp_peer_flaps", &["peer"], "How often an established session ended"),
    gauge("margay_bgp_peer_restarting", &["peer"], "Peers whose routes are kept while they restart (RFC 4724)"),
    gauge("margay_bgp_peer_waits", &["peer"], "What the session or its routes wait for: how many such things"),
    gauge("margay_bgp_peer_prefixes_received", &["peer", "family"], "Paths that the peer announces"),
    gauge(
        "margay_bgp_peer_prefixes_accepted",
        &["peer", "family"],
        "Of those, the ones that take part in the selection",
    ),
    gauge(
        "margay_bgp_peer_prefixes_rejected",
        &["peer", "family", "reason"],
        "Of those, the ones that do not, by reason",
    ),
    gauge("margay_bgp_peer_prefixes_stale", &["peer", "family"], "Of those, the ones kept over the peer's restart"),
    gauge("margay_bgp_peer_prefixes_advertised", &["peer", "family"], "Paths that the peer is told"),
    counter("margay_bgp_peer_messages_received", &["peer"], "BGP messages received"),
    counter("margay_bgp_peer_messages_sent", &["peer"], "BGP messages sent"),
    counter("margay_bgp_peer_updates_received", &["peer"], "UPDATE messages received"),
    gauge("margay_bgp_peer_queue_bytes", &["peer"], "Bytes handed out since the connection's queue was last empty"),
    gauge("margay_bgp_peer_bfd_up", &["peer"], "Sessions whose BFD is up; absent without BFD"),
    counter("margay_bgp_updates_received", &[], "UPDATE messages received"),
    counter("margay_bgp_updates_malformed", &[], "UPDATE messages with an attribute that got RFC 7606's treatment"),
    counter("margay_bgp_updates_encoded", &[], "UPDATE messages encoded"),
    counter(
        "margay_bgp_updates_sent",
        &[],
        "UPDATE messages handed out; one encoded message counts for each member it goes to",
    ),
    counter("margay_bgp_prefixes_announced_received", &[], "Prefixes in the announcements received"),
    counter("margay_bgp_prefixes_withdrawn_received", &[], "Prefixes in the withdrawals received"),
    counter("margay_bgp_notifications", &["direction", "code"], "NOTIFICATION messages by direction and error code"),
    counter("margay_bgp_notifications_sent", &[], "NOTIFICATION messages sent"),
    counter("margay_bgp_notifications_received", &[], "NOTIFICATION messages received"),
    counter(
        "margay_bgp_connections_refused",
        &[],
        "Connections refused: no peer's, or one that the session cannot take",
    ),
    gauge("margay_bgp_prefixes", &[], "Prefixes in the table, local ones included"),
    gauge("margay_bgp_paths", &[], "Paths in the table"),
    gauge("margay_bgp_attribute_sets", &[], "Distinct attribute sets held"),
    gauge("margay_bgp_update_groups", &[], "Groups of peers that are told the same"),
    counter("margay_bgp_fib_batches", &[], "Batches of best routes for the kernel"),
    gauge("margay_bgp_dynamic_peers", &["range"], "Peers made from a listen range"),
    gauge("margay_bgp_dynamic_peers_limit", &["range"], "Most peers that a listen range may make"),
];

/// What the metrics are made from.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) peers: Vec<PeerView>,
    pub(crate) counters: Counters,
    pub(crate) events: EventCounts,
    pub(crate) config: Option<Arc<SpeakerConfig>>,
    pub(crate) listening: bool,
    pub(crate) draining: bool,
    pub(crate) now: SystemTime,
}

/// Returns the metrics as OpenMetrics text.
pub(crate) fn render(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Samples::of(&snapshot)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// The listen range that a dynamic peer was made from: the longest that holds its address.
pub(crate) fn range_of<'a>(config: &'a SpeakerConfig, peer: &PeerView) -> Option<(&'a PeerName, &'a ListenRange)> {
    if !peer.dynamic {
        return None;
    }
    let holding = config.listen_ranges.iter().filter(|(_, range)| range.prefix.contains(peer.remote));
    holding.max_by_key(|(_, range)| range.prefix.len())
}

/// Values by metric and labels; what has the same labels is summed.
#[derive(Debug, Default)]
struct Samples(BTreeMap<&'static str, BTreeMap<Vec<String>, f64>>);

impl Samples {
    fn of(snapshot: &Snapshot) -> Samples {
        let mut samples = Samples::default();
        samples.speaker(snapshot);
        for peer in &snapshot.peers {
            samples.peer(snapshot, peer);
        }
        samples
    }

    fn add(&mut self, name: &'static str, labels: &[&str], value: f64) {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        *self.0.entry(name).or_default().entry(labels).or_default() += value;
    }

    fn speaker(&mut self, snapshot: &Snapshot) {
        let counters = &snapshot.counters;
        let config = snapshot.config.as_deref();
        let drained = snapshot.draining || config.is_some_and(|config| config.drain.is_some());
        if let Some(config) = config {
            let (asn, id) = (config.asn.to_string(), config.router_id.to_string());
            self.add("margay_bgp_info", &[env!("CARGO_PKG_VERSION"), &asn, &id], 1.0);
            for (name, range) in &config.listen_ranges {
                self.add("margay_bgp_dynamic_peers", &[name.as_str()], 0.0);
                self.add("margay_bgp_dynamic_peers_limit", &[name.as_str()], range.limit as f64);
            }
        }
        self.add("margay_bgp_listening", &[], f64::from(u8::from(snapshot.listening)));
        self.add("margay_bgp_draining", &[], f64::from(u8::from(drained)));
        for (name, value) in [
            ("margay_bgp_updates_received", counters.updates_received),
            ("margay_bgp_updates_malformed", counters.malformed_updates),
            ("margay_bgp_updates_encoded", counters.messages_encoded),
            ("margay_bgp_updates_sent", counters.messages_sent),
            ("margay_bgp_prefixes_announced_received", counters.prefixes_announced_received),
            ("margay_bgp_prefixes_withdrawn_received", counters.prefixes_withdrawn_received),
            ("margay_bgp_notifications_sent", counters.notifications_sent),
            ("margay_bgp_notifications_received", counters.notifications_received),
            ("margay_bgp_connections_refused", snapshot.events.refused),
            ("margay_bgp_prefixes", counters.prefixes),
            ("margay_bgp_paths", counters.paths),
            ("margay_bgp_attribute_sets", counters.attribute_sets),
            ("margay_bgp_update_groups", counters.update_groups),
            ("margay_bgp_fib_batches", counters.fib_batches),
        ] {
            self.add(name, &[], value as f64);
        }
        for ((direction, code), count) in &snapshot.events.notifications {
            self.add("margay_bgp_notifications", &[direction, code], *count as f64);
        }
    }

    fn peer(&mut self, snapshot: &Snapshot, view: &PeerView) {
        let range = snapshot.config.as_ref().and_then(|config| range_of(config, view)).map(|(name, _)| name.as_str());
        let label = match (range, view.dynamic) {
            (Some(range), _) => {
                self.add("margay_bgp_dynamic_peers", &[range], 1.0);
                format!("range:{range}")
            }
            // Its range has just been removed.
            (None, true) => "range:".to_owned(),
            (None, false) => view.name.to_string(),
        };
        let peer = [label.as_str()];
        let up = view.state == FsmState::Established;
        let one = |is: bool| f64::from(u8::from(is));
        if !view.dynamic {
            self.add("margay_bgp_peer_state", &peer, f64::from(view.state as u8) + 1.0);
            let uptime = snapshot.now.duration_since(view.since).unwrap_or_default().as_secs_f64();
            self.add("margay_bgp_peer_uptime_seconds", &peer, if up { uptime } else { 0.0 });
            self.add("margay_bgp_peer_admin_up", &peer, one(view.admin_up));
        }
        self.add("margay_bgp_peer_up", &peer, one(up));
        self.add("margay_bgp_peer_established", &peer, view.established_count as f64);
        self.add("margay_bgp_peer_flaps", &peer, view.established_count.saturating_sub(u64::from(up)) as f64);
        self.add("margay_bgp_peer_restarting", &peer, one(view.restarting));
        self.add("margay_bgp_peer_waits", &peer, view.waits.len() as f64);
        self.add("margay_bgp_peer_messages_received", &peer, view.messages_received as f64);
        self.add("margay_bgp_peer_messages_sent", &peer, view.messages_sent as f64);
        self.add("margay_bgp_peer_updates_received", &peer, view.updates_received as f64);
        self.add("margay_bgp_peer_queue_bytes", &peer, view.unsent_bytes as f64);
        if let Some(bfd) = &view.bfd {
            self.add("margay_bgp_peer_bfd_up", &peer, one(bfd.state == Some(BfdState::Up)));
        }
        for (family, counts) in &view.counts {
            self.prefixes(&label, &family.to_string(), counts);
            for (reason, count) in &counts.rejected_by {
                let labels = [label.as_str(), &family.to_string(), &snake(&format!("{reason:?}"))];
                self.add("margay_bgp_peer_prefixes_rejected", &labels, *count as f64);
            }
        }
    }

    fn prefixes(&mut self, peer: &str, family: &str, counts: &PrefixCounts) {
        let accepted = counts.received.saturating_sub(counts.rejected);
        for (name, count) in [
            ("margay_bgp_peer_prefixes_received", counts.received),
            ("margay_bgp_peer_prefixes_accepted", accepted),
            ("margay_bgp_peer_prefixes_stale", counts.stale),
            ("margay_bgp_peer_prefixes_advertised", counts.advertised),
        ] {
            self.add(name, &[peer, family], count as f64);
        }
    }
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in &METRICS {
            let Some(samples) = self.0.get(metric.name) else { continue };
            let kind = if metric.counter { MetricType::Counter } else { MetricType::Gauge };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for (values, value) in samples {
                let labels: Vec<(&str, &str)> =
                    metric.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
                let mut sample = family.encode_family(&labels)?;
                if metric.counter {
                    sample.encode_counter::<NoLabelSet, _, f64>(value, None)?;
                } else {
                    sample.encode_gauge(value)?;
                }
            }
        }
        Ok(())
    }
}

/// A variant's name in snake case, without what it carries.
pub(crate) fn snake(debug: &str) -> String {
    let name = debug.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let mut out = String::new();
    for (index, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && index > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests;
