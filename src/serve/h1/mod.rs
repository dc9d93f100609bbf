//! One HTTP/1 connection of a client, from its first byte to its last (RFC 9112).
//!
//! Everything of a connection happens in one task: the head is read, the handler's future is polled beside the
//! socket, so that a client that leaves ends its exchange at once, and the answer is written, head and first content
//! in one system call. An idle connection holds no buffer. Requests that a client pipelines wait their turn.
//! Deliberately absent: repair of odd requests; they are refused, answered and recorded through [`Handler::refuse`].

mod answer;
mod receive;
mod wire;

use std::future::Future;
use std::sync::Arc;

use http::header::{CONNECTION, EXPECT, UPGRADE};
use http::{Method, Version};
use tokio::time::Instant;

use crate::body::Body;
use crate::h1::head::NOT_HTTP;
use crate::h1::{Framing, HeadLimits, RequestHead};
use crate::head::Fields;
use crate::lifecycle::{Awaited, Life, Phase};
use crate::message::{Answer, Answering, Connection, Handler, Interim, Refusal, Refused, Request, Transport, Upgrade};
use crate::net::outbox::Outbox;
use crate::net::timer::Timer;
use crate::turn;

use super::pace::Patience;
use receive::Incoming;
use wire::{Inbound, SharedWire};

/// Serves one connection until either side ends it. Once [`Phase::Draining`] is reached it ends after the exchange
/// under way; dropping the future cuts it.
pub fn serve<H, I>(io: I, connection: Arc<Connection>, handler: H, life: Life) -> impl Future<Output = ()>
where
    H: Handler,
    I: Transport + 'static,
{
    // Made out here: what a future is given it has room for beside what it makes of it.
    let mut server = Server {
        wire: SharedWire::new(io, &connection.listener),
        limits: HeadLimits {
            bytes: connection.listener.limits.head_bytes,
            target: connection.listener.limits.uri_bytes,
            fields: connection.listener.limits.fields,
        },
        outbox: Outbox::default(),
        timer: Timer::new(),
        patience: Patience::new(connection.listener.clocks.write_idle, connection.listener.clocks.min_response_rate),
        drain: Awaited::new(life, Phase::Draining),
        opened: Instant::now(),
        served: 0,
        connection,
    };
    async move { while let Next::Again = server.exchange(&handler).await {} }
}

/// A connection between clients and a handler.
struct Server<I> {
    wire: SharedWire<I>,
    connection: Arc<Connection>,
    limits: HeadLimits,
    outbox: Outbox,
    timer: Timer,
    /// With the client, while an answer is written.
    patience: Patience,
    drain: Awaited,
    opened: Instant,
    served: u64,
}

/// What follows an exchange.
enum Next {
    /// Another one may.
    Again,
    /// The connection is over.
    End,
}

impl<I: Transport + 'static> Server<I> {
    /// Reads one request, has it answered, writes the answer.
    async fn exchange<H: Handler>(&mut self, handler: &H) -> Next {
        let head = match self.read_head().await {
            Incoming::Request(head) => head,
            Incoming::Closed => return Next::End,
            Incoming::Refused(refusal, head) => {
                let connection = Arc::clone(&self.connection);
                let answer = handler.refuse(Refused { refusal, connection, head: head.map(|head| *head) });
                // RFC 9113 §3.4: where HTTP/2 by prior knowledge is welcome, this is a broken preface. Whoever sent it
                // would take the text of an answer for frames.
                if refusal == Refusal::MalformedHead(NOT_HTTP) && self.speaks_http2_too() {
                    return Next::End;
                }
                self.wire.lock().give_up();
                self.write(answer, &Asked::REFUSED).await;
                self.linger().await;
                return Next::End;
            }
        };
        let asked = Asked::new(&head);
        let interim = Interim::default();
        let answering = handler.handle(self.request(head, &asked, &interim));
        let Some(mut answer) = self.await_answer(answering, &interim, &asked).await else {
            return Next::End;
        };
        if answer.cut {
            self.wire.lock().break_off();
            return Next::End;
        }
        if let Some(tunnel) = answer.tunnel.take() {
            if self.write_switch(answer).await
                && let Some(io) = self.wire.take()
            {
                tunnel(Box::new(io)).await;
            }
            return Next::End;
        }
        self.served += 1;
        match self.write(answer, &asked).await {
            Written::Open => Next::Again,
            Written::Close => {
                self.linger().await;
                Next::End
            }
            Written::Broken => Next::End,
        }
    }

    fn request(&self, head: RequestHead, asked: &Asked, interim: &Interim) -> Request {
        let mut wire = self.wire.lock();
        wire.expect(head.framing, asked.continues.then(|| interim.clone()));
        let body = if wire.is_received() { Body::empty() } else { Body::stream(Inbound::new(&self.wire)) };
        drop(wire);
        Request {
            head: head.parts,
            body,
            connection: Arc::clone(&self.connection),
            interim: interim.clone(),
            upgrade: asked.upgrade,
        }
    }

    fn speaks_http2_too(&self) -> bool {
        self.connection.tls.is_none() && self.connection.listener.http2.cleartext
    }

    /// Whether the connection must end after the present exchange.
    fn is_last(&mut self, answer: &Answer, asked: &Asked) -> bool {
        answer.close
            || !asked.persistent
            || self.drain.has_come()
            || turn::now().saturating_duration_since(self.opened) >= self.connection.listener.max_connection_age
            || !self.wire.lock().is_received()
    }
}

/// What the request said about its connection.
struct Asked {
    method: Method,
    http11: bool,
    persistent: bool,
    upgrade: Option<Upgrade>,
    continues: bool,
}

impl Asked {
    /// For answers to what never became a request.
    const REFUSED: Self =
        Self { method: Method::GET, http11: true, persistent: false, upgrade: None, continues: false };

    fn new(head: &RequestHead) -> Self {
        let parts = &head.parts;
        let http11 = parts.version == Version::HTTP_11;
        // RFC 9112 §9.3.
        let persistent = if http11 {
            !has_token(&parts.headers, &CONNECTION, "close")
        } else {
            has_token(&parts.headers, &CONNECTION, "keep-alive")
        };
        // RFC 6455 §4.1; any other protocol is one we do not switch to, which RFC 9110 §7.8 lets us ignore.
        let upgrade = http11
            && parts.method == Method::GET
            && head.framing == Framing::None
            && has_token(&parts.headers, &CONNECTION, "upgrade")
            && has_token(&parts.headers, &UPGRADE, "websocket");
        // RFC 9110 §10.1.1: ignored in HTTP/1.0.
        let continues = http11
            && head.framing != Framing::None
            && parts.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self { method: parts.method.clone(), http11, persistent, upgrade: upgrade.then_some(Upgrade::Http1), continues }
    }
}

/// Whether the list field `name` has `token`, in any case (RFC 9110 §5.6.1).
fn has_token(fields: &Fields, name: &http::HeaderName, token: &str) -> bool {
    fields.get_all(name).any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

/// How writing an answer ended.
enum Written {
    /// The connection can serve another request.
    Open,
    /// The answer is complete and the connection must end.
    Close,
    /// The answer is not complete: nothing more may be sent.
    Broken,
}

/// Polls the handler's future; a type so that the signature below stays readable.
fn poll_answer(answering: &mut Answering, cx: &mut std::task::Context<'_>) -> std::task::Poll<Answer> {
    answering.as_mut().poll(cx)
}

#[cfg(test)]
mod tests;
