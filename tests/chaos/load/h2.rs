//! HTTP/2 as a client speaks it.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use tokio::time::sleep;

use super::line::dial;
use super::{Ask, Loss, Reply, Target, Transport};

/// A connection.
pub(super) struct H2 {
    send: SendRequest<Bytes>,
    open: Rc<Cell<bool>>,
}

impl Transport for H2 {
    async fn connect(target: &Target) -> Result<Self, Loss> {
        let line = dial(target, b"h2").await?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 22);
        let (send, connection) =
            builder.handshake(line).await.map_err(|error| Loss::NoConnection(error.to_string()))?;
        let open = Rc::new(Cell::new(true));
        let ends = Rc::clone(&open);
        tokio::task::spawn_local(async move {
            drop(connection.await);
            ends.set(false);
        });
        Ok(Self { send, open })
    }

    async fn ask(&self, ask: &Ask) -> Result<Reply, Loss> {
        let unanswered = |error: h2::Error| Loss::Unanswered(error.to_string());
        let mut send = self.send.clone().ready().await.map_err(|error| self.closed(&error))?;
        let mut request = Request::builder().method(&ask.method).uri(format!("https://localhost{}", ask.path));
        request = request.header("accept", "application/json");
        if ask.method == http::Method::POST {
            request = request.header("content-type", "application/json").header("content-length", ask.length());
        }
        let request = request.body(()).expect("a request");
        let (response, mut stream) =
            send.send_request(request, ask.body.is_empty()).map_err(|error| self.closed(&error))?;
        for (number, piece) in ask.body.iter().enumerate() {
            if number > 0 {
                sleep(ask.pause).await;
            }
            // What is refused while it is sent has an answer all the same.
            if stream.send_data(piece.clone(), number + 1 == ask.body.len()).is_err() {
                break;
            }
        }
        let (head, mut content) = response.await.map_err(unanswered)?.into_parts();
        let mut body = BytesMut::new();
        while let Some(piece) = content.data().await {
            let piece = piece.map_err(|error| Loss::BrokenOff(error.to_string()))?;
            drop(content.flow_control().release_capacity(piece.len()));
            body.extend_from_slice(&piece);
        }
        let replica = head.headers.get("x-replica").and_then(|name| name.to_str().ok()).map(str::to_owned);
        Ok(Reply { status: head.status, replica, body: body.freeze() })
    }

    fn is_open(&self) -> bool {
        self.open.get()
    }
}

impl H2 {
    /// The connection takes no further stream.
    fn closed(&self, error: &h2::Error) -> Loss {
        self.open.set(false);
        Loss::Unanswered(error.to_string())
    }
}
