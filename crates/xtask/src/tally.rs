//! What a run of tests counted.

/// The sums of the result lines that a test runner printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tally {
    /// Sums the lines `test result: ok. 3 passed; 0 failed; 0 ignored; ...` of `cargo test`. Such lines that a test
    /// itself printed are indented, and don't count.
    pub(crate) fn of(output: &str) -> Tally {
        let mut tally = Tally::default();
        for line in output.lines().filter_map(|line| line.strip_prefix("test result: ")) {
            let counts = line.split_once(". ").map_or("", |(_, counts)| counts);
            for part in counts.split("; ") {
                match part.split_once(' ') {
                    Some((count, "passed")) => tally.passed += count.parse().unwrap_or(0),
                    Some((count, "failed")) => tally.failed += count.parse().unwrap_or(0),
                    Some((count, "ignored")) => tally.ignored += count.parse().unwrap_or(0),
                    _ => {}
                }
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_and_indented_ones_are_not() {
        let output = "\
test a ... ok
  | test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 8 filtered out; finished in 1.09s
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: FAILED. 8 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 11.19s
";
        assert_eq!(Tally::of(output), Tally { passed: 11, failed: 2, ignored: 1 });
    }
}
