//! A collector of OpenTelemetry's protocol: protobuf over HTTP/1.1, or gRPC over HTTP/2. It takes what the protocol allows
//! and says no to everything else.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request as H2Request, Response, StatusCode};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::peer::{Io, Peer};
use super::soon;

/// What a collector has taken.
#[derive(Clone, Default)]
pub(crate) struct Got {
    /// Spans, in the order in which they came.
    pub(crate) spans: Vec<Span>,
    /// The metrics of each push.
    pub(crate) pushes: Vec<Vec<Metric>>,
    /// Attributes of the last resource.
    pub(crate) resource: Vec<KeyValue>,
    /// Bodies as they came.
    pub(crate) bodies: Vec<Vec<u8>>,
    /// `Authorization` of the last request.
    pub(crate) authorization: Option<String>,
    /// What was not as the protocol has it.
    pub(crate) wrong: Vec<String>,
}

/// Takes notes.
#[derive(Clone)]
pub(crate) struct Notes(Arc<watch::Sender<Got>>);

/// A collector on a port of its own; ends with the test.
pub(crate) struct Collector {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// What it has taken.
    pub(crate) notes: Notes,
    accepting: JoinHandle<()>,
}

impl Collector {
    /// One that speaks HTTP.
    pub(crate) async fn http() -> Self {
        Self::at("127.0.0.1:0", false).await
    }

    /// One that speaks gRPC.
    pub(crate) async fn grpc() -> Self {
        Self::at("127.0.0.1:0", true).await
    }

    /// One at an address of one's choice.
    pub(crate) async fn at(address: &str, grpc: bool) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, notes) = (listener.local_addr().unwrap(), Notes::new());
        let noted = notes.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let notes = noted.clone();
                connections.spawn(async move {
                    if grpc { notes.call(stream).await } else { notes.post(Peer::new(stream, 0)).await }
                });
            }
        });
        Self { address, notes, accepting }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // With it go its connections.
        self.accepting.abort();
    }
}

impl Notes {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Got::default())))
    }

    /// What was taken so far.
    pub(crate) fn got(&self) -> Got {
        self.0.borrow().clone()
    }

    /// Waits for what `enough` accepts.
    pub(crate) async fn until(&self, what: &str, enough: impl Fn(&Got) -> bool) -> Got {
        let mut got = self.0.subscribe();
        let waited = tokio::time::timeout(super::PATIENCE, got.wait_for(|got| enough(got))).await;
        match waited {
            Ok(got) => got.unwrap().clone(),
            Err(_) => panic!("waited in vain for {what}; wrong: {:?}, got {:#?}", self.got().wrong, self.got().spans),
        }
    }

    /// Waits for the spans of `count` exchanges, each with those below it.
    pub(crate) async fn exchanges(&self, count: usize) -> Vec<(Span, Vec<Span>)> {
        let got = self.until("spans", |got| got.spans.iter().filter(|span| span.kind == SERVER).count() >= count).await;
        let (exchanges, attempts): (Vec<Span>, Vec<Span>) = got.spans.into_iter().partition(|span| span.kind == SERVER);
        let below = |exchange: &Span| {
            let own = attempts.iter().filter(|attempt| attempt.parent_span_id == exchange.span_id);
            own.cloned().collect::<Vec<Span>>()
        };
        exchanges.into_iter().map(|exchange| (exchange.clone(), below(&exchange))).collect()
    }

    /// Answers posts on a connection.
    async fn post(&self, mut peer: Peer) {
        while let Some(request) = peer.request().await {
            let fine = request.method() == "POST"
                && request.head.get("content-type").as_deref() == Some("application/x-protobuf");
            let answer =
                if fine { self.take(request.target(), &request.body, request.head.get("authorization")) } else { None };
            let answer = match answer {
                Some(body) => {
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    [head.into_bytes(), body].concat()
                }
                None => {
                    self.wrong(format!("{:?}", request.head));
                    b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n".to_vec()
                }
            };
            if peer.try_send(answer).await.is_err() {
                return;
            }
        }
    }

    /// Answers calls on a connection.
    pub(crate) async fn call(&self, io: impl Io + 'static) {
        let Ok(mut connection) = h2::server::handshake(io).await else { return };
        let mut calls = tokio::task::JoinSet::new();
        while let Some(Ok((request, respond))) = connection.accept().await {
            let notes = self.clone();
            calls.spawn(async move { notes.one_call(request, respond).await });
        }
    }

    async fn one_call(&self, request: H2Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) {
        let (head, mut body) = request.into_parts();
        let mut bytes = Vec::new();
        while let Some(Ok(piece)) = body.data().await {
            body.flow_control().release_capacity(piece.len()).unwrap();
            bytes.extend_from_slice(&piece);
        }
        let field = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let fine = head.method == "POST"
            && field("content-type").is_some_and(|kind| kind.starts_with("application/grpc"))
            && field("te").as_deref() == Some("trailers");
        let message = match bytes.split_first_chunk::<5>() {
            // Not compressed, and as long as it says.
            Some(([0, length @ ..], message)) if u32::from_be_bytes(*length) as usize == message.len() => Some(message),
            _ => None,
        };
        let answer =
            message.filter(|_| fine).and_then(|message| self.take(head.uri.path(), message, field("authorization")));
        let mut fields = HeaderMap::new();
        fields.insert("content-type", HeaderValue::from_static("application/grpc"));
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::OK;
        *response.headers_mut() = fields;
        let mut trailers = HeaderMap::new();
        let Ok(mut stream) = respond.send_response(response, false) else { return };
        if let Some(answer) = answer {
            let mut framed = BytesMut::new();
            framed.put_u8(0);
            framed.put_u32(u32::try_from(answer.len()).unwrap());
            framed.put_slice(&answer);
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            drop(stream.send_data(framed.freeze(), false));
        } else {
            self.wrong(format!("{head:?}"));
            trailers.insert("grpc-status", HeaderValue::from_static("3"));
        }
        drop(stream.send_trailers(trailers));
    }

    /// Takes what was sent to `path`; gives the answer, or nothing for what the protocol does not know.
    fn take(&self, path: &str, body: &[u8], authorization: Option<String>) -> Option<Vec<u8>> {
        let answer = match path {
            "/v1/traces" | "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
                let request = ExportTraceServiceRequest::decode(body).ok()?;
                self.0.send_modify(|got| {
                    for resource in request.resource_spans {
                        got.resource = resource.resource.unwrap_or_default().attributes;
                        got.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
                    }
                });
                ExportTraceServiceResponse::default().encode_to_vec()
            }
            "/v1/metrics" | "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
                let request = ExportMetricsServiceRequest::decode(body).ok()?;
                self.0.send_modify(|got| {
                    for resource in request.resource_metrics {
                        got.resource = resource.resource.unwrap_or_default().attributes;
                        got.pushes.push(resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics).collect());
                    }
                });
                ExportMetricsServiceResponse::default().encode_to_vec()
            }
            _ => return None,
        };
        self.0.send_modify(|got| {
            got.bodies.push(body.to_vec());
            got.authorization = authorization;
        });
        Some(answer)
    }

    fn wrong(&self, what: String) {
        self.0.send_modify(|got| got.wrong.push(what));
    }

    /// Serves one connection of `listener` with TLS, then no more.
    pub(crate) async fn secure(&self, listener: TcpListener, settings: rustls::ServerConfig) -> JoinHandle<()> {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(settings));
        let (stream, _) = soon("a connection to the collector", listener.accept()).await.unwrap();
        let stream = soon("a handshake with the collector", acceptor.accept(stream)).await.unwrap();
        let notes = self.clone();
        tokio::spawn(async move { notes.call(stream).await })
    }
}

/// `SPAN_KIND_SERVER` and `SPAN_KIND_CLIENT`.
pub(crate) const SERVER: i32 = 2;
pub(crate) const CLIENT: i32 = 3;

/// An attribute as text, a number in decimal; empty if there is none.
pub(crate) fn attribute(all: &[KeyValue], key: &str) -> String {
    match all.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone()?.value) {
        Some(Any::StringValue(text)) => text,
        Some(Any::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

/// An id as a `traceparent` has it.
pub(crate) fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
