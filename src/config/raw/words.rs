//! Texts of HTTP and of naming: names, hosts, paths, methods, statuses, header fields.

use http::{HeaderName, StatusCode};
use serde_json::{Value, json};

use super::key::{Describe, Kind};
use super::sheet::{Words, Written};
use crate::head::{self, HeaderValue};

/// A name that becomes a metric label: 1 to 64 letters, digits, `-`, `_`, `.`.
pub(crate) fn plain_name(text: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match text.len() {
        0 => Err("is empty".into()),
        1..=64 if text.chars().all(good) => Ok(()),
        1..=64 => Err("has characters that a name cannot have".into()),
        _ => Err("is longer than 64 characters".into()),
    }
}

/// A name as text.
pub(crate) fn name(text: &str) -> Result<String, String> {
    plain_name(text).map(|()| text.to_owned())
}

/// Any text of 1 to 1,024 visible characters and spaces.
pub(crate) fn short_text(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("is empty".into()),
        1..=1024 if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        1..=1024 => Err("has control characters".into()),
        _ => Err("is longer than 1,024 bytes".into()),
    }
}

/// Any text up to 64 KiB.
pub(crate) fn long_text(text: &str) -> Result<String, String> {
    if text.len() <= 64 * 1024 { Ok(text.to_owned()) } else { Err("is longer than 64 KiB".into()) }
}

/// A host pattern of a route, in lower case.
pub(crate) fn host_pattern(text: &str) -> Result<String, String> {
    let host = text.to_ascii_lowercase();
    let bare = host.strip_prefix("*.").unwrap_or(&host);
    if bare.contains('*') {
        return Err("may have a `*` only as its first label".into());
    }
    if host_with_port(bare).is_some() {
        return Err("must not have a port".into());
    }
    host_name(bare).map(|_| host.clone())
}

/// A host name or an IP address (IPv6 with brackets).
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let parsed = inner.parse::<std::net::Ipv6Addr>();
        return parsed.map(|_| text.to_owned()).map_err(|_| "is no IPv6 address".into());
    }
    let label = |label: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        (1..=63).contains(&label.len()) && label.chars().all(good)
    };
    let bare = text.strip_suffix('.').unwrap_or(text);
    if bare.len() <= 253 && bare.split('.').all(label) { Ok(text.to_owned()) } else { Err("is no host name".into()) }
}

/// Host and port, if both are there. IPv6 hosts come without their brackets.
pub(crate) fn host_with_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host_name(host).ok()?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::to_owned);
    port.parse().ok().map(|port| (bare.unwrap_or(host), port))
}

/// A path, as a request line would carry it, without a query.
pub(crate) fn path(text: &str) -> Result<String, String> {
    if text.contains(['?', '#']) {
        return Err("must not have a query or fragment".into());
    }
    path_and_query(text)
}

/// A path that may have a query.
pub(crate) fn path_and_query(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("does not begin with `/`".into());
    }
    if text.len() > 1024 || text.contains('#') || !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err("has characters that a path cannot have".into());
    }
    let path = text.split('?').next().unwrap_or(text);
    if path.contains("//") || path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("has empty, `.` or `..` segments, which no request matches".into());
    }
    Ok(text.to_owned())
}

/// A path prefix on segment borders: without its last slash, unless it is `/`.
pub(crate) fn prefix(text: &str) -> Result<String, String> {
    let path = path(text)?;
    let shorter = path.strip_suffix('/').filter(|rest| !rest.is_empty()).map(str::to_owned);
    Ok(shorter.unwrap_or(path))
}

/// A header field's name.
pub(crate) fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| "is no header field name".into())
}

/// A header field's value.
pub(crate) fn header_value(text: &str) -> Result<HeaderValue, String> {
    // RFC 9110 §5.5: visible characters, with spaces and tabs between them.
    if text != text.trim() {
        return Err("begins or ends with white space".into());
    }
    HeaderValue::from_str(text).map_err(|_| "has characters that a header field cannot have".into())
}

/// A status in a range.
pub(crate) struct Status {
    allowed: fn(u16) -> bool,
    range: &'static str,
}

/// Any final status.
pub(crate) const FINAL: Status = Status { allowed: |code| matches!(code, 200..600), range: "200 to 599" };
/// A status by which a server says that it failed.
pub(crate) const SERVER_ERROR: Status = Status { allowed: |code| matches!(code, 500..600), range: "500 to 599" };
/// A redirect's status.
pub(crate) const REDIRECT: Status =
    Status { allowed: |code| matches!(code, 301 | 302 | 303 | 307 | 308), range: "301, 302, 303, 307 or 308" };
/// The status of a refusal.
pub(crate) const REFUSAL: Status = Status { allowed: |code| matches!(code, 400..600), range: "400 to 599" };
/// How a tunnel that the endpoint closed silently is answered.
pub(crate) const SILENT_CLOSE: Status = Status { allowed: |code| matches!(code, 401 | 502), range: "401 or 502" };

impl Describe for Status {
    fn shape(&self) -> String {
        "status".into()
    }

    fn range(&self) -> String {
        self.range.into()
    }

    fn schema(&self) -> Value {
        json!({ "type": "integer", "minimum": 200, "maximum": 599 })
    }
}

impl Kind for Status {
    type Value = StatusCode;

    fn read(&self, written: &Written<'_>) -> Option<StatusCode> {
        let number = written.integer().and_then(|number| u16::try_from(number).ok());
        let status = number.filter(|&code| (self.allowed)(code)).and_then(|code| StatusCode::from_u16(code).ok());
        if status.is_none() {
            written.refuse("is not a status that fits here", self.range);
        }
        status
    }
}

/// Header fields by name.
pub(crate) struct Fields {
    /// Whether values may be secrets, so that nothing prints them.
    pub(crate) sensitive: bool,
}

impl Describe for Fields {
    fn shape(&self) -> String {
        "table of field names and values".into()
    }

    fn schema(&self) -> Value {
        json!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

impl Kind for Fields {
    type Value = head::Fields;

    fn read(&self, written: &Written<'_>) -> Option<head::Fields> {
        let Some(table) = written.value.as_table() else {
            written.wrong_type("a table of field names and values");
            return None;
        };
        if self.sensitive {
            for value in table.values() {
                written.below("", value.span(), value.get_ref()).hide();
            }
        }
        let mut fields = Some(head::Fields::new());
        for (key, value) in table {
            let value_written = written.below(key.get_ref(), value.span(), value.get_ref());
            let name = header_name(key.get_ref());
            let text = value.get_ref().as_str().ok_or_else(|| "is not a text".to_owned());
            let one = match (name, text.and_then(header_value)) {
                (Ok(name), Ok(value)) => Some((name, value)),
                (Err(problem), _) => {
                    written.below(key.get_ref(), key.span(), value.get_ref()).error(Words::new(problem));
                    None
                }
                (_, Err(problem)) => {
                    value_written.error(Words::new(problem).expected("a header field value"));
                    None
                }
            };
            fields = fields.zip(one).map(|(mut fields, (name, mut value))| {
                value.set_sensitive(self.sensitive);
                fields.insert(name, value);
                fields
            });
        }
        fields
    }
}
