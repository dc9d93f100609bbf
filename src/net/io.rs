//! Byte streams of clients and of endpoints, plain or under TLS.
//!
//! Floor 3. `serve` reads and writes a [`ClientIo`], `upstream` an [`UpstreamIo`]; neither asks again which of the two
//! it has. A [`Socket`] can give bytes back that somebody read ahead: what followed a PROXY protocol header, or the
//! first bytes that tell HTTP/2 by prior knowledge from HTTP/1. Deliberately absent: clocks and buffers, which belong
//! to the engines.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{client, server};

use crate::message::Transport;
use crate::net::unsent::Unsent;

/// A TCP socket, with bytes that were read ahead of their reader.
#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    ahead: Bytes,
    /// Bytes that the kernel has taken.
    sent: u64,
    /// Of a client's socket.
    unsent: Option<Unsent>,
}

/// A client's byte stream.
#[derive(Debug)]
pub enum ClientIo {
    /// As it comes from the socket.
    Plain(Socket),
    /// Under TLS, the handshake done.
    Tls(Box<server::TlsStream<Socket>>),
}

/// An endpoint's byte stream.
#[derive(Debug)]
pub enum UpstreamIo {
    /// As it comes from the socket.
    Plain(TcpStream),
    /// Under TLS, the handshake done.
    Tls(Box<client::TlsStream<Socket>>),
}

impl Socket {
    /// A client's socket of which nothing has been read. Switches Nagle's algorithm off: whole answers are written at once.
    /// How much the kernel keeps of what it cannot send yet depends on how the client reads.
    pub fn new(tcp: TcpStream) -> Self {
        // A socket that is already dead says so again at the first read.
        drop(tcp.set_nodelay(true));
        let unsent = Some(Unsent::new(&tcp));
        Self { unsent, ..Self::of(tcp) }
    }

    /// An endpoint's socket, as it is.
    pub const fn of(tcp: TcpStream) -> Self {
        Self { tcp, ahead: Bytes::new(), sent: 0, unsent: None }
    }

    /// What became of a write, or of asking the socket directly by `ask` where it has taken nothing for a while.
    fn note(
        &mut self,
        mut polled: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
        ask: impl FnOnce(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if let Some(unsent) = &mut self.unsent {
            if polled.is_ready() {
                unsent.note_taken(&self.tcp, self.sent);
            } else if unsent.poll_ask(self.sent, cx).is_ready() {
                polled = match ask(&self.tcp) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                    asked => {
                        unsent.note_given();
                        Poll::Ready(asked)
                    }
                };
            }
        }
        if let Poll::Ready(Ok(written)) = polled {
            self.sent = self.sent.wrapping_add(written as u64);
        }
        polled
    }

    /// Gives bytes back; they are read again before anything else.
    pub fn unread(&mut self, bytes: Bytes) {
        if self.ahead.is_empty() {
            self.ahead = bytes;
        } else {
            self.ahead = [bytes, std::mem::take(&mut self.ahead)].concat().into();
        }
    }

    /// The TCP socket, for its addresses and options.
    pub const fn tcp(&self) -> &TcpStream {
        &self.tcp
    }
}

impl ClientIo {
    /// A plain stream of which nothing has been read.
    pub fn plain(tcp: TcpStream) -> Self {
        Self::Plain(Socket::new(tcp))
    }

    /// The TCP socket, for its addresses and options.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket.tcp(),
            Self::Tls(stream) => stream.get_ref().0.tcp(),
        }
    }
}

impl UpstreamIo {
    /// A plain stream. Switches Nagle's algorithm off.
    pub fn plain(tcp: TcpStream) -> Self {
        // A socket that is already dead says so again at the first write.
        drop(tcp.set_nodelay(true));
        Self::Plain(tcp)
    }

    /// The TCP socket, for its addresses and options.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => stream.get_ref().0.tcp(),
        }
    }

    /// Bytes of TLS that the kernel has taken; `None` where it takes what is written.
    pub fn sent(&self) -> Option<u64> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some(stream.get_ref().0.sent),
        }
    }

    /// How long the other end may leave what was sent untaken or unacknowledged; what it was before. Linux counts a
    /// window that stays closed as silence, though it is acknowledged.
    pub fn allow_closed_window(&self, limit: Option<Duration>) -> Option<Duration> {
        let socket = SockRef::from(self.tcp());
        let before = socket.tcp_user_timeout().ok().flatten();
        // A socket that is already dead says so again at the first write.
        drop(socket.set_tcp_user_timeout(limit));
        before
    }

    /// Whether an idle connection is open and has said nothing, so that it can carry another exchange.
    ///
    /// Anything that arrived between two exchanges makes it unfit: an end, a TLS alert, an answer nobody asked for.
    /// Costs no system call while nothing has arrived. What arrives is known as of the runtime's last look at its
    /// sockets: an end in this very instant still shows only at the first read.
    pub fn is_silent(&self) -> bool {
        if let Self::Tls(stream) = self
            && !stream.get_ref().1.wants_read()
        {
            // Decrypted already and not asked for, or its end was announced.
            return false;
        }
        let mut byte = [0];
        // The byte is lost, but so is the connection.
        matches!(self.tcp().try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Has the kernel end a connection whose other end has acknowledged nothing for `limit`, be it what was sent or, in a
/// silence, the question whether anybody is there (RFC 9293 §3.8.4). The other end's kernel answers for it, however busy
/// the program is.
pub fn expect_life(tcp: &TcpStream, limit: Duration) {
    let socket = SockRef::from(tcp);
    let questions = TcpKeepalive::new().with_time(limit / 2).with_interval(limit / 6).with_retries(3);
    // A socket that is already dead says so again at the first write.
    drop(socket.set_tcp_keepalive(&questions));
    drop(socket.set_tcp_user_timeout(Some(limit)));
}

impl Transport for ClientIo {
    fn break_off(&mut self) {
        // A socket that is already dead needs no breaking.
        drop(SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO)));
    }

    fn poll_gather(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(stream) => {
                let taken = stream.get_mut().1.writer().write_vectored(slices)?;
                if taken > 0 || slices.iter().all(|slice| slice.is_empty()) {
                    return Poll::Ready(Ok(taken));
                }
                // No room: what is there has to leave first.
                ready!(Pin::new(&mut **stream).poll_flush(cx))?;
                Poll::Ready(stream.get_mut().1.writer().write_vectored(slices))
            }
        }
    }

    fn share(&mut self) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_mut().0,
        };
        if let Some(unsent) = &mut socket.unsent {
            unsent.share();
        }
    }

    fn sent(&self) -> Option<u64> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some(stream.get_ref().0.sent),
        }
    }
}

impl Transport for UnixStream {
    // There is no RST here; an end is an end.
    fn break_off(&mut self) {}
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(cx, buf);
        }
        let length = self.ahead.len().min(buf.remaining());
        let some = self.ahead.split_to(length);
        buf.put_slice(&some);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.note(polled, cx, |tcp| SockRef::from(tcp).send(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.note(polled, cx, |tcp| SockRef::from(tcp).send_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// A stream is read and written as whichever of the two it is.
macro_rules! forward {
    ($type:ty) => {
        impl AsyncRead for $type {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
                    Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
                }
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(io) => Pin::new(io).poll_write(cx, bytes),
                    Self::Tls(io) => Pin::new(io).poll_write(cx, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, slices),
                    Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, slices),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Plain(io) => io.is_write_vectored(),
                    Self::Tls(io) => io.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(io) => Pin::new(io).poll_flush(cx),
                    Self::Tls(io) => Pin::new(io).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
                    Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
                }
            }
        }
    };
}

forward!(ClientIo);
forward!(UpstreamIo);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn unread_bytes_come_before_those_of_the_socket() {
        let (near, mut far) = pair().await;
        far.write_all(b"three").await.unwrap();
        let mut socket = Socket::new(near);
        socket.unread(Bytes::from_static(b"two "));
        socket.unread(Bytes::from_static(b"one "));
        let mut io = ClientIo::Plain(socket);

        let mut text = [0; 13];
        io.read_exact(&mut text).await.unwrap();

        assert_eq!(&text, b"one two three");
    }

    /// What the socket takes at once.
    async fn fill(io: &mut ClientIo) -> usize {
        let mut taken = 0;
        let block = vec![b'x'; 64 << 10];
        let full = std::future::poll_fn(|cx| {
            while let Poll::Ready(written) = Pin::new(&mut *io).poll_write(cx, &block) {
                taken += written.unwrap();
            }
            Poll::Ready(())
        });
        full.await;
        taken
    }

    #[tokio::test]
    async fn kernel_keeps_much_for_a_client_only_once_it_has_read_fast() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let narrow = TcpSocket::new_v4().unwrap();
        narrow.set_recv_buffer_size(64 << 10).unwrap();
        let (near, far) = tokio::join!(listener.accept(), narrow.connect(listener.local_addr().unwrap()));
        let (mut io, mut far) = (ClientIo::plain(near.unwrap().0), far.unwrap());
        let mut space = vec![0; 256 << 10];

        let (mut taken, mut read) = (fill(&mut io).await, 0);
        let at_first = taken;
        while taken < 32 << 20 {
            while read < taken {
                read += far.read(&mut space).await.unwrap();
            }
            io.tcp().writable().await.unwrap();
            taken += fill(&mut io).await;
        }

        let kept = taken - read;
        assert!(kept > at_first + (512 << 10), "{kept} bytes after {at_first}");
    }

    #[tokio::test]
    async fn idle_upstream_is_silent() {
        let (near, _far) = pair().await;

        assert!(UpstreamIo::plain(near).is_silent());
    }

    #[tokio::test]
    async fn closed_upstream_is_not_silent() {
        let (near, far) = pair().await;
        let io = UpstreamIo::plain(near);

        drop(far);
        io.tcp().readable().await.unwrap();

        assert!(!io.is_silent());
    }

    #[tokio::test]
    async fn upstream_that_spoke_unasked_is_not_silent() {
        let (near, mut far) = pair().await;
        let io = UpstreamIo::plain(near);

        far.write_all(b"HTTP/1.1 408 Request Timeout\r\n").await.unwrap();
        io.tcp().readable().await.unwrap();

        assert!(!io.is_silent());
    }
}
