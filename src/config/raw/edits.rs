//! `request_headers` and `response_headers` of a route as written.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::super::findings::Severity;
use super::super::route::HeaderEdits;
use super::key::{Entry, Key, Or, Section, Table, section};
use super::kinds::{Parsed, parsed};
use super::shapes::{At, List, list};
use super::sheet::{Place, Words};
use super::words::{Fields, header_name};

section! {
    /// Edits of a request's fields.
    pub(super) REQUEST_EDITS: RequestKeys {
        /// Fields removed.
        remove: List<Parsed<HeaderName>> = list(parsed("header field name", header_name)), Or("[]");
        /// Fields replaced, or added where they are not.
        set: Fields = Fields { sensitive: false }, Or("{}");
        /// Fields added beside what is there.
        add: Fields = Fields { sensitive: false }, Or("{}");
    }
}

section! {
    /// Edits of a response's fields.
    pub(super) RESPONSE_EDITS: ResponseKeys {
        /// Fields removed.
        remove: List<Parsed<HeaderName>> = list(parsed("header field name", header_name)), Or("[]");
        /// Fields replaced, or added where they are not.
        set: Fields = Fields { sensitive: false }, Or("{}");
        /// Fields added beside what is there.
        add: Fields = Fields { sensitive: false }, Or("{}");
    }
}

/// Fields of framing and of single hops: the proxy's own, never an operator's (RFC 9110 §7.6.1, RFC 9112 §6).
const FRAMING: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Request fields that the proxy writes from what it knows; an edit would let them lie.
const FORWARDED: [&str; 7] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-real-ip",
    "forwarded",
];

/// Request fields that Superset's login cannot do without: its CSRF check compares them.
const LOGIN: [&str; 5] = ["host", "referer", "origin", "cookie", "x-csrftoken"];

/// What edits of the request mean.
pub(super) fn request_edits(table: &Table<'_>) -> Option<HeaderEdits> {
    let remove = table.get(&REQUEST_EDITS.remove);
    let (set, add) = (table.get(&REQUEST_EDITS.set), table.get(&REQUEST_EDITS.add));
    let places = Places {
        set: table.place(&REQUEST_EDITS.set),
        add: table.place(&REQUEST_EDITS.add),
    };
    let edits = edits(table, &places, remove?, set?, add?)?;
    for (name, place) in edits.named(&places) {
        if FORWARDED.contains(&name.as_str()) {
            let words = Words::new(format!("edits `{name}`, which the proxy writes itself")).help("`clients` rules it");
            table.written.sheet.report(Severity::Error, place, words);
        } else if LOGIN.contains(&name.as_str()) {
            let words = Words::new(format!(
                "edits `{name}`, which Superset's login and CSRF check need unchanged"
            ));
            table.written.sheet.report(Severity::Warning, place, words);
        }
    }
    Some(edits.edits)
}

/// What edits of the response mean.
pub(super) fn response_edits(table: &Table<'_>) -> Option<HeaderEdits> {
    let remove = table.get(&RESPONSE_EDITS.remove);
    let (set, add) = (table.get(&RESPONSE_EDITS.set), table.get(&RESPONSE_EDITS.add));
    let places = Places {
        set: table.place(&RESPONSE_EDITS.set),
        add: table.place(&RESPONSE_EDITS.add),
    };
    let edits = edits(table, &places, remove?, set?, add?)?.edits;
    let written = [(&edits.set, &places.set), (&edits.add, &places.add)];
    for (fields, place) in written {
        let silent = |(name, value): &(HeaderName, HeaderValue)| {
            *name == header::REFERRER_POLICY && value.as_bytes().eq_ignore_ascii_case(b"no-referrer")
        };
        if fields.iter().any(silent) {
            let words = Words::new("makes browsers leave out `Referer`, without which Superset refuses every login");
            table.written.sheet.report(
                Severity::Warning,
                place,
                words.expected("`Referrer-Policy: same-origin`"),
            );
        }
    }
    Some(edits)
}

/// Places of the tables.
struct Places {
    set: Place,
    add: Place,
}

/// Edits with the places of what is removed.
struct Placed {
    edits: HeaderEdits,
    removed: Vec<Place>,
}

impl Placed {
    /// Every field that is edited, with the place that says so.
    fn named<'a>(&'a self, places: &'a Places) -> impl Iterator<Item = (&'a HeaderName, &'a Place)> {
        let removed = self.edits.remove.iter().zip(&self.removed);
        let set = self.edits.set.iter().map(|(name, _)| (name, &places.set));
        removed
            .chain(set)
            .chain(self.edits.add.iter().map(|(name, _)| (name, &places.add)))
    }
}

fn edits(
    table: &Table<'_>,
    places: &Places,
    remove: Vec<At<HeaderName>>,
    set: HeaderMap,
    add: HeaderMap,
) -> Option<Placed> {
    let (remove, removed) = remove.into_iter().map(|at| (at.value, at.place)).unzip();
    let placed = Placed {
        edits: HeaderEdits {
            remove,
            set: pairs(set),
            add: pairs(add),
        },
        removed,
    };
    let mut good = true;
    for (name, place) in placed.named(places).filter(|(name, _)| FRAMING.contains(name)) {
        good = false;
        let words = Words::new(format!("edits `{name}`, by which messages are framed"));
        table.written.sheet.report(
            Severity::Error,
            place,
            words.help("RFC 9110 §7.6.1: each hop writes its own"),
        );
    }
    good.then_some(placed)
}

fn pairs(fields: HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    fields
        .into_iter()
        .filter_map(|(name, value)| name.map(|name| (name, value)))
        .collect()
}
