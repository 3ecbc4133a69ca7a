//! What BIRD and FRR have of BFD, over each way: the table of `docs/interop.md`, compared with what came out or written
//! there as that of `bgp/speaker/tests/matrix` is.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use crate::bgp::falls_with_bfd;
use crate::bird::Bird;
use crate::document::{Mark, Table, check_part};
use crate::frr::Frr;
use crate::lab::{Lab, Way};
use crate::life::{administratively_down, life};

/// Pairs of daemons that run at the same time.
const WORKERS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Make {
    Bird,
    Frr,
}

impl Make {
    const ALL: [Make; 2] = [Make::Bird, Make::Frr];

    fn name(self) -> &'static str {
        match self {
            Make::Bird => "BIRD 2",
            Make::Frr => "FRR",
        }
    }
}

/// A row of the table.
struct Feature {
    words: &'static str,
    ways: &'static [Way],
    /// Why a peer has no part in it.
    not_claimed: fn(Make) -> Option<&'static str>,
    run: fn(Make, Way),
}

const FEATURES: [Feature; 6] = [
    Feature { words: "one hop (RFC 5881)", ways: &[Way::V4, Way::V6], not_claimed: |_| None, run: whole_life },
    Feature {
        words: "one hop, between link-local addresses",
        ways: &[Way::LinkLocal],
        not_claimed: |_| None,
        run: whole_life,
    },
    Feature {
        words: "several hops (RFC 5883)",
        ways: &[Way::MultihopV4, Way::MultihopV6],
        not_claimed: |_| None,
        run: whole_life,
    },
    Feature {
        words: "administratively down at either end is told, and no failure",
        ways: &[Way::V4, Way::V6],
        not_claimed: |make| match make {
            Make::Bird => Some("no command that takes a session out of service"),
            Make::Frr => None,
        },
        run: out_of_service,
    },
    Feature {
        words: "a BGP session falls with BFD, noticed by either end (RFC 5882)",
        ways: &[Way::V4, Way::V6],
        not_claimed: |_| None,
        run: with_bgp,
    },
    Feature {
        words: "a BGP session over several hops falls with BFD",
        ways: &[Way::MultihopV4, Way::MultihopV6],
        not_claimed: |_| None,
        run: with_bgp,
    },
];

fn whole_life(make: Make, way: Way) {
    let lab = Lab::new(way);
    match make {
        Make::Bird => life(&lab, &Bird::start(&lab)),
        Make::Frr => life(&lab, &Frr::start(&lab)),
    }
}

fn out_of_service(_: Make, way: Way) {
    let lab = Lab::new(way);
    administratively_down(&lab, &Frr::start(&lab));
}

fn with_bgp(make: Make, way: Way) {
    let lab = Lab::new(way);
    match make {
        Make::Bird => falls_with_bfd(&lab, &Bird::start_with_bgp(&lab)),
        Make::Frr => falls_with_bfd(&lab, &Frr::start_with_bgp(&lab)),
    }
}

#[test]
fn every_feature_of_bfd_works_with_every_peer_that_claims_it() {
    let claimed = |(row, feature): (usize, &'static Feature)| {
        let makes = Make::ALL.into_iter().filter(|make| (feature.not_claimed)(*make).is_none());
        makes.flat_map(move |make| feature.ways.iter().map(move |way| (row, make, *way)))
    };
    let chosen = std::env::var("MARGAY_INTEROP_ONLY").unwrap_or_default();
    let name = |(row, make, way): (usize, Make, Way)| format!("{} with {} {way:?}", FEATURES[row].words, make.name());
    let jobs: VecDeque<(usize, Make, Way)> =
        FEATURES.iter().enumerate().flat_map(claimed).filter(|job| name(*job).contains(&chosen)).collect();
    let jobs = Mutex::new(jobs);
    let (passed, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(job @ (row, make, way)) = jobs.lock().unwrap().pop_front() else { return };
                    match catch_unwind(AssertUnwindSafe(|| (FEATURES[row].run)(make, way))) {
                        Ok(()) => passed.lock().unwrap().push(job),
                        Err(_) => failures.lock().unwrap().push(name(job)),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "what failed said why above: {failures:#?}");
    if chosen.is_empty() {
        check_part("bfd", &document(&passed.into_inner().unwrap()));
    }
}

fn document(passed: &[(usize, Make, Way)]) -> String {
    let mark = |row: usize, make: Make| match (FEATURES[row].not_claimed)(make) {
        Some(why) => Mark::Without(format!("{}: {why}", make.name())),
        None => {
            let ways = FEATURES[row].ways.iter().filter(|way| passed.contains(&(row, make, **way)));
            let families: Vec<&str> = ways.map(|way| if way.our_address().is_ipv4() { "4" } else { "6" }).collect();
            Mark::Text(families.join(" "))
        }
    };
    let none = |name: &str| Mark::Without(format!("{name}: no BFD"));
    let row = |row: usize| {
        let marks = Make::ALL.map(|make| mark(row, make)).into_iter();
        (FEATURES[row].words.to_owned(), marks.chain([none("GoBGP"), none("OpenBGPD")]).collect())
    };
    let table = Table {
        columns: vec!["feature", "BIRD 2", "FRR", "GoBGP", "OpenBGPD"],
        rows: (0..FEATURES.len()).map(row).collect(),
    };
    format!("{HEAD}\n{}", table.markdown())
}

const HEAD: &str = "\
The test `bfd` of `crates/node/tests` has `margayd bfd`, and `margayd bgp` beside it, at one end of a veth pair, or of two
with a router between them, and BIRD's or FRR's BFD at the other, at 3 x 100 ms with real-time priority. Each session comes
up, fails at each end within its time when the other falls silent, and comes back.
";
