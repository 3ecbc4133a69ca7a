use margay_local_api::{BgpPeerView, BgpPeers};

use crate::output::{Format, age, table};

/// The table of peers, and what holds the whole speaker up.
pub(super) fn render(view: &BgpPeers, format: Format) -> String {
    let wide = format == Format::Wide;
    let mut header = vec!["PEER", "ADDRESS", "AS", "STATE", "SINCE", "IN", "ACCEPTED", "REJECTED", "OUT"];
    let bfd = wide || view.peers.iter().any(|peer| !peer.bfd.is_empty());
    if bfd {
        header.push("BFD");
    }
    if wide {
        header.extend(["KIND", "GRACEFUL RESTART", "CAPABILITIES", "DESCRIPTION"]);
    }
    header.push("WHY");
    let row = |peer: &BgpPeerView| {
        let mut row = vec![
            peer.name.clone(),
            peer.address.clone(),
            peer.asn.to_string(),
            peer.state.clone(),
            age(peer.since_seconds),
            peer.received.to_string(),
            peer.accepted.to_string(),
            peer.rejected.to_string(),
            peer.advertised.to_string(),
        ];
        if bfd {
            row.push(if peer.bfd.is_empty() { "-".to_owned() } else { peer.bfd.clone() });
        }
        if wide {
            let kind = if peer.ibgp { "iBGP" } else { "eBGP" };
            row.push(if peer.dynamic { format!("{kind} dynamic") } else { kind.to_owned() });
            row.push(peer.graceful_restart.clone());
            row.push(peer.capabilities.join(", "));
            row.push(peer.description.clone());
        }
        row.push(why(peer));
        row
    };
    let rows: Vec<Vec<String>> = view.peers.iter().map(row).collect();
    let mut text = table(&header, &rows);
    for line in [&view.listener, &view.drain].into_iter().filter(|line| !line.is_empty()) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Why the session is not up; where it is, what its routes wait for and what ended the one before.
fn why(peer: &BgpPeerView) -> String {
    let mut words = Vec::new();
    if peer.reason.is_empty() {
        words.extend(peer.waits.iter().map(super::neighbor::wait));
        if peer.draining {
            words.push("draining".to_owned());
        }
        if !peer.last_error.is_empty() {
            let ago = peer.last_error_seconds.map(|seconds| format!(" ({} ago)", age(seconds))).unwrap_or_default();
            words.push(format!("before: {}{ago}", peer.last_error));
        }
    } else {
        words.push(peer.reason.clone());
    }
    words.join("; ")
}

#[cfg(test)]
pub(super) mod tests {
    use margay_local_api::BgpWait;
    use margay_net::Asn;

    use super::*;

    pub(in crate::bgp) fn peer(name: &str, state: &str) -> BgpPeerView {
        BgpPeerView {
            name: name.to_owned(),
            address: "10.0.0.1".to_owned(),
            asn: Asn(65001),
            state: state.to_owned(),
            since_seconds: 192,
            reason: if state == "Established" { String::new() } else { "connection refused".to_owned() },
            received: 10,
            accepted: 7,
            advertised: 4,
            graceful_restart: "agreed".to_owned(),
            last_error: "hold timer expired".to_owned(),
            rejected: 3,
            description: String::new(),
            ibgp: false,
            dynamic: false,
            draining: false,
            bfd: String::new(),
            bfd_reason: String::new(),
            last_error_seconds: Some(400),
            capabilities: vec!["route refresh".to_owned()],
            waits: Vec::new(),
        }
    }

    #[test]
    fn each_peer_has_a_line_that_ends_with_why() {
        let mut up = peer("tor-a1", "Established");
        up.waits.push(BgpWait { what: "End-of-RIB".to_owned(), until_seconds: Some(12) });
        let view = BgpPeers {
            peers: vec![up, peer("b", "Active")],
            drain: "drained on request".to_owned(),
            ..BgpPeers::default()
        };
        assert_eq!(
            render(&view, Format::Table),
            "PEER    ADDRESS   AS     STATE        SINCE  IN  ACCEPTED  REJECTED  OUT  WHY\n\
             tor-a1  10.0.0.1  65001  Established  3m12s  10  7         3         4    \
             waits for End-of-RIB, 12s left; before: hold timer expired (6m40s ago)\n\
             b       10.0.0.1  65001  Active       3m12s  10  7         3         4    connection refused\n\
             drained on request\n"
        );
        let wide = render(&view, Format::Wide);
        assert!(wide.contains("BFD") && wide.contains("route refresh"), "{wide}");
    }
}
