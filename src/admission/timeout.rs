//! The `timeout` the API server puts into the query of a webhook call.

use std::time::Duration;

/// What the API server waits when the query says nothing: the default of `timeoutSeconds`.
const DEFAULT: Duration = Duration::from_secs(10);
/// The most `timeoutSeconds` can be.
const LONGEST: Duration = Duration::from_secs(30);
/// Kept back so that our answer arrives before the API server gives up, and at most a tenth of its patience.
const MARGIN: Duration = Duration::from_millis(500);

/// How long the handling of a request may take, given the `timeout` of its query.
///
/// `None` if it is not a duration.
pub fn budget(timeout: Option<&str>) -> Option<Duration> {
    let patience = match timeout {
        None | Some("") => DEFAULT,
        Some(text) => parse(text)?.min(LONGEST),
    };
    Some(patience.saturating_sub(MARGIN.min(patience / 10)))
}

/// Reads a duration as Go writes it: `10s`, `1m30s`, `1.5s`, `250ms`; no sign, as a wait has none.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let (unit, after) = unit(after)?;
        total = total.checked_add(scaled(number, unit)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// The unit at the start of a text in nanoseconds, and what follows it.
fn unit(text: &str) -> Option<(u64, &str)> {
    // Longer ones first: `ms` starts like `m`.
    const UNITS: [(&str, u64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    UNITS.into_iter().find_map(|(name, nanoseconds)| Some((nanoseconds, text.strip_prefix(name)?)))
}

fn scaled(number: &str, unit: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanoseconds = whole.checked_mul(unit)?;
    let mut weight = unit;
    for digit in fraction.bytes() {
        weight /= 10;
        nanoseconds = nanoseconds.checked_add(weight * u64::from(digit - b'0'))?;
    }
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let cases = [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            (".5s", 500),
            ("250ms", 250),
            ("1h", 3_600_000),
            ("2000000us", 2_000),
            ("2000000µs", 2_000),
            ("0", 0),
            ("0s", 0),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in
            ["", "10", "s", ".s", "1..5s", "-1s", "1d", "10 s", "99999999999999999999s", "9999999999h"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_answer_is_due_a_little_before_the_api_server_gives_up() {
        assert_eq!(budget(Some("10s")), Some(Duration::from_millis(9_500)));
        assert_eq!(budget(Some("1s")), Some(Duration::from_millis(900)));
        assert_eq!(budget(None), Some(Duration::from_millis(9_500)));
        assert_eq!(budget(Some("1h")), Some(Duration::from_millis(29_500)));
        assert_eq!(budget(Some("soon")), None);
    }
}
