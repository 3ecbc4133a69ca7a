//! FRR 8 and later, and SONiC, whose bgp container is FRR.

use std::collections::BTreeMap;

use super::plan::{Bfd, Tor};
use super::words::{keyword, list_name, pattern, session_kinds};

pub(super) fn render(tor: &Tor, sonic: bool) -> String {
    let mut out: Vec<String> = tor.header().into_iter().map(|line| format!("! {line}")).collect();
    if sonic {
        out.push("! SONiC: set docker_routing_config_mode to split in DEVICE_METADATA, then load this by".to_owned());
        out.push("! docker exec -i bgp vtysh".to_owned());
    }
    filters(tor, &mut out);
    let profiles: BTreeMap<Bfd, String> =
        tor.sessions.iter().filter_map(|session| session.bfd).map(|bfd| (bfd, profile(bfd))).collect();
    if !profiles.is_empty() {
        out.push("bfd".to_owned());
        for (bfd, name) in &profiles {
            out.push(format!(" profile {name}"));
            out.push(format!("  detect-multiplier {}", bfd.multiplier));
            out.push(format!("  receive-interval {}", bfd.min_rx));
            out.push(format!("  transmit-interval {}", bfd.min_tx));
            out.push(" exit".to_owned());
        }
        out.push("exit".to_owned());
    }
    out.push(format!("router bgp {}", tor.asn));
    out.push(" bgp graceful-restart".to_owned());
    out.push(" no bgp default ipv4-unicast".to_owned());
    for session in &tor.sessions {
        let neighbor = format!(" neighbor {}", session.address);
        out.extend(session.notes().into_iter().map(|note| format!(" ! {note}")));
        out.push(format!("{neighbor} remote-as {}", session.asn));
        out.push(format!("{neighbor} description node {}, BGPPeer {}", session.node, session.peer));
        out.push(format!("{neighbor} timers {} {}", session.keepalive, session.hold_time));
        if !tor.is_internal(session) {
            // The route map knows the numbers of all nodes: one must not speak for another.
            out.push(format!("{neighbor} enforce-first-as"));
        }
        if let Some(hops) = session.ttl_security {
            out.push(format!("{neighbor} ttl-security hops {hops}"));
        }
        if session.is_multihop() && !tor.is_internal(session) {
            out.push(format!("{neighbor} ebgp-multihop 255"));
        }
        if let Some(secret) = &session.password {
            out.push(format!(" ! neighbor {} password ...: the key in the cluster's secret {secret}", session.address));
        }
        if let Some(bfd) = session.bfd {
            out.push(format!("{neighbor} bfd profile {}", profile(bfd)));
        }
    }
    for family in tor.families() {
        out.push(format!(" address-family {family} unicast"));
        for session in tor.sessions.iter().filter(|session| session.families.contains(&family)) {
            let neighbor = format!("  neighbor {}", session.address);
            out.push(format!("{neighbor} activate"));
            out.push(format!("{neighbor} soft-reconfiguration inbound"));
            let kind = if tor.is_internal(session) { "INTERNAL" } else { "EXTERNAL" };
            out.push(format!("{neighbor} route-map {}-{kind} in", list_name(family)));
            out.push(format!("{neighbor} route-map MARGAY-OUT out"));
            out.push(format!("{neighbor} maximum-prefix {} restart 5", tor.max_prefixes));
        }
        out.push(" exit-address-family".to_owned());
    }
    out.push("exit".to_owned());
    out.join("\n") + "\n"
}

fn profile(bfd: Bfd) -> String {
    format!("margay-{}-{}-{}", bfd.min_tx, bfd.min_rx, bfd.multiplier)
}

fn filters(tor: &Tor, out: &mut Vec<String>) {
    for asn in &tor.node_asns {
        out.push(format!("bgp as-path access-list MARGAY-NODES permit ^{asn}$"));
    }
    let internal = tor.sessions.iter().any(|session| tor.is_internal(session));
    if internal {
        out.push("bgp as-path access-list MARGAY-LOCAL permit ^$".to_owned());
    }
    for family in tor.families() {
        let (keyword, name) = (keyword(family), list_name(family));
        for (index, entry) in tor.accepted(family).iter().enumerate() {
            out.push(format!("! {}", entry.why));
            let sequence = (index + 1) * 10;
            out.push(format!("{keyword} prefix-list {name} seq {sequence} permit {}", pattern(entry)));
        }
        for (kind, path) in session_kinds(tor) {
            // A list that isn't there would match everything; a route map without an entry that matches denies.
            let action = if tor.accepted(family).is_empty() { "deny" } else { "permit" };
            out.push(format!("route-map {name}-{kind} {action} 10"));
            if action == "permit" {
                out.push(format!(" match {keyword} address prefix-list {name}"));
                out.push(format!(" match as-path {path}"));
            }
            out.push("exit".to_owned());
        }
    }
    out.push("route-map MARGAY-OUT permit 10".to_owned());
    out.push("exit".to_owned());
}
