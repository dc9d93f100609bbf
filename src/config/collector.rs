//! Where a collector is that is sent batches over HTTP: of logs, traces or metrics.

use std::time::Duration;

use http::{HeaderName, Uri};

use crate::head::HeaderValue;

use super::pool::UpstreamTls;
use super::secret::SecretSource;

/// A collector.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Collector {
    /// `http` or `https`, host, port and a path that others go behind.
    pub url: Uri,
    /// TLS, for `https`.
    pub tls: UpstreamTls,
    /// What `Authorization` says. Default: none.
    pub authorization: Option<SecretSource>,
    /// What `X-Scope-OrgID` says, for Loki and its kin. Default: none.
    pub tenant: Option<HeaderValue>,
    /// Further fields of each request, their values secrets. Default: none.
    pub headers: Vec<(HeaderName, SecretSource)>,
    /// Whether bodies are compressed. Default: no.
    pub gzip: bool,
    /// Longest wait for a connection and an answer together. Default 10 s.
    pub patience: Duration,
}
