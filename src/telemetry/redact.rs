//! Keeps secrets out of records.
//!
//! Floor 2, pure. Query values under secret keys become [`MARK`], whatever the case or percent-encoding of the key, also
//! when they sit in a URL that is itself a query value (`?next=/login?token=…`); so do values that look like a JSON Web
//! Token wherever they stand, and those that look like an e-mail address if that is wanted. User information in a `Referer`
//! and fragments are left out, and so is what of a client's address shall not be told. Deliberately absent: cookies and
//! `Authorization`; a record has no field for them.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;
use memchr::memmem::Finder;
use percent_encoding::percent_decode;

use super::scan::{self, Eight};
use crate::config::sink::Anonymise;

/// What stands for a secret value.
pub const MARK: &[u8] = b"***";

/// How often a key or value is decoded in search of a secret: proxies and login flows nest URLs in URLs.
const DEPTH: usize = 4;

/// Knows what is secret.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Redactor {
    keys: Box<[Box<[u8]>]>,
    /// The [`mark`]s of all keys.
    marks: u64,
    emails: bool,
    anonymise: Option<Anonymise>,
}

impl Redactor {
    /// Redacts the values under `keys`, in any case.
    pub fn new(keys: &[String]) -> Self {
        let keys: Box<[Box<[u8]>]> =
            keys.iter().map(|key| key.to_ascii_lowercase().into_bytes().into_boxed_slice()).collect();
        let marks = keys.iter().fold(0, |marks, key| marks | mark(key));
        Self { keys, marks, emails: false, anonymise: None }
    }

    /// Whether values that look like e-mail addresses are replaced as well.
    pub fn with_emails(self, emails: bool) -> Self {
        Self { emails, ..self }
    }

    /// How much of a client's address is told.
    pub fn with_prefix(self, anonymise: Option<Anonymise>) -> Self {
        Self { anonymise, ..self }
    }

    /// What is told of a client's address.
    pub fn client(&self, address: IpAddr) -> IpAddr {
        let Some(prefix) = self.anonymise else { return address };
        let address = address.to_canonical();
        let bits = if address.is_ipv4() { prefix.ipv4_prefix } else { prefix.ipv6_prefix };
        IpNet::new(address, bits).map_or(address, |network| network.trunc().addr())
    }

    /// Appends `path` and `query` with secret values replaced.
    pub fn target(&self, path: &str, query: Option<&str>, out: &mut Vec<u8>) {
        self.path(path.as_bytes(), out);
        if let Some(query) = query {
            out.push(b'?');
            self.query(query.as_bytes(), out);
        }
    }

    /// Appends a `Referer` with secret values replaced, without user information and fragment.
    pub fn referer(&self, referer: &[u8], out: &mut Vec<u8>) {
        // Nearly all have neither.
        let (place, query) = if scan::has_none(referer, |eight| eight.are(b'#') | eight.are(b'?')) {
            (referer, None)
        } else {
            before(before(referer, b"#").0, b"?")
        };
        let start = match place {
            [b'h', b't', b't', b'p', b's', b':', b'/', b'/', ..] => b"https://".len(),
            _ => place.windows(2).position(|two| two == b"//").map_or(0, |at| at + 2),
        };
        let (scheme, rest) = place.split_at_checked(start).unwrap_or((place, b""));
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'\\')).unwrap_or(rest.len());
        // RFC 3986 §3.2.1: everything in the authority before the last `@`.
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, b""));
        out.extend_from_slice(scheme);
        out.extend_from_slice(without_user(authority));
        self.path(path, out);
        if let Some(query) = query {
            out.push(b'?');
            self.query(query, out);
        }
    }

    /// Appends a path. What Superset sends by mail to activate an account is a secret in it.
    fn path(&self, path: &[u8], out: &mut Vec<u8>) {
        // Nearly all paths.
        if !may_have_token(path) && !may_activate(path) {
            return out.extend_from_slice(path);
        }
        let mut activation = false;
        for (at, segment) in path.split(|byte| *byte == b'/').enumerate() {
            if at > 0 {
                out.push(b'/');
            }
            let secret = (activation && !segment.is_empty()) || has_token(segment);
            out.extend_from_slice(if secret { MARK } else { segment });
            activation = segment == b"activation";
        }
    }

    fn query(&self, query: &[u8], out: &mut Vec<u8>) {
        let mut rest = query;
        loop {
            let end = memchr::memchr2(b'&', b';', rest).unwrap_or(rest.len());
            let (pair, after) = rest.split_at_checked(end).unwrap_or((rest, b""));
            self.pair(pair, out);
            let Some((delimiter, next)) = after.split_first() else {
                return;
            };
            out.push(*delimiter);
            rest = next;
        }
    }

    fn pair(&self, pair: &[u8], out: &mut Vec<u8>) {
        let (key, value) = before(pair, b"=");
        let Some(value) = value else {
            // No value of its own, but an encoded `=` may hide one.
            out.extend_from_slice(if self.hides_secret(key) { MARK } else { key });
            return;
        };
        let secret = self.is_secret(key) || self.hides_secret(value);
        out.extend_from_slice(if self.hides_secret(key) { MARK } else { key });
        out.push(b'=');
        out.extend_from_slice(if secret && !value.is_empty() { MARK } else { value });
    }

    /// Whether `key`, decoded as often as it takes, is secret.
    fn is_secret(&self, key: &[u8]) -> bool {
        let mut key = Cow::Borrowed(key);
        for _ in 0..DEPTH {
            let plain = key.trim_ascii();
            if self.marks & mark(plain) != 0 && self.keys.iter().any(|known| known.eq_ignore_ascii_case(plain)) {
                return true;
            }
            if scan::has_none(&key, |eight| eight.are(b'%') | eight.are(b'+')) {
                return false;
            }
            key = Cow::Owned(decoded(&key));
        }
        // Still encoded after that many rounds: nobody honest writes such a key.
        key.contains(&b'%')
    }

    /// Whether `value` looks like a secret by itself.
    fn looks_secret(&self, value: &[u8]) -> bool {
        has_token(value) || (self.emails && has_email(value))
    }

    /// Whether `value`, decoded as often as it takes, holds a query with a secret in it.
    fn hides_secret(&self, value: &[u8]) -> bool {
        let seen = glance(value);
        if seen == Glance::Plain {
            return false;
        }
        if seen == Glance::NoPair {
            let plain = if value.contains(&b'%') { Cow::Owned(decoded(value)) } else { Cow::Borrowed(value) };
            return self.looks_secret(&plain);
        }
        let mut value = Cow::Borrowed(value);
        for _ in 0..DEPTH {
            let pairs = value.split(|byte| matches!(byte, b'?' | b'&' | b';' | b'#'));
            let named = pairs
                .filter_map(|pair| before(pair, b"=").1.map(|_| before(pair, b"=").0))
                .any(|key| self.is_secret(key));
            if named || self.looks_secret(&value) {
                return true;
            }
            if !value.contains(&b'%') {
                return false;
            }
            value = Cow::Owned(decoded(&value));
        }
        value.contains(&b'%')
    }
}

/// Whether a JSON Web Token is in `text`: the beginning of an object and a second part, in base64url (RFC 7519 §3).
fn has_token(text: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    may_have_token(text)
        && BEGINNING.find_iter(text).any(|at| {
            let rest = text.get(at..).unwrap_or_default();
            let head = rest.iter().take_while(|byte| letter(byte)).count();
            let payload = rest.get(head + 1..).unwrap_or_default().iter().take_while(|byte| letter(byte)).count();
            rest.get(head) == Some(&b'.') && head >= 8 && payload >= 4
        })
}

/// How a JSON Web Token begins. Made once: making it takes longer than looking through most values.
static BEGINNING: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"eyJ"));

/// Few texts have the dot that stands between two parts, and fewer the beginning of one.
fn may_have_token(text: &[u8]) -> bool {
    !scan::has_none(text, |eight| eight.are(b'.')) && BEGINNING.find(text).is_some()
}

/// Whether `activation` is in a path. Few have both of its rarer letters.
fn may_activate(path: &[u8]) -> bool {
    !scan::has_none(path, |eight| eight.are(b'v'))
        && !scan::has_none(path, |eight| eight.are(b'n'))
        && path.windows(10).any(|part| part == b"activation")
}

/// One bit of 64 for a key's length, first and last letter, in any case: most keys of a query share it with no secret one.
fn mark(key: &[u8]) -> u64 {
    let letter = |byte: Option<&u8>| byte.map_or(0, |byte| usize::from(byte.to_ascii_lowercase()));
    1 << ((2 * letter(key.first()) + 45 * letter(key.last()) + key.len()) % 64)
}

/// Whether something in `text` looks like an e-mail address.
fn has_email(text: &[u8]) -> bool {
    memchr::memchr_iter(b'@', text).any(|at| {
        let (user, host) = (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default());
        let named =
            user.last().is_some_and(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"_-+.%".contains(byte));
        let label = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.') || !byte.is_ascii();
        let host: Vec<u8> = host.iter().copied().take_while(label).collect();
        let host = host.strip_suffix(b".").unwrap_or(&host);
        named && memchr::memrchr(b'.', host).is_some_and(|dot| dot > 0 && host.len() - dot > 2)
    })
}

/// `host` without user information; a `Host` field may not have any (RFC 9110 §4.2.4), a hostile one may.
pub(super) fn without_user(authority: &[u8]) -> &[u8] {
    if scan::has_none(authority, |eight| eight.are(b'@')) {
        return authority;
    }
    authority.rsplit(|byte| *byte == b'@').next().unwrap_or_default()
}

/// What a value can be.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Glance {
    /// Nothing that is secret by itself: it has neither the dot of a token nor the `@` of an address, however written.
    Plain,
    /// No `=`, however often it is decoded: nothing but escapes of other bytes, each escaped once.
    NoPair,
    /// Perhaps a query of its own.
    Pair,
}

fn glance(text: &[u8]) -> Glance {
    let special = |eight: Eight| eight.are(b'%') | eight.are(b'=') | eight.are(b'.') | eight.are(b'@');
    if scan::has_none(text, special) {
        return Glance::Plain;
    }
    let (mut rest, mut seen) = (text, Glance::Plain);
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'=', _) | (b'%', [b'2', b'5', ..] | [b'3', b'd' | b'D', ..]) => return Glance::Pair,
            (b'.' | b'@', _) | (b'%', [b'2', b'e' | b'E', ..] | [b'4', b'0', ..]) => seen = Glance::NoPair,
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest = after,
            (b'%', _) => return Glance::Pair,
            _ => {}
        }
    }
    seen
}

fn decoded(text: &[u8]) -> Vec<u8> {
    percent_decode(text).map(|byte| if byte == b'+' { b' ' } else { byte }).collect()
}

/// Splits at the first `delimiter`, a single byte.
fn before<'a>(text: &'a [u8], delimiter: &[u8; 1]) -> (&'a [u8], Option<&'a [u8]>) {
    let [delimiter] = *delimiter;
    match text.iter().position(|byte| *byte == delimiter) {
        Some(at) => match text.split_at_checked(at) {
            Some((head, [_, tail @ ..])) => (head, Some(tail)),
            _ => (text, None),
        },
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor() -> Redactor {
        Redactor::new(&["token".to_owned(), "Code".to_owned(), "password".to_owned()])
    }

    fn target(text: &str) -> String {
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        let mut out = Vec::new();
        redactor().target(path, query, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn referer(text: &str) -> String {
        let mut out = Vec::new();
        redactor().referer(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn secret_values_are_replaced_and_others_stay() {
        for (given, expected) in [
            ("/a", "/a"),
            ("/a?", "/a?"),
            ("/a?x=1&y=2", "/a?x=1&y=2"),
            ("/a?token=s3&x=1", "/a?token=***&x=1"),
            ("/a?x=1&TOKEN=s3", "/a?x=1&TOKEN=***"),
            ("/a?code=s3;password=s4", "/a?code=***;password=***"),
            ("/a?token=a=b=c", "/a?token=***"),
            ("/a?token=", "/a?token="),
            ("/a?tokens=1&mytoken=2", "/a?tokens=1&mytoken=2"),
            ("/api?q=(key:abc,page:1)", "/api?q=(key:abc,page:1)"),
        ] {
            assert_eq!(target(given), expected);
        }
    }

    #[test]
    fn encoded_keys_are_recognised() {
        for given in ["/?%74oken=s3", "/?%54%4f%4b%45%4e=s3", "/?%2574oken=s3", "/?+token=s3", "/?token%20=s3"] {
            assert!(!target(given).contains("s3"), "{given}");
        }
    }

    #[test]
    fn secrets_in_nested_urls_are_replaced() {
        for given in [
            "/login?next=%2Fa%3Ftoken%3Ds3",
            "/login?next=/a?token=s3",
            "/login?next=%252Fa%253Fx%253D1%2526token%253Ds3",
            "/login?next=%2Fa%23token%3Ds3",
            "/login?token%3Ds3",
        ] {
            assert!(!target(given).contains("s3"), "{given} gave {}", target(given));
        }
        assert_eq!(target("/login?next=%2Fa%3Fx%3D1"), "/login?next=%2Fa%3Fx%3D1");
    }

    #[test]
    fn none_of_supersets_secrets_is_told() {
        // The defaults of `clients.secret_query_keys`, and where Superset has secrets in URLs.
        let keys = [
            "token",
            "access_token",
            "refresh_token",
            "id_token",
            "guest_token",
            "csrf_token",
            "code",
            "state",
            "password",
            "secret",
            "api_key",
            "signature",
            "session",
        ];
        let redactor = Redactor::new(&keys.map(str::to_owned)).with_emails(true);
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJTM0NSM1QifQ.S3CR3T-sig";
        for given in [
            "/oauth-authorized/google?code=S3CR3T&state=S3CR3T".to_owned(),
            "/embedded/4c2?guest_token=S3CR3T".to_owned(),
            "/api/v1/security/csrf_token/?csrf_token=S3CR3T".to_owned(),
            "/login/?next=%2Fsuperset%2Fdashboard%2F1%3Fpassword%3DS3CR3T".to_owned(),
            format!("/ws?tab_id=1&async-token={jwt}"),
            format!("/embedded/4c2?t={}", jwt.replace('.', "%2E")),
            format!("/api/v1/guest/{jwt}/x"),
            "/register/activation/S3CR3T".to_owned(),
            "/api/v1/chart/data?q=(filters:!((col:email,opr:eq,value:S3CR3T@example.com)))".to_owned(),
            "/users/list/?_flt_0_email=S3CR3T%40example.com".to_owned(),
            "/users/list/?_flt_0_email=S3CR3T%2540example.co.uk&x=1".to_owned(),
        ] {
            let (path, query) =
                given.split_once('?').map_or((given.as_str(), None), |(path, query)| (path, Some(query)));
            let mut out = Vec::new();
            redactor.target(path, query, &mut out);
            redactor.referer(format!("https://bi.example.com{given}").as_bytes(), &mut out);
            let out = String::from_utf8(out).unwrap();
            assert!(!out.contains("S3CR3T") && !out.contains("eyJzdWIi"), "{given} gave {out}");
        }
    }

    #[test]
    fn what_only_looks_a_little_like_a_secret_stays() {
        let redactor = redactor().with_emails(true);
        for (path, query) in [
            ("/superset/dashboard/p/abc", "native_filters_key=eyJ&standalone=3"),
            ("/static/assets/theme@2x.png", "v=1.2.3"),
            ("/api/v1/chart/data", "form_data=(a:b@,c:d)&at=@"),
            ("/register/form", "x=a@b"),
        ] {
            let mut out = Vec::new();
            redactor.target(path, Some(query), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{path}?{query}"));
        }
        let mut out = Vec::new();
        Redactor::new(&[]).target("/a", Some("mail=a@b.example"), &mut out);
        assert_eq!(out, b"/a?mail=a@b.example");
    }

    #[test]
    fn of_an_address_only_the_beginning_is_told() {
        let told = |address: &str| {
            let prefix = Anonymise { ipv4_prefix: 24, ipv6_prefix: 48 };
            Redactor::default().with_prefix(Some(prefix)).client(address.parse().unwrap()).to_string()
        };

        assert_eq!(told("203.0.113.9"), "203.0.113.0");
        assert_eq!(told("::ffff:203.0.113.9"), "203.0.113.0");
        assert_eq!(told("2001:db8:1:2:3::4"), "2001:db8:1::");
    }

    #[test]
    fn referer_loses_user_fragment_and_secrets() {
        for (given, expected) in [
            ("https://bi.example.com/a?x=1", "https://bi.example.com/a?x=1"),
            ("https://bi.example.com/a?token=s3#frag", "https://bi.example.com/a?token=***"),
            ("https://u:p@bi.example.com/a@b", "https://bi.example.com/a@b"),
            ("https://u:p@x@bi.example.com", "https://bi.example.com"),
            ("https://bi.example.com?code=s3", "https://bi.example.com?code=***"),
            ("//u:p@h/", "//h/"),
            ("u:p@h/", "h/"),
            ("/a@b?x=1", "/a@b?x=1"),
        ] {
            assert_eq!(referer(given), expected);
        }
    }

    proptest! {
        #[test]
        fn no_secret_value_survives_whatever_surrounds_it(
            head in "[ -~]{0,12}",
            key_case in proptest::collection::vec(any::<(bool, bool)>(), 5),
            tail in "[ -~]{0,12}",
            level in 0usize..3,
        ) {
            let key: String = "token".chars().zip(&key_case).map(|(letter, (upper, encode))| {
                let letter = if *upper { letter.to_ascii_uppercase() } else { letter };
                if *encode { format!("%{:02X}", u32::from(letter)) } else { letter.to_string() }
            }).collect();
            let mut pair = format!("{key}=S3CR3T");
            for _ in 0..level {
                pair = format!("next={}", percent_encoding::utf8_percent_encode(
                    &format!("/x?{pair}"), percent_encoding::NON_ALPHANUMERIC));
            }
            let text = format!("/p?{head}&{pair}&{tail}");

            prop_assert!(!target(&text).contains("S3CR3T"), "{}", target(&text));
            let url = format!("https://h/{text}");
            prop_assert!(!referer(&url).contains("S3CR3T"), "{}", referer(&url));
        }

        #[test]
        fn text_that_holds_no_pair_holds_none_however_often_it_is_decoded(text in "([%=&a+.@]|%3[dDaA]|%2[05eE]|%40|25|3D){0,12}") {
            let mut text = text.into_bytes();
            let seen = glance(&text);
            prop_assume!(seen != Glance::Pair);
            for _ in 0..DEPTH {
                prop_assert!(!text.contains(&b'='));
                text = decoded(&text);
            }
            prop_assert!(!text.contains(&b'=') && !text.contains(&b'%'));
            let marked = text.contains(&b'.') || text.contains(&b'@');
            prop_assert_eq!(marked, seen == Glance::NoPair);
        }

        #[test]
        fn queries_without_secret_keys_pass_unchanged(query in "[a-z0-9=&/_.-]{0,40}") {
            prop_assume!(!["token", "code", "password"].iter().any(|key| query.contains(key)));
            prop_assert_eq!(target(&format!("/p?{query}")), format!("/p?{query}"));
        }
    }
}
