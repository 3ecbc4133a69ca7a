//! Cisco NX-OS 9.3 and later.

use margay_net::Family;

use super::plan::Tor;
use super::words::{everything, keyword, list_name, pattern, session_kinds};

pub(super) fn render(tor: &Tor) -> String {
    let mut out: Vec<String> = tor.header().into_iter().map(|line| format!("! {line}")).collect();
    out.push("feature bgp".to_owned());
    if tor.sessions.iter().any(|session| session.bfd.is_some()) {
        out.push("feature bfd".to_owned());
    }
    let internal = tor.sessions.iter().any(|session| tor.is_internal(session));
    for asn in &tor.node_asns {
        out.push(format!("ip as-path access-list MARGAY-NODES permit \"^{asn}$\""));
    }
    if internal {
        out.push("ip as-path access-list MARGAY-LOCAL permit \"^$\"".to_owned());
    }
    for family in tor.families() {
        lists(tor, family, &mut out);
    }
    out.push("route-map MARGAY-OUT permit 10".to_owned());
    out.push(format!("router bgp {}", tor.asn));
    out.push("  graceful-restart".to_owned());
    for session in &tor.sessions {
        out.push(format!("  neighbor {}", session.address));
        out.extend(session.notes().into_iter().map(|note| format!("    ! {note}")));
        out.push(format!("    remote-as {}", session.asn));
        out.push(format!("    description node {}, BGPPeer {}", session.node, session.peer));
        out.push(format!("    timers {} {}", session.keepalive, session.hold_time));
        if let Some(hops) = session.ttl_security {
            out.push(format!("    ttl-security hops {hops}"));
        }
        if session.is_multihop() && !tor.is_internal(session) {
            out.push("    ebgp-multihop 255".to_owned());
        }
        if let Some(secret) = &session.password {
            out.push(format!("    ! password 0 ...: the key in the cluster's secret {secret}"));
        }
        if let Some(bfd) = session.bfd {
            out.push("    bfd".to_owned());
            let timers = format!("interval {} min_rx {} multiplier {}", bfd.min_tx, bfd.min_rx, bfd.multiplier);
            out.push(format!("    ! on the interface to this node: bfd {timers}"));
        }
        let kind = if tor.is_internal(session) { "INTERNAL" } else { "EXTERNAL" };
        for family in &session.families {
            out.push(format!("    address-family {family} unicast"));
            out.push(format!("      route-map {}-{kind} in", list_name(*family)));
            out.push("      route-map MARGAY-OUT out".to_owned());
            out.push("      soft-reconfiguration inbound".to_owned());
            out.push(format!("      maximum-prefix {} restart 5", tor.max_prefixes));
        }
    }
    out.join("\n") + "\n"
}

fn lists(tor: &Tor, family: Family, out: &mut Vec<String>) {
    let (keyword, name) = (keyword(family), list_name(family));
    for (index, entry) in tor.accepted(family).iter().enumerate() {
        out.push(format!("! {}", entry.why));
        out.push(format!("{keyword} prefix-list {name} seq {} permit {}", (index + 1) * 10, pattern(entry)));
    }
    let last = (tor.accepted(family).len() + 1) * 10;
    out.push(format!("{keyword} prefix-list {name} seq {last} deny {}", everything(family)));
    for (kind, path) in session_kinds(tor) {
        out.push(format!("route-map {name}-{kind} permit 10"));
        out.push(format!("  match {keyword} address prefix-list {name}"));
        out.push(format!("  match as-path {path}"));
    }
}
