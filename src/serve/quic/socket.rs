//! A worker's UDP socket, and the hand-over of datagrams that came to the wrong worker.
//!
//! GSO and GRO are quinn-udp's. With several workers every datagram's connection id is looked at: what belongs to
//! another worker is copied into its letter box, which is bounded; what does not fit is lost like any datagram, and
//! counted. Where the kernel steers ([`super::steering`]) nothing but what a filter cannot see is left to hand over.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use aws_lc_rs::aead::quic::HeaderProtectionKey;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::gather::Gathering;
use super::ids;
use super::steering::Steering;
use crate::telemetry::metrics::ListenerMetrics;

/// Letters that may wait for a worker.
const LETTERS: usize = 1024;

/// A datagram on its way to another worker.
pub(super) struct Letter {
    content: Box<[u8]>,
    from: SocketAddr,
    to: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
}

/// The letter boxes of all workers on one address.
#[derive(Clone)]
pub(super) struct Post(Arc<[mpsc::Sender<Letter>]>);

impl Post {
    /// Boxes for `workers`, and the end that each keeps for itself.
    pub(super) fn new(workers: usize) -> (Self, Vec<mpsc::Receiver<Letter>>) {
        let (boxes, ends): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(LETTERS)).unzip();
        (Self(boxes.into()), ends)
    }
}

/// The socket of one worker.
pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    worker: usize,
    key: Arc<HeaderProtectionKey>,
    steering: Steering,
    post: Post,
    letters: Mutex<mpsc::Receiver<Letter>>,
    /// Whose turn it is: that of letters, or of what the kernel has.
    letters_next: AtomicBool,
    /// Never contended: all is on the worker's thread.
    gathering: Mutex<Gathering>,
    metrics: Arc<ListenerMetrics>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Socket {
    /// Wraps a bound socket of `worker`. Within a runtime.
    ///
    /// # Errors
    /// When the system refuses an option that we cannot do without.
    pub(super) fn new(
        socket: std::net::UdpSocket,
        worker: usize,
        (key, steering): (Arc<HeaderProtectionKey>, Steering),
        (post, letters): (Post, mpsc::Receiver<Letter>),
        metrics: Arc<ListenerMetrics>,
    ) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let io = UdpSocket::from_std(socket)?;
        let (letters, letters_next) = (Mutex::new(letters), AtomicBool::new(true));
        let gathering = Mutex::default();
        Ok(Self { io, state, worker, key, steering, post, letters, letters_next, gathering, metrics })
    }

    /// Begins the turn of a driver: what it sends is kept.
    pub(super) fn begin_turn(&self) {
        self.gathering().begin();
    }

    /// Ends the turn of a driver: how many datagrams it had, of those that are sent by the dozen. [`Self::flush`] comes
    /// next.
    pub(super) fn end_turn(&self) -> usize {
        self.gathering().end()
    }

    /// Sends what is kept.
    ///
    /// # Errors
    /// When the kernel takes nothing for now: it stays kept.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.send_kept(&mut self.gathering())
    }

    fn gathering(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_kept(&self, gathering: &mut Gathering) -> io::Result<()> {
        if let Some(kept) = gathering.kept() {
            self.send(&kept)?;
            gathering.clear();
        }
        Ok(())
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || self.state.send((&self.io).into(), transmit))
    }

    /// Takes letters of other workers; how many.
    fn poll_letters(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> usize {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Poll::Ready(Some(letter)) = letters.poll_recv(cx) else { break };
            let length = letter.content.len().min(buf.len());
            if let (Some(to), Some(from)) = (buf.get_mut(..length), letter.content.get(..length)) {
                to.copy_from_slice(from);
            }
            meta.addr = letter.from;
            meta.len = length;
            meta.stride = length.max(1);
            meta.ecn = letter.ecn;
            meta.dst_ip = letter.to;
            taken += 1;
        }
        taken
    }

    /// Takes what the kernel has for us.
    fn poll_own(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received = self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta));
            // Not ready after all; any other error is told by the next call.
            if let Ok(count) = received {
                return Poll::Ready(Ok(count));
            }
        }
    }

    /// Posts what belongs to other workers, and closes the gaps.
    fn sort(&self, buf: &mut [u8], meta: &mut RecvMeta) {
        let stride = meta.stride.max(1);
        let mut kept = 0;
        let mut start = 0;
        while start < meta.len {
            let part = start..(start + stride).min(meta.len);
            start = part.end;
            if !self.try_post(buf.get(part.clone()).unwrap_or_default(), meta) {
                kept = keep(buf, part, kept);
            }
        }
        meta.len = kept;
    }

    /// Whether `datagram` was another worker's.
    fn try_post(&self, datagram: &[u8], meta: &RecvMeta) -> bool {
        let steered = ids::steered(datagram).map(|first| self.steering.worker(first));
        if steered.is_some_and(|worker| worker as usize == self.worker) {
            // Nobody else's ids begin so, and nothing needs deciphering.
            return false;
        }
        let owner = ids::owner_of(&self.key, datagram).map(usize::from);
        // A worker that we do not have is one of an earlier process: whoever gets it answers with a stateless reset.
        let Some(owner) = owner.filter(|owner| *owner != self.worker) else { return false };
        let Some(to) = self.post.0.get(owner) else { return false };
        let letter = Letter { content: datagram.into(), from: meta.addr, to: meta.dst_ip, ecn: meta.ecn };
        match to.try_send(letter) {
            Ok(()) => self.metrics.quic.datagram_forwarded(),
            Err(_) => self.metrics.quic.datagram_lost(),
        }
        true
    }
}

/// Moves a datagram down to `kept`; where the next one goes.
fn keep(buf: &mut [u8], part: Range<usize>, kept: usize) -> usize {
    let length = part.len();
    if part.start != kept {
        buf.copy_within(part, kept);
    }
    kept + length
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut gathering = self.gathering();
        let most = self.state.max_gso_segments();
        if gathering.try_keep(transmit, most) {
            return Ok(());
        }
        self.send_kept(&mut gathering)?;
        if gathering.try_keep(transmit, most) { Ok(()) } else { self.send(transmit) }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.post.0.len() < 2 {
            return self.poll_own(cx, bufs, meta);
        }
        // In turns: a flood that others hand over must not keep our own clients waiting, nor the other way round.
        let letters_first = self.letters_next.fetch_xor(true, Relaxed);
        if letters_first {
            let taken = self.poll_letters(cx, bufs, meta);
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
        }
        if let Poll::Ready(received) = self.poll_own(cx, bufs, meta) {
            let count = received?;
            for (buf, meta) in bufs.iter_mut().zip(meta.iter_mut()).take(count) {
                self.sort(buf, meta);
            }
            return Poll::Ready(Ok(count));
        }
        match if letters_first { 0 } else { self.poll_letters(cx, bufs, meta) } {
            0 => Poll::Pending,
            taken => Poll::Ready(Ok(taken)),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits until a socket takes more; one for each connection that wants to know.
struct Writable {
    socket: Arc<Socket>,
    waiting: Option<Waiting>,
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writable")
    }
}

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let waiting = this.waiting.get_or_insert_with(|| {
            let socket = Arc::clone(&this.socket);
            Box::pin(async move { socket.io.writable().await })
        });
        let polled = waiting.as_mut().poll(cx);
        if polled.is_ready() {
            this.waiting = None;
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Keys;
    use super::*;

    #[tokio::test]
    async fn flood_that_other_workers_hand_over_keeps_nobody_waiting_who_came_by_himself() {
        let keys = Keys::new(None).unwrap();
        let (mut sockets, _) = crate::net::bind::bind_udp("127.0.0.1:0".parse().unwrap(), 1, 65_536).unwrap();
        let own = sockets.remove(0);
        let address = own.local_addr().unwrap();
        let (post, mut letters) = Post::new(2);
        let flood = |number: usize| {
            let letter =
                Letter { content: format!("letter {number}").into_bytes().into(), from: address, to: None, ecn: None };
            assert!(post.0[0].try_send(letter).is_ok());
        };
        (0..100).for_each(flood);
        let metrics = crate::telemetry::Metrics::new(1).listener(&crate::lexicon::ListenerName::new("a"));
        let kept = (post.clone(), letters.remove(0));
        let socket = Socket::new(own, 0, (Arc::clone(&keys.ids), keys.mixer.over(2)), kept, metrics).unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"own", address).unwrap();

        // Whoever polls takes as much as comes at once; the flood goes on for as long as he polls.
        let mut seen = Vec::new();
        for number in 0..8 {
            flood(number);
            let (mut buf, mut meta) = ([0; 2048], [RecvMeta::default()]);
            let received = std::future::poll_fn(|cx| socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buf)], &mut meta));
            assert_eq!(received.await.unwrap(), 1);
            seen.push(String::from_utf8(buf[..meta[0].len].to_vec()).unwrap());
            // As quinn does it, so that the runtime hears from the kernel.
            tokio::task::yield_now().await;
        }

        assert!(seen.iter().any(|seen| seen == "own"), "{seen:?}");
        assert_eq!(seen.iter().filter(|seen| seen.starts_with("letter")).count(), 7, "{seen:?}");
    }

    #[test]
    fn gaps_of_posted_datagrams_close() {
        let mut buf = *b"aaabbbcccd";

        let kept = [0..3, 6..9, 9..10].into_iter().fold(0, |kept, part| keep(&mut buf, part, kept));

        assert_eq!(&buf[..kept], b"aaacccd");
    }
}
