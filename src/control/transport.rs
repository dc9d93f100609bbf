//! Takes batches of bytes to collectors over HTTP, and gRPC over HTTP/2.
//!
//! Floor 5. In: where a [`Collector`] is, and bodies. Out: what became of each, as a [`Delivery`] that says whether it may
//! be sent again. Every wait and every answer has a bound; connections are kept and used again; nothing is followed,
//! repeated or remembered here. For threads and tasks of the control side alone: a worker never sends anything this way.

use std::cmp::Reverse;
use std::io::Write as _;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::percent_decode_str;
use rustls_pki_types::ServerName;

use crate::config::collector::Collector;
use crate::config::secret::SecretError;
use crate::tls::{self, LoadError};

/// A collector, with its connections.
#[derive(Clone, Debug)]
pub struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: Uri,
    fields: HeaderMap,
    gzip: bool,
    patience: Duration,
    /// Longest answer.
    answer: usize,
}

/// What is spoken to a collector.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Speaks {
    /// HTTP/1.1, or HTTP/2 where TLS agrees on it.
    Http,
    /// HTTP/2 alone, as gRPC wants.
    Grpc,
}

/// What became of a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Delivery {
    /// The collector has it.
    Taken,
    /// It may have it or not, and may be sent it again: after this pause, if it named one.
    Later {
        /// The pause it asked for, at most [`LONGEST_PAUSE`].
        after: Option<Duration>,
        /// Why.
        why: String,
    },
    /// It will never take it.
    Refused {
        /// Why.
        why: String,
    },
}

/// Why there is no transport.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Certificates or keys.
    #[error("TLS")]
    Tls(#[from] LoadError),
    /// A field's value cannot be read.
    #[error("field {field}")]
    Secret {
        /// Its name.
        field: HeaderName,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// The password of a user cannot be read.
    #[error("password")]
    Password(#[from] SecretError),
    /// A field's value cannot be sent.
    #[error("field {0} has bytes that no field can carry")]
    Value(HeaderName),
    /// The name to verify is none.
    #[error("server name {0} cannot be verified")]
    Name(String),
}

/// Longest pause that a collector can ask for.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Longest answer; what collectors say is short, but for those that say a word on each record.
const ANSWER: usize = 1024 * 1024;

/// Age of an idle connection at which it is closed.
const IDLE: Duration = Duration::from_secs(30);

/// Shortest part of a field's value that is taken for a secret in an answer.
const SECRET: usize = 8;

/// Bytes before a message of gRPC.
const PREFIX: usize = 5;

/// Longest part of an answer that goes to an event, in characters.
const SHOWN: usize = 200;

impl Transport {
    /// A transport to `to`; nothing is connected yet. Reads the files and secrets that it names.
    ///
    /// # Errors
    /// A file or a secret that cannot be used.
    pub fn new(to: &Collector, speaks: Speaks) -> Result<Self, TransportError> {
        let mut security = tls::client::load(&to.tls)?.as_ref().clone();
        // The connector says what it speaks.
        security.alpn_protocols.clear();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(to.patience));
        let mut builder = HttpsConnectorBuilder::new().with_tls_config(security).https_or_http();
        if let Some(name) = &to.tls.server_name {
            let name = ServerName::try_from(name.clone()).map_err(|_| TransportError::Name(name.clone()))?;
            builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        let connector = match speaks {
            Speaks::Http => builder.enable_all_versions().wrap_connector(connector),
            Speaks::Grpc => builder.enable_http2().wrap_connector(connector),
        };
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(2);
        client.http2_only(speaks == Speaks::Grpc);

        let mut fields = HeaderMap::new();
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!("sluicegate/", env!("CARGO_PKG_VERSION"))));
        let authorization = to.authorization.as_ref().map(|secret| (&AUTHORIZATION, secret));
        for (field, secret) in to.headers.iter().map(|(field, secret)| (field, secret)).chain(authorization) {
            let secret = secret.read().map_err(|source| TransportError::Secret { field: field.clone(), source })?;
            let mut value =
                HeaderValue::from_bytes(secret.expose()).map_err(|_| TransportError::Value(field.clone()))?;
            value.set_sensitive(true);
            fields.insert(field, value);
        }
        if let Some(tenant) = &to.tenant {
            fields.insert(HeaderName::from_static("x-scope-orgid"), tenant.clone().into());
        }
        Ok(Self {
            client: client.build(connector),
            base: to.url.clone(),
            fields,
            gzip: to.gzip,
            patience: to.patience,
            answer: ANSWER,
        })
    }

    /// The same for answers that are longer than others' by at most `more` bytes.
    pub const fn hearing(mut self, more: usize) -> Self {
        self.answer = ANSWER.saturating_add(more);
        self
    }

    /// Posts `body` to the collector's URL with `path` behind it; gives what the collector said, too.
    pub async fn post(&self, path: &str, content: &'static str, body: Bytes) -> (Delivery, Bytes) {
        let body = match self.packed(body, BytesMut::new()).await {
            Ok(body) => body,
            Err(why) => return (Delivery::Later { after: None, why }, Bytes::new()),
        };
        match self.ask(path, content, body, Version::HTTP_11).await {
            Ok(answer) => (judge(&answer, &self.secrets()), answer.body),
            Err(why) => (Delivery::Later { after: None, why }, Bytes::new()),
        }
    }

    /// Calls `method` (`/package.Service/Method`) with one protobuf message; gives the message of the answer, too. The
    /// collector's URL has no path of its own.
    pub async fn call(&self, method: &str, message: Bytes) -> (Delivery, Bytes) {
        // One message: whether it is compressed, its length, itself.
        let mut body = BytesMut::with_capacity(message.len() + PREFIX);
        body.put_u8(self.gzip.into());
        body.put_u32(0);
        let mut body = match self.packed(message, body).await {
            Ok(body) => BytesMut::from(body),
            Err(why) => return (Delivery::Later { after: None, why }, Bytes::new()),
        };
        let Ok(length) = u32::try_from(body.len() - PREFIX) else {
            return (Delivery::Refused { why: "message beyond 4 GiB".into() }, Bytes::new());
        };
        if let Some(mut place) = body.get_mut(1..PREFIX) {
            place.put_u32(length);
        }
        match self.ask(method, "application/grpc", body.freeze(), Version::HTTP_2).await {
            Ok(answer) => (
                judge_call(&answer, &self.secrets()),
                answer.body.get(PREFIX..).map(Bytes::copy_from_slice).unwrap_or_default(),
            ),
            Err(why) => (Delivery::Later { after: None, why }, Bytes::new()),
        }
    }

    /// What must not be shown of an answer: a collector may repeat what it was sent.
    fn secrets(&self) -> Vec<&str> {
        let fields = self.fields.values().filter(|value| value.is_sensitive()).filter_map(|value| value.to_str().ok());
        // `Bearer ...`: the word is none, what follows is.
        let mut secrets: Vec<&str> = fields.flat_map(|field| field.split(' ')).filter(|s| s.len() >= SECRET).collect();
        // One may be the beginning of another.
        secrets.sort_by_key(|secret| Reverse(secret.len()));
        secrets
    }

    /// `body` behind what is in `into`, compressed if that is wanted: on a thread that others do not wait for.
    async fn packed(&self, body: Bytes, mut into: BytesMut) -> Result<Bytes, String> {
        if !self.gzip {
            if into.is_empty() {
                return Ok(body);
            }
            into.put_slice(&body);
            return Ok(into.freeze());
        }
        let packing = tokio::task::spawn_blocking(move || {
            let mut encoder = GzEncoder::new(into.writer(), Compression::fast());
            encoder.write_all(&body)?;
            Ok::<_, std::io::Error>(encoder.finish()?.into_inner().freeze())
        });
        let packed = packing.await.map_err(|error| error.to_string())?;
        packed.map_err(|error| error.to_string())
    }

    async fn ask(&self, path: &str, content: &'static str, body: Bytes, version: Version) -> Result<Answer, String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = joined(&self.base, path).map_err(|error| error.to_string())?;
        *request.version_mut() = version;
        *request.headers_mut() = self.fields.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
        let gzip = HeaderValue::from_static("gzip");
        match (version, self.gzip) {
            (Version::HTTP_2, gzipped) => {
                request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
                if gzipped {
                    request.headers_mut().insert(HeaderName::from_static("grpc-encoding"), gzip);
                }
            }
            (_, true) => {
                request.headers_mut().insert(CONTENT_ENCODING, gzip);
            }
            (_, false) => {}
        }
        let whole = async {
            let response = self.client.request(request).await.map_err(|error| chain(&error))?;
            let (head, body) = response.into_parts();
            let collected = Limited::new(body, self.answer).collect().await.map_err(|error| chain(error.as_ref()))?;
            let trailers = collected.trailers().cloned();
            Ok(Answer { status: head.status, fields: head.headers, trailers, body: collected.to_bytes() })
        };
        match tokio::time::timeout(self.patience, whole).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {:?}", self.patience)),
        }
    }
}

/// A whole answer.
struct Answer {
    status: StatusCode,
    fields: HeaderMap,
    trailers: Option<HeaderMap>,
    body: Bytes,
}

/// The URL with `path` behind its own.
fn joined(base: &Uri, path: &str) -> Result<Uri, http::Error> {
    let before = base.path().trim_end_matches('/');
    let path = match (before, path) {
        ("", "") => "/".to_owned(),
        (before, path) => format!("{before}{path}"),
    };
    let path = match base.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(path.parse()?);
    Ok(Uri::from_parts(parts)?)
}

/// The beginning of what a collector said, without secrets, and nothing that a terminal obeys.
fn shown(said: &str, secrets: &[&str]) -> String {
    let mut said = said.to_owned();
    for secret in secrets {
        said = said.replace(secret, "***");
    }
    // Only now: half a secret would not have been found.
    said.chars().take(SHOWN).flat_map(char::escape_debug).collect()
}

/// What an HTTP answer means for what was sent.
fn judge(answer: &Answer, secrets: &[&str]) -> Delivery {
    let why = || format!("{}: {}", answer.status, shown(&String::from_utf8_lossy(&answer.body), secrets));
    match answer.status.as_u16() {
        200..=299 => Delivery::Taken,
        // The body itself is what is wrong: it would be so the next time.
        400 | 405 | 406 | 411 | 413 | 414 | 415 | 422 | 431 => Delivery::Refused { why: why() },
        // Busy or broken (RFC 9110 §15.6, RFC 6585 §4), or set up wrongly (a token, a path), which somebody will mend.
        _ => Delivery::Later { after: pause(&answer.fields), why: why() },
    }
}

/// What a gRPC answer means, by the codes that OTLP calls retryable.
fn judge_call(answer: &Answer, secrets: &[&str]) -> Delivery {
    if answer.status != StatusCode::OK {
        return judge(answer, secrets);
    }
    // A call that ends at once has its status in the head.
    let trailers = answer.trailers.as_ref().unwrap_or(&answer.fields);
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let code = text("grpc-status");
    let why = || {
        // Percent-encoded by gRPC's rules, a secret within it likewise.
        let message = percent_decode_str(text("grpc-message")).decode_utf8_lossy();
        format!("grpc-status {code}: {}", shown(&message, secrets))
    };
    match code {
        "0" => Delivery::Taken,
        // Cancelled, unknown, deadline, permission, exhausted, aborted, out of range, unimplemented (an empty server while
        // it starts), internal, unavailable, data loss, unauthenticated; and no status at all.
        "" | "1" | "2" | "4" | "7" | "8" | "10" | "11" | "12" | "13" | "14" | "15" | "16" => {
            Delivery::Later { after: pause(&answer.fields), why: why() }
        }
        _ => Delivery::Refused { why: why() },
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3).
fn pause(fields: &HeaderMap) -> Option<Duration> {
    let text = fields.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(text).ok()?;
            at.duration_since(std::time::SystemTime::now()).unwrap_or_default()
        }
    };
    Some(asked.min(LONGEST_PAUSE))
}

/// An error with its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    crate::telemetry::events::Chain(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, fields: &[(&'static str, &str)]) -> Answer {
        let fields = fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            fields: fields.collect(),
            trailers: None,
            body: Bytes::from_static(b"because\n"),
        }
    }

    #[test]
    fn busy_collectors_are_asked_again_and_refusals_are_final() {
        for status in [408, 429, 500, 502, 503, 504, 401, 404, 301] {
            assert!(matches!(judge(&answer(status, &[]), &[]), Delivery::Later { .. }), "{status}");
        }
        for status in [400, 413, 415, 422] {
            assert!(matches!(judge(&answer(status, &[]), &[]), Delivery::Refused { .. }), "{status}");
        }
        assert_eq!(judge(&answer(204, &[]), &[]), Delivery::Taken);
    }

    #[test]
    fn no_part_of_a_secret_is_shown_wherever_it_stands_in_an_answer() {
        let secret = "S3CR3T-KEY-0123456789";
        for before in SHOWN - 30..SHOWN + 5 {
            let body = format!("{}{secret} {secret}", "x".repeat(before));
            let answer = Answer { body: Bytes::from(body), ..answer(503, &[]) };

            let Delivery::Later { why, .. } = judge(&answer, &[secret]) else { panic!("not later") };

            assert!(!why.contains("S3"), "{before}: {why}");
        }
        let call = answer(200, &[("grpc-status", "16"), ("grpc-message", "no%20S3CR3T-KEY%2D0123456789")]);
        let Delivery::Later { why, .. } = judge_call(&call, &[secret]) else { panic!("not later") };
        assert_eq!(why, "grpc-status 16: no ***");
    }

    #[test]
    fn retry_after_is_heard_within_reason() {
        let after = |value: &str| match judge(&answer(429, &[("retry-after", value)]), &[]) {
            Delivery::Later { after, .. } => after,
            other => panic!("{other:?}"),
        };

        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("99999999"), Some(LONGEST_PAUSE));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
    }

    #[test]
    fn calls_are_judged_by_their_status() {
        assert_eq!(judge_call(&answer(200, &[("grpc-status", "0")]), &[]), Delivery::Taken);
        assert!(matches!(judge_call(&answer(200, &[("grpc-status", "14")]), &[]), Delivery::Later { .. }));
        assert!(matches!(judge_call(&answer(200, &[("grpc-status", "3")]), &[]), Delivery::Refused { .. }));
        assert!(matches!(judge_call(&answer(200, &[]), &[]), Delivery::Later { .. }));
        assert!(matches!(judge_call(&answer(503, &[]), &[]), Delivery::Later { .. }));
    }

    #[test]
    fn path_goes_behind_the_path_of_the_url() {
        let join = |base: &str, path: &str| joined(&base.parse().unwrap(), path).unwrap().to_string();

        assert_eq!(join("http://a:4318", "/v1/logs"), "http://a:4318/v1/logs");
        assert_eq!(join("https://a/otlp/", "/v1/logs"), "https://a/otlp/v1/logs");
        assert_eq!(join("http://a/_bulk?x=1", ""), "http://a/_bulk?x=1");
        assert_eq!(join("http://a", ""), "http://a/");
    }
}
