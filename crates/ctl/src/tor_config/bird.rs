//! BIRD 2.0.11 and later.

use std::fmt::Write;

use margay_net::Family;

use super::plan::{Accepted, Session, Tor};

pub(super) fn render(tor: &Tor) -> String {
    let mut out = String::new();
    for line in tor.header() {
        line_to(&mut out, &format!("# {line}"));
    }
    for family in tor.families() {
        filter(&mut out, tor, family);
    }
    if tor.sessions.iter().any(|session| session.bfd.is_some()) {
        line_to(&mut out, "\nprotocol bfd margay_bfd { }");
    }
    for session in &tor.sessions {
        protocol(&mut out, tor, session);
    }
    out
}

fn line_to(out: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{line}");
}

fn filter(out: &mut String, tor: &Tor, family: Family) {
    line_to(out, &format!("\nfilter margay_from_nodes_{family} {{"));
    let entries = tor.accepted(family);
    if !entries.is_empty() {
        line_to(out, "  if net ~ [");
        for (index, entry) in entries.iter().enumerate() {
            let comma = if index + 1 < entries.len() { "," } else { "" };
            line_to(out, &format!("    {}{comma}  # {}", pattern(entry), entry.why));
        }
        line_to(out, &format!("  ] && ({}) then accept;", origin(tor)));
    }
    line_to(out, "  reject;\n}");
}

/// A node announces what is its own: an external one's AS path is its AS number, an internal one's is empty.
fn origin(tor: &Tor) -> String {
    let numbers: Vec<String> = tor.node_asns.iter().map(ToString::to_string).collect();
    let external = (!numbers.is_empty()).then(|| format!("bgp_path ~ [= [{}] =]", numbers.join(", ")));
    let internal = tor.sessions.iter().any(|session| tor.is_internal(session)).then(|| "bgp_path.len = 0".to_owned());
    external.into_iter().chain(internal).collect::<Vec<_>>().join(" || ")
}

fn pattern(entry: &Accepted) -> String {
    format!("{}{{{},{}}}", entry.within, entry.min_len, entry.max_len)
}

fn protocol(out: &mut String, tor: &Tor, session: &Session) {
    let mut line = |text: String| line_to(out, &text);
    line(format!("\nprotocol bgp margay_{} {{", session.identifier('_')));
    line(format!("  description \"node {}, BGPPeer {}\";", session.node, session.peer));
    for note in session.notes() {
        line(format!("  # {note}"));
    }
    line(format!("  local {} as {};", session.tor, tor.asn));
    line(format!("  neighbor {} as {};", session.address, session.asn));
    line(format!("  hold time {}; keepalive time {};", session.hold_time, session.keepalive));
    if !tor.is_internal(session) {
        // The filter knows the numbers of all nodes: one must not speak for another.
        line("  enforce first as on;".to_owned());
    }
    match session.ttl_security {
        Some(1) => line("  ttl security on;".to_owned()),
        Some(hops) => line(format!("  ttl security on; multihop {hops};")),
        None if session.is_multihop() => line("  multihop;".to_owned()),
        None => {}
    }
    if let Some(secret) = &session.password {
        line(format!("  # password \"...\";  the key in the cluster's secret {secret}"));
    }
    if let Some(bfd) = session.bfd {
        line(format!(
            "  bfd {{ min tx interval {} ms; min rx interval {} ms; multiplier {}; }};",
            bfd.min_tx, bfd.min_rx, bfd.multiplier
        ));
    }
    line("  graceful restart on;".to_owned());
    for family in &session.families {
        line(format!("  {family} {{"));
        line(format!("    import filter margay_from_nodes_{family};"));
        line(format!("    import limit {} action restart;", tor.max_prefixes));
        line("    export all;".to_owned());
        line("  };".to_owned());
    }
    line("}".to_owned());
}
