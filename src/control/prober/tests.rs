//! Checks against scripted endpoints over real sockets.

use std::sync::Mutex;

use ::http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::supervisor::{Policy, Supervisor};
use super::super::{Visit, testing};
use super::*;
use crate::balance::{Live, Roster};
use crate::config::pool::{Check, HttpCheck};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

/// What a scripted endpoint does with a connection.
#[derive(Clone, Debug, Default)]
enum Does {
    /// Answers by the request's path: (path, bytes).
    Answer(Vec<(&'static str, String)>),
    /// Answers so, but late.
    AnswerAfter(Duration, &'static str),
    /// Accepts, reads, and says nothing.
    #[default]
    Nothing,
    /// Reads and closes.
    Close,
}

fn answers(bytes: &str) -> Does {
    Does::Answer(vec![("/", bytes.to_owned())])
}

/// An endpoint whose behaviour can be changed, under a prober that reports to channels.
struct Rig {
    does: Arc<Mutex<Does>>,
    requests: Arc<Mutex<Vec<String>>>,
    pool: Arc<Pool>,
    roster: Arc<Roster>,
    reports: mpsc::Receiver<String>,
    flips: mpsc::Receiver<(Standing, String)>,
    supervisor: Supervisor,
    _endpoint: JoinSet<()>,
}

/// What an endpoint does, what it was asked, and its task.
type Script = (Arc<Mutex<Does>>, Arc<Mutex<Vec<String>>>, JoinSet<()>);

struct One(Arc<Pool>, Arc<Roster>);

impl Pools for One {
    fn each(&self, visit: Visit<'_>) {
        for endpoint in self.1.endpoints() {
            visit(&self.0, endpoint, None);
        }
    }
}

struct Heard(mpsc::Sender<String>, mpsc::Sender<(Standing, String)>);

impl Observer for Heard {
    fn probed(&self, _: &PoolName, _: &Endpoint, report: &Report) {
        let text = match (&report.result, &report.deep) {
            (Err(why), _) | (Ok(()), Some(Err(why))) => why.to_string(),
            (Ok(()), _) => "good".to_owned(),
        };
        self.0.try_send(text).ok();
    }

    fn flipped(&self, _: &PoolName, _: &Endpoint, _: Standing, to: Standing, reason: &str) {
        self.1.try_send((to, reason.to_owned())).ok();
    }
}

fn http_check() -> HttpCheck {
    HttpCheck {
        method: Method::GET,
        path: "/health".to_owned(),
        host: None,
        statuses: vec![StatusCode::OK],
        body: Some("OK".to_owned()),
        headers: crate::head::Fields::new(),
    }
}

fn health(check: Check) -> Health {
    Health {
        check,
        interval: Duration::from_millis(20),
        fast_interval: Duration::from_millis(10),
        jitter_percent: 20,
        late_after: Duration::from_millis(400),
        timeout: Duration::from_millis(1_000),
        rise: 2,
        fall: 3,
        initially_up: false,
        deep: None,
    }
}

async fn rig(does: Does, health: Health) -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let does = Arc::new(Mutex::new(does));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let mut endpoint = JoinSet::new();
    endpoint.spawn(serve(listener, Arc::clone(&does), Arc::clone(&requests)));
    watch(port, health, (does, requests, endpoint))
}

/// A prober of what listens on `port`.
fn watch(port: u16, health: Health, (does, requests, endpoint): Script) -> Rig {
    let pool = testing::pool(&[("127.0.0.1", port)], Some(health));
    let roster = Arc::new(Roster::new(&pool.endpoints));
    let (report, reports) = mpsc::channel(1_000);
    let (flip, flips) = mpsc::channel(1_000);
    let pools: Arc<dyn Pools> = Arc::new(One(Arc::clone(&pool), Arc::clone(&roster)));
    let observer: Arc<dyn Observer> = Arc::new(Heard(report, flip));
    let mut supervisor = Supervisor::new();
    supervisor.start("prober", Policy::Restart, move |stop| {
        Prober::new(Arc::clone(&pools), Arc::clone(&observer), || 7).run(stop)
    });
    Rig { does, requests, pool, roster, reports, flips, supervisor, _endpoint: endpoint }
}

async fn serve(listener: TcpListener, does: Arc<Mutex<Does>>, requests: Arc<Mutex<Vec<String>>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let now = does.lock().unwrap().clone();
        connections.spawn(one(stream, now, Arc::clone(&requests)));
    }
}

async fn one(mut stream: TcpStream, does: Does, requests: Arc<Mutex<Vec<String>>>) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let request = String::from_utf8(read).unwrap();
    requests.lock().unwrap().push(request.clone());
    let answer = match does {
        Does::Nothing => return std::future::pending().await,
        Does::Close => return,
        Does::AnswerAfter(wait, answer) => {
            tokio::time::sleep(wait).await;
            answer.to_owned()
        }
        Does::Answer(by_path) => {
            let path = request.split(' ').nth(1).unwrap();
            by_path.into_iter().find(|(prefix, _)| path.starts_with(prefix)).unwrap().1
        }
    };
    let key = request.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap_or_default();
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    drop(stream.write_all(answer.replace("ACCEPT", &accept).as_bytes()).await);
}

impl Rig {
    fn now(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    async fn flip(&mut self) -> (Standing, String) {
        self.flips.recv().await.unwrap()
    }

    async fn report(&mut self) -> String {
        self.reports.recv().await.unwrap()
    }

    fn vitals(&self) -> &crate::balance::Vitals {
        &self.roster.endpoints()[0].vitals
    }
}

#[tokio::test]
async fn endpoint_rises_after_two_good_checks_and_falls_after_three_bad_ones() {
    let mut rig = rig(answers(OK), health(Check::Http(http_check()))).await;

    assert_eq!(rig.flip().await.0, Standing::Up);
    assert_eq!(rig.requests.lock().unwrap().len(), 2);

    rig.now(answers("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"));
    let before = rig.requests.lock().unwrap().len();
    let (standing, reason) = rig.flip().await;
    assert_eq!(standing, Standing::Down);
    assert!(rig.requests.lock().unwrap().len() >= before + 3);
    assert_eq!(reason, "status 500 Internal Server Error, 3 in a row");
    assert_eq!(&*rig.vitals().reason(), reason);

    rig.now(answers(OK));
    assert_eq!(rig.flip().await.0, Standing::Up);
    assert!(rig.supervisor.shut_down(Duration::from_secs(1)).await.is_empty());
}

#[tokio::test]
async fn cookies_that_an_endpoint_sets_come_back() {
    let set = "HTTP/1.1 200 OK\r\nSet-Cookie: session=abc; Secure; HttpOnly; Path=/\r\nSet-Cookie: async-token=x\r\n\
               Content-Length: 2\r\n\r\nOK";
    let mut rig = rig(answers(set), health(Check::Http(http_check()))).await;

    rig.flip().await;

    let requests = rig.requests.lock().unwrap();
    assert!(!requests[0].contains("cookie"));
    assert!(requests[1].contains("\r\ncookie: session=abc; async-token=x\r\n"));
}

#[tokio::test]
async fn accepted_connection_without_an_answer_is_no_life() {
    let mut health = health(Check::Http(http_check()));
    (health.late_after, health.timeout) = (Duration::from_millis(20), Duration::from_millis(50));
    let mut rig = rig(Does::Nothing, health).await;

    assert_eq!(rig.flip().await, (Standing::Down, "no answer within 50ms, 3 in a row".to_owned()));
}

#[tokio::test]
async fn late_answer_is_not_death() {
    let mut health = health(Check::Http(http_check()));
    health.late_after = Duration::from_millis(10);
    let mut rig = rig(Does::AnswerAfter(Duration::from_millis(40), OK), health).await;

    assert_eq!(rig.flip().await.0, Standing::Late);
}

#[tokio::test]
async fn silence_is_late_while_live_traffic_is_answered() {
    let mut health = health(Check::Http(http_check()));
    (health.late_after, health.timeout) = (Duration::from_millis(20), Duration::from_millis(50));
    let mut rig = rig(Does::Nothing, health).await;

    // The rig's clock stands still at 7.
    rig.vitals().note_live(Live::Answered, 7);

    assert_eq!(rig.flip().await.0, Standing::Late);
}

#[tokio::test]
async fn wishes_for_a_connection_that_vanish_are_death_whatever_old_connections_are_answered() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // With its queue full, the kernel drops further wishes.
    let mut fill = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        fill.push(stream);
    }
    let mut health = health(Check::Http(http_check()));
    (health.late_after, health.timeout) = (Duration::from_millis(20), Duration::from_millis(50));
    let mut rig = watch(address.port(), health, (Arc::default(), Arc::default(), JoinSet::new()));

    rig.vitals().note_live(Live::Answered, 7);

    assert_eq!(rig.flip().await, (Standing::Down, "no connection: timed out, 3 in a row".to_owned()));
}

#[tokio::test]
async fn expected_text_must_be_in_the_body() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nO\r\n1\r\nK\r\n0\r\n\r\n";
    let mut rig = rig(answers(chunked), health(Check::Http(http_check()))).await;
    assert_eq!(rig.flip().await.0, Standing::Up);

    rig.now(answers("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>sorry"));

    assert_eq!(rig.flip().await, (Standing::Down, "expected text not in the body, 3 in a row".to_owned()));
}

#[tokio::test]
async fn only_listed_statuses_are_good() {
    let mut check = http_check();
    check.statuses = vec![StatusCode::NO_CONTENT, StatusCode::UNAUTHORIZED];
    check.body = None;
    let mut rig = rig(answers("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"), health(Check::Http(check))).await;
    assert_eq!(rig.flip().await.0, Standing::Up);

    rig.now(answers(OK));

    assert_eq!(rig.flip().await, (Standing::Down, "status 200 OK, 3 in a row".to_owned()));
}

#[tokio::test]
async fn failing_deep_check_degrades_and_never_ejects() {
    let mut health = health(Check::Http(http_check()));
    let mut deep = http_check();
    (deep.path, deep.body) = ("/api/v1/me/".to_owned(), None);
    deep.statuses = vec![StatusCode::OK, StatusCode::UNAUTHORIZED];
    health.deep = Some(deep);
    let unauthorised = "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";
    let broken = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
    let with_deep = |deep: &str| Does::Answer(vec![("/health", OK.to_owned()), ("/api", deep.to_owned())]);
    let mut rig = rig(with_deep(unauthorised), health).await;
    assert_eq!(rig.flip().await.0, Standing::Up);

    rig.now(with_deep(broken));

    assert_eq!(rig.flip().await, (Standing::Late, "deep check: status 500 Internal Server Error".to_owned()));
    while rig.reports.try_recv().is_ok() {}
    for _ in 0..6 {
        rig.report().await;
    }
    assert_eq!(rig.vitals().standing(), Standing::Late);
}

#[tokio::test]
async fn interim_responses_are_passed_over_and_long_heads_are_not() {
    let early = format!("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{OK}");
    let mut rig = rig(answers(&early), health(Check::Http(http_check()))).await;
    assert_eq!(rig.flip().await.0, Standing::Up);

    rig.now(answers(&format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(17_000))));

    assert_eq!(rig.flip().await, (Standing::Down, "bad answer: response head above 16 KiB, 3 in a row".to_owned()));
}

#[tokio::test]
async fn websocket_endpoint_that_closes_without_an_answer_is_alive() {
    let check = Check::WebSocket { path: "/ws".to_owned(), host: None };
    let mut rig = rig(Does::Close, health(check)).await;
    assert_eq!(rig.flip().await.0, Standing::Up);

    rig.now(answers(
        "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n",
    ));
    while rig.reports.try_recv().is_ok() {}
    rig.report().await;
    assert_eq!(rig.report().await, "good");

    rig.now(answers(
        "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
    ));
    assert_eq!(rig.flip().await.0, Standing::Down);
}

#[tokio::test]
async fn silent_websocket_endpoint_is_dead() {
    let mut health = health(Check::WebSocket { path: "/ws".to_owned(), host: None });
    health.timeout = Duration::from_millis(40);
    let mut rig = rig(Does::Nothing, health).await;

    assert_eq!(rig.flip().await.0, Standing::Down);
}

#[tokio::test]
async fn refused_connections_are_death_for_a_tcp_check() {
    let mut rig = rig(Does::Nothing, health(Check::Tcp)).await;
    assert_eq!(rig.flip().await.0, Standing::Up);

    rig._endpoint.shutdown().await;

    let (standing, reason) = rig.flip().await;
    assert_eq!(standing, Standing::Down);
    assert!(reason.starts_with("no connection: "), "{reason}");
}

#[tokio::test]
async fn disabled_endpoints_are_not_checked_and_forget_their_standing() {
    let rig = rig(answers(OK), health(Check::Http(http_check()))).await;
    let mut wanted = rig.pool.endpoints.clone();
    wanted[0].disabled = true;
    let (succeeded, _) = rig.roster.succeed(&wanted);
    succeeded.endpoints()[0].vitals.set_standing(Standing::Up, "before");
    let (report, _reports) = mpsc::channel(1);
    let (flip, _flips) = mpsc::channel(1);
    let mut prober =
        Prober::new(Arc::new(One(Arc::clone(&rig.pool), Arc::clone(&rig.roster))), Arc::new(Heard(report, flip)), || 7);
    prober.refresh(Instant::now());
    assert_eq!(prober.watched.len(), 1);

    prober.pools = Arc::new(One(Arc::clone(&rig.pool), Arc::new(succeeded)));
    prober.refresh(Instant::now());

    assert!(prober.watched.is_empty());
    assert_eq!(rig.vitals().standing(), Standing::Unknown);
}

#[tokio::test]
async fn first_checks_are_spread() {
    let pool = testing::pool(
        &[("10.0.0.1", 1), ("10.0.0.2", 1), ("10.0.0.3", 1), ("10.0.0.4", 1), ("10.0.0.5", 1), ("10.0.0.6", 1)],
        Some(Health { fast_interval: Duration::from_secs(1), ..health(Check::Tcp) }),
    );
    let (report, _reports) = mpsc::channel(1);
    let (flip, _flips) = mpsc::channel(1);
    let roster = Arc::new(Roster::new(&pool.endpoints));
    let mut prober = Prober::new(Arc::new(One(pool, roster)), Arc::new(Heard(report, flip)), || 7);
    let now = Instant::now();

    prober.refresh(now);

    let mut due: Vec<_> = prober.idle().map(|(due, _)| due).collect();
    due.sort_unstable();
    due.dedup();
    assert_eq!(due.len(), 6);
    assert!(due.iter().all(|due| *due <= now + FIRST_WITHIN));
}
