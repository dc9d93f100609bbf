//! What a restart and the other proxies of a fleet owe to a client of QUIC: replicas that share a secret and nothing else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use quinn::ConnectionError;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::rig::rough::{Outcome, Rough, control, head};
use crate::rig::{Rig, Upstream, soon};

/// A network in front of several proxies, which sees each client as one address.
struct Network {
    address: SocketAddr,
    carrying: JoinHandle<()>,
}

impl Network {
    /// Carries what the client sends to where `route` says, knowing how many datagrams have come back by then.
    async fn new(route: impl Fn(usize) -> SocketAddr + Send + 'static) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let carrying = tokio::spawn(async move {
            let (mut sent, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
            let mut client = None;
            let mut answers = 0;
            loop {
                tokio::select! {
                    Ok((length, from)) = front.recv_from(&mut sent) => {
                        client = Some(from);
                        drop(back.send_to(&sent[..length], route(answers)).await);
                    }
                    Ok((length, _)) = back.recv_from(&mut answered) => {
                        answers += 1;
                        if let Some(client) = client {
                            drop(front.send_to(&answered[..length], client).await);
                        }
                    }
                }
            }
        });
        Self { address, carrying }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

async fn member(upstream: &Upstream, secret: &str, http3: &str) -> Rig {
    Rig::setup()
        .process("fleet_secret = { file = \"secret\" }")
        .file("secret", &secret.repeat(8))
        .secure(http3)
        .endpoint(upstream)
        .start()
        .await
}

#[tokio::test]
async fn client_of_a_proxy_that_was_killed_is_told_so_by_its_successor() {
    let upstream = Upstream::named("a").await;
    let mut first = member(&upstream, "the fleet's secret", "http3 = true").await;
    let serving = Arc::new(Mutex::new(first.secure));
    let network = Network::new({
        let serving = Arc::clone(&serving);
        move |_| *serving.lock().unwrap()
    })
    .await;
    let mut client = Rough::connect_to(network.address, &first.pki, &control()).await;
    assert_eq!(client.good().await, Outcome::Status(200));

    // Without time for a goodbye.
    first.signal("KILL").await;
    first.ended().await;
    let second = member(&upstream, "the fleet's secret", "http3 = true").await;
    *serving.lock().unwrap() = second.secure;
    let _unanswered = client.send(&head(&crate::rig::rough::GOOD), true).await;

    // RFC 9000 §10.3: under the same secret the successor knows the token that the first one promised.
    let ended = soon("a stateless reset", client.quic.closed()).await;
    assert!(matches!(ended, ConnectionError::Reset), "{ended:?}");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn address_that_was_proven_to_one_proxy_is_proven_to_its_fleet() {
    let upstream = Upstream::named("a").await;
    let http3 = "http3 = { retry_above = 0 }";
    let first = member(&upstream, "the fleet's secret", http3).await;
    let second = member(&upstream, "the fleet's secret", http3).await;
    let stranger = member(&upstream, "another secret", http3).await;
    let (asks, known, unknown) = (first.secure, second.secure, stranger.secure);

    // The first asks for proof; whatever comes after its Retry goes to another. A client heeds one Retry alone (RFC 9000
    // §17.2.5.2), so that it gets through only where the token counts.
    let network = Network::new(move |answers| if answers == 0 { asks } else { known }).await;
    let mut client = Rough::connect_to(network.address, &second.pki, &control()).await;
    assert_eq!(client.good().await, Outcome::Status(200));
    let network = Network::new(move |answers| if answers == 0 { asks } else { unknown }).await;
    let refused = tokio::spawn({
        let (to, tls) = (network.address, stranger.pki.client("h3", false));
        async move { crate::rig::h3::quic(to, tls).await.map(drop) }
    });

    let retries = "sluicegate_quic_retries_total{listener=\"secure\"}";
    soon("the stranger to ask again", async { while stranger.metric(retries).await < 1.0 {} }).await;
    assert!(!refused.is_finished(), "a token under another secret counted");
    refused.abort();
    assert!(first.metric(retries).await >= 2.0);
    let handshakes = "sluicegate_tls_handshakes_total{listener=\"secure\",version=\"TLSv1.3\",resumed=\"no\"}";
    assert_eq!((first.metric(handshakes).await, second.metric(handshakes).await), (0.0, 1.0));
}
