//! The way of an event's line to standard error.
//!
//! Floor 2. One bounded queue and one thread: whoever emits an event only formats it. When nobody reads standard
//! error, lines are dropped and counted, and nobody waits.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Longest wait at the end of the process.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Lines lost.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines lost so far because standard error did not keep up.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

pub(super) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Makes a [`Line`] for each event.
#[derive(Clone)]
pub(super) struct Writer(SyncSender<Message>);

/// Collects one event's line and sends it when dropped.
pub(super) struct Line {
    to: SyncSender<Message>,
    line: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { to: self.0.clone(), line: Vec::new() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() && self.to.try_send(Message::Line(line)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes what waits when it is dropped, for up to a second.
#[must_use = "dropping it flushes; hold it until the end of the process"]
#[derive(Debug)]
pub struct Flush(SyncSender<Message>);

impl Flush {
    /// Writes what waits, for up to a second.
    pub fn now(&self) {
        let (done, wait) = sync_channel(1);
        if self.0.try_send(Message::Flush(done)).is_ok() {
            // Elapsed or gone: the process ends either way.
            let _elapsed = wait.recv_timeout(LAST_WAIT);
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.now();
    }
}

/// Begins to write; `queue` lines may wait.
pub(super) fn start(queue: usize) -> io::Result<(Writer, Flush)> {
    // The descriptor itself: `io::Stderr` takes a lock that a panic message may hold.
    let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let (to, from) = sync_channel(queue);
    thread::Builder::new().name("events".to_owned()).spawn(move || write_all(&from, out))?;
    Ok((Writer(to.clone()), Flush(to)))
}

fn write_all(from: &Receiver<Message>, mut out: impl Write) {
    for message in from {
        match message {
            Message::Line(line) => {
                if out.write_all(&line).is_err() {
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                }
            }
            // Nobody waits any more: nothing to tell.
            Message::Flush(done) => {
                let _gone = done.try_send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn line_that_cannot_wait_is_counted() {
        let (to, from) = sync_channel(1);
        let writer = Writer(to);
        let before = dropped();
        for _ in 0..3 {
            writer.make_writer().write_all(b"x\n").unwrap();
        }
        assert!(dropped() >= before + 2);

        drop(writer);
        let mut out = Vec::new();
        write_all(&from, &mut out);
        assert_eq!(out, b"x\n");
    }

    #[test]
    fn closed_standard_error_ends_nothing() {
        let (to, from) = sync_channel(8);
        Writer(to.clone()).make_writer().write_all(b"x\n").unwrap();
        let (done, wait) = sync_channel(1);
        to.send(Message::Flush(done)).unwrap();
        drop(to);

        write_all(&from, Closed);

        assert!(wait.try_recv().is_ok());
    }
}
