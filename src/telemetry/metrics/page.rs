//! What a scrape writes to: text, or values for whoever ships them elsewhere.
//!
//! Floor 2. The families are written once and go to either.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit as ClientUnit;

use super::cells::Histogram;
use super::exemplar::Exemplar;
use super::families::{Family, Kind, Unit};

/// A family with its samples, as values.
#[derive(Clone, Debug)]
pub struct Values {
    /// The family.
    pub family: &'static Family,
    /// Its samples.
    pub points: Vec<Point>,
}

/// One sample.
#[derive(Clone, Debug)]
pub struct Point {
    /// Values of the family's labels, in order.
    pub labels: Vec<String>,
    /// The number.
    pub value: Value,
}

/// A sample's number.
#[derive(Clone, Debug)]
pub enum Value {
    /// A whole one.
    Whole(u64),
    /// Any.
    Real(f64),
    /// A distribution.
    Histogram {
        /// Sum of all, in the family's unit.
        sum: f64,
        /// Upper bounds of the buckets, but for the last, which has none.
        bounds: Vec<f64>,
        /// How many are in each, and beyond the last bound.
        counts: Vec<u64>,
        /// Some of them.
        exemplars: Vec<Exemplar>,
    },
}

/// What a scrape writes to.
pub(super) enum Page<'a> {
    Text(DescriptorEncoder<'a>),
    Values(&'a mut Vec<Values>),
}

/// Takes the samples of one family.
pub(super) struct Samples<'a> {
    to: To<'a>,
    family: &'static Family,
}

enum To<'a> {
    Text(MetricEncoder<'a>),
    Values(&'a mut Vec<Point>),
}

impl Samples<'_> {
    fn write(
        &mut self,
        labels: &[&str],
        text: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
        value: impl FnOnce() -> Value,
    ) -> fmt::Result {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}", self.family.name);
        match &mut self.to {
            To::Text(encoder) if labels.is_empty() => text(encoder),
            To::Text(encoder) => {
                let labels: Vec<(&str, &str)> =
                    self.family.labels.iter().copied().zip(labels.iter().copied()).collect();
                text(&mut encoder.encode_family(&labels)?)
            }
            To::Values(points) => {
                points.push(Point { labels: labels.iter().map(|label| (*label).to_owned()).collect(), value: value() });
                Ok(())
            }
        }
    }

    pub(super) fn counter(&mut self, labels: &[&str], value: u64) -> fmt::Result {
        let text = |to: &mut MetricEncoder<'_>| to.encode_counter::<NoLabelSet, u64, f64>(&value, None);
        self.write(labels, text, || Value::Whole(value))
    }

    pub(super) fn counter_f64(&mut self, labels: &[&str], value: f64) -> fmt::Result {
        let text = |to: &mut MetricEncoder<'_>| to.encode_counter::<NoLabelSet, f64, f64>(&value, None);
        self.write(labels, text, || Value::Real(value))
    }

    pub(super) fn gauge(&mut self, labels: &[&str], value: u64) -> fmt::Result {
        self.write(labels, |to| to.encode_gauge(&value), || Value::Whole(value))
    }

    pub(super) fn gauge_f64(&mut self, labels: &[&str], value: f64) -> fmt::Result {
        self.write(labels, |to| to.encode_gauge(&value), || Value::Real(value))
    }

    pub(super) fn histogram(&mut self, labels: &[&str], value: &Histogram) -> fmt::Result {
        let text = |to: &mut MetricEncoder<'_>| {
            to.encode_histogram::<NoLabelSet>(value.sum, value.count, &value.buckets, None)
        };
        self.write(labels, text, || Value::Histogram {
            sum: value.sum,
            bounds: value.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect(),
            counts: value.buckets.iter().map(|(_, count)| *count).collect(),
            exemplars: value.exemplars.clone(),
        })
    }

    pub(super) fn info(&mut self, value: &str) -> fmt::Result {
        match &mut self.to {
            To::Text(encoder) => {
                let labels: Vec<(&str, &str)> = self.family.labels.iter().map(|label| (*label, value)).collect();
                encoder.encode_info(&labels)
            }
            To::Values(points) => {
                points.push(Point { labels: vec![value.to_owned()], value: Value::Whole(1) });
                Ok(())
            }
        }
    }
}

/// Writes a family's head, then its samples.
pub(super) fn family(
    page: &mut Page<'_>,
    family: &'static Family,
    samples: impl FnOnce(&mut Samples<'_>) -> fmt::Result,
) -> fmt::Result {
    match page {
        Page::Values(values) => {
            let mut points = Vec::new();
            samples(&mut Samples { to: To::Values(&mut points), family })?;
            values.push(Values { family, points });
            Ok(())
        }
        Page::Text(encoder) => {
            let unit = match family.unit {
                Unit::None => None,
                Unit::Seconds => Some(ClientUnit::Seconds),
                Unit::Bytes => Some(ClientUnit::Bytes),
                Unit::Ratio => Some(ClientUnit::Other("ratio".to_owned())),
            };
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            let name = family.prefixed();
            let encoder = encoder.encode_descriptor(&name, family.help, unit.as_ref(), kind)?;
            samples(&mut Samples { to: To::Text(encoder), family })
        }
    }
}
