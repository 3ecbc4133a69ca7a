use std::fmt::Write;

use margay_local_api::{BgpEvent, BgpNeighbor, BgpWait};

use crate::output::{age, table};

/// Everything about a peer, a line for each thing.
pub(super) fn render(view: &BgpNeighbor) -> String {
    let peer = &view.peer;
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        if !text.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name:<16}  {text}");
        }
    };
    let kind = if peer.ibgp { "internal" } else { "external" };
    let dynamic = if peer.dynamic { ", made from a listen range" } else { "" };
    line("peer", format!("{}  {}  AS{}  {kind}{dynamic}", peer.name, peer.address, peer.asn));
    line("description", peer.description.clone());
    line("state", format!("{} for {}", peer.state, age(peer.since_seconds)));
    line("why not up", peer.reason.clone());
    for waited in &peer.waits {
        line("waits", wait(waited));
    }
    if !view.admin_up {
        line("admin", "shut down by configuration".to_owned());
    }
    let draining = "its routes carry GRACEFUL_SHUTDOWN, or are withdrawn";
    line("draining", if peer.draining { draining.to_owned() } else { String::new() });
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let ends = format!("local {}  remote {}", or_dash(&view.local_address), or_dash(&view.remote_address));
    line("connection", format!("{ends}  local AS{}  router id {}", view.local_asn, or_dash(&view.router_id)));
    if let (Some(hold), Some(keepalive)) = (view.hold_time_seconds, view.keepalive_seconds) {
        line("timers", format!("hold time {hold}s, keepalive {keepalive}s (negotiated)"));
    }
    line("capabilities", peer.capabilities.join(", "));
    line("graceful restart", peer.graceful_restart.clone());
    if !peer.bfd.is_empty() {
        let since = view.bfd_since_seconds.map(|since| format!(" for {}", age(since))).unwrap_or_default();
        line("bfd", format!("{}{since}  {}", peer.bfd, peer.bfd_reason).trim_end().to_owned());
    }
    line(
        "messages",
        format!(
            "received {}, of them {} updates; sent {}; {} bytes unsent",
            view.messages_received, view.updates_received, view.messages_sent, view.unsent_bytes
        ),
    );
    line("established", format!("{} times", view.established_count));
    if view.refreshes_received + view.refreshes_sent > 0 {
        let (theirs, ours) = (view.refreshes_received, view.refreshes_sent);
        line("refreshes", format!("asked by the peer {theirs} times, by us {ours} times"));
    }
    line("peer said", view.shutdown_message.clone());
    if !peer.last_error.is_empty() {
        let at = view.last_error_at.as_ref().map(|at| format!("  at {at}")).unwrap_or_default();
        let ago = peer.last_error_seconds.map(|seconds| format!(", {} ago", age(seconds))).unwrap_or_default();
        line("last error", format!("{}{at}{ago}", peer.last_error));
    }
    line("notification in", view.last_notification_received.as_ref().map(event).unwrap_or_default());
    line("notification out", view.last_notification_sent.as_ref().map(event).unwrap_or_default());
    let settings: Vec<String> = view.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
    line("configured", settings.join(", "));
    for (name, family) in &view.families {
        let reasons: Vec<String> =
            family.rejected_by.iter().map(|(reason, count)| format!("{count} by {reason}")).collect();
        if !reasons.is_empty() {
            line("rejected", format!("{name}: {}", reasons.join("; ")));
        }
        if !family.add_path.is_empty() {
            line("several paths", format!("{name}: {}", family.add_path));
        }
    }
    let rows: Vec<Vec<String>> = view
        .families
        .iter()
        .map(|(name, family)| {
            let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
            vec![
                name.clone(),
                yes(family.negotiated),
                yes(family.end_of_rib),
                family.received.to_string(),
                family.accepted.to_string(),
                family.rejected.to_string(),
                family.stale.to_string(),
                family.advertised.to_string(),
                if family.limit.is_empty() { "-".to_owned() } else { family.limit.clone() },
            ]
        })
        .collect();
    let header = ["FAMILY", "NEGOTIATED", "END-OF-RIB", "IN", "ACCEPTED", "REJECTED", "STALE", "OUT", "LIMIT"];
    out.push('\n');
    out.push_str(&table(&header, &rows));
    out
}

/// What is waited for, and how long at most.
pub(super) fn wait(wait: &BgpWait) -> String {
    match wait.until_seconds {
        Some(left) => format!("waits for {}, {} left", wait.what, age(left)),
        None => format!("waits for {}", wait.what),
    }
}

fn event(event: &BgpEvent) -> String {
    format!("{}  {}", event.time, event.message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use margay_local_api::BgpFamily;
    use margay_net::Asn;

    use super::*;
    use crate::bgp::peers::tests::peer;

    #[test]
    fn waits_limits_and_the_last_notification_are_shown() {
        let mut peer = peer("tor-a1", "Idle");
        peer.waits.push(BgpWait { what: "an operator's reset".to_owned(), until_seconds: None });
        let family = BgpFamily {
            limit: "1000, then held".to_owned(),
            rejected_by: BTreeMap::from([("own AS in AS_PATH".to_owned(), 3)]),
            ..BgpFamily::default()
        };
        let view = BgpNeighbor {
            peer,
            local_asn: Asn(64512),
            admin_up: true,
            local_address: None,
            remote_address: None,
            router_id: None,
            hold_time_seconds: Some(90),
            keepalive_seconds: Some(30),
            settings: BTreeMap::from([("password".to_owned(), "set".to_owned())]),
            families: BTreeMap::from([("ipv4".to_owned(), family)]),
            restarting: false,
            messages_received: 1,
            messages_sent: 2,
            updates_received: 0,
            established_count: 1,
            unsent_bytes: 0,
            last_error_at: Some("2025-01-01T00:00:00Z".to_owned()),
            last_notification_sent: None,
            last_notification_received: Some(BgpEvent {
                time: "2025-01-01T00:00:00Z".to_owned(),
                peer: Some("tor-a1".to_owned()),
                kind: "notification_received".to_owned(),
                message: "received NOTIFICATION: Cease (6/2)".to_owned(),
            }),
            bfd_since_seconds: None,
            shutdown_message: "maintenance until noon".to_owned(),
            refreshes_received: 0,
            refreshes_sent: 0,
        };
        let text = render(&view);
        for wanted in [
            "waits             waits for an operator's reset\n",
            "state             Idle for 3m12s\n",
            "timers            hold time 90s, keepalive 30s (negotiated)\n",
            "notification in   2025-01-01T00:00:00Z  received NOTIFICATION: Cease (6/2)\n",
            "last error        hold timer expired  at 2025-01-01T00:00:00Z, 6m40s ago\n",
            "configured        password set\n",
            "peer said         maintenance until noon\n",
            "rejected          ipv4: 3 by own AS in AS_PATH\n",
            "ipv4    no          no          0   0         0         0      0    1000, then held\n",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in\n{text}");
        }
    }
}
