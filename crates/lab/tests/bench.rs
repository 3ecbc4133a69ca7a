//! The benchmark's harness, through a speaker that is not ours.

use margay_lab::bench::{self, BenchOptions, DeviceKind};
use margay_lab::isolation::isolated;

#[test]
fn every_receiver_gets_the_whole_table_through_bird_and_loses_it_again() {
    isolated("every_receiver_gets_the_whole_table_through_bird_and_loses_it_again", || {
        let options = BenchOptions {
            routes: 3000,
            receivers: vec![1, 3],
            devices: vec![DeviceKind::Bird],
            runs: 1,
            seed: 1,
            speaker: "/nonexistent".into(),
        };
        let report = bench::run(&options)?;
        assert_eq!(report.cells.iter().map(|cell| cell.receivers).collect::<Vec<_>>(), [1, 3]);
        for cell in &report.cells {
            assert!(cell.announce_s.median > 0.0 && cell.withdraw_s.median > 0.0, "{cell:?}");
            assert!(cell.peak_mib.median > 1.0, "{cell:?}");
        }
        assert!(report.markdown().contains("| 1 x 3000 -> 3 | bird2 |"), "{}", report.markdown());
        Ok(())
    });
}

#[test]
fn a_speaker_that_is_not_built_is_said_so_with_the_command_that_builds_it() {
    isolated("a_speaker_that_is_not_built_is_said_so_with_the_command_that_builds_it", || {
        let options = BenchOptions {
            routes: 10,
            receivers: vec![1],
            devices: vec![DeviceKind::Margay],
            runs: 1,
            seed: 1,
            speaker: "/nonexistent".into(),
        };
        let error = format!("{:#}", bench::run(&options).expect_err("there is no such program"));
        assert!(error.contains("/nonexistent isn't built: cargo build"), "{error}");
        Ok(())
    });
}
