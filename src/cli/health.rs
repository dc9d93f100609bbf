//! `health`: asks a running proxy how it is, for `HEALTHCHECK`, keepalived and probes that run a command.
//!
//! The configuration is deliberately not read: a proxy goes on with its old one while the file is broken, and an edit
//! must not make two healthy proxies give up their address at once.

use std::time::Duration;

use http::StatusCode;

use super::Exit;
use super::client::{Client, Papers, Unreached};
use super::output::Output;

/// What the proxy is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Question {
    /// Does it run at all, be it in a drain?
    Live,
    /// Are new connections welcome?
    Ready,
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
enum Unwell {
    #[error("{}", crate::telemetry::events::Chain(.0))]
    Unreached(Unreached),
    #[error("{place} answers {status}, not like an admin listener")]
    Foreign { place: String, status: StatusCode },
    #[error("{0}")]
    Says(String),
}

/// Asks the admin listener at `place` and waits for its answer for `within` at most.
pub(super) fn run(question: Question, place: &str, papers: &Papers, within: Duration, output: &mut Output) -> Exit {
    match ask(question, place, papers, within) {
        Ok(answer) => {
            output.line(answer);
            Exit::Done
        }
        Err(unwell) => {
            output.error(format_args!("sluicegate: {unwell}"));
            Exit::Failed
        }
    }
}

fn ask(question: Question, place: &str, papers: &Papers, within: Duration) -> Result<String, Unwell> {
    let path = match question {
        Question::Live => "/live",
        Question::Ready => "/ready",
    };
    let asked = Client::at(place, papers).and_then(|client| client.within(within).look(path));
    let (status, text) = asked.map_err(Unwell::Unreached)?;
    let said = text.trim().to_owned();
    match status {
        StatusCode::OK => Ok(said),
        StatusCode::SERVICE_UNAVAILABLE => Err(Unwell::Says(said)),
        status => Err(Unwell::Foreign { place: place.to_owned(), status }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn asking(answer: &'static str) -> Result<String, Unwell> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let playing = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let outcome = ask(Question::Ready, &place, &Papers::default(), Duration::from_secs(10));
        assert!(playing.join().unwrap().starts_with("GET /ready HTTP/1.1\r\n"));
        outcome
    }

    #[test]
    fn good_answer_is_passed_on() {
        let said = asking("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n").unwrap();

        assert_eq!(said, "ready");
    }

    #[test]
    fn reason_of_a_bad_answer_is_passed_on() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 20\r\n\r\nnot ready: draining\n";

        assert_eq!(asking(answer).unwrap_err().to_string(), "not ready: draining");
    }

    #[test]
    fn something_else_on_that_port_is_not_healthy() {
        for answer in ["SSH-2.0-OpenSSH\r\n", "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", ""] {
            assert!(asking(answer).is_err(), "{answer}");
        }
    }

    #[test]
    fn process_that_hangs_is_not_waited_for() {
        // Accepts by its backlog and never answers, as a stopped process does.
        let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = hanging.local_addr().unwrap().to_string();

        let unwell = ask(Question::Live, &place, &Papers::default(), Duration::from_millis(50));

        assert!(matches!(unwell, Err(Unwell::Unreached(Unreached::Io(..)))), "{unwell:?}");
    }
}
