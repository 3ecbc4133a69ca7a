//! What a node can't follow of an object is in the object's status, and only as long as it is so.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use margay_lab::{DatastoreKind, Families, Lab, LabOptions, Topology, isolation, manifests, process, until};
use margay_net::Family;
use margay_tests::{NODE, one_node};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// The ToRs' objects by name, as they were applied.
fn peers(lab: &Lab) -> BTreeMap<String, String> {
    let text = manifests::bgp_peers(&lab.options.topology, 1, Family::V4);
    let documents = text.split("---\n").map(str::to_owned);
    let name =
        |document: &String| document.split("name: ").nth(1).and_then(|rest| rest.lines().next()).map(str::to_owned);
    documents.filter_map(|document| Some((name(&document)?, document))).collect()
}

fn get(lab: &Lab, peer: &str) -> Result<Value> {
    lab.margayctl_json(&["get", "bgppeer", peer])
}

/// The only condition of an object, once its reason is this one.
fn condition(lab: &Lab, peer: &str, reason: &str) -> Result<Value> {
    until(SOON, &format!("{peer} says {reason}"), || {
        let conditions = get(lab, peer)?["status"]["conditions"].take();
        match conditions.as_array().map(Vec::as_slice) {
            Some([condition]) if condition["reason"] == reason => Ok(condition.clone()),
            _ => bail!("{conditions}"),
        }
    })
}

fn wait_until_ok(lab: &Lab, peer: &str) -> Result<()> {
    until(SOON, &format!("{peer} has no status"), || {
        let status = get(lab, peer)?["status"].take();
        if status.is_null() { Ok(()) } else { bail!("{status}") }
    })
}

/// The cell of the column STATUS.
fn cell(lab: &Lab, peer: &str, format: &str) -> Result<String> {
    let table = lab.margayctl(&["get", "bgppeer", "-o", format])?;
    let mut lines = table.lines();
    let column = lines.next().and_then(|header| header.split_whitespace().position(|cell| cell == "STATUS"));
    // The selector is one cell of three words.
    let row = lines.find(|line| line.starts_with(peer)).context(table.clone())?.replace(" == ", "==");
    row.split_whitespace().nth(column.context(table.clone())?).map(str::to_owned).context(table)
}

/// Fails unless every session with these peers has been up without a break, on every node.
fn untouched(lab: &Lab, peers: &[&str]) -> Result<()> {
    for node in lab.nodes() {
        for peer in peers {
            let session = node.margayctl_json(&["bgp", "neighbor", peer])?;
            let same = session["state"] == "Established" && session["established_count"] == 1;
            ensure!(same, "{peer} of {}: {session}", node.name());
        }
    }
    Ok(())
}

#[test]
fn what_can_not_be_resolved_is_in_the_status_of_its_object_until_it_can() {
    isolation::isolated("what_can_not_be_resolved_is_in_the_status_of_its_object_until_it_can", || {
        let topology = Topology { racks: 1, tors_per_rack: 3, nodes_per_rack: 2, spines: 0, ..Topology::default() };
        let lab = Lab::start(LabOptions::new(topology))?;
        lab.wait_for_sessions(SOON)?;
        let (locked, filtered, other) = ("tor-a1-ipv4", "tor-a2-ipv4", "tor-a3-ipv4");
        let all = [locked, filtered, other];
        let good = peers(&lab);
        ensure!(cell(&lab, locked, "table")? == "ok" && get(&lab, locked)?.get("status").is_none(), "a fresh peer");

        let secret = "  password: {secretKeyRef: {name: tor, key: password}}\n  description: edited\n";
        lab.apply(&format!("{}{secret}", good[locked]))?;
        lab.apply(&format!("{}  filters: [not-there]\n  description: edited\n", good[filtered]))?;
        let written = [get(&lab, locked)?, get(&lab, filtered)?].map(|object| object["metadata"].clone());

        let said = condition(&lab, locked, "SecretUnavailable")?;
        let message = said["message"].to_string();
        ensure!(said["type"] == "ResolvedRefs" && said["status"] == "False", "{said}");
        ensure!(
            message.contains("secrets/tor/password: No such file") && message.contains("write the password"),
            "{said}"
        );
        ensure!(message.contains("the last good configuration of the session stays"), "{said}");
        ensure!(said["lastTransitionTime"].as_str().is_some_and(|time| time.ends_with('Z')), "{said}");
        let first = said["node"].as_str().context("a node")?.to_owned();
        let said = condition(&lab, filtered, "FilterNotFound")?;
        ensure!(said["message"].to_string().contains("no BGPFilter 'not-there'; create it, or take it out"), "{said}");
        for format in ["table", "wide"] {
            let cells = all.map(|peer| cell(&lab, peer, format));
            let cells: Vec<String> = cells.into_iter().collect::<Result<_>>()?;
            ensure!(cells == ["SecretUnavailable", "FilterNotFound", "ok"], "{format}: {cells:?}");
        }

        // What is shown is taken back, and no part of the object: it was not written again.
        let yaml = lab.margayctl(&["get", "bgppeers", "-o", "yaml"])?;
        ensure!(yaml.contains("reason: SecretUnavailable") && yaml.contains("reason: FilterNotFound"), "{yaml}");
        let applied = lab.apply(&yaml)?;
        ensure!(applied.lines().count() == 3 && applied.lines().all(|line| line.ends_with(" unchanged")), "{applied}");
        let after = [get(&lab, locked)?, get(&lab, filtered)?].map(|object| object["metadata"].clone());
        ensure!(after == written, "the objects were written: {after:?} after {written:?}");
        untouched(&lab, &all)?;
        for peer in [locked, filtered] {
            let session = lab.node(NODE)?.margayctl_json(&["bgp", "neighbor", peer])?;
            ensure!(session["description"] != "edited", "{peer} is not as it was: {session}");
        }

        let filter = "apiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: {name: not-there}\nspec: {}\n";
        lab.apply(filter)?;
        wait_until_ok(&lab, filtered)?;
        until(SOON, "the edit takes effect", || {
            let session = lab.node(NODE)?.margayctl_json(&["bgp", "neighbor", filtered])?;
            if session["description"] == "edited" { Ok(()) } else { bail!("{session}") }
        })?;
        untouched(&lab, &all)?;

        // The secret comes to one node after the other: whoever still misses it says so.
        let with_secret = |node: &str| -> Result<()> {
            let directory = lab.node(node)?.secrets().join("tor");
            std::fs::create_dir_all(&directory)?;
            Ok(std::fs::write(directory.join("password"), "wrong horse")?)
        };
        with_secret(&first)?;
        let second = lab.nodes().map(|node| node.name()).find(|name| *name != first).context("a second node")?;
        until(SOON, "the other node says it", || {
            let node = condition(&lab, locked, "SecretUnavailable")?["node"].take();
            if node == second { Ok(()) } else { bail!("{node}") }
        })?;
        with_secret(second)?;
        wait_until_ok(&lab, locked)?;
        ensure!(cell(&lab, locked, "table")? == "ok", "the table");
        untouched(&lab, &[filtered, other])
    });
}

#[test]
fn what_another_client_made_invalid_is_in_the_status_until_it_is_repaired_and_the_session_stays() {
    let test = "what_another_client_made_invalid_is_in_the_status_until_it_is_repaired_and_the_session_stays";
    isolation::isolated(test, || {
        let lab = Lab::start(one_node(Families::V4, DatastoreKind::Etcd))?;
        lab.wait_for_sessions(SOON)?;
        let peer = "tor-a1-ipv4";
        let key = format!("/calico/resources/v3/projectcalico.org/bgppeers/{peer}");
        let endpoint = lab.datastore_url().replace("etcd://", "http://");
        let etcdctl = |arguments: &[&str]| -> Result<String> {
            let mut command = Command::new("etcdctl");
            command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint]).args(arguments);
            Ok(lab.hub().enter(|| process::run(&mut command))?.stdout)
        };
        let good = etcdctl(&["get", "--print-value-only", &key])?;
        let mut bad: Value = serde_json::from_str(&good)?;
        bad["metadata"]["annotations"]["margay.io/spec"] = r#"{"holdTime":"1s"}"#.into();
        let bad = bad.to_string();
        etcdctl(&["put", &key, &bad])?;

        let said = condition(&lab, peer, "Invalid")?;
        ensure!(said["type"] == "Accepted" && said["node"] == NODE, "{said}");
        let message = said["message"].to_string();
        ensure!(message.contains("spec.holdTime") && message.contains("the last good value stays"), "{said}");
        ensure!(etcdctl(&["get", "--print-value-only", &key])?.trim() == bad, "the object was written");
        untouched(&lab, &[peer])?;

        etcdctl(&["put", &key, good.trim()])?;
        wait_until_ok(&lab, peer)?;
        ensure!(etcdctl(&["get", "--prefix", "--keys-only", "/calico/margay/"])?.trim().is_empty(), "left behind");
        untouched(&lab, &[peer])
    });
}
