//! `[pools.NAME.objectives]`: what is promised of a pool.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What is promised of a pool, over 30 days.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Objectives {
    /// Share of exchanges that are answered, and not with a server error. Default 99.9 %.
    pub availability: Objective,
    /// Share of those answered whose answer begins within `latency_threshold`. Default 99.9 %.
    pub latency: Objective,
    /// From the request's last byte to the head of the answer. Default 10 s; 1 ms to 1 h.
    pub latency_threshold: Duration,
}

/// A share that is promised, in millionths; 50 % to 99.9999 %.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Objective(u32);

/// Why a text is no objective.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ObjectiveError {
    /// Not digits with `%`.
    #[error("is no percentage such as \"99.9%\"")]
    Malformed,
    /// Too little to be an objective, or everything: no budget is left to measure by.
    #[error("is out of range")]
    OutOfRange,
}

impl Default for Objectives {
    fn default() -> Self {
        let most = Objective(999_000);
        Self { availability: most, latency: most, latency_threshold: Duration::from_secs(10) }
    }
}

impl Objective {
    /// Everything, in the unit of objectives.
    const WHOLE: u32 = 1_000_000;

    /// The share that may fail, 0 to 1.
    pub fn budget(self) -> f64 {
        f64::from(Self::WHOLE - self.0) / f64::from(Self::WHOLE)
    }

    /// The share that is promised, 0 to 1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }
}

impl FromStr for Objective {
    type Err = ObjectiveError;

    fn from_str(text: &str) -> Result<Self, ObjectiveError> {
        let number = text.trim().strip_suffix('%').ok_or(ObjectiveError::Malformed)?.trim_end();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(ObjectiveError::Malformed);
        }
        let millionths = format!("{whole}{fraction:0<4}").parse().map_err(|_| ObjectiveError::Malformed)?;
        let within = (Self::WHOLE / 2..Self::WHOLE).contains(&millionths);
        if within { Ok(Self(millionths)) } else { Err(ObjectiveError::OutOfRange) }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Objective, ObjectiveError> {
        text.parse()
    }

    #[test]
    fn objectives_are_percentages_of_which_something_is_left() {
        assert_eq!(read("99.9%").map(Objective::budget), Ok(0.001));
        assert_eq!(read(" 99.95 % ").map(|of| of.to_string()), Ok("99.95%".to_owned()));
        assert_eq!(read("50%").map(Objective::share), Ok(0.5));
        assert_eq!(read("100%"), Err(ObjectiveError::OutOfRange));
        assert_eq!(read("49.9999%"), Err(ObjectiveError::OutOfRange));
        assert_eq!(read("99.9"), Err(ObjectiveError::Malformed));
        assert_eq!(read("99.%"), Err(ObjectiveError::Malformed));
        assert_eq!(read("99.99999%"), Err(ObjectiveError::Malformed));
    }

    proptest! {
        #[test]
        fn objectives_survive_their_own_text(millionths in 500_000u32..1_000_000) {
            prop_assert_eq!(Objective(millionths).to_string().parse(), Ok(Objective(millionths)));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            prop_assert!(text.parse::<Objective>().is_ok() <= text.contains('%'));
        }
    }
}
