//! Numbers and times as people read them.
//!
//! Part of `admin`, pure; what the dashboard says and what `top` says is the same.

use std::time::{SystemTime, UNIX_EPOCH};

/// A rate or another number that need not be exact: `0`, `0.4`, `12.5`, `1,240`.
pub fn rate(value: f64) -> String {
    match value {
        zero if zero < 0.05 => "0".to_owned(),
        small if small < 99.95 => format!("{small:.1}"),
        large => grouped(large),
    }
}

/// A duration in milliseconds: `0.4 ms`, `12 ms`, `1.3 s`; a dash for none.
pub fn millis(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(small) if small < 9.95 => format!("{small:.1} ms"),
        Some(middling) if middling < 999.5 => format!("{middling:.0} ms"),
        Some(long) if long < 99_950.0 => format!("{:.1} s", long / 1_000.0),
        Some(long) => format!("{:.0} s", long / 1_000.0),
    }
}

/// Bytes: `512 B`, `1.4 kB`, `20 MB`.
pub fn bytes(value: f64) -> String {
    let mut scaled = value.max(0.0);
    for unit in ["B", "kB", "MB", "GB"] {
        if scaled < 999.5 {
            return if scaled < 9.95 && unit != "B" {
                format!("{scaled:.1} {unit}")
            } else {
                format!("{scaled:.0} {unit}")
            };
        }
        scaled /= 1_000.0;
    }
    format!("{scaled:.1} TB")
}

/// An exact number, thousands apart.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as the two largest units: `42 s`, `5 min 3 s`, `2 h 10 min`, `12 d 4 h`.
pub fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: u64, unit: &str, small: u64, smaller: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {smaller}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => two(minutes, "min", seconds % 60, "s"),
        3_600..86_400 => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

/// How long ago something was, roughly.
pub fn ago(now: u64, then: Option<SystemTime>) -> String {
    let then = then.and_then(|then| then.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs());
    then.map_or_else(String::new, |then| rough((now / 1_000).saturating_sub(then)))
}

/// Seconds as the largest unit alone.
pub fn rough(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A time in UTC, `13:04:59`; with the date when it was not today.
pub fn clock(now: u64, at: u64) -> String {
    let stamp = |millis: u64| jiff::Timestamp::from_millisecond(i64::try_from(millis).unwrap_or(0)).unwrap_or_default();
    let form = if now / 86_400_000 == at / 86_400_000 { "%H:%M:%S" } else { "%Y-%m-%d %H:%M" };
    stamp(at).strftime(form).to_string()
}

/// Milliseconds since 1970.
pub fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn grouped(value: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are positive; `as` saturates")]
    let whole = value.round() as u64;
    count(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([rate(0.0), rate(0.44), rate(1240.2)], ["0", "0.4", "1,240"]);
        assert_eq!([millis(None), millis(Some(0.42)), millis(Some(1_260.0))], ["–", "0.4 ms", "1.3 s"]);
        assert_eq!([bytes(512.0), bytes(1_400.0), bytes(20e6)], ["512 B", "1.4 kB", "20 MB"]);
        assert_eq!([span(42), span(303), span(7_800), span(86_400)], ["42 s", "5 min 3 s", "2 h 10 min", "1 d"]);
        assert_eq!([count(999), count(1_000), count(1_234_567)], ["999", "1,000", "1,234,567"]);
    }
}
