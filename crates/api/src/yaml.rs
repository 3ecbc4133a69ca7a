use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::stored::segments;
use crate::{Object, Problem, Spec};

/// One document of a YAML stream: its kind is known, its text is not yet held against a type.
#[derive(Debug, Clone)]
pub struct Document {
    pub api_version: String,
    pub kind: String,
    /// The document's text behind as many empty lines as precede it in the stream, so that positions are the file's.
    text: String,
}

/// A YAML text that is not what it should be; lines and columns count from 1.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DocumentError {
    #[error("line {line}, column {column}: {reason}")]
    At { line: usize, column: usize, reason: String },
    #[error("{0}")]
    Nowhere(String),
}

/// Splits a YAML stream into documents and reads the kind of each; empty documents are passed over. A `List` is
/// flattened into its items.
pub fn parse_documents(text: &str) -> Result<Vec<Document>, DocumentError> {
    let mut documents = Vec::new();
    let mut start_line = 0;
    let mut current = String::new();
    for (index, line) in text.lines().chain(["---"]).enumerate() {
        let is_separator = line == "---" || line.starts_with("--- ");
        if !is_separator {
            current.push_str(line);
            current.push('\n');
            continue;
        }
        let body = std::mem::take(&mut current);
        if body.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
            read_header(&format!("{}{body}", "\n".repeat(start_line)), &mut documents)?;
        }
        start_line = index + 1;
    }
    Ok(documents)
}

fn read_header(text: &str, documents: &mut Vec<Document>) -> Result<(), DocumentError> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| positioned(&error))?;
    if value.get("kind").and_then(Value::as_str) == Some("List") {
        let items = value.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        for item in items {
            documents.push(header(&item, item.to_string(), 1)?);
        }
        return Ok(());
    }
    let first_line = text.lines().take_while(|line| line.trim().is_empty()).count() + 1;
    documents.push(header(&value, text.to_owned(), first_line)?);
    Ok(())
}

fn header(value: &Value, text: String, line: usize) -> Result<Document, DocumentError> {
    let field = |name: &str| {
        value.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| DocumentError::At {
            line,
            column: 1,
            reason: format!("the document has no '{name}'; a resource needs apiVersion, kind, metadata and spec"),
        })
    };
    Ok(Document { api_version: field("apiVersion")?, kind: field("kind")?, text })
}

impl Document {
    /// Reads the document as a resource. Unknown fields are refused by name and place, and so is everything that the
    /// kind's validation finds.
    pub fn object<S: Spec>(&self) -> Result<Object<S>, DocumentError> {
        let object: Object<S> = self.strict::<Object<S>>()?.unfolded().map_err(|problem| self.problem(&problem))?;
        match object.problems().first() {
            None => Ok(object),
            Some(problem) => Err(self.problem(problem)),
        }
    }

    /// The error for a problem with a field, at its place.
    pub fn problem(&self, problem: &Problem) -> DocumentError {
        let path: Vec<String> = problem.field.split(['.', '[']).map(|s| s.trim_end_matches(']').to_owned()).collect();
        self.at(&path, problem.to_string())
    }

    /// Reads the document as any type, refusing fields that the type does not have.
    pub fn strict<T: DeserializeOwned>(&self) -> Result<T, DocumentError> {
        let mut ignored = Vec::new();
        let value = serde_saphyr::with_deserializer_from_str(&self.text, |deserializer| {
            serde_ignored::deserialize(deserializer, |path| ignored.push(segments(&path)))
        })
        .map_err(|error| positioned(&error))?;
        match ignored.first() {
            None => Ok(value),
            Some(path) => Err(self.at(path, format!("unknown field '{}'", path.join(".")))),
        }
    }

    /// An error at the place of the field `path`, as well as it can be found in the text.
    fn at(&self, path: &[String], reason: String) -> DocumentError {
        match locate(&self.text, path) {
            Some((line, column)) => DocumentError::At { line, column, reason },
            None => DocumentError::Nowhere(reason),
        }
    }
}

/// Finds the key at the end of `path`, descending by indentation; array indexes count the items on the way. Falls
/// back to the deepest key on the path that is there.
fn locate(text: &str, path: &[String]) -> Option<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = None;
    let mut from = 0;
    let mut min_indent = 0;
    for segment in path {
        let position = if segment.parse::<usize>().is_ok() {
            let index = segment.parse::<usize>().ok()?;
            nth_item(&lines, from, index)
        } else {
            key_line(&lines, from, min_indent, segment)
        };
        let Some((line, column)) = position else {
            break;
        };
        found = Some((line + 1, column + 1));
        min_indent = if segment.parse::<usize>().is_ok() { column } else { column + 1 };
        from = if segment.parse::<usize>().is_ok() { line } else { line + 1 };
        if segment.parse::<usize>().is_err() && lines.get(line).is_some_and(|l| l.contains('{')) {
            from = line;
        }
    }
    found
}

fn key_line(lines: &[&str], from: usize, min_indent: usize, key: &str) -> Option<(usize, usize)> {
    for (index, line) in lines.iter().enumerate().skip(from) {
        for (column, _) in line.match_indices(key) {
            let before = &line[..column];
            let after = &line[column + key.len()..];
            let starts = before.trim_end().is_empty()
                || before.trim_end().ends_with(['-', '{', ',', '"', '\''])
                || before.trim() == "?";
            let ends = after.trim_start_matches(['"', '\'']).trim_start().starts_with(':');
            if starts && ends && column >= min_indent.min(line.len() - line.trim_start().len() + column) {
                return Some((index, column));
            }
        }
    }
    None
}

fn nth_item(lines: &[&str], from: usize, nth: usize) -> Option<(usize, usize)> {
    let first = lines.iter().enumerate().skip(from).find(|(_, line)| line.trim_start().starts_with('-'))?;
    let indent = first.1.len() - first.1.trim_start().len();
    lines
        .iter()
        .enumerate()
        .skip(first.0)
        .filter(|(_, line)| line.trim_start().starts_with('-') && line.len() - line.trim_start().len() == indent)
        .nth(nth)
        .map(|(index, _)| (index, indent))
}

fn positioned(error: &serde_saphyr::Error) -> DocumentError {
    let reason = error.to_string();
    let reason = reason.lines().next().unwrap_or_default().to_owned();
    match error.location() {
        Some(location) => DocumentError::At {
            line: usize::try_from(location.line()).unwrap_or(0),
            column: usize::try_from(location.column()).unwrap_or(0),
            reason,
        },
        None => DocumentError::Nowhere(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{BgpPeerSpec, IpPoolSpec};

    const TWO: &str = "# two peers\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata:\n  name: tor-a1\nspec:\n  \
                       peerIP: 10.0.0.1\n  asNumber: 65001\n---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\n\
                       metadata: {name: tor-a2}\nspec:\n  peerIp: 10.0.0.2\n";

    #[test]
    fn an_unknown_field_is_refused_with_its_line_and_column_in_the_file() {
        let documents = parse_documents(TWO).expect("YAML");
        assert_eq!(documents.len(), 2);
        documents[0].object::<BgpPeerSpec>().expect("a valid peer");
        let error = documents[1].object::<BgpPeerSpec>().expect_err("peerIp is not a field");
        assert_eq!(error.to_string(), "line 14, column 3: unknown field 'spec.peerIp'");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_placed() {
        let text = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: a}\nspec:\n  cidr: 10.0.0.0/8\n  blockSize: big\n";
        let error = parse_documents(text).expect("YAML")[0].object::<IpPoolSpec>().expect_err("big is no number");
        assert!(matches!(error, DocumentError::At { line: 6, .. }), "{error}");
    }

    #[test]
    fn broken_yaml_and_a_missing_kind_are_placed() {
        let error = parse_documents("a: [1\nb: 2\n").expect_err("not YAML");
        assert!(matches!(error, DocumentError::At { .. }), "{error}");
        let error = parse_documents("\n\nmetadata: {}\n").expect_err("no kind");
        assert!(error.to_string().starts_with("line 3, column 1: the document has no 'apiVersion'"), "{error}");
    }

    #[test]
    fn what_another_client_printed_with_the_annotation_is_taken_back() {
        let peer = |fields: &str| {
            let text = format!(
                "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata:\n  name: tor\n  annotations:\n    \
                 margay.io/spec: '{fields}'\nspec: {{peerIP: 10.0.0.1, asNumber: 65001}}\n"
            );
            parse_documents(&text).expect("YAML")[0].object::<BgpPeerSpec>()
        };
        let object = peer(r#"{"holdTime":"9s"}"#).expect("a peer");
        assert_eq!(object.spec.hold_time.as_deref(), Some("9s"));
        assert!(object.metadata.annotations.is_empty());
        for (fields, said) in [(r#"{"holdtime":"9s"}"#, "unknown field 'holdtime'"), ("{", "not a JSON object")] {
            let error = peer(fields).expect_err("refused");
            assert!(error.to_string().starts_with("line 5") && error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn validation_names_the_field_and_its_place() {
        let text = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: a\nspec:\n  cidr: 10.0.0.0/16\n  blockSize: 40\n";
        let error = parse_documents(text).expect("YAML")[0].object::<IpPoolSpec>().expect_err("40 is too long");
        assert!(error.to_string().starts_with("line 7, column 3: spec.blockSize:"), "{error}");
    }
}
