//! Calico's selector language over labels.
//!
//! `==`, `!=` (true where the label is absent), `in {..}`, `not in {..}` (likewise), `has()`, `contains`,
//! `starts with`, `ends with`, `all()`, `global()`, `&&`, `||`, `!` and parentheses. Strings are in single or double
//! quotes, without escapes. An empty selector matches everything.

mod parse;

use std::collections::BTreeSet;
use std::fmt;

pub use parse::SelectorError;

/// A parsed selector.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    All,
    /// Matches what has no namespace.
    Global,
    Equals(String, String),
    NotEquals(String, String),
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Has(String),
    Contains(String, String),
    StartsWith(String, String),
    EndsWith(String, String),
    Not(Box<Selector>),
    And(Vec<Selector>),
    Or(Vec<Selector>),
}

/// The label that tells an endpoint's namespace.
pub const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";

impl Selector {
    /// Evaluates the selector over labels, given as a look-up.
    pub fn matches<'a>(&self, label: &impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Selector::All => true,
            Selector::Global => label(NAMESPACE_LABEL).is_none(),
            Selector::Equals(key, value) => label(key) == Some(value),
            Selector::NotEquals(key, value) => label(key) != Some(value),
            Selector::In(key, values) => label(key).is_some_and(|found| values.contains(found)),
            Selector::NotIn(key, values) => label(key).is_none_or(|found| !values.contains(found)),
            Selector::Has(key) => label(key).is_some(),
            Selector::Contains(key, part) => label(key).is_some_and(|found| found.contains(part.as_str())),
            Selector::StartsWith(key, part) => label(key).is_some_and(|found| found.starts_with(part.as_str())),
            Selector::EndsWith(key, part) => label(key).is_some_and(|found| found.ends_with(part.as_str())),
            Selector::Not(inner) => !inner.matches(label),
            Selector::And(parts) => parts.iter().all(|part| part.matches(label)),
            Selector::Or(parts) => parts.iter().any(|part| part.matches(label)),
        }
    }

    /// Evaluates the selector over a map of labels.
    pub fn matches_labels(&self, labels: &crate::Labels) -> bool {
        self.matches(&|key: &str| labels.get(key).map(String::as_str))
    }

    /// The selector with every label key changed, as `namespaceSelector` is rewritten to `pcns.` labels.
    #[must_use]
    pub fn with_keys(&self, change: &impl Fn(&str) -> String) -> Selector {
        match self {
            Selector::All => Selector::All,
            Selector::Global => Selector::Global,
            Selector::Equals(key, value) => Selector::Equals(change(key), value.clone()),
            Selector::NotEquals(key, value) => Selector::NotEquals(change(key), value.clone()),
            Selector::In(key, values) => Selector::In(change(key), values.clone()),
            Selector::NotIn(key, values) => Selector::NotIn(change(key), values.clone()),
            Selector::Has(key) => Selector::Has(change(key)),
            Selector::Contains(key, part) => Selector::Contains(change(key), part.clone()),
            Selector::StartsWith(key, part) => Selector::StartsWith(change(key), part.clone()),
            Selector::EndsWith(key, part) => Selector::EndsWith(change(key), part.clone()),
            Selector::Not(inner) => Selector::Not(Box::new(inner.with_keys(change))),
            Selector::And(parts) => Selector::And(parts.iter().map(|part| part.with_keys(change)).collect()),
            Selector::Or(parts) => Selector::Or(parts.iter().map(|part| part.with_keys(change)).collect()),
        }
    }
}

impl std::str::FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse::parse(text)
    }
}

/// Says what is wrong with a selector, if anything.
pub fn check(text: &str) -> Result<(), SelectorError> {
    text.parse::<Selector>().map(drop)
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::All => f.write_str("all()"),
            Selector::Global => f.write_str("global()"),
            Selector::Equals(key, value) => write!(f, "{key} == {}", quoted(value)),
            Selector::NotEquals(key, value) => write!(f, "{key} != {}", quoted(value)),
            Selector::In(key, values) => write!(f, "{key} in {}", set(values)),
            Selector::NotIn(key, values) => write!(f, "{key} not in {}", set(values)),
            Selector::Has(key) => write!(f, "has({key})"),
            Selector::Contains(key, part) => write!(f, "{key} contains {}", quoted(part)),
            Selector::StartsWith(key, part) => write!(f, "{key} starts with {}", quoted(part)),
            Selector::EndsWith(key, part) => write!(f, "{key} ends with {}", quoted(part)),
            Selector::Not(inner) => write!(f, "!({inner})"),
            Selector::And(parts) => joined(f, parts, " && "),
            Selector::Or(parts) => joined(f, parts, " || "),
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, parts: &[Selector], operator: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(operator)?;
        }
        match part {
            Selector::And(_) | Selector::Or(_) => write!(f, "({part})")?,
            other => write!(f, "{other}")?,
        }
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    if text.contains('\'') { format!("\"{text}\"") } else { format!("'{text}'") }
}

fn set(values: &BTreeSet<String>) -> String {
    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("{{ {} }}", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_operator_matches_as_calico_does() {
        let web = labels(&[("app", "web"), ("tier", "front"), (NAMESPACE_LABEL, "shop")]);
        for (text, expected) in [
            ("", true),
            ("all()", true),
            ("global()", false),
            ("app == 'web'", true),
            ("app == \"db\"", false),
            ("app != 'db'", true),
            ("absent != 'x'", true),
            ("app in { 'web', 'db' }", true),
            ("absent in {'x'}", false),
            ("absent not in {'x'}", true),
            ("app not in {'web'}", false),
            ("app in {}", false),
            ("has(app)", true),
            ("!has(app)", false),
            ("! has(absent)", true),
            ("tier contains 'ron'", true),
            ("tier starts with 'fr'", true),
            ("tier ends with \"nt\"", true),
            ("tier startswith 'fr'", true),
            ("app == 'web' && tier == 'back' || has(app)", true),
            ("app == 'web' && (tier == 'back' || has(absent))", false),
            ("!(app == 'web') || projectcalico.org/namespace == 'shop'", true),
        ] {
            let selector: Selector = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(selector.matches_labels(&web), expected, "{text}");
        }
    }

    #[test]
    fn a_broken_selector_says_where() {
        for (text, at) in
            [("app = 'web'", 4), ("has(", 4), ("app == 'web' &&", 15), ("app == 'web", 7), ("a in {'x' 'y'}", 10)]
        {
            let error = text.parse::<Selector>().expect_err(text);
            assert_eq!(error.offset, at, "{text}: {error}");
        }
    }

    #[test]
    fn a_selector_prints_as_it_parses() {
        for text in ["a == 'b' && (c != 'd' || has(e))", "!(a in { 'b', 'c' })", "all()", "a == \"it's\""] {
            let selector: Selector = text.parse().expect(text);
            assert_eq!(selector.to_string().parse(), Ok(selector.clone()), "{selector}");
        }
    }
}
