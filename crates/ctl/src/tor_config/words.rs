//! What FRR, EOS and NX-OS have in common: prefix lists and route maps.

use margay_net::Family;

use super::plan::{Accepted, Tor};

/// `ip` or `ipv6`.
pub(super) fn keyword(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ipv6",
    }
}

/// The prefix and its bounds, as prefix lists have them; bounds that say nothing are left out.
pub(super) fn pattern(entry: &Accepted) -> String {
    let (within, bits) = (entry.within, entry.within.family().bits());
    match (entry.min_len == within.len(), entry.max_len == bits) {
        (true, _) if entry.max_len == within.len() => within.to_string(),
        (false, true) => format!("{within} ge {}", entry.min_len),
        (true, _) => format!("{within} le {}", entry.max_len),
        (false, false) => format!("{within} ge {} le {}", entry.min_len, entry.max_len),
    }
}

/// The name of the prefix list of a family, and the beginning of its route maps' names.
pub(super) fn list_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "MARGAY-IPV4",
        Family::V6 => "MARGAY-IPV6",
    }
}

/// Every prefix of a family, as prefix lists have it.
pub(super) fn everything(family: Family) -> &'static str {
    match family {
        Family::V4 => "0.0.0.0/0 le 32",
        Family::V6 => "::/0 le 128",
    }
}

/// The kinds of sessions that there are, each with the AS path list that its route maps ask for.
pub(super) fn session_kinds(tor: &Tor) -> impl Iterator<Item = (&'static str, &'static str)> {
    let internal = tor.sessions.iter().any(|session| tor.is_internal(session));
    let kinds = [("EXTERNAL", "MARGAY-NODES", !tor.node_asns.is_empty()), ("INTERNAL", "MARGAY-LOCAL", internal)];
    kinds.into_iter().filter(|(.., wanted)| *wanted).map(|(kind, path, _)| (kind, path))
}
