//! One stream of an HTTP/2 connection, from its request to the last byte of its answer.
//!
//! Floor 6. The future here is polled in the connection's own task: no task, no channel and no lock per stream.
//! Dropping it abandons the exchange, which the handler's future takes as "the client has gone".

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request as HttpRequest;

use super::ledger::{Charged, Ledger};
use super::send::{self, Cut};
use super::{body, tunnel};
use crate::body::Body;
use crate::head::request;
use crate::message::{Connection, Handler, Interim, Refusal, Refused, Request};
use crate::serve::streams::{Ended, Panicked, answering, head};

/// Serves one stream, or tells that there is no room for it.
pub(super) async fn serve<H: Handler>(
    (request, mut respond): (HttpRequest<RecvStream>, SendResponse<Charged>),
    has_room: bool,
    connection: Arc<Connection>,
    handler: H,
    ledger: Arc<Ledger>,
) -> Ended {
    // The connection has read all that its socket held before it gave us the stream: a reset that follows its request
    // at once is known by now and costs no endpoint (CVE-2023-44487).
    if poll_fn(|cx| Poll::Ready(respond.poll_reset(cx).is_ready())).await {
        return Ended::Abandoned;
    }
    let (mut parts, stream) = request.into_parts();
    let protocol = parts.extensions.remove::<h2::ext::Protocol>();
    let protocol = protocol.as_ref().map(|protocol| protocol.as_str().as_bytes());
    let mut head = request::Parts::from(parts);
    let ask = match head::admit(&mut head, protocol, &connection.listener.limits) {
        Ok(ask) => ask,
        Err(refusal) => return refuse(refusal, head, &mut respond, connection, &handler, &ledger).await,
    };
    if !has_room {
        return refuse(Refusal::Crowded, head, &mut respond, connection, &handler, &ledger).await;
    }
    let method = head.method.clone();
    let listener = Arc::clone(&connection.listener);
    let interim = Interim::default();
    let (content, tunnel, upgrade) = match ask {
        head::Ask::Exchange => (body::incoming(stream, &head, &interim, &connection.listener, &ledger), None, None),
        head::Ask::Tunnel(upgrade) => (Body::empty(), Some(stream), Some(upgrade)),
    };
    let request = Request { head, body: content, connection, interim, upgrade };
    let answer = match answering(&handler, request, &mut respond).await {
        Some(Ok(answer)) => answer,
        // The client has gone; the handler's future was dropped with the request's body.
        None => return Ended::Abandoned,
        Some(Err(Panicked)) => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Ended::Well;
        }
    };
    if answer.cut {
        respond.send_reset(Reason::CANCEL);
        return Ended::Close;
    }
    let close = answer.close;
    match (answer.tunnel, tunnel) {
        (Some(run), Some(incoming)) => {
            if let Ok(outgoing) = send::open(&mut respond, answer.head) {
                let duplex = tunnel::Duplex::new(incoming, outgoing, ledger, listener.clocks.write_idle);
                // A tunnel outlives its exchange by hours and moves much: a task of its own.
                tokio::spawn(run(Box::new(duplex)));
            }
            ended(Ok(()), close)
        }
        // Not asked for, so not given: the body alone is sent.
        (_, unused) => {
            let sent = send::answer(&mut respond, answer.head, answer.body, &method, &ledger, &listener.clocks).await;
            // RFC 9113 §8.1: after a whole answer the h2 crate resets with NO_ERROR what is left of the request.
            drop(unused);
            ended(sent, close)
        }
    }
}

const fn ended(sent: Result<(), Cut>, close: bool) -> Ended {
    match sent {
        Ok(()) if close => Ended::Close,
        Ok(()) | Err(Cut) => Ended::Well,
    }
}

/// Answers or resets what never became a request.
async fn refuse<H: Handler>(
    refusal: Refusal,
    head: request::Parts,
    respond: &mut SendResponse<Charged>,
    connection: Arc<Connection>,
    handler: &H,
    ledger: &Arc<Ledger>,
) -> Ended {
    let method = head.method.clone();
    let listener = Arc::clone(&connection.listener);
    // Asked in any case, so that a record is written.
    let answer = handler.refuse(Refused { refusal, connection, head: Some(head) });
    if matches!(refusal, Refusal::MalformedHead(_) | Refusal::AmbiguousFraming(_)) {
        // RFC 9113 §8.1.1: a stream error. The answer that it allows before cannot be sent reliably, as the reset
        // that must follow overtakes it in the h2 crate's queue.
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return Ended::Malformed;
    }
    ended(send::answer(respond, answer.head, answer.body, &method, ledger, &listener.clocks).await, false)
}
