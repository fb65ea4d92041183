//! Durations as Go writes them: `10s`, `1m30s`, `1.5s`, `250ms`.

use std::time::Duration;

/// The units in nanoseconds; longer names first, as `ms` starts like `m`.
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

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a duration like 10s or 1m30s")]
pub struct NotADuration;

/// Reads a duration without a sign, as a wait has none.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    unsigned(text).ok_or(NotADuration)
}

/// Whether Go's `time.ParseDuration` reads the text, which may have a sign.
pub fn is_duration(text: &str) -> bool {
    unsigned(text.strip_prefix(['-', '+']).unwrap_or(text)).is_some()
}

fn unsigned(text: &str) -> Option<Duration> {
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
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in
            ["", "10", "s", ".s", "1..5s", "-1s", "1d", "10 s", "99999999999999999999s", "9999999999h"]
        {
            assert_eq!(parse(text), Err(NotADuration), "{text}");
        }
    }

    #[test]
    fn a_sign_is_go_s_but_not_ours() {
        for text in ["0", "90s", "1h30m", "1.5h", "-2m", "+3ms", "10µs"] {
            assert!(is_duration(text), "{text}");
        }
        for text in ["", "5", "s", "1x", "1h 2m", "m1", "1.2.3s", "-", "--2m"] {
            assert!(!is_duration(text), "{text}");
        }
    }
}
