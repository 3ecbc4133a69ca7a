//! Junos, as `set` commands.

use margay_net::Family;

use super::plan::{Accepted, Tor};

pub(super) fn render(tor: &Tor) -> String {
    let mut out: Vec<String> = tor.header().into_iter().map(|line| format!("# {line}")).collect();
    let internal = tor.sessions.iter().any(|session| tor.is_internal(session));
    for asn in &tor.node_asns {
        out.push(format!("set policy-options as-path-group margay-nodes as-path as-{asn} \"^{asn}$\""));
    }
    if internal {
        out.push("set policy-options as-path-group margay-local as-path none \"()\"".to_owned());
    }
    let groups = [("external", "margay-nodes", !tor.node_asns.is_empty()), ("internal", "margay-local", internal)];
    let groups: Vec<(&str, &str)> =
        groups.into_iter().filter(|(.., wanted)| *wanted).map(|(kind, path, _)| (kind, path)).collect();
    for family in tor.families() {
        for (kind, path) in &groups {
            policy(tor, family, kind, path, &mut out);
        }
    }
    out.push(format!("set routing-options autonomous-system {}", tor.asn));
    out.push("set routing-options graceful-restart".to_owned());
    for session in &tor.sessions {
        let kind = if tor.is_internal(session) { "internal" } else { "external" };
        let group = format!("set protocols bgp group margay-{kind}");
        let neighbor = format!("{group} neighbor {}", session.address);
        let first = format!("{group} type {kind}");
        if !out.contains(&first) {
            out.push(first);
        }
        out.extend(session.notes().into_iter().map(|note| format!("# {note}")));
        out.push(format!("{neighbor} description \"node {}, BGPPeer {}\"", session.node, session.peer));
        out.push(format!("{neighbor} local-address {}", session.tor));
        if kind == "external" {
            out.push(format!("{neighbor} peer-as {}", session.asn));
            // The policy knows the numbers of all nodes: one must not speak for another.
            out.push(format!("{neighbor} enforce-first-as"));
        }
        out.push(format!("{neighbor} hold-time {}", session.hold_time));
        match session.ttl_security {
            Some(1) => out.push(format!("{neighbor} ttl 255")),
            Some(_) => out.push(format!("{neighbor} multihop ttl 255")),
            None if session.is_multihop() && kind == "external" => out.push(format!("{neighbor} multihop")),
            None => {}
        }
        if let Some(hops) = session.ttl_security {
            let least = 256 - u16::from(hops);
            out.push(format!(
                "# GTSM: drop what comes from {} with a TTL below {least} by a filter on lo0",
                session.address
            ));
        }
        if let Some(secret) = &session.password {
            out.push(format!("# {neighbor} authentication-key ...: the key in the cluster's secret {secret}"));
        }
        if let Some(bfd) = session.bfd {
            let detection = format!("{neighbor} bfd-liveness-detection");
            out.push(format!("{detection} minimum-receive-interval {}", bfd.min_rx));
            out.push(format!("{detection} transmit-interval minimum-interval {}", bfd.min_tx));
            out.push(format!("{detection} multiplier {}", bfd.multiplier));
        }
        let imports: Vec<String> = session.families.iter().map(|family| policy_name(*family, kind)).collect();
        out.push(format!("{neighbor} import [ {} margay-reject ]", imports.join(" ")));
        for family in &session.families {
            let limit = format!("{neighbor} family {} unicast prefix-limit", keyword(*family));
            out.push(format!("{limit} maximum {}", tor.max_prefixes));
            out.push(format!("{limit} teardown 75 idle-timeout 5"));
        }
    }
    out.push("set policy-options policy-statement margay-reject then reject".to_owned());
    out.join("\n") + "\n"
}

fn keyword(family: Family) -> &'static str {
    match family {
        Family::V4 => "inet",
        Family::V6 => "inet6",
    }
}

fn policy_name(family: Family, kind: &str) -> String {
    format!("margay-{}-{kind}", keyword(family))
}

fn policy(tor: &Tor, family: Family, kind: &str, path: &str, out: &mut Vec<String>) {
    let name = policy_name(family, kind);
    for (index, entry) in tor.accepted(family).iter().enumerate() {
        let term = format!("set policy-options policy-statement {name} term {}", index + 1);
        out.push(format!("# {}", entry.why));
        out.push(format!("{term} from family {}", keyword(family)));
        out.push(format!("{term} from as-path-group {path}"));
        out.push(format!("{term} from route-filter {}", pattern(entry)));
        out.push(format!("{term} then accept"));
    }
    out.push(format!("set policy-options policy-statement {name} term rest from family {}", keyword(family)));
    out.push(format!("set policy-options policy-statement {name} term rest then reject"));
}

fn pattern(entry: &Accepted) -> String {
    if entry.min_len == entry.within.len() && entry.max_len == entry.within.len() {
        format!("{} exact", entry.within)
    } else {
        format!("{} prefix-length-range /{}-/{}", entry.within, entry.min_len, entry.max_len)
    }
}
