//! The `Date` field (RFC 9110 §6.6.1) without formatting one for each answer.
//!
//! Floor 3. Used by the servers of all protocols. Each thread keeps the last second's text.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header;

use crate::head::{Fields, HeaderValue};

thread_local! {
    static LAST: RefCell<(u64, Option<HeaderValue>)> = const { RefCell::new((0, None)) };
}

/// Adds `Date` unless the answer has one already.
pub fn stamp(headers: &mut Fields) {
    if !headers.contains_key(header::DATE)
        && let Some(date) = now()
    {
        headers.append(header::DATE, date);
    }
}

/// The present time as a field value; `None` only if the clock stands before 1970.
pub fn now() -> Option<HeaderValue> {
    let time = SystemTime::now();
    let second = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    LAST.with_borrow_mut(|(last, value)| {
        if *last != second || value.is_none() {
            *value = HeaderValue::try_from(httpdate::fmt_http_date(time)).ok();
            *last = second;
        }
        value.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_of_the_endpoint_is_kept() {
        let mut headers = Fields::new();
        headers.insert(header::DATE, HeaderValue::from_static("Tue, 15 Nov 1994 08:12:31 GMT"));

        stamp(&mut headers);

        assert_eq!(headers[header::DATE], "Tue, 15 Nov 1994 08:12:31 GMT");
    }

    #[test]
    fn missing_date_is_added_in_the_fixed_format() {
        let mut headers = Fields::new();

        stamp(&mut headers);

        assert!(httpdate::parse_http_date(headers[header::DATE].to_str().unwrap()).is_ok());
    }
}
