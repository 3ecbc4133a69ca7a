//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::Path;

use serde_saphyr::{Location, Spanned};

/// One thing that is wrong; line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    pub(super) place: Option<(u64, u64)>,
    pub(super) reason: String,
}

impl Problem {
    /// A problem of the value that stands there.
    pub(super) fn at<T>(value: &Spanned<T>, reason: impl Into<String>) -> Problem {
        Problem { place: place(value.referenced), reason: reason.into() }
    }

    /// A problem of the file as a whole.
    pub(super) fn nowhere(reason: impl Into<String>) -> Problem {
        Problem { place: None, reason: reason.into() }
    }
}

impl From<&serde_saphyr::Error> for Problem {
    fn from(error: &serde_saphyr::Error) -> Problem {
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or_default();
        // The parser's own words for the place would only repeat it.
        let found = error.location().and_then(place);
        let lead = found.map(|(line, column)| format!("error: line {line} column {column}: ")).unwrap_or_default();
        let reason = reason.strip_prefix(&lead).unwrap_or(reason);
        Problem { place: found, reason: with_advice(reason) }
    }
}

/// An unknown field's reason with the one that was meant, instead of all there are.
fn with_advice(reason: &str) -> String {
    let Some((what, expected)) = reason.split_once(", expected one of ") else { return reason.to_owned() };
    let Some(field) = what.strip_prefix("unknown field `").and_then(|rest| rest.strip_suffix('`')) else {
        return reason.to_owned();
    };
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let meant = expected.split(", ").map(|name| name.trim_matches('`')).find(|name| plain(name) == plain(field));
    match meant {
        Some(meant) => format!("{what}; did you mean `{meant}`?"),
        None => format!("{what}; docs/standalone.md lists what there is"),
    }
}

fn place(location: Location) -> Option<(u64, u64)> {
    (location != Location::UNKNOWN).then(|| (location.line(), location.column()))
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// The problems of a file, a line for each.
pub(super) fn list(file: &Path, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("{}: {problem}", file.display())).collect();
    lines.join("\n")
}
