//! The grammar, with nom: `or := and ('||' and)*`, `and := unary ('&&' unary)*`, `unary := '!'* primary`.

use std::collections::BTreeSet;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::{char, multispace0, multispace1};
use nom::combinator::{cut, map, value};
use nom::error::{Error, ErrorKind};
use nom::multi::{separated_list0, separated_list1};
use nom::sequence::{delimited, preceded};
use nom::{Err, IResult, Parser};

use super::Selector;

/// The longest selector that Calico accepts.
const MAX_LEN: usize = 1024;
const MAX_DEPTH: usize = 32;

/// Where and how a text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("selector '{text}' is not valid at character {offset}: {reason}")]
pub struct SelectorError {
    pub text: String,
    /// In bytes from the start.
    pub offset: usize,
    pub reason: &'static str,
}

pub(super) fn parse(text: &str) -> Result<Selector, SelectorError> {
    let error = |offset: usize, reason| SelectorError { text: text.to_owned(), offset, reason };
    if text.len() > MAX_LEN {
        return Err(error(MAX_LEN, "it is longer than 1024 characters"));
    }
    if text.trim().is_empty() {
        return Ok(Selector::All);
    }
    match or(text, 0) {
        Ok((rest, selector)) if rest.trim().is_empty() => Ok(selector),
        Ok((rest, _)) => Err(error(text.len() - rest.trim_start().len(), "expected '&&', '||' or the end")),
        Err(Err::Error(inner) | Err::Failure(inner)) => {
            let reason = match inner.code {
                ErrorKind::TooLarge => "parentheses are nested too deep",
                _ if inner.input.trim().is_empty() => "it ends too early",
                _ => {
                    "expected a label with an operator (==, !=, in, not in, contains, starts with, ends with), \
                      has(LABEL), all() or global()"
                }
            };
            Err(error(text.len() - inner.input.trim_start().len(), reason))
        }
        Err(Err::Incomplete(_)) => Err(error(text.len(), "it ends too early")),
    }
}

type Parsed<'a, T = Selector> = IResult<&'a str, T>;

fn or(input: &str, depth: usize) -> Parsed<'_> {
    if depth > MAX_DEPTH {
        return Err(Err::Failure(Error::new(input, ErrorKind::TooLarge)));
    }
    let (rest, first) = and(input, depth)?;
    operands(rest, first, "||", depth, and, Selector::Or)
}

fn and(input: &str, depth: usize) -> Parsed<'_> {
    let (rest, first) = unary(input, depth)?;
    operands(rest, first, "&&", depth, unary, Selector::And)
}

fn operands<'a>(
    mut rest: &'a str,
    first: Selector,
    operator: &'static str,
    depth: usize,
    operand: fn(&'a str, usize) -> Parsed<'a>,
    join: fn(Vec<Selector>) -> Selector,
) -> Parsed<'a> {
    let mut parts = vec![first];
    while let Ok((after, ())) = token(operator)(rest) {
        let (after, part) = operand(after, depth).map_err(fatal)?;
        parts.push(part);
        rest = after;
    }
    let single = parts.len() == 1;
    Ok((rest, if single { parts.remove(0) } else { join(parts) }))
}

fn unary(input: &str, depth: usize) -> Parsed<'_> {
    if depth > MAX_DEPTH {
        return Err(Err::Failure(Error::new(input, ErrorKind::TooLarge)));
    }
    if let Ok((rest, ())) = token("!")(input) {
        let (rest, inner) = unary(rest, depth + 1).map_err(fatal)?;
        return Ok((rest, Selector::Not(Box::new(inner))));
    }
    if let Ok((rest, ())) = token("(")(input) {
        let (rest, inner) = or(rest, depth + 1).map_err(fatal)?;
        let (rest, ()) = token(")")(rest).map_err(fatal)?;
        return Ok((rest, inner));
    }
    alt((call, comparison)).parse(input)
}

fn fatal(error: Err<Error<&str>>) -> Err<Error<&str>> {
    match error {
        Err::Error(inner) => Err::Failure(inner),
        other => other,
    }
}

fn token(text: &'static str) -> impl Fn(&str) -> Parsed<'_, ()> {
    move |input| value((), preceded(multispace0, tag(text))).parse(input)
}

fn call(input: &str) -> Parsed<'_> {
    let no_arguments = (token("("), token(")"));
    let (rest, name) = preceded(multispace0, alt((tag("all"), tag("global"), tag("has")))).parse(input)?;
    match name {
        "all" => value(Selector::All, no_arguments).parse(rest),
        "global" => value(Selector::Global, no_arguments).parse(rest),
        _ => {
            let (rest, ()) = token("(")(rest)?;
            map((cut(label), cut(token(")"))), |(label, ())| Selector::Has(label.to_owned())).parse(rest)
        }
    }
}

fn comparison(input: &str) -> Parsed<'_> {
    let (rest, label) = label(input)?;
    let key = || label.to_owned();
    let text = || preceded(multispace0, cut(string));
    let (rest, selector) = alt((
        map(preceded(token("=="), text()), |s| Selector::Equals(key(), s.to_owned())),
        map(preceded(token("!="), text()), |s| Selector::NotEquals(key(), s.to_owned())),
        map(preceded((multispace0, tag("not"), multispace1, tag("in")), cut(set)), |set| Selector::NotIn(key(), set)),
        map(preceded((multispace0, tag("in")), cut(set)), |set| Selector::In(key(), set)),
        map(preceded(token("contains"), text()), |s| Selector::Contains(key(), s.to_owned())),
        map(preceded((token("starts"), multispace0, tag("with")), text()), |s| {
            Selector::StartsWith(key(), s.to_owned())
        }),
        map(preceded((token("ends"), multispace0, tag("with")), text()), |s| Selector::EndsWith(key(), s.to_owned())),
    ))
    .parse(rest)
    .map_err(fatal)?;
    Ok((rest, selector))
}

fn label(input: &str) -> Parsed<'_, &str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    preceded(multispace0, take_while1(allowed)).parse(input)
}

fn string(input: &str) -> Parsed<'_, &str> {
    let body = |quote: char| delimited(char(quote), take_while(move |c| c != quote), char(quote));
    alt((body('\''), body('"')))
        .parse(input)
        .map_err(|_: Err<Error<&str>>| Err::Error(Error::new(input, ErrorKind::Tag)))
}

fn set(input: &str) -> Parsed<'_, BTreeSet<String>> {
    let item = || preceded(multispace0, string);
    let items = alt((separated_list1(token(","), item()), separated_list0(token(","), item())));
    map(delimited(token("{"), items, token("}")), |items| items.into_iter().map(str::to_owned).collect()).parse(input)
}
