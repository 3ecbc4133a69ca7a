//! Every feature that both sides claim, with every peer and in each family.
//!
//! A scenario brings up one daemon and checks several features with it; `claims` says what each peer claims. All of them run
//! side by side, each in namespaces of its own. The outcome is written to `interop.json` in the tests' temporary folder and
//! compared with `docs/interop.md`; with `MARGAY_WRITE_INTEROP=1` in the environment its table is written anew:
//!
//! ```text
//! MARGAY_WRITE_INTEROP=1 cargo test -p margay-bgp-speaker --test interop matrix
//! ```

mod cell;
mod claims;
pub mod collector;
mod daemons;
mod report;
mod scenarios;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;

use margay_net::Family;

use crate::support::process::panic_words;
use cell::Cell;
use claims::Kind;
use report::{Outcome, Report};

/// Daemons that run at the same time.
const WORKERS: usize = 6;

#[test]
fn every_feature_works_with_every_peer_that_claims_it() {
    let chosen = std::env::var("MARGAY_INTEROP_ONLY").unwrap_or_default();
    let jobs: VecDeque<Cell> = scenarios::ALL
        .iter()
        .flat_map(|scenario| Kind::ALL.map(|kind| Family::ALL.map(|family| Cell::new(scenario, kind, family))))
        .flatten()
        .filter(|cell| cell.is_claimed() && cell.name().contains(&chosen))
        .collect();
    let jobs = Mutex::new(jobs);
    let report = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(cell) = jobs.lock().unwrap().pop_front() else { return };
                    run(&cell, &report);
                }
            });
        }
    });
    let report = report.into_inner().unwrap();
    report.write_json();
    if chosen.is_empty() {
        report.check_document();
    }
    let failures = report.failures();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn run(cell: &Cell, report: &Mutex<Report>) {
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (cell.scenario.run)(cell)));
    let failure = outcome.err().map(|panic| panic_words(panic.as_ref()));
    println!("{}: {:.1} s, {}", cell.name(), start.elapsed().as_secs_f64(), failure.as_deref().unwrap_or("ok"));
    let mut report = report.lock().unwrap();
    for feature in cell.features() {
        let outcome = match &failure {
            _ if cell.has_passed(feature) => Outcome::Pass,
            Some(failure) => Outcome::Fail(failure.clone()),
            None => Outcome::Fail("the scenario ended without having looked at it".to_owned()),
        };
        report.note(feature, cell.kind, cell.family, outcome);
    }
}
