//! How tunnels end.

use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;
use crate::lifecycle::Lifecycle;

const SETTINGS: Settings =
    Settings { idle: Duration::from_secs(90), max_frame: 1 << 20, drain_spread: Duration::from_secs(10) };

struct Rig {
    client: DuplexStream,
    upstream: DuplexStream,
    lifecycle: Lifecycle,
    tally: Arc<Tally>,
    running: JoinHandle<Ending>,
}

fn rig(leftover: &'static [u8]) -> Rig {
    let (client, near) = duplex(8 << 10);
    let (upstream, far) = duplex(8 << 10);
    let lifecycle = Lifecycle::new();
    let tally = Arc::new(Tally::default());
    let running = tokio::spawn(run(
        Box::new(near),
        Box::new(far),
        Bytes::from_static(leftover),
        Settings { max_frame: 100_000, ..SETTINGS },
        lifecycle.life(),
        Arc::clone(&tally),
    ));
    Rig { client, upstream, lifecycle, tally, running }
}

/// A frame with a mask of zero when it is a client's.
fn frame(sender: Side, first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = if sender == Side::Client { 0x80 } else { 0 };
    let mut out = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..=125) => out.push(length | mask),
        _ => {
            out.push(127 | mask);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            if let Ok(length) = u16::try_from(payload.len()) {
                out.truncate(1);
                out.push(126 | mask);
                out.extend_from_slice(&length.to_be_bytes());
            }
        }
    }
    if sender == Side::Client {
        out.extend_from_slice(&[0; 4]);
    }
    out.extend_from_slice(payload);
    out
}

/// Reads a Close, masked or not, and gives its code.
async fn close_code(io: &mut DuplexStream, sender: Side) -> u16 {
    let mut head = [0; 2];
    io.read_exact(&mut head).await.unwrap();
    assert_eq!(head[0], 0x88);
    assert_eq!(head[1] & 0x80 != 0, sender == Side::Client);
    let mut mask = [0; 4];
    if sender == Side::Client {
        io.read_exact(&mut mask).await.unwrap();
    }
    let mut code = [0; 2];
    io.read_exact(&mut code).await.unwrap();
    u16::from_be_bytes([code[0] ^ mask[0], code[1] ^ mask[1]])
}

async fn expect(io: &mut DuplexStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    timeout(Duration::from_secs(5), io.read_exact(&mut got)).await.expect("bytes pass").unwrap();
    assert!(got == bytes);
}

#[tokio::test]
async fn bytes_pass_unchanged_and_are_counted() {
    let mut rig = rig(b"\x81\x05early");
    let up = [frame(Side::Client, 0xC1, b"deflated"), frame(Side::Client, 0x82, &[9; 70_000])].concat();
    let down = [frame(Side::Upstream, 0x01, b"a"), frame(Side::Upstream, 0x8A, b""), frame(Side::Upstream, 0x80, b"b")]
        .concat();

    let (write, read) = (&mut rig.client, &mut rig.upstream);
    let ((), ()) = tokio::join!(async { write.write_all(&up).await.unwrap() }, expect(read, &up));
    rig.upstream.write_all(&down).await.unwrap();
    expect(&mut rig.client, &[b"\x81\x05early".to_vec(), down.clone()].concat()).await;
    drop((rig.client, rig.upstream));

    assert_eq!(rig.running.await.unwrap(), Ending::Gone(Side::Client));
    let (from_client, from_upstream) = (&rig.tally.from_client, &rig.tally.from_upstream);
    assert_eq!(from_client.bytes.load(Relaxed), up.len() as u64);
    assert_eq!((from_client.frames.load(Relaxed), from_client.messages.load(Relaxed)), (2, 2));
    assert_eq!(from_upstream.bytes.load(Relaxed), down.len() as u64 + 7);
    assert_eq!((from_upstream.frames.load(Relaxed), from_upstream.messages.load(Relaxed)), (4, 2));
}

#[tokio::test]
async fn half_close_leaves_the_other_half_open() {
    let mut rig = rig(b"");
    rig.client.write_all(&frame(Side::Client, 0x81, b"last")).await.unwrap();
    rig.client.shutdown().await.unwrap();

    let mut all = Vec::new();
    rig.upstream.read_to_end(&mut all).await.unwrap();
    rig.upstream.write_all(&frame(Side::Upstream, 0x81, b"answer")).await.unwrap();
    rig.upstream.shutdown().await.unwrap();
    let mut back = Vec::new();
    rig.client.read_to_end(&mut back).await.unwrap();

    assert_eq!(all, frame(Side::Client, 0x81, b"last"));
    assert_eq!(back, frame(Side::Upstream, 0x81, b"answer"));
    assert_eq!(rig.running.await.unwrap(), Ending::Gone(Side::Client));
}

#[tokio::test]
async fn closing_handshake_names_who_began_it() {
    let mut rig = rig(b"");
    rig.upstream.write_all(&frame(Side::Upstream, 0x88, &1000_u16.to_be_bytes())).await.unwrap();
    expect(&mut rig.client, &frame(Side::Upstream, 0x88, &1000_u16.to_be_bytes())).await;
    rig.client.write_all(&frame(Side::Client, 0x88, &1000_u16.to_be_bytes())).await.unwrap();
    expect(&mut rig.upstream, &frame(Side::Client, 0x88, &1000_u16.to_be_bytes())).await;
    drop(rig.upstream);

    assert_eq!(rig.running.await.unwrap(), Ending::Closed(Side::Upstream));
}

#[tokio::test(start_paused = true)]
async fn connections_left_open_after_the_handshake_are_ended() {
    let mut rig = rig(b"");
    rig.client.write_all(&frame(Side::Client, 0x88, b"")).await.unwrap();
    rig.upstream.write_all(&frame(Side::Upstream, 0x88, b"")).await.unwrap();

    assert_eq!(rig.running.await.unwrap(), Ending::Closed(Side::Client));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_tunnel_with_going_away() {
    let mut rig = rig(b"");
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(60)).await;
    rig.client.write_all(&frame(Side::Client, 0x89, b"")).await.unwrap();
    expect(&mut rig.upstream, &frame(Side::Client, 0x89, b"")).await;

    assert_eq!(close_code(&mut rig.client, Side::Upstream).await, 1001);
    assert_eq!(close_code(&mut rig.upstream, Side::Client).await, 1001);
    assert_eq!(start.elapsed().as_secs(), 150);
    assert_eq!(rig.running.await.unwrap(), Ending::Idle);
}

#[tokio::test(start_paused = true)]
async fn large_frame_is_told_to_its_sender_and_passes_nowhere() {
    let mut rig = rig(b"");
    let large = frame(Side::Client, 0x82, &[0; 100_001]);
    rig.client.write_all(&large[..3]).await.unwrap();
    tokio::task::yield_now().await;
    rig.client.write_all(&large[3..20]).await.unwrap();

    assert_eq!(close_code(&mut rig.client, Side::Upstream).await, 1009);
    assert_eq!(close_code(&mut rig.upstream, Side::Client).await, 1001);
    assert_eq!(rig.running.await.unwrap(), Ending::TooLarge(Side::Client));
}

#[tokio::test(start_paused = true)]
async fn broken_framing_is_left_to_its_receiver_who_answers_first() {
    let mut rig = rig(b"");
    let good = frame(Side::Client, 0x81, b"question");
    let bad = frame(Side::Client, 0x83, b"reserved opcode");
    rig.client.write_all(&[good.clone(), bad.clone()].concat()).await.unwrap();
    expect(&mut rig.upstream, &[good, bad].concat()).await;
    let answer = frame(Side::Upstream, 0x81, b"answer");
    rig.upstream.write_all(&answer).await.unwrap();
    rig.upstream.write_all(&frame(Side::Upstream, 0x88, &1002_u16.to_be_bytes())).await.unwrap();
    drop(rig.upstream);

    expect(&mut rig.client, &answer).await;
    assert_eq!(close_code(&mut rig.client, Side::Upstream).await, 1002);
    assert!(matches!(rig.running.await.unwrap(), Ending::Malformed(Side::Client, _)));
}

#[tokio::test(start_paused = true)]
async fn broken_framing_that_its_receiver_bears_ends_the_tunnel_all_the_same() {
    let mut rig = rig(b"\x83\x00");
    let start = Instant::now();

    expect(&mut rig.client, b"\x83\x00").await;
    assert!(matches!(rig.running.await.unwrap(), Ending::Malformed(Side::Upstream, _)));
    assert_eq!(start.elapsed(), CLOSE_WAIT);
}

#[tokio::test(start_paused = true)]
async fn no_close_is_put_behind_broken_framing() {
    let mut rig = rig(b"");
    let bad = frame(Side::Client, 0x83, b"");
    rig.client.write_all(&bad).await.unwrap();
    expect(&mut rig.upstream, &bad).await;

    rig.lifecycle.advance(Phase::Draining);

    let mut rest = Vec::new();
    rig.upstream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    drop(rig.running.await);
}

#[tokio::test(start_paused = true)]
async fn drain_puts_its_close_between_frames() {
    let mut rig = rig(b"");
    let down = frame(Side::Upstream, 0x01, b"fragment of a message");
    rig.upstream.write_all(&down[..10]).await.unwrap();
    expect(&mut rig.client, &down[..10]).await;

    rig.lifecycle.advance(Phase::Draining);
    // The other direction stands at a boundary.
    assert_eq!(close_code(&mut rig.upstream, Side::Client).await, 1001);
    rig.upstream.write_all(&down[10..]).await.unwrap();
    rig.upstream.write_all(&frame(Side::Upstream, 0x80, b"dropped")).await.unwrap();
    expect(&mut rig.client, &down[10..]).await;
    assert_eq!(close_code(&mut rig.client, Side::Upstream).await, 1012);
    rig.upstream.write_all(&frame(Side::Upstream, 0x88, b"")).await.unwrap();
    rig.client.write_all(&frame(Side::Client, 0x88, b"")).await.unwrap();

    let mut rest = Vec::new();
    rig.client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    assert_eq!(rig.running.await.unwrap(), Ending::Drained);
}

#[tokio::test(start_paused = true)]
async fn drain_is_spread_and_does_not_wait_for_the_silent() {
    let start = Instant::now();
    let mut ends = Vec::new();
    for _ in 0..50 {
        let rig = rig(b"");
        rig.lifecycle.advance(Phase::Draining);
        ends.push(tokio::spawn(async move {
            let ending = rig.running.await.unwrap();
            drop((rig.client, rig.upstream, rig.lifecycle));
            (ending, start.elapsed())
        }));
    }
    let mut times = Vec::new();
    for end in ends {
        let (ending, time) = end.await.unwrap();
        assert_eq!(ending, Ending::Drained);
        times.push(time);
    }
    times.sort_unstable();

    assert!(times[0] < Duration::from_secs(6), "{times:?}");
    assert!(times[49] > Duration::from_secs(9) && times[49] < Duration::from_secs(15), "{times:?}");
}

#[tokio::test]
async fn end_of_the_process_cuts() {
    let rig = rig(b"");

    rig.lifecycle.advance(Phase::Ending);

    assert_eq!(rig.running.await.unwrap(), Ending::Cut);
}

#[tokio::test(start_paused = true)]
async fn receiver_that_takes_nothing_stops_the_sender() {
    let mut rig = rig(b"");
    let piece = frame(Side::Client, 0x82, &[0; 1000]);

    let mut sent = 0;
    while timeout(Duration::from_secs(1), rig.client.write_all(&piece)).await.is_ok() {
        sent += piece.len();
    }

    // Two pipes and one buffer.
    assert!(sent < (8 << 10) * 2 + (64 << 10) + 2000, "{sent}");
}
