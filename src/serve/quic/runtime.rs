//! What quinn asks of a runtime, on a worker's own.
//!
//! quinn runs a task for each socket and one for each connection. Here they wait for a few turns of the runtime before
//! they are polled: more datagrams and more answers then share one, and the batch is what QUIC's speed comes from.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::{AsyncTimer, AsyncUdpSocket, UdpPoller};
use tokio::time::Instant;

use super::socket::Socket;
use crate::net::timer::Timer;

/// The runtime that the calling thread is in, for the drivers of a socket.
#[derive(Debug)]
pub(super) struct Runtime {
    socket: Arc<Socket>,
}

/// Turns that a driver lets pass before it looks.
const TURNS: u8 = 2;

/// Looks at most, one after the other, if it has more to send each time: what leaves together then is about what the
/// kernel takes at once.
const LOOKS: u8 = 2;

/// Datagrams that a driver sends in a look if it has as many; quinn's own bound.
const FULL: usize = 20;

impl Runtime {
    /// For `socket`.
    pub(super) const fn new(socket: Arc<Socket>) -> Self {
        Self { socket }
    }
}

impl quinn::Runtime for Runtime {
    fn new_timer(&self, at: std::time::Instant) -> Pin<Box<dyn AsyncTimer>> {
        let mut alarm = Alarm(Timer::new());
        alarm.0.arm_at(Instant::from_std(at));
        Box::pin(alarm)
    }

    fn spawn(&self, driver: Pin<Box<dyn Future<Output = ()> + Send>>) {
        // Not bounded by the runtime's budget: quinn bounds its turns itself.
        tokio::spawn(tokio::task::unconstrained(Patient {
            driver,
            turns: TURNS,
            socket: Arc::clone(&self.socket),
            writable: Arc::clone(&self.socket).create_io_poller(),
        }));
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        // Sockets are made by `super::socket` alone.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

/// A timer that quinn moves at nearly each turn; ours moves at no cost.
#[derive(Debug)]
struct Alarm(Timer);

impl AsyncTimer for Alarm {
    fn reset(mut self: Pin<&mut Self>, at: std::time::Instant) {
        self.0.arm_at(Instant::from_std(at));
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}

/// Polls a driver some turns after it was woken, and sends what it says.
struct Patient {
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    turns: u8,
    socket: Arc<Socket>,
    writable: Pin<Box<dyn UdpPoller>>,
}

impl Future for Patient {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.turns > 0 {
            self.turns -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.turns = TURNS;
        let mut polled = Poll::Pending;
        for _ in 0..LOOKS {
            self.socket.begin_turn();
            polled = self.driver.as_mut().poll(cx);
            if self.socket.end_turn() < FULL || polled.is_ready() {
                break;
            }
        }
        // What the kernel does not take yet stays with the socket, and this task is woken for it.
        while self.socket.flush().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            if !matches!(self.writable.as_mut().poll_writable(cx), Poll::Ready(Ok(()))) {
                break;
            }
        }
        polled
    }
}
