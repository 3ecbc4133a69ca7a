//! The benchmark's harness: at a tiny scale, every speaker brings every prefix of every shape to every receiver.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use margay_lab::bench::{self, BenchOptions, DeviceKind, Limits, Measure, Programs, Report, Shape};
use margay_lab::isolation::isolated;

fn options(shape: Shape) -> BenchOptions {
    let lab = PathBuf::from(env!("CARGO_BIN_EXE_margay-lab"));
    // Built with all tests, in the same folder.
    let speaker = lab.with_file_name("examples").join("bench_speaker");
    BenchOptions {
        shapes: vec![shape],
        devices: DeviceKind::ALL.to_vec(),
        runs: 1,
        once: Duration::from_secs(60),
        scale: 0.02,
        seed: 1,
        limits: Limits { time: Duration::from_secs(60), ..Limits::default() },
        programs: Programs { lab, speaker },
    }
}

/// Runs all devices through a shape; every one must have taken all of its measures.
fn drive(shape: Shape, measures: &[Measure]) -> Result<()> {
    let report = bench::run(&options(shape))?;
    ensure!(report.is_complete(), "a run failed");
    for device in DeviceKind::ALL {
        for &measure in measures {
            // A device without best paths moves none.
            if device == DeviceKind::Null && measure == Measure::DownSeconds {
                continue;
            }
            let spread = cell(&report, device, measure);
            ensure!(spread.is_some_and(|median| median > 0.0), "{device}, {measure:?}: {spread:?}");
        }
    }
    ensure!(report.verdicts.iter().filter(|verdict| verdict.floor.is_some()).count() >= measures.len());
    Ok(())
}

fn cell(report: &Report, device: DeviceKind, measure: Measure) -> Option<f64> {
    let found = report.cells.iter().find(|cell| (cell.device, cell.measure) == (device, measure))?;
    found.spread.filter(|_| found.exceeded.is_none()).map(|spread| spread.median)
}

const TABLE: [Measure; 3] = [Measure::AnnounceSeconds, Measure::WithdrawSeconds, Measure::PeakMib];

#[test]
fn every_speaker_passes_a_table_to_one_receiver_and_takes_it_back() {
    isolated("every_speaker_passes_a_table_to_one_receiver_and_takes_it_back", || drive(Shape::One100k, &TABLE));
}

#[test]
fn every_speaker_passes_a_table_of_ipv6_and_takes_it_back() {
    isolated("every_speaker_passes_a_table_of_ipv6_and_takes_it_back", || drive(Shape::One100kIpv6, &TABLE));
}

#[test]
fn every_speaker_passes_a_table_to_many_receivers_and_takes_it_back() {
    isolated("every_speaker_passes_a_table_to_many_receivers_and_takes_it_back", || drive(Shape::Fanout50, &TABLE));
}

#[test]
fn every_speaker_moves_all_prefixes_to_the_second_best_peer() {
    let measures = [Measure::AnnounceSeconds, Measure::DownSeconds, Measure::PeakMib];
    isolated("every_speaker_moves_all_prefixes_to_the_second_best_peer", || drive(Shape::Ten100kSame, &measures));
}

#[test]
fn every_speaker_passes_the_prefixes_of_all_peers_to_all_others() {
    let measures = [Measure::AnnounceSeconds, Measure::PeakMib];
    isolated("every_speaker_passes_the_prefixes_of_all_peers_to_all_others", || drive(Shape::Hundred1k, &measures));
}

#[test]
fn every_speaker_reflects_all_blocks_and_each_change() {
    let measures = [Measure::AnnounceSeconds, Measure::ChangeP99Ms, Measure::GoneP99Ms, Measure::PeakMib];
    isolated("every_speaker_reflects_all_blocks_and_each_change", || drive(Shape::Reflector500, &measures));
}

#[test]
fn a_limit_that_is_exceeded_is_a_result_and_ends_the_rounds_of_that_device() {
    isolated("a_limit_that_is_exceeded_is_a_result_and_ends_the_rounds_of_that_device", || {
        let mut options = options(Shape::One100k);
        options.devices = vec![DeviceKind::Bird];
        options.runs = 3;
        options.limits.memory_mib = 1;
        let report = bench::run(&options)?;
        assert!(report.is_complete());
        let [run] = &report.runs[..] else { panic!("{:?}", report.runs) };
        assert_eq!(run.exceeded, Some((Measure::AnnounceSeconds, "> 1 MiB".to_owned())));
        assert!(report.markdown().contains("| bird2 | > 1 MiB |"), "{}", report.markdown());
        Ok(())
    });
}

#[test]
fn a_speaker_that_is_not_built_is_said_so_with_the_command_that_builds_it() {
    isolated("a_speaker_that_is_not_built_is_said_so_with_the_command_that_builds_it", || {
        let mut options = options(Shape::One100k);
        options.devices = vec![DeviceKind::Margay];
        options.programs.speaker = "/nonexistent".into();
        let error = format!("{:#}", bench::run(&options).expect_err("there is no such program"));
        assert!(error.contains("/nonexistent isn't built: cargo build"), "{error}");
        Ok(())
    });
}
