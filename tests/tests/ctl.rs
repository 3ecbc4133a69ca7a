//! `margayctl` as an operator uses it, on a datastore of its own and without a daemon.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use margay_lab::{Binaries, process};
use serde_json::Value;

/// A datastore in a file that goes with the value.
struct Store {
    directory: tempfile::TempDir,
}

impl Store {
    fn new() -> Result<Store> {
        Ok(Store { directory: tempfile::tempdir()? })
    }

    fn ctl(&self, arguments: &[&str], stdin: &str) -> Result<process::Output> {
        let url = format!("sqlite://{}", self.directory.path().join("margay.db").display());
        let mut command = Command::new(Binaries::locate()?.path("margayctl")?);
        command.args(arguments).env("MARGAY_DATASTORE", url).env("MARGAY_RUN", self.directory.path());
        process::run_any(&mut command, stdin.as_bytes())
    }

    fn apply(&self, yaml: &str) -> Result<process::Output> {
        self.ctl(&["apply", "-f", "-"], yaml)
    }
}

const POOL: &str =
    "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: pods\nspec:\n  cidr: 10.65.0.0/16\n";

#[test]
fn what_is_applied_can_be_read_changed_and_deleted() -> Result<()> {
    let store = Store::new()?;
    let created = store.apply(POOL)?;
    ensure!(created.code == 0 && created.stdout == "IPPool/pods created\n", "{created:?}");
    let again = store.apply(POOL)?;
    ensure!(again.stdout == "IPPool/pods unchanged\n", "{again:?}");
    let changed = store.apply(&format!("{POOL}  disabled: true\n"))?;
    ensure!(changed.stdout == "IPPool/pods configured\n", "{changed:?}");
    let fixed = store.apply(&format!("{POOL}  blockSize: 28\n"))?;
    ensure!(fixed.code == 1 && fixed.stderr.contains("spec.blockSize: 26 cannot be changed"), "{fixed:?}");
    let shown = store.ctl(&["get", "ippool", "pods", "-o", "json"], "")?;
    let shown: Value = serde_json::from_str(&shown.stdout).context(shown.stdout.clone())?;
    ensure!(shown["spec"]["disabled"] == true && shown["metadata"]["uid"].is_string(), "{shown}");
    let table = store.ctl(&["get", "ippools"], "")?;
    ensure!(table.stdout.starts_with("NAME  CIDR") && table.stdout.contains("pods  10.65.0.0/16  26"), "{table:?}");
    ensure!(store.ctl(&["create", "-f", "-"], POOL)?.code == 1, "create of what is there");
    ensure!(store.ctl(&["delete", "ippool", "pods"], "")?.code == 0, "delete");
    ensure!(store.ctl(&["get", "ippool", "pods"], "")?.code == 1, "get of what is gone");
    ensure!(store.ctl(&["replace", "-f", "-"], POOL)?.code == 1, "replace of what is gone");
    Ok(())
}

#[test]
fn an_unknown_field_is_refused_by_name_line_and_column_and_nothing_is_written() -> Result<()> {
    let store = Store::new()?;
    let refused = store.apply(&format!("{POOL}---\n{POOL}  blocksize: 28\n"))?;
    ensure!(refused.code == 1, "{refused:?}");
    ensure!(
        refused.stderr == "margayctl: standard input: line 14, column 3: unknown field 'spec.blocksize'\n",
        "{refused:?}"
    );
    ensure!(
        store.ctl(&["get", "ippools", "-o", "json"], "")?.stdout.contains("\"items\": []"),
        "something was written"
    );
    Ok(())
}

#[test]
fn exit_codes_tell_usage_from_failure_from_a_datastore_or_daemon_that_is_away() -> Result<()> {
    let store = Store::new()?;
    ensure!(store.ctl(&["get", "nonsense"], "")?.code == 2, "an unknown kind");
    ensure!(store.ctl(&["bogus"], "")?.code == 2, "an unknown command");
    let away = store.ctl(&["status"], "")?;
    ensure!(away.code == 3 && away.stderr.contains("is the daemon running"), "{away:?}");
    let mut command = Command::new(Binaries::locate()?.path("margayctl")?);
    let unset = process::run_any(command.args(["get", "nodes"]).env_remove("MARGAY_DATASTORE"), b"")?;
    ensure!(unset.code == 2 && unset.stderr.contains("sqlite:///"), "{unset:?}");
    let mut command = Command::new(Binaries::locate()?.path("margayctl")?);
    command.args(["get", "nodes"]).env("MARGAY_DATASTORE", "etcd://127.0.0.1:1");
    let unreachable = process::run_any(&mut command, b"")?;
    ensure!(unreachable.code == 3, "{unreachable:?}");
    Ok(())
}

#[test]
fn a_kubernetes_policy_is_stored_as_calicos_controllers_would_and_deleted_by_its_file() -> Result<()> {
    let store = Store::new()?;
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: shop}\nspec: {podSelector: {}}\n";
    ensure!(store.apply(policy)?.code == 0, "apply");
    let shown = store.ctl(&["get", "networkpolicies", "-A"], "")?;
    ensure!(shown.stdout.contains("shop       knp.default.deny"), "{shown:?}");
    ensure!(store.ctl(&["delete", "-f", "-"], policy)?.code == 0, "delete");
    ensure!(!store.ctl(&["get", "networkpolicies", "-A"], "")?.stdout.contains("knp"), "still there");
    Ok(())
}

#[test]
fn a_daemon_without_a_datastore_exits_2_with_advice() -> Result<()> {
    let store = Store::new()?;
    let mut command = Command::new(Binaries::locate()?.path("margayd")?);
    command
        .arg("node")
        .env_remove("MARGAY_DATASTORE")
        .env("MARGAY_NODE", "n1")
        .env("MARGAY_RUN", store.directory.path());
    command.env("MARGAY_STATE", store.directory.path());
    let exited = process::run_any(&mut command, b"")?;
    ensure!(exited.code == 2 && exited.stderr.contains("etcd://"), "{exited:?}");
    Ok(())
}
