//! Keeps out of findings what people write before the `@` of an address: a user and a password.
//!
//! Floor 1, pure. No key of ours takes them, which is why they stand in a finding as soon as somebody tries. A password may have
//! any character: in doubt more is left out.

use std::ops::Range;

const QUOTES: [char; 3] = ['"', '\'', '`'];

/// The bytes of `text` that may be a user and a password. Behind a scheme that is all up to the last `@` before the next
/// scheme that stands in quotes of its own, or before the end of the line; elsewhere, what stands before an `@` in a quoted text or
/// a word with a colon.
pub(super) fn userinfo(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let mut from = 0;
        for end in ends_of_schemes(line).into_iter().chain([line.len()]) {
            let part = line.get(from..end).unwrap_or_default();
            let ranges =
                if from == 0 { in_pieces(part) } else { part.rfind('@').map(|at| 0..at).into_iter().collect() };
            found.extend(ranges.into_iter().map(|range| start + from + range.start..start + from + range.end));
            from = end;
        }
        start += line.len();
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

/// The same for a value, which is an address as a whole or none.
pub(super) fn value_without_userinfo(value: &str) -> String {
    let scheme = value.find("://").filter(|at| scheme_behind(value, *at).is_some_and(str::is_empty));
    let scheme = scheme.map_or(0, |at| at + 3);
    match value.rfind('@').filter(|at| scheme < *at && value.contains(':')) {
        Some(at) => [value.get(..scheme), Some("***"), value.get(at..)].into_iter().flatten().collect(),
        None => value.to_owned(),
    }
}

/// The places behind the first `://` of a line and behind each whose scheme is the beginning of a quoted text.
fn ends_of_schemes(line: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    for (at, joint) in line.match_indices("://") {
        // What stands behind a colon is a password.
        let begins = |before: &str| before.ends_with(QUOTES) || (ends.is_empty() && !before.ends_with(':'));
        if scheme_behind(line, at).is_some_and(begins) {
            ends.push(at + joint.len());
        }
    }
    ends
}

/// What a scheme that ends at `end` stands behind.
fn scheme_behind(text: &str, end: usize) -> Option<&str> {
    let scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-');
    text.get(..end).map(|before| before.trim_end_matches(scheme))
}

/// The bytes before an `@` in each quoted text or word with a colon.
fn in_pieces(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let start = line.len() - rest.len();
        let (piece, behind) = rest.split_at(piece(rest));
        let open = usize::from(piece.starts_with(QUOTES));
        if let Some(at) = piece.rfind('@').filter(|at| open < *at && piece.contains(':')) {
            found.push(start + open..start + at);
        }
        rest = behind;
    }
    found
}

/// The length of the quoted text, the word or the blank that `text` begins with. A quote ends nothing within a word.
fn piece(text: &str) -> usize {
    let mut chars = text.char_indices();
    let Some((_, first)) = chars.next() else { return 0 };
    if first.is_whitespace() {
        return first.len_utf8();
    }
    if QUOTES.contains(&first) {
        let closes = |at: usize| {
            let next = text.get(at + 1..).and_then(|behind| behind.chars().next());
            next.is_none_or(|next| next.is_whitespace() || ",.;:)]}=#".contains(next))
                && !text.get(..at).is_some_and(|before| before.ends_with('\\'))
        };
        let close = text.match_indices(first).map(|(at, _)| at).find(|at| *at > 0 && closes(*at));
        return close.map_or(text.len(), |at| at + 1);
    }
    let mut before = first;
    let end = chars.find(|(_, c)| {
        let ends = c.is_whitespace() || (QUOTES.contains(c) && "=[({,".contains(before));
        before = *c;
        ends
    });
    end.map_or(text.len(), |(at, _)| at)
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

    #[test]
    fn quotes_and_blanks_in_a_password_show_no_part_of_it() {
        for password in ["it's", "a`b", "a b", "' b", "a ' b", "` b", "a\\\" b", "'", "a://b", "é 'ö", "a, 'b"] {
            for address in [format!("https://svc:{password}@host/x"), format!("https://:{password}@host:1 # ü")] {
                for text in
                    [address.clone(), format!("url = \"{address}\"\nb = 1"), format!("a\ncannot use `{address}`")]
                {
                    let shown = without_userinfo(&text);
                    assert_eq!(
                        shown,
                        text.replace(&format!("svc:{password}"), "***").replace(&format!(":{password}@"), "***@")
                    );
                }
            }
            let text = format!("a = [\"svc:{password}@host:1\", \"b:2\"] # x");
            assert_eq!(without_userinfo(&text), "a = [\"***@host:1\", \"b:2\"] # x");
            let value = value_without_userinfo(&format!("svc:{password}@host:1"));
            assert_eq!(value, "***@host:1");
        }
    }
}
