//! Messages that no router sends, from a real ExaBGP: what our speaker makes of them (RFC 7606), with a good route beside
//! each that must be there afterwards, and with another peer that must be told of neither more nor less.
//!
//! The outcome is compared with `docs/interop.md`, or written there, as that of `matrix` is.

mod cases;
mod place;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use margay_net::Family;

use crate::support::document::{Mark, Table, check_part};
use crate::support::process::panic_words;
use cases::{Case, Session};
use place::Place;

/// ExaBGPs that run at the same time.
const WORKERS: usize = 4;

/// What is tried with one start of ExaBGP: cases by their numbers.
struct Job {
    family: Family,
    session: Session,
    cases: Vec<usize>,
}

#[test]
fn a_crafted_message_does_what_rfc_7606_says_and_nothing_else() {
    let chosen = std::env::var("MARGAY_INTEROP_ONLY").unwrap_or_default();
    let cases = cases::all();
    let jobs = Mutex::new(jobs(&cases, &chosen));
    let outcomes = Mutex::new(vec![Vec::new(); cases.len()]);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(job) = jobs.lock().unwrap().pop_front() else { return };
                    let tried = catch_unwind(AssertUnwindSafe(|| run(&cases, &job, &outcomes)));
                    if let Err(panic) = tried {
                        failures.lock().unwrap().push(panic_words(panic.as_ref()));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    if chosen.is_empty() {
        check_part("crafted", &document(&cases, &outcomes.into_inner().unwrap()));
    }
}

/// The sessions in which several cases are tried, and then those for one case each.
fn jobs(cases: &[Case], chosen: &str) -> VecDeque<Job> {
    let mut jobs = VecDeque::new();
    for family in Family::ALL {
        let of = |is_meant: &dyn Fn(&Case) -> bool| -> Vec<usize> {
            let meant = |case: &Case| case.families.contains(&family) && case.words.contains(chosen) && is_meant(case);
            cases.iter().enumerate().filter(|(_, case)| meant(case)).map(|(number, _)| number).collect()
        };
        for session in Session::ALL {
            let together = of(&|case| case.session == session && !case.is_alone());
            if !together.is_empty() {
                jobs.push_front(Job { family, session, cases: together });
            }
        }
        for number in of(&Case::is_alone) {
            jobs.push_back(Job { family, session: cases[number].session, cases: vec![number] });
        }
    }
    jobs
}

fn run(cases: &[Case], job: &Job, outcomes: &Mutex<Vec<Vec<Family>>>) {
    let chosen: Vec<&Case> = job.cases.iter().map(|&number| &cases[number]).collect();
    let mut place = Place::new(job.family, job.session, &chosen);
    for (index, (case, &number)) in chosen.iter().zip(&job.cases).enumerate() {
        let outcome = place.try_case(index, case);
        println!("{} {}: {outcome}", case.words, job.family);
        assert_eq!(outcome, case.outcome, "{} over {}", case.words, job.family);
        outcomes.lock().unwrap()[number].push(job.family);
    }
}

fn document(cases: &[Case], outcomes: &[Vec<Family>]) -> String {
    let row = |(case, families): (&Case, &Vec<Family>)| {
        let mark = |family| match (families.contains(&family), family) {
            (true, Family::V4) => Some("4"),
            (true, Family::V6) => Some("6"),
            _ => None,
        };
        let families: Vec<&str> = Family::ALL.into_iter().filter_map(mark).collect();
        (case.words.to_owned(), vec![Mark::Text(case.outcome.to_string()), Mark::Text(families.join(" "))])
    };
    let table = Table {
        columns: vec!["ExaBGP sends", "our speaker", "family"],
        rows: cases.iter().zip(outcomes).map(row).collect(),
    };
    format!("{HEAD}\n{}", table.markdown())
}

const HEAD: &str = "\
The test `crafted` of `bgp/speaker/tests` has Debian 12's ExaBGP 4.2.21 send what no router sends, and looks at what our
speaker does with it. Where the session goes on, a good route that is announced behind the bad one is taken, and a third
speaker is told exactly what is still good. Where it is reset, ExaBGP reads the NOTIFICATION of this code and subcode, and
the session of the third speaker goes on. eBGP where nothing else is said; what ExaBGP itself can't be brought to send
(messages with wrong lengths, attributes that are missing) is tried by `malformed` and by the tests of `bgp/core`.
";
