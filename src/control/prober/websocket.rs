//! The WebSocket check: a handshake (RFC 6455 §4.1).
//!
//! superset-websocket closes the connection without an answer when the token in the cookie is bad or missing, which a
//! prober's always is. So a close says: alive, and doing its duty. Silence and refused connections do not.

use http::{Method, StatusCode, header};
use tokio::io::AsyncWriteExt as _;
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use super::Why;
use super::wire::{Ask, To, exchange};
use crate::head::HeaderValue;

/// A masked Close frame with status 1000 and a zero mask (RFC 6455 §5.5.1, §7.4.1): leaves without a complaint.
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8];

/// Checks an endpoint once.
pub(crate) async fn probe(to: &To, path: &str, host: &str) -> Result<(), Why> {
    let mut stream = to.connect().await?;
    let key = generate_key();
    let fields = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        (header::SEC_WEBSOCKET_KEY, HeaderValue::try_from(key.as_str()).map_err(|_| Why::Malformed("key"))?),
    ];
    let reply = exchange(&mut *stream, &Ask { method: &Method::GET, target: path, host, fields: &fields }).await;
    match reply {
        Ok(reply) if reply.status == StatusCode::SWITCHING_PROTOCOLS => {
            // RFC 6455 §4.1: an accept that does not belong to the key is not this handshake's answer.
            let accept = reply.fields.get(header::SEC_WEBSOCKET_ACCEPT);
            if accept.is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
                return Err(Why::Malformed("wrong Sec-WebSocket-Accept"));
            }
            // Manners only: the answer is in.
            drop(stream.write_all(&CLOSE).await);
            Ok(())
        }
        // 401, 403, 426: somebody is there and refuses us.
        Ok(reply) if !reply.status.is_server_error() => Ok(()),
        Ok(reply) => Err(Why::Status(reply.status)),
        Err(Why::Closed) => Ok(()),
        Err(why) => Err(why),
    }
}
