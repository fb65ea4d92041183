//! Kubernetes quantities: exact to a billionth, compared by value, printed in canonical form.
//!
//! The published helper crate reads quantities through `f64` and its operators can panic, so this is our own.
//! As in Kubernetes, finer fractions round away from zero and magnitudes beyond 2^63-1 are capped.

use std::{cmp::Ordering, fmt, str::FromStr};

const NANO: i128 = 1_000_000_000;
/// 2^63-1, the largest number a quantity may stand for.
const LARGEST: i128 = 9_223_372_036_854_775_807 * NANO;
const MEBI: i128 = 1 << 20;

/// An amount of a resource, such as `500m` or `5Gi`.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// How a quantity was written, and is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `Ki`, `Mi`, …
    Binary,
    /// `n`, `u`, `m`, nothing, `k`, `M`, …
    Decimal,
    /// `e3`, `E6`, …
    Exponent,
}

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a quantity such as 500m, 2 or 5Gi")]
pub struct NotAQuantity;

/// A share of something: `0` or more, written with a `%` sign; up to six decimals are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percentage {
    /// Billionths of one percent.
    nano: i128,
}

/// Why a text is not a percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a percentage such as 50% or 12.5%")]
pub struct NotAPercentage;

impl Quantity {
    /// Nothing at all.
    pub const ZERO: Self = Self { nano: 0, format: Format::Decimal };

    /// Thousandths, as CPU is counted.
    #[must_use]
    pub const fn from_milli(milli: u32) -> Self {
        Self { nano: milli as i128 * (NANO / 1000), format: Format::Decimal }
    }

    /// Multiples of 2^20, as memory is counted.
    #[must_use]
    pub const fn from_mebi(mebi: u32) -> Self {
        Self { nano: mebi as i128 * MEBI * NANO, format: Format::Binary }
    }

    /// A whole number, as storage is counted.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self { nano: bytes as i128 * NANO, format: Format::Binary }
    }

    /// A decimal number times `2^bits`, such as the `1.5` and `30` of `1.5Gi`; `None` if it is not a number.
    #[must_use]
    pub fn from_shifted(number: &str, bits: u32) -> Option<Self> {
        let (negative, digits) = split_sign(number);
        let nano = nano(digits, bits.min(60), 0)?;
        Some(Self { nano: if negative { -nano } else { nano }, format: Format::Binary })
    }

    /// Whether it is more than nothing.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.nano > 0
    }

    /// Whether it is less than zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// The sum, written as the left side is, capped.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let nano = self.nano.saturating_add(other.nano).clamp(-LARGEST, LARGEST);
        Self { nano, format: if self.nano == 0 { other.format } else { self.format } }
    }

    /// What is left, written as the left side is.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let nano = self.nano.saturating_sub(other.nano).clamp(-LARGEST, LARGEST);
        Self { nano, format: self.format }
    }

    /// A share of it, rounded up to a billionth, capped.
    #[must_use]
    pub fn share(self, percentage: Percentage) -> Self {
        // Both factors are brought to what an i128 can hold: a share is exact up to six decimals of a percent.
        let share = div_ceil(percentage.nano, 1000);
        let nano = match self.nano.checked_mul(share) {
            Some(product) => div_ceil(product, 100 * NANO / 1000).min(LARGEST),
            None => LARGEST,
        };
        Self { nano, format: self.format }
    }

    /// Rounded up to thousandths, written in decimal.
    #[must_use]
    pub fn rounded_to_milli(self) -> Self {
        let step = NANO / 1000;
        Self { nano: div_ceil(self.nano, step).saturating_mul(step), format: Format::Decimal }
    }

    /// Rounded up to multiples of 2^20, written in binary.
    #[must_use]
    pub fn rounded_to_mebi(self) -> Self {
        let step = MEBI * NANO;
        Self { nano: div_ceil(self.nano, step).saturating_mul(step), format: Format::Binary }
    }

    /// Rounded up to whole numbers, such as bytes; nothing where it is negative.
    #[must_use]
    pub fn whole(self) -> u64 {
        u64::try_from(div_ceil(self.nano, NANO)).unwrap_or_default()
    }

    /// How many whole multiples of 2^20 fit in.
    #[must_use]
    pub fn mebi(self) -> i128 {
        self.nano.div_euclid(MEBI * NANO)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl FromStr for Quantity {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let (negative, rest) = split_sign(text);
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (bits, exponent, format) = parse_suffix(suffix).ok_or(NotAQuantity)?;
        let nano = nano(number, bits, exponent).ok_or(NotAQuantity)?;
        Ok(Self { nano: if negative { -nano } else { nano }, format })
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that keeps the value.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        if self.nano == 0 {
            return formatter.write_str("0");
        }
        let whole = self.nano % NANO == 0;
        // Small and fractional numbers are decimal however they were written.
        if self.format == Format::Binary && whole && self.nano.abs() >= 1024 * NANO {
            let (mantissa, step) = factor(self.nano / NANO, 1024, BINARY.len());
            return write!(formatter, "{mantissa}{}", BINARY.get(step).copied().unwrap_or_default());
        }
        let (mantissa, step) = factor(self.nano, 1000, DECIMAL.len());
        if self.format != Format::Exponent {
            return write!(formatter, "{mantissa}{}", DECIMAL.get(step).copied().unwrap_or_default());
        }
        match i64::try_from(step).unwrap_or_default() * 3 - 9 {
            0 => write!(formatter, "{mantissa}"),
            exponent => write!(formatter, "{mantissa}e{exponent}"),
        }
    }
}

impl FromStr for Percentage {
    type Err = NotAPercentage;

    fn from_str(text: &str) -> Result<Self, NotAPercentage> {
        let number = text.trim().strip_suffix('%').ok_or(NotAPercentage)?.trim();
        let number = number.strip_prefix('+').unwrap_or(number);
        Ok(Self { nano: nano(number, 0, 0).ok_or(NotAPercentage)? })
    }
}

impl Percentage {
    /// No more than the whole.
    #[must_use]
    pub fn at_most_whole(self) -> Self {
        Self { nano: self.nano.min(100 * NANO) }
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:09}", self.nano % NANO);
        match fraction.trim_end_matches('0') {
            "" => write!(formatter, "{}%", self.nano / NANO),
            digits => write!(formatter, "{}.{digits}%", self.nano / NANO),
        }
    }
}

/// Rounds towards positive infinity; the divisor is positive.
fn div_ceil(value: i128, divisor: i128) -> i128 {
    value.div_euclid(divisor) + i128::from(value.rem_euclid(divisor) != 0)
}

/// Takes out factors of `base`, at most `steps - 1` of them.
fn factor(mut mantissa: i128, base: i128, steps: usize) -> (i128, usize) {
    let mut step = 0;
    while step + 1 < steps && mantissa % base == 0 {
        mantissa /= base;
        step += 1;
    }
    (mantissa, step)
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    }
}

/// The binary and decimal exponents of a suffix.
fn parse_suffix(suffix: &str) -> Option<(u32, i64, Format)> {
    let (bits, exponent) = match suffix {
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            return Some((0, i64::from(exponent.parse::<i32>().ok()?), Format::Exponent));
        }
    };
    Some((bits, exponent, if bits > 0 { Format::Binary } else { Format::Decimal }))
}

/// `number × 2^bits × 10^exponent` in billionths, rounded up and capped; `bits` is 60 at most.
fn nano(number: &str, bits: u32, exponent: i64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    // As many digits as fit an i128 after the shift; what is left out only rounds up.
    let room = if bits > 30 { 19 } else { 28 };
    let mut value: i128 = 0;
    let mut exponent = exponent.saturating_sub(i64::try_from(fraction.len()).ok()?);
    let mut left_out = false;
    let mut taken = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if taken < room {
            value = value * 10 + i128::from(digit - b'0');
            taken += i32::from(value > 0);
        } else {
            left_out |= digit != b'0';
            exponent = exponent.saturating_add(1);
        }
    }
    let shifted = value << bits;
    let exponent = exponent.saturating_add(9);
    let power = u32::try_from(exponent.unsigned_abs()).ok().and_then(|power| 10_i128.checked_pow(power));
    let nano = match (value, power) {
        (0, _) => 0,
        (_, Some(power)) if exponent >= 0 => {
            shifted.checked_mul(power).map_or(LARGEST, |nano| nano.saturating_add(i128::from(left_out)))
        }
        (_, None) if exponent >= 0 => LARGEST,
        (_, Some(power)) => shifted / power + i128::from(left_out || shifted % power != 0),
        (_, None) => 1,
    };
    Some(nano.min(LARGEST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|_| panic!("{text} is a quantity"))
    }

    #[test]
    fn quantities_are_printed_in_canonical_form() {
        // The results are those of Kubernetes' resource.ParseQuantity(…).String().
        for (text, canonical) in [
            ("5000m", "5"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("1.5Gi", "1536Mi"),
            ("1.5Ki", "1536"),
            ("1024Mi", "1Gi"),
            ("512", "512"),
            ("0.5Ki", "512"),
            ("1000", "1k"),
            ("1000000", "1M"),
            ("1e3", "1e3"),
            ("100e1", "1e3"),
            ("1E", "1E"),
            ("2E3", "2e3"),
            ("5e-3", "5e-3"),
            ("0", "0"),
            ("0Gi", "0"),
            ("-1.5Gi", "-1536Mi"),
            ("+3", "3"),
            ("0.0000000001", "1n"),
            ("1e100", "9223372036854775807"),
            ("9Ei", "9223372036854775807"),
            ("1e-100", "1e-9"),
        ] {
            assert_eq!(quantity(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_quantities() {
        for text in
            ["", " 1", "1 ", "5 GB", "5GB", "1e", "1e1.5", ".", "-", "1.2.3", "1ki", "1K", "0x10", "m", "٣"]
        {
            assert_eq!(text.parse::<Quantity>(), Err(NotAQuantity), "{text:?}");
        }
    }

    #[test]
    fn quantities_compare_by_value() {
        assert_eq!(quantity("1Gi"), quantity("1073741824"));
        assert!(quantity("1G") < quantity("1Gi"));
        assert!(quantity("-1") < quantity("1n"));
    }

    #[test]
    fn whole_numbers_are_rounded_up() {
        for (text, whole) in [
            ("0", 0),
            ("-1", 0),
            ("1500m", 2),
            ("1Gi", 1 << 30),
            ("1e3", 1000),
            ("9Ei", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(quantity(text).whole(), whole, "{text}");
        }
    }

    #[test]
    fn shares_round_up_to_the_unit_of_the_resource() {
        let share = |text: &str, percent: &str| quantity(text).share(percent.parse().unwrap());
        assert_eq!(share("333m", "50%").rounded_to_milli().to_string(), "167m");
        assert_eq!(share("1Gi", "33%").rounded_to_mebi().to_string(), "338Mi");
        assert_eq!(share("2", "150%").rounded_to_milli().to_string(), "3");
        assert_eq!(share("1Gi", "12.5%").rounded_to_mebi().to_string(), "128Mi");
        assert_eq!(share("1Gi", "0%").rounded_to_mebi().to_string(), "0");
        assert_eq!(share("9Ei", "999999999999%").to_string(), "9223372036854775807");
    }

    #[test]
    fn percentages_need_their_sign_and_are_not_negative() {
        for text in ["50", "-1%", "%", "a%", "1.2.3%", "1e2%"] {
            assert_eq!(text.parse::<Percentage>(), Err(NotAPercentage), "{text}");
        }
        assert_eq!("12.50 %".parse::<Percentage>().unwrap().to_string(), "12.5%");
        assert_eq!("120%".parse::<Percentage>().unwrap().at_most_whole().to_string(), "100%");
    }

    proptest! {
        #[test]
        fn printing_keeps_the_value(mantissa in any::<i64>(), suffix in prop::sample::select(vec![
            "n", "u", "m", "", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "e-2", "E5",
        ])) {
            let first = quantity(&format!("{mantissa}{suffix}"));
            let text = first.to_string();
            prop_assert_eq!(quantity(&text), first);
            prop_assert_eq!(quantity(&text).to_string(), text);
        }

        #[test]
        fn fractions_are_exact(whole in 0_u32.., fraction in 0_u32..1_000_000_000, bits in 0_u32..30) {
            let suffix = ["", "Ki", "Mi", "Gi"][(bits / 10) as usize];
            let text = format!("{whole}.{fraction:09}{suffix}");
            let expected = (i128::from(whole) * NANO + i128::from(fraction)) << (bits / 10 * 10);
            prop_assert_eq!(quantity(&text).nano, expected);
        }

        #[test]
        fn no_text_panics(text in "[-+]?[0-9.]{0,60}[a-zA-Z%]{0,3}[-+]?[0-9]{0,30}") {
            let _ = text.parse::<Quantity>().map(|quantity| quantity.to_string());
            let _ = text.parse::<Percentage>().map(|share| Quantity::from_mebi(u32::MAX).share(share).to_string());
            let _ = Quantity::from_shifted(&text, 60).map(|quantity| (quantity.mebi(), quantity.to_string()));
        }
    }
}
