//! Each key that tunes QUIC does what it says.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use quinn::udp::{RecvMeta, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::rig::{H3, Rig, Upstream, field, message};

/// What the proxy hands to the kernel at once: its length, and that of the datagrams in it.
#[derive(Clone, Copy, Debug)]
struct Sent {
    length: usize,
    datagram: usize,
}

/// A wire between a client and the proxy on which the proxy's sending is seen. Loopback brings what GSO is to cut to
/// whoever asks for GRO as it is.
struct Wire {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<Sent>>>,
    carrying: JoinHandle<()>,
}

impl Wire {
    async fn to(proxy: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        back.connect(proxy).await.unwrap();
        let state = UdpSocketState::new((&back).into()).unwrap();
        assert!(state.max_gso_segments() > 1 && state.gro_segments() > 1, "this kernel can do neither");
        let address = front.local_addr().unwrap();
        let sent = Arc::<Mutex<Vec<Sent>>>::default();
        let seen = Arc::clone(&sent);
        let carrying = tokio::spawn(async move {
            let mut client = None;
            let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
            loop {
                tokio::select! {
                    Ok((length, from)) = front.recv_from(&mut asked) => {
                        client = Some(from);
                        drop(back.send(&asked[..length]).await);
                    }
                    Ok(()) = back.readable() => {
                        let mut meta = [RecvMeta::default()];
                        let receive = || state.recv((&back).into(), &mut [IoSliceMut::new(&mut answered)], &mut meta);
                        let (Ok(_), Some(client)) = (back.try_io(Interest::READABLE, receive), client) else { continue };
                        let (length, datagram) = (meta[0].len, meta[0].stride);
                        seen.lock().unwrap().push(Sent { length, datagram });
                        for datagram in answered[..length].chunks(datagram.max(1)) {
                            drop(front.send_to(datagram, client).await);
                        }
                    }
                }
            }
        });
        Self { address, sent, carrying }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

/// What the proxy sends for half a megabyte.
async fn sent_under(http3: &str) -> Vec<Sent> {
    let upstream = Upstream::answering(|_| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n{}", "x".repeat(500_000)).into_bytes()
    })
    .await;
    let rig = Rig::setup().secure(http3).endpoint(&upstream).start().await;
    let wire = Wire::to(rig.secure).await;
    let mut client = H3::connect(wire.address, rig.pki.client("h3", false)).await.unwrap();

    assert_eq!(client.get("/").await.body.len(), 500_000);

    wire.sent.lock().unwrap().clone()
}

#[tokio::test]
async fn datagrams_grow_to_what_the_path_carries_and_no_further_than_max_mtu() {
    for (http3, most) in [("http3 = { max_mtu = 1400 }", 1400), ("http3 = true", 1452)] {
        let sent = sent_under(http3).await;
        let largest = sent.iter().map(|sent| sent.datagram.min(sent.length)).max().unwrap();
        assert!(largest > most - 60 && largest <= most, "{http3}: {largest}");
    }

    let sent = sent_under("http3 = { max_mtu = 1200 }").await;
    assert!(sent.iter().all(|sent| sent.datagram.min(sent.length) <= 1200), "{sent:?}");
}

#[tokio::test]
async fn kernel_cuts_what_is_sent_unless_that_is_switched_off() {
    let whole = sent_under("http3 = true").await;
    let cut = sent_under("http3 = { offload = false }").await;

    assert!(whole.iter().any(|sent| sent.length > sent.datagram), "{whole:?}");
    assert!(cut.iter().all(|sent| sent.length <= sent.datagram), "{cut:?}");
    assert!(whole.len() < cut.len());
}

#[tokio::test]
async fn every_congestion_control_carries_an_answer() {
    // Which controller each name makes is tested where it is made; that none of them stalls is seen here alone.
    for name in ["cubic", "new_reno", "bbr"] {
        assert!(!sent_under(&format!("http3 = {{ congestion = \"{name}\" }}")).await.is_empty());
    }
}

#[tokio::test]
async fn socket_buffers_that_the_system_does_not_grant_are_warned_of() {
    let upstream = Upstream::named("a").await;
    let capped = |event: &serde_json::Value| message(event).starts_with("UDP socket buffers are capped");

    let modest = Rig::setup().secure("http3 = { socket_buffer = \"64KiB\" }").endpoint(&upstream).start().await;
    let greedy = Rig::setup().secure("http3 = { socket_buffer = \"256MiB\" }").endpoint(&upstream).start().await;

    assert!(!modest.events.all().iter().any(capped));
    let events = greedy.events.all();
    let told = events.iter().find(|event| capped(event)).expect("a warning");
    assert_eq!(field(told, "wanted"), 256 << 20);
    assert!(field(told, "granted").as_u64().unwrap() < 256 << 20);
    assert_eq!(greedy.h3().await.get("/").await.body, b"a");
}

#[tokio::test]
async fn change_of_who_steers_is_said_to_need_a_restart() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().secure("http3 = true").endpoint(&upstream).start().await;

    rig.write_config(&rig.config().replace("http3 = true", "http3 = { kernel_steering = false }"));
    rig.signal("HUP").await;

    let event = rig.event("change takes effect after a restart").await;
    assert_eq!(field(&event, "config.key"), "listeners.secure.http3.kernel_steering");
}
