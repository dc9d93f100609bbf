//! Attackers of every kind while honest clients are served: all of these succeed, memory stays bounded, and each attack
//! is counted under a reason of its own.
//!
//! `benches/attack/run BINARY` runs this against any build and writes `benches/results/attack.md`.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinSet;

use crate::limits::from;
use crate::rig::rough::{GOOD, Rough, control, head};
use crate::rig::upstream::named;
use crate::rig::{H3, Peer, Rig, Setup, Upstream, soon};

/// Honest clients, each at an address of its own, and how often each asks in a phase.
const HONEST: usize = 4;
const ASKS: usize = 60;

/// Between two questions of an honest client.
const THINK: Duration = Duration::from_millis(15);

/// Resident memory that no attack may reach, in KiB.
const MOST: u64 = 400 * 1024;

const PLAIN: &str = "proxy_protocol = [\"127.0.0.0/8\"]\nmax_connections_per_client = 50\nmax_tunnels_per_client = 5\n\
                     timeouts = { head = \"500ms\", body_idle = \"500ms\", write_idle = \"500ms\" }\n\
                     http2 = { cleartext = true }";

/// Where rapid resets are counted.
const RAPID_RESET: &str = "sluicegate_verdicts_total{rule=\"shield.rapid_reset\",action=\"offence\",mode=\"enforced\"}";

/// Superset as far as attacks go.
async fn endpoint() -> Upstream {
    Upstream::answering(|request| match (request.method(), request.target()) {
        (_, "/big") => [b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n".to_vec(), vec![b'x'; 4_000_000]].concat(),
        (_, "/ws") => {
            let key = request.head.get("sec-websocket-key").unwrap_or_default();
            let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            )
            .into_bytes()
        }
        (_, "/missing") => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ("POST", "/login/") => b"HTTP/1.1 302 Found\r\nLocation: /login/\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => named("a"),
    })
    .await
}

async fn proxy(upstream: &Upstream) -> Rig {
    let rest = "[limits.client]\nrate = \"100/s\"\nburst = 100\nmax_keys = 1000\ndefault = true\n\
                [limits.network]\nby = \"network\"\nnetwork_v4 = 16\nrate = \"300/s\"\nburst = 300\ndefault = true\n\
                [login]\nmax_keys = 1000\n[[routes]]\npool = \"app\"\n";
    let setup: Setup = Rig::setup()
        .plain(PLAIN)
        .secure("http3 = { max_error_resets = 50 }")
        .rest(rest)
        .pool("queue = { length = 1000 }");
    setup.endpoint(upstream).start().await
}

/// How honest clients fared: the share that succeeded, and the time within which 99 of 100 did.
async fn honest(rig: &Rig) -> (usize, Duration) {
    let one = async |host: usize| {
        let mut client = from(rig, &format!("192.0.{host}.1")).await;
        let (mut good, mut times) = (0, Vec::new());
        for _ in 0..ASKS {
            let since = Instant::now();
            client.send("GET /superset/welcome/ HTTP/1.1\r\nHost: test\r\n\r\n").await;
            good += usize::from(client.response().await.status == 200);
            times.push(since.elapsed());
            tokio::time::sleep(THINK).await;
        }
        (good, times)
    };
    let all = join_all((1..=HONEST).map(one)).await;
    let mut times: Vec<Duration> = all.iter().flat_map(|(_, times)| times.clone()).collect();
    times.sort();
    (all.iter().map(|(good, _)| good).sum(), times[times.len() * 99 / 100])
}

fn memory(rig: &Rig) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.split_whitespace().next().unwrap().parse().unwrap()
}

/// Lets attackers of the plain listener loose and looks at the honest. `attacker` plays one of `count` attackers for
/// ever; `reason` is the sample under which the attack is counted.
async fn under_attack<F, A>(kind: &str, count: usize, reason: &str, attacker: F)
where
    F: Fn(std::net::SocketAddr, usize) -> A,
    A: Future<Output = ()> + Send + 'static,
{
    under_any_attack(kind, count, reason, |rig, number| attacker(rig.plain, number)).await;
}

/// The same for attackers who know more of the proxy.
async fn under_any_attack<F, A>(kind: &str, count: usize, reason: &str, attacker: F)
where
    F: Fn(&Rig, usize) -> A,
    A: Future<Output = ()> + Send + 'static,
{
    let upstream = endpoint().await;
    let rig = proxy(&upstream).await;
    let (good_before, before) = honest(&rig).await;

    let mut attackers = JoinSet::new();
    for number in 0..count {
        attackers.spawn(attacker(&rig, number));
    }
    soon(&format!("{kind} to be counted"), async { while rig.metric(reason).await < 1.0 {} }).await;
    let (good, during) = honest(&rig).await;
    let counted = rig.metric(reason).await;
    attackers.shutdown().await;

    let peak = memory(&rig);
    eprintln!(
        "| {kind} | {good} of {} | {:.1} ms | {:.1} ms | {} MiB | {counted:.0} `{}` |",
        HONEST * ASKS,
        before.as_secs_f64() * 1e3,
        during.as_secs_f64() * 1e3,
        peak / 1024,
        reason.trim_start_matches("sluicegate_"),
    );
    assert_eq!((good_before, good), (HONEST * ASKS, HONEST * ASKS), "{kind}");
    assert!(peak < MOST, "{kind}: {peak} KiB");
}

/// A connection of an attacker at `address`, if it is let in.
async fn connect(proxy: std::net::SocketAddr, address: &str) -> Option<Peer> {
    let stream = tokio::net::TcpStream::connect(proxy).await.ok()?;
    let mut peer = Peer::new(stream, 0);
    peer.try_send(format!("PROXY TCP4 {address} 127.0.0.1 1000 80\r\n")).await.ok()?;
    Some(peer)
}

/// Lets other tasks of this machine have their turn.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

fn guess(user: &str) -> String {
    let body = format!("username={user}&password=guess");
    let length = body.len();
    format!(
        "POST /login/ HTTP/1.1\r\nHost: t\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn flood_of_requests_from_one_address() {
    let reason = "sluicegate_limit_requests_total{limit=\"client\",result=\"limited\"}";
    under_attack("request flood, one address", 10, reason, |proxy, _| async move {
        loop {
            let Some(mut peer) = connect(proxy, "10.0.0.1").await else { continue };
            loop {
                let sent = peer.try_send("GET / HTTP/1.1\r\nHost: t\r\n\r\n".repeat(10)).await;
                if sent.is_err() || peer.piece(1000).await.is_none() {
                    break;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn flood_of_requests_from_ever_new_addresses() {
    let reason = "sluicegate_limit_requests_total{limit=\"network\",result=\"limited\"}";
    under_attack("request flood, ever new addresses", 10, reason, |proxy, number| async move {
        for host in 0_u32.. {
            let address = format!("10.{}.{}.{}", 0, number, host % 256);
            let Some(mut peer) = connect(proxy, &address).await else { continue };
            for _ in 0..5 {
                if peer.try_send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.is_err()
                    || peer.try_response(true).await.is_none()
                {
                    break;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn guessing_passwords_from_one_address() {
    let reason = "sluicegate_logins_total{way=\"form\",result=\"limited\"}";
    under_attack("login guessing, one address", 4, reason, |proxy, number| async move {
        for name in 0_u32.. {
            let Some(mut peer) = connect(proxy, "10.0.0.1").await else { continue };
            if peer.try_send(guess(&format!("user{number}x{name}"))).await.is_ok() {
                peer.try_response(true).await;
            }
            pause().await;
        }
    })
    .await;
}

#[tokio::test]
async fn guessing_passwords_from_many_addresses() {
    let reason = "sluicegate_logins_total{way=\"form\",result=\"limited\"}";
    under_attack("login guessing, many addresses", 4, reason, |proxy, number| async move {
        for host in 0_u32.. {
            let address = format!("10.{number}.{}.{}", host / 256 % 256, host % 256);
            let Some(mut peer) = connect(proxy, &address).await else { continue };
            if peer.try_send(guess("admin")).await.is_ok() {
                peer.try_response(true).await;
            }
            pause().await;
        }
    })
    .await;
}

#[tokio::test]
async fn heads_that_never_end() {
    let reason = "sluicegate_faults_total{listener=\"plain\",code=\"head_read\"}";
    under_attack("slow heads", 100, reason, |proxy, number| async move {
        loop {
            let Some(mut peer) = connect(proxy, &format!("10.0.0.{}", number % 4)).await else { continue };
            if peer.try_send("GET / HTTP/1.1\r\nHost: t\r\n").await.is_err() {
                continue;
            }
            while peer.try_send("X: y\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn bodies_that_never_end() {
    let reason = "sluicegate_faults_total{listener=\"plain\",code=\"body_read\"}";
    under_attack("slow bodies", 100, reason, |proxy, number| async move {
        loop {
            let Some(mut peer) = connect(proxy, &format!("10.0.0.{}", number % 4)).await else { continue };
            if peer
                .try_send("POST /api/v1/chart/data HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n")
                .await
                .is_ok()
            {
                peer.try_response(true).await;
            }
            pause().await;
        }
    })
    .await;
}

#[tokio::test]
async fn readers_that_do_not_read() {
    let reason = "sluicegate_faults_total{listener=\"plain\",code=\"client_write\"}";
    under_attack("readers that do not read", 40, reason, |proxy, number| async move {
        loop {
            let Some(mut peer) = connect(proxy, &format!("10.0.0.{}", number % 4)).await else { continue };
            if peer.try_send("GET /big HTTP/1.1\r\nHost: t\r\n\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1_500)).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn streams_that_are_reset_at_once() {
    let reason = RAPID_RESET;
    under_attack("HTTP/2 rapid reset", 8, reason, |proxy, number| async move {
        loop {
            let Some(peer) = connect(proxy, &format!("10.0.0.{number}")).await else { continue };
            let Ok((mut send, connection)) = h2::client::handshake(peer.into_io()).await else { continue };
            let driven = tokio::spawn(connection);
            loop {
                let Ok(ready) = send.clone().ready().await else { break };
                send = ready;
                let request = http::Request::get("http://t/").body(()).unwrap();
                let Ok((response, mut stream)) = send.send_request(request, true) else { break };
                tokio::task::yield_now().await;
                stream.send_reset(h2::Reason::CANCEL);
                drop(response);
            }
            driven.abort();
            pause().await;
        }
    })
    .await;
}

#[tokio::test]
async fn connections_without_end() {
    let reason = "sluicegate_connections_refused_total{listener=\"plain\",cause=\"client_full\"}";
    under_attack("connection flood, one address", 20, reason, |proxy, _| async move {
        let mut held = Vec::new();
        loop {
            held.extend(connect(proxy, "10.0.0.1").await);
            held.truncate(20);
            pause().await;
        }
    })
    .await;
}

#[tokio::test]
async fn websockets_without_end() {
    let reason = "sluicegate_faults_total{listener=\"plain\",code=\"too_many_tunnels\"}";
    under_attack("WebSocket flood, one address", 10, reason, |proxy, _| async move {
        let opening = "GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        loop {
            let Some(mut peer) = connect(proxy, "10.0.0.1").await else { continue };
            if peer.try_send(opening).await.is_ok()
                && peer.try_response(false).await.is_some_and(|answer| answer.status == 101)
            {
                // Pings for a while, as a tunnel that is alive has them; then another.
                for _ in 0..20 {
                    if peer.try_send([0x89, 0x80, 1, 2, 3, 4]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            pause().await;
        }
    })
    .await;
}

#[tokio::test]
async fn readers_that_open_their_windows_by_a_little_now_and_then() {
    let reason = "sluicegate_faults_total{listener=\"plain\",code=\"slow_read\"}";
    under_attack("slow readers by HTTP/2 windows", 20, reason, |proxy, number| async move {
        loop {
            let Some(peer) = connect(proxy, &format!("10.0.0.{}", number % 4)).await else { continue };
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(16);
            let Ok((send, connection)) = builder.handshake::<_, bytes::Bytes>(peer.into_io()).await else { continue };
            let driven = tokio::spawn(connection);
            let asked = async {
                let request = http::Request::get("http://t/big").body(()).unwrap();
                let (response, _) = send.ready().await?.send_request(request, true)?;
                let mut body = response.await?.into_body();
                while let Some(piece) = body.data().await {
                    for _ in 0..piece?.len() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        body.flow_control().release_capacity(1)?;
                    }
                }
                Ok::<_, h2::Error>(())
            };
            drop(asked.await);
            driven.abort();
            pause().await;
        }
    })
    .await;
}

#[tokio::test]
async fn looking_for_what_is_not_there() {
    let reason = "sluicegate_bans_total{cause=\"shield.misses\"}";
    under_attack("404 after 404", 4, reason, |proxy, number| async move {
        loop {
            let Some(mut peer) = connect(proxy, &format!("198.51.100.{number}")).await else { continue };
            loop {
                let sent = peer.try_send("GET /missing HTTP/1.1\r\nHost: t\r\n\r\n").await;
                if sent.is_err() || peer.try_response(true).await.is_none() {
                    break;
                }
            }
            pause().await;
        }
    })
    .await;
}

#[tokio::test]
async fn page_after_page_and_nothing_that_belongs_to_them() {
    let reason = "sluicegate_verdicts_total{rule=\"shield.pages\",action=\"offence\",mode=\"observed\"}";
    under_attack("storm of pages", 4, reason, |proxy, number| async move {
        loop {
            let Some(mut peer) = connect(proxy, &format!("198.51.100.{number}")).await else { continue };
            for page in 0_u32.. {
                let asked = format!("GET /superset/dashboard/{page}/ HTTP/1.1\r\nHost: t\r\n\r\n");
                if peer.try_send(asked).await.is_err() || peer.try_response(true).await.is_none() {
                    break;
                }
                pause().await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn flood_of_requests_over_http3() {
    let reason = "sluicegate_limit_requests_total{limit=\"client\",result=\"limited\"}";
    under_any_attack("HTTP/3 request flood, one address", 4, reason, |rig, _| {
        let (proxy, tls) = (rig.secure, rig.pki.client("h3", false));
        async move {
            loop {
                let Ok(mut h3) = H3::connect(proxy, tls.clone()).await else { continue };
                while let Ok(mut stream) = h3.try_start(crate::rig::h3::request(http::Method::GET, "/")).await {
                    if stream.finish().await.is_err() || crate::rig::h3::reply(&mut stream).await.is_err() {
                        break;
                    }
                }
                pause().await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn streams_over_http3_that_are_reset_at_once() {
    under_any_attack("HTTP/3 rapid reset", 4, RAPID_RESET, |rig, _| {
        let (proxy, tls) = (rig.secure, rig.pki.client("h3", false));
        async move {
            loop {
                let Ok((endpoint, quic)) = crate::rig::h3::quic(proxy, tls.clone()).await else { continue };
                let mut client = Rough::over(endpoint, quic);
                client.tell(&control()).await;
                while let Ok((mut send, mut recv)) = client.quic.open_bi().await {
                    drop(send.write_all(&head(&GOOD)).await);
                    drop(send.reset(quinn::VarInt::from_u32(0x10c)));
                    drop(recv.stop(quinn::VarInt::from_u32(0x10c)));
                    tokio::task::yield_now().await;
                }
                pause().await;
            }
        }
    })
    .await;
}
