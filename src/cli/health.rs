//! `health`: asks a running proxy how it is, for `HEALTHCHECK`, keepalived and probes that run a command.
//!
//! The configuration is deliberately not read: a proxy goes on with its old one while the file is broken, and an edit
//! must not make two healthy proxies give up their address at once.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::Exit;
use super::output::Output;

/// Longest answer that is read; the admin listener's are some dozen bytes.
const LONGEST: usize = 64 * 1024;

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
    #[error("no answer from {address} within {within:?}")]
    Silent { address: SocketAddr, within: Duration },
    #[error("{address} cannot be asked: {source}")]
    Unreachable { address: SocketAddr, source: io::Error },
    #[error("{address} does not answer like an admin listener")]
    Foreign { address: SocketAddr },
    #[error("{0}")]
    Says(String),
}

/// Asks the admin listener at `address` and waits for its answer for `within` at most.
pub(super) fn run(question: Question, address: SocketAddr, within: Duration, output: &mut Output) -> Exit {
    match ask(question, address, within) {
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

fn ask(question: Question, address: SocketAddr, within: Duration) -> Result<String, Unwell> {
    let path = match question {
        Question::Live => "/live",
        Question::Ready => "/ready",
    };
    let answer = exchange(address, path, within).map_err(|source| match source.kind() {
        // A read that runs into its time limit is one or the other, depending on the system.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Unwell::Silent { address, within },
        _ => Unwell::Unreachable { address, source },
    })?;
    let (good, said) = parse(&answer).ok_or(Unwell::Foreign { address })?;
    if good { Ok(said) } else { Err(Unwell::Says(said)) }
}

/// Sends one request and reads all that comes back until the other side closes.
fn exchange(address: SocketAddr, path: &str, within: Duration) -> io::Result<Vec<u8>> {
    let end = Instant::now() + within;
    let left = || {
        let left = end.saturating_duration_since(Instant::now());
        // Zero would mean no limit at all.
        if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
    };
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut piece) {
            Ok(0) => return Ok(answer),
            Ok(length) => answer.extend_from_slice(piece.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() > LONGEST {
            return Ok(answer);
        }
    }
}

/// Whether the answer is good, and its text; `None` if it is none of ours.
fn parse(answer: &[u8]) -> Option<(bool, String)> {
    let answer = std::str::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let said = body.trim().to_owned();
    match head.strip_prefix("HTTP/1.1 ")?.get(..3)? {
        "200" => Some((true, said)),
        "503" => Some((false, said)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn asking(answer: &'static str) -> Result<String, Unwell> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let playing = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let outcome = ask(Question::Ready, address, Duration::from_secs(10));
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
        let unwell = asking("HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready: draining\n").unwrap_err();

        assert_eq!(unwell.to_string(), "not ready: draining");
    }

    #[test]
    fn something_else_on_that_port_is_not_healthy() {
        for answer in ["SSH-2.0-OpenSSH\r\n", "HTTP/1.1 404 Not Found\r\n\r\n", ""] {
            assert!(matches!(asking(answer), Err(Unwell::Foreign { .. })), "{answer}");
        }
    }

    #[test]
    fn process_that_hangs_is_not_waited_for() {
        // Accepts by its backlog and never answers, as a stopped process does.
        let hanging = TcpListener::bind("127.0.0.1:0").unwrap();

        let unwell = ask(Question::Live, hanging.local_addr().unwrap(), Duration::from_millis(50));

        assert!(matches!(unwell, Err(Unwell::Silent { .. })), "{unwell:?}");
    }
}
