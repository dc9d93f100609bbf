//! How much the kernel may keep for a client beyond what is under way to it.
//!
//! Floor 3. Little at first: a client that reads slowly and steadily is seen to read by what the kernel takes, and of a
//! large buffer it takes more only once a third is free, a megabyte and more. But little also wakes the worker for
//! every 64 KiB, a third of what a long answer costs. So a client that was seen to read fast has as much room as the
//! kernel gives, or somewhat more than before where streams share it: what is urgent of one waits behind that, and a
//! window that the kernel has swallowed opens late. Should it become slow then, its socket is asked directly now and
//! then: the kernel takes more than it tells of.

use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::net::timer::Timer;

/// What the kernel keeps unsent for a client that has not been seen to read fast, in bytes, about.
const LITTLE: u32 = 128 << 10;

/// The same for a fast client whose streams share it.
const SHARED: u32 = 512 << 10;

/// And for one that has it for itself: the machine's own limit, mostly none.
const MACHINES: u32 = 0;

/// Fast is who takes this much, in bytes, …
const MUCH: u64 = 1 << 20;

/// … within this time. At 4 MiB/s a wake for every 64 KiB is sixty a second, and below it fewer.
const SOON: Duration = Duration::from_millis(250);

/// How long the socket of a fast client takes nothing before it is asked directly, and between two times of asking.
/// As long as the shortest `timeouts.write_idle`.
const SILENCE: Duration = Duration::from_millis(100);

/// What is known of how a client takes what it is sent.
#[derive(Debug)]
pub(super) struct Unsent {
    reader: Reader,
    /// Whether the socket took nothing when it was last written to.
    full: bool,
    /// Whether it took something all the same when it was asked directly.
    gives: bool,
    /// What a fast client may have.
    most: u32,
}

#[derive(Debug)]
enum Reader {
    /// Nothing had to wait for it yet.
    New,
    /// Since when it is watched, and what it had been sent then.
    Watched(Instant, u64),
    /// When to ask.
    Fast(Timer),
}

impl Unsent {
    /// For a client's socket.
    pub(super) fn new(tcp: &TcpStream) -> Self {
        // A socket that is already dead says so again at the first read.
        drop(SockRef::from(tcp).set_tcp_notsent_lowat(LITTLE));
        Self { reader: Reader::New, full: false, gives: false, most: MACHINES }
    }

    /// Streams share it from now on.
    pub(super) const fn share(&mut self) {
        self.most = SHARED;
    }

    /// Notes that the socket takes nothing for now, and has taken `sent` bytes so far. Ready when it is to be asked directly.
    pub(super) fn poll_ask(&mut self, sent: u64, cx: &mut Context<'_>) -> Poll<()> {
        let already = std::mem::replace(&mut self.full, true);
        match &mut self.reader {
            Reader::New => self.reader = Reader::Watched(Instant::now(), sent),
            Reader::Watched(..) => {}
            Reader::Fast(timer) => {
                if !already {
                    timer.arm(SILENCE);
                }
                // It is asked until it takes no more.
                let mut ask = if std::mem::take(&mut self.gives) { Poll::Ready(()) } else { Poll::Pending };
                while timer.poll(cx).is_ready() {
                    ask = Poll::Ready(());
                    timer.arm(SILENCE);
                }
                return ask;
            }
        }
        Poll::Pending
    }

    /// Notes that it took something when it was asked directly.
    pub(super) const fn note_given(&mut self) {
        self.gives = true;
    }

    /// Notes that the socket has taken something since, in all `sent` bytes.
    pub(super) fn note_taken(&mut self, tcp: &TcpStream, sent: u64) {
        self.gives = false;
        if !std::mem::take(&mut self.full) {
            return;
        }
        match &mut self.reader {
            Reader::Watched(since, before) => {
                let now = Instant::now();
                if now.saturating_duration_since(*since) > SOON {
                    (*since, *before) = (now, sent);
                } else if sent.saturating_sub(*before) >= MUCH {
                    // If it is refused, all stays as it was.
                    drop(SockRef::from(tcp).set_tcp_notsent_lowat(self.most));
                    self.reader = Reader::Fast(Timer::new());
                }
            }
            Reader::Fast(timer) => timer.disarm(),
            Reader::New => {}
        }
    }
}
