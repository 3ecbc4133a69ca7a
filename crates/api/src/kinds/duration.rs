//! Durations as Go writes them (`metav1.Duration`).

use std::time::Duration;

/// Reads a Go duration: decimal numbers, each with a unit of `h`, `m`, `s`, `ms`, `us`, `µs` or `ns`, as in `1m30s` or
/// `1.5s`; and `0`. None where it is not one, or negative.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let nanos = match &after[..unit_end] {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" | "μs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        total = total.checked_add(scaled(number, nanos)?)?;
        rest = &after[unit_end..];
    }
    Some(total)
}

/// A decimal number of units, cut to whole nanoseconds.
fn scaled(number: &str, nanos: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(nanos)?;
    let mut unit = nanos;
    for digit in fraction.bytes() {
        unit /= 10;
        total = total.checked_add(u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?) * unit)?;
    }
    Some(Duration::from_nanos(total))
}

/// What is wrong with a duration that must lie in a range, in words.
pub(crate) fn check_duration(text: &str, least: Duration, most: Duration) -> Result<(), String> {
    match parse_duration(text) {
        None => Err(format!("'{text}' is not a duration such as 90s, 2m or 100ms")),
        Some(value) if value < least || value > most => {
            Err(format!("'{text}' is not within {} to {}", shown(least), shown(most)))
        }
        Some(_) => Ok(()),
    }
}

fn shown(value: Duration) -> String {
    match value.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_prints_them() {
        for (text, millis) in [
            ("1m30s", 90_000),
            ("250ms", 250),
            ("1.5s", 1500),
            ("0", 0),
            ("0s", 0),
            ("1h0m0s", 3_600_000),
            (".5s", 500),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_duration("1us"), Some(Duration::from_micros(1)));
        for bad in ["", "90", "s", "1x", "-1s", "1.2.3s", ".s", "1 s", "99999999999999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_range_is_named_with_what_is_outside_of_it() {
        let check = |text| check_duration(text, Duration::from_millis(10), Duration::from_secs(60));
        assert_eq!(check("10ms"), Ok(()));
        assert_eq!(check("5ms").expect_err("too short"), "'5ms' is not within 10ms to 60s");
        assert!(check("often").expect_err("no duration").contains("not a duration"));
    }
}
