//! A plan as text for people to review: what differs from the speaker's defaults, each policy once.

use std::fmt::{Display, Write};

use margay_bgp_core::{
    PeerConfig, PrefixMatch, RouteMatch, RouteOrigin, Rule, RuleAction, RuleSet, SetOperation, SpeakerConfig,
};

use super::BgpPlan;

pub(super) fn plan(plan: &BgpPlan) -> String {
    let mut out = String::new();
    speaker(plan, &mut out);
    let mut policies: Vec<&RuleSet> = Vec::new();
    line(&mut out, 0, "peers:");
    for (name, peer) in &plan.config.peers {
        let source = &plan.sessions[name];
        let node = source.node.as_ref().map(|node| format!(", node {node}")).unwrap_or_default();
        line(&mut out, 2, format!("{name}: # {:?} of {}{node}", source.kind, source.object));
        for setting in settings(peer) {
            line(&mut out, 4, setting);
        }
        for (way, policy) in [("import", &peer.import.0), ("export", &peer.export.0)] {
            let number = policies.iter().position(|known| *known == policy).unwrap_or_else(|| {
                policies.push(policy);
                policies.len() - 1
            });
            line(&mut out, 4, format!("{way}: policy {}", number + 1));
        }
    }
    for (number, policy) in policies.iter().enumerate() {
        line(&mut out, 0, format!("policy {}:", number + 1));
        policy.rules.iter().for_each(|it| line(&mut out, 2, format!("- {}", rule(it))));
        line(&mut out, 2, format!("- {}", if policy.accept_by_default { "accept" } else { "reject" }));
    }
    let routes = &plan.routes;
    for (what, list) in [
        ("announced services", list(&routes.services)),
        ("not programmed", list(&routes.not_programmed)),
        ("reachable by", list(routes.reachable_by.iter().map(|(peer, gateway)| format!("{peer} via {gateway}")))),
        ("workload peers", list(routes.workload_peers.iter().map(|(name, own)| format!("{name} to {}", list(own))))),
        ("ignored interfaces", list(&routes.ignored_interfaces)),
    ] {
        if !list.is_empty() {
            line(&mut out, 0, format!("{what}: {list}"));
        }
    }
    for problem in &plan.problems {
        line(&mut out, 0, format!("problem: \"{problem}\""));
    }
    out
}

fn speaker(plan: &BgpPlan, out: &mut String) {
    let config = &plan.config;
    line(out, 0, format!("speaker: AS {}, router id {}, port {}", config.asn, config.router_id, config.listen_port));
    let plain = SpeakerConfig::new(config.asn, config.router_id);
    for (what, text) in [
        ("cluster id", config.cluster_id.map(|id| id.to_string())),
        ("listen on", (!config.listen_addresses.is_empty()).then(|| list(&config.listen_addresses))),
        ("multipath", (config.multipath != plain.multipath).then(|| format!("{:?}", config.multipath))),
        ("decision", (config.decision != plain.decision).then(|| format!("{:?}", config.decision))),
        ("graceful restart", (config.graceful_restart != plain.graceful_restart).then(|| "differs".to_owned())),
        ("drain", config.drain.map(|drain| format!("withdraw after {:?}", drain.withdraw_after))),
        ("log", plan.log_severity.clone()),
    ] {
        if let Some(text) = text {
            line(out, 0, format!("{what}: {text}"));
        }
    }
}

fn settings(peer: &PeerConfig) -> Vec<String> {
    let plain = PeerConfig::new(peer.remote, peer.asn);
    let mut out = vec![format!("remote: {} port {}, AS {}", peer.remote, peer.remote_port, peer.asn)];
    let mut setting = |what: &str, differs: bool, text: String| {
        if differs {
            out.push(format!("{what}: {text}"));
        }
    };
    setting("local AS", peer.local_asn.is_some(), peer.local_asn.unwrap_or_default().to_string());
    setting("source", true, peer.source.map_or("the kernel's choice".to_owned(), |source| source.to_string()));
    setting("passive", peer.passive, "yes".to_owned());
    setting("families", !peer.families.is_empty(), list(&peer.families));
    setting("hold time", peer.hold_time != plain.hold_time, format!("{:?}", peer.hold_time));
    setting("keepalive", peer.keepalive.is_some(), format!("{:?}", peer.keepalive.unwrap_or_default()));
    setting("connect retry", peer.connect_retry != plain.connect_retry, format!("{:?}", peer.connect_retry));
    setting("restart time", peer.restart_time.is_some(), format!("{:?}", peer.restart_time.unwrap_or_default()));
    setting("allow own AS", peer.allow_own_as > 0, peer.allow_own_as.to_string());
    setting("next hop", peer.next_hop != plain.next_hop, format!("{:?}", peer.next_hop));
    setting("ttl security", peer.ttl_security.is_some(), peer.ttl_security.unwrap_or_default().to_string());
    setting("multihop", !peer.multihop, "no".to_owned());
    // Passwords of cases are no secrets.
    setting("password", peer.password.is_some(), peer.password.as_ref().map_or("", |it| it.expose()).to_owned());
    setting("route reflector client", peer.route_reflector_client, "yes".to_owned());
    setting("administratively", !peer.admin_up, "down".to_owned());
    setting("description", peer.description.is_some(), peer.description.clone().unwrap_or_default());
    setting("graceful shutdown", peer.graceful_shutdown, "yes".to_owned());
    setting("bfd", peer.bfd.is_some(), peer.bfd.map(|bfd| format!("{bfd:?}")).unwrap_or_default());
    let add_path = peer.add_path;
    let usual = add_path.receive && add_path.send == margay_bgp_core::AddPathSend::All;
    setting("add path", !usual, format!("receive {}, send {:?}", add_path.receive, add_path.send));
    for (family, limit) in &peer.max_prefixes {
        setting(&format!("most {family} prefixes"), true, format!("{limit:?}"));
    }
    setting("ownership", true, format!("{:?}", peer.ownership));
    out
}

fn rule(rule: &Rule) -> String {
    let mut text = match rule.action {
        RuleAction::Accept => "accept".to_owned(),
        RuleAction::Reject => "reject".to_owned(),
        RuleAction::Next => "go on".to_owned(),
    };
    let conditions = conditions(&rule.matches);
    if !conditions.is_empty() {
        let _ = write!(text, " if {}", conditions.join(" and "));
    }
    if !rule.set.is_empty() {
        let _ = write!(text, ", set {}", list(rule.set.iter().map(operation)));
    }
    text
}

fn conditions(matches: &RouteMatch) -> Vec<String> {
    let mut out = Vec::new();
    let mut condition = |is_there: bool, text: String| {
        if is_there {
            out.push(text);
        }
    };
    condition(!matches.prefixes.is_empty(), format!("prefix {}", either(matches.prefixes.iter().map(prefix))));
    condition(
        !matches.not_prefixes.is_empty(),
        format!("not prefix {}", either(matches.not_prefixes.iter().map(prefix))),
    );
    condition(!matches.origins.is_empty(), format!("from {}", origins(&matches.origins)));
    let communities = matches.communities.iter().map(|it| format!("{}:{}", it >> 16, it & 0xffff));
    let large = matches.large_communities.iter().map(|[a, b, c]| format!("{a}:{b}:{c}"));
    for community in communities.chain(large) {
        condition(true, format!("community {community}"));
    }
    condition(!matches.as_path_prefix.is_empty(), format!("path begins {}", list(&matches.as_path_prefix)));
    condition(!matches.interfaces.is_empty(), format!("interface {}", either(&matches.interfaces)));
    condition(matches.local_pref.is_some(), format!("local preference {}", matches.local_pref.unwrap_or_default()));
    out
}

fn prefix(wanted: &PrefixMatch) -> String {
    let (least, most) = (wanted.covering.len(), wanted.covering.family().bits());
    match (wanted.min_len, wanted.max_len) {
        (min, max) if (min, max) == (least, least) => format!("= {}", wanted.covering),
        (min, max) if (min, max) == (least, most) => format!("in {}", wanted.covering),
        (min, max) => format!("in {} of length {min} to {max}", wanted.covering),
    }
}

fn origins(origins: &[RouteOrigin]) -> String {
    let local = origins.iter().filter(|origin| matches!(origin, RouteOrigin::Local(_))).count();
    let shown = |origin: &RouteOrigin| match origin {
        RouteOrigin::Local(source) => format!("{source:?}").to_lowercase(),
        RouteOrigin::Ebgp => "eBGP".to_owned(),
        RouteOrigin::Ibgp => "iBGP".to_owned(),
    };
    if local == super::filters::LOCAL.len() && origins.len() == local {
        return "this node".to_owned();
    }
    either(origins.iter().map(shown))
}

fn operation(operation: &SetOperation) -> String {
    match operation {
        SetOperation::LocalPref(value) => format!("local preference {value}"),
        SetOperation::Med(value) => format!("MED {value}"),
        SetOperation::AddCommunity(it) => format!("community {}:{}", it >> 16, it & 0xffff),
        SetOperation::AddLargeCommunity([a, b, c]) => format!("community {a}:{b}:{c}"),
        SetOperation::Prepend { asn, count } => format!("prepend {asn} x {count}"),
        SetOperation::RemoveCommunity(_) | SetOperation::AddExtendedCommunity(_) => format!("{operation:?}"),
    }
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn either<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" or ")
}

fn line(out: &mut String, indent: usize, text: impl Display) {
    let _ = writeln!(out, "{:indent$}{text}", "");
}
