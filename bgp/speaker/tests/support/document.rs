//! `docs/interop.md`, each part of which is written by the test that tries what it says.
//!
//! A part stands between two comments with its name. A test compares its own with what came out; with
//! `MARGAY_WRITE_INTEROP=1` in the environment it writes that in its place.

use std::fmt::Write;
use std::fs::File;
use std::path::Path;

/// A table whose cells may say why there is nothing to say.
pub struct Table {
    pub columns: Vec<&'static str>,
    /// The first cell of each is its head.
    pub rows: Vec<(String, Vec<Mark>)>,
}

/// What is in a cell.
pub enum Mark {
    Text(String),
    /// Nothing, for this reason; equal reasons have one number.
    Without(String),
}

impl Table {
    /// In Markdown, with the reasons below it.
    pub fn markdown(&self) -> String {
        let mut text = format!("| {} |\n|{}\n", self.columns.join(" | "), "---|".repeat(self.columns.len()));
        let mut reasons: Vec<&str> = Vec::new();
        for (head, marks) in &self.rows {
            write!(text, "| {head} |").unwrap();
            for mark in marks {
                match mark {
                    Mark::Text(words) => write!(text, " {words} |").unwrap(),
                    Mark::Without(reason) => {
                        let known = reasons.iter().position(|other| other == reason).unwrap_or_else(|| {
                            reasons.push(reason);
                            reasons.len() - 1
                        });
                        write!(text, " ({}) |", known + 1).unwrap();
                    }
                }
            }
            text.push('\n');
        }
        if !reasons.is_empty() {
            text.push('\n');
        }
        for (index, reason) in reasons.iter().enumerate() {
            writeln!(text, "{}. {reason}", index + 1).unwrap();
        }
        text
    }
}

/// Compares what came out with the part of this name, or writes it there.
#[track_caller]
pub fn check_part(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/interop.md");
    // Other tests write other parts of it.
    let lock = File::open(&path).unwrap();
    lock.lock().unwrap();
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, after) = (format!("<!-- {name} -->\n"), format!("\n<!-- end of {name} -->"));
    let place = document.find(&before).map(|place| place + before.len());
    let place = place.and_then(|start| Some(start..start + document[start..].find(&after)?));
    let place = place.unwrap_or_else(|| panic!("docs/interop.md has no {before:?} with {after:?} behind it"));
    let text = text.trim_end();
    if std::env::var_os("MARGAY_WRITE_INTEROP").is_some() {
        std::fs::write(&path, [&document[..place.start], text, &document[place.end..]].concat()).unwrap();
        return;
    }
    assert!(
        document[place] == *text,
        "the part {name} of docs/interop.md is not what came out; MARGAY_WRITE_INTEROP=1 in the environment of this test \
         writes it anew:\n{text}"
    );
}
