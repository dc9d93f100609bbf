//! `request_headers` and `response_headers` of a route as written.

use http::{HeaderName, header};

use super::super::findings::Severity;
use super::super::route::HeaderEdits;
use super::key::{Entry, Key, Or, Section, Table, section};
use super::kinds::{Parsed, parsed};
use super::shapes::{At, List, list};
use super::sheet::{Place, Words};
use super::words::{Fields, header_name};
use crate::head::{self, HeaderValue};

section! {
    /// Edits of a request's fields.
    pub(super) REQUEST_EDITS: RequestKeys {
        /// Names of fields removed.
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
        /// Names of fields removed.
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
    let (set_at, add_at) = (table.place(&REQUEST_EDITS.set), table.place(&REQUEST_EDITS.add));
    let edits = Placed::new(remove?, set?, add?, [set_at, add_at]);
    let framing = edits.refuse_framing(table);
    for (name, place) in edits.named() {
        if FORWARDED.contains(&name.as_str()) {
            let words = Words::new(format!("edits `{name}`, which the proxy writes itself")).help("`clients` rules it");
            table.written.sheet.report(Severity::Error, place, words);
        } else if LOGIN.contains(&name.as_str()) {
            let words = Words::new(format!("edits `{name}`, which Superset's login and CSRF check need unchanged"));
            table.written.sheet.report(Severity::Warning, place, words);
        }
    }
    framing.map(|()| edits.edits)
}

/// What edits of the response mean.
pub(super) fn response_edits(table: &Table<'_>) -> Option<HeaderEdits> {
    let remove = table.get(&RESPONSE_EDITS.remove);
    let (set, add) = (table.get(&RESPONSE_EDITS.set), table.get(&RESPONSE_EDITS.add));
    let (set_at, add_at) = (table.place(&RESPONSE_EDITS.set), table.place(&RESPONSE_EDITS.add));
    let edits = Placed::new(remove?, set?, add?, [set_at, add_at]);
    let framing = edits.refuse_framing(table);
    for (fields, place) in [(&edits.edits.set, &edits.set), (&edits.edits.add, &edits.add)] {
        let silent = |(name, value): &(HeaderName, HeaderValue)| {
            *name == header::REFERRER_POLICY && value.as_bytes().eq_ignore_ascii_case(b"no-referrer")
        };
        if fields.iter().any(silent) {
            let words = Words::new("makes browsers leave out `Referer`, without which Superset refuses every login");
            table.written.sheet.report(Severity::Warning, place, words.expected("`Referrer-Policy: same-origin`"));
        }
    }
    framing.map(|()| edits.edits)
}

/// Edits with the places that say so.
struct Placed {
    edits: HeaderEdits,
    removed: Vec<Place>,
    set: Place,
    add: Place,
}

impl Placed {
    fn new(remove: Vec<At<HeaderName>>, set: head::Fields, add: head::Fields, places: [Place; 2]) -> Self {
        let (remove, removed) = remove.into_iter().map(|at| (at.value, at.place)).unzip();
        let edits = HeaderEdits { remove, set: pairs(set), add: pairs(add) };
        let [set, add] = places;
        Self { edits, removed, set, add }
    }

    /// Every field that is edited, with its place.
    fn named(&self) -> impl Iterator<Item = (&HeaderName, &Place)> {
        let removed = self.edits.remove.iter().zip(&self.removed);
        let set = self.edits.set.iter().map(|(name, _)| (name, &self.set));
        removed.chain(set).chain(self.edits.add.iter().map(|(name, _)| (name, &self.add)))
    }

    fn refuse_framing(&self, table: &Table<'_>) -> Option<()> {
        let mut good = Some(());
        for (name, place) in self.named().filter(|(name, _)| FRAMING.contains(name)) {
            good = None;
            let words = Words::new(format!("edits `{name}`, by which messages are framed"));
            table.written.sheet.report(Severity::Error, place, words.help("RFC 9110 §7.6.1: each hop writes its own"));
        }
        good
    }
}

fn pairs(fields: head::Fields) -> Vec<(HeaderName, HeaderValue)> {
    fields.into_iter().collect()
}
