//! Every target with its corpus, and with mutations of it.
#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use margay_bgp_fuzz::{Mutator, TARGETS, Target};

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

fn try_with((name, run): Target, input: &[u8], origin: &str) {
    if catch_unwind(AssertUnwindSafe(|| run(input))).is_err() {
        panic!("target {name} with {origin}: {input:02x?}");
    }
}

fn replay(name: &str, mutations: usize) {
    let target = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let files = corpus(name);
    assert!(!files.is_empty());
    for (file, input) in &files {
        try_with(target, input, file);
    }
    let inputs: Vec<_> = files.into_iter().map(|(_, input)| input).collect();
    let mut mutator = Mutator::new(1);
    for _ in 0..mutations {
        try_with(target, &mutator.mutate(&inputs), "a mutation");
    }
}

#[test]
fn streams() {
    replay("frame", 20_000);
}

#[test]
fn opens() {
    replay("open", 20_000);
}

#[test]
fn capabilities() {
    replay("capabilities", 20_000);
}

#[test]
fn updates() {
    replay("update", 40_000);
}

#[test]
fn notifications() {
    replay("notification", 20_000);
}

#[test]
fn route_refreshes() {
    replay("route_refresh", 5_000);
}

#[test]
fn speakers() {
    replay("speaker", 3_000);
}

#[test]
fn bfd_packets() {
    replay("bfd_packet", 20_000);
}

#[test]
fn bfd_sessions() {
    replay("bfd_session", 1_000);
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut folders: Vec<String> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    folders.sort();
    let mut targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    targets.sort_unstable();
    assert_eq!(folders, targets);
}
