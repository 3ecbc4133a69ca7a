//! Printing: aligned columns without borders for people, JSON and YAML for programs. A reader that goes away early
//! is no error.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::Failure;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Wide,
    Json,
    Yaml,
}

/// Prints text to standard output.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Failed(error.to_string())),
        _ => Ok(()),
    }
}

/// Prints text that comes bit by bit. False: nobody reads any more.
pub(crate) fn live(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

/// Prints a line to standard error.
pub(crate) fn error(message: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{message}");
}

/// Prints a value as JSON or YAML; None for the table formats.
pub(crate) fn machine(format: Format, value: &impl Serialize) -> Option<Result<(), Failure>> {
    let rendered = match format {
        Format::Table | Format::Wide => return None,
        Format::Json => serde_json::to_string_pretty(value).map(|json| json + "\n").map_err(|error| error.to_string()),
        Format::Yaml => yaml(value),
    };
    Some(rendered.map_err(Failure::Failed).and_then(|rendered| text(&rendered)))
}

pub(crate) fn yaml(value: &impl Serialize) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|error| error.to_string())
}

/// Rows under a header, each column as wide as its widest cell, two spaces between.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A span as people write it: `45s`, `12m`, `3h12m`, `4d2h`.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_trailing_space() {
        let table = table(&["NAME", "AS"], &[vec!["tor-a1".into(), "65001".into()], vec!["x".into(), String::new()]]);
        assert_eq!(table, "NAME    AS\ntor-a1  65001\nx\n");
    }

    #[test]
    fn spans_are_short() {
        assert_eq!([5, 65, 3700, 90000].map(age), ["5s", "1m5s", "1h1m", "1d1h"]);
    }
}
