//! An edit of a BGPPeer by margayctl reaches the running daemon and touches that peer's session at most.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use margay_lab::{Lab, LabOptions, Topology, isolation, manifests, until};
use margay_net::Family;
use margay_tests::NODE;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// Fields of a BGPPeer as one writes them, each alone beside what the peer needs.
const EDITS: [&str; 17] = [
    "keepaliveTime: 5s",
    "holdTime: 30s",
    "connectRetry: 5s",
    "maxRestartTime: 60s",
    "numAllowedLocalASNumbers: 1",
    "nextHopMode: Self",
    "ttlSecurity: 1",
    "localASNumber: 65099",
    "filters: [no-default]",
    "reversePeering: Manual",
    "password: {secretKeyRef: {name: not-there, key: password}}",
    "adminState: Down",
    "gracefulShutdown: true",
    "families: [ipv4, ipv6]",
    "bfd: {minTx: 300ms, minRx: 300ms, multiplier: 3}",
    "addPath: {receive: true, send: All}",
    "maxPrefixes: {limit: 1000, warningPercent: 80, action: Warn}",
];

const FILTER: &str = "apiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: {name: no-default}\nspec:\n  \
                      importV4: [{action: Reject, matchOperator: Equal, cidr: 0.0.0.0/0}]\n";

fn neighbor(lab: &Lab, peer: &str) -> Result<Value> {
    lab.node(NODE)?.margayctl_json(&["bgp", "neighbor", peer])
}

#[test]
fn an_edit_of_one_peer_leaves_the_other_ones_session_and_routes_alone() {
    isolation::isolated("an_edit_of_one_peer_leaves_the_other_ones_session_and_routes_alone", || {
        let topology = Topology { racks: 1, tors_per_rack: 2, nodes_per_rack: 2, spines: 0, ..Topology::default() };
        let lab = Lab::start(LabOptions::new(topology.clone()))?;
        lab.wait_for_sessions(SOON)?;
        lab.apply(FILTER)?;
        let peers = manifests::bgp_peers(&topology, 1, Family::V4);
        let first = peers.split("---\n").next().context("a BGPPeer")?.to_owned();
        let other_node = lab.options.topology.nodes()[1].address(Family::V4).to_string();
        let over_the_other = || -> Result<()> {
            let routes = lab.node(NODE)?.netns().ip(&format!("route show {other_node}"))?;
            if routes.contains("10.101.1.2") { Ok(()) } else { bail!("no way over the other router: {routes}") }
        };
        until(SOON, "there is a way over each router", over_the_other)?;
        for (number, edit) in EDITS.iter().enumerate() {
            let text = format!("edit {number}");
            lab.apply(&format!("{first}  description: {text}\n  {edit}\n"))?;
            let refused = edit.starts_with("password");
            until(SOON, &format!("the daemon follows `{edit}`"), || {
                // What can't be resolved leaves the peer as it was, and is said.
                let status = lab.node(NODE)?.margayctl_json(&["status"])?;
                let said = status["warnings"].to_string().contains("not-there");
                let seen = neighbor(&lab, "tor-a1-ipv4")?["description"] == *text;
                if (refused && said) || (!refused && seen) { Ok(()) } else { bail!("{}", status["warnings"]) }
            })?;
            let other = neighbor(&lab, "tor-a2-ipv4")?;
            ensure!(other["state"] == "Established", "`{edit}`: {other}");
            ensure!(other["established_count"] == 1, "`{edit}` reset the other session: {other}");
            over_the_other().with_context(|| format!("`{edit}`"))?;
        }
        lab.apply(&first)?;
        lab.wait_for_sessions(Duration::from_secs(60))
    });
}
