//! `cargo verify`: everything that must hold before a change lands.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cargo::Workspace;
use crate::suite::{self, Outcome, Suite};
use crate::tally::Tally;
use crate::{apt, packages};

/// How much of a failed suite's output is shown.
const SHOWN_LINES: usize = 200;

/// Runs all suites, or those named; whether all passed.
pub(crate) fn run(arguments: &[OsString]) -> Result<bool> {
    let names: Vec<String> = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    apt::require_root("verify")?;
    let workspace = Workspace::read()?;
    let mut suites = suites(&workspace);
    if names.iter().any(|name| name == "--list") {
        suites.iter().for_each(|suite| println!("{:40} {:4} s", suite.name, suite.budget.as_secs()));
        return Ok(true);
    }
    if let Some(unknown) = names.iter().find(|name| !suites.iter().any(|suite| suite.name == **name)) {
        bail!("there is no suite '{unknown}'; cargo verify --list names them");
    }
    if !names.is_empty() {
        suites.retain(|suite| names.contains(&suite.name));
    }
    apt::ensure(&packages::of_verify())?;
    suite::stop_on_signal()?;
    let logs = workspace.target.join("verify");
    fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    let start = Instant::now();
    let mut done: Vec<(&Suite, Outcome)> = Vec::new();
    for suite in &suites {
        println!("{} ...", suite.name);
        let log = logs.join(format!("{}.log", suite.name.replace([' ', '/'], "-")));
        let outcome = suite.run(&workspace.root, &log)?;
        if let Some(failure) = &outcome.failure {
            show_end(&log)?;
            println!("{}: FAILED: {failure}\n", suite.name);
        }
        let stop = suite.vital && outcome.failure.is_some();
        done.push((suite, outcome));
        if stop {
            println!("the suites after '{}' are not run\n", suite.name);
            break;
        }
    }
    let total = print_table(&done, start.elapsed());
    println!("\n{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0)
}

/// All suites in order. Those of tests come from the workspace, so that a new package's are among them.
fn suites(workspace: &Workspace) -> Vec<Suite> {
    let step = |name: &str, arguments: &[&str], minutes: u64, tests: bool, vital: bool| Suite {
        name: name.to_owned(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        budget: Duration::from_secs(60 * minutes),
        tests,
        vital,
    };
    let mut suites = vec![
        step("formatting", &["fmt", "--all", "--check"], 2, false, false),
        step("build (release)", &["build", "--release", "--workspace", "--bins"], 45, false, true),
        step("build of tests", &["test", "--workspace", "--no-run"], 30, false, true),
        step("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], 15, false, false),
        step("unit tests", &["test", "--workspace", "--lib", "--bins", "--no-fail-fast"], 5, true, false),
        step("examples in docs", &["test", "--workspace", "--doc", "--no-fail-fast"], 5, true, false),
    ];
    for test in &workspace.tests {
        // By the name in the whole workspace: choosing a package would choose other features, and build all again.
        let suite = format!("{}/{}", test.packages.join(","), test.name).replace("margay-", "");
        let arguments = ["test", "--workspace", "--test", &test.name];
        suites.push(Suite { budget: test.budget, ..step(&suite, &arguments, 0, true, false) });
    }
    suites
}

fn show_end(log: &Path) -> Result<()> {
    let output = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let lines: Vec<&str> = output.lines().collect();
    let from = lines.len().saturating_sub(SHOWN_LINES);
    // Indented, so that no line of it passes for one of this program's own.
    lines[from..].iter().for_each(|line| println!("    {line}"));
    Ok(())
}

fn print_table(done: &[(&Suite, Outcome)], took: Duration) -> Tally {
    let mut total = Tally::default();
    println!("\n{:40} {:>8} {:>8} {:>10} {:>10}", "suite", "passed", "failed", "time", "budget");
    for (suite, outcome) in done {
        let Tally { passed, failed, .. } = outcome.tally;
        let (passed_text, failed_text) = match (suite.tests, failed) {
            (false, 0) => ("ok".to_owned(), String::new()),
            _ => (passed.to_string(), failed.to_string()),
        };
        println!(
            "{:40} {passed_text:>8} {failed_text:>8} {:>8.1} s {:>8} s",
            suite.name,
            outcome.took.as_secs_f64(),
            suite.budget.as_secs()
        );
        total.passed += passed;
        total.failed += failed;
    }
    println!("{:40} {:>8} {:>8} {:>8.1} s", "all", total.passed, total.failed, took.as_secs_f64());
    total
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::*;
    use crate::cargo::TestTarget;

    #[test]
    fn every_integration_test_of_the_workspace_is_a_suite_with_its_budget() {
        let workspace = Workspace {
            root: PathBuf::new(),
            target: PathBuf::new(),
            tests: vec![TestTarget {
                packages: vec!["margay-lab".to_owned()],
                name: "fabric".to_owned(),
                budget: Duration::from_secs(90),
            }],
        };
        let suites = suites(&workspace);
        let last = suites.last().unwrap();
        assert_eq!(last.name, "lab/fabric");
        assert_eq!(last.arguments, ["test", "--workspace", "--test", "fabric"]);
        assert_eq!(last.budget, Duration::from_secs(90));
        assert!(suites.iter().any(|suite| suite.name == "clippy"));
    }
}
