//! The plugin and the daemon behind it, called as container runtimes call them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use margay_lab::cni::CniCommand;
use margay_lab::traffic::{self, ECHO_PORT, Servers};
use margay_lab::{DatastoreKind, Families, Lab, isolation, until};
use margay_tests::datagrams::{Receiver, Sender};
use margay_tests::{Container, NODE, address_of, ipam_check, one_node};
use serde_json::json;

const QUICK: Duration = Duration::from_secs(1);

#[test]
fn an_attachment_lives_from_add_to_del_and_del_comes_twice() {
    isolation::isolated("an_attachment_lives_from_add_to_del_and_del_comes_twice", || {
        let lab = Lab::start(one_node(Families::Dual, DatastoreKind::Sqlite))?;
        let node = lab.node(NODE)?;
        let container = Container::create(&lab, "c1", "shop", "web")?;
        let result = container.add(node)?;
        let address = address_of(&result)?;
        ensure!(traffic::ping(node.netns(), address, QUICK)?.reached(), "node to pod");
        ensure!(result["interfaces"][1]["sandbox"] == container.netns.path().display().to_string(), "{result}");

        let mut checked = container.config.clone();
        checked["prevResult"] = result.clone();
        let (code, printed) = container.call(node, CniCommand::Check, &checked)?;
        ensure!(code == 0, "CHECK: {printed}");
        let (code, printed) = container.call(node, CniCommand::Add, &container.config)?;
        ensure!(code != 0, "a second ADD of the same interface passed: {printed}");
        let (code, printed) = container.call(node, CniCommand::Check, &checked)?;
        ensure!(code == 0, "CHECK after a refused ADD: {printed}");

        container.netns.ip("route del default")?;
        let (code, printed) = container.call(node, CniCommand::Check, &checked)?;
        ensure!(code == 1 && printed["details"].as_str().is_some_and(|d| d.contains("route")), "CHECK: {printed}");

        container.del(node, &result)?;
        // The second DEL of a runtime has neither a namespace nor a result.
        let (code, printed) = container.call_in(node, CniCommand::Del, "", &container.config)?;
        ensure!(code == 0 && printed.is_null(), "second DEL: {printed}");
        ensure!(!container.netns.ip("link show")?.contains("eth0"), "the pod's link is still there");
        let check = ipam_check(&lab)?;
        ensure!(check["addresses_assigned"] == 0, "{check}");
        Ok(())
    });
}

#[test]
fn errors_are_the_specifications_json_with_its_codes() {
    isolation::isolated("errors_are_the_specifications_json_with_its_codes", || {
        let mut lab = Lab::start(one_node(Families::V4, DatastoreKind::Sqlite))?;
        let container = Container::create(&lab, "c1", "shop", "web")?;
        let node = lab.node(NODE)?;
        let (code, printed) = container.call(node, CniCommand::Version, &json!({}))?;
        ensure!(code == 0 && printed["supportedVersions"].as_array().is_some_and(|v| v.len() == 5), "{printed}");
        let (code, printed) = container.call(node, CniCommand::Status, &container.config)?;
        ensure!(code == 0 && printed.is_null(), "STATUS: {printed}");

        let mut config = container.config.clone();
        config["cniVersion"] = json!("7.0.0");
        expect_code(&container, &lab, CniCommand::Add, &config, 1)?;
        expect_code(&container, &lab, CniCommand::Add, &json!("no object"), 7)?;
        let mut config = container.config.clone();
        config["ipam"] = json!({ "assign_ipv4": true, "ipv4_pools": ["no-such-pool"] });
        expect_code(&container, &lab, CniCommand::Add, &config, 100)?;
        // The IPv4 address is assigned before it shows that there is no IPv6 pool.
        let mut config = container.config.clone();
        config["ipam"] = json!({ "assign_ipv4": true, "assign_ipv6": true });
        expect_code(&container, &lab, CniCommand::Add, &config, 100)?;
        let check = ipam_check(&lab)?;
        ensure!(check["addresses_assigned"] == 0 && check["handles"] == json!([]), "an ADD that failed kept: {check}");
        ensure!(!container.netns.ip("link show")?.contains("eth0"), "a failed ADD left its link");
        // What containerd does after a failed ADD.
        let (code, printed) = container.call(lab.node(NODE)?, CniCommand::Del, &container.config)?;
        ensure!(code == 0, "DEL after a failed ADD: {printed}");

        lab.node_mut(NODE)?.kill_daemon()?;
        expect_code(&container, &lab, CniCommand::Add, &container.config, 11)?;
        expect_code(&container, &lab, CniCommand::Status, &container.config, 50)?;
        ensure!(!container.netns.ip("link show")?.contains("eth0"), "a failed ADD left its link");
        Ok(())
    });
}

fn expect_code(
    container: &Container,
    lab: &Lab,
    command: CniCommand,
    config: &serde_json::Value,
    expected: i64,
) -> Result<()> {
    let (exit, printed) = container.call(lab.node(NODE)?, command, config)?;
    ensure!(exit == 1 && printed["code"] == expected, "{command} printed {printed}, expected code {expected}");
    ensure!(printed["msg"].as_str().is_some_and(|message| !message.is_empty()), "{printed}");
    Ok(())
}

#[test]
fn a_late_del_of_an_old_container_leaves_the_new_pod_of_its_name_alone() {
    isolation::isolated("a_late_del_of_an_old_container_leaves_the_new_pod_of_its_name_alone", || {
        let lab = Lab::start(one_node(Families::V4, DatastoreKind::Sqlite))?;
        let node = lab.node(NODE)?;
        let old = Container::create(&lab, "old", "shop", "web-0")?;
        let old_result = old.add(node)?;
        let new = Container::create(&lab, "new", "shop", "web-0")?;
        let new_result = new.add(node)?;
        let address = address_of(&new_result)?;
        ensure!(address != address_of(&old_result)?, "the new pod got the old one's address while that is held");
        ensure!(traffic::ping(node.netns(), address, QUICK)?.reached(), "before the old DEL");
        old.del(node, &old_result)?;
        ensure!(traffic::ping(node.netns(), address, QUICK)?.reached(), "after the old DEL");
        let mut checked = new.config.clone();
        checked["prevResult"] = new_result;
        let (code, printed) = new.call(node, CniCommand::Check, &checked)?;
        ensure!(code == 0, "CHECK of the new pod: {printed}");
        let check = ipam_check(&lab)?;
        ensure!(check["addresses_assigned"] == 1 && check["leaked"] == json!([]), "{check}");
        Ok(())
    });
}

#[test]
fn fifty_adds_at_once_with_the_daemon_killed_in_their_middle_leave_one_owner_for_each_address() {
    let name = "fifty_adds_at_once_with_the_daemon_killed_in_their_middle_leave_one_owner_for_each_address";
    isolation::isolated(name, || killed_in_the_middle(DatastoreKind::Sqlite));
}

#[test]
fn fifty_adds_at_once_with_the_daemon_killed_in_their_middle_on_etcd() {
    let name = "fifty_adds_at_once_with_the_daemon_killed_in_their_middle_on_etcd";
    isolation::isolated(name, || killed_in_the_middle(DatastoreKind::Etcd));
}

fn killed_in_the_middle(datastore: DatastoreKind) -> Result<()> {
    let mut lab = Lab::start(one_node(Families::V4, datastore))?;
    let containers: Vec<Container> = (0..50)
        .map(|index| Container::create(&lab, &format!("c{index}"), "shop", &format!("web-{index}")))
        .collect::<Result<_>>()?;
    let executioner = Executioner::of(lab.node(NODE)?.daemon_pid().context("a running daemon")?)?;
    let node = lab.node(NODE)?;
    let (returned, returns) = std::sync::mpsc::channel();
    let added: Vec<Option<serde_json::Value>> = std::thread::scope(|scope| {
        let add = |container: &Container, returned: std::sync::mpsc::Sender<()>| {
            let result = container.add(node).ok();
            // Whoever counts has stopped once the daemon is dead.
            let _ = returned.send(());
            result
        };
        let adds: Vec<_> = containers
            .iter()
            .map(|container| {
                let returned = returned.clone();
                scope.spawn(move || add(container, returned))
            })
            .collect();
        // The kill comes when some are done and the others are under way.
        let some = (0..5).try_for_each(|_| returns.recv_timeout(Duration::from_secs(20)));
        let killed = executioner.kill();
        let results = adds.into_iter().map(|add| add.join().unwrap_or(None)).collect();
        some.context("no ADD returns")?;
        killed.map(|()| results)
    })?;
    let succeeded = added.iter().flatten().count();
    ensure!(succeeded < 50, "the daemon was killed after the last ADD: nothing was tested");
    lab.node_mut(NODE)?.kill_daemon()?;
    lab.node_mut(NODE)?.start_daemon()?;
    let node = lab.node(NODE)?;

    // The runtime tears down what failed, but for every other one, of which it knows nothing: GC frees that.
    for (index, (container, result)) in containers.iter().zip(&added).enumerate() {
        if result.is_none() && index % 2 == 0 {
            let (code, printed) = container.call(node, CniCommand::Del, &container.config)?;
            ensure!(code == 0, "DEL after the restart: {printed}");
        }
    }
    let alive: Vec<&Container> =
        containers.iter().zip(&added).filter(|(_, result)| result.is_some()).map(|(container, _)| container).collect();
    let mut config = containers[0].config.clone();
    let valid: Vec<_> = alive.iter().map(|alive| json!({ "containerID": alive.id, "ifname": "eth0" })).collect();
    config["cni.dev/valid-attachments"] = json!(valid);
    let (code, printed) = containers[0].call(node, CniCommand::Gc, &config)?;
    ensure!(code == 0, "GC: {printed}");

    let check = ipam_check(&lab)?;
    ensure!(check["addresses_assigned"] == succeeded, "{succeeded} pods live: {check}");
    for problem in ["leaked", "unassigned", "duplicates", "handles", "affinities"] {
        ensure!(check[problem] == json!([]), "{problem}: {check}");
    }
    let addresses: BTreeSet<_> = added.iter().flatten().map(address_of).collect::<Result<_>>()?;
    ensure!(addresses.len() == succeeded, "an address was given twice: {addresses:?}");
    for (container, result) in containers.iter().zip(&added) {
        let Some(result) = result else { continue };
        let address = address_of(result)?;
        ensure!(traffic::ping(node.netns(), address, QUICK)?.reached(), "{} at {address}", container.pod);
    }
    for (container, result) in containers.iter().zip(&added) {
        let Some(result) = result else { continue };
        container.del(node, result)?;
        container.del(node, result)?;
    }
    let check = ipam_check(&lab)?;
    ensure!(check["addresses_assigned"] == 0 && check["handles"] == json!([]), "{check}");
    Ok(())
}

/// A process that stands ready to end another one, so that the end comes at the moment it is wanted.
struct Executioner(std::process::Child);

impl Executioner {
    fn of(pid: u32) -> Result<Executioner> {
        let script = format!("read go; kill -KILL {pid}");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]).stdin(std::process::Stdio::piped());
        Ok(Executioner(command.spawn()?))
    }

    fn kill(mut self) -> Result<()> {
        let mut stdin = self.0.stdin.take().context("its standard input")?;
        std::io::Write::write_all(&mut stdin, b"go\n")?;
        let status = self.0.wait()?;
        ensure!(status.success(), "the daemon could not be killed: {status}");
        Ok(())
    }
}

#[test]
fn no_packet_of_a_new_pod_passes_before_its_policy_is_in_force() {
    isolation::isolated("no_packet_of_a_new_pod_passes_before_its_policy_is_in_force", || {
        let lab = Lab::start(one_node(Families::V4, DatastoreKind::Sqlite))?;
        lab.apply(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: shop}\nspec:\n  \
             podSelector: {}\n  policyTypes: [Ingress, Egress]\n",
        )?;
        let node = lab.node(NODE)?;
        let target = Container::create(&lab, "target", "open", "server")?;
        let address = address_of(&target.add(node)?)?;
        let servers = Servers::start(&target.netns, &[ECHO_PORT], &[ECHO_PORT])?;
        let open = Container::create(&lab, "open", "open", "client")?;
        open.add(node)?;
        until(Duration::from_secs(5), "an open pod reaches the server", || {
            let answer = traffic::tcp(&open.netns, SocketAddr::new(address, ECHO_PORT), QUICK)?;
            if answer.reached() { Ok(()) } else { bail!("{answer}") }
        })?;
        let capture = Receiver::listen(&target.netns, 9999)?;
        let numbers: Vec<usize> = (0..1000).collect();
        let outcomes = traffic::parallel(&numbers, 8, |number| {
            let container = Container::create(&lab, &format!("n{number}"), "shop", &format!("new-{number}"))?;
            let shouting = Sender::start(&container.netns, SocketAddr::new(address, 9999))?;
            let result = container.add(node)?;
            let sent = shouting.finish()?;
            container.del(node, &result)?;
            container.netns.delete()?;
            anyhow::Ok(sent)
        });
        let mut sent = 0;
        for outcome in outcomes {
            sent += outcome?;
        }
        ensure!(sent >= 1000, "the pods sent only {sent} datagrams");
        let received = capture.finish()?;
        ensure!(received == 0, "{received} forbidden datagrams of {sent} arrived");
        drop(servers);
        Ok(())
    });
}
