//! `[otlp]` as written.

use super::super::collector::Collector;
use super::super::otlp::{Exports, Push, Sampling, Traces};
use super::super::process::Clients;
use super::super::sink::{Anonymise, Batch, Destination, LogFormat, Select, Sink};
use super::collector::{COLLECTOR, collector};
use super::key::{Entry, Key, May, Must, Or, Section, Table, section};
use super::kinds::{
    Bytes, Choice, Flag, GIB, HOUR, KIB, Lasting, Parsed, SECOND, Whole, bytes, choice, lasting, parsed, whole,
};
use super::labels::{Labels, labels};
use super::receivers::otlp;
use super::shapes::{Sub, Switch, sub, switch};
use super::sheet::Words;
use super::sink::{ANONYMISE, BATCH, anonymise, batch, share};
use crate::lexicon::SinkName;

section! {
    /// What collectors are sent by OpenTelemetry's protocol beside records (which a sink's `otlp` sends): traces, and metrics
    /// where nothing scrapes them.
    pub(super) EXPORTS: ExportsKeys {
        /// Spans of exchanges, and of the attempts on endpoints below each.
        traces: Sub<Traces> = sub(&TRACES, traces), May("none are made");
        /// Everything that `/metrics` shows, pushed.
        metrics: Sub<Push> = sub(&METRICS, metrics), May("nothing is pushed");
    }
}

section! {
    /// Traces. An exchange whose `traceparent` is believed (`clients.trusted_proxies`) is sampled if that says so; any other
    /// begins a trace, of which `sample` has its share. What is sampled is exported, and Superset is told the same.
    TRACES: TracesKeys {
        /// Where; over HTTP `/v1/traces` goes behind the URL.
        to: Sub<Collector> = sub(&COLLECTOR, collector), Must();
        /// `http`: protobuf by POST. `grpc`: a call over HTTP/2.
        protocol: Choice<bool> = choice(&[("http", false), ("grpc", true)]), Or("'http'");
        /// Attributes of the resource, beside `service.name`, `service.version` and `service.instance.id`.
        resource: Labels = labels(false), Or("{}");
        /// Share of the traces that begin here which is sampled. Told by their ids, so that others who sample by the same
        /// rule have the same ones.
        sample: Parsed<u32> = parsed("percentage", share), Or("'10%'");
        /// Whether only the beginning of a client's address is told.
        anonymise: Switch<Sub<Anonymise>> = switch(sub(&ANONYMISE, anonymise)), Or("false");
        /// Whether values of queries that look like e-mail addresses are replaced.
        redact_emails: Flag = Flag, Or("true");
        /// Exchanges whose spans may wait in memory; beyond it they are dropped and counted.
        queue: Whole<usize> = whole(16, 1_000_000), Or("2_048");
        /// Memory that they may take, counted as a sink's is.
        queue_memory: Bytes<usize> = bytes(64 * KIB, 4 * GIB), Or("'16MiB'");
        /// How spans travel over the network together; each counts as a record.
        batch: Sub<Batch> = sub(&BATCH, batch), Or("{}");
    }
}

section! {
    /// Metrics, pushed. What a push that fails would have told, the next one tells.
    METRICS: MetricsKeys {
        /// Where; over HTTP `/v1/metrics` goes behind the URL.
        to: Sub<Collector> = sub(&COLLECTOR, collector), Must();
        /// `http`: protobuf by POST. `grpc`: a call over HTTP/2.
        protocol: Choice<bool> = choice(&[("http", false), ("grpc", true)]), Or("'http'");
        /// Attributes of the resource, beside `service.name`, `service.version` and `service.instance.id`.
        resource: Labels = labels(false), Or("{}");
        /// Time between two pushes.
        interval: Lasting = lasting(SECOND, HOUR), Or("'60s'");
    }
}

/// What `[otlp]` means.
pub(super) fn exports(table: &Table<'_>) -> Option<Exports> {
    let (traces, metrics) = (table.get(&EXPORTS.traces), table.get(&EXPORTS.metrics));
    Some(Exports { traces: traces?, metrics: metrics? })
}

fn traces(table: &Table<'_>) -> Option<Traces> {
    // The three keys that name a receiver are those of a sink.
    let (to, sample) = (otlp(table), table.get(&TRACES.sample));
    let (anonymise, redact_emails) = (table.get(&TRACES.anonymise), table.get(&TRACES.redact_emails));
    let (queue, batch) = (table.get(&TRACES.queue), table.get(&TRACES.batch));
    let queue_memory = table.get(&TRACES.queue_memory);
    let sink = Sink {
        name: SinkName::new("otlp.traces"),
        to: Destination::Traces(to?),
        format: LogFormat::Otel,
        select: Select::default(),
        anonymise: anonymise?,
        redact_emails: redact_emails?,
        queue: queue?,
        queue_memory: queue_memory?,
        batch: batch?,
        spool: None,
    };
    Some(Traces { sampling: Sampling::of_a_million(sample?), sink })
}

fn metrics(table: &Table<'_>) -> Option<Push> {
    let (to, interval) = (otlp(table), table.get(&METRICS.interval));
    let (to, interval) = (to?, interval?);
    if to.to.patience > interval {
        let words = Words::new("comes before a push may have failed").expected("`to.patience` or more");
        table.warn(&METRICS.interval, words);
    }
    Some(Push { to, interval })
}

/// Says so when no trace can ever be sampled.
pub(super) fn check(root: &Table<'_>, exports: Option<&Exports>, clients: Option<&Clients>) {
    let traces = exports.and_then(|exports| exports.traces.as_ref());
    let begins_none = traces.is_some_and(|traces| traces.sampling.is_none());
    if begins_none && clients.is_some_and(|clients| clients.trusted_proxies.is_empty()) {
        let words =
            Words::new("has no effect: no trace that begins here is sampled, and none from elsewhere is believed");
        root.warn(&super::ROOT.otlp, words.expected("`traces.sample`, or proxies in `clients.trusted_proxies`"));
    }
}
