//! Numbers that keep their text, and what is known of them without a double.

use std::{borrow::Cow, cmp::Ordering, fmt, sync::Arc};

/// A number of JSON. Equal are those of one text.
#[derive(Clone, PartialEq, Eq)]
pub enum Number {
    Int(i64),
    /// Beyond what an `Int` holds.
    Uint(u64),
    /// Any other, as it was written: with a fraction or an exponent, of more digits, or `-0`.
    Written(Arc<str>),
}

impl Number {
    /// Text that is known to be a number of JSON.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        if text == "-0" {
            return Self::Written(text.into());
        }
        let uint = || text.parse().map(Self::Uint);
        text.parse().map(Self::Int).or_else(|_| uint()).unwrap_or_else(|_| Self::Written(text.into()))
    }

    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(int) => u64::try_from(*int).ok(),
            Self::Uint(uint) => Some(*uint),
            Self::Written(_) => None,
        }
    }

    /// The nearest double; `None`: it is beyond them all.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "it says so")]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(int) => Some(*int as f64),
            Self::Uint(uint) => Some(*uint as f64),
            Self::Written(text) => text.parse().ok().filter(|double: &f64| double.is_finite()),
        }
    }

    /// Whether readers of JSON take it, be it as the nearest double.
    pub(super) fn is_near_a_double(&self) -> bool {
        match self {
            Self::Int(_) | Self::Uint(_) => true,
            Self::Written(text) => self.as_f64().is_some() && Decimal::of(text).is_some(),
        }
    }

    /// Bytes of its text, or a few.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Self::Int(_) | Self::Uint(_) => 4,
            Self::Written(text) => text.len().max(4),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(int) => int.fmt(f),
            Self::Uint(uint) => uint.fmt(f),
            Self::Written(text) => text.fmt(f),
        }
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The one text of a double; `None`: JSON has none for it.
pub(crate) fn of_double(double: f64) -> Option<String> {
    serde_json::Number::from_f64(double).map(|number| number.to_string())
}

/// The double that holds every digit of the number: it has no other nearest decimal, or is exactly that whole number.
#[allow(clippy::cast_possible_truncation, reason = "what is cut off is compared next")]
pub(crate) fn exactly(text: &str) -> Option<f64> {
    let double: f64 = text.parse().ok().filter(|double: &f64| double.is_finite())?;
    let digits = text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).filter(u8::is_ascii_digit).count();
    // A double gives every decimal of 15 digits back, unless it is near zero or infinity.
    if digits <= 15 && (1e-290..1e290).contains(&double.abs()) {
        return Some(double);
    }
    let decimal = Decimal::of(text)?;
    let is_held = |other: &str| Decimal::of(other).as_ref() == Some(&decimal);
    let is_whole = double.fract() == 0.0 && double.abs() < 1e38;
    (is_held(&of_double(double)?) || (is_whole && is_held(&(double as i128).to_string()))).then_some(double)
}

/// What a number is worth: 0.`digits` × 10^`point`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decimal<'t> {
    negative: bool,
    /// Neither the first nor the last is 0; zero has none.
    digits: Cow<'t, str>,
    point: i64,
}

impl<'t> Decimal<'t> {
    /// `None`: it is no number, or its exponent has more than 15 digits.
    pub(crate) fn of(text: &'t str) -> Option<Self> {
        let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let unsigned = unsigned.strip_prefix('+').unwrap_or(unsigned);
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) || exponent.len() > 16 {
            return None;
        }
        let exponent: i64 = exponent.parse().ok()?;
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let (digits, mut point) = match (whole, fraction) {
            (whole, "") => (Cow::Borrowed(whole), i64::try_from(whole.len()).ok()?),
            ("", fraction) => (Cow::Borrowed(fraction), 0),
            (whole, fraction) => (Cow::Owned([whole, fraction].concat()), i64::try_from(whole.len()).ok()?),
        };
        let trimmed = digits.trim_end_matches('0').trim_start_matches('0');
        point -= i64::try_from(digits.len() - digits.trim_start_matches('0').len()).ok()?;
        if trimmed.is_empty() {
            return Some(Self { negative: false, digits: Cow::Borrowed(""), point: 0 });
        }
        let digits = if trimmed.len() == digits.len() { digits } else { Cow::Owned(trimmed.to_owned()) };
        Some(Self { negative, digits, point: point.checked_add(exponent)? })
    }

    fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// Towards zero; `None`: it is beyond 128 bits.
    pub(crate) fn whole(&self) -> Option<i128> {
        let Ok(places) = usize::try_from(self.point) else { return Some(0) };
        if places > 39 {
            return None;
        }
        let digits = &self.digits[..places.min(self.digits.len())];
        let text = format!("{}{digits:0<places$}", if self.negative { "-" } else { "" });
        if places == 0 { Some(0) } else { text.parse().ok() }
    }

    /// As ECMAScript lays numbers out (`Number::toString`), and so RFC 8785, but with all digits.
    pub(super) fn ecmascript(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let digits = &*self.digits;
        if digits.is_empty() {
            return "0".to_owned();
        }
        if let Ok(point) = usize::try_from(self.point)
            && (1..=21).contains(&point)
        {
            return match digits.split_at_checked(point) {
                Some((whole, fraction)) if !fraction.is_empty() => format!("{sign}{whole}.{fraction}"),
                Some(_) | None => format!("{sign}{digits:0<point$}"),
            };
        }
        if (-5..=0).contains(&self.point) {
            let zeros = usize::try_from(-self.point).unwrap_or(0);
            return format!("{sign}0.{:0<zeros$}{digits}", "");
        }
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{sign}{first}{dot}{rest}e{:+}", self.point - 1)
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |decimal: &Self| if decimal.is_zero() { 0 } else { 1 - 2 * i8::from(decimal.negative) };
        let size = || self.point.cmp(&other.point).then_with(|| self.digits.cmp(&other.digits));
        sign(self).cmp(&sign(other)).then_with(|| if self.negative { size().reverse() } else { size() })
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_double_holds_what_it_gives_back() {
        for held in
            ["0.10", "1e-7", "10.0", "1e21", "9007199254740992.0", "9223372036854775808.0", "0e5", "5e-324", "-0"]
        {
            assert!(exactly(held).is_some(), "{held}");
        }
        for lost in
            ["12345678901234567.89", "9007199254740993.0", "1e999", "1e-400", "0.12345678901234567890", "4e-324"]
        {
            assert_eq!(exactly(lost), None, "{lost}");
        }
    }

    #[test]
    fn digits_compare_as_numbers() {
        let ascending =
            ["-1e30", "-2", "-1.5", "-1e-7", "0", "1e-400", "0.1", "0.10000000000000000001", "1", "2", "10"];
        for (low, a) in ascending.iter().enumerate() {
            for (high, b) in ascending.iter().enumerate() {
                assert_eq!(Decimal::of(a).unwrap().cmp(&Decimal::of(b).unwrap()), low.cmp(&high), "{a} {b}");
            }
        }
        for same in [["1", "1.0"], ["1e3", "1000"], ["0.10", "0.1"], ["-0", "0.0"], ["0.001e5", "100"]] {
            assert_eq!(Decimal::of(same[0]), Decimal::of(same[1]), "{same:?}");
        }
    }

    #[test]
    fn a_number_is_cut_towards_zero_without_a_double() {
        let whole = |text| Decimal::of(text).unwrap().whole();
        assert_eq!(whole("12345678901234567.89"), Some(12_345_678_901_234_567));
        assert_eq!(whole("-1.9e1"), Some(-19));
        assert_eq!(whole("0.99"), Some(0));
        assert_eq!(whole("1e40"), None);
    }

    proptest! {
        #[test]
        fn a_double_s_own_text_is_held_and_laid_out_as_rfc_8785_does(bits in any::<u64>()) {
            let double = f64::from_bits(bits);
            prop_assume!(double.is_finite());
            let text = of_double(double).unwrap();
            prop_assert_eq!(exactly(&text), Some(double));
            let theirs = serde_json_canonicalizer::to_string(&double).unwrap();
            prop_assert_eq!(Decimal::of(&text).unwrap().ecmascript(), theirs);
        }
    }
}
