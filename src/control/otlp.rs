//! Where OpenTelemetry's collectors take what, and what they say to it.
//!
//! Floor 5. The three signals have services and paths of their own, and answer alike.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message as _;

/// What takes a signal.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its path over HTTP, behind the collector's URL.
    pub path: &'static str,
    /// Its method over gRPC.
    pub method: &'static str,
}

/// Takes log records.
pub const LOGS: Service =
    Service { path: "/v1/logs", method: "/opentelemetry.proto.collector.logs.v1.LogsService/Export" };

/// Takes spans.
pub const TRACES: Service =
    Service { path: "/v1/traces", method: "/opentelemetry.proto.collector.trace.v1.TraceService/Export" };

/// Takes points of metrics.
pub const METRICS: Service =
    Service { path: "/v1/metrics", method: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" };

/// What bodies over HTTP are.
pub const CONTENT: &str = "application/x-protobuf";

/// How many records, spans or points the collector threw away for good: in all three answers the first field of the first
/// field.
pub fn not_taken(answer: Bytes) -> u64 {
    let partial = ExportLogsServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
    partial.map_or(0, |partial| u64::try_from(partial.rejected_log_records).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
    };
    use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};

    use super::*;

    #[test]
    fn what_was_thrown_away_is_read_from_each_answer() {
        let spans = ExportTracePartialSuccess { rejected_spans: 3, error_message: "no".into() };
        let spans = ExportTraceServiceResponse { partial_success: Some(spans) };
        let points = ExportMetricsPartialSuccess { rejected_data_points: 4, error_message: String::new() };
        let points = ExportMetricsServiceResponse { partial_success: Some(points) };

        assert_eq!(not_taken(spans.encode_to_vec().into()), 3);
        assert_eq!(not_taken(points.encode_to_vec().into()), 4);
        assert_eq!(not_taken(Bytes::new()), 0);
        assert_eq!(not_taken(Bytes::from_static(b"no protobuf")), 0);
    }
}
