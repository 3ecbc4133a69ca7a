use std::fmt::Write;

use margay_local_api::{Status, path};

use crate::output::{self, Format, age};
use crate::{Connection, Failure};

pub(crate) fn show(connection: &Connection, format: Format) -> Result<(), Failure> {
    let status: Status = connection.daemon().get(path::STATUS)?;
    if let Some(printed) = output::machine(format, &status) {
        return printed;
    }
    output::text(&render(&status))
}

fn render(status: &Status) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<10} {text}");
    };
    let ready = if status.ready { "ready" } else { "NOT READY" };
    let rss = status.rss_bytes / (1 << 20);
    line(
        "node",
        format!("{}  {ready}  margayd {} up {}  rss {rss}M", status.node, status.version, age(status.uptime_seconds)),
    );
    // A speaker of its own has a file in place of a datastore, and neither addresses nor policy.
    let speaker = !status.datastore.url.is_empty() && !status.datastore.url.contains("://");
    if speaker {
        line("file", status.datastore.url.clone());
    } else {
        let sync = if status.datastore.in_sync { "in sync" } else { "NOT IN SYNC" };
        line("datastore", format!("{}  {sync}  {}", status.datastore.url, status.datastore.error));
    }
    let drift: u64 = status.kernel.drift.values().sum();
    let routes: Vec<String> = status.kernel.routes.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let sync = if status.kernel.in_sync { "in sync" } else { "NOT IN SYNC" };
    line(
        "kernel",
        format!("{sync}  drift repaired {drift}  routes: {}  {}", routes.join(", "), status.kernel.last_error),
    );
    let up = status.bgp.peers.iter().filter(|peer| peer.state == "Established").count();
    let asn = status.bgp.local_asn.map(|asn| format!("AS{asn}")).unwrap_or_else(|| "not configured".to_owned());
    let router_id = status.bgp.router_id.clone().unwrap_or_else(|| "-".to_owned());
    line(
        "bgp",
        format!("{asn}  router id {router_id}  peers {up}/{} up  {}", status.bgp.peers.len(), status.bgp.listener),
    );
    if !status.bgp.drain.is_empty() {
        line("DRAIN", status.bgp.drain.clone());
    }
    if !speaker {
        line(
            "ipam",
            format!(
                "blocks {}",
                if status.ipam.blocks.is_empty() { "none".to_owned() } else { status.ipam.blocks.join(", ") }
            ),
        );
        line("endpoints", format!("{} here, {} in the cluster", status.endpoints.local, status.endpoints.cluster));
        line(
            "policy",
            format!(
                "{} policies, {} profiles, {} elements in the kernel, last change took {} us",
                status.policy.policies,
                status.policy.profiles,
                status.policy.elements,
                status.policy.last_change_micros
            ),
        );
    }
    for wait in &status.waiting {
        line("WAITING", format!("for {} since {}: {}", wait.what, age(wait.since_seconds), wait.reason));
    }
    for peer in status.bgp.peers.iter().filter(|peer| peer.state != "Established") {
        line("WARN", format!("peer {} ({}) is {}: {}", peer.name, peer.address, peer.state, peer.reason));
    }
    for warning in &status.warnings {
        line("WARN", warning.clone());
    }
    out.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use margay_local_api::Wait;

    #[test]
    fn what_is_waited_for_is_shown_with_its_reason() {
        let waiting =
            vec![Wait { what: "the datastore".into(), reason: "connection refused".into(), since_seconds: 61 }];
        let text = render(&Status { node: "n1".into(), waiting, ..Status::default() });
        assert!(text.contains("NOT READY"), "{text}");
        assert!(text.contains("WAITING    for the datastore since 1m1s: connection refused\n"), "{text}");
    }
}
