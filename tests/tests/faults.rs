//! What goes on, and what waits, when the datastore or a daemon is away.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use margay_lab::cni::CniCommand;
use margay_lab::{DatastoreKind, Families, Lab, isolation, traffic, until};
use margay_tests::{Container, NODE, address_of, one_node};
use serde_json::{Value, json};

const QUICK: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(20);

fn status(lab: &Lab) -> Result<Value> {
    lab.node(NODE)?.margayctl_json(&["status"])
}

#[test]
fn a_daemon_waits_for_a_datastore_that_is_away_at_its_start_and_says_so() {
    isolation::isolated("a_daemon_waits_for_a_datastore_that_is_away_at_its_start_and_says_so", || {
        let mut lab = Lab::start(one_node(Families::V4, DatastoreKind::Etcd))?;
        lab.node_mut(NODE)?.stop_daemon()?;
        lab.take_etcd().context("etcd runs")?.kill()?;
        lab.node_mut(NODE)?.launch_daemon()?;
        until(SOON, "the daemon says what it waits for", || {
            let status = status(&lab)?;
            let what = &status["waiting"][0]["what"];
            if status["ready"] == false && *what == "the datastore" { Ok(()) } else { bail!("{status}") }
        })?;
        let container = Container::create(&lab, "c1", "shop", "web")?;
        let (code, printed) = container.call(lab.node(NODE)?, CniCommand::Add, &container.config)?;
        ensure!(code == 1 && printed["code"] == 11, "ADD without a datastore: {printed}");
        let (code, printed) = container.call(lab.node(NODE)?, CniCommand::Status, &container.config)?;
        ensure!(code == 1 && printed["code"] == 50, "STATUS without a datastore: {printed}");
        lab.restart_etcd()?;
        lab.node_mut(NODE)?.wait_for_daemon()?;
        container.add(lab.node(NODE)?)?;
        Ok(())
    });
}

#[test]
fn traffic_goes_on_while_the_datastore_is_away_and_new_pods_are_told_to_come_back() {
    isolation::isolated("traffic_goes_on_while_the_datastore_is_away_and_new_pods_are_told_to_come_back", || {
        let mut lab = Lab::start(one_node(Families::V4, DatastoreKind::Etcd))?;
        let [first, second] = ["c1", "c2"].map(|id| Container::create(&lab, id, "shop", id));
        let (first, second) = (first?, second?);
        first.add(lab.node(NODE)?)?;
        let address = address_of(&second.add(lab.node(NODE)?)?)?;
        ensure!(traffic::ping(&first.netns, address, QUICK)?.reached(), "before");

        lab.take_etcd().context("etcd runs")?.kill()?;
        let late = Container::create(&lab, "c3", "shop", "late")?;
        until(SOON, "a new pod is told to come back", || {
            let (code, printed) = late.call(lab.node(NODE)?, CniCommand::Add, &late.config)?;
            if code == 1 && printed["code"] == 11 { Ok(()) } else { bail!("{code}: {printed}") }
        })?;
        ensure!(traffic::ping(&first.netns, address, QUICK)?.reached(), "while the datastore is away");
        until(SOON, "the status names the datastore", || {
            let status = status(&lab)?;
            if status["datastore"]["error"] == json!("") { bail!("{status}") } else { Ok(()) }
        })?;

        lab.restart_etcd()?;
        until(SOON, "the new pod is wired once the datastore is back", || late.add(lab.node(NODE)?).map(drop))?;
        ensure!(traffic::ping(&first.netns, address, QUICK)?.reached(), "after");
        Ok(())
    });
}

#[test]
fn a_route_deleted_by_hand_is_back_at_once_and_counted() {
    isolation::isolated("a_route_deleted_by_hand_is_back_at_once_and_counted", || {
        let lab = Lab::start(one_node(Families::V4, DatastoreKind::Sqlite))?;
        let container = Container::create(&lab, "c1", "shop", "web")?;
        let address = address_of(&container.add(lab.node(NODE)?)?)?;
        let netns = lab.node(NODE)?.netns();
        netns.ip(&format!("route del {address}"))?;
        until(QUICK, "the route is back", || {
            let shown = netns.ip(&format!("route show {address}"))?;
            if shown.contains("proto 77") { Ok(()) } else { bail!("{shown}") }
        })?;
        until(QUICK, "the repair is counted", || {
            let status = status(&lab)?;
            if status["kernel"]["drift"]["workload"] == 1 { Ok(()) } else { bail!("{}", status["kernel"]) }
        })?;
        Ok(())
    });
}

#[test]
fn a_policy_table_deleted_by_hand_is_back_at_once_and_counted() {
    isolation::isolated("a_policy_table_deleted_by_hand_is_back_at_once_and_counted", || {
        let lab = Lab::start(one_node(Families::V4, DatastoreKind::Sqlite))?;
        let container = Container::create(&lab, "c1", "shop", "web")?;
        container.add(lab.node(NODE)?)?;
        let netns = lab.node(NODE)?.netns();
        let before = netns.run("nft", &["list", "table", "inet", "margay"])?.stdout;
        netns.run("nft", &["delete", "table", "inet", "margay"])?;
        until(QUICK, "the table is as it was", || {
            let now = netns.run("nft", &["list", "table", "inet", "margay"])?.stdout;
            let elements = |text: &str| text.matches("cali").count();
            if elements(&now) == elements(&before) { Ok(()) } else { bail!("{now}") }
        })?;
        let repaired = &status(&lab)?["kernel"]["drift"]["policy"];
        ensure!(repaired.as_u64().is_some_and(|repaired| repaired > 0), "not counted: {repaired}");
        // A table of somebody else is nobody's business here.
        netns.run("nft", &["add", "table", "inet", "other"])?;
        container.add(lab.node(NODE)?).map_or(Ok(()), |_| bail!("a second ADD passed"))?;
        ensure!(status(&lab)?["kernel"]["drift"]["policy"] == *repaired, "own changes count as drift");
        Ok(())
    });
}

#[test]
fn a_value_that_is_not_valid_leaves_the_last_good_one_in_force_and_is_named() {
    isolation::isolated("a_value_that_is_not_valid_leaves_the_last_good_one_in_force_and_is_named", || {
        let lab = Lab::start(one_node(Families::V4, DatastoreKind::Etcd))?;
        let key = "/calico/resources/v3/projectcalico.org/bgppeers/tor-a1-ipv4";
        let endpoint = lab.datastore_url().replace("etcd://", "http://");
        let mut put = std::process::Command::new("etcdctl");
        put.env("ETCDCTL_API", "3").args(["--endpoints", &endpoint, "put", key, "{ not json"]);
        lab.hub().enter(|| margay_lab::process::run(&mut put))?;
        until(SOON, "the status names the key", || {
            let warnings = status(&lab)?["warnings"].to_string();
            if warnings.contains(key) { Ok(()) } else { bail!("{warnings}") }
        })?;
        let (up, all) = lab.node(NODE)?.sessions()?;
        ensure!((up, all) == (1, 1), "the session went with its resource: {up} of {all}");
        Ok(())
    });
}
