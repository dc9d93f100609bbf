//! Durations and sizes as text.
//!
//! Floor 1, pure. In: text such as `"1.5s"` or `"64KiB"`. Out: [`Span`] or [`ByteSize`], whose `Display` gives a text
//! that parses to the same value. Deliberately absent: compound durations (`1m30s`) and lenient units (`64K`), since a
//! reader has to guess what they mean.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time, whole milliseconds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Span(pub Duration);

/// A number of bytes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ByteSize(pub u64);

/// Why a text is neither a duration nor a size.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnitError {
    /// Nothing but white space.
    #[error("is empty")]
    Empty,
    /// No digits in front.
    #[error("does not begin with a number")]
    NoNumber,
    /// Digits only, though a unit is needed.
    #[error("has no unit")]
    NoUnit,
    /// Something else behind the digits.
    #[error("has an unknown unit")]
    UnknownUnit,
    /// More than can be counted.
    #[error("is too large")]
    TooLarge,
    /// A fraction below the smallest step: 1 ms, or one byte.
    #[error("is finer than can be kept")]
    TooFine,
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Err(UnitError::NoUnit),
            _ => return Err(UnitError::UnknownUnit),
        };
        number.times(millis).map(Duration::from_millis).map(Self)
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text)?;
        let bytes = match unit {
            "" | "B" => 1,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(UnitError::UnknownUnit),
        };
        number.times(bytes).map(Self)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (seconds, rest) = (millis / 1_000, millis % 1_000);
        match millis {
            0 => f.write_str("0s"),
            _ if seconds == 0 => write!(f, "{millis}ms"),
            _ if rest != 0 => write!(f, "{}s", format!("{seconds}.{rest:03}").trim_end_matches('0')),
            _ if seconds % 86_400 == 0 => write!(f, "{}d", seconds / 86_400),
            _ if seconds % 3_600 == 0 => write!(f, "{}h", seconds / 3_600),
            _ if seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            _ => write!(f, "{seconds}s"),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let whole = |shift: u32| self.0 != 0 && self.0.trailing_zeros() >= shift;
        match units.into_iter().find(|&(shift, _)| whole(shift)) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A decimal number as its digits, so that no rounding happens.
struct Decimal {
    whole: u64,
    fraction: u64,
    /// 10 to the number of fraction digits.
    scale: u64,
}

impl Decimal {
    fn times(&self, unit: u64) -> Result<u64, UnitError> {
        let whole = self.whole.checked_mul(unit).ok_or(UnitError::TooLarge)?;
        let part = u128::from(self.fraction) * u128::from(unit);
        if part % u128::from(self.scale) != 0 {
            return Err(UnitError::TooFine);
        }
        let part = u64::try_from(part / u128::from(self.scale)).map_err(|_| UnitError::TooLarge)?;
        whole.checked_add(part).ok_or(UnitError::TooLarge)
    }
}

fn split(text: &str) -> Result<(Decimal, &str), UnitError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(UnitError::Empty);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).ok_or(UnitError::NoNumber)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(UnitError::NoNumber);
    }
    let digits = u32::try_from(fraction.len()).map_err(|_| UnitError::TooFine)?;
    let scale = 10u64.checked_pow(digits).ok_or(UnitError::TooFine)?;
    let decimal = Decimal {
        whole: whole.parse().map_err(|_| UnitError::TooLarge)?,
        fraction: fraction.parse().map_err(|_| UnitError::TooFine)?,
        scale,
    };
    Ok((decimal, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(text: &str) -> Result<u64, UnitError> {
        text.parse::<Span>().map(|span| u64::try_from(span.0.as_millis()).unwrap())
    }

    fn size(text: &str) -> Result<u64, UnitError> {
        text.parse::<ByteSize>().map(|size| size.0)
    }

    #[test]
    fn durations_are_read_to_the_millisecond() {
        assert_eq!(span("1.5s"), Ok(1_500));
        assert_eq!(span("300ms"), Ok(300));
        assert_eq!(span("2m"), Ok(120_000));
        assert_eq!(span("1h"), Ok(3_600_000));
        assert_eq!(span("365d"), Ok(31_536_000_000));
        assert_eq!(span("0s"), Ok(0));
        assert_eq!(span(" 10 s "), Ok(10_000));
    }

    #[test]
    fn bad_durations_say_why() {
        assert_eq!(span(""), Err(UnitError::Empty));
        assert_eq!(span("5"), Err(UnitError::NoUnit));
        assert_eq!(span("s"), Err(UnitError::NoNumber));
        assert_eq!(span("-1s"), Err(UnitError::NoNumber));
        assert_eq!(span("1.2.3s"), Err(UnitError::NoNumber));
        assert_eq!(span("1m30s"), Err(UnitError::UnknownUnit));
        assert_eq!(span("5 minutes"), Err(UnitError::UnknownUnit));
        assert_eq!(span("0.0001s"), Err(UnitError::TooFine));
        assert_eq!(span("99999999999999999999s"), Err(UnitError::TooLarge));
        assert_eq!(span("18446744073709551615h"), Err(UnitError::TooLarge));
    }

    #[test]
    fn sizes_are_binary_or_decimal_by_their_unit() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("16MiB"), Ok(16_777_216));
        assert_eq!(size("1.5GiB"), Ok(1_610_612_736));
        assert_eq!(size("200MB"), Ok(200_000_000));
        assert_eq!(size("1000"), Ok(1_000));
        assert_eq!(size("64K"), Err(UnitError::UnknownUnit));
        assert_eq!(size("1.5"), Err(UnitError::TooFine));
    }

    proptest! {
        #[test]
        fn durations_survive_their_own_text(millis in 0u64..1 << 53) {
            let written = Span(Duration::from_millis(millis));
            prop_assert_eq!(written.to_string().parse::<Span>(), Ok(written));
        }

        #[test]
        fn sizes_survive_their_own_text(bytes in any::<u64>(), shift in 0u32..64) {
            let written = ByteSize(bytes >> shift << shift);
            prop_assert_eq!(written.to_string().parse::<ByteSize>(), Ok(written));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            prop_assert!(text.parse::<Span>().is_ok() <= text.contains(['s', 'm', 'h', 'd']));
            prop_assert!(text.parse::<ByteSize>().is_ok() <= text.contains(|c: char| c.is_ascii_digit()));
        }
    }
}
