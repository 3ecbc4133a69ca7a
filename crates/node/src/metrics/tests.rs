#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use margay_bgp_core::{BfdView, PeerConfig};
use margay_net::Asn;

use super::*;
use crate::bgp_view::tests::view;

/// Reads OpenMetrics text as a scraper does, and checks what the format demands: each family described once and before
/// its samples, names that fit the type, no sample twice, the end mark. Returns the samples by name and labels.
fn parse(text: &str) -> BTreeMap<(String, String), f64> {
    let mut samples = BTreeMap::new();
    let mut families = BTreeMap::new();
    let mut current = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" {
            assert!(lines.peek().is_none(), "text after the end");
            return samples;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.len() > current.len() + 1, "{line}: no help");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
            let suffix = if families[&current] == "counter" { "_total" } else { "" };
            assert_eq!(name, format!("{current}{suffix}"), "{line}");
            for label in labels.split("\",").filter(|label| !label.is_empty()) {
                let (key, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                assert!(key.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
                assert!(!value.trim_end_matches('"').contains('"'), "{line}");
            }
            let again = samples.insert((name.to_owned(), labels.to_owned()), value.parse::<f64>().unwrap());
            assert!(again.is_none(), "{line} twice");
        }
    }
    panic!("no end mark");
}

fn snapshot(peers: Vec<PeerView>, config: SpeakerConfig) -> Snapshot {
    Snapshot {
        peers,
        counters: Counters { paths: 7, ..Counters::default() },
        events: EventCounts {
            notifications: BTreeMap::from([(("sent", "6".to_owned()), 2)]),
            ..EventCounts::default()
        },
        config: Some(Arc::new(config)),
        listening: true,
        draining: false,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
    }
}

fn config() -> SpeakerConfig {
    let mut config = SpeakerConfig::new(Asn(64512), Ipv4Addr::new(192, 0, 2, 1));
    let template = PeerConfig::new("0.0.0.0".parse().unwrap(), Asn(65001));
    let range = ListenRange { prefix: "10.0.0.0/8".parse().unwrap(), limit: 5000, asns: BTreeSet::new(), template };
    config.listen_ranges.insert(PeerName::from("rack"), range);
    config
}

fn peers(configured: usize, dynamic: usize) -> Vec<PeerView> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let made = |index: usize| {
        let mut peer = view(&format!("peer-{index}"), now);
        peer.dynamic = index >= configured;
        peer.remote = Ipv4Addr::from_bits(0x0a00_0000 + index as u32).into();
        peer.state = FsmState::Established;
        peer
    };
    (0..configured + dynamic).map(made).collect()
}

#[test]
fn the_text_parses_and_its_values_are_the_views() {
    let mut made = snapshot(peers(1, 3), config());
    made.peers[0].bfd = Some(BfdView { state: Some(BfdState::Up), since: None, reason: None });
    let counts = made.peers[0].counts.get_mut(&margay_net::Family::V4).unwrap();
    counts.rejected_by.insert(margay_bgp_core::RejectReason::AsPathLoop, 3);
    let samples = parse(&render(made).unwrap());
    let value = |name: &str, labels: &str| samples.get(&(name.to_owned(), labels.to_owned())).copied();
    assert_eq!(value("margay_bgp_peer_state", "peer=\"peer-0\""), Some(6.0));
    assert_eq!(value("margay_bgp_peer_uptime_seconds", "peer=\"peer-0\""), Some(192.0));
    assert_eq!(value("margay_bgp_peer_flaps_total", "peer=\"peer-0\""), Some(1.0));
    assert_eq!(value("margay_bgp_peer_bfd_up", "peer=\"peer-0\""), Some(1.0));
    assert_eq!(value("margay_bgp_peer_prefixes_accepted", "peer=\"peer-0\",family=\"ipv4\""), Some(7.0));
    let rejected = "peer=\"peer-0\",family=\"ipv4\",reason=\"as_path_loop\"";
    assert_eq!(value("margay_bgp_peer_prefixes_rejected", rejected), Some(3.0));
    assert_eq!(value("margay_bgp_peer_up", "peer=\"range:rack\""), Some(3.0));
    assert_eq!(value("margay_bgp_peer_prefixes_received", "peer=\"range:rack\",family=\"ipv4\""), Some(30.0));
    assert_eq!(value("margay_bgp_dynamic_peers", "range=\"rack\""), Some(3.0));
    assert_eq!(value("margay_bgp_notifications_total", "direction=\"sent\",code=\"6\""), Some(2.0));
    assert_eq!(value("margay_bgp_paths", ""), Some(7.0));
}

#[test]
fn dynamic_peers_add_no_series() {
    let few = parse(&render(snapshot(peers(10, 1), config())).unwrap()).len();
    let many = parse(&render(snapshot(peers(10, 2000), config())).unwrap()).len();
    assert_eq!(few, many);
    assert!(many < 10 * 32 + 60, "{many} series for 10 peers");
}

#[test]
fn a_label_with_quotes_stays_one_label() {
    let mut made = snapshot(peers(1, 0), config());
    made.peers[0].name = PeerName::from("a\"b\\c");
    let text = render(made).unwrap();
    assert!(text.contains(r#"margay_bgp_peer_up{peer="a\"b\\c"} 1"#), "{text}");
}

#[test]
fn the_documentation_lists_every_metric_and_no_other() {
    let page = include_str!("../../../../docs/metrics.md");
    let listed: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `margay_")?.split('`').next()).collect();
    let full = |metric: &Metric| {
        let total = if metric.counter { "_total" } else { "" };
        format!("{}{total}", metric.name.trim_start_matches("margay_"))
    };
    let there: BTreeSet<String> = METRICS.iter().map(full).collect();
    assert_eq!(listed, there.iter().map(String::as_str).collect());
    for metric in &METRICS {
        assert!(page.contains(metric.help), "{}: '{}' is not on the page", metric.name, metric.help);
        assert!(page.contains(&format!("`{}` | ", metric.labels.join("`, `"))) || metric.labels.is_empty());
    }
}
