//! Events as lines and counts.

use std::io::Write;
use std::sync::{Arc, Mutex};

use super::*;
use crate::telemetry::metrics::Exposition;
use crate::telemetry::metrics::Standing;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn lines_of(happening: impl FnOnce()) -> Vec<serde_json::Value> {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, happening);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn flip_has_one_line_with_its_reason_and_is_counted() {
    let metrics = Metrics::new(1);
    let pool = metrics.pool(&PoolName::new("superset"));
    let name = EndpointName::new("10.0.0.1:8088");
    let endpoint = pool.endpoint(&name);

    let lines = lines_of(|| {
        EndpointFlipped {
            pool: &PoolName::new("superset"),
            endpoint: &name,
            from: Standing::Up,
            to: Standing::Down,
            reason: "3 checks without an answer",
        }
        .emit(&endpoint);
    });

    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["level"], "WARN");
    assert_eq!(lines[0]["message"], "endpoint down");
    assert_eq!(lines[0]["standing.from"], "up");
    assert_eq!(lines[0]["reason"], "3 checks without an answer");
    let text = metrics.expose(Exposition::OpenMetrics).unwrap();
    assert!(text.contains(r#"health_flips_total{pool="superset",endpoint="10.0.0.1:8088",to="down"} 1"#));
}

#[test]
fn failed_reload_names_the_whole_chain() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);
    let metrics = Metrics::new(1);

    let lines = lines_of(|| {
        reload_failed(&metrics, Generation(3), Path::new("/etc/s.toml"), &Outer(std::io::Error::other("inner")));
    });

    assert_eq!(lines[0]["error"], "outer: inner");
    assert_eq!(lines[0]["config.generation"], "3");
    assert_eq!(metrics.reloads(Reload::Failed), 1);
}

#[test]
fn streak_of_log_failures_has_one_line() {
    let metrics = Metrics::new(1);
    let log = metrics.log();
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);

    let lines = lines_of(|| {
        access_log_failing(&log, "/var/log/a", true, &full);
        access_log_failing(&log, "/var/log/a", false, &full);
    });

    assert_eq!((lines.len(), log.errors.get()), (1, 2));
}

#[test]
fn filter_that_does_not_parse_is_an_error() {
    assert!(matches!(install("sluicegate=loud", false, 16), Err(InstallError::Filter(_))));
}
