//! The workspace as cargo knows it, and calls of cargo.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Integration test targets of one name: most often one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestTarget {
    pub(crate) packages: Vec<String>,
    pub(crate) name: String,
    /// From the packages' `package.metadata.verify.budget-seconds`, by target; the sum if there are several.
    pub(crate) budget: Duration,
}

/// What the tasks need to know of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) tests: Vec<TestTarget>,
}

const BUDGET: Duration = Duration::from_secs(180);

impl Workspace {
    /// Asks cargo.
    pub(crate) fn read() -> Result<Workspace> {
        let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]).output().context("start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Workspace::parse(&serde_json::from_slice(&output.stdout).context("the output of cargo metadata")?)
    }

    fn parse(metadata: &Value) -> Result<Workspace> {
        let path = |key: &str| metadata[key].as_str().map(PathBuf::from).with_context(|| format!("no {key}"));
        let mut tests: BTreeMap<String, TestTarget> = BTreeMap::new();
        for package in metadata["packages"].as_array().context("no packages")? {
            let name = package["name"].as_str().context("a package without a name")?;
            let budgets = &package["metadata"]["verify"]["budget-seconds"];
            for target in package["targets"].as_array().into_iter().flatten() {
                let is_test = target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"));
                let Some(target) = target["name"].as_str().filter(|_| is_test) else { continue };
                let budget = budgets[target].as_u64().map_or(BUDGET, Duration::from_secs);
                let test = tests.entry(target.to_owned()).or_insert_with(|| TestTarget {
                    packages: Vec::new(),
                    name: target.to_owned(),
                    budget: Duration::ZERO,
                });
                test.packages.push(name.to_owned());
                test.budget += budget;
            }
        }
        let mut tests: Vec<TestTarget> = tests.into_values().collect();
        tests.sort_by(|a, b| (&a.packages, &a.name).cmp(&(&b.packages, &b.name)));
        Ok(Workspace { root: path("workspace_root")?, target: path("target_directory")?, tests })
    }

    /// The folder of release binaries.
    pub(crate) fn release(&self) -> PathBuf {
        self.target.join("release")
    }
}

/// A call of the cargo that runs this program, without what it told this program about itself: that would make build
/// scripts run again.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(&key);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn test_targets_come_with_their_budgets() {
        let workspace = Workspace::parse(&json!({
            "workspace_root": "/w", "target_directory": "/t",
            "packages": [
                { "name": "b", "metadata": { "verify": { "budget-seconds": { "slow": 300 } } }, "targets": [
                    { "name": "b", "kind": ["lib"] }, { "name": "slow", "kind": ["test"] },
                    { "name": "quick", "kind": ["test"] } ] },
                { "name": "a", "metadata": null, "targets": [
                    { "name": "one", "kind": ["test"] }, { "name": "slow", "kind": ["test"] } ] },
            ],
        }))
        .unwrap();
        let told =
            workspace.tests.iter().map(|t| format!("{} {} {}", t.packages.join("+"), t.name, t.budget.as_secs()));
        assert_eq!(told.collect::<Vec<_>>(), ["a one 180", "b quick 180", "b+a slow 480"]);
        assert_eq!(workspace.release(), PathBuf::from("/t/release"));
    }
}
