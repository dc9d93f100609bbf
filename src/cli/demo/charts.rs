//! Numbers for the demo's charts: made up, smooth, and moving, so that a refresh can be seen.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Points of a series.
const POINTS: u32 = 24;

/// Answers a chart's query in the shape of Superset's `/api/v1/chart/data`. `query` is the request's JSON; its
/// `chart_id` picks the series.
pub(super) fn answer(query: &Value, replica: &str, now: SystemTime) -> Value {
    let chart = query.get("chart_id").and_then(Value::as_u64).unwrap_or(1) % 1_000;
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let rows: Vec<Value> = (0..POINTS).map(|point| json!({ "x": point, "y": height(chart, point, seconds) })).collect();
    json!({
        "result": [{ "chart_id": chart, "status": "success", "rowcount": rows.len(), "data": rows, "is_cached": false }],
        "replica": replica,
    })
}

fn height(chart: u64, point: u32, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "below 1,000")]
    let phase = chart as f64 * 1.7;
    let x = f64::from(point) / 3.0;
    let wave = (x + phase + seconds / 9.0).sin() * 0.30 + (x * 2.3 + phase - seconds / 5.0).cos() * 0.15;
    ((0.55 + wave).clamp(0.02, 1.0) * 1_000.0).round() / 10.0
}
