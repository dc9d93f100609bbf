//! Takes entries to a receiver.
//!
//! Floor 5. One for each kind of receiver, behind one question: here are entries, what became of them? Deliberately absent:
//! waiting, repeating, keeping; they are the shipper's.

use http::Uri;
use serde::Deserialize;

use super::kafka::Producer;
use super::stream::Stream;
use crate::config::collector::Collector;
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
    /// Batches for a topic of Kafka.
    Produce(Box<Producer>),
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

/// Bytes that Elasticsearch says of one record, if it does not know how to be brief.
const SAID: usize = 1_024;

impl Courier {
    /// A courier to what `sink` names; `None` for what is on this machine. Reads the files and secrets that it names.
    pub(super) fn new(sink: &Sink) -> Result<Option<Self>, TransportError> {
        let wrap = Wrap::new(&sink.to);
        let post = |transport, path, content, hears| Self::Post { transport, path, content, wrap: wrap.clone(), hears };
        Ok(Some(match &sink.to {
            Destination::Stdout | Destination::File(_) => return Ok(None),
            Destination::Syslog(syslog) => Self::Stream(Box::new(Stream::new(syslog)?)),
            Destination::Kafka(kafka) => Self::Produce(Box::new(Producer::new(kafka)?)),
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
                let content = "application/x-ndjson";
                if http.bulk.is_some() {
                    let to = Collector { url: brief(&http.to.url), ..http.to.clone() };
                    let transport = Transport::new(&to, Speaks::Http)?.hearing(sink.batch.records * SAID);
                    post(transport, "", content, Hears::Bulk)
                } else {
                    post(Transport::new(&http.to, Speaks::Http)?, "", content, Hears::Nothing)
                }
            }
        }))
    }

    /// Takes entries there.
    pub(super) async fn deliver(&mut self, entries: &[Entry]) -> Outcome {
        let mut rejected = 0;
        let delivery = match self {
            Self::Post { transport, path, content, wrap, hears } => {
                let (delivery, answer) = transport.post(path, content, wrap.body(entries)).await;
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
                Ok(too_long) => {
                    rejected = too_long;
                    Delivery::Taken
                }
                Err(why) => Delivery::Later { after: None, why },
            },
            Self::Produce(producer) => producer.deliver(entries).await,
        };
        // Nobody can throw away more than came.
        Outcome { delivery, rejected: rejected.min(entries.len() as u64) }
    }

    /// Ends politely; gives whether the receiver is known to have what was sent.
    pub(super) async fn close(&mut self) -> bool {
        match self {
            Self::Post { .. } | Self::Call { .. } | Self::Produce(_) => true,
            Self::Stream(stream) => stream.close().await,
        }
    }

    /// Whether what was sent before is still on its way, or there. Only a connection that is gone says no.
    pub(super) fn is_alive(&mut self) -> bool {
        match self {
            Self::Post { .. } | Self::Call { .. } | Self::Produce(_) => true,
            Self::Stream(stream) => stream.is_alive(),
        }
    }
}

/// The URL of a bulk that is answered no more than is heard, as far as the receiver knows how.
fn brief(url: &Uri) -> Uri {
    let query = url.query().unwrap_or_default();
    if query.contains("filter_path=") {
        return url.clone();
    }
    let joint = if query.is_empty() { "" } else { "&" };
    let path = format!("{}?{query}{joint}filter_path=errors,items.*.status", url.path());
    let mut parts = url.clone().into_parts();
    // What was a URL before is one with a few letters more.
    parts.path_and_query = path.parse().ok().or(parts.path_and_query);
    Uri::from_parts(parts).unwrap_or_else(|_| url.clone())
}

/// What is heard of Elasticsearch.
#[derive(Deserialize)]
struct Bulk {
    errors: bool,
    #[serde(default)]
    items: Vec<Item>,
}

/// What became of one entry.
#[derive(Deserialize)]
struct Item {
    create: Option<Created>,
}

#[derive(Deserialize)]
struct Created {
    status: Option<u64>,
}

/// What became of a bulk, and how many entries were thrown away. One that was there already was delivered before.
fn bulk(answer: &[u8]) -> (Delivery, u64) {
    let Ok(Bulk { errors, items }) = serde_json::from_slice(answer) else {
        // Whoever says 200 to anything, a login page say, has kept nothing.
        let why = "the answer is none to a bulk: it has no `errors`".to_owned();
        return (Delivery::Later { after: None, why }, 0);
    };
    if !errors {
        return (Delivery::Taken, 0);
    }
    let mut rejected = 0;
    for status in items.into_iter().filter_map(|item| item.create?.status) {
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

    #[test]
    fn what_is_no_answer_to_a_bulk_delivers_nothing() {
        for answer in ["", "<html>Log in</html>", "{}", "{\"ok\":true}", "{\"errors\":fal", "[]"] {
            assert!(matches!(bulk(answer.as_bytes()), (Delivery::Later { .. }, 0)), "{answer}");
        }
    }

    #[test]
    fn bulk_is_asked_for_a_brief_answer_unless_its_url_says_which() {
        let brief = |url: &str| brief(&url.parse().unwrap()).to_string();

        assert_eq!(brief("https://e:9200/_bulk"), "https://e:9200/_bulk?filter_path=errors,items.*.status");
        assert_eq!(brief("http://e/x/_bulk?a=b"), "http://e/x/_bulk?a=b&filter_path=errors,items.*.status");
        assert_eq!(brief("http://e/_bulk?filter_path=errors"), "http://e/_bulk?filter_path=errors");
    }
}
