//! HTTP/3 as a client speaks it, on the h3 crate, which shares nothing with the proxy but QUIC.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use http::Request;
use quinn::crypto::rustls::QuicClientConfig;
use tokio::time::{sleep, timeout};

use super::line::{CONNECT, trusting};
use super::{Ask, Loss, Reply, Target, Transport};

/// Silence after which a client takes its connection for dead. UDP has nobody who would say so.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);

/// A connection.
pub(super) struct H3 {
    send: SendRequest<OpenStreams, Bytes>,
    open: Rc<Cell<bool>>,
    /// Lives as long as its connection.
    _endpoint: quinn::Endpoint,
}

impl Transport for H3 {
    async fn connect(target: &Target) -> Result<Self, Loss> {
        let mut why = String::from("no address");
        for address in &target.addresses {
            match timeout(CONNECT, establish(*address, target)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => why = error,
                Err(_) => "no connection in time".clone_into(&mut why),
            }
        }
        Err(Loss::NoConnection(why))
    }

    async fn ask(&self, ask: &Ask) -> Result<Reply, Loss> {
        let mut request = Request::builder().method(&ask.method).uri(format!("https://localhost{}", ask.path));
        request = request.header("accept", "application/json");
        if ask.method == http::Method::POST {
            request = request.header("content-type", "application/json").header("content-length", ask.length());
        }
        let request = request.body(()).expect("a request");
        let mut stream = self.send.clone().send_request(request).await.map_err(|error| {
            // The connection takes no further stream.
            self.open.set(false);
            Loss::Unanswered(error.to_string())
        })?;
        for (number, piece) in ask.body.iter().enumerate() {
            if number > 0 {
                sleep(ask.pause).await;
            }
            // What is refused while it is sent has an answer all the same.
            if stream.send_data(piece.clone()).await.is_err() {
                break;
            }
        }
        drop(stream.finish().await);
        let head = stream.recv_response().await.map_err(|error| Loss::Unanswered(error.to_string()))?;
        let mut body = BytesMut::new();
        while let Some(mut piece) = stream.recv_data().await.map_err(|error| Loss::BrokenOff(error.to_string()))? {
            body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
        let replica = head.headers().get("x-replica").and_then(|name| name.to_str().ok()).map(str::to_owned);
        Ok(Reply { status: head.status(), replica, body: body.freeze() })
    }

    fn is_open(&self) -> bool {
        self.open.get()
    }
}

async fn establish(address: SocketAddr, target: &Target) -> Result<H3, String> {
    let tls = QuicClientConfig::try_from(trusting(target, b"h3")).map_err(|error| error.to_string())?;
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(SILENCE.try_into().expect("a short time")));
    transport.keep_alive_interval(Some(SILENCE / 3));
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(|error| error.to_string())?;
    let connecting = endpoint.connect_with(config, address, "localhost").map_err(|error| error.to_string())?;
    let quic = connecting.await.map_err(|error| error.to_string())?;
    let opening = h3::client::new(h3_quinn::Connection::new(quic)).await;
    let (mut connection, send) = opening.map_err(|error| error.to_string())?;
    let open = Rc::new(Cell::new(true));
    let ends = Rc::clone(&open);
    tokio::task::spawn_local(async move {
        std::future::poll_fn(|cx| connection.poll_close(cx)).await;
        ends.set(false);
    });
    Ok(H3 { send, open, _endpoint: endpoint })
}
