//! Gives each family its samples.
//!
//! Floor 2. In: the handles that are alive and the state at this moment. Runs on the control runtime, never on a
//! worker.

mod objectives;
mod upstream;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::cells::CLASSES;
use super::families as f;
use super::handles::TLS_VERSIONS;
use super::page::{Page, Samples, family};
use super::process::Figures;
use super::{AdminChange, Cause, Inner, ListenerMetrics, Reload, State, log, phase_word, quota};
use crate::lexicon::{ListenerName, Protocol, RouteName};
use crate::lifecycle::Phase;
use crate::telemetry::record::{End, Stage, Who};

impl Collector for Inner {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.write(&mut Page::Text(encoder))
    }
}

impl Inner {
    /// Every family, in the order of the table.
    pub(super) fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let state = self.state();
        let listeners = self.listeners.alive();
        let pools = self.pools.alive();
        let routes = self.routes.alive();
        process(self, &state, page)?;
        exchanges(&listeners, page)?;
        connections(&listeners, &state, page)?;
        family(page, &f::ROUTE_EXCHANGES, |samples| {
            routes.iter().try_for_each(|(name, route): &(RouteName, _)| {
                by_class(samples, &[name.as_str()], |class| route.shards.sum(|shard| shard.get(class)))
            })
        })?;
        let rules = self.rules.alive();
        family(page, &f::VERDICTS, |samples| {
            rules.iter().try_for_each(|((name, action), rule)| {
                let [enforced, observed] = rule.counts();
                samples.counter(&[name.as_str(), action, "enforced"], enforced)?;
                samples.counter(&[name.as_str(), action, "observed"], observed)
            })
        })?;
        family(page, &f::CRAWLER_PROOFS, |samples| by_cause(samples, &[], |result| self.proofs.get(result)))?;
        upstream::of_pools(&pools, &state, page)?;
        upstream::of_endpoints(&pools, &state, page)?;
        objectives::encode(self, &pools, &state, page)?;
        quota::encode(self, &state, page)?;
        family(page, &f::TEMP, |samples| samples.gauge(&[], state.temp_bytes))?;
        family(page, &f::BUFFERED, |samples| samples.gauge(&[], state.buffered_bytes))?;
        log::encode(self, page)?;
        self.recorder.encode(page)
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

fn process(inner: &Inner, state: &State, page: &mut Page<'_>) -> fmt::Result {
    family(page, &f::BUILD, |samples| samples.info(env!("CARGO_PKG_VERSION")))?;
    family(page, &f::GENERATION, |samples| samples.gauge(&[], state.generation))?;
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    family(page, &f::LOADED, |samples| state.loaded_at.map_or(Ok(()), |loaded| samples.gauge(&[], seconds(loaded))))?;
    family(page, &f::RELOAD_FAILED, |samples| {
        samples.gauge(&[], u64::from(inner.reload_failed.load(Ordering::Relaxed)))
    })?;
    family(page, &f::RELOADS, |samples| by_cause(samples, &[], |result: Reload| inner.reloads.get(result)))?;
    family(page, &f::ADMIN_CHANGES, |samples| {
        by_cause(samples, &[], |result: AdminChange| inner.admin_changes.get(result))
    })?;
    inner.admin.encode(page)?;
    family(page, &f::PHASE, |samples| {
        [Phase::Running, Phase::Unready, Phase::Draining, Phase::Ending]
            .into_iter()
            .try_for_each(|phase| samples.gauge(&[phase_word(phase)], u64::from(state.phase == phase)))
    })?;
    family(page, &f::PANICS, |samples| samples.counter(&[], inner.panics.get()))?;
    figures(seconds(inner.started), page)?;
    workers(state, page)
}

fn figures(started: u64, page: &mut Page<'_>) -> fmt::Result {
    let figures = Figures::read();
    family(page, &f::PROCESS_STARTED, |samples| samples.gauge(&[], started))?;
    family(page, &f::PROCESS_CPU, |samples| {
        figures.cpu.map_or(Ok(()), |cpu| samples.counter_f64(&[], cpu.as_secs_f64()))
    })?;
    let mut gauge =
        |of, value: Option<u64>| family(page, of, |samples| value.map_or(Ok(()), |value| samples.gauge(&[], value)));
    gauge(&f::PROCESS_FDS, figures.open_fds)?;
    gauge(&f::PROCESS_MAX_FDS, figures.max_fds)?;
    gauge(&f::PROCESS_THREADS, figures.threads)?;
    gauge(&f::PROCESS_VIRTUAL, figures.virtual_memory)?;
    gauge(&f::PROCESS_RESIDENT, figures.resident_memory)
}

fn workers(state: &State, page: &mut Page<'_>) -> fmt::Result {
    let workers = || state.workers.iter().enumerate().map(|(index, worker)| (index.to_string(), worker));
    family(page, &f::WORKER_BUSY, |samples| {
        workers().try_for_each(|(name, worker)| samples.counter_f64(&[&name], worker.busy.as_secs_f64()))
    })?;
    family(page, &f::WORKER_CONNECTIONS, |samples| {
        workers().try_for_each(|(name, worker)| samples.gauge(&[&name], worker.connections))
    })?;
    family(page, &f::WORKER_TASKS, |samples| {
        workers().try_for_each(|(name, worker)| samples.gauge(&[&name], worker.tasks))
    })?;
    family(page, &f::CONNECTIONS_MAX, |samples| samples.gauge(&[], state.connections_max))
}

fn exchanges(listeners: &[(ListenerName, Arc<ListenerMetrics>)], page: &mut Page<'_>) -> fmt::Result {
    family(page, &f::EXCHANGES, |samples| {
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
    family(page, &f::ENDS, |samples| {
        listeners.iter().try_for_each(|(name, listener)| {
            ends().try_for_each(|end| {
                let count = listener.shards.sum(|shard| shard.ends.get(end));
                // Most combinations never occur: a series begins with its first end.
                if count == 0 && end != End::COMPLETE {
                    return Ok(());
                }
                let code = end.code().to_string();
                samples.counter(&[name.as_str(), &code], count)
            })
        })
    })?;
    family(page, &f::REQUEST_BODY, |samples| {
        per_listener(samples, listeners, |listener| listener.shards.sum(|shard| shard.bytes_in.get()))
    })?;
    family(page, &f::RESPONSE_BODY, |samples| {
        per_listener(samples, listeners, |listener| listener.shards.sum(|shard| shard.bytes_out.get()))
    })?;
    family(page, &f::FAULTS, |samples| {
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

fn connections(listeners: &[(ListenerName, Arc<ListenerMetrics>)], state: &State, page: &mut Page<'_>) -> fmt::Result {
    family(page, &f::CONNECTIONS, |samples| {
        per_listener(samples, listeners, |listener| listener.shards.sum(|shard| shard.accepted.get()))
    })?;
    family(page, &f::CONNECTIONS_OPEN, |samples| {
        state.listeners.iter().try_for_each(|listener| samples.gauge(&[listener.name.as_str()], listener.connections))
    })?;
    family(page, &f::CONNECTIONS_SPEAKING, |samples| {
        state.listeners.iter().try_for_each(|listener| {
            listener
                .speaking
                .iter()
                .try_for_each(|(protocol, open)| samples.gauge(&[listener.name.as_str(), protocol.as_str()], *open))
        })
    })?;
    family(page, &f::CONNECTIONS_REFUSED, |samples| {
        listeners
            .iter()
            .try_for_each(|(name, listener)| by_cause(samples, &[name.as_str()], |cause| listener.refused.get(cause)))
    })?;
    family(page, &f::ACCEPT_BACKOFFS, |samples| per_listener(samples, listeners, |listener| listener.backoffs.get()))?;
    family(page, &f::HANDSHAKES, |samples| {
        listeners.iter().try_for_each(|(name, listener)| {
            TLS_VERSIONS.iter().zip(&listener.handshakes).try_for_each(|(version, [full, resumed])| {
                samples.counter(&[name.as_str(), version, "no"], full.get())?;
                samples.counter(&[name.as_str(), version, "yes"], resumed.get())
            })
        })
    })?;
    family(page, &f::HANDSHAKE_FAILURES, |samples| {
        listeners.iter().try_for_each(|(name, listener)| {
            by_cause(samples, &[name.as_str()], |cause| listener.handshake_failures.get(cause))
        })
    })?;
    family(page, &f::QUIC_RETRIES, |samples| per_listener(samples, listeners, |listener| listener.quic.retries.get()))?;
    family(page, &f::QUIC_FORWARDED, |samples| {
        per_listener(samples, listeners, |listener| listener.quic.forwarded.get())
    })?;
    family(page, &f::QUIC_LOST, |samples| per_listener(samples, listeners, |listener| listener.quic.lost.get()))?;
    family(page, &f::QUIC_OFFENCES, |samples| {
        listeners.iter().try_for_each(|(name, listener)| {
            let mut codes = BTreeMap::new();
            listener.quic.offences.add_to(&mut codes);
            codes.iter().try_for_each(|(code, count)| samples.counter(&[name.as_str(), code], *count))
        })
    })?;
    family(page, &f::CERTIFICATE_EXPIRY, |samples| {
        state.listeners.iter().try_for_each(|listener| {
            listener.certificates.iter().try_for_each(|(certificate, expiry)| {
                let expiry = expiry.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                samples.gauge(&[listener.name.as_str(), certificate], expiry)
            })
        })
    })
}
