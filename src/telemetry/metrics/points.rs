//! Everything that is counted as OpenTelemetry's protocol has it.
//!
//! Floor 2. In: the values of a scrape. Out: one request for a collector. A family's name, unit and kind are such that whoever
//! turns them into Prometheus' form again gets the names of `/metrics`, so that dashboards and alerts hold for both ways.
//! Counters and histograms are cumulative since the process began, which is when they say that they started.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as ExemplarValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    self as points, AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use super::families::{Family, Kind, Unit};
use super::{Exemplar, Metrics, Point, Value, Values};
use crate::config::sink::Otlp;
use crate::telemetry::parcel::otlp::{attribute, hex, instance, scope};

/// When points began to be counted, and when they were read, in nanoseconds of Unix time.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    at: u64,
}

impl Metrics {
    /// Everything now, for the collector `to`, and how many points that is.
    pub fn points(&self, to: &Otlp) -> (Bytes, u64) {
        let span = Span { from: nanos(self.0.started), at: nanos(SystemTime::now()) };
        request(&self.values(), span, &instance(&to.resource))
    }
}

fn request(values: &[Values], span: Span, resource: &[u8]) -> (Bytes, u64) {
    let shown = values.iter().filter(|values| !values.points.is_empty());
    let points: usize = shown.clone().map(|values| values.points.len()).sum();
    let metrics = ResourceMetrics {
        // It was encoded here.
        resource: Resource::decode(resource).ok(),
        scope_metrics: vec![ScopeMetrics {
            scope: Some(scope()),
            metrics: shown.map(|values| metric(values, span)).collect(),
            ..ScopeMetrics::default()
        }],
        ..ResourceMetrics::default()
    };
    let request = ExportMetricsServiceRequest { resource_metrics: vec![metrics] };
    (Bytes::from(request.encode_to_vec()), points as u64)
}

fn metric(Values { family, points }: &Values, span: Span) -> Metric {
    let temporality = AggregationTemporality::Cumulative.into();
    let numbers = |span| points.iter().filter_map(|point| number(family, point, span)).collect();
    let data = match family.kind {
        Kind::Counter => {
            Data::Sum(Sum { data_points: numbers(span), aggregation_temporality: temporality, is_monotonic: true })
        }
        // What is now has no beginning.
        Kind::Gauge | Kind::Info => Data::Gauge(Gauge { data_points: numbers(Span { from: 0, ..span }) }),
        Kind::Histogram => Data::Histogram(Histogram {
            data_points: points.iter().filter_map(|point| distribution(family, point, span)).collect(),
            aggregation_temporality: temporality,
        }),
    };
    let suffix = if family.kind == Kind::Info { "_info" } else { "" };
    Metric {
        name: format!("{}{suffix}", family.prefixed()),
        description: family.help.to_owned(),
        // Units of UCUM. `1` would make a ratio of a plain number.
        unit: match family.unit {
            Unit::None => "",
            Unit::Seconds => "s",
            Unit::Bytes => "By",
            Unit::Ratio => "1",
        }
        .to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(family: &Family, point: &Point, span: Span) -> Option<NumberDataPoint> {
    let value = match &point.value {
        Value::Whole(whole) => Number::AsInt(i64::try_from(*whole).unwrap_or(i64::MAX)),
        Value::Real(real) => Number::AsDouble(*real),
        Value::Histogram { .. } => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(family, point),
        start_time_unix_nano: span.from,
        time_unix_nano: span.at,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn distribution(family: &Family, point: &Point, span: Span) -> Option<HistogramDataPoint> {
    let Value::Histogram { sum, bounds, counts, exemplars } = &point.value else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(family, point),
        start_time_unix_nano: span.from,
        time_unix_nano: span.at,
        count: counts.iter().sum(),
        sum: Some(*sum),
        bucket_counts: counts.clone(),
        explicit_bounds: bounds.clone(),
        exemplars: exemplars.iter().filter_map(sampled).collect(),
        ..HistogramDataPoint::default()
    })
}

/// An exemplar with the trace that it leads to.
fn sampled(exemplar: &Exemplar) -> Option<points::Exemplar> {
    Some(points::Exemplar {
        time_unix_nano: nanos(exemplar.at),
        value: Some(ExemplarValue::AsDouble(exemplar.value.as_secs_f64())),
        trace_id: hex(std::str::from_utf8(&exemplar.trace).ok()?)?,
        ..points::Exemplar::default()
    })
}

fn nanos(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn attributes(family: &Family, point: &Point) -> Vec<KeyValue> {
    let texts = family.labels.iter().zip(&point.labels);
    texts.map(|(label, value)| attribute(label, Any::StringValue(value.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::families as f;
    use super::*;

    #[test]
    fn each_kind_is_what_others_decode() {
        let point = |labels: &[&str], value| Point { labels: labels.iter().map(|l| (*l).to_owned()).collect(), value };
        let exemplar =
            Exemplar { trace: *b"0af7651916cd43dd8448eb211c80319c", value: Duration::from_millis(50), at: UNIX_EPOCH };
        let values = [
            Values { family: &f::BUILD, points: vec![point(&["1.2.3"], Value::Whole(1))] },
            Values { family: &f::PANICS, points: vec![point(&[], Value::Whole(7))] },
            Values { family: &f::PROCESS_CPU, points: vec![point(&[], Value::Real(1.5))] },
            Values { family: &f::SLO_OBJECTIVE, points: vec![point(&["p", "latency"], Value::Real(0.99))] },
            Values {
                family: &f::DURATION,
                points: vec![point(
                    &["superset", "total"],
                    Value::Histogram {
                        sum: 2.5,
                        bounds: vec![0.1, 1.0],
                        counts: vec![3, 0, 1],
                        exemplars: vec![exemplar],
                    },
                )],
            },
            Values { family: &f::FLEET_UP, points: Vec::new() },
        ];

        let (body, points) = request(&values, Span { from: 5, at: 9 }, &instance(&[].into()));

        let request = ExportMetricsServiceRequest::decode(body).unwrap();
        let [resource] = &request.resource_metrics[..] else { panic!("{request:?}") };
        let keys: Vec<&str> = resource.resource.as_ref().unwrap().attributes.iter().map(|a| a.key.as_str()).collect();
        assert_eq!(keys, ["service.name", "service.version", "service.instance.id"]);
        let [info, panics, cpu, objective, duration] = &resource.scope_metrics[0].metrics[..] else {
            panic!("{request:?}")
        };
        assert_eq!(points, 5);
        assert_eq!((info.name.as_str(), info.unit.as_str()), ("sluicegate_build_info", ""));
        let Some(Data::Sum(sum)) = &panics.data else { panic!("{panics:?}") };
        assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "{sum:?}");
        assert_eq!((sum.data_points[0].start_time_unix_nano, sum.data_points[0].time_unix_nano), (5, 9));
        assert_eq!(sum.data_points[0].value, Some(Number::AsInt(7)));
        assert_eq!((cpu.name.as_str(), cpu.unit.as_str()), ("process_cpu", "s"));
        let Some(Data::Gauge(gauge)) = &objective.data else { panic!("{objective:?}") };
        assert_eq!((objective.unit.as_str(), gauge.data_points[0].attributes.len()), ("1", 2));
        let Some(Data::Histogram(histogram)) = &duration.data else { panic!("{duration:?}") };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum, &point.bucket_counts[..]), (4, Some(2.5), &[3, 0, 1][..]));
        let [exemplar] = &point.exemplars[..] else { panic!("{point:?}") };
        assert_eq!((exemplar.trace_id[..2].to_vec(), exemplar.trace_id.len()), (vec![0x0a, 0xf7], 16));
        assert_eq!(exemplar.value, Some(ExemplarValue::AsDouble(0.05)));
        assert_eq!((&point.explicit_bounds[..], point.attributes[1].key.as_str()), (&[0.1, 1.0][..], "stage"));
    }
}
