//! One peer's settings.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use margay_bgp_core::{
    AddPath, BfdConfig, LocalAsMode, MaxPrefixes, MaxPrefixesAction, NextHopMode, PeerConfig, RemovePrivateAs, Secret,
};
use margay_net::{Asn, Family};
use serde_saphyr::Spanned;

use crate::standalone::problem::Problem;
use crate::standalone::schema::{BfdSpec, LimitAction, LocalAs, MaxPrefixesSpec, NextHopText, PeerSpec, RemovePrivate};

/// Reads the password in a file, or says why not.
pub(super) type ReadPassword<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// The kernel's limit, TCP_MD5SIG_MAXKEYLEN.
const MAX_PASSWORD: usize = 80;
/// When a session that ended by its limit of prefixes is tried again, unless told otherwise.
const RESTART_AFTER: Duration = Duration::from_secs(300);

/// Every field of `own` that is there, else that of the template.
pub(super) fn over(own: &PeerSpec, template: PeerSpec) -> PeerSpec {
    let mut password = (own.password.clone(), own.password_file.clone());
    if password == (None, None) {
        password = (template.password, template.password_file);
    }
    let own = own.clone();
    PeerSpec {
        template: None,
        address: own.address,
        port: own.port.or(template.port),
        asn: own.asn.or(template.asn),
        description: own.description.or(template.description),
        enabled: own.enabled.or(template.enabled),
        local_asn: own.local_asn.or(template.local_asn),
        local_as_mode: own.local_as_mode.or(template.local_as_mode),
        source: own.source.or(template.source),
        passive: own.passive.or(template.passive),
        families: own.families.or(template.families),
        hold_time: own.hold_time.or(template.hold_time),
        keepalive: own.keepalive.or(template.keepalive),
        connect_retry: own.connect_retry.or(template.connect_retry),
        send_hold_time: own.send_hold_time.or(template.send_hold_time),
        ttl_security: own.ttl_security.or(template.ttl_security),
        multihop: own.multihop.or(template.multihop),
        password: password.0,
        password_file: password.1,
        import: own.import.or(template.import),
        export: own.export.or(template.export),
        max_prefixes: own.max_prefixes.or(template.max_prefixes),
        next_hop: own.next_hop.or(template.next_hop),
        route_reflector_client: own.route_reflector_client.or(template.route_reflector_client),
        graceful_restart: own.graceful_restart.or(template.graceful_restart),
        restart_time: own.restart_time.or(template.restart_time),
        bfd: own.bfd.or(template.bfd),
        add_path: own.add_path.or(template.add_path),
        allow_own_as: own.allow_own_as.or(template.allow_own_as),
        as_override: own.as_override.or(template.as_override),
        remove_private_as: own.remove_private_as.or(template.remove_private_as),
        enforce_first_as: own.enforce_first_as.or(template.enforce_first_as),
        honour_graceful_shutdown: own.honour_graceful_shutdown.or(template.honour_graceful_shutdown),
        honour_blackhole: own.honour_blackhole.or(template.honour_blackhole),
        graceful_shutdown: own.graceful_shutdown.or(template.graceful_shutdown),
    }
}

/// The peer's configuration but for its filters.
pub(super) fn convert(
    address: IpAddr,
    interface: Option<String>,
    spec: &PeerSpec,
    speaker: Asn,
    read: ReadPassword<'_>,
    problems: &mut Vec<Problem>,
) -> PeerConfig {
    let asn = spec.asn.as_ref().map_or(speaker, |asn| asn.value);
    let plain = PeerConfig::new(address, asn);
    let mut config = PeerConfig { interface, ..plain.clone() };
    numbers(spec, &mut config, problems);
    timers(spec, &mut config, problems);
    path(spec, &mut config, problems);
    config.description = spec.description.clone();
    config.admin_up = spec.enabled.unwrap_or(true);
    config.passive = spec.passive.unwrap_or(false);
    config.password = password(spec, read, problems);
    config.max_prefixes = spec.max_prefixes.as_ref().map(|limits| limits_of(limits, problems)).unwrap_or_default();
    config.next_hop = match spec.next_hop {
        None | Some(NextHopText::Auto) => NextHopMode::Auto,
        Some(NextHopText::SelfAddress) => NextHopMode::SelfAddress,
        Some(NextHopText::Keep) => NextHopMode::Keep,
    };
    config.route_reflector_client = spec.route_reflector_client.as_ref().is_some_and(|client| client.value);
    config.graceful_restart = spec.graceful_restart.unwrap_or(true);
    config.bfd = spec.bfd.as_ref().and_then(|bfd| bfd_of(bfd, problems));
    let add_path = spec.add_path.as_ref();
    config.add_path = add_path.map(|it| AddPath { receive: it.receive, send: it.send.0 }).unwrap_or_default();
    config.allow_own_as = spec.allow_own_as.unwrap_or(0);
    config.as_override = spec.as_override.unwrap_or(false);
    config.remove_private_as = match spec.remove_private_as {
        None | Some(RemovePrivate::Keep) => RemovePrivateAs::Keep,
        Some(RemovePrivate::Remove) => RemovePrivateAs::Remove,
        Some(RemovePrivate::Replace) => RemovePrivateAs::Replace,
    };
    config.enforce_first_as = spec.enforce_first_as.unwrap_or(plain.enforce_first_as);
    config.honour_graceful_shutdown = spec.honour_graceful_shutdown.unwrap_or(plain.honour_graceful_shutdown);
    config.honour_blackhole = spec.honour_blackhole.unwrap_or(plain.honour_blackhole);
    config.graceful_shutdown = spec.graceful_shutdown.unwrap_or(false);
    config
}

fn numbers(spec: &PeerSpec, config: &mut PeerConfig, problems: &mut Vec<Problem>) {
    for asn in [&spec.asn, &spec.local_asn].into_iter().flatten().filter(|asn| asn.value.0 == 0) {
        problems.push(Problem::at(asn, "AS number 0 is reserved (RFC 7607)"));
    }
    config.local_asn = spec.local_asn.as_ref().map(|asn| asn.value);
    config.local_as_mode = match spec.local_as_mode {
        None | Some(LocalAs::Replace) => LocalAsMode::Replace,
        Some(LocalAs::Prepend) => LocalAsMode::Prepend,
    };
    if let Some(port) = &spec.port {
        if port.value == 0 {
            problems.push(Problem::at(port, "a port is 1 to 65535"));
        }
        config.remote_port = port.value;
    }
    if let Some(families) = &spec.families {
        if families.value.is_empty() {
            problems
                .push(Problem::at(families, "a session carries at least one family; leave it out for the address's"));
        }
        config.families = families.value.iter().copied().collect();
    }
}

fn timers(spec: &PeerSpec, config: &mut PeerConfig, problems: &mut Vec<Problem>) {
    if let Some(time) = &spec.hold_time {
        let seconds = time.value.0.as_secs();
        if (1..3).contains(&seconds) || seconds > 65535 || time.value.0.subsec_nanos() > 0 {
            let reason = "a hold time is 0, or 3 to 65535 whole seconds (RFC 4271 section 4.2)";
            problems.push(Problem::at(time, reason));
        }
        config.hold_time = time.value.0;
    }
    if let Some(time) = &spec.keepalive {
        if time.value.0.is_zero() || (!config.hold_time.is_zero() && time.value.0 >= config.hold_time) {
            problems.push(Problem::at(time, "a keepalive interval is more than 0 and less than the hold time"));
        }
        config.keepalive = Some(time.value.0);
    }
    if let Some(time) = &spec.connect_retry {
        if time.value.0 < Duration::from_secs(1) {
            problems.push(Problem::at(time, "connectRetry is at least 1s"));
        }
        config.connect_retry = time.value.0;
    }
    if let Some(time) = &spec.restart_time {
        if time.value.0.as_secs() > 4095 {
            problems.push(Problem::at(time, "a restart time is at most 4095s (RFC 4724 section 3)"));
        }
        config.restart_time = Some(time.value.0);
    }
    config.send_hold_time = spec.send_hold_time.map(|time| time.0);
}

fn path(spec: &PeerSpec, config: &mut PeerConfig, problems: &mut Vec<Problem>) {
    if let Some(source) = &spec.source {
        if Family::of(source.value) != Family::of(config.remote) {
            problems.push(Problem::at(source, "the source is not of the peer address's family"));
        }
        config.source = Some(source.value);
    }
    config.multihop = spec.multihop.as_ref().is_some_and(|multihop| multihop.value);
    if let Some(hops) = &spec.ttl_security {
        if hops.value == 0 {
            problems.push(Problem::at(hops, "ttlSecurity is the number of hops, 1 for a peer on the link"));
        }
        if hops.value == 1 && config.multihop {
            problems.push(Problem::at(hops, "a multihop peer is more than 1 hop away"));
        }
        config.multihop |= hops.value > 1;
        config.ttl_security = Some(hops.value);
    }
}

fn password(spec: &PeerSpec, read: ReadPassword<'_>, problems: &mut Vec<Problem>) -> Option<Secret> {
    let (place, password) = match (&spec.password, &spec.password_file) {
        (None, None) => return None,
        (Some(_), Some(file)) => {
            problems.push(Problem::at(file, "'password' and 'passwordFile' exclude each other"));
            return None;
        }
        (Some(password), None) => (password, Ok(password.value.clone())),
        (None, Some(file)) => (file, read(&file.value)),
    };
    match password {
        Ok(password) if (1..=MAX_PASSWORD).contains(&password.len()) => return Some(Secret::new(password)),
        Ok(password) => {
            let reason = format!("a password has 1 to {MAX_PASSWORD} bytes (TCP-MD5), this one {}", password.len());
            problems.push(Problem::at(place, reason));
        }
        Err(reason) => problems.push(Problem::at(place, reason)),
    }
    None
}

fn limits_of(specs: &BTreeMap<Family, MaxPrefixesSpec>, problems: &mut Vec<Problem>) -> BTreeMap<Family, MaxPrefixes> {
    let mut limits = BTreeMap::new();
    for (family, spec) in specs {
        if spec.limit.value == 0 {
            problems.push(Problem::at(&spec.limit, "a limit is at least 1; leave it out for none"));
        }
        let percent = spec.warning_percent.as_ref();
        if let Some(percent) = percent.filter(|percent| !(1..=100).contains(&percent.value)) {
            problems.push(Problem::at(percent, "warningPercent is 1 to 100"));
        }
        let action = match (spec.action, &spec.restart_after) {
            (None | Some(LimitAction::Restart), after) => {
                MaxPrefixesAction::Restart(after.as_ref().map_or(RESTART_AFTER, |after| after.value.0))
            }
            (Some(action), Some(after)) => {
                problems.push(Problem::at(after, "restartAfter belongs to 'action: restart'"));
                if action == LimitAction::Warn { MaxPrefixesAction::Warn } else { MaxPrefixesAction::Hold }
            }
            (Some(LimitAction::Warn), None) => MaxPrefixesAction::Warn,
            (Some(LimitAction::Hold), None) => MaxPrefixesAction::Hold,
        };
        let warning_percent = percent.map_or(75, |percent| percent.value);
        limits.insert(*family, MaxPrefixes { limit: spec.limit.value, warning_percent, action });
    }
    limits
}

fn bfd_of(spec: &Spanned<BfdSpec>, problems: &mut Vec<Problem>) -> Option<BfdConfig> {
    let default = BfdConfig::default();
    let bfd = BfdConfig {
        min_tx: spec.value.min_tx.map_or(default.min_tx, |time| time.0),
        min_rx: spec.value.min_rx.map_or(default.min_rx, |time| time.0),
        multiplier: spec.value.multiplier.unwrap_or(default.multiplier),
    };
    if bfd.multiplier == 0 {
        problems.push(Problem::at(spec, "a BFD multiplier is 1 to 255"));
    }
    let usable = Duration::from_millis(10)..=Duration::from_secs(60);
    if !usable.contains(&bfd.min_tx) || !usable.contains(&bfd.min_rx) {
        problems.push(Problem::at(spec, "BFD intervals are 10ms to 60s"));
    }
    spec.value.enabled.unwrap_or(true).then_some(bfd)
}
