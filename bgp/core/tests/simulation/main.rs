//! Random worlds of speakers under random trouble, on a virtual clock: whatever happened, each ends as it should.
//!
//! A seed decides on everything: the world, the trouble, the order of events on different nodes. A failure names its
//! seed; `MARGAY_SEED=N` runs that one alone, `MARGAY_SEEDS=N` that many instead of the usual number.
#![allow(clippy::unwrap_used)]

mod invariants;
#[path = "../speakers/network.rs"]
#[allow(dead_code)]
mod network;
mod scale;
mod trouble;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use trouble::Trouble;

/// How many seeds each of the two threads runs by default.
const SEEDS: u64 = 500;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn run(seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| Trouble::new(seed).run()));
        if let Err(panic) = outcome {
            eprintln!("seed {seed} failed; run it alone with MARGAY_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

/// Seeds of one residue, so that two tests share the work.
fn every_second(first: u64) {
    if let Some(seed) = number("MARGAY_SEED") {
        return run([seed].into_iter().filter(|seed| seed % 2 == first));
    }
    let count = number("MARGAY_SEEDS").map_or(SEEDS, |all| all.div_ceil(2));
    println!("seeds {first}, {} ... {}", first + 2, first + 2 * (count - 1));
    run((0..count).map(|index| first + 2 * index));
}

#[test]
fn whatever_happens_in_a_world_of_an_even_seed_ends_whole() {
    every_second(0);
}

#[test]
fn whatever_happens_in_a_world_of_an_odd_seed_ends_whole() {
    every_second(1);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..8 {
        let run = || {
            let mut trouble = Trouble::new(seed);
            trouble.run();
            trouble.world.net.nodes.iter().map(|node| (node.sent_bytes, node.events.len())).collect::<Vec<_>>()
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}
