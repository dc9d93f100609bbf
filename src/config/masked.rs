//! Keeps out of findings what people write before the `@` of an address: a user and a password.
//!
//! Floor 1, pure. No key of ours takes them, which is why they stand in a finding as soon as somebody tries.

use std::ops::Range;

/// The bytes of `text` that may be a user and a password: what stands before an `@` in a word with a colon.
pub(super) fn userinfo(text: &str) -> Vec<Range<usize>> {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`');
    let mut found = Vec::new();
    let mut start = 0;
    for word in text.split_inclusive(ends) {
        let begins = start;
        start += word.len();
        let Some(at) = word.rfind('@').filter(|_| word.contains(':')) else { continue };
        let scheme = word.find("://").map_or(0, |at| at + 3);
        if scheme < at {
            found.push(begins + scheme..begins + at);
        }
    }
    found
}

/// `text` with those bytes as `***`.
pub(super) fn without_userinfo(text: &str) -> String {
    let mut out = text.to_owned();
    for range in userinfo(text).into_iter().rev() {
        out.replace_range(range, "***");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_before_a_host_are_left_out() {
        for (text, shown) in [
            ("https://svc:S3cret@host/x", "https://***@host/x"),
            ("\"redis://:S3/c@ret@host:6379/0\"", "\"redis://***@host:6379/0\""),
            ("a = ['svc:S3cret@host:1', 'b:2'] # x", "a = ['***@host:1', 'b:2'] # x"),
            ("S3cret@host:6379 é", "***@host:6379 é"),
            ("names `tls://a:b@c`, twice: `tls://a:b@c`", "names `tls://***@c`, twice: `tls://***@c`"),
            ("record@1 me@example.com https://host:1/x", "record@1 me@example.com https://host:1/x"),
        ] {
            assert_eq!(without_userinfo(text), shown);
        }
    }
}
