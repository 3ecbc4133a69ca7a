use std::io::Write;
use std::time::Instant;

use anyhow::Result;

/// Runs checks one after the other and prints a line for each: the time since the start, what is checked, the outcome,
/// how long it took, and what was found.
#[derive(Debug)]
pub struct Report {
    start: Instant,
    passed: usize,
    failures: Vec<String>,
}

impl Default for Report {
    fn default() -> Report {
        Report { start: Instant::now(), passed: 0, failures: Vec::new() }
    }
}

impl Report {
    /// Runs a check and prints its line; what it found follows, indented if it has several lines. A failure is printed,
    /// remembered and answered with `None`.
    pub fn step<T: Found>(&mut self, what: &str, check: impl FnOnce() -> Result<T>) -> Option<T> {
        let begin = Instant::now();
        print!("{:6.1} s  {what} ... ", begin.duration_since(self.start).as_secs_f64());
        let _ = std::io::stdout().flush();
        let outcome = check();
        let own = begin.elapsed().as_secs_f64();
        let (word, found) = match &outcome {
            Ok(found) => ("ok", found.found()),
            Err(error) => ("FAILED", format!("{error:#}")),
        };
        if found.lines().count() == 1 {
            println!("{word} ({own:.1} s): {}", found.trim());
        } else {
            println!("{word} ({own:.1} s)");
            found.lines().for_each(|line| println!("            {line}"));
        }
        match outcome {
            Ok(found) => {
                self.passed += 1;
                Some(found)
            }
            Err(error) => {
                self.failures.push(format!("{what}: {}", first_line(&format!("{error:#}"))));
                None
            }
        }
    }

    /// Whether nothing has failed so far.
    pub fn all_passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// How many checks passed.
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// What failed, each in one line.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// What a check found, as text for the report.
pub trait Found {
    /// Empty, one line, or several.
    fn found(&self) -> String;
}

impl Found for String {
    fn found(&self) -> String {
        self.clone()
    }
}

impl Found for () {
    fn found(&self) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_remembered_by_its_first_line() {
        let mut report = Report::default();
        assert_eq!(report.step("one", || Ok("fine".to_owned())), Some("fine".to_owned()));
        assert_eq!(report.step::<()>("two", || anyhow::bail!("a to b: silence\nb to a: silence")), None);
        assert!(!report.all_passed());
        assert_eq!(report.passed(), 1);
        assert_eq!(report.failures(), ["two: a to b: silence"]);
    }
}
