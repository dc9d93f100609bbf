//! One stream of an HTTP/3 connection, from its first byte to the last byte of its answer.
//!
//! Floor 6. The future here is polled in the connection's own task: no task, no channel and no lock per stream.
//! Dropping it abandons the exchange, which the handler's future takes as "the client has gone".

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};

use super::reader::{Reader, Trouble};
use super::send::{Cut, Sending};
use super::tally::{Tally, Tunnel};
use super::{body, tunnel};
use crate::body::Body;
use crate::h3::head::{self as codec, Bad, Head};
use crate::h3::message::Event;
use crate::h3::{Code, Offence};
use crate::head::request;
use crate::lexicon::Clock;
use crate::message::{Connection, Handler, Interim, Refusal, Refused, Request};
use crate::net::timer::Timer;
use crate::serve::quic::seam::{RecvHalf, SendHalf};
use crate::serve::streams::{Asking as _, Ended, Panicked, answering, head};

/// Serves one stream, or tells that there is no room for it.
pub(super) async fn serve<S: SendHalf, R: RecvHalf, H: Handler>(
    stream: (S, R),
    has_room: bool,
    connection: Arc<Connection>,
    handler: H,
    tally: Arc<Tally>,
) -> Ended {
    let listener = Arc::clone(&connection.listener);
    let mut sending = Sending::new(stream.0, &listener, Arc::clone(&tally));
    let mut reader = Reader::new(stream.1, &listener, Arc::clone(&tally));
    let refuse = |refusal, head| Refused { refusal, connection: Arc::clone(&connection), head };

    let section = match read_head(&mut reader, &mut sending, &connection).await {
        Ok(section) => section,
        Err(Early::Abandoned) => return Ended::Abandoned,
        Err(Early::Broken(code)) => {
            sending.reset(code);
            reader.stop(code);
            return Ended::Malformed;
        }
        Err(Early::Refused(refusal)) => return answer_refusal(refuse(refusal, None), reader, sending, &handler).await,
    };
    tally.note_useful();
    // RFC 9114 §4.2.2: counted with 32 bytes a field; twice our bound leaves most to the check below.
    let read = codec::request(section, listener.limits.head_bytes.saturating_mul(2));
    let Head { parts: mut head, protocol, length } = match read {
        Ok(head) => head,
        Err((Bad::Unreadable(what), _)) => {
            tally.offend(Offence::new(Code::DecompressionFailed, what));
            return Ended::Well;
        }
        Err((Bad::Refused(refusal), head)) => {
            return answer_refusal(refuse(refusal, head.map(|head| *head)), reader, sending, &handler).await;
        }
    };
    let ask = match head::admit(&mut head, protocol.as_deref(), &listener.limits) {
        Ok(ask) => ask,
        Err(refusal) => return answer_refusal(refuse(refusal, Some(head)), reader, sending, &handler).await,
    };

    if !has_room {
        return answer_refusal(refuse(Refusal::Crowded, Some(head)), reader, sending, &handler).await;
    }
    let method = head.method.clone();
    let interim = Interim::default();
    let mut malformed = body::Malformed::default();
    let (content, mut kept, upgrade) = match ask {
        head::Ask::Exchange if length.is_none_or(|length| length == 0) && has_ended(&mut reader).await => {
            (Body::empty(), None, None)
        }
        head::Ask::Exchange => {
            let (content, found) = body::incoming(reader, &head, length, &interim, &listener, &tally);
            malformed = found;
            (content, None, None)
        }
        head::Ask::Tunnel(upgrade) => (Body::empty(), Some(reader), Some(upgrade)),
    };
    let request = Request { head, body: content, connection, interim, upgrade };
    let answer = match answering(&handler, request, &mut sending).await {
        Some(Ok(answer)) => answer,
        // The client has gone; the handler's future was dropped with the request's body.
        None => return Ended::Abandoned,
        Some(Err(Panicked)) => {
            sending.reset(Code::InternalError);
            return Ended::Well;
        }
    };
    if malformed.is_set() {
        // The record says what it was; RFC 9114 §4.1.2: a stream error.
        sending.reset(Code::MessageError);
        return Ended::Malformed;
    }
    if answer.cut {
        sending.reset(Code::RequestCancelled);
        return Ended::Close;
    }
    let close = answer.close;
    match (answer.tunnel, kept.take()) {
        (Some(run), Some(incoming)) => {
            let opened = sending.open(answer.head).await;
            if opened.is_ok() {
                // A tunnel outlives its exchange by hours and moves much: a task of its own.
                tokio::spawn(run(Box::new(tunnel::Duplex::new(incoming, sending, Tunnel::open(&tally)))));
            }
            ended(opened, close)
        }
        // Not asked for, so not given: the body alone is sent. What is left of the request is stopped (RFC 9114 §4.1).
        (_, unused) => {
            let sent = sending.answer(answer.head, answer.body, &method).await;
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

/// Why there is no head.
enum Early {
    /// The client reset or stopped the stream, or its connection ends.
    Abandoned,
    /// The stream is broken.
    Broken(Code),
    /// To be answered.
    Refused(Refusal),
}

async fn read_head<S: SendHalf, R: RecvHalf>(
    reader: &mut Reader<R>,
    sending: &mut Sending<S>,
    connection: &Connection,
) -> Result<bytes::Bytes, Early> {
    let mut clock = Timer::new();
    poll_fn(|cx| {
        // What has come is looked at first: a request may be whole and stopped at once (as in CVE-2023-44487).
        let event = reader.poll_event(cx);
        if sending.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Early::Abandoned));
        }
        Poll::Ready(match event {
            Poll::Ready(Ok(Some(Event::Head(section)))) => Ok(section),
            Poll::Ready(Ok(Some(Event::TooLarge))) => {
                Err(Early::Refused(Refusal::HeadTooLarge("header list exceeds its bound")))
            }
            // RFC 9114 §4.1: ended without a head.
            Poll::Ready(Ok(_) | Err(Trouble::Incomplete)) => Err(Early::Broken(Code::RequestIncomplete)),
            Poll::Ready(Err(Trouble::Gone | Trouble::Offended)) => Err(Early::Abandoned),
            Poll::Pending => {
                if !clock.is_armed() {
                    clock.arm(connection.listener.clocks.head);
                }
                ready!(clock.poll(cx));
                Err(Early::Refused(Refusal::Late(Clock::HeadRead)))
            }
        })
    })
    .await
}

/// Most requests end with their head; a body that must be pulled to find that out would cost more.
async fn has_ended<R: RecvHalf>(reader: &mut Reader<R>) -> bool {
    poll_fn(|cx| Poll::Ready(reader.has_ended(cx))).await
}

/// Answers or resets what never became a request.
async fn answer_refusal<S: SendHalf, R: RecvHalf, H: Handler>(
    refused: Refused,
    mut reader: Reader<R>,
    mut sending: Sending<S>,
    handler: &H,
) -> Ended {
    let refusal = refused.refusal;
    let method = refused.head.as_ref().map(|head: &request::Parts| head.method.clone()).unwrap_or_default();
    // Asked in any case, so that a record is written.
    let answer = handler.refuse(refused);
    if matches!(refusal, Refusal::MalformedHead(_) | Refusal::AmbiguousFraming(_)) {
        // RFC 9114 §4.1.2.
        sending.reset(Code::MessageError);
        reader.stop(Code::MessageError);
        return Ended::Malformed;
    }
    ended(sending.answer(answer.head, answer.body, &method).await, false)
}
