//! Everything about one peer.

use std::collections::BTreeMap;
use std::time::SystemTime;

use margay_bgp_core::{
    AddPathSend, MaxPrefixes, MaxPrefixesAction, NextHopMode, OwnershipCheck, PeerConfig, PeerView, RemovePrivateAs,
};
use margay_local_api::{BgpEvent, BgpFamily, BgpNeighbor};
use margay_net::Family;

use super::{peer, rfc3339, seconds};

/// The neighbour as it is; `config` is what it was made from, where that is known, and the notifications are the last
/// ones in each direction.
pub(crate) fn neighbor(
    view: &PeerView,
    config: Option<&PeerConfig>,
    sent: Option<BgpEvent>,
    received: Option<BgpEvent>,
    now: SystemTime,
) -> BgpNeighbor {
    BgpNeighbor {
        peer: peer(view, now),
        local_asn: view.local_asn,
        admin_up: view.admin_up,
        local_address: view.local_address.map(|address| address.to_string()),
        remote_address: view.remote_address.map(|address| address.to_string()),
        router_id: view.router_id.map(|id| id.to_string()),
        hold_time_seconds: view.hold_time,
        keepalive_seconds: view.keepalive,
        settings: config.map(settings).unwrap_or_default(),
        families: families(view, config),
        restarting: view.restarting,
        messages_received: view.messages_received,
        messages_sent: view.messages_sent,
        updates_received: view.updates_received,
        established_count: view.established_count,
        unsent_bytes: view.unsent_bytes as u64,
        last_error_at: view.last_error_at.map(rfc3339),
        last_notification_sent: sent,
        last_notification_received: received,
        bfd_since_seconds: view.bfd.as_ref().and_then(|bfd| bfd.since).map(|since| seconds(now, since)),
        shutdown_message: view.shutdown_message.clone().unwrap_or_default(),
        refreshes_received: view.refreshes_received,
        refreshes_sent: view.refreshes_sent,
    }
}

fn families(view: &PeerView, config: Option<&PeerConfig>) -> BTreeMap<String, BgpFamily> {
    let family = |(&family, counts): (&Family, &margay_bgp_core::PrefixCounts)| {
        let shown = BgpFamily {
            negotiated: view.families.contains(&family),
            end_of_rib: view.end_of_rib.contains(&family),
            received: counts.received as u64,
            accepted: counts.received.saturating_sub(counts.rejected) as u64,
            rejected: counts.rejected as u64,
            rejected_by: counts.rejected_by.iter().map(|(reason, count)| (reason.to_string(), *count as u64)).collect(),
            stale: counts.stale as u64,
            advertised: counts.advertised as u64,
            add_path: match (view.add_path_receive.contains(&family), view.add_path_send.contains(&family)) {
                (true, true) => "both",
                (true, false) => "in",
                (false, true) => "out",
                (false, false) => "",
            }
            .to_owned(),
            limit: config.and_then(|config| config.max_prefixes.get(&family)).map(limit).unwrap_or_default(),
        };
        (family.to_string(), shown)
    };
    view.counts.iter().map(family).collect()
}

fn limit(max: &MaxPrefixes) -> String {
    let then = match max.action {
        MaxPrefixesAction::Warn => "then only a warning".to_owned(),
        MaxPrefixesAction::Restart(pause) => {
            format!("then the session ends, and a new one after {}", humantime::format_duration(pause))
        }
        MaxPrefixesAction::Hold => "then the session ends, until it is reset".to_owned(),
    };
    format!("{}, at {}% a warning, {then}", max.limit, max.warning_percent)
}

/// The settings that are not the defaults, by the names that the stand-alone configuration has for them; of a password
/// only that there is one.
fn settings(config: &PeerConfig) -> BTreeMap<String, String> {
    let plain = PeerConfig::new(config.remote, config.asn);
    let mut out = BTreeMap::new();
    let mut note = |name: &str, changed: bool, value: String| {
        if changed {
            out.insert(name.to_owned(), value);
        }
    };
    let span = |span: std::time::Duration| humantime::format_duration(span).to_string();
    let optional = |value: Option<String>| value.unwrap_or_default();
    note("port", config.remote_port != plain.remote_port, config.remote_port.to_string());
    note("localAsn", config.local_asn.is_some(), optional(config.local_asn.map(|asn| asn.to_string())));
    note("localAsMode", config.local_as_mode != plain.local_as_mode, format!("{:?}", config.local_as_mode));
    note("source", config.source.is_some(), optional(config.source.map(|source| source.to_string())));
    note("interface", config.interface.is_some(), optional(config.interface.clone()));
    note("passive", config.passive, "true".to_owned());
    note("holdTime", true, span(config.hold_time));
    note("keepalive", config.keepalive.is_some(), optional(config.keepalive.map(span)));
    note("connectRetry", config.connect_retry != plain.connect_retry, span(config.connect_retry));
    note("sendHoldTime", config.send_hold_time.is_some(), optional(config.send_hold_time.map(span)));
    note("restartTime", config.restart_time.is_some(), optional(config.restart_time.map(span)));
    note("gracefulRestart", !config.graceful_restart, "false".to_owned());
    note("allowOwnAs", config.allow_own_as > 0, config.allow_own_as.to_string());
    note("asOverride", config.as_override, "true".to_owned());
    note(
        "removePrivateAs",
        config.remove_private_as != RemovePrivateAs::Keep,
        format!("{:?}", config.remove_private_as).to_lowercase(),
    );
    note("enforceFirstAs", !config.enforce_first_as, "false".to_owned());
    let next_hop = match config.next_hop {
        NextHopMode::Auto => "auto",
        NextHopMode::SelfAddress => "self",
        NextHopMode::Keep => "keep",
    };
    note("nextHop", config.next_hop != plain.next_hop, next_hop.to_owned());
    note("ttlSecurity", config.ttl_security.is_some(), optional(config.ttl_security.map(|hops| hops.to_string())));
    note("multihop", config.multihop, "true".to_owned());
    note("password", config.password.is_some(), "set".to_owned());
    note("routeReflectorClient", config.route_reflector_client, "true".to_owned());
    let bfd = config
        .bfd
        .map(|bfd| format!("tx {}, rx {}, multiplier {}", span(bfd.min_tx), span(bfd.min_rx), bfd.multiplier));
    note("bfd", bfd.is_some(), optional(bfd));
    let send = match config.add_path.send {
        AddPathSend::None => "none".to_owned(),
        AddPathSend::Best(count) => count.to_string(),
        AddPathSend::All => "all".to_owned(),
    };
    let receive = config.add_path.receive;
    note("addPath", config.add_path != plain.add_path, format!("receive {receive}, send {send}"));
    note("honourGracefulShutdown", !config.honour_graceful_shutdown, "false".to_owned());
    note("honourBlackhole", config.honour_blackhole, "true".to_owned());
    note("gracefulShutdown", config.graceful_shutdown, "true".to_owned());
    note("ownership", config.ownership != OwnershipCheck::Off, format!("{:?}", config.ownership).to_lowercase());
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use margay_bgp_core::Secret;
    use margay_net::Asn;
    use std::time::Duration;

    use super::super::tests::view;
    use super::*;

    #[test]
    fn a_neighbour_shows_limits_and_settings_but_no_password() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut config = PeerConfig::new("192.0.2.2".parse().unwrap(), Asn(65001));
        config.password = Some(Secret::new("hidden"));
        config.max_prefixes.insert(
            Family::V4,
            MaxPrefixes {
                limit: 1000,
                warning_percent: 75,
                action: MaxPrefixesAction::Restart(Duration::from_secs(30)),
            },
        );
        let shown = neighbor(&view("tor", now), Some(&config), None, None, now);
        assert_eq!(
            shown.families["ipv4"].limit,
            "1000, at 75% a warning, then the session ends, and a new one after 30s"
        );
        assert_eq!(shown.settings.get("password").map(String::as_str), Some("set"));
        assert!(!serde_json::to_string(&shown).unwrap().contains("hidden"));
    }
}
