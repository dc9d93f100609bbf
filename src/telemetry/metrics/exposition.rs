//! The text that a scrape gets.
//!
//! Floor 2. OpenMetrics 1.0 as prometheus-client writes it, or the older Prometheus text format, which differs in the
//! names of `HELP` and `TYPE` lines.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::Inner;
use super::families::DURATION;

/// A form of exposition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Prometheus,
}

impl Exposition {
    /// The `Content-Type` it is sent under.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Everything, as text.
pub(super) fn expose(inner: &Arc<Inner>, form: Exposition) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Arc::clone(inner)));
    let mut out = String::with_capacity(16 * 1024);
    text::encode(&mut out, &registry)?;
    Ok(match form {
        Exposition::OpenMetrics => with_exemplars(&out, inner),
        Exposition::Prometheus => as_prometheus(&out),
    })
}

/// Puts exemplars behind the buckets of whole exchanges. prometheus-client 0.25 writes them only for its own histograms, which
/// take a lock for each observation.
fn with_exemplars(plain: &str, inner: &Arc<Inner>) -> String {
    let mut of_pools = Vec::new();
    for (name, pool) in inner.pools.alive() {
        let newest = pool.exemplars();
        if newest.iter().any(Option::is_some) {
            of_pools.push((format!(",pool=\"{}\",stage=\"total\"}} ", name.as_str()), newest.into_iter()));
        }
    }
    let mut out = String::with_capacity(plain.len() + 4096);
    let bucket = format!("{}_bucket{{le=\"", DURATION.full_name());
    for line in plain.lines() {
        out.push_str(line);
        // The buckets of a pool come one after the other, in the order of their bounds.
        if let Some((_, rest)) = line.strip_prefix(&bucket).and_then(|rest| rest.split_once('"'))
            && let Some((_, exemplars)) = of_pools.iter_mut().find(|(labels, _)| rest.starts_with(labels.as_str()))
            && let Some(Some(exemplar)) = exemplars.next()
        {
            out.push_str(&exemplar.text());
        }
        out.push('\n');
    }
    out
}

/// In the older format `HELP` and `TYPE` carry the name of the samples, suffix included, there is no `UNIT` nor `EOF`,
/// and an info is a gauge.
fn as_prometheus(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            help = Some(line);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            if let Some((_, text)) = help.take().and_then(|line| line.strip_prefix("# HELP ")?.split_once(' ')) {
                out.extend(["# HELP ", name, suffix, " ", text, "\n"]);
            }
            out.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            out.extend([line, "\n"]);
        }
    }
    out
}
