//! Gives each family its samples.
//!
//! Floor 2. In: the handles that are alive and the state at this moment. Runs on the control runtime, never on a
//! worker.

mod upstream;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit as ClientUnit;

use super::cells::{CLASSES, Histogram};
use super::families as f;
use super::families::{Family, Kind, Unit};
use super::handles::TLS_VERSIONS;
use super::{AdminChange, Cause, Inner, ListenerMetrics, LogDrop, Reload, State, phase_word, quota};
use crate::lexicon::{ListenerName, Protocol, RouteName};
use crate::lifecycle::Phase;
use crate::telemetry::record::{End, Stage, Who};

/// Takes the samples of one family.
pub(super) struct Samples<'a> {
    encoder: MetricEncoder<'a>,
    family: &'static Family,
}

impl Samples<'_> {
    fn labelled(&mut self, values: &[&str], write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result) -> fmt::Result {
        debug_assert_eq!(values.len(), self.family.labels.len(), "{}", self.family.name);
        if values.is_empty() {
            return write(&mut self.encoder);
        }
        let labels: Vec<(&str, &str)> = self.family.labels.iter().copied().zip(values.iter().copied()).collect();
        write(&mut self.encoder.encode_family(&labels)?)
    }

    pub(super) fn counter(&mut self, values: &[&str], value: u64) -> fmt::Result {
        self.labelled(values, |encoder| encoder.encode_counter::<NoLabelSet, u64, f64>(&value, None))
    }

    pub(super) fn gauge(&mut self, values: &[&str], value: u64) -> fmt::Result {
        self.labelled(values, |encoder| encoder.encode_gauge(&value))
    }

    fn histogram(&mut self, values: &[&str], value: &Histogram) -> fmt::Result {
        self.labelled(values, |encoder| {
            encoder.encode_histogram::<NoLabelSet>(value.sum, value.count, &value.buckets, None)
        })
    }

    fn info(&mut self, value: &str) -> fmt::Result {
        let labels: Vec<(&str, &str)> = self.family.labels.iter().map(|label| (*label, value)).collect();
        self.encoder.encode_info(&labels)
    }
}

/// Writes a family's head, then its samples.
pub(super) fn family(
    encoder: &mut DescriptorEncoder<'_>,
    family: &'static Family,
    samples: impl FnOnce(&mut Samples<'_>) -> fmt::Result,
) -> fmt::Result {
    let unit = match family.unit {
        Unit::None => None,
        Unit::Seconds => Some(ClientUnit::Seconds),
        Unit::Bytes => Some(ClientUnit::Bytes),
    };
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
        Kind::Info => MetricType::Info,
    };
    let encoder = encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
    samples(&mut Samples { encoder, family })
}

impl Collector for Inner {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let state = self.state();
        let listeners = self.listeners.alive();
        let pools = self.pools.alive();
        let routes = self.routes.alive();
        process(self, &state, &mut encoder)?;
        exchanges(&listeners, &mut encoder)?;
        connections(&listeners, &state, &mut encoder)?;
        family(&mut encoder, &f::ROUTE_EXCHANGES, |samples| {
            routes.iter().try_for_each(|(name, route): &(RouteName, _)| {
                by_class(samples, &[name.as_str()], |class| route.shards.sum(|shard| shard.get(class)))
            })
        })?;
        let rules = self.rules.alive();
        family(&mut encoder, &f::VERDICTS, |samples| {
            rules.iter().try_for_each(|((name, action), rule)| {
                let [enforced, observed] = rule.counts();
                samples.counter(&[name.as_str(), action, "enforced"], enforced)?;
                samples.counter(&[name.as_str(), action, "observed"], observed)
            })
        })?;
        upstream::of_pools(&pools, &state, &mut encoder)?;
        upstream::of_endpoints(&pools, &state, &mut encoder)?;
        quota::encode(self, &state, &mut encoder)?;
        family(&mut encoder, &f::TEMP, |samples| samples.gauge(&[], state.temp_bytes))?;
        family(&mut encoder, &f::BUFFERED, |samples| samples.gauge(&[], state.buffered_bytes))?;
        log(self, &mut encoder)?;
        self.recorder.encode(&mut encoder)
    }
}

/// One sample for each status class that a final answer can have, after `labels`.
fn by_class(samples: &mut Samples<'_>, labels: &[&str], count: impl Fn(usize) -> u64) -> fmt::Result {
    CLASSES.iter().enumerate().try_for_each(|(index, class)| {
        let values: Vec<&str> = labels.iter().copied().chain([*class]).collect();
        samples.counter(&values, count(index))
    })
}

/// One sample for each cause, after `labels`.
pub(super) fn by_cause<C: Cause>(samples: &mut Samples<'_>, labels: &[&str], count: impl Fn(C) -> u64) -> fmt::Result {
    C::ALL.iter().try_for_each(|cause| {
        let values: Vec<&str> = labels.iter().copied().chain([cause.as_str()]).collect();
        samples.counter(&values, count(*cause))
    })
}

fn process(inner: &Inner, state: &State, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    family(encoder, &f::BUILD, |samples| samples.info(env!("CARGO_PKG_VERSION")))?;
    let started = inner.started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    family(encoder, &f::STARTED, |samples| samples.gauge(&[], started))?;
    family(encoder, &f::GENERATION, |samples| samples.gauge(&[], state.generation))?;
    family(encoder, &f::RELOADS, |samples| by_cause(samples, &[], |result: Reload| inner.reloads.get(result)))?;
    family(encoder, &f::ADMIN_CHANGES, |samples| {
        by_cause(samples, &[], |result: AdminChange| inner.admin_changes.get(result))
    })?;
    family(encoder, &f::PHASE, |samples| {
        [Phase::Running, Phase::Unready, Phase::Draining, Phase::Ending]
            .into_iter()
            .try_for_each(|phase| samples.gauge(&[phase_word(phase)], u64::from(state.phase == phase)))
    })?;
    family(encoder, &f::PANICS, |samples| samples.counter(&[], inner.panics.get()))
}

fn exchanges(listeners: &[(ListenerName, Arc<ListenerMetrics>)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    family(encoder, &f::EXCHANGES, |samples| {
        listeners.iter().try_for_each(|(name, listener)| {
            by_class(samples, &[name.as_str(), Protocol::Http1.as_str()], |class| {
                listener.shards.sum(|shard| shard.http1.get(class))
            })?;
            by_class(samples, &[name.as_str(), Protocol::Http2.as_str()], |class| {
                listener.shards.sum(|shard| shard.http2.get(class))
            })?;
            by_class(samples, &[name.as_str(), Protocol::Http3.as_str()], |class| {
                listener.shards.sum(|shard| shard.http3.get(class))
            })
        })
    })?;
    family(encoder, &f::ENDS, |samples| {
        listeners.iter().try_for_each(|(name, listener)| {
            ends().try_for_each(|end| {
                let count = listener.shards.sum(|shard| shard.ends.get(end));
                // Most combinations never occur: a series begins with its first end.
                if count == 0 && end != End::COMPLETE {
                    return Ok(());
                }
                let code: String = end.code().iter().collect();
                samples.counter(&[name.as_str(), &code], count)
            })
        })
    })?;
    family(encoder, &f::REQUEST_BODY, |samples| {
        per_listener(samples, listeners, |listener| listener.shards.sum(|shard| shard.bytes_in.get()))
    })?;
    family(encoder, &f::RESPONSE_BODY, |samples| {
        per_listener(samples, listeners, |listener| listener.shards.sum(|shard| shard.bytes_out.get()))
    })?;
    family(encoder, &f::FAULTS, |samples| {
        listeners.iter().try_for_each(|(name, listener)| {
            let mut codes = BTreeMap::new();
            listener.shards.each(|shard| shard.faults.add_to(&mut codes));
            codes.iter().try_for_each(|(code, count)| samples.counter(&[name.as_str(), code], *count))
        })
    })
}

fn ends() -> impl Iterator<Item = End> {
    [Who::Nobody, Who::Client, Who::Upstream, Who::Proxy].into_iter().flat_map(|who| {
        [Stage::Complete, Stage::Request, Stage::Queue, Stage::Connect, Stage::Head, Stage::Data, Stage::Tunnel]
            .into_iter()
            .map(move |stage| End { who, stage })
    })
}

fn per_listener(
    samples: &mut Samples<'_>,
    listeners: &[(ListenerName, Arc<ListenerMetrics>)],
    count: impl Fn(&ListenerMetrics) -> u64,
) -> fmt::Result {
    listeners.iter().try_for_each(|(name, listener)| samples.counter(&[name.as_str()], count(listener)))
}

fn connections(
    listeners: &[(ListenerName, Arc<ListenerMetrics>)],
    state: &State,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    family(encoder, &f::CONNECTIONS, |samples| {
        per_listener(samples, listeners, |listener| listener.shards.sum(|shard| shard.accepted.get()))
    })?;
    family(encoder, &f::CONNECTIONS_OPEN, |samples| {
        state.listeners.iter().try_for_each(|listener| samples.gauge(&[listener.name.as_str()], listener.connections))
    })?;
    family(encoder, &f::CONNECTIONS_SPEAKING, |samples| {
        state.listeners.iter().try_for_each(|listener| {
            listener
                .speaking
                .iter()
                .try_for_each(|(protocol, open)| samples.gauge(&[listener.name.as_str(), protocol.as_str()], *open))
        })
    })?;
    family(encoder, &f::CONNECTIONS_REFUSED, |samples| {
        listeners
            .iter()
            .try_for_each(|(name, listener)| by_cause(samples, &[name.as_str()], |cause| listener.refused.get(cause)))
    })?;
    family(encoder, &f::ACCEPT_BACKOFFS, |samples| {
        per_listener(samples, listeners, |listener| listener.backoffs.get())
    })?;
    family(encoder, &f::HANDSHAKES, |samples| {
        listeners.iter().try_for_each(|(name, listener)| {
            TLS_VERSIONS.iter().zip(&listener.handshakes).try_for_each(|(version, [full, resumed])| {
                samples.counter(&[name.as_str(), version, "no"], full.get())?;
                samples.counter(&[name.as_str(), version, "yes"], resumed.get())
            })
        })
    })?;
    family(encoder, &f::HANDSHAKE_FAILURES, |samples| {
        listeners.iter().try_for_each(|(name, listener)| {
            by_cause(samples, &[name.as_str()], |cause| listener.handshake_failures.get(cause))
        })
    })?;
    family(encoder, &f::QUIC_RETRIES, |samples| {
        per_listener(samples, listeners, |listener| listener.quic.retries.get())
    })?;
    family(encoder, &f::QUIC_FORWARDED, |samples| {
        per_listener(samples, listeners, |listener| listener.quic.forwarded.get())
    })?;
    family(encoder, &f::QUIC_LOST, |samples| per_listener(samples, listeners, |listener| listener.quic.lost.get()))?;
    family(encoder, &f::QUIC_OFFENCES, |samples| {
        listeners.iter().try_for_each(|(name, listener)| {
            let mut codes = BTreeMap::new();
            listener.quic.offences.add_to(&mut codes);
            codes.iter().try_for_each(|(code, count)| samples.counter(&[name.as_str(), code], *count))
        })
    })?;
    family(encoder, &f::CERTIFICATE_EXPIRY, |samples| {
        state.listeners.iter().try_for_each(|listener| {
            listener.certificates.iter().try_for_each(|(certificate, expiry)| {
                let expiry = expiry.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                samples.gauge(&[listener.name.as_str(), certificate], expiry)
            })
        })
    })
}

fn log(inner: &Inner, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    family(encoder, &f::LOG_RECORDS, |samples| samples.counter(&[], inner.log.written.get()))?;
    family(encoder, &f::LOG_DROPPED, |samples| by_cause(samples, &[], |cause: LogDrop| inner.log.dropped.get(cause)))?;
    family(encoder, &f::LOG_ERRORS, |samples| samples.counter(&[], inner.log.errors.get()))?;
    family(encoder, &f::EVENTS_DROPPED, |samples| samples.counter(&[], super::super::events::dropped()))
}
