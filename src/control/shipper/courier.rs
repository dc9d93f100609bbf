//! Takes entries to a receiver.
//!
//! Floor 5. One for each kind of receiver, behind one question: here are entries, what became of them? Deliberately absent:
//! waiting, repeating, keeping; they are the shipper's.

use super::stream::Stream;
use crate::config::sink::{Destination, Sink};
use crate::control::otlp;
use crate::control::transport::{Delivery, Speaks, Transport, TransportError};
use crate::telemetry::parcel::{Entry, Wrap};

/// Takes entries to one receiver.
#[derive(Debug)]
pub(super) enum Courier {
    /// A body by POST.
    Post { transport: Transport, path: &'static str, content: &'static str, wrap: Wrap, hears: Hears },
    /// A call of gRPC.
    Call { transport: Transport, method: &'static str, wrap: Wrap },
    /// Syslog.
    Stream(Box<Stream>),
}

/// What an answer says beside its status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hears {
    Nothing,
    /// How many OpenTelemetry's receiver would not take.
    Otlp,
    /// What Elasticsearch did with each.
    Bulk,
}

/// What became of entries.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) delivery: Delivery,
    /// Of those delivered, how many the receiver threw away.
    pub(super) rejected: u64,
}

impl Courier {
    /// A courier to what `sink` names; `None` for what is on this machine. Reads the files and secrets that it names.
    pub(super) fn new(sink: &Sink) -> Result<Option<Self>, TransportError> {
        let wrap = Wrap::new(&sink.to);
        let post = |transport, path, content, hears| Self::Post { transport, path, content, wrap: wrap.clone(), hears };
        Ok(Some(match &sink.to {
            Destination::Stdout | Destination::File(_) => return Ok(None),
            Destination::Syslog(syslog) => Self::Stream(Box::new(Stream::new(syslog)?)),
            Destination::Otlp(receiver) | Destination::Traces(receiver) => {
                let service = if matches!(&sink.to, Destination::Traces(_)) { otlp::TRACES } else { otlp::LOGS };
                if receiver.grpc {
                    Self::Call { transport: Transport::new(&receiver.to, Speaks::Grpc)?, method: service.method, wrap }
                } else {
                    post(Transport::new(&receiver.to, Speaks::Http)?, service.path, otlp::CONTENT, Hears::Otlp)
                }
            }
            Destination::Loki(loki) => {
                let transport = Transport::new(&loki.to, Speaks::Http)?;
                post(transport, "/loki/api/v1/push", "application/json", Hears::Nothing)
            }
            Destination::Http(http) => {
                let transport = Transport::new(&http.to, Speaks::Http)?;
                let hears = if http.bulk.is_some() { Hears::Bulk } else { Hears::Nothing };
                post(transport, "", "application/x-ndjson", hears)
            }
        }))
    }

    /// Takes entries there.
    pub(super) async fn deliver(&mut self, entries: &[Entry]) -> Outcome {
        let mut rejected = 0;
        let delivery = match self {
            Self::Post { transport, path, content, wrap, hears } => {
                let (delivery, answer) = transport.post_and_hear(path, content, wrap.body(entries)).await;
                match (delivery, hears) {
                    (Delivery::Taken, Hears::Bulk) => {
                        let heard = bulk(&answer);
                        rejected = heard.1;
                        heard.0
                    }
                    (Delivery::Taken, Hears::Otlp) => {
                        rejected = otlp::not_taken(answer);
                        Delivery::Taken
                    }
                    (delivery, _) => delivery,
                }
            }
            Self::Call { transport, method, wrap } => {
                let (delivery, answer) = transport.call(method, wrap.body(entries)).await;
                if delivery == Delivery::Taken {
                    rejected = otlp::not_taken(answer);
                }
                delivery
            }
            Self::Stream(stream) => match stream.send(entries).await {
                Ok(()) => Delivery::Taken,
                Err(why) => Delivery::Later { after: None, why },
            },
        };
        Outcome { delivery, rejected }
    }

    /// Ends politely; gives whether the receiver is known to have what was sent.
    pub(super) async fn close(&mut self) -> bool {
        match self {
            Self::Post { .. } | Self::Call { .. } => true,
            Self::Stream(stream) => stream.close().await,
        }
    }

    /// Whether what was sent before is still on its way, or there. Only a connection that is gone says no.
    pub(super) fn is_alive(&mut self) -> bool {
        match self {
            Self::Post { .. } | Self::Call { .. } => true,
            Self::Stream(stream) => stream.is_alive(),
        }
    }
}

/// What became of a bulk, and how many entries were thrown away. One that was there already was delivered before.
fn bulk(answer: &[u8]) -> (Delivery, u64) {
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(answer) else {
        return (Delivery::Taken, 0);
    };
    if answer.get("errors").and_then(serde_json::Value::as_bool) != Some(true) {
        return (Delivery::Taken, 0);
    }
    let items = answer.get("items").and_then(serde_json::Value::as_array);
    let status = |item: &serde_json::Value| item.pointer("/create/status").and_then(serde_json::Value::as_u64);
    let mut rejected = 0;
    for status in items.into_iter().flatten().filter_map(status) {
        match status {
            200..=299 | 409 => {}
            429 | 500.. => return (Delivery::Later { after: None, why: format!("an entry got {status}") }, 0),
            _ => rejected += 1,
        }
    }
    (Delivery::Taken, rejected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_that_was_there_before_is_delivered_and_a_busy_one_comes_again() {
        let answer = |statuses: &[u16]| {
            let items: Vec<_> = statuses.iter().map(|s| serde_json::json!({ "create": { "status": s } })).collect();
            serde_json::to_vec(&serde_json::json!({ "errors": true, "items": items })).unwrap()
        };

        assert_eq!(bulk(&answer(&[201, 409, 409])), (Delivery::Taken, 0));
        assert_eq!(bulk(&answer(&[201, 400])), (Delivery::Taken, 1));
        assert!(matches!(bulk(&answer(&[201, 429])), (Delivery::Later { .. }, 0)));
        assert_eq!(bulk(b"{\"errors\":false}"), (Delivery::Taken, 0));
    }
}
