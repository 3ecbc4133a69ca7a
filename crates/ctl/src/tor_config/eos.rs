//! Arista EOS 4.28 and later.

use margay_net::Family;

use super::plan::Tor;
use super::words::{everything, keyword, list_name, pattern, session_kinds};

pub(super) fn render(tor: &Tor) -> String {
    let mut out: Vec<String> = tor.header().into_iter().map(|line| format!("! {line}")).collect();
    let internal = tor.sessions.iter().any(|session| tor.is_internal(session));
    for asn in &tor.node_asns {
        out.push(format!("ip as-path access-list MARGAY-NODES permit ^{asn}$ any"));
    }
    if internal {
        out.push("ip as-path access-list MARGAY-LOCAL permit ^$ any".to_owned());
    }
    for family in tor.families() {
        lists(tor, family, &mut out);
    }
    out.extend(["!", "route-map MARGAY-OUT permit 10", "!"].map(str::to_owned));
    out.push(format!("router bgp {}", tor.asn));
    for session in &tor.sessions {
        let neighbor = format!("   neighbor {}", session.address);
        out.extend(session.notes().into_iter().map(|note| format!("   ! {note}")));
        out.push(format!("{neighbor} remote-as {}", session.asn));
        out.push(format!("{neighbor} description node {}, BGPPeer {}", session.node, session.peer));
        out.push(format!("{neighbor} timers {} {}", session.keepalive, session.hold_time));
        if let Some(hops) = session.ttl_security {
            out.push(format!("{neighbor} ttl maximum-hops {hops}"));
        }
        if session.is_multihop() && !tor.is_internal(session) {
            out.push(format!("{neighbor} ebgp-multihop 255"));
        }
        if let Some(secret) = &session.password {
            out.push(format!(
                "   ! neighbor {} password ...: the key in the cluster's secret {secret}",
                session.address
            ));
        }
        if let Some(bfd) = session.bfd {
            out.push(format!("{neighbor} bfd"));
            let timers = format!("interval {} min-rx {} multiplier {}", bfd.min_tx, bfd.min_rx, bfd.multiplier);
            out.push(format!("{neighbor} bfd {timers}"));
        }
        out.push(format!("{neighbor} graceful-restart"));
        out.push(format!("{neighbor} maximum-routes {} warning-limit 75 percent", tor.max_prefixes));
    }
    for family in tor.families() {
        out.push("   !".to_owned());
        out.push(format!("   address-family {family}"));
        for session in tor.sessions.iter().filter(|session| session.families.contains(&family)) {
            let neighbor = format!("      neighbor {}", session.address);
            let kind = if tor.is_internal(session) { "INTERNAL" } else { "EXTERNAL" };
            out.push(format!("{neighbor} activate"));
            out.push(format!("{neighbor} route-map {}-{kind} in", list_name(family)));
            out.push(format!("{neighbor} route-map MARGAY-OUT out"));
        }
    }
    out.push("!".to_owned());
    out.join("\n") + "\n"
}

fn lists(tor: &Tor, family: Family, out: &mut Vec<String>) {
    let (keyword, name) = (keyword(family), list_name(family));
    out.push("!".to_owned());
    out.push(format!("{keyword} prefix-list {name}"));
    for (index, entry) in tor.accepted(family).iter().enumerate() {
        out.push(format!("   ! {}", entry.why));
        out.push(format!("   seq {} permit {}", (index + 1) * 10, pattern(entry)));
    }
    out.push(format!("   seq {} deny {}", (tor.accepted(family).len() + 1) * 10, everything(family)));
    for (kind, path) in session_kinds(tor) {
        out.push("!".to_owned());
        out.push(format!("route-map {name}-{kind} permit 10"));
        out.push(format!("   match {keyword} address prefix-list {name}"));
        out.push(format!("   match as-path {path}"));
    }
}
