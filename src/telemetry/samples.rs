//! Records for the tests of this floor.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};

use http::{Method, Uri};

use super::record::{Attempt, End, Kind, Link, Record, RecordId, Stages, Verdict, Why};
use crate::config::sink::{Batch, Destination, LogFormat, QUEUE_MEMORY, Select, Sink};
use crate::head::HeaderValue;
use crate::lexicon::{
    Choice, ConnectionId, EndpointName, Fingerprint, Generation, LimitName, ListenerName, PoolName, Protocol,
    RouteName, RuleName, SinkName,
};

/// A complete exchange with every field set.
pub(crate) fn exchange() -> Record {
    Record {
        id: RecordId::default(),
        parent: None,
        traced: None,
        kind: Kind::Exchange,
        at: UNIX_EPOCH + Duration::new(1_795_383_493, 7_042_999),
        request_id: HeaderValue::from_static("0197-abc"),
        traceparent: Some(HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
        client: SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9), 50_123)),
        connection: ConnectionId::next(),
        listener: ListenerName::new("https"),
        protocol: Protocol::Http2,
        tls: Some("TLSv1.3"),
        ja4: Fingerprint::new(*b"t13d1516h2_8daaf6152771_b186095e22b6"),
        method: Method::POST,
        host: Some(HeaderValue::from_static("bi.example.com")),
        target: Uri::from_static("/api/v1/chart/data?token=s3cr3t&x=1"),
        status: Some(200),
        bytes_in: 12,
        bytes_out: 34_567,
        stages: Stages {
            receive: Duration::from_micros(7),
            queue: Duration::from_micros(1_000),
            connect: Duration::ZERO,
            first_byte: Duration::from_micros(81_002),
            total: Duration::from_micros(1_083_450),
        },
        route: Some(RouteName::new("/")),
        pool: Some(PoolName::new("superset")),
        endpoint: Some(EndpointName::new("10.0.0.2:8088")),
        attempts: [failed(), answered()].into_iter().collect(),
        gave_up: None,
        end: End::COMPLETE,
        fault: None,
        clock: None,
        generation: Generation(3),
        limits: vec![(LimitName::new("api"), true)],
        verdicts: vec![Verdict { rule: RuleName::new("seen"), action: "deny", observed: true }],
        ban: None,
        user_agent: Some(HeaderValue::from_static("Mozilla/5.0 \"x\"")),
        referer: Some(HeaderValue::from_static("https://bi.example.com/login?code=s3cr3t")),
        messages: None,
    }
}

/// An attempt that found no connection.
pub(crate) fn failed() -> Attempt {
    Attempt {
        connect: Duration::from_micros(500),
        cause: Some("connect"),
        ..Attempt::on(EndpointName::new("10.0.0.1:8088"), Why::First, Choice::Turn)
    }
}

/// An attempt that was answered.
fn answered() -> Attempt {
    Attempt {
        began: Duration::from_micros(600),
        queued: Duration::from_micros(1_000),
        link: Link::Reused,
        waited: Duration::from_micros(81_002),
        status: Some(200),
        ..Attempt::on(EndpointName::new("10.0.0.2:8088"), Why::Repeat, Choice::Turn)
    }
}

/// A sink with the settings that stand in no file.
pub(crate) fn sink(to: Destination) -> Sink {
    Sink {
        name: SinkName::new("sink"),
        to,
        format: LogFormat::Json,
        select: Select::default(),
        anonymise: None,
        redact_emails: true,
        queue: 8_192,
        queue_memory: QUEUE_MEMORY,
        batch: Batch::default(),
        spool: None,
    }
}
