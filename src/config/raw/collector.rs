//! A collector as written, wherever one is named.

use http::Uri;

use super::super::collector::Collector;
use super::super::pool::UpstreamTls;
use super::key::{Entry, Key, May, Must, Or, Section, Table, section};
use super::kinds::{Flag, Lasting, MINUTE, Parsed, lasting, parsed};
use super::pool::{TLS, tls};
use super::secret::{Secret, SecretFields};
use super::shapes::{Sub, sub};
use super::sheet::Words;
use crate::head::HeaderValue;

section! {
    /// A collector that is sent batches over HTTP.
    pub(super) COLLECTOR: CollectorKeys {
        /// Where it is: `http://` or `https://`, host, port, path.
        url: Parsed<Uri> = parsed("URL", url), Must();
        /// TLS, for `https`.
        tls: Sub<UpstreamTls> = sub(&TLS, tls), Or("{}");
        /// The whole value of `Authorization`, such as `Bearer ...` or `Basic ...`.
        authorization: Secret = Secret, May("none");
        /// The value of `X-Scope-OrgID`, by which Loki and its kin tell tenants apart.
        tenant: Parsed<HeaderValue> = parsed("field value", tenant), May("none");
        /// Further fields of each request, such as a service's key, each with its secret's place.
        headers: SecretFields = SecretFields, Or("{}");
        /// Whether bodies are compressed with gzip.
        gzip: Flag = Flag, Or("false");
        /// Longest wait for a connection and an answer together.
        patience: Lasting = lasting(100, 5 * MINUTE), Or("'10s'");
    }
}

/// What a collector means.
pub(super) fn collector(table: &Table<'_>) -> Option<Collector> {
    let (url, tls) = (table.get(&COLLECTOR.url), table.get(&COLLECTOR.tls));
    let (authorization, tenant) = (table.get(&COLLECTOR.authorization), table.get(&COLLECTOR.tenant));
    let headers = table.get(&COLLECTOR.headers);
    let (gzip, patience) = (table.get(&COLLECTOR.gzip), table.get(&COLLECTOR.patience));
    if let Some(url) = &url
        && url.scheme_str() == Some("http")
    {
        if table.has(&COLLECTOR.tls) {
            table.warn(&COLLECTOR.tls, Words::new("has no effect with `http://`"));
        }
        let words = || Words::new("crosses the network unencrypted").expected("an `https://` URL");
        if table.has(&COLLECTOR.authorization) {
            table.warn(&COLLECTOR.authorization, words());
        }
        if table.has(&COLLECTOR.headers) {
            table.warn(&COLLECTOR.headers, words());
        }
    }
    Some(Collector {
        url: url?,
        tls: tls?,
        authorization: authorization?,
        tenant: tenant?,
        headers: headers?,
        gzip: gzip?,
        patience: patience?,
    })
}

fn url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|_| "is no URL")?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err("must begin with `http://` or `https://`".into());
    }
    match url.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err("must not hold a user: write `authorization` instead".into())
        }
        Some(authority) if authority.host().is_empty() => Err("has no host".into()),
        Some(_) => Ok(url),
        None => Err("has no host".into()),
    }
}

fn tenant(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| "cannot be sent in a field".into())
}
