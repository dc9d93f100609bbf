//! An open loop: `steady PORT plain-h1|tls-h1|tls-h2 RATE SECONDS CONNECTIONS`, over HTTP/2 with 16 streams on each.
//!
//! Requests fall due at random (a Poisson process) whether or not earlier ones are answered; a latency counts from when its
//! request was due, so that a proxy that stalls does not slow down who measures it. One that finds no connection free waits
//! for one, in the order of falling due. Says `ready` when the connections are open, begins at a line on standard input, and
//! tells what came of it as a line of JSON: requests, seconds, sorted latencies in seconds, and how late the client itself
//! was to send what was due and had a connection, at the 99th percentile: what is near that is not the proxy's.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a load generator that cannot go on panics"
)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::ServerName;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

mod browser;
use browser::{FIELDS, trusting};

/// What the origin answers with 1 KiB.
const PATH: &str = "/api/v1/chart/data?form_data=%7B%22slice_id%22%3A64%7D";
const SIZE: usize = 1024;
const STREAMS: usize = 16;
/// Windows that no run of small answers uses up.
const WINDOW: u32 = 1 << 30;

trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Stream for S {}

/// Where a request is sent: when it was due, and since when it could be sent.
type Slot = mpsc::Sender<(Instant, Instant)>;

/// Who can send a request now, which requests wait for that, and what has come of the others.
#[derive(Default)]
struct Plan {
    idle: VecDeque<Slot>,
    waiting: VecDeque<Instant>,
    under_way: usize,
    times: Vec<Duration>,
    late: Vec<Duration>,
}

impl Plan {
    fn ask(&mut self, due: Instant, since: Instant) {
        match self.idle.pop_front() {
            Some(slot) => {
                self.under_way += 1;
                slot.try_send((due, since)).unwrap();
            }
            None => self.waiting.push_back(due),
        }
    }

    fn answered(&mut self, due: Instant, slot: &Slot) {
        let now = Instant::now();
        self.times.push(now - due);
        self.under_way -= 1;
        self.idle.push_back(slot.clone());
        if let Some(due) = self.waiting.pop_front() {
            self.ask(due, now);
        }
    }
}

/// A slot, one request at a time by `exchange`, which says when it has sent.
async fn serve<F: AsyncFnMut(&mut dyn FnMut())>(plan: Rc<RefCell<Plan>>, mut exchange: F) {
    let (slot, mut asked) = mpsc::channel(1);
    plan.borrow_mut().idle.push_back(slot.clone());
    while let Some((due, since)) = asked.recv().await {
        exchange(&mut || plan.borrow_mut().late.push(since.elapsed())).await;
        plan.borrow_mut().answered(due, &slot);
    }
}

/// Sends `request`, and reads its answer to the end.
async fn ask<S: Stream>(io: &mut S, request: &[u8], answer: &mut Vec<u8>, sent: &mut dyn FnMut()) {
    answer.clear();
    io.write_all(request).await.unwrap();
    sent();
    loop {
        assert!(io.read_buf(answer).await.unwrap() > 0, "a connection ended");
        if let Some(head) = memchr::memmem::find(answer, b"\r\n\r\n")
            && answer.len() >= head + 4 + SIZE
        {
            assert!(answer.starts_with(b"HTTP/1.1 200"));
            assert_eq!(answer.len(), head + 4 + SIZE);
            return;
        }
    }
}

async fn http1<S: Stream>(mut io: S, plan: Rc<RefCell<Plan>>) {
    let mut request = format!("GET {PATH} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in FIELDS {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.push_str("\r\n");
    let mut answer = Vec::with_capacity(4 * SIZE);
    ask(&mut io, request.as_bytes(), &mut answer, &mut || {}).await;
    tokio::task::spawn_local(async move {
        serve(plan, async |sent| ask(&mut io, request.as_bytes(), &mut answer, sent).await).await;
    });
}

async fn stream(send: &h2::client::SendRequest<Bytes>, sent: &mut dyn FnMut()) {
    let mut request = http::Request::get(format!("https://localhost{PATH}"));
    for (name, value) in FIELDS {
        request = request.header(name, value);
    }
    let mut send = send.clone().ready().await.unwrap();
    let (answer, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
    sent();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    let (mut body, mut size) = (answer.into_body(), 0);
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        size += piece.len();
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    assert_eq!(size, SIZE);
}

async fn http2<S: Stream>(io: S) -> h2::client::SendRequest<Bytes> {
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let (send, connection) = settings.handshake(io).await.unwrap();
    tokio::task::spawn_local(async move { connection.await.unwrap() });
    stream(&send, &mut || {}).await;
    send
}

async fn open(port: u16, kind: &str, connections: usize, plan: &Rc<RefCell<Plan>>) {
    let mut provider = default_provider();
    // Some proxies heed the client's order and some their own.
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
    let alpn: &[u8] = if kind == "tls-h2" { b"h2" } else { b"http/1.1" };
    let tls = TlsConnector::from(Arc::new(trusting(provider, alpn)));
    let mut many = Vec::new();
    for _ in 0..connections {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        if kind == "plain-h1" {
            http1(tcp, Rc::clone(plan)).await;
            continue;
        }
        let tls = tls.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
        if kind == "tls-h1" {
            http1(tls, Rc::clone(plan)).await;
        } else {
            many.push(http2(tls).await);
        }
    }
    // All first streams before any second one, so that the load spreads.
    for _ in 0..STREAMS {
        for send in &many {
            let (send, plan) = (send.clone(), Rc::clone(plan));
            tokio::task::spawn_local(async move { serve(plan, async |sent| stream(&send, sent).await).await });
            tokio::task::yield_now().await;
        }
    }
    tokio::task::yield_now().await;
}

/// A clock finer than the runtime's milliseconds.
struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    #[expect(deprecated, reason = "the other way is unsafe; the descriptor is its own for as long as it lives")]
    fn new() -> Self {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Self(AsyncFd::new(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).unwrap()).unwrap())
    }

    async fn ring(&self, after: Duration) {
        let it_value = Timespec { tv_sec: 0, tv_nsec: i64::try_from(after.as_nanos().max(1)).unwrap() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        rustix::time::timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once).unwrap();
        // Setting it anew makes it unreadable, so that nothing needs to be read.
        self.0.readable().await.unwrap().clear_ready();
    }
}

async fn run(rate: f64, seconds: f64, plan: &Rc<RefCell<Plan>>) -> Duration {
    let mut random = fastrand::Rng::with_seed(4711);
    let mut pause = || Duration::from_secs_f64((-(1.0 - random.f64()).ln() / rate).min(0.9));
    let (alarm, began) = (Alarm::new(), Instant::now());
    let (mut due, end) = (began + pause(), began + Duration::from_secs_f64(seconds));
    while due < end {
        let now = Instant::now();
        while due <= now && due < end {
            plan.borrow_mut().ask(due, due);
            due += pause();
        }
        alarm.ring(due.saturating_duration_since(Instant::now())).await;
    }
    while plan.borrow().under_way > 0 {
        alarm.ring(Duration::from_micros(500)).await;
    }
    began.elapsed()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [port, kind, rate, seconds, connections] = arguments.as_slice() else {
        // `cargo bench` comes by without arguments.
        return println!("steady PORT plain-h1|tls-h1|tls-h2 RATE SECONDS CONNECTIONS");
    };
    // A task that cannot go on would only leave its request unanswered.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::exit(101);
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let plan = Rc::new(RefCell::new(Plan::default()));
        open(port.parse().unwrap(), kind, connections.parse().unwrap(), &plan).await;
        println!("ready");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        let wall = run(rate.parse().unwrap(), seconds.parse().unwrap(), &plan).await.as_secs_f64();
        let mut plan = plan.borrow_mut();
        plan.times.sort();
        plan.late.sort();
        let times: Vec<f64> = plan.times.iter().map(Duration::as_secs_f64).collect();
        let late = plan.late[plan.late.len() * 99 / 100].as_secs_f64();
        println!("{}", serde_json::json!({ "done": times.len(), "wall": wall, "times": times, "late": late }));
        // Its connections stay until it is told to go.
        std::io::stdin().read_line(&mut String::new()).unwrap();
    });
}
