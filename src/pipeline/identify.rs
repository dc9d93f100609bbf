//! Who sends a request, and under which ids it is known. Nobody may judge a client before it has an address.

use std::net::SocketAddr;
use std::num::NonZeroU64;

use http::HeaderName;

use crate::forwarded;
use crate::head::{Fields, HeaderValue};
use crate::headers::{self, Trace};
use crate::message::Connection;
use crate::snapshot::Snapshot;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What an exchange is known by.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// The client, found through trusted proxies only. The port is the transport's, 0 when a proxy told the address.
    pub client: SocketAddr,
    /// `https` or `http`, as the client sees it.
    pub scheme: &'static str,
    /// The request's id: a trusted proxy's, or ours.
    pub request_id: HeaderValue,
    /// The trace, continued from a trusted proxy's, or begun.
    pub traceparent: HeaderValue,
    /// Whether it was continued: only then does a `tracestate` belong to it (W3C Trace Context §3.3).
    pub continues: bool,
    /// The span of the trusted proxy that it continues.
    pub parent: Option<NonZeroU64>,
    /// Whether spans are made of the exchange: its trace is sampled, and traces are exported.
    pub traced: bool,
}

/// A `tracestate` as one value: of several fields, all of them (W3C Trace Context §3.3.1.1).
pub(super) fn tracestate(fields: &Fields) -> Option<HeaderValue> {
    let all: Vec<&[u8]> = fields.get_all(TRACESTATE).map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&all.join(&b',')).ok().filter(|all| !all.is_empty())
}

impl Identity {
    /// Finds out.
    pub(super) fn find(fields: &Fields, connection: &Connection, snapshot: &Snapshot) -> Self {
        let trusted = &snapshot.config.clients.trusted_proxies;
        let nearest = connection.proxied.unwrap_or(connection.peer);
        let believed = !trusted.is_empty() && forwarded::is_trusted(nearest.ip(), trusted);
        let mut client = SocketAddr::new(nearest.ip().to_canonical(), nearest.port());
        let mut scheme = connection.scheme();
        if believed {
            let named = forwarded::client(nearest.ip(), fields, trusted);
            if named != client.ip() {
                client = SocketAddr::new(named, 0);
            }
            scheme = forwarded::scheme(nearest.ip(), fields, trusted).unwrap_or(scheme);
        }
        let theirs = |name: &HeaderName| if believed { fields.get(name) } else { None };
        let request_id = theirs(&REQUEST_ID).filter(|id| headers::is_request_id(id.as_bytes())).cloned();
        let span = fastrand::u64(1..);
        let trace = theirs(&TRACEPARENT).and_then(|parent| Trace::parse(parent.as_bytes()));
        let continues = trace.is_some();
        let parent = trace.and_then(|theirs| NonZeroU64::new(theirs.span_id()));
        let sampling = snapshot.config.otlp.traces.as_ref().map(|traces| traces.sampling);
        let begun = || {
            let id = fastrand::u128(1..);
            Trace::begin(id, span, sampling.is_some_and(|sampling| sampling.takes(id)).into())
        };
        // Who continues a trace does as it says: half a trace is of use to nobody.
        let trace = trace.map_or_else(begun, |trace| trace.child(span));
        let traced = sampling.is_some() && trace.is_sampled();
        let (request_id, traceparent) = match request_id {
            Some(theirs) => (theirs, trace.to_value()),
            None => headers::request_id(fastrand::u128(..), trace),
        };
        Self { client, scheme, request_id, traceparent, continues, parent, traced }
    }
}
