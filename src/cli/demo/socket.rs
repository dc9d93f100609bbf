//! The demo's WebSocket: echoes what it gets, and says every second who it is and what time it has.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::{StatusCode, header};
use tokio::time::{MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocketConfig};

use crate::body::Body;
use crate::head::{Fields, HeaderValue};
use crate::message::{Answer, Duplex};

/// Time between two ticks.
const TICK: Duration = Duration::from_secs(1);

/// Longest message; a demo's echo needs no more.
const MAX_MESSAGE: usize = 1024 * 1024;

/// Accepts a handshake (RFC 6455 §4.2.2); `None` when it is none.
pub(super) fn accept(fields: &Fields, replica: &'static str) -> Option<Answer> {
    let key = fields.get(header::SEC_WEBSOCKET_KEY)?;
    if fields.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return None;
    }
    let accepted = HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()?;
    let mut answer = Answer::new(StatusCode::SWITCHING_PROTOCOLS, Body::empty());
    answer.head.headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    // RFC 9110 §7.8: whoever switches says to what; the proxy in front insists on it.
    answer.head.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.tunnel = Some(Box::new(move |stream| Box::pin(converse(stream, replica))));
    Some(answer)
}

async fn converse(stream: Box<dyn Duplex>, replica: &'static str) {
    let limits = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(limits)).await;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut count = 0_u64;
    loop {
        let send = tokio::select! {
            message = socket.next() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => message,
                // tungstenite answers pings and closes by itself.
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
            _ = ticks.tick() => {
                count += 1;
                Message::text(serde_json::json!({ "tick": count, "replica": replica }).to_string())
            }
        };
        if socket.send(send).await.is_err() {
            return;
        }
    }
}
