//! `logs`: records of a running proxy as they come, for people, or as JSON for programs.

use std::fmt::Write as _;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::Exit;
use super::client::{Followed, Reach};
use super::output::{Output, visible};

/// Which records.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Filter {
    /// Statuses and classes of them, e.g. 5xx,404; none: the client was gone before
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Of this pool
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// Of this endpoint
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// That took at least so long, e.g. 500ms
    #[arg(long, value_name = "DURATION")]
    min: Option<String>,
    /// That this rule of the shield fits, or any
    #[arg(long, value_name = "RULE")]
    verdict: Option<String>,
    /// That the proxy itself answered or broke off for this reason, or any
    #[arg(long, value_name = "CODE")]
    fault: Option<String>,
    /// Of this address or network
    #[arg(long, value_name = "ADDRESS|NETWORK")]
    client: Option<String>,
}

impl Filter {
    fn path(&self) -> String {
        let keys = [
            ("status", &self.status),
            ("route", &self.route),
            ("pool", &self.pool),
            ("endpoint", &self.endpoint),
            ("min", &self.min),
            ("verdict", &self.verdict),
            ("fault", &self.fault),
            ("client", &self.client),
        ];
        let mut path = "/records".to_owned();
        for (key, value) in keys.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
            path.push(if path.contains('?') { '&' } else { '?' });
            // Writing to a String cannot fail.
            let _infallible = write!(path, "{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
        path
    }
}

/// Follows until the proxy ends, or nobody reads any more.
pub(super) fn run(reach: &Reach, filter: &Filter, as_json: bool, output: &mut Output) -> Exit {
    let colours = output.is_colourful();
    let told = reach.find().and_then(|client| {
        client.follow(&filter.path(), |name, data| {
            match name {
                "record" if as_json => output.line(data),
                "record" => {
                    if let Ok(record) = serde_json::from_str(data) {
                        output.line(line(&record, colours));
                    }
                }
                "dropped" => output.error(format_args!(
                    "sluicegate: {} records are missing here: they came faster than they were read",
                    visible(data)
                )),
                _ => {}
            }
            output.is_open()
        })
    });
    match told {
        Ok(Followed::Enough) => Exit::Done,
        Ok(Followed::Ended) => {
            output.error("sluicegate: the proxy has ended the stream");
            Exit::Failed
        }
        Ok(Followed::Refused(why)) => {
            output.error(format_args!("sluicegate: {}", visible(why.trim_end())));
            Exit::Failed
        }
        Err(error) => error.tell(output),
    }
}

/// A record on a line.
fn line(record: &Value, colours: bool) -> String {
    let word = |key: &str| visible(record[key].as_str().unwrap_or_default());
    let status = record["status"].as_u64();
    let paint = |colour: &str, text: &str| {
        if colours { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    };
    let (colour, shown) = match status {
        None => ("35", "---".to_owned()),
        Some(status) => {
            let colour = match status / 100 {
                5 => "1;31",
                4 => "33",
                3 => "36",
                _ => "32",
            };
            (colour, status.to_string())
        }
    };
    let time = word("time");
    let clock = time.split_once('T').map_or(time.as_str(), |(_, clock)| clock.get(..12).unwrap_or(clock));
    let took = format!("{:>9.1} ms", record["total_ms"].as_f64().unwrap_or(0.0));
    let slow = record["total_ms"].as_f64().is_some_and(|took| took >= 1_000.0);
    let took = if slow { paint("1", &took) } else { took };
    let mut text = format!(
        "{} {} {took}  {:<15} {} {}{}",
        paint("2", clock),
        paint(colour, &shown),
        word("client"),
        word("method"),
        word("host"),
        word("path"),
    );
    if record["pool"].is_string() {
        let _infallible = write!(text, "  {}", paint("2", &format!("{}/{}", word("pool"), word("endpoint"))));
    }
    if word("kind") != "exchange" {
        let _infallible = write!(text, "  {}", word("kind").replace('_', " "));
    }
    for attempt in record["attempts"].as_array().into_iter().flatten() {
        let part = |key: &str| visible(attempt[key].as_str().unwrap_or_default());
        let _infallible = write!(text, "  {}", paint("33", &format!("{} {}", part("endpoint"), part("cause"))));
    }
    if record["fault"].is_string() {
        let _infallible = write!(text, "  {}", paint("31", &format!("{} {}", word("end"), word("fault"))));
    } else if word("end") != "--" {
        let _infallible = write!(text, "  {}", word("end"));
    }
    for verdict in record["verdicts"].as_array().into_iter().flatten() {
        let part = |key: &str| visible(verdict[key].as_str().unwrap_or_default());
        let said = format!("{} {} {}", part("rule"), part("action"), part("mode"));
        let _infallible = write!(text, "  {}", paint("35", &said));
    }
    if status.is_none_or(|status| status >= 400) {
        let _infallible = write!(text, "  {}", paint("2", &word("request_id")));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record() -> Value {
        json!({
            "kind": "exchange", "time": "2026-11-29T13:00:01.234567Z", "status": 502, "total_ms": 1234.56,
            "client": "203.0.113.9", "method": "GET", "host": "bi", "path": "/\u{1b}[2J", "pool": "app", "endpoint": "a:1",
            "end": "UC", "fault": "connect", "request_id": "id-1",
            "attempts": [{ "endpoint": "a:1", "cause": "connect" }],
            "verdicts": [{ "rule": "seen", "action": "deny", "mode": "observed" }],
        })
    }

    #[test]
    fn record_is_one_line_that_says_what_matters() {
        assert_eq!(
            line(&record(), false),
            "13:00:01.234 502    1234.6 ms  203.0.113.9     GET bi/\u{fffd}[2J  app/a:1  a:1 connect  UC connect  \
             seen deny observed  id-1"
        );
    }

    #[test]
    fn colours_are_there_only_when_they_are_wanted() {
        assert!(line(&record(), true).contains("\u{1b}[1;31m502\u{1b}[0m"));
        assert!(!line(&record(), false).contains('\u{1b}'));
    }

    #[test]
    fn filters_become_a_query() {
        let none = Filter {
            status: None,
            route: None,
            pool: None,
            endpoint: None,
            min: None,
            verdict: None,
            fault: None,
            client: None,
        };
        assert_eq!(none.path(), "/records");

        let some = Filter { status: Some("5xx,404".into()), client: Some("2001:db8::/32".into()), ..none };
        assert_eq!(some.path(), "/records?status=5xx%2C404&client=2001%3Adb8%3A%3A%2F32");
    }
}
