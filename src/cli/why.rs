//! `why`: the whole story of one request, by the id that its answer carried.

use std::fmt::Write as _;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::Exit;
use super::client::{Reach, Unreached};
use super::output::{Output, visible};

/// Asks for it and tells it.
pub(super) fn run(reach: &Reach, id: &str, as_json: bool, output: &mut Output) -> Exit {
    let path = format!("/exchanges/{}", utf8_percent_encode(id.trim(), NON_ALPHANUMERIC));
    let asked = reach.find().and_then(|client| {
        let text = client.read(&path)?;
        match serde_json::from_str::<Vec<Value>>(&text) {
            Ok(told) => Ok((text, told)),
            Err(_) => Err(Unreached::Malformed(client.to_string())),
        }
    });
    match asked {
        Ok((text, _)) if as_json => output.line(text.trim_end()),
        Ok((_, told)) => {
            // The oldest first: a tunnel begins before it ends.
            let tales: Vec<String> = told.iter().rev().map(tale).collect();
            output.text(tales.join("\n"));
        }
        Err(error) => return error.tell(output),
    }
    Exit::Done
}

/// One exchange, or one end of a tunnel, in sentences.
fn tale(told: &Value) -> String {
    let record = &told["record"];
    let mut text = String::new();
    head(record, &told["kept"], &mut text);
    let mut say = |at: f64, what: &str| {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{:>12}  {what}", format!("{at:.3} ms"));
    };
    say(0.0, "the request's head was there");
    let verdicts = record["verdicts"].as_array().into_iter().flatten();
    for verdict in verdicts {
        let mode = if word(&verdict["mode"]) == "observed" { "only observed" } else { "enforced" };
        say(0.0, &format!("rule {} fits: {}, {mode}", word(&verdict["rule"]), word(&verdict["action"])));
    }
    for limit in record["limits"].as_array().into_iter().flatten() {
        let did = if limit["observed"] == true { "would have refused it" } else { "refused it" };
        say(0.0, &format!("limit {} {did}", word(&limit["limit"])));
    }
    let story = &told["story"];
    if let Some(reason) = story["ban"].as_str() {
        say(0.0, &format!("its client is banned: {}", visible(reason)));
    }
    let received = number(&record["receive_ms"]);
    if received > 0.0 {
        say(received, &format!("its body was there, {} bytes", record["bytes_in"]));
    }
    let asked = story["asked"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, attempt) in asked.iter().enumerate() {
        if index == asked.len() / 2 && story["asked_left_out"] != 0 {
            say(number(&attempt["began_ms"]), &format!("{} more attempts were made", story["asked_left_out"]));
        }
        attempt_told(attempt, &mut say);
    }
    if asked.is_empty() && number(&record["queue_ms"]) > 0.0 {
        say(received + number(&record["queue_ms"]), "no endpoint was to be had");
    }
    if let Some(why) = story["gave_up"].as_str() {
        say(asked.last().map_or(0.0, ended), gave_up(why));
    }
    say(number(&record["total_ms"]), &ending(record));
    text
}

/// What was asked, by whom, when.
fn head(record: &Value, kept: &Value, text: &mut String) {
    let status = record["status"].as_u64().map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    let place = format!("{}{}", word(&record["host"]), word(&record["path"]));
    let (method, kind) = (word(&record["method"]), word(&record["kind"]).replace('_', " "));
    let client = match record["client_port"].as_u64() {
        Some(port) => format!("{} port {port}", word(&record["client"])),
        None => word(&record["client"]),
    };
    let tls = record["tls"].as_str().map(|tls| format!(" over {}", visible(tls))).unwrap_or_default();
    let protocol = word(&record["protocol"]);
    let mut led = String::new();
    for (key, name) in [("route", "route"), ("pool", "pool"), ("endpoint", "endpoint")] {
        if record[key].is_string() {
            let _infallible = write!(led, ", {name} {}", word(&record[key]));
        }
    }
    let kept = match kept.as_str().unwrap_or_default() {
        "sample" => "one of many such".to_owned(),
        other => other.to_owned(),
    };
    let _infallible = write!(
        text,
        "{method} {place}: {status} ({kind}, kept as {kept})\n\
         request     {}\n\
         time        {}\n\
         client      {client}, {protocol}{tls}, connection {}\n\
         way         listener {}{led}\n",
        word(&record["request_id"]),
        word(&record["time"]),
        record["connection"],
        word(&record["listener"]),
    );
}

fn attempt_told(attempt: &Value, say: &mut impl FnMut(f64, &str)) {
    let (began, queued) = (number(&attempt["began_ms"]), number(&attempt["queued_ms"]));
    let endpoint = word(&attempt["endpoint"]);
    let why = match word(&attempt["why"]).as_str() {
        "first" => "asks".to_owned(),
        "repeat" => "asks again, now".to_owned(),
        "fresh_connection" => "asks again over a fresh connection".to_owned(),
        "hedge" => "asks at the same time".to_owned(),
        other => other.to_owned(),
    };
    say(began, &format!("{why} {endpoint}: {}", choice(&word(&attempt["choice"]))));
    let mut at = began;
    // Under a millisecond nobody waited in line.
    if queued >= 1.0 {
        at += queued;
        say(at, &format!("waited {queued:.3} ms in line for it"));
    }
    at += number(&attempt["connect_ms"]);
    match word(&attempt["connection"]).as_str() {
        "reused" => say(at, "over a connection that was open"),
        "opened" => say(at, &format!("connected after {:.3} ms", number(&attempt["connect_ms"]))),
        _ => {}
    }
    let clock = attempt["clock"].as_str().map(|clock| format!(", by the clock {}", visible(clock))).unwrap_or_default();
    let outcome = match (attempt["status"].as_u64(), attempt["cause"].as_str()) {
        (Some(status), None) => format!("it answered {status}"),
        (Some(status), Some(cause)) => format!("it answered {status}, which was not taken ({})", visible(cause)),
        (None, Some("hedge")) => "the other answer came first".to_owned(),
        (None, Some(cause)) => format!("it failed: {}{clock}", visible(cause)),
        (None, None) => "the client left before it answered".to_owned(),
    };
    say(ended(attempt), &outcome);
}

/// When an attempt was over, in milliseconds from the request's head on.
fn ended(attempt: &Value) -> f64 {
    ["began_ms", "queued_ms", "connect_ms", "waited_ms"].iter().map(|part| number(&attempt[part])).sum()
}

fn choice(word: &str) -> &str {
    match word {
        "round_robin" => "it was its turn",
        "least_connection" => "it carried least",
        "first_free" => "the first that was free",
        "trial" => "ejected, and tried out",
        "panic" => "so few were up that health was not heeded",
        "spill" => "the preferred priority group or zone was full or not well",
        "last_resort" => "ejected or a backup, and nobody better was left",
        "same" => "the same as before",
        other => other,
    }
}

fn gave_up(word: &str) -> &str {
    match word {
        "unsafe" => "nobody else was asked: it may have had an effect, or could not be sent again",
        "attempts" => "nobody else was asked: as many attempts were made as may be (`retry.attempts`)",
        "budget" => "nobody else was asked: the pool's budget of retries is spent (`retry.budget_percent`)",
        "nobody" => "nobody else was there to ask, or free at once",
        "late" => "nobody else was asked: the time of the whole exchange was over (`timeouts.exchange`)",
        other => other,
    }
}

/// How it ended, from the two letters of its code.
fn ending(record: &Value) -> String {
    let code = word(&record["end"]);
    let mut letters = code.chars();
    let who = match letters.next() {
        Some('C') => "the client ended it",
        Some('U') => "the endpoint ended it",
        Some('P') => "the proxy ended it",
        _ => "it was complete",
    };
    let stage = match letters.next() {
        Some('R') => " while the request was read",
        Some('Q') => " while it waited for an endpoint",
        Some('C') => " while a connection was opened",
        Some('H') => " before the endpoint answered",
        Some('D') => " in the middle of the answer",
        Some('T') => " in the tunnel",
        _ => "",
    };
    let mut text = match (record["clock"].as_str(), record["fault"].as_str()) {
        (Some(clock), _) => format!("the clock {} ran out{stage}", visible(clock)),
        (None, Some(fault)) => format!("{who}{stage}: {}", visible(fault)),
        (None, None) => format!("{who}{stage}"),
    };
    let _infallible = write!(text, "; {} bytes to the client", record["bytes_out"]);
    text
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn word(value: &Value) -> String {
    visible(value.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tale_reads_from_the_head_to_the_end_with_every_attempt() {
        let told = json!({
            "kept": "error",
            "record": {
                "kind": "exchange", "method": "GET", "host": "bi", "path": "/x?token=***", "status": 502,
                "request_id": "id-1", "time": "2026-11-29T13:00:00.000000Z", "client": "203.0.113.9",
                "client_port": 5, "protocol": "h2", "tls": "TLSv1.3", "connection": 7, "listener": "web",
                "route": "/", "pool": "app", "endpoint": "b:1", "receive_ms": 2.5, "bytes_in": 12, "queue_ms": 0.1,
                "total_ms": 61.0, "bytes_out": 300, "end": "UH", "fault": "upstream_closed",
                "verdicts": [{ "rule": "seen", "action": "deny", "mode": "observed" }],
                "limits": [{ "limit": "api", "observed": true }],
            },
            "story": {
                "generation": 3, "gave_up": "attempts", "asked_left_out": 0,
                "asked": [
                    { "endpoint": "a:1", "why": "first", "choice": "round_robin", "began_ms": 2.5, "queued_ms": 20.0,
                      "connection": "none", "connect_ms": 1.0, "waited_ms": 0.0, "status": null, "cause": "connect", "clock": null },
                    { "endpoint": "b:1", "why": "repeat", "choice": "panic", "began_ms": 23.5, "queued_ms": 0.0,
                      "connection": "reused", "connect_ms": 0.0, "waited_ms": 37.0, "status": null,
                      "cause": "upstream_closed", "clock": null },
                ],
            },
        });

        let tale = tale(&told);

        for expected in [
            "GET bi/x?token=***: 502 (exchange, kept as error)",
            "client      203.0.113.9 port 5, h2 over TLSv1.3, connection 7",
            "way         listener web, route /, pool app, endpoint b:1",
            "    0.000 ms  rule seen fits: deny, only observed",
            "    0.000 ms  limit api would have refused it",
            "    2.500 ms  its body was there, 12 bytes",
            "    2.500 ms  asks a:1: it was its turn",
            "   22.500 ms  waited 20.000 ms in line for it",
            "   23.500 ms  it failed: connect",
            "   23.500 ms  asks again, now b:1: so few were up that health was not heeded",
            "   60.500 ms  it failed: upstream_closed",
            "   60.500 ms  nobody else was asked: as many attempts were made as may be",
            "   61.000 ms  the endpoint ended it before the endpoint answered: upstream_closed; 300 bytes",
        ] {
            assert!(tale.contains(expected), "{expected}\n{tale}");
        }
    }

    #[test]
    fn nothing_of_a_client_drives_the_terminal() {
        let told = json!({ "kept": "sample", "record": { "path": "/\u{1b}[31mx\u{9b}2J" }, "story": {} });

        assert!(!tale(&told).contains(|c: char| c.is_control() && c != '\n'));
    }
}
